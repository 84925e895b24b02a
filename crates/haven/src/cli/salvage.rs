//! `haven salvage`: what this machine accepted and could not send, as plain files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use haven_vault::Vault;

use super::Context;
use crate::{
    library,
    report::{Code, Trouble, UNTOUCHED},
    saved::{Salvage, SaveError, Saved},
    secret::KeyArgs,
    wire, words,
};

/// Save what a cache directory holds and the bucket does not, as plain files
///
/// For a machine that was fenced out: another one went on writing, and what this one had not sent can't be joined on any
/// more. Each file it had changed is written below DIR under its path in the library. The library is not written to.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  haven salvage --cache /var/cache/haven --to /home/me/saved\n  haven mount s3://photos/haven /mnt/photos --cache /var/cache/haven-2\n  cp -a --update=none /home/me/saved/. /mnt/photos/"
)]
pub struct Args {
    /// The cache directory of the mount that was fenced out
    #[arg(long, value_name = "DIR", env = "HAVEN_CACHE", hide_env = true)]
    cache: PathBuf,
    /// Where the files go: a directory that is empty or does not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The library, if it has moved since it was mounted with that cache
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// When all is saved, forget it in the cache directory, so that a mount may use that again
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    key: KeyArgs,
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let runtime = wire::runtime()?;
    let saved = runtime.block_on(save(context, &args));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    let saved = saved?;
    let mut text = format!(
        "{} with {} saved in {}\n",
        words::count(saved.files.len(), "file"),
        words::bytes(saved.bytes),
        args.to.display()
    );
    for (path, why) in &saved.failed {
        text += &format!("not whole: {}: {why}\n", path.display());
    }
    context.answer(&saved, &text)?;
    if saved.failed.is_empty() {
        return Ok(());
    }
    Err(Trouble::new(Code::Damaged, format!("{} could not be read whole", words::count(saved.failed.len(), "file")))
        .meaning("the cache directory is as it was: nothing in it was forgotten"))
}

async fn save(context: &Context, args: &Args) -> Result<Saved, Trouble> {
    let url = url(args)?;
    prepare(&args.to)?;
    let stack = library::open_place(&context.config.place(&url))?;
    let open = library::find(&stack.store).await?.unlock(&args.key.source(&context.config.key).read()?)?;
    let world = wire::world(&stack, wire::local_disk(&args.cache)?);
    let mut config = context.config.clone();
    config.mount.read_only = true;
    // The limit is for what is added: what is there already may be more than this command's default.
    config.cache.size = config.cache.size.max(64 << 30);
    let options = haven_vault::Options { salvage: true, ..wire::vault_options(&config) };
    let vault = wire::vault(world.clone(), open.keys(), options).await?;
    let inodes = vault.unsent_inodes();
    let outcome = match wire::file_system(&vault, open.keys(), &config).await {
        Ok(fs) => Salvage::new(&vault, &fs, &args.to).save(&inodes).await.map_err(|error| failed(&error)),
        // Not even a root directory: nothing was ever written.
        Err(_) if inodes.is_empty() => Ok(Saved::default()),
        Err(error) => Err(wire::fs_trouble(&error)),
    };
    _ = vault.close(false).await;
    let saved = outcome?;
    if args.forget && saved.failed.is_empty() {
        Vault::forget_unsent(&world)
            .map_err(|error| wire::vault_trouble("what is saved can't be forgotten", &error))?;
    }
    Ok(saved)
}

/// The library that the cache was last used for.
fn url(args: &Args) -> Result<String, Trouble> {
    if let Some(url) = &args.url {
        return Ok(super::absolute(url));
    }
    let path = args.cache.join("mount.json");
    let unknown = || {
        Trouble::new(Code::Usage, format!("{} does not tell whose cache it is", args.cache.display()))
            .meaning(UNTOUCHED)
    };
    let text = fs::read_to_string(&path)
        .map_err(|error| unknown().caused_by(&error).next("check the path, or name the library too: --url URL"))?;
    let value: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| unknown().caused_by(&error).next("name the library too: --url URL"))?;
    value["url"].as_str().map(str::to_owned).ok_or_else(|| unknown().next("name the library too: --url URL"))
}

fn prepare(to: &Path) -> Result<(), Trouble> {
    let failed = |error: &std::io::Error| {
        Trouble::new(Code::Local, format!("{} can't be used", to.display()))
            .caused_by(error)
            .meaning(UNTOUCHED)
            .next("name a directory that this user may write to")
    };
    fs::create_dir_all(to).map_err(|error| failed(&error))?;
    let mut entries = fs::read_dir(to).map_err(|error| failed(&error))?;
    if entries.next().is_some() {
        return Err(Trouble::new(Code::Occupied, format!("{} is not empty", to.display()))
            .meaning("nothing was written: files there might be replaced")
            .next("name an empty directory, or one that does not exist"));
    }
    Ok(())
}

fn failed(error: &SaveError) -> Trouble {
    let code = if matches!(error, SaveError::Write { .. }) { Code::Local } else { Code::Damaged };
    Trouble::new(code, "not everything could be saved")
        .because(error.to_string())
        .meaning("the cache directory is as it was; what was saved until then is whole")
        .next("mend what the message names, and salvage again into an empty directory")
}
