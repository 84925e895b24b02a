//! `haven up`: with nothing configured at all, a library on this machine, mounted.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use haven_mount::{
    background::Background,
    control::{Found, find},
};

use super::{Context, init, mount, wait};
use crate::{
    config,
    library::dice,
    report::{Code, Trouble},
    secret::{KeyArgs, Source},
};

/// Make a library on this machine if there is none, mount it, and say what to try next
///
/// The library lies in ~/.local/share/haven/library, its key in ~/.config/haven/key (nobody else may read it), its
/// recovery key beside it, and it is mounted at ~/Haven. Run it again at any time: it mounts what is not mounted. Where
/// haven.toml names a library, that one is mounted.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to mount [default: mount.point in haven.toml, else ~/Haven]
    #[arg(value_name = "MOUNTPOINT", env = "HAVEN_MOUNTPOINT", hide_env = true)]
    point: Option<PathBuf>,
    #[command(flatten)]
    how: mount::How,
}

/// The places of a library that nobody configured.
struct Places {
    library: PathBuf,
    key: PathBuf,
    kit: PathBuf,
}

impl Places {
    fn find() -> Result<Self, Trouble> {
        // A library that was made here once is found again.
        let data = config::told_directory("XDG_DATA_HOME", ".local/share").unwrap_or_else(|| "/var/lib/haven".into());
        let keys = config::told_directory("XDG_CONFIG_HOME", ".config").unwrap_or_else(|| "/etc/haven".into());
        Ok(Self { library: data.join("library"), key: keys.join("key"), kit: keys.join("recovery-key.html") })
    }

    fn url(&self) -> String {
        format!("file://{}", self.library.display())
    }

    /// Makes key and library where they are missing. True if the library is new.
    fn prepare(&self, context: &Context) -> Result<bool, Trouble> {
        let exists = self.library.join("cfg").is_dir();
        if exists {
            return Ok(false);
        }
        let directory = self.key.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| cannot(directory, &error))?;
        if !self.key.exists() {
            make_key(&self.key).map_err(|error| cannot(&self.key, &error))?;
        }
        // A kit without a library is left over from an init that did not come to its end: it opens nothing.
        match fs::remove_file(&self.kit) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(&self.kit, &error)),
            _ => {}
        }
        let source = Source::KeyFile(self.key.clone());
        wait(init::make(&self.url(), &context.config.store, &source, Some(&self.kit)))?;
        Ok(true)
    }
}

fn make_key(path: &Path) -> std::io::Result<()> {
    let mut key = zeroize::Zeroizing::new([0; 64]);
    dice(&mut *key);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&*key)?;
    file.sync_all()?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn cannot(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(Code::Local, format!("{} can't be written", path.display()))
        .caused_by(error)
        .meaning("no library was made")
        .next("make its directory writable for this user")
}

pub fn run(context: &Context, args: Args, background: &mut Option<Background>) -> Result<(), Trouble> {
    let config = &context.config;
    let point = args.point.or_else(|| config.mount.point.clone()).or_else(|| Some(config::told_home()?.join("Haven")));
    let point = point.unwrap_or_else(|| "/mnt/haven".into());
    if let (None, Ok(Found::Mount { at, .. })) = (&background, find(&point)) {
        return tell(context, &point, &at.url, None);
    }
    let configured =
        std::env::var("HAVEN_LIBRARY").ok().filter(|url| !url.is_empty()).or_else(|| config.library.url.clone());
    let (url, source, places, new) = match configured {
        Some(url) => (super::absolute(&url), KeyArgs::default().source(&config.key), None, false),
        None => {
            let places = Places::find()?;
            let new = background.is_none() && places.prepare(context)?;
            (places.url(), Source::KeyFile(places.key.clone()), Some(places), new)
        }
    };
    // A dead mount is there and can't be looked at: that is for the mount to see to.
    if !matches!(find(&point), Ok(Found::Dead { .. })) {
        fs::create_dir_all(&point).map_err(|error| {
            Trouble::new(Code::Mount, format!("the mount point {} can't be made", point.display()))
                .caused_by(&error)
                .next("name another: haven up MOUNTPOINT")
        })?;
    }
    let plan = mount::Plan { place: config.place(&url), point: point.clone(), how: args.how, source };
    match mount::start(config, plan, background)? {
        Some(_) => tell(context, &point, &url, places.filter(|_| new).as_ref()),
        None => Ok(()),
    }
}

fn tell(context: &Context, point: &Path, url: &str, made: Option<&Places>) -> Result<(), Trouble> {
    let shown = point.display();
    let mut text = format!("Your library is at {shown}\n");
    if let Some(places) = made {
        text += &format!(
            "\nIt is new. Its objects are in {}\n\
             Its key is {}; whoever has both can read everything, and without the key nobody can.\n\
             Print the recovery key {} and keep it away from this machine.\n",
            places.library.display(),
            places.key.display(),
            places.kit.display(),
        );
    }
    text += &format!(
        "\nTry:\n  cp -a ~/Pictures/. {shown}/     bring photos in\n  haven status {shown}            what is not in the store yet?\n  \
         haven stat {shown}              what deduplication and compression save\n  haven umount {shown}            and haven up mounts it again\n\n\
         In a bucket of your own: haven init s3://BUCKET/haven --recovery-key-file kit.html\n"
    );
    let value = serde_json::json!({
        "point": point, "url": url, "new": made.is_some(),
        "key_file": made.map(|places| &places.key), "recovery_key_file": made.map(|places| &places.kit),
    });
    context.answer(&value, &text)
}
