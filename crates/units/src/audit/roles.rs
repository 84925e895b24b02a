//! What each unit is: the mount of a library, an application on it, a job that copies it, somebody who tells of trouble.
//! Read from what it runs, not from what it is called, wherever that can be.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::{Tree, Unit};

/// Programs that keep a library or a bucket mounted.
const MOUNTERS: [&[&str]; 7] = [
    &["haven", "mount"],
    &["haven", "run"],
    &["mount.s3ql"],
    &["rclone", "mount"],
    &["s3fs"],
    &["geesefs"],
    &["mount-s3"],
];
/// Programs that copy or dump.
const COPIERS: [&[&str]; 18] = [
    &["borg", "create"],
    &["borgmatic"],
    &["restic", "backup"],
    &["rustic", "backup"],
    &["kopia", "snapshot"],
    &["rclone", "sync"],
    &["rclone", "copy"],
    &["mc", "mirror"],
    &["s5cmd", "sync"],
    &["aws", "s3"],
    &["rsync"],
    &["pg_dump"],
    &["pg_dumpall"],
    &["haven", "backup"],
    &["haven", "copy"],
    &["haven", "replica"],
    &["s3sync"],
    &["s3ql_backup"],
];

/// Who does what.
#[derive(Debug, Default)]
pub struct Roles {
    /// Units that keep a library mounted, with the directory where it can be told.
    pub mounts: BTreeMap<String, Option<String>>,
    /// Services of Immich that read and write the library.
    pub applications: BTreeSet<String>,
    /// Services that copy, mirror or dump.
    pub copiers: BTreeSet<String>,
    /// Services that others name in OnFailure=.
    pub tellers: BTreeSet<String>,
    photos: BTreeSet<String>,
}

impl Roles {
    pub fn of(tree: &Tree) -> Self {
        let mut roles = Self::default();
        for unit in tree.units.values() {
            let name = unit.name.clone();
            let text = commands_text(tree, unit);
            if unit.kind() == "service" {
                if MOUNTERS.iter().any(|words| runs(&text, words)) {
                    roles.mounts.insert(name.clone(), mount_point(&text));
                } else if COPIERS.iter().any(|words| runs(&text, words)) {
                    roles.copiers.insert(name.clone());
                }
                if is_application(unit) && !roles.mounts.contains_key(&name) && !roles.copiers.contains(&name) {
                    roles.applications.insert(name.clone());
                }
            }
            let fuse = unit.value("Type").is_some_and(|kind| kind.starts_with("fuse"));
            if unit.kind() == "mount" && fuse {
                roles.mounts.insert(name.clone(), unit.value("Where").map(str::to_owned));
            }
        }
        roles.photos = roles.mounts.keys().chain(&roles.applications).chain(&roles.copiers).cloned().collect();
        roles.photos.extend(tree.units.keys().filter(|name| name.starts_with("haven")).cloned());
        // Whatever those call or are called by.
        for _ in 0..3 {
            for unit in tree.units.values() {
                let mut called = unit.words("OnFailure");
                called.extend(unit.words("OnSuccess"));
                let starts = timer_target(unit);
                if starts.as_ref().is_some_and(|target| roles.photos.contains(target)) {
                    roles.photos.insert(unit.name.clone());
                }
                if roles.photos.contains(&unit.name) {
                    let called = called.iter().filter_map(|name| Some(tree.get(name)?.name.clone()));
                    let called: Vec<_> = called.chain(starts).collect();
                    roles.photos.extend(called);
                }
            }
        }
        for unit in tree.units.values() {
            roles.tellers.extend(unit.words("OnFailure").iter().filter_map(|name| Some(tree.get(name)?.name.clone())));
        }
        roles
    }

    pub fn concerns_photos(&self, name: &str) -> bool {
        self.photos.contains(name)
    }
}

/// The unit that a timer starts.
pub fn timer_target(unit: &Unit) -> Option<String> {
    (unit.kind() == "timer").then(|| {
        let own = || format!("{}.service", unit.name.trim_end_matches(".timer"));
        unit.value("Unit").map_or_else(own, str::to_owned)
    })
}

/// All that a unit runs, the scripts it calls included.
pub fn commands_text(tree: &Tree, unit: &Unit) -> String {
    let mut text = String::new();
    for command in unit.commands() {
        text.push_str(command.line);
        text.push('\n');
        for word in command.line.split_whitespace().take(3) {
            if let Some(script) = tree.script(word) {
                text.push_str(&script);
                text.push('\n');
            }
        }
    }
    text
}

/// Whether a program is run, with this word somewhere behind it on the same line.
pub fn runs(text: &str, words: &[&str]) -> bool {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).any(|line| {
        let mut rest = tokens(line);
        words.iter().enumerate().all(|(n, word)| {
            let is = |token: &String| if n == 0 { token.rsplit('/').next() == Some(*word) } else { token == word };
            rest.any(|token| is(&token))
        })
    })
}

/// The words of a line of shell, more or less: quotes and separators end them.
pub fn tokens(line: &str) -> impl Iterator<Item = String> {
    let line = line.replace(['"', '\'', ';', '|', '&', '(', ')', '`'], " ");
    line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn is_application(unit: &Unit) -> bool {
    let name = unit.name.trim_end_matches(".service").trim_start_matches("podman-").trim_start_matches("docker-");
    let beside = ["machine-learning", "machine_learning", "redis", "valkey", "postgres", "database", "backup", "alert"];
    let oneshot = unit.value("Type") == Some("oneshot") && !unit.is_on("RemainAfterExit");
    name.starts_with("immich") && !oneshot && !beside.iter().any(|other| name.contains(other))
}

/// The last absolute path of the command that mounts.
fn mount_point(text: &str) -> Option<String> {
    let line = text.lines().find(|line| MOUNTERS.iter().any(|words| runs(line, words)))?;
    let words: Vec<String> = tokens(line).collect();
    let mut plain = Vec::new();
    let mut words = words.iter().skip(1).peekable();
    let alone = ["--allow-other", "--foreground", "--fg"];
    while let Some(word) = words.next() {
        if word.starts_with('/') {
            plain.push(word.clone());
        } else if word.starts_with("--") && !word.contains('=') && !alone.contains(&word.as_str()) {
            // What follows a flag may be its value; a path there is not where it mounts.
            words.next_if(|next| next.starts_with('/'));
        }
    }
    plain.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_by_their_names_wherever_they_are() {
        assert!(runs("/usr/bin/borg --lock-wait 600 create r::a .", &["borg", "create"]));
        assert!(runs("/bin/sh -c 'cd /x && mc mirror a b'", &["mc", "mirror"]));
        assert!(!runs("/usr/bin/borg list r", &["borg", "create"]));
        assert!(!runs("# borg create", &["borg", "create"]));
        assert!(!runs("/usr/bin/mcrypt mirror", &["mc", "mirror"]));
    }

    #[test]
    fn the_mount_point_is_found_among_flags() {
        let point = |text| mount_point(text);
        let haven = "/usr/bin/haven mount s3://p/h /mnt/photos --cache /var/cache/haven --allow-other --foreground";
        assert_eq!(point(haven).as_deref(), Some("/mnt/photos"));
        let s3ql = "/usr/bin/mount.s3ql --fg --cachedir /var/cache/s3ql --authfile /etc/s3ql s3c4://h/b /mnt/s3ql";
        assert_eq!(point(s3ql).as_deref(), Some("/mnt/s3ql"));
        assert_eq!(point("/usr/bin/haven mount --foreground"), None);
    }
}
