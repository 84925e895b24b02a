//! `haven key`: who may open the library. No data is written again, whatever changes here.

use std::path::PathBuf;

use haven_format::{
    config::{ConfigError, OpenConfig},
    keys::{Argon2Cost, RecoveryKey, Secret, Slot, SlotKind, kit::Kit},
};
use haven_store::DynStore;
use serde::Serialize;

use super::{Context, UrlArg, init::write_kit, replica::source_of};
use crate::{
    library::{self, Found, dice},
    report::{self, Code, Trouble, UNTOUCHED},
    secret::{KeyArgs, NewKeyArgs},
    words,
};

/// List, add, change and remove the keys that open a library
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(ListArgs),
    Add(AddArgs),
    Change(ChangeArgs),
    Remove(RemoveArgs),
    Recovery(RecoveryArgs),
}

/// Show which keys there are; needs none of them
#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    url: UrlArg,
}

/// Let another passphrase or key file open the library too
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven key add s3://photos/haven --new-key-file /etc/haven/key --label nas")]
struct AddArgs {
    #[command(flatten)]
    url: UrlArg,
    /// What to call it
    #[arg(long, default_value = "")]
    label: String,
    #[command(flatten)]
    new: NewKeyArgs,
    #[command(flatten)]
    key: KeyArgs,
}

/// Put a new passphrase or key file in the place of the one that unlocks now
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven key change s3://photos/haven")]
struct ChangeArgs {
    #[command(flatten)]
    url: UrlArg,
    /// Change this key instead (its number in `haven key list`)
    #[arg(long, value_name = "NUMBER")]
    id: Option<u32>,
    #[command(flatten)]
    new: NewKeyArgs,
    #[command(flatten)]
    key: KeyArgs,
}

/// Take a key away
///
/// From then on it opens nothing. Who used it before may have kept what it gave: against them only a new library helps.
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    #[command(flatten)]
    url: UrlArg,
    /// Its number in `haven key list`
    #[arg(long, value_name = "NUMBER")]
    id: u32,
    /// Even if it is what this machine opens the library with, by the environment, haven.toml or haven.service
    #[arg(long)]
    although_in_use: bool,
    #[command(flatten)]
    key: KeyArgs,
}

/// Make a new recovery key; the old one opens nothing any more
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  haven key recovery s3://photos/haven --recovery-key-file kit.html")]
struct RecoveryArgs {
    #[command(flatten)]
    url: UrlArg,
    /// Write the new recovery key here; the file must not exist yet
    #[arg(long, value_name = "PATH")]
    recovery_key_file: Option<PathBuf>,
    /// Keep the old recovery key beside the new one
    #[arg(long)]
    keep_old: bool,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: u32,
    kind: &'static str,
    label: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    argon2id: Option<Cost>,
}

#[derive(Debug, Serialize)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

pub async fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    match args.command {
        Command::List(args) => list(context, args).await,
        Command::Add(args) => add(context, args).await,
        Command::Change(args) => change(context, args).await,
        Command::Remove(args) => remove(context, args).await,
        Command::Recovery(args) => recovery(context, args).await,
    }
}

/// A library that was found, and unlocked to change its keys.
struct Unlocked {
    url: String,
    store: DynStore,
    found: Found,
    open: OpenConfig,
}

async fn unlock(context: &Context, url: &UrlArg, key: &KeyArgs) -> Result<Unlocked, Trouble> {
    let place = url.place(&context.config)?;
    let store = library::open_place(&place)?.store;
    let url = place.url;
    let found = library::find(&store).await?;
    let open = found.unlock(&key.source(&context.config.key).read()?)?;
    Ok(Unlocked { url, store, found, open })
}

