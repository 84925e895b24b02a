//! Databases that interrupted runs have left: what is filled carries a remark that says so and whose it is, and so does what
//! a drill looks at on a server that stays.

use std::{fs, path::Path};

use haven_point::pg::Session;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    database::{SHORT, literal},
};

/// How the remark on a database begins that is not finished; then comes [`ours`].
const UNFINISHED: &str = "haven recover: unfinished";
/// The same on one that a drill looks at.
const DRILLED: &str = "haven drill: for a while";
/// What the names of those begin with.
pub(crate) const DRILL: &str = "haven_drill_";
/// What stands between a database's name and the time in the name of the one that is to take its place.
pub(crate) const NEW: &str = "haven";

/// A database that is not finished, and that nobody is known to be at work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    pub name: String,
    /// Its process was one of this machine, and is gone: what still fills it has nobody to fill it for.
    pub forsaken: bool,
}

/// Who makes a database: `, by process 12 of mini`.
fn ours() -> String {
    format!("{}{}", by(std::process::id()), host())
}

fn by(process: u32) -> String {
    format!(", by process {process} of ")
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// What a remark that begins so says of a database; `None`: somebody is at work on it.
fn leftover(name: String, remark: &str, begins: &str) -> Option<Leftover> {
    let said = remark.strip_prefix(begins).and_then(|rest| rest.strip_prefix(", by process "));
    let said = said.and_then(|said| said.split_once(" of "));
    let process = said.and_then(|(process, of)| process.parse::<u32>().ok().filter(|_| of == host()));
    // With our own number: an earlier process had it, or an earlier try of this one.
    let alive = |process: u32| process != std::process::id() && Path::new("/proc").join(process.to_string()).exists();
    (!process.is_some_and(alive)).then_some(Leftover { name, forsaken: process.is_some() })
}

/// Whether it has a name that [`crate::database`] gives to what is not finished.
fn is_named_by_us(name: &str) -> bool {
    let digits = |text: &str, least: usize| text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((_, end)) = name.rsplit_once(&format!("_{NEW}_")) else { return false };
    let (stamp, tried) = end.split_once('_').unwrap_or((end, "0"));
    stamp.split_once('T').is_some_and(|(day, time)| digits(day, 8) && digits(time, 6)) && digits(tried, 1)
}

/// What a database of ours says of itself until it is finished.
pub(crate) fn remark() -> String {
    format!("{UNFINISHED}{}", ours())
}

/// What a drill's database says of itself.
pub(crate) fn drilled() -> String {
    format!("{DRILLED}{}", ours())
}

/// Whether it has a name that a drill gives.
fn is_a_drills(name: &str) -> bool {
    let number = name.strip_prefix(DRILL);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Deserialize)]
struct Remarked {
    name: String,
    remark: String,
}

fn remarked(session: &mut Session, begins: &str) -> Result<Vec<Remarked>, Error> {
    let remarked = format!(
        "SELECT datname AS name, shobj_description(oid, 'pg_database') AS remark FROM pg_database \
         WHERE shobj_description(oid, 'pg_database') LIKE {}",
        literal(&format!("{begins}%"))
    );
    Ok(session.rows(&remarked, SHORT)?)
}

/// Those on the server of `session`. One called `but` is in use, and so is one that was renamed by hand: the remark says
/// nothing any more.
pub(crate) fn leftovers(session: &mut Session, but: &str) -> Result<Vec<Leftover>, Error> {
    let ours = remarked(session, UNFINISHED)?.into_iter().filter(|row| is_named_by_us(&row.name) && row.name != but);
    Ok(ours.filter_map(|row| leftover(row.name, &row.remark, UNFINISHED)).collect())
}

/// Databases there of drills that were killed on this machine. Those of other machines may be looked at just now.
pub(crate) fn of_dead_drills(session: &mut Session) -> Result<Vec<String>, Error> {
    let drills = remarked(session, DRILLED)?.into_iter().filter(|row| is_a_drills(&row.name));
    let left = drills.filter_map(|row| leftover(row.name, &row.remark, DRILLED));
    Ok(left.filter(|left| left.forsaken).map(|left| left.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_is_known_by_a_name_that_nobody_else_gives() {
        let ours =
            ["immich_haven_20261126T213000", "haven_drill_12_haven_20261126T213000_99", "_haven_20261126T213000"];
        assert!(ours.iter().all(|name| is_named_by_us(name)));
        let others = [
            "immich",
            "immich_haven_new",
            "immich_before_20261126T213000",
            "haven_drill_12",
            "immich_haven_20261126T213000_",
            "immich_haven_20261126T213000_mine",
        ];
        assert!(!others.iter().any(|name| is_named_by_us(name)));
    }

    #[test]
    fn a_drills_database_is_left_when_its_process_was_one_of_this_machine_and_is_gone() {
        assert!(is_a_drills("haven_drill_12"));
        assert!(
            !["haven_drill_", "haven_drill_mine", "haven_drill_12_old", "immich"].iter().any(|name| is_a_drills(name))
        );
        let left = |remark: &str| leftover("haven_drill_12".into(), remark, DRILLED).is_some_and(|left| left.forsaken);
        let here = |process: u32| format!("{DRILLED}{}{}", by(process), host());
        assert!(left(&drilled()), "an earlier process had our number");
        assert!(!left(&here(1)) && left(&here(u32::MAX)));
        assert!(!left(&format!("{DRILLED}{}elsewhere", by(u32::MAX))));
    }
}
