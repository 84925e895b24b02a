//! `haven-rescue`: the reader as a program.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use haven_format::keys::Secret;
use haven_rescue::{Library, restore};
use haven_store::StoreOptions;
use zeroize::Zeroizing;

/// Read a whole Haven library back into a directory, with nothing but the store and a key
///
/// A last resort, and a second opinion: it shares no code with `haven` but the format and the store. Exit code 0 when
/// everything is whole, 6 when something was damaged (what could be read is there), 1 when nothing could be done.
#[derive(Debug, Parser)]
#[command(name = "haven-rescue", version, max_term_width = 100)]
struct Args {
    /// s3://bucket/prefix, or file:///path
    url: String,
    /// An empty or new directory
    directory: PathBuf,
    #[command(flatten)]
    key: Key,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Key {
    /// The passphrase is in this file; a newline at its end does not count
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// This file is a key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The 24 words of the recovery key are in this file
    #[arg(long, value_name = "FILE")]
    recovery_words: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error>;

impl Key {
    fn read(&self) -> Result<Secret, Failure> {
        let content =
            |path: &PathBuf| std::fs::read(path).map(Zeroizing::new).map_err(|e| format!("{}: {e}", path.display()));
        if let Some(path) = &self.key_file {
            return Ok(Secret::key_file(&content(path)?)?);
        }
        if let Some(path) = &self.recovery_words {
            return Ok(Secret::recovery(&String::from_utf8_lossy(&content(path)?))?);
        }
        let path = self.passphrase_file.as_ref().ok_or("no key was named")?;
        let mut bytes = content(path)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Ok(Secret::passphrase(bytes.to_vec())?)
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(6),
        Err(error) => {
            eprintln!("haven-rescue: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True when everything was whole.
#[tokio::main(flavor = "current_thread")]
async fn run(args: &Args) -> Result<bool, Failure> {
    let secret = args.key.read()?;
    std::fs::create_dir_all(&args.directory)?;
    if std::fs::read_dir(&args.directory)?.next().is_some() {
        return Err(format!("{} is not empty", args.directory.display()).into());
    }
    let store = haven_store::open(&args.url, &StoreOptions::default())?;
    let mut library = Library::open(store, &secret).await?;
    let records = library.records().await?;
    eprintln!("haven-rescue: {} records", records.len());
    let restored = restore(&mut library, &records, &args.directory).await?;
    for told in &library.passed_over {
        println!("passed over: {told}");
    }
    for (path, why) in &restored.damaged {
        println!("damaged: {}: {why}", path.display());
    }
    println!(
        "{} files with {} bytes, {} folders, {} links",
        restored.files, restored.bytes, restored.folders, restored.links
    );
    Ok(restored.damaged.is_empty() && library.passed_over.is_empty())
}
