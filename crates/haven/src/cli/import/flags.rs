//! What all imports take. Names are those that users of immich-go know.

use std::path::{Path, PathBuf};

use clap::{ArgAction, ValueEnum};
use haven_import::{BANS, Locked, Only, Options, Partner, Stacks};
use jiff::{civil::Date, tz::TimeZone};

/// The journal's name where none was given.
pub const JOURNAL: &str = "haven-import.db";

/// Where the journal is.
#[derive(Debug, Clone, clap::Args)]
pub struct StateArgs {
    /// The journal of the import [default: haven-import.db beside the first input; where none is named, in this directory]
    #[arg(long, value_name = "FILE", help_heading = "Everywhere")]
    pub state: Option<PathBuf>,
}

impl StateArgs {
    /// The journal's path, for an import of `first`.
    pub fn path(&self, first: Option<&Path>) -> PathBuf {
        if let Some(path) = &self.state {
            return path.clone();
        }
        let beside = first.and_then(|first| if first.is_dir() { Some(first) } else { first.parent() });
        beside.unwrap_or(Path::new("")).join(JOURNAL)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LockedArg {
    Skip,
    Archive,
    Locked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnlyArg {
    Image,
    Video,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StackArg {
    None,
    Edited,
    Burst,
    Raw,
}

/// What of it, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct WhatArgs {
    /// Put a tag on every photo; a/b is b below a. May be given again
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Tag every photo with the time of this import
    #[arg(long)]
    session_tag: bool,
    /// Tag photos with the people on them: People/Name
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    people_tag: bool,
    /// One album for everything
    #[arg(long, value_name = "TITLE")]
    into_album: Option<String>,
    /// Only photos taken in a year, a month, a day, or from one to another: 2019, 2019-05, 2019-05-01,2019-05-31. What no
    /// sidecar dates is judged by its own date when it is read
    #[arg(long, value_name = "DATES", value_parser = dates)]
    date_range: Option<(i64, i64)>,
    /// Only files of these extensions: .jpg,.heic
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    include_extensions: Vec<String>,
    /// No files of these extensions
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    exclude_extensions: Vec<String>,
    /// Only pictures or videos
    #[arg(long, value_name = "KIND")]
    include_type: Option<OnlyArg>,
    /// Pass over files and folders of this name, in which * stands for anything. May be given again
    #[arg(long, value_name = "NAME")]
    ban_file: Vec<String>,
    /// The time zone of photos that tell none: Europe/Berlin [default: this machine's]
    #[arg(long, visible_alias = "time-zone", value_name = "ZONE", value_parser = zone)]
    default_zone: Option<String>,
    /// What is put behind the names of edited copies in your language, where it is not known. May be given again
    #[arg(long, value_name = "SUFFIX")]
    edited_suffix: Vec<String>,
    /// Make stacks: of edited copies and their originals, of the photos of a burst, of a JPEG and its raw file; several with
    /// commas between them
    #[arg(long, value_name = "WHICH", default_value = "none", value_delimiter = ',')]
    stack: Vec<StackArg>,
    /// Read every copy too: by default files of one name, CRC-32 and length are taken for the same, and one of them is read
    #[arg(long)]
    pub verify_copies: bool,
    /// At the end, download everything that was uploaded and compare it with what was sent
    #[arg(long)]
    verify_downloads: bool,
    /// Take photos that are in the server's trash out of it; otherwise they are told
    #[arg(long)]
    restore: bool,
}

impl WhatArgs {
    pub fn options(&self) -> Options {
        let dotted = |list: &[String]| -> Vec<String> {
            list.iter().map(|e| format!(".{}", e.trim().trim_start_matches('.').to_lowercase())).collect()
        };
        Options {
            tags: self.tag.clone(),
            session_tag: self.session_tag,
            people_tags: self.people_tag,
            into_album: self.into_album.clone(),
            from: self.date_range.map(|(from, _)| from),
            until: self.date_range.map(|(_, until)| until),
            extensions: dotted(&self.include_extensions),
            not_extensions: dotted(&self.exclude_extensions),
            only: self.include_type.map(|only| match only {
                OnlyArg::Image => Only::Image,
                OnlyArg::Video => Only::Video,
            }),
            bans: BANS.iter().map(|ban| (*ban).to_owned()).chain(self.ban_file.clone()).collect(),
            default_zone: self.default_zone.clone(),
            edited_suffixes: self.edited_suffix.clone(),
            stacks: Stacks {
                edited: self.stack.contains(&StackArg::Edited),
                burst: self.stack.contains(&StackArg::Burst),
                raw: self.stack.contains(&StackArg::Raw),
            },
            restore: self.restore,
            verify_downloads: self.verify_downloads,
            ..Options::default()
        }
    }
}

/// What only a Takeout has.
#[derive(Debug, Clone, clap::Args)]
pub struct GoogleArgs {
    /// Make the albums
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    sync_albums: bool,
    /// Only this album, by its title or folder
    #[arg(long, value_name = "TITLE")]
    from_album_name: Option<String>,
    /// Albums without a title too, named after their folders
    #[arg(long)]
    include_untitled_albums: bool,
    /// Photos from Google's trash too; they go into the server's trash
    #[arg(long, short = 't')]
    include_trashed: bool,
    /// Archived photos; they are archived on the server
    #[arg(long, short = 'a', value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    include_archived: bool,
    /// Photos without a sidecar; they are tagged takeout/unmatched
    #[arg(long, short = 'u', value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    include_unmatched: bool,
    /// Photos of a partner: own, tag, skip, or album=TITLE
    #[arg(long, value_name = "HOW", default_value = "own", value_parser = partner)]
    partner: Partner,
    /// Photos from the locked folder
    #[arg(long, value_name = "HOW", default_value = "skip")]
    locked: LockedArg,
    /// Tag every photo with its export: takeout/20260105T101112Z
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    takeout_tag: bool,
    /// Go on although parts are missing or can't be read; photos without a sidecar wait until those are here
    #[arg(long)]
    pub allow_missing_parts: bool,
    /// Go on, and bring photos without a sidecar now; what it says is told to the server when its part is here
    #[arg(long)]
    no_wait: bool,
}

impl GoogleArgs {
    pub fn options(&self, base: Options) -> Options {
        Options {
            albums: self.sync_albums,
            only_album: self.from_album_name.clone(),
            untitled_albums: self.include_untitled_albums,
            trashed: self.include_trashed,
            archived: self.include_archived,
            unmatched: self.include_unmatched,
            partner: self.partner.clone(),
            locked: match self.locked {
                LockedArg::Skip => Locked::Skip,
                LockedArg::Archive => Locked::Archive,
                LockedArg::Locked => Locked::Locked,
            },
            takeout_tag: self.takeout_tag,
            no_wait: self.no_wait,
            ..base
        }
    }
}

fn partner(text: &str) -> Result<Partner, String> {
    match text {
        "own" => Ok(Partner::Own),
        "tag" => Ok(Partner::Tag),
        "skip" => Ok(Partner::Skip),
        other => match other.strip_prefix("album=").filter(|title| !title.is_empty()) {
            Some(title) => Ok(Partner::Album(title.to_owned())),
            None => Err("own, tag, skip, or album=TITLE".to_owned()),
        },
    }
}

fn zone(text: &str) -> Result<String, String> {
    TimeZone::get(text)
        .map(|_| text.to_owned())
        .map_err(|_| "no time zone of that name is known: Europe/Berlin, UTC".to_owned())
}

/// A range of dates as seconds since 1970, in this machine's zone; the end is not part of it.
fn dates(text: &str) -> Result<(i64, i64), String> {
    let (from, to) = text.split_once(',').unwrap_or((text, text));
    match (day(from), day(to)) {
        (Some((from, _)), Some((_, until))) if from < until => Ok((from, until)),
        _ => Err("2019, 2019-05, 2019-05-01, or two of them with a comma between".to_owned()),
    }
}

/// The first second of a year, a month or a day, and the first one after it.
fn day(text: &str) -> Option<(i64, i64)> {
    use jiff::ToSpan;
    let mut fields = text.trim().split('-').map(|field| field.parse::<i16>().ok());
    let (year, month, day) = (fields.next()??, fields.next(), fields.next());
    let small = |field: Option<Option<i16>>| match field {
        None => Some(1),
        Some(field) => i8::try_from(field?).ok(),
    };
    let first = Date::new(year, small(month)?, small(day)?).ok()?;
    let span = if day.is_some() {
        1.day()
    } else if month.is_some() {
        1.month()
    } else {
        1.year()
    };
    let second = |date: Date| Some(date.to_zoned(TimeZone::system()).ok()?.timestamp().as_second());
    Some((second(first)?, second(first.checked_add(span).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_dates_hold_their_last_day() {
        let (from, until) = dates("2019-05-01,2019-05-31").unwrap();
        assert_eq!((from, until), dates("2019-05").unwrap());
        assert!(dates("2019").unwrap().1 > until);
        assert!(dates("2019-13").is_err() && dates("2020,2019").is_err() && dates("").is_err());
    }

    #[test]
    fn a_partner_needs_a_title_for_an_album() {
        assert_eq!(partner("album=Ours"), Ok(Partner::Album("Ours".to_owned())));
        assert!(partner("album=").is_err());
    }
}
