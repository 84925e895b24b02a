//! What `haven recover` would do, without doing it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use haven_point::Point;
use haven_recover::lay::{self, Inventory};
use rayon::prelude::*;
use serde_json::json;

use super::{Args, is_photo, no_files, trouble};
use crate::{
    cli::{Context, ask},
    media::Media,
    origin::Origin,
    report::Trouble,
    words,
};

/// For how long the source's speed is tried out.
const TRY: Duration = Duration::from_secs(3);
/// What leaving a store costs by public price lists, US dollars a GB, without what is free each month and without requests.
const PRICES: [(&str, f64); 3] = [("AWS S3", 0.09), ("Backblaze B2", 0.01), ("Cloudflare R2", 0.0)];

pub fn tell(
    context: &Context,
    args: &Args,
    origin: &Origin,
    point: &Point,
    media: Option<&Media>,
) -> Result<(), Trouble> {
    let manifest = &point.manifest;
    let mut out =
        format!("would bring back {} (of {}) from {}\n", point.name(), words::iso(stamp(manifest.taken)), origin.name);
    let mut value = json!({ "point": point.name(), "taken": manifest.taken, "from": origin.name, "dry_run": true });
    if let Some(to) = &args.to {
        let media = media.ok_or_else(|| no_files(point))?;
        let bar = ask::progress_bar("looking");
        let (files, bytes) = media.size()?;
        let speed = speed(media, args.parallel);
        bar.finish_and_clear();
        let room = lay::room(to);
        let occupied = lay::occupied(to).map_err(|error| trouble(&error))?;
        out += &format!(
            "  files     {}, {}, to {}{}\n",
            words::count(files as usize, "file"),
            words::bytes(bytes),
            to.display(),
            match (occupied, args.aside) {
                (false, _) => "",
                (true, true) => "; what is there is renamed aside",
                (true, false) => "; which is not empty: only with --aside",
            }
        );
        if let Some(room) = room {
            let enough = if room > bytes { "" } else { ": NOT ENOUGH" };
            out += &format!("            {} of room there{enough}\n", words::bytes(room));
        }
        // What is read back afterwards to be compared is read from there again.
        let seconds = speed.map(|speed| bytes as f64 / speed);
        if let (Some(speed), Some(seconds)) = (speed, seconds) {
            out += &format!(
                "            about {} to fetch them, at the {}/s seen just now; Immich's photos are then read once more\n",
                haven_store::human::show_duration(Duration::from_secs(seconds.ceil() as u64)),
                words::bytes(speed as u64),
            );
        }
        let prices = origin
            .bills
            .then(|| PRICES.map(|(store, price)| json!({ "store": store, "dollars": bytes as f64 / 1e9 * price })));
        if prices.is_some() {
            let one = |(store, price): (&str, f64)| format!("{:.2} at {store}", bytes as f64 / 1e9 * price);
            out += &format!(
                "            US dollars for {} that leave a store, by list prices: {}; see what yours asks\n",
                words::bytes(bytes),
                PRICES.map(one).join(", ")
            );
        }
        value["files"] = json!({ "files": files, "bytes": bytes, "room": room, "occupied": occupied,
                                 "bytes_per_second": speed, "seconds": seconds, "prices": prices });
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
fn speed(media: &Media, threads: u16) -> Option<f64> {
    let (begun, until) = (Instant::now(), Instant::now() + TRY);
    let read = AtomicU64::new(0);
    // What is refused here ends the trial, and nothing else.
    let drain = |from: &mut dyn std::io::Read| -> std::io::Result<()> {
        let mut piece = vec![0; 1 << 20];
        loop {
            if Instant::now() > until {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            match from.read(&mut piece)? {
                0 => return Ok(()),
                count => read.fetch_add(count as u64, Ordering::Relaxed),
            };
        }
    };
    match media {
        Media::Folder(folder) => {
            let inventory = Inventory::of(folder, &is_photo).ok()?;
            super::pooled(threads, || {
                inventory.paths().par_iter().for_each(|path| {
                    if Instant::now() < until
                        && let Ok(mut file) = std::fs::File::open(folder.join(path))
                    {
                        _ = drain(&mut file);
                    }
                });
            })
            .ok()?;
        }
        Media::Archive { held, root, .. } => _ = held.stream(Vec::new(), root, threads, &|_, from| drain(from)),
    }
    let read = read.into_inner();
    (read > 0).then(|| read as f64 / begun.elapsed().as_secs_f64().max(0.001))
}
