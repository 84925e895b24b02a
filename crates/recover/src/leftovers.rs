//! Databases that interrupted runs have left: what is filled carries a remark that says so and whose it is.

use std::{fs, path::Path};

use haven_point::pg::Session;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    database::{SHORT, literal},
};

/// How the remark on a database begins that is not finished; then comes [`ours`].
const UNFINISHED: &str = "haven recover: unfinished";
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

/// What a remark says of a database; `None`: somebody is at work on it.
fn leftover(name: String, remark: &str) -> Option<Leftover> {
    let said = remark.strip_prefix(UNFINISHED).and_then(|rest| rest.strip_prefix(", by process "));
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

/// Those on the server of `session`. One called `but` is in use, and so is one that was renamed by hand: the remark says
/// nothing any more.
pub(crate) fn leftovers(session: &mut Session, but: &str) -> Result<Vec<Leftover>, Error> {
    #[derive(Deserialize)]
    struct Remarked {
        name: String,
        remark: String,
    }
    let remarked = format!(
        "SELECT datname AS name, shobj_description(oid, 'pg_database') AS remark FROM pg_database \
         WHERE shobj_description(oid, 'pg_database') LIKE {}",
        literal(&format!("{UNFINISHED}%"))
    );
    let remarked: Vec<Remarked> = session.rows(&remarked, SHORT)?;
    let ours = remarked.into_iter().filter(|row| is_named_by_us(&row.name) && row.name != but);
    Ok(ours.filter_map(|row| leftover(row.name, &row.remark)).collect())
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
}
