//! How Google makes the names of files from the titles of photos.
//!
//! A counter `(n)` is put behind the cut name, outside its limit: before the last dot of a media file, at the end of a
//! sidecar's name.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The longest name of a media file, in UTF-16 code units, without its counter; one more where a surrogate pair ends it.
pub const MEDIA_UNITS_MAX: usize = 51;
/// The longest name of a sidecar, in UTF-16 code units, without its counter and `.json`.
pub const SIDECAR_UNITS_MAX: usize = 46;
/// What stands between a title and `.json` since October 2024.
pub const SUPPLEMENT: &str = ".supplemental-metadata";

/// What is put behind the stem of an edited copy, by language. Exports in other languages: `--edited-suffix`.
pub const EDITED_SUFFIXES: &[&str] = &[
    "-edited",
    "-modifié",
    "-bearbeitet",
    "-modificato",
    "-modificata",
    "-ha editado",
    "-editat",
    "-editado",
    "-edytowane",
    "-bewerkt",
    "-編集済み",
    "-muokattu",
    "-измененный",
    "-düzenlendi",
    "-已修改",
    "-已編輯",
    "-effects",
    "-smile",
    "-mix",
];

const STILL_EXTENSIONS: &[&str] = &["heic", "heif", "jpg", "jpeg", "png", "webp", "avif", "dng"];
const VIDEO_EXTENSIONS: &[&str] = &["mp4", "mov", "m4v"];

/// `name` with composed accents.
pub fn nfc(name: &str) -> Cow<'_, str> {
    if is_nfc(name) { Cow::Borrowed(name) } else { Cow::Owned(name.nfc().collect()) }
}

/// The length in UTF-16 code units.
pub fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// The first `max` UTF-16 code units of `text`; a surrogate pair on the border is kept whole, as a real export does (a
/// media name of 52 units).
pub fn cut(text: &str, max: usize) -> &str {
    cut_where(text, |before, _| before >= max)
}

/// The same, but a surrogate pair on the border is left out.
pub fn cut_short(text: &str, max: usize) -> &str {
    cut_where(text, |_, after| after > max)
}

/// Cuts before the first character of which `over` is told the units before and after it.
fn cut_where(text: &str, over: impl Fn(usize, usize) -> bool) -> &str {
    let mut taken = 0;
    for (at, char) in text.char_indices() {
        let after = taken + char.len_utf16();
        if over(taken, after) {
            return &text[..at];
        }
        taken = after;
    }
    text
}

/// Stem and extension; the extension has its dot, or is empty. What begins with a dot is all stem.
pub fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    }
}

/// A title with the characters replaced that Google allows in no name.
pub fn sanitise(title: &str) -> String {
    let allowed =
        |c: char| !matches!(c, '/' | '\\' | ':' | '?' | '*' | '"' | '<' | '>' | '|' | '%' | '\'' | '\0'..='\x1f');
    title.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// The name of the media file of a title, without a counter.
pub fn media_name(title: &str) -> String {
    cut_media(title, cut)
}

/// The same, with a surrogate pair on the border left out.
pub fn media_name_short(title: &str) -> String {
    cut_media(title, cut_short)
}

fn cut_media(title: &str, cut: impl Fn(&str, usize) -> &str) -> String {
    let clean = sanitise(&nfc(title));
    let (stem, extension) = split_extension(&clean);
    let room = MEDIA_UNITS_MAX.saturating_sub(units(extension));
    format!("{}{extension}", cut(stem, room))
}

/// The name of an edited copy: the suffix is put behind the stem, and cut with it.
pub fn edited_name(title: &str, suffix: &str) -> String {
    let clean = sanitise(&nfc(title));
    let (stem, extension) = split_extension(&clean);
    let long = format!("{stem}{suffix}");
    format!("{}{extension}", cut(&long, MEDIA_UNITS_MAX.saturating_sub(units(extension))))
}

/// The name of the sidecar of a title, without counter and `.json`.
pub fn sidecar_base(title: &str, scheme: Scheme) -> String {
    let clean = sanitise(&nfc(title));
    match scheme {
        Scheme::Old => cut(&clean, SIDECAR_UNITS_MAX).to_owned(),
        Scheme::Supplemental => cut(&format!("{clean}{SUPPLEMENT}"), SIDECAR_UNITS_MAX).to_owned(),
        Scheme::Uncut => format!("{clean}{SUPPLEMENT}"),
    }
}

/// May a sidecar's name of that many units have been cut? A surrogate pair on the border makes it one longer or shorter.
pub fn may_be_cut(units: usize) -> bool {
    units.abs_diff(SIDECAR_UNITS_MAX) <= 1
}

/// How a vintage of exports names its sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Until the middle of 2024: the title.
    Old,
    /// Since October 2024: the title and [`SUPPLEMENT`].
    Supplemental,
    /// Seen in 2026: the same, not cut.
    Uncut,
}

