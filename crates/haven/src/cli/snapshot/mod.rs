//! `haven snapshot`: named moments of the library.

mod restore;

use haven_mount::control::Request;
use jiff::{Timestamp, Zoned, civil, tz::TimeZone};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Context;
use crate::{
    past::{Difference, Judged, Shown},
    reach::Which,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// Take, look at, compare, restore from and remove snapshots
///
/// A snapshot is the whole library at one instant. It costs nothing to take, keeps what it shows for as long as it is
/// there, and appears in the mount as the folder .snapshots/NAME.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven snapshot create before-the-cleanup\n  haven snapshot list\n  haven snapshot diff before-the-cleanup\n  haven snapshot restore 2019/07 --from before-the-cleanup --to /mnt/photos/again\n  haven snapshot prune 'within 1d, daily 7, weekly 4, monthly -1' --dry-run\n  haven mount s3://photos/haven /mnt/then --at before-the-cleanup"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Take a snapshot of everything written so far
    Create {
        /// What to call it [default: the time, as 2026-11-23T04:46:29Z]
        name: Option<String>,
        /// A word on why, for later
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        note: String,
        #[command(flatten)]
        which: Which,
    },
    /// List the snapshots, oldest first
    List {
        /// Also count the bytes that each alone keeps in the bucket: looks through all of them
        #[arg(long)]
        unique: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Tell all about one, also how many bytes it alone keeps in the bucket
    Show {
        name: String,
        #[command(flatten)]
        which: Which,
    },
    /// Tell what differs between two, or between one and now
    Diff {
        /// The earlier one
        a: String,
        /// The later one [default: the library as it is now]
        b: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Call one something else
    Rename {
        name: String,
        to: String,
        #[command(flatten)]
        which: Which,
    },
    /// Remove some: what they alone keep goes with the next garbage collections
    Remove {
        #[arg(required = true)]
        names: Vec<String>,
        /// Only tell what would be removed
        #[arg(long, short = 'n')]
        dry_run: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Let nothing remove one before a day
    Protect {
        name: String,
        /// 2027-01-31, or 30d, 6m, 2y from now; "never" takes the protection away
        #[arg(long, value_name = "DATE|SPAN")]
        until: String,
        /// Even if it was protected for longer
        #[arg(long)]
        shorten: bool,
        #[command(flatten)]
        which: Which,
    },
    /// Remove those that no rule keeps: the rules of `borg prune`
    Prune {
        /// "within 1d, hourly 24, daily 7, weekly 4, monthly -1" [default: snapshots.keep in haven.toml]
        rules: Option<String>,
        /// Only tell what would be removed, and why
        #[arg(long, short = 'n')]
        dry_run: bool,
        /// Judge only those whose names begin so
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        prefix: String,
        #[command(flatten)]
        which: Which,
    },
    /// Bring a file or folder back; in the mount it shares its content with the snapshot, and nothing is copied
    Restore(restore::Restore),
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    match args.command {
        Command::Create { name, note, which } => create(context, &which, name, &note),
        Command::List { unique, which } => list(context, &which, unique),
        Command::Show { name, which } => show(context, &which, &name),
        Command::Diff { a, b, which } => diff(context, &which, &a, &b.unwrap_or_default()),
        Command::Rename { name, to, which } => {
            let request = Request::new("snapshot rename").with("name", name).with("to", to);
            context.answer(&which.ask(context, &request, "renaming")?, "")
        }
        Command::Remove { names, dry_run, which } => {
            let did = if dry_run { "would remove" } else { "removed" };
            let text: String = names.iter().map(|name| format!("{did} {name}\n")).collect();
            let request = Request::new("snapshot remove").with("names", names).with("dry", dry_run);
            context.answer(&which.ask(context, &request, "removing")?, &text)
        }
        Command::Protect { name, until, shorten, which } => {
            let until = parse_until(&until)?;
            let request =
                Request::new("snapshot protect").with("name", name).with("until", until).with("shorten", shorten);
            context.answer(&which.ask(context, &request, "protecting")?, "")
        }
        Command::Prune { rules, dry_run, prefix, which } => prune(context, &which, rules, dry_run, &prefix),
        Command::Restore(args) => restore::run(context, &args),
    }
}

fn parsed<T: DeserializeOwned>(value: &Value) -> Result<T, Trouble> {
    T::deserialize(value)
        .map_err(|error| Trouble::new(Code::Bug, "the mount's process answered something else").caused_by(&error))
}

fn create(context: &Context, which: &Which, name: Option<String>, note: &str) -> Result<(), Trouble> {
    let name = name.unwrap_or_else(|| words::iso(words::now()));
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".into());
    let request = Request::new("snapshot create").with("name", name).with("note", note).with("by", user);
    let answer = which.ask(context, &request, "taking it")?;
    let shown: Shown = parsed(&answer)?;
    context.answer(&answer, &format!("{}\n", shown.name))
}

fn until(shown: &Shown) -> String {
    shown.protected_until.map(words::ends).unwrap_or_default()
}

fn list(context: &Context, which: &Which, unique: bool) -> Result<(), Trouble> {
    let answer = which.ask(context, &Request::new("snapshot list").with("unique", unique), "reading")?;
    let shown: Vec<Shown> = parsed(&answer)?;
    let row = |s: &Shown| {
        let taken = haven_format::record::Time { seconds: s.taken_seconds, nanos: 0 };
        [
            s.name.clone(),
            words::moment(taken),
            if s.by.is_empty() { s.host.clone() } else { format!("{}@{}", s.by, s.host) },
            s.inodes.to_string(),
            words::bytes(s.file_bytes),
            s.unique_bytes.map_or_else(|| "-".into(), words::bytes),
            until(s),
            s.note.clone(),
        ]
    };
    let rows: Vec<_> = shown.iter().map(row).collect();
    let text = if rows.is_empty() {
        "there are no snapshots; haven snapshot create takes one\n".to_owned()
    } else {
        words::table(["NAME", "TAKEN", "BY", "FILES", "SIZE", "ALONE", "PROTECTED UNTIL", "NOTE"], &rows)
    };
    context.answer(&serde_json::json!({ "snapshots": shown }), &text)
}

fn show(context: &Context, which: &Which, name: &str) -> Result<(), Trouble> {
    let answer = which.ask(context, &Request::new("snapshot show").with("name", name), "counting")?;
    let s: Shown = parsed(&answer)?;
    let taken = haven_format::record::Time { seconds: s.taken_seconds, nanos: 0 };
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{name:<18}{value}\n");
        }
    };
    row("name", s.name.clone());
    row("taken", words::moment(taken));
    row("by", format!("{}@{}", s.by, s.host));
    row("note", s.note.clone());
    row("files", s.inodes.to_string());
    row("size", words::bytes(s.file_bytes));
    row("kept by it alone", s.unique_bytes.map(words::bytes).unwrap_or_default());
    row("protected until", until(&s));
    context.answer(&answer, &out)
}

fn diff(context: &Context, which: &Which, a: &str, b: &str) -> Result<(), Trouble> {
    let answer = which.ask(context, &Request::new("snapshot diff").with("a", a).with("b", b), "comparing")?;
    let differences: Vec<Difference> = parsed(&answer)?;
    let line = |d: &Difference| {
        let size = match (d.size_before, d.size_after) {
            (Some(before), Some(after)) if before != after => {
                format!("  ({} -> {})", words::bytes(before), words::bytes(after))
            }
            _ => String::new(),
        };
        let from = d.from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
        format!("{:<11}{from}{}{size}\n", d.what, d.path)
    };
    context
        .answer(&serde_json::json!({ "differences": differences }), &differences.iter().map(line).collect::<String>())
}

fn prune(context: &Context, which: &Which, rules: Option<String>, dry: bool, prefix: &str) -> Result<(), Trouble> {
    let rules = rules.or_else(|| context.config.snapshots.keep.clone()).ok_or_else(|| {
        Trouble::new(Code::Usage, "no rules were given").meaning(UNTOUCHED).next(
            "haven snapshot prune 'within 1d, daily 7, weekly 4, monthly -1', or set snapshots.keep in haven.toml",
        )
    })?;
    let request = Request::new("snapshot prune").with("rules", rules).with("dry", dry).with("prefix", prefix);
    let answer = which.ask(context, &request, "pruning")?;
    let judged: Vec<Judged> = parsed(&answer)?;
    let goes = if dry { "would go" } else { "removed" };
    let row = |j: &Judged| {
        [if j.keep { "keeps".to_owned() } else { goes.to_owned() }, j.name.clone(), j.taken.clone(), j.why.clone()]
    };
    let rows: Vec<_> = judged.iter().map(row).collect();
    context.answer(&serde_json::json!({ "snapshots": judged }), &words::table(["", "NAME", "TAKEN", "WHY"], &rows))
}

/// The longest span, in seconds: a slip of the finger is not to outlive every calendar.
const LONGEST: i64 = 1000 * 365 * 86_400;

/// A day, or a span from now, as seconds since the Unix epoch.
pub fn parse_until(text: &str) -> Result<i64, Trouble> {
    if text == "never" {
        return Ok(0);
    }
    let refused = |what: String| {
        Trouble::new(Code::Usage, what)
            .meaning(UNTOUCHED)
            .next("write 2027-01-31, 30d, 6m or 2y; never takes the protection away")
    };
    match text.parse::<haven_format::retention::Span>() {
        Ok(span) if span.seconds() > LONGEST => Err(refused(format!("{text} is longer than 1000 years"))),
        Ok(span) => Ok(words::now().seconds + span.seconds()),
        Err(_) => moment(text).ok_or_else(|| refused(format!("{text:?} is no day and no span of time"))),
    }
}

/// A moment as people write it, in this machine's time zone: `2026-11-23`, `2026-11-23 04:46`, or with a zone of its
/// own, `2026-11-23T04:46:29Z`. Seconds since the Unix epoch.
pub fn moment(text: &str) -> Option<i64> {
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Some(stamp.as_second());
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned.timestamp().as_second());
    }
    let text = text.replacen(' ', "T", 1);
    let local = text
        .parse::<civil::DateTime>()
        .or_else(|_| text.parse::<civil::Date>().map(|day| day.to_datetime(civil::Time::midnight())));
    Some(local.ok()?.to_zoned(TimeZone::system()).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        assert_eq!(moment("2026-11-23T04:46:29Z"), Some(1_795_409_189));
        let day = moment("2026-11-23").expect("a day");
        assert_eq!(moment("2026-11-23 01:00"), Some(day + 3600));
        assert_eq!(moment("yesterdayish"), None);
        assert_eq!(parse_until("never").ok(), Some(0));
        assert!(parse_until("30d").is_ok_and(|until| until > words::now().seconds + 29 * 86_400));
        assert!(parse_until("soon").is_err());
        assert!(parse_until("1000y").is_ok() && parse_until("1001y").is_err() && parse_until("99999y").is_err());
    }
}
