//! What a keeper has to do, by the settings: each job with the commands that it is made of.

use haven_keeper::{calendar::Schedule, plan::Job};

use crate::{config::Config, points::config::App, report::Code, words};

/// What the names of snapshots begin with that the keeper takes: it prunes these alone.
const AUTO: &str = "auto-";
const DRILLS: [&str; 3] = ["drill-0", "drill-1", "drill-2"];

/// Whether a job's next command is run although the one before it ended with `exit`.
pub fn goes_on(kind: &str, exit: i32) -> bool {
    // A point that only lacks its copy beside counts: what it makes superfluous goes.
    DRILLS.contains(&kind) || (kind == "backup" && exit == i32::from(Code::Incomplete.exit()))
}

fn job(kind: &str, name: &str, schedule: &Schedule) -> Job {
    let heavy = ["copy", "scrub", "gc"].contains(&kind) || DRILLS.contains(&kind);
    // A copy wants the newest point, a drill one that is not being taken just now.
    let after = if kind == "copy" || DRILLS.contains(&kind) { vec!["backup".to_owned()] } else { Vec::new() };
    Job { kind: kind.to_owned(), name: name.to_owned(), schedule: schedule.clone(), heavy, after }
}

/// All that is scheduled.
pub fn jobs(config: &Config) -> Vec<Job> {
    let s = &config.schedule;
    let mut all = vec![job("snapshot", "", &s.snapshot)];
    all.extend(config.apps.iter().map(|app| job("backup", &app.name, &s.backup)));
    all.extend(config.replicas.keys().map(|name| job("replica", name, &s.replica)));
    all.extend(config.copies.keys().map(|name| job("copy", name, &s.copy)));
    all.push(job("gc", "", &s.gc));
    all.push(job("scrub", "", &s.scrub));
    if !config.apps.is_empty() {
        all.extend(DRILLS.iter().zip([&s.drill_0, &s.drill_1, &s.drill_2]).map(|(kind, when)| job(kind, "", when)));
    }
    if !config.channels.is_empty() {
        all.push(job("report", "", &s.report));
    }
    if config.mount.read_only {
        // Another machine writes, and does what changes the library.
        all.retain(|job| !["snapshot", "backup", "gc"].contains(&job.kind.as_str()));
    }
    all.retain(|job| !job.schedule.is_never());
    all
}

