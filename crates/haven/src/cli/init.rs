//! `haven init`: a library where there is none.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use haven_format::{
    config::OpenConfig,
    keys::{Argon2Cost, RecoveryKey, Secret, kit::Kit},
};
use haven_store::{
    StoreOptions,
    probe::{self, ProbeError},
};
use serde::Serialize;

use super::{Context, UrlArg};
use crate::{
    library::{self, dice},
    report::{Code, Trouble},
    secret::{KeyArgs, Source},
    words,
};

/// Make a library in an empty bucket, prefix or directory
///
/// The passphrase opens it from then on. A recovery key of 24 words opens it too, for the day the passphrase is gone:
/// with --recovery-key-file it is written there, as a page to print (HTML if the name ends in .html); without, it is
/// printed here. Keep it on paper, away from this machine.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven init file:///srv/library --recovery-key-file kit.html\n  haven init s3://photos/haven --passphrase-file /etc/haven/passphrase"
)]
pub struct Args {
    #[command(flatten)]
    url: UrlArg,
    /// Write the recovery key here; the file must not exist yet
    #[arg(long, value_name = "PATH")]
    recovery_key_file: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
pub struct Made {
    library: String,
    store: String,
    url: String,
    recovery_key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_words: Option<String>,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let url = args.url.get(&context.config)?;
    let source = args.key.source(&context.config.key);
    if matches!(source, Source::RecoveryWords(_)) {
        return Err(Trouble::new(Code::Usage, "a new library gets its recovery key from Haven, not from a file")
            .next("leave --recovery-words out; --recovery-key-file says where the new one is written"));
    }
    let made = make(&url, &context.config.store, &source, args.recovery_key_file.as_deref()).await?;
    let text = told(&made);
    context.answer(&made.0, &text)
}

/// Makes a library at `url`. Returns what to tell, and the kit if it was not written to a file.
pub async fn make(
    url: &str,
    options: &StoreOptions,
    source: &Source,
    kit_file: Option<&Path>,
) -> Result<(Made, Option<String>), Trouble> {
    let new = new_directories(url);
    let made = make_at(url, options, source, kit_file).await;
    if made.is_err() {
        // Only where nothing is in them: what was made for it goes again.
        _ = new.iter().try_for_each(std::fs::remove_dir);
    }
    made
}

/// The directories that would be made for `url`, the deepest first.
fn new_directories(url: &str) -> Vec<PathBuf> {
    let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
    let below = path.is_absolute().then(|| path.ancestors().take_while(|part| !part.exists()));
    below.into_iter().flatten().map(Path::to_owned).collect()
}

async fn make_at(
    url: &str,
    options: &StoreOptions,
    source: &Source,
    kit_file: Option<&Path>,
) -> Result<(Made, Option<String>), Trouble> {
    let options = StoreOptions { create: true, ..options.clone() };
    let store = library::open_store(url, &options)?.store;
    library::ensure_empty(&store, url).await?;
    ensure_fit(url, &options).await?;
    let secret = source.read_new()?;
    let (open, recovery) = keys(&secret, source)?;
    let place = store.describe();
    let made = words::day(words::now());
    let kit = Kit { key: &recovery, library: open.library(), place: &place, made: &made };
    if let Some(path) = kit_file {
        write_kit(path, &kit)?;
    }
    library::write(&store, &open).await?;
    let told = Made {
        library: open.library().to_string(),
        store: place.clone(),
        url: url.to_owned(),
        recovery_key_file: kit_file.map(Path::to_owned),
        recovery_words: kit_file.is_none().then(|| recovery.words().join(" ")),
    };
    Ok((told, kit_file.is_none().then(|| kit.text())))
}

/// A server is asked before it is trusted. Directories keep their promises; the tests of the store show it.
pub async fn ensure_fit(url: &str, options: &StoreOptions) -> Result<(), Trouble> {
    if !["s3://", "sftp://", "webdav://", "webdavs://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(());
    }
    let report = match probe::probe_url(url, options).await {
        Ok(report) => report,
        Err(ProbeError::Store { store, source }) => {
            return Err(
                library::store_trouble(format!("{store} can't be used"), &source).meaning("no library was made")
            );
        }
        Err(error) => return Err(Trouble::new(Code::Store, error.to_string()).meaning("no library was made")),
    };
    crate::remembered::remember(&report, words::now());
    let missing = report.missing();
    if missing.is_empty() {
        return Ok(());
    }
    let trouble = Trouble::new(Code::Store, format!("{} can't hold a library", report.store))
        .meaning("no library was made: it would not be safe there")
        .next("haven doctor    tells more; use another store, or a newer version of this one");
    Err(missing.iter().fold(trouble, |trouble, lacking| trouble.because(format!("not so: {}", lacking.title()))))
}

/// A master key, and its first two slots.
fn keys(secret: &Secret, source: &Source) -> Result<(OpenConfig, RecoveryKey), Trouble> {
    let bug = |error| Trouble::new(Code::Bug, "keys can't be made").caused_by(&error);
    let label = match source {
        Source::KeyFile(_) => "key file",
        _ => "passphrase",
    };
    let now = words::now();
    let cost = Argon2Cost::RECOMMENDED;
    let mut open = OpenConfig::create(secret, label, cost, now, &mut dice).map_err(bug)?;
    let mut bytes = [0; 32];
    dice(&mut bytes);
    let recovery = RecoveryKey::new(bytes);
    open.add(&Secret::Recovery(recovery.clone()), "made at init", cost, now, &mut dice).map_err(bug)?;
    Ok((open, recovery))
}

/// Writes the page so that a power cut right after can't take it away, readable by its owner only, over nothing.
pub fn write_kit(path: &Path, kit: &Kit<'_>) -> Result<(), Trouble> {
    let html = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("html") || end.eq_ignore_ascii_case("htm"));
    let page = zeroize::Zeroizing::new(if html { kit.html() } else { kit.text() });
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(page.as_bytes())?;
        file.sync_all()?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(above)?.sync_all()
    };
    write().map_err(|error| {
        let shown = path.display();
        let trouble = Trouble::new(Code::Local, format!("the recovery key can't be written to {shown}"))
            .meaning("no library or key was made: without its recovery key on paper it would hang on one passphrase")
            .caused_by(&error);
        match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                trouble.next("name a file that does not exist: it may be the key of another library")
            }
            _ => trouble.next("name a file in a directory that exists and may be written to"),
        }
    })
}

fn told((made, kit): &(Made, Option<String>)) -> String {
    let mut out = format!("made library {}\n     at {}\n", made.library, made.store);
    match (&made.recovery_key_file, kit) {
        (Some(path), _) => {
            out += &format!(
                "\nThe recovery key is in {}: print it, keep it away from this machine, delete the file.\n",
                path.display()
            );
        }
        (None, Some(kit)) => out += &format!("\nWrite this down or print it now, it is not shown again:\n\n{kit}"),
        (None, None) => {}
    }
    out
}