async fn list(context: &Context, args: ListArgs) -> Result<(), Trouble> {
    let store = library::open_place(&args.url.place(&context.config)?)?.store;
    let found = library::find(&store).await?;
    let locked = found.locked();
    let keys: Vec<Shown> = locked.content().slots.iter().map(shown).collect();
    let rows: Vec<_> = locked
        .content()
        .slots
        .iter()
        .map(|slot| [slot.id.to_string(), slot.kind().word().to_owned(), words::day(slot.created), slot.label.clone()])
        .collect();
    let text = format!("library {}\n\n{}", locked.library(), words::table(["ID", "KIND", "MADE", "LABEL"], &rows));
    context.answer(&serde_json::json!({ "library": locked.library().to_string(), "keys": keys }), &text)
}

fn shown(slot: &Slot) -> Shown {
    let cost = slot.cost.map(|cost| Cost { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes });
    Shown {
        id: slot.id,
        kind: slot.kind().word(),
        label: slot.label.clone(),
        created: words::iso(slot.created),
        argon2id: cost,
    }
}

async fn add(context: &Context, args: AddArgs) -> Result<(), Trouble> {
    let mut library = unlock(context, &args.url, &args.key).await?;
    let secret = args.new.source().read_new()?;
    let id = library
        .open
        .add(&secret, &args.label, Argon2Cost::RECOMMENDED, words::now(), &mut dice)
        .map_err(|error| refused(&error))?;
    library::write(&library.store, &library.open).await?;
    let text = format!("key {id} opens the library too: a {}\n", secret.kind().word());
    context.answer(&serde_json::json!({ "added": id }), &text)
}

async fn change(context: &Context, args: ChangeArgs) -> Result<(), Trouble> {
    let mut library = unlock(context, &args.url, &args.key).await?;
    let old = args.id.unwrap_or(library.open.slot());
    if slot_kind(&library.open, old) == Some(SlotKind::Recovery) {
        return Err(Trouble::new(Code::Key, format!("key {old} is the recovery key, which only Haven makes"))
            .meaning(UNTOUCHED)
            .next("haven key recovery    makes a new one in its place")
            .next("haven key change --id NUMBER    changes another key; haven key list shows the numbers"));
    }
    let secret = args.new.source().read_new()?;
    let id = library
        .open
        .change(old, &secret, Argon2Cost::RECOMMENDED, words::now(), &mut dice)
        .map_err(|error| refused(&error))?;
    library::write(&library.store, &library.open).await?;
    library::delete_older(&library.store, &library.found, &library.open).await;
    let replicas = replicas_of(context, &library.url);
    let text = format!("key {id}, a {}, is in the place of key {old}\n", secret.kind().word()) + &still_open(&replicas);
    context.answer(&serde_json::json!({ "added": id, "removed": old, "replicas": replicas }), &text)
}

async fn remove(context: &Context, args: RemoveArgs) -> Result<(), Trouble> {
    let mut library = unlock(context, &args.url, &args.key).await?;
    let slot = library.open.remove(args.id).map_err(|error| refused(&error))?;
    if !args.although_in_use {
        ensure_unneeded(context, &library.found, args.id)?;
    }
    if slot.kind() == SlotKind::Recovery && !has_kind(&library.open, SlotKind::Recovery) {
        report::warn(
            "that was the recovery key: if the other keys are lost, nothing opens the library (haven key recovery makes a new one)",
        );
    }
    library::write(&library.store, &library.open).await?;
    library::delete_older(&library.store, &library.found, &library.open).await;
    let replicas = replicas_of(context, &library.url);
    let text = match replicas.is_empty() {
        true => format!("key {} opens nothing any more\n", slot.id),
        false => format!("key {} opens the library no more\n", slot.id) + &still_open(&replicas),
    };
    context.answer(&serde_json::json!({ "removed": slot.id, "replicas": replicas }), &text)
}

