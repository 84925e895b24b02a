//! The recovery kit: the recovery key on a page to print, as text or as HTML that needs nothing else.

use qrcode::{Color, EcLevel, QrCode};

use super::words::{BEGIN, END, RecoveryKey};
use crate::LibraryId;

/// Everything that stands on the page.
#[derive(Debug)]
pub struct Kit<'a> {
    pub key: &'a RecoveryKey,
    pub library: LibraryId,
    /// Where the library is: a URL without secrets.
    pub place: &'a str,
    /// The day it was made, as people write it.
    pub made: &'a str,
}

const TITLE: &str = "Haven recovery key";

/// What a finder must know, a paragraph each.
const ADVICE: [&str; 4] = [
    "These 24 words open the library named here, all of it, without the passphrase. Whoever has them and can reach the \
     store sees every photo. Without them and without the passphrase nobody can, not even who made Haven.",
    "Keep this page on paper, away from the computer and from the store: with your papers, at your parents', in a safe.",
    "To use it, write the words into a file, numbered or not, and name that file where a passphrase is asked for:",
    "If the page may have been seen by others, open the library, make a new key and take this one away:",
];
const USE: &str = "haven mount URL FOLDER --recovery-words words.txt";
const RENEW: &str = "haven key recovery URL --recovery-key-file new.html";

impl Kit<'_> {
    fn facts(&self) -> [(&'static str, String); 3] {
        [("Library", self.library.to_string()), ("Store", self.place.to_owned()), ("Made", self.made.to_owned())]
    }

    /// The page as plain text. [`RecoveryKey::parse`] reads it back.
    pub fn text(&self) -> String {
        let words = self.key.words();
        let rows: String = words
            .chunks(4)
            .enumerate()
            .map(|(row, words)| {
                let cells = words.iter().enumerate().map(|(n, word)| format!("{:2} {word:<10}", row * 4 + n + 1));
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
            })
            .collect();
        let facts: String = self.facts().iter().map(|(name, fact)| format!("{name:<9}{fact}\n")).collect();
        let [power, keep, how, renew] = ADVICE.map(|paragraph| fill(paragraph, 78));
        format!("{TITLE}\n\n{facts}\n{BEGIN}\n{rows}{END}\n\n{power}\n{keep}\n{how}    {USE}\n\n{renew}    {RENEW}\n")
    }

    /// The page as HTML, with the words as a QR code too.
    pub fn html(&self) -> String {
        let cells: String = self.key.words().iter().map(|word| format!("<li>{word}</li>")).collect();
        let facts: String =
            self.facts().iter().map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>", escape(fact))).collect();
        let code = qr_svg(&self.key.words().join(" "));
        let [power, keep, how, renew] = ADVICE;
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{TITLE}</title>\n<style>{STYLE}</style></head>\n\
             <body><h1>{TITLE}</h1>\n<dl>{facts}</dl>\n<!-- {BEGIN} -->\n<ol>{cells}</ol>\n<!-- {END} -->\n{code}\n\
             <p>{power}</p>\n<p>{keep}</p>\n<p>{how}</p>\n<pre>{USE}</pre>\n<p>{renew}</p>\n<pre>{RENEW}</pre>\n</body></html>\n"
        )
    }
}

const STYLE: &str = "body{font:12pt/1.45 Georgia,serif;max-width:44em;margin:2em auto;padding:0 1em;color:#000;background:#fff}\
dl{display:grid;grid-template-columns:6em 1fr}dd{margin:0;font-family:monospace;overflow-wrap:anywhere}\
ol{columns:3;font:14pt/1.7 monospace;border:1px solid #000;padding:1em 1em 1em 3.5em}\
svg{width:45mm;height:45mm;float:right;margin:0 0 1em 1em}pre{overflow-wrap:anywhere;white-space:pre-wrap}";

/// `text` in lines of at most `width` characters, each ended.
fn fill(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > width {
            out.push('\n');
            column = 0;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out + "\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A QR code as one path of unit squares, with the quiet zone of four that readers expect.
fn qr_svg(text: &str) -> String {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).expect("24 words fit a QR code");
    let width = code.width();
    let dark = code.to_colors().into_iter().enumerate().filter(|(_, color)| *color == Color::Dark);
    let path: String = dark.map(|(at, _)| format!("M{} {}h1v1h-1z", at % width + 4, at / width + 4)).collect();
    let side = width + 8;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\"><path d=\"{path}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_kit_can_be_typed_or_read_back_whole() {
        let key = RecoveryKey::new([9; 32]);
        let kit = Kit { key: &key, library: LibraryId([3; 16]), place: "s3://photos/<home>", made: "23 November 2026" };
        for page in [kit.text(), kit.html()] {
            assert_eq!(RecoveryKey::parse(&page).unwrap().words(), key.words());
            assert!(page.contains("03030303030303030303030303030303"));
        }
        assert!(kit.html().contains("s3://photos/&lt;home&gt;"));
        assert!(kit.text().lines().all(|line| line.chars().count() <= 78));
    }
}
