//! The token that lets a person in. Only its digest is kept, and compared in constant time.

use std::{fmt, path::Path};

use aws_lc_rs::{constant_time, digest};

/// Shorter ones can be guessed, characters.
pub const CHARS_MIN: usize = 16;
/// Longer ones are no tokens, bytes.
pub const BYTES_MAX: usize = 4096;

#[derive(Clone)]
pub struct Token([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token has fewer than {CHARS_MIN} characters: it could be guessed")]
    Short,
    #[error("the token is far too long")]
    Long,
    #[error("the token's file {0} can't be read: {1}")]
    File(String, String),
}

impl Token {
    /// Blanks around it do not count.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > BYTES_MAX {
            return Err(TokenError::Long);
        }
        if text.chars().count() < CHARS_MIN {
            return Err(TokenError::Short);
        }
        Ok(Self(sha256(text.as_bytes())))
    }

    /// From a credential file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let text = std::fs::read_to_string(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|error| TokenError::File(path.display().to_string(), error.to_string()))?;
        Self::new(&text)
    }

    pub fn is(&self, offered: &str) -> bool {
        let offered = offered.trim();
        offered.len() <= BYTES_MAX && same(&self.0, &sha256(offered.as_bytes()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::new("  correct horse battery staple\n").expect("a token");
        assert!(token.is("correct horse battery staple") && token.is("correct horse battery staple\n"));
        for wrong in
            ["", "correct horse battery stapl", "Correct horse battery staple", "correct horse battery staple2"]
        {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        assert_eq!(Token::new("hunter2").err(), Some(TokenError::Short));
        assert_eq!(Token::new("          hunter2          ").err(), Some(TokenError::Short));
        assert_eq!(Token::new(&"a".repeat(5000)).err(), Some(TokenError::Long));
        let told = Token::read(Path::new("/nowhere/token")).expect_err("no file").to_string();
        assert!(told.contains("/nowhere/token"), "{told}");
    }
}
