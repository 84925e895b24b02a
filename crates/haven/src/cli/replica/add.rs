//! `haven replica add` and `remove`.

use haven_replica::Replicator;
use haven_store::{StoreOptions, human};

use super::{Context, open, replica_trouble, source_of, world};
use crate::{
    config::Config,
    replicas,
    report::{self, Code, Trouble, UNTOUCHED},
    secret::KeyArgs,
};

/// Name a place for a replica, and see that it can be one
///
/// Writes a table into haven.toml (or prints it, where the file may not be written), and a note into the place on what it
/// is going to be. Nothing is copied yet. A place with credentials of its own needs its table first, with them in it
/// ([replica.NAME.store…], as [store…]); then this only looks at the place.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haven replica add disk file:///mnt/usb/haven\n  haven replica add far 's3://photos-copy/haven?endpoint=https://s3.example.org&region=fsn1'\n  haven replica add attic sftp://backup@nas/haven --from far    a copy of the copy"
)]
pub struct AddArgs {
    /// What to call it
    name: String,
    /// Where: s3://bucket/prefix, sftp://user@host/path, webdavs://host/path, or file:///path [default: its url in
    /// haven.toml]
    url: Option<String>,
    /// Copy this instead of the library: another replica's name, or a URL
    #[arg(long, value_name = "NAME|URL")]
    from: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

/// Follow the library no more with a replica
///
/// Takes its table out of haven.toml. What was copied stays where it is, and stays a library that can be read.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    name: String,
}

pub async fn add(context: &Context, args: AddArgs) -> Result<(), Trouble> {
    let name = &args.name;
    replicas::check_name(name).map_err(|why| {
        Trouble::new(Code::Usage, format!("a replica can't be called {name:?}")).because(why).meaning(UNTOUCHED)
    })?;
    let known = context.config.replicas.get(name);
    let url = args.url.as_deref().map(super::super::absolute);
    let (url, from) = match (known, url) {
        (Some(known), url) if url.as_ref().is_none_or(|url| *url == known.own.url) && args.from.is_none() => {
            (known.own.url.clone(), known.own.from.clone())
        }
        (Some(known), _) => {
            return Err(Trouble::new(Code::Occupied, format!("there is a replica called {name} already"))
                .because(format!("it is at {}", known.own.url))
                .meaning(UNTOUCHED)
                .next(format!("haven replica sync {name}    brings it up to date"))
                .next(format!("haven replica remove {name}    forgets it")));
        }
        (None, Some(url)) => (url, args.from.clone()),
        (None, None) => {
            return Err(Trouble::new(Code::Usage, format!("where is the replica {name} to be?"))
                .meaning(UNTOUCHED)
                .next(format!("haven replica add {name} URL")));
        }
    };
    let written_already = known.is_some();
    let (source, _) = source_of(&context.config, from.as_deref())?;
    super::ensure_own(&context.config, name, &url, from.as_deref())?;
    let with = with_replica(&context.config, name, &url, from.as_deref())?;
    let context_with = Context { config: with, json: context.json };
    let opened = open(&context_with, name, &args.key).await?;
    let mut replicator = Replicator::new(
        opened.source.store.clone(),
        opened.replica.store.clone(),
        &opened.keys,
        world(),
        opened.options(name),
        None,
    );
    replicator.establish().await.map_err(|error| replica_trouble(name, &error))?;
    let written = context.config.own_file().map(|path| {
        let write = || replicas::write(&path, name, &url, from.as_deref());
        let outcome = if written_already { Ok(()) } else { write() };
        (path, outcome)
    });
    let lines = replicas::lines(name, &url, from.as_deref());
    let mut told = format!("replica {name} at {}\n", opened.replica.store.describe());
    let file = match written {
        Some((path, Ok(()))) => {
            if !written_already {
                told += &format!("written to {}\n", path.display());
            }
            Some(path)
        }
        other => {
            if let Some((_, Err(trouble))) = other {
                report::warn(format!("{}: {}", trouble.what, trouble.because.join("; ")));
            }
            told += &format!("\nWrite this into haven.toml:\n\n{lines}\n");
            None
        }
    };
    told += &format!("\nNothing is copied yet: haven replica sync {name}\n");
    context
        .answer(&serde_json::json!({ "name": name, "url": url, "from": source, "file": file, "lines": lines }), &told)
}

/// The settings as if they had this replica; and its place is made where that is a directory.
fn with_replica(config: &Config, name: &str, url: &str, from: Option<&str>) -> Result<Config, Trouble> {
    let mut with = config.clone();
    if !with.replicas.contains_key(name) {
        let text = config.from.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let text = text + "\n" + &replicas::lines(name, url, from);
        with = Config { from: config.from.clone(), ..Config::from_text(&text, "haven.toml")? };
    }
    if let Some(one) = with.replicas.get_mut(name) {
        one.own.store = StoreOptions { create: true, ..one.own.store.clone() };
    }
    Ok(with)
}

pub fn remove(context: &Context, args: RemoveArgs) -> Result<(), Trouble> {
    let url = context.config.replica(&args.name)?.own.url.clone();
    if let Some((other, _)) =
        context.config.replicas.iter().find(|(_, one)| one.own.from.as_deref() == Some(args.name.as_str()))
    {
        return Err(Trouble::new(Code::Usage, format!("the replica {other} is a copy of {}", args.name))
            .meaning(UNTOUCHED)
            .next(format!("let {other} follow something else first: replica.{other}.from in haven.toml")));
    }
    let path = context.config.own_file().ok_or_else(|| Trouble::new(Code::Local, "there is no settings file"))?;
    replicas::erase(&path, &args.name)?;
    let told = format!(
        "{} is followed no more. What was copied is still at {url}: delete it there when you are sure.\n",
        args.name
    );
    context.answer(&serde_json::json!({ "name": args.name, "url": url }), &told)
}

/// `14d`, for a table.
pub fn shown(duration: std::time::Duration) -> String {
    human::show_duration(duration)
}
