//! What `haven recover` would do, without doing it.

use std::{
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use haven_point::Point;
use haven_recover::lay::{self, Inventory};
use serde_json::json;

use super::{Args, is_photo, no_files, trouble};
use crate::{
    cli::{Context, ask},
    origin::Origin,
    report::Trouble,
    words,
};

/// For how long the source's speed is tried out.
const TRY: Duration = Duration::from_secs(3);

pub fn tell(context: &Context, args: &Args, origin: &Origin, point: &Point) -> Result<(), Trouble> {
    let manifest = &point.manifest;
    let mut out =
        format!("would bring back {} (of {}) from {}\n", point.name(), words::iso(stamp(manifest.taken)), origin.name);
    let mut value = json!({ "point": point.name(), "taken": manifest.taken, "from": origin.name, "dry_run": true });
    if let Some(to) = &args.to {
        let media = point.media().ok_or_else(|| no_files(point))?;
        let bar = ask::progress_bar("looking");
        let inventory = Inventory::of(&media, &|_| true).map_err(|error| trouble(&error))?;
        let speed = speed(&media, args.parallel);
        bar.finish_and_clear();
        let room = lay::room(to);
        let occupied = lay::occupied(to).map_err(|error| trouble(&error))?;
        out += &format!(
            "  files     {}, {}, to {}{}\n",
            words::count(inventory.files() as usize, "file"),
            words::bytes(inventory.bytes),
            to.display(),
            match (occupied, args.aside) {
                (false, _) => "",
                (true, true) => "; what is there is renamed aside",
                (true, false) => "; which is not empty: only with --aside",
            }
        );
        if let Some(room) = room {
            let enough = if room > inventory.bytes { "" } else { ": NOT ENOUGH" };
            out += &format!("            {} of room there{enough}\n", words::bytes(room));
        }
        // What is read back afterwards to be compared is read from there again.
        let seconds = speed.map(|speed| inventory.bytes as f64 / speed);
        if let (Some(speed), Some(seconds)) = (speed, seconds) {
            out += &format!(
                "            about {:.0} s to fetch them, at the {}/s seen just now; {} leave the store: see what your provider bills for that\n",
                seconds,
                words::bytes(speed as u64),
                words::bytes(inventory.bytes)
            );
        }
        value["files"] = json!({ "files": inventory.files(), "bytes": inventory.bytes, "room": room, "occupied": occupied,
                                 "bytes_per_second": speed, "seconds": seconds });
    }
    if let (Some(goal), Some(database)) = (args.goal(), &manifest.database) {
        let ground = goal.look(database).map_err(|error| trouble(&error))?;
        let fit = ground.fit(database).err().map(|error| error.to_string());
        out += &format!(
            "  database  {}, {} of dump, {} when it was dumped; owned by {}{}{}\n",
            ground.name,
            words::bytes(database.dump.bytes),
            words::bytes(database.bytes),
            ground.role,
            if ground.role_exists { "" } else { ", who is made" },
            if ground.exists { "; the one that is there is renamed aside" } else { "" }
        );
        if let Some(why) = &fit {
            out += &format!("            NOT POSSIBLE: {why}\n");
        }
        value["database"] = json!({ "ground": ground, "dump_bytes": database.dump.bytes, "impossible": fit });
    }
    if let Some(immich) = &manifest.immich {
        let lost: Vec<_> =
            immich.sentinels.iter().filter(|(_, held)| held.is_none()).map(|(name, _)| name.clone()).collect();
        if !lost.is_empty() && args.to.is_some() {
            out += &format!("  .immich   put back in {}\n", lost.join(", "));
        }
        if immich.maintenance {
            out += "  flag      the dump says maintenance mode: it is cleared\n";
        }
    }
    out += "nothing was changed\n";
    context.answer(&value, &out)
}

fn stamp(taken: jiff::Timestamp) -> haven_format::record::Time {
    haven_format::record::Time { seconds: taken.as_second(), nanos: 0 }
}

/// Bytes a second that come from there, tried out on some originals. `None`: nothing could be read.
fn speed(media: &Path, threads: u16) -> Option<f64> {
    let inventory = Inventory::of(media, &is_photo).ok()?;
    let (begun, until) = (Instant::now(), Instant::now() + TRY);
    let read = super::pooled(threads, || {
        use rayon::prelude::*;
        let paths = inventory.paths();
        let bytes = paths.par_iter().map(|path| {
            if Instant::now() > until {
                return 0;
            }
            let mut file = match std::fs::File::open(media.join(path)) {
                Ok(file) => file,
                Err(_) => return 0,
            };
            let (mut piece, mut sum) = (vec![0; 1 << 20], 0_u64);
            while Instant::now() < until {
                match file.read(&mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => sum += count as u64,
                }
            }
            sum
        });
        bytes.sum::<u64>()
    });
    let read = read.ok().filter(|read| *read > 0)?;
    Some(read as f64 / begun.elapsed().as_secs_f64().max(0.001))
}
