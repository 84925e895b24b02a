//! Paths that come from a browser.

use std::fmt;

/// No path is longer, bytes: what Linux takes in one call.
const PATH_BYTES_MAX: usize = 4095;
/// No name is longer, bytes.
const NAME_BYTES_MAX: usize = 255;

/// A path inside a snapshot: parts without `.`, `..`, `/` and NUL. It still says nothing of symbolic links: whoever
/// opens it must refuse to follow any (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    parts: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this path leads nowhere in a snapshot")]
pub struct NotInside;

impl Inside {
    /// Reads `2019/07/IMG_1.jpg`; the empty text is the root. Slashes at the ends are passed over.
    pub fn parse(text: &str) -> Result<Self, NotInside> {
        let text = text.trim_matches('/');
        if text.len() > PATH_BYTES_MAX {
            return Err(NotInside);
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let part = |part: &str| {
            let plain = !matches!(part, "" | "." | "..") && !part.contains('\0') && part.len() <= NAME_BYTES_MAX;
            if plain { Ok(part.to_owned()) } else { Err(NotInside) }
        };
        Ok(Self { parts: text.split('/').map(part).collect::<Result<_, _>>()? })
    }

    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    pub fn is_root(&self) -> bool {
        self.parts.is_empty()
    }

    /// The last part.
    pub fn name(&self) -> Option<&str> {
        self.parts.last().map(String::as_str)
    }

    pub fn parent(&self) -> Option<Self> {
        let (_, above) = self.parts.split_last()?;
        Some(Self { parts: above.to_vec() })
    }

    /// What lies in it under `name`, unless that is no name.
    pub fn join(&self, name: &str) -> Result<Self, NotInside> {
        if name.contains('/') {
            return Err(NotInside);
        }
        Self::parse(&format!("{self}/{name}"))
    }

    /// Each folder on the way, from the first part on: `2019`, `2019/07`.
    pub fn steps(&self) -> impl Iterator<Item = Self> {
        (1..=self.parts.len()).map(|count| Self { parts: self.parts[..count].to_vec() })
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_is_no_path() {
        let long = "a".repeat(256);
        for text in ["..", "a/../b", "../etc/passwd", "a/./b", "a//b", "a/\0", "/..", "a/..", long.as_str()] {
            assert_eq!(Inside::parse(text), Err(NotInside), "{text:?}");
        }
        assert!(Inside::parse(&"a/".repeat(3000)).is_err());
    }

    #[test]
    fn paths_are_what_they_say() {
        let path = Inside::parse("/2019/07/IMG 1.jpg").expect("a path");
        assert_eq!((path.to_string().as_str(), path.name()), ("2019/07/IMG 1.jpg", Some("IMG 1.jpg")));
        assert_eq!(path.parent().expect("a parent").to_string(), "2019/07");
        assert_eq!(path.steps().map(|step| step.to_string()).collect::<Vec<_>>()[1], "2019/07");
        assert!(Inside::parse("").is_ok_and(|root| root.is_root() && root.parent().is_none()));
        assert!(Inside::default().join("a/b").is_err() && Inside::default().join("..").is_err());
        // Names that only look dangerous are names.
        for text in ["...", "a\\b", "%2e%2e", "..hidden"] {
            assert!(Inside::parse(text).is_ok(), "{text:?}");
        }
    }
}
