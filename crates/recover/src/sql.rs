//! A dump as plain SQL, for whoever has nothing but psql.

use std::{fs::File, path::Path, time::Duration};

use haven_point::{
    manifest::Database,
    pg::{Ends, Reach, Stop, command, watch},
};

use crate::Error;

/// For the largest dump.
const LONG: Duration = Duration::from_secs(6 * 3600);

/// Writes it to `to`. Needs pg_restore, here or in a container, and no server.
pub fn to_sql(reach: &Reach, dumped: &Database, dump: &Path, to: &Path, stop: &Stop) -> Result<(), Error> {
    let mut run = command(reach, "pg_restore", Some(dumped.major()));
    run.args(["--no-owner", "-f", "-"]);
    // In a container there are no files of ours.
    run.stdin(File::open(dump).map_err(Error::read(dump))?);
    run.stdout(File::create(to).map_err(Error::write(to))?);
    watch("pg_restore", &mut run, Ends { stop, limit: LONG, lock_wait: LONG }, &mut || ())?;
    Ok(())
}
