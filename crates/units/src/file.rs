//! One unit file, as systemd reads it: lines it can't read are skipped, comments stand between continued lines, and a
//! setting may be there more than once.
//!
//! Own code because it is short: the crate systemd-unit-edit, made for editing, gives up on a whole file where systemd
//! warns of one line and goes on, and an audit must see what systemd sees.

/// `Key=value` in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub section: String,
    pub key: String,
    /// Continued lines are joined by blanks.
    pub value: String,
    /// Where it begins, counted from 1.
    pub line: usize,
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFile {
    pub settings: Vec<Setting>,
    /// Comments, without their sign.
    pub comments: Vec<String>,
    /// Lines that systemd ignores with a warning.
    pub unreadable: Vec<usize>,
}

impl UnitFile {
    pub fn parse(text: &str) -> Self {
        let mut file = Self::default();
        let mut section: Option<String> = None;
        let mut open: Option<(usize, String)> = None;
        for (n, raw) in text.lines().enumerate() {
            let line = raw.trim();
            if line.starts_with(['#', ';']) {
                file.comments.push(line.trim_start_matches(['#', ';', ' ']).to_owned());
                continue;
            }
            let (begun, mut so_far) = open.take().unwrap_or((n + 1, String::new()));
            if let Some(part) = line.strip_suffix('\\') {
                so_far.push_str(part.trim_end());
                so_far.push(' ');
                open = Some((begun, so_far));
                continue;
            }
            so_far.push_str(line);
            file.take(&so_far, begun, &mut section);
        }
        if let Some((begun, rest)) = open {
            file.take(&rest, begun, &mut section);
        }
        file
    }

    fn take(&mut self, line: &str, number: usize, section: &mut Option<String>) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            *section = Some(name.to_owned());
            return;
        }
        match (line.split_once('='), section.as_ref()) {
            (Some((key, value)), Some(section)) if !key.trim().is_empty() => self.settings.push(Setting {
                section: section.clone(),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
                line: number,
            }),
            _ => self.unreadable.push(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_continued_and_comments_between_them_are_no_part_of_the_value() {
        let file = UnitFile::parse("[Service]\nExecStart=/bin/a \\\n# not this\n  --b \\\n  --c\nUser=x\n");
        assert_eq!(file.settings[0].value, "/bin/a --b --c");
        assert_eq!((file.settings[0].line, file.settings[1].line), (2, 6));
        assert_eq!(file.comments, ["not this"]);
    }

    #[test]
    fn what_systemd_skips_is_skipped_and_the_rest_is_read() {
        let file = UnitFile::parse("User=nobody\n[Unit\n  [Service]\nnonsense\n Type = notify\n=x\n[Install]\\");
        assert_eq!(file.unreadable, [1, 2, 4, 6]);
        assert_eq!((file.settings[0].key.as_str(), file.settings[0].value.as_str()), ("Type", "notify"));
    }

    #[test]
    fn nothing_at_all_is_a_file_too() {
        assert_eq!(UnitFile::parse(""), UnitFile::default());
        assert_eq!(UnitFile::parse("\\\n\\\n"), UnitFile::default());
    }
}
