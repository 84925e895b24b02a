//! Cutting text to what a channel takes: in the middle, so that the beginning and the end stay, and the last error.

/// What a line must hold to be the error that is worth keeping.
const SIGNS: [&str; 5] = ["error", "failed", "panic", "fatal", "traceback"];

/// At most `max` UTF-16 code units (Telegram's measure).
pub fn cut_utf16(text: &str, max: usize) -> String {
    cut(text, max, char::len_utf16)
}

/// At most `max` bytes of UTF-8.
pub fn cut_bytes(text: &str, max: usize) -> String {
    cut(text, max, char::len_utf8)
}

/// The last `count` lines.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn cut(text: &str, max: usize, size: fn(char) -> usize) -> String {
    let length = |text: &str| text.chars().map(size).sum::<usize>();
    if length(text) <= max {
        return text.to_owned();
    }
    const GAP: &str = "\n[…]\n";
    let gap = length(GAP);
    // The end says how it went: it gets most of the room.
    let error = last_error(text).map(|line| head(line, max / 3, size)).filter(|_| max >= 200);
    let reserved = error.map_or(0, |line| length(line) + gap);
    let room = max.saturating_sub(gap);
    let plain_end = tail(text, room - room / 4, size);
    let (first, kept, last) = match error {
        // Where the end has it anyway nothing need be set aside for it.
        Some(line) if !plain_end.contains(line) => {
            let room = room.saturating_sub(reserved);
            (head(text, room / 4, size), Some(line), tail(text, room - room / 4, size))
        }
        _ => (head(text, room / 4, size), None, plain_end),
    };
    match kept {
        Some(line) if !first.contains(line) => format!("{first}{GAP}{line}{GAP}{last}"),
        _ if max <= gap => tail(text, max, size).to_owned(),
        _ => format!("{first}{GAP}{last}"),
    }
}

fn last_error(text: &str) -> Option<&str> {
    text.lines().rev().find(|line| {
        let low = line.to_lowercase();
        SIGNS.iter().any(|sign| low.contains(sign))
    })
}

/// As much of the beginning as fits.
fn head(text: &str, max: usize, size: fn(char) -> usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += size(*c);
        used > max
    });
    end.map_or(text, |(at, _)| &text[..at])
}

/// As much of the end as fits.
fn tail(text: &str, max: usize, size: fn(char) -> usize) -> &str {
    let mut used = 0;
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        used += size(c);
        if used > max {
            break;
        }
        start = at;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn units(text: &str) -> usize {
        text.encode_utf16().count()
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(cut_utf16("größe 📷", 8), "größe 📷");
        assert_eq!(cut_bytes("abc", 3), "abc");
    }

    #[test]
    fn the_beginning_the_end_and_the_last_error_stay() {
        let mut lines: Vec<String> = (0..2000).map(|n| format!("line {n} of the log")).collect();
        lines[0] = "begins here".into();
        lines[900] = "ERROR: disk full".into();
        let cut = cut_utf16(&lines.join("\n"), 1000);
        assert!(units(&cut) <= 1000 && units(&cut) > 900, "{}", units(&cut));
        assert!(cut.starts_with("begins here") && cut.ends_with("line 1999 of the log"), "{cut}");
        assert!(cut.contains("ERROR: disk full"), "{cut}");
        assert_eq!(cut.matches("[…]").count(), 2);
    }

    #[test]
    fn an_error_at_the_end_is_not_said_twice() {
        let text = "x\n".repeat(3000) + "error: the last line";
        let cut = cut_bytes(&text, 500);
        assert_eq!(cut.matches("the last line").count(), 1);
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
    }

    proptest! {
        #[test]
        fn no_text_is_ever_longer_than_it_may_be(text in "(\\PC|\n|error|📷){0,400}", max in 0_usize..300) {
            prop_assert!(units(&cut_utf16(&text, max)) <= max);
            prop_assert!(cut_bytes(&text, max).len() <= max);
        }
    }
}
