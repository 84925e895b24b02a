//! What borg says: JSON lines on stderr, except what it says before it knows its arguments and what ssh says.

use std::process::Command;

use serde::Deserialize;

use crate::{
    Error, Progress, Watch,
    program::{self, Ear, Heard, Said, Word},
};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    ArchiveProgress {
        #[serde(default)]
        original_size: u64,
        #[serde(default)]
        deduplicated_size: u64,
        #[serde(default)]
        nfiles: u64,
        #[serde(default)]
        finished: bool,
    },
    ProgressMessage {
        #[serde(default)]
        message: String,
    },
    ProgressPercent {
        #[serde(default)]
        current: f64,
        #[serde(default)]
        total: f64,
        #[serde(default)]
        msgid: Option<String>,
    },
    LogMessage {
        message: String,
        levelname: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        msgid: Option<String>,
    },
    #[serde(other)]
    Other,
}

pub fn run(command: Command, watch: &mut Watch) -> Result<Said, Error> {
    program::run(command, Borgs, watch)
}

/// How its lines are read.
pub struct Borgs;

impl Ear for Borgs {
    const PROGRAM: &'static str = "borg";

    fn out(&mut self, _: &str, _: &mut Progress) -> Heard {
        Heard::Answer
    }

    fn err(&mut self, line: &str, progress: &mut Progress) -> Heard {
        match serde_json::from_str(line) {
            Ok(Line::ArchiveProgress { finished: true, .. } | Line::Other) => return Heard::Nothing,
            Ok(Line::ArchiveProgress { original_size, deduplicated_size, nfiles, .. }) => {
                (progress.files, progress.bytes, progress.new_bytes) = (nfiles, original_size, deduplicated_size);
            }
            Ok(Line::ProgressMessage { message }) => progress.doing = message,
            Ok(Line::ProgressPercent { current, total, msgid }) => {
                progress.percent = (total > 0.0).then(|| (100.0 * current / total).clamp(0.0, 100.0));
                progress.doing = msgid.unwrap_or_default();
            }
            // A file that was taken or brought back, where they are listed.
            Ok(Line::LogMessage { name, .. }) if name == "borg.output.list" => progress.files += 1,
            Ok(Line::LogMessage { message, levelname, msgid, .. }) => {
                return Heard::Word(Word { level: levelname, id: msgid.unwrap_or_default(), text: message });
            }
            Err(_) if line.trim().is_empty() => return Heard::Nothing,
            Err(_) => {
                let text = line.trim_end().to_owned();
                return Heard::Word(Word { level: String::new(), id: String::new(), text });
            }
        }
        Heard::Moved
    }
}
