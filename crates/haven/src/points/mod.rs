//! Recovery points: how one is taken (`run`), what makes the application stand still meanwhile (`quiesce`), and which
//! go (`tidy`). What a point is stands in the crate `haven-point`.

pub mod config;
mod maintenance;
pub mod quiesce;
pub mod run;
pub mod tidy;

use std::path::{Path, PathBuf};

use haven_mount::control::{Locator, Request};
use haven_point::{Error, application};
use serde::Deserialize;

use crate::{
    cli::{Context, ask},
    past::{POINT_MAKER, Shown},
    reach::Which,
    report::{Code, Trouble, UNTOUCHED},
    words,
};

/// A mounted library that points are taken of.
pub struct Home {
    /// Where it is mounted.
    pub root: PathBuf,
    pub at: Locator,
}

impl Home {
    pub fn of(context: &Context, which: &Which) -> Result<Self, Trouble> {
        let root = which.mount_point(&context.config)?;
        Ok(Self { at: ask::living(&root)?, root })
    }

    pub fn ask(&self, request: &Request, doing: &'static str) -> Result<serde_json::Value, Trouble> {
        ask::ask(&self.at, request, doing)
    }

    /// The snapshots that points are made of.
    pub fn snapshots(&self) -> Result<Vec<Shown>, Trouble> {
        let answer = self.ask(&Request::new("snapshot list"), "reading")?;
        let mut all = Vec::<Shown>::deserialize(answer).map_err(|error| {
            Trouble::new(Code::Bug, "the mount's process answered something else").caused_by(&error)
        })?;
        all.retain(|snapshot| snapshot.by == POINT_MAKER);
        Ok(all)
    }

    pub fn remove_snapshots(&self, names: &[String]) -> Result<(), Trouble> {
        if names.is_empty() {
            return Ok(());
        }
        self.ask(&Request::new("snapshot remove").with("names", names.to_vec()), "removing").map(drop)
    }

    /// What people want to know when no new point came of it.
    pub fn newest(&self, of: &str) -> String {
        match haven_point::open(&self.root, None, Some(of)) {
            Ok(point) => {
                let seconds = point.manifest.taken.as_second();
                let taken = words::moment(haven_format::record::Time { seconds, nanos: 0 });
                format!("the newest recovery point of {of} is that of {taken}")
            }
            Err(Error::None { .. }) => format!("there is no recovery point of {of} yet"),
            Err(error) => format!("whether there is a recovery point of {of} can't be told: {error}"),
        }
    }
}

/// The name of the snapshot or folder without what marks it as the second part of a point.
pub fn point_of(snapshot: &str) -> Option<&str> {
    let name = snapshot.strip_suffix(haven_point::SEAL).unwrap_or(snapshot);
    application(name).map(|_| name)
}

/// Trouble with a point, told at the edge.
pub fn trouble(error: &Error) -> Trouble {
    let code = match error {
        Error::Read { .. } | Error::Write { .. } => Code::Local,
        Error::Newer { .. } => Code::Newer,
        Error::Missing { .. } | Error::None { .. } => Code::NoPoint,
        Error::Several { .. } => Code::Usage,
        Error::Manifest { .. } | Error::Broken { .. } | Error::Damaged { .. } => Code::Damaged,
    };
    let trouble = Trouble::new(code, error.to_string()).caused_by(error);
    match error {
        Error::None { .. } => trouble.next("haven backup run    takes one"),
        Error::Several { .. } => {
            trouble.meaning(UNTOUCHED).next("--of NAME    the newest of that application; --point NAME    any")
        }
        Error::Missing { .. } | Error::Broken { .. } | Error::Manifest { .. } | Error::Damaged { .. } => {
            trouble.next("haven backup list    tells which there are, and which are complete")
        }
        _ => trouble,
    }
}

/// A lock that ends with the process: two runs for one application would take each other's halves for leftovers.
pub struct Alone(#[expect(dead_code, reason = "held, not read")] std::fs::File);

impl Alone {
    pub fn with(cache: &Path, of: &str) -> Result<Self, Trouble> {
        let path = cache.join(format!("backup-{of}.lock"));
        let cannot = |error: &dyn std::error::Error| {
            Trouble::new(Code::Local, format!("{} can't be locked", path.display())).caused_by(error)
        };
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| cannot(&error))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Trouble::new(Code::Occupied, format!("a run for {of} is at work already"))
                    .meaning("this one changed nothing")
                    .next("wait for it, or end it"))
            }
            Err(error) => Err(cannot(&error)),
        }
    }
}