/// The next start of this machine must not stand before a closed door.
fn ensure_unneeded(context: &Context, found: &Found, id: u32) -> Result<(), Trouble> {
    for source in KeyArgs::standing(&context.config.key) {
        // What can't be read opens nothing.
        let Ok(secret) = source.read() else { continue };
        if found.unlock(&secret).is_ok_and(|open| open.slot() == id) {
            return Err(Trouble::new(Code::Key, format!("key {id} is what this machine opens the library with"))
                .because(format!("it is in {}", source.words()))
                .meaning("the keys are as they were; without it the next mount here would fail")
                .next("haven key change    puts another one in its place")
                .next("or name another source in haven.toml first; --although-in-use takes it away all the same"));
        }
    }
    Ok(())
}

async fn recovery(context: &Context, args: RecoveryArgs) -> Result<(), Trouble> {
    let mut library = unlock(context, &args.url, &args.key).await?;
    let old: Vec<u32> = library
        .open
        .content()
        .slots
        .iter()
        .filter(|slot| slot.kind() == SlotKind::Recovery)
        .map(|slot| slot.id)
        .collect();
    let mut bytes = [0; 32];
    dice(&mut bytes);
    let key = RecoveryKey::new(bytes);
    let made = words::day(words::now());
    let label = format!("made on {made}");
    let id = library
        .open
        .add(&Secret::Recovery(key.clone()), &label, Argon2Cost::RECOMMENDED, words::now(), &mut dice)
        .map_err(|error| refused(&error))?;
    let removed = if args.keep_old { Vec::new() } else { old };
    for id in &removed {
        library.open.remove(*id).map_err(|error| refused(&error))?;
    }
    let place = library.store.describe();
    let kit = Kit { key: &key, library: library.open.library(), place: &place, made: &made };
    if let Some(path) = &args.recovery_key_file {
        write_kit(path, &kit)?;
    }
    library::write(&library.store, &library.open).await?;
    if !removed.is_empty() {
        library::delete_older(&library.store, &library.found, &library.open).await;
    }
    let words = args.recovery_key_file.is_none().then(|| key.words().join(" "));
    let text = match &args.recovery_key_file {
        Some(path) => format!(
            "The new recovery key is in {}: print it, keep it away from this machine, delete the file.\n",
            path.display()
        ),
        None => kit.text(),
    };
    let replicas = if removed.is_empty() { Vec::new() } else { replicas_of(context, &library.url) };
    let text = text + &still_open(&replicas);
    let value = serde_json::json!({ "added": id, "removed": removed, "replicas": replicas, "recovery_key_file": args.recovery_key_file, "recovery_words": words });
    context.answer(&value, &text)
}

/// The replicas in haven.toml, if they are of the library at `url`: directly, or by way of another replica.
fn replicas_of(context: &Context, url: &str) -> Vec<String> {
    let source = |from: Option<&str>| source_of(&context.config, from).ok().map(|(url, _)| url);
    let all = &context.config.replicas;
    let ours = all.values().any(|one| source(one.own.from.as_deref()).is_some_and(|source| source == url));
    if ours { all.keys().cloned().collect() } else { Vec::new() }
}

/// What is still to be done after a key was taken away.
fn still_open(replicas: &[String]) -> String {
    let mut out = String::new();
    if !replicas.is_empty() {
        out += "\nUntil they have been brought up to date, what was taken away still opens the replicas:\n";
    }
    for name in replicas {
        out += &format!("    haven replica sync {name}\n");
    }
    out
}

fn slot_kind(open: &OpenConfig, id: u32) -> Option<SlotKind> {
    open.content().slots.iter().find(|slot| slot.id == id).map(Slot::kind)
}

fn has_kind(open: &OpenConfig, kind: SlotKind) -> bool {
    open.content().slots.iter().any(|slot| slot.kind() == kind)
}

fn refused(error: &ConfigError) -> Trouble {
    let trouble = Trouble::new(Code::Key, error.to_string()).meaning("the keys are as they were");
    match error {
        ConfigError::LastSlot { .. } => trouble.next("haven key add    first, then remove this one"),
        ConfigError::UnknownSlot { .. } => trouble.next("haven key list    shows the numbers"),
        _ => trouble.next("haven key remove    makes room"),
    }
}
