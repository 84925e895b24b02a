//! The recovery key: 256 random bits as 24 words (BIP-39, English list), the last of which carries a checksum.

use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

/// How many words there are.
pub const WORDS: usize = 24;
/// What stands around the words in a written kit, so that the kit itself can be read back.
pub const BEGIN: &str = "-----BEGIN HAVEN RECOVERY KEY-----";
pub const END: &str = "-----END HAVEN RECOVERY KEY-----";

/// 256 random bits on paper. Prints nothing of itself.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<[u8; 32]>);

/// Why a text is no recovery key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    #[error("a recovery key has {WORDS} words, these are {found}")]
    Count { found: usize },
    /// Telling one word of 24 gives away 11 bits of 256, and spares its owner an hour.
    #[error("word {position} is not in the list of words{}", nearest.map(|word| format!(" (is it \"{word}\"?)")).unwrap_or_default())]
    Unknown { position: usize, nearest: Option<&'static str> },
    #[error("the words do not fit together: one of them is another, or two have changed places")]
    Checksum,
}

impl RecoveryKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 24 words, in order.
    pub fn words(&self) -> Vec<&'static str> {
        mnemonic(&self.0).words().collect()
    }

    /// Reads the words back: in any case, over any number of lines, numbered or not, cut to their first four letters
    /// or not; a whole written kit too, text or HTML,
    /// of which only the words count.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let inner = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or(text, |(words, _)| words);
        let lower = Zeroizing::new(without_tags(inner).to_lowercase());
        let tokens: Vec<&str> = lower.split(|c: char| !c.is_alphabetic()).filter(|token| !token.is_empty()).collect();
        if tokens.len() != WORDS {
            return Err(WordsError::Count { found: tokens.len() });
        }
        let words: Vec<&str> =
            tokens.iter().enumerate().map(|(n, token)| known(n + 1, token)).collect::<Result<_, _>>()?;
        let phrase = Zeroizing::new(words.join(" "));
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &phrase).map_err(|_| WordsError::Checksum)?;
        let (entropy, length) = mnemonic.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        entropy[..length].try_into().map(Self::new).map_err(|_| WordsError::Count { found: words.len() })
    }
}

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey(..)")
    }
}

fn mnemonic(bytes: &[u8; 32]) -> Mnemonic {
    Mnemonic::from_entropy(bytes).expect("256 bits are 24 words")
}

/// `text` without what stands in angle brackets: a kit may be HTML.
fn without_tags(text: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len()));
    for piece in text.split('<') {
        out.push_str(piece.split_once('>').map_or(piece, |(_, rest)| rest));
        out.push(' ');
    }
    out
}

/// The word of the list that `token` stands for. Four letters tell all of them apart.
fn known(position: usize, token: &str) -> Result<&'static str, WordsError> {
    let list = Language::English.word_list();
    if let Ok(at) = list.binary_search(&token) {
        return Ok(list[at]);
    }
    if token.chars().count() == 4
        && let Some(word) = list.iter().find(|word| word.starts_with(token))
    {
        return Ok(word);
    }
    let nearest = list.iter().copied().find(|word| one_slip(word, token));
    Err(WordsError::Unknown { position, nearest })
}

/// Whether one letter changed, left out or put in, or two neighbours exchanged, makes one word of the other.
fn one_slip(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same..], &b[same..]);
    match (a, b) {
        ([], [_]) | ([_], []) => true,
        ([_, rest @ ..], [_, other @ ..]) if rest == other => true,
        ([_, rest @ ..], other) if rest == other => true,
        (rest, [_, other @ ..]) if rest == other => true,
        ([x, y, rest @ ..], [v, w, other @ ..]) => (x, y, rest) == (w, v, other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> RecoveryKey {
        let mut bytes = [0; 32];
        bytes.iter_mut().enumerate().for_each(|(n, byte)| *byte = 37u8.wrapping_mul(n as u8 + 1));
        RecoveryKey::new(bytes)
    }

    fn reads_back(text: &str) -> bool {
        RecoveryKey::parse(text).is_ok_and(|read| read.bytes() == key().bytes())
    }

    #[test]
    fn words_are_read_however_they_were_written_down() {
        let words = key().words();
        assert_eq!(words.len(), WORDS);
        let numbered: String = words.iter().enumerate().map(|(n, w)| format!("{}. {w}\n", n + 1)).collect();
        let cut: Vec<&str> = words.iter().map(|word| &word[..word.len().min(4)]).collect();
        assert!(reads_back(&words.join(" ")));
        assert!(reads_back(&words.join("\r\n  ").to_uppercase()));
        assert!(reads_back(&numbered));
        assert!(reads_back(&cut.join(", ")));
        assert!(reads_back(&format!("Keep this.\n{BEGIN}\n{numbered}\n{END}\nIn a safe place.")));
    }

    #[test]
    fn the_words_of_the_standard_are_ours() {
        // The test vectors of BIP-39 for 256 bits of zeros and of ones.
        assert_eq!(RecoveryKey::new([0; 32]).words()[23], "art");
        assert_eq!(RecoveryKey::new([0xff; 32]).words()[23], "vote");
    }

    #[test]
    fn a_slip_of_the_pen_is_told_by_its_place() {
        let mut words: Vec<String> = key().words().iter().map(|word| (*word).to_owned()).collect();
        let right = words[4].clone();
        words[4].insert(1, 'q');
        let Err(WordsError::Unknown { position: 5, nearest }) = RecoveryKey::parse(&words.join(" ")) else {
            panic!("an unknown word was read")
        };
        assert_eq!(nearest, Some(right.as_str()));
        assert_eq!(RecoveryKey::parse("abandon ability").unwrap_err(), WordsError::Count { found: 2 });
    }

    #[test]
    fn exchanged_words_do_not_pass() {
        let mut words = key().words();
        words.swap(2, 3);
        assert_eq!(RecoveryKey::parse(&words.join(" ")).unwrap_err(), WordsError::Checksum);
    }
}
