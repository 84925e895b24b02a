//! `haven check`: is everything there, and is everything right?

use haven_mount::control::Request;
use haven_store::human;
use serde::Deserialize;
use serde_json::Value;

use super::Context;
use crate::{
    library::copy_trouble,
    past::Hit,
    reach::Which,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// Look whether everything the library needs is in the bucket, and is right
///
/// Quick, names and lengths of all objects are compared with what the library's records say. With --read-data every
/// byte is read from the bucket and every chunk compared with its id. What is known to be damaged is read again by each
/// check. Damage is told file by file. With --repair what this machine's cache or a copy has is put back; what nobody has
/// is put on record, and heals by itself when the same photo is stored again. Nothing that can still be read is ever given
/// up.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven check                                     a request for every thousand objects\n  haven check --read-data --sample 5%              a twentieth of all content, another each time\n  haven check --read-data --resume --limit 20MB    all of it; goes on where it was interrupted\n  haven check --repair --copy s3://photos-copy/haven\n\nExit codes: 0 everything is right, or was put right; 6 something is damaged"
)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Read everything, not only names and lengths
    #[arg(long)]
    read_data: bool,
    /// Of the packs, read only this share: 5%, chosen anew each time
    #[arg(long, value_name = "SHARE", requires = "read_data", value_parser = share)]
    sample: Option<f64>,
    /// Go on where the last --read-data was interrupted
    #[arg(long, requires = "read_data", conflicts_with = "sample")]
    resume: bool,
    /// Read no more bytes a second than this: 20MB
    #[arg(long, value_name = "SIZE", requires = "read_data", value_parser = human::parse_bytes)]
    limit: Option<u64>,
    /// Put back what the cache or a copy has
    #[arg(long)]
    repair: bool,
    /// The URL of a copy of the library to repair from, or a replica's name; may be given more than once
    #[arg(long, value_name = "URL|NAME", requires = "repair")]
    copy: Vec<String>,
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>().map_err(|error| error.to_string())?;
    let share = if text.ends_with('%') { number / 100.0 } else { number };
    if share > 0.0 && share <= 1.0 { Ok(share) } else { Err("a share is between 0% and 100%".into()) }
}

#[derive(Debug, Deserialize)]
struct Fault {
    object: String,
    what: String,
    repaired_from: Option<String>,
}

pub fn run(context: &Context, args: &Args) -> Result<(), Trouble> {
    let mut copies = Vec::new();
    for named in &args.copy {
        // A name stays one: the same URL may lead to several places, by each one's settings.
        let is_name = context.config.replicas.contains_key(named);
        copies.push(if is_name { named.clone() } else { super::absolute(named) });
    }
    let mut request = Request::new("check")
        .with("read_data", args.read_data)
        .with("resume", args.resume)
        .with("repair", args.repair)
        .with("copies", copies);
    if let Some(share) = args.sample {
        request = request.with("sample", share);
    }
    if let Some(limit) = args.limit {
        request = request.with("limit", limit);
    }
    let answer = args.which.ask(context, &request, "checking")?;
    let misunderstood =
        |error| Trouble::new(Code::Bug, "the mount's process answered something else").caused_by(&error);
    let faults = Vec::<Fault>::deserialize(&answer["faults"]).map_err(misunderstood)?;
    let files = Vec::<Hit>::deserialize(&answer["files"]).map_err(misunderstood)?;
    let open = match &answer["open"] {
        // A mount of an older version.
        Value::Null => {
            let left = faults.iter().filter(|fault| fault.repaired_from.is_none());
            left.map(|fault| (fault.object.clone(), fault.what.clone())).collect()
        }
        open => Vec::<(String, String)>::deserialize(open).map_err(misunderstood)?,
    };
    context.answer(&answer, &told(&answer, &faults, &files, &open))?;
    let left = open.len();
    if left == 0 {
        return Ok(());
    }
    if let Some(why) = answer["unasked"].as_str() {
        return Err(copy_trouble(why));
    }
    let unread = files.iter().filter(|file| !file.mended && file.snapshot.is_none()).count();
    let trouble = Trouble::new(
        Code::Damaged,
        format!("{} {} damaged", words::count(left, "object"), if left == 1 { "is" } else { "are" }),
    )
    .meaning(match unread {
        _ if answer["files_unknown"] == true => {
            let known = words::count(unread, "file");
            format!("{known} named above can't be read whole; more may be hit: records that would tell are damaged too")
        }
        0 => "every file of the library as it is now can be read".to_owned(),
        some => format!("{} can't be read whole", words::count(some, "file")),
    });
    Err(if args.repair {
        trouble.next("store the same photos again (from a phone, a backup): that heals every file that had them")
    } else {
        let next = match args.which.replica(&context.config) {
            Some(name) => format!("haven replica verify {name} --read-data --repair    puts back what the library has"),
            None => "haven check --repair --copy URL    puts back what a copy has".to_owned(),
        };
        trouble.meaning(UNTOUCHED).next(next)
    })
}

fn told(answer: &Value, faults: &[Fault], files: &[Hit], open: &[(String, String)]) -> String {
    let mut out = String::new();
    for fault in faults {
        let mended = fault.repaired_from.as_ref().map(|from| format!("; put back from {from}")).unwrap_or_default();
        out += &format!("damaged  {}: {}{mended}\n", fault.object, fault.what);
    }
    for (object, what) in open.iter().filter(|(object, _)| !faults.iter().any(|fault| fault.object == *object)) {
        out += &format!("damaged  {object}: {what}; known from before, and not judged by this check\n");
    }
    for file in files {
        let place = file.snapshot.as_ref().map(|name| format!(".snapshots/{name}/")).unwrap_or_default();
        let fate = match file.mended {
            true => "mended ",
            // A copy that could not be asked may have it.
            false if !answer["unasked"].is_null() => "damaged",
            false => "lost   ",
        };
        out += &format!("{fate}  {place}{}\n", file.path);
    }
    let number = |name: &str| answer[name].as_u64().unwrap_or_default();
    if let Some(objects) = answer["to_come"]["objects"].as_u64().filter(|objects| *objects > 0) {
        let bytes = answer["to_come"]["bytes"].as_u64().unwrap_or_default();
        out += &format!(
            "{} ({}) not here yet, and not read: the library is still being restored, and its copy has them\n",
            words::count(objects as usize, "object"),
            words::bytes(bytes)
        );
    }
    out += &format!(
        "{} looked at, {} read; {} damaged\n",
        words::count(number("objects") as usize, "object"),
        words::bytes(number("read_bytes")),
        faults.iter().filter(|fault| fault.repaired_from.is_some()).count() + open.len()
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_with_and_without_a_percent_sign() {
        assert_eq!((share("5%"), share("0.5")), (Ok(0.05), Ok(0.5)));
        assert!(share("0").is_err() && share("120%").is_err() && share("all").is_err());
    }
}