/// `name` with the counter before its last dot.
pub fn with_counter(name: &str, counter: u32) -> String {
    let (stem, extension) = split_extension(name);
    if counter == 0 { name.to_owned() } else { format!("{stem}({counter}){extension}") }
}

/// What a sidecar's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarName {
    /// Without counter and `.json`, in NFC.
    pub base: String,
    /// 0 where there is none.
    pub counter: u32,
}

/// Takes a sidecar's name apart; none where it is not `*.json`.
pub fn sidecar_name(name: &str) -> Option<SidecarName> {
    let name = nfc(name);
    let stem_end = name.len().checked_sub(".json".len())?;
    let json = name.get(stem_end..).is_some_and(|end| end.eq_ignore_ascii_case(".json"));
    let stem = name.get(..stem_end).filter(|_| json)?;
    let (base, counter) = trailing_counter(stem).unwrap_or((stem, 0));
    Some(SidecarName { base: base.to_owned(), counter })
}

/// `text` without the `(n)` at its end.
fn trailing_counter(text: &str) -> Option<(&str, u32)> {
    let open = text.strip_suffix(')')?.rfind('(')?;
    let digits = &text[open + 1..text.len() - 1];
    let number = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    let counter: u32 = digits.parse().ok().filter(|n| number && *n > 0)?;
    (open > 0).then_some((&text[..open], counter))
}

/// Each `(n)` that stands directly before a dot or at the end, rightmost first: the name without it, and n.
pub fn counters(name: &str) -> Vec<(String, u32)> {
    let ends = name.match_indices(").").map(|(at, _)| at + 1).chain(name.ends_with(')').then_some(name.len()));
    let mut found: Vec<(String, u32)> = ends
        .filter_map(|end| trailing_counter(&name[..end]).map(|(kept, n)| (format!("{kept}{}", &name[end..]), n)))
        .collect();
    found.reverse();
    found
}

/// `name` without the counter before its extension, and the counter, or 0.
pub fn split_counter(name: &str) -> (String, u32) {
    let (stem, extension) = split_extension(name);
    match trailing_counter(stem) {
        Some((kept, n)) => (format!("{kept}{extension}"), n),
        None => (name.to_owned(), 0),
    }
}

/// Is this, by its name, a still picture that may have a moving half?
pub fn is_still(name: &str) -> bool {
    has_extension(name, STILL_EXTENSIONS)
}

/// Is this, by its name, a video as cameras make them beside stills?
pub fn is_video(name: &str) -> bool {
    has_extension(name, VIDEO_EXTENSIONS)
}

fn has_extension(name: &str, list: &[&str]) -> bool {
    let extension = split_extension(name).1.trim_start_matches('.');
    list.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// A HEIC still, which is asked before a JPEG of the same stem.
pub fn is_heic(name: &str) -> bool {
    has_extension(name, &["heic", "heif"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_by_utf16_units_and_splits_no_pair() {
        assert_eq!(cut("a😀b", 2), "a😀");
        assert_eq!(cut_short("a😀b", 2), "a");
        assert_eq!(cut("a😀b", 3), "a😀");
        assert_eq!(units(&media_name(&format!("{}.jpg", "é".repeat(80)))), MEDIA_UNITS_MAX);
    }

    #[test]
    fn a_suffix_is_cut_with_the_name() {
        let name = edited_name("ccccm_20210613_184811_ssssnnnnnnn_666666666.jpg", "-edited");
        assert_eq!(name, "ccccm_20210613_184811_ssssnnnnnnn_666666666-edi.jpg");
    }

    #[test]
    fn counters_are_found_from_the_right() {
        assert_eq!(counters("photo(1)(2).jpg"), [("photo(1).jpg".to_owned(), 2)]);
        assert_eq!(
            counters("01.04(1).12 - 1(3)"),
            [("01.04(1).12 - 1".to_owned(), 3), ("01.04.12 - 1(3)".to_owned(), 1)]
        );
        assert_eq!(counters("(1).jpg"), []);
    }
}