/// The commands of a job, one after the other: arguments of this program. `begun` tells of a replica or copy, by its name,
/// whether a recovery point of an application can be in it yet.
pub fn steps(config: &Config, job: &Job, begun: impl Fn(&str, &str) -> bool) -> Vec<Vec<String>> {
    let s = &config.schedule;
    let name = job.name.as_str();
    let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let limit = s.rate_now().map(|rate| format!("--limit={rate}"));
    let limited = |mut words: Vec<String>| {
        words.extend(limit.clone());
        words
    };
    match job.kind.as_str() {
        "snapshot" => vec![
            line(&["snapshot", "create", &format!("{AUTO}{}", words::iso(words::now())), "--note", "by the keeper"]),
            line(&["snapshot", "prune", &s.snapshot_keep, "--prefix", AUTO]),
        ],
        "backup" => {
            let mut all = vec![line(&["backup", "run", name])];
            if config.apps.iter().any(|app| app.name == name && app.common.keep.is_some()) {
                all.push(line(&["backup", "prune", "--of", name]));
            }
            all
        }
        "replica" => vec![limited(line(&["replica", "sync", name]))],
        "copy" => {
            let prune = config.copies.get(name).is_some_and(|copy| copy.keep.is_some());
            let words = ["copy", "run", name, "--prune"];
            vec![limited(line(&words[..if prune { 4 } else { 3 }]))]
        }
        "gc" => vec![line(&["gc"])],
        "scrub" => vec![limited(line(&["check", "--read-data", "--sample", &s.scrub_share]))],
        kind if DRILLS.contains(&kind) => {
            // Each application's newest: the newest of all is only one's.
            let drill = |app: &App| {
                let mut words = line(&["drill", "--level", &kind["drill-".len()..], "--of", &app.name]);
                if kind == "drill-2" {
                    let scratch = s.drill_scratch.iter();
                    words.extend(scratch.flat_map(|path| ["--scratch".to_owned(), path.display().to_string()]));
                }
                // Of a copy that was not made since there are points nothing comes back; that it is late is told elsewhere.
                let (there, missing): (Vec<_>, Vec<_>) =
                    config.replicas.keys().chain(config.copies.keys()).partition(|name| begun(name, &app.name));
                if !missing.is_empty() {
                    let names = std::iter::once("library").chain(there.into_iter().map(String::as_str));
                    words.extend(names.flat_map(|name| ["--copy".to_owned(), name.to_owned()]));
                }
                words
            };
            config.apps.iter().map(drill).collect()
        }
        "report" => vec![line(&["report", "--send"])],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[backup.immich]\nkind = 'folder'\nkeep = 'daily 7'\n[replica.near]\nurl = '/srv/near'\n\
                        [copy.home]\nrepository = '/srv/borg'\n[schedule]\ngc = 'off'\nbandwidth = ['00:00..24:00 2MB']\n";

    #[test]
    fn what_the_settings_name_is_done_and_nothing_else() {
        let config = Config::from_text(TEXT, "").unwrap();
        let keys: Vec<_> = jobs(&config).iter().map(Job::key).collect();
        assert_eq!(
            keys,
            ["snapshot", "backup immich", "replica near", "copy home", "scrub", "drill-0", "drill-1", "drill-2"],
            "no report: nobody could be told"
        );
        let bare: Vec<_> = jobs(&Config::from_text("", "").unwrap()).iter().map(Job::key).collect();
        assert_eq!(bare, ["snapshot", "gc", "scrub"]);
        let reader = Config::from_text(&format!("{TEXT}\n[mount]\nread_only = true"), "").unwrap();
        assert!(!jobs(&reader).iter().any(|job| job.kind == "backup"));
    }

    #[test]
    fn every_job_is_made_of_commands_that_there_are() {
        use clap::CommandFactory;
        let config = Config::from_text(TEXT, "").unwrap();
        for job in jobs(&config) {
            for step in steps(&config, &job, |_, _| true) {
                let words = std::iter::once("haven".to_owned()).chain(step.clone());
                let parsed = crate::cli::Args::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{step:?}: {:?}", parsed.err());
            }
        }
        let near = jobs(&config).into_iter().find(|job| job.kind == "replica").unwrap();
        assert_eq!(steps(&config, &near, |_, _| true)[0], ["replica", "sync", "near", "--limit=2000000"]);
    }

    #[test]
    fn points_are_pruned_although_the_new_one_lacks_its_copy_beside() {
        let incomplete = i32::from(Code::Incomplete.exit());
        let point = i32::from(Code::Point.exit());
        assert!(goes_on("backup", incomplete) && !goes_on("backup", point));
        assert!(!goes_on("snapshot", incomplete) && goes_on("drill-1", point));
    }

    #[test]
    fn a_copy_that_was_never_made_is_not_drilled() {
        let config = Config::from_text(TEXT, "").unwrap();
        let drill = jobs(&config).into_iter().find(|job| job.kind == "drill-0").unwrap();
        let all = ["drill", "--level", "0", "--of", "immich"];
        assert_eq!(steps(&config, &drill, |_, _| true), [all], "all there are");
        let some = steps(&config, &drill, |name, _| name == "near");
        assert_eq!(some, [[&all[..], &["--copy", "library", "--copy", "near"]].concat()]);
        let none = steps(&config, &drill, |_, _| false);
        assert_eq!(none, [[&all[..], &["--copy", "library"]].concat()]);
    }

    #[test]
    fn each_application_is_drilled() {
        let config = Config::from_text(&format!("{TEXT}[backup.papers]\nkind = 'folder'\n"), "").unwrap();
        let drill = jobs(&config).into_iter().find(|job| job.kind == "drill-1").unwrap();
        // A copy that was last made before there were papers.
        let steps = steps(&config, &drill, |name, app| app == "immich" || name == "near");
        let papers = ["--of", "papers", "--copy", "library", "--copy", "near"];
        let papers = [&["drill", "--level", "1"][..], &papers].concat();
        assert_eq!(steps, [vec!["drill", "--level", "1", "--of", "immich"], papers]);
    }
}
