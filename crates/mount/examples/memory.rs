//! Mounts an empty library that lives in memory and is gone when this ends: for suites that want a mount, and for
//! profiling everything above the vault.
//!
//!     memory MOUNTPOINT [--cache DIR] [--background] [--allow-other] [--read-only] [--writeback] [--threads N]

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use haven_format::{Keys, LibraryId, MasterKey, record::Time};
use haven_fs::{Clock, Fs};
use haven_mount::{
    Ending, Host, MountOptions, Session, Signals,
    background::{self, Background, PidFile, Started},
    control::{Control, Locator, Progress, Refusal, Request, SOCKET, Server},
    mount, serve,
};
use haven_vault::Vault;
use serde_json::{Value, json};

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time { seconds: now.as_secs().cast_signed(), nanos: now.subsec_nanos() }
    }
}

/// Nothing outlives this process, so there is nothing to upload.
struct Nowhere;

#[async_trait::async_trait]
impl Host for Nowhere {
    async fn drain(&self) -> Result<(), String> {
        Ok(())
    }
}

struct Commands(Session);

#[async_trait::async_trait]
impl Control for Commands {
    async fn answer(&self, request: Request, progress: &Progress) -> Result<Value, Refusal> {
        match request.verb.as_str() {
            "status" => Ok(json!({ "waiting": self.0.waiting(), "metrics": self.0.metrics().snapshot() })),
            "umount" => {
                progress.tell(json!({ "state": "unmounting" }));
                self.0.unmount(request.flag("lazy")).map_err(|e| Refusal::new("busy", e.to_string()))?;
                self.0.ended().await;
                Ok(json!({}))
            }
            other => Err(Refusal::unknown(other)),
        }
    }
}

struct Arguments {
    mountpoint: PathBuf,
    cache: Option<PathBuf>,
    background: bool,
    options: MountOptions,
}

fn arguments() -> Option<Arguments> {
    let mut words = env::args().skip(1);
    let (mut mountpoint, mut cache, mut background) = (None, None, false);
    let mut options = MountOptions::new("memory:");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--cache" => cache = Some(PathBuf::from(words.next()?)),
            "--background" => background = true,
            "--allow-other" => options.allow_other = true,
            "--read-only" => options.read_only = true,
            "--writeback" => options.writeback_cache = true,
            "--threads" => options.threads = words.next()?.parse().ok()?,
            _ => mountpoint = Some(PathBuf::from(word)),
        }
    }
    Some(Arguments { mountpoint: mountpoint?, cache, background, options })
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: memory MOUNTPOINT [--cache DIR] [--background] [--allow-other] [--read-only] [--writeback]");
        return ExitCode::from(2);
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let word = match Background::take_over() {
        Ok(word) => word,
        Err(e) => return complain(&e),
    };
    if arguments.background && word.is_none() {
        return match background::start(&[]) {
            Ok(Started::Ready { .. }) => ExitCode::SUCCESS,
            Ok(Started::Failed { exit }) => ExitCode::from(exit),
            Err(e) => complain(&e),
        };
    }
    run(arguments, word)
}

fn complain(e: &dyn std::error::Error) -> ExitCode {
    eprintln!("memory: {e}");
    ExitCode::FAILURE
}

#[tokio::main(worker_threads = 2)]
async fn run(mut arguments: Arguments, word: Option<Background>) -> ExitCode {
    let cache = arguments.cache.take();
    arguments.options.control = cache.as_ref().map(|dir| Locator {
        pid: std::process::id(),
        socket: dir.join(SOCKET),
        url: arguments.options.source.clone(),
        cache: dir.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
    });
    let signals = match Signals::take() {
        Ok(signals) => signals,
        Err(e) => return complain(&e),
    };
    let keys = Keys::new(LibraryId([0; 16]), &MasterKey([0; 32]));
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = haven_fs::Options { owner, ..Default::default() };
    let mounted = Fs::start(Vault::in_memory(), keys, Arc::new(SystemClock), options)
        .map_err(|e| Box::new(e) as Box<dyn std::error::Error + Send + Sync>)
        .and_then(|fs| {
            let runtime = tokio::runtime::Handle::current();
            Ok(mount(fs, &arguments.mountpoint, &arguments.options, runtime)?)
        });
    let session = match mounted {
        Ok(session) => session,
        Err(e) => {
            complain(&*e);
            return word.map_or(ExitCode::FAILURE, |word| word.failed(1));
        }
    };
    let beside = cache.as_ref().map(|dir| {
        Ok::<_, std::io::Error>((
            Server::start(dir, Arc::new(Commands(session.clone())))?,
            PidFile::write(&dir.join("pid"))?,
        ))
    });
    let beside = match beside.transpose() {
        Ok(beside) => beside,
        Err(e) => return complain(&e),
    };
    if let Some(word) = word
        && let Err(e) = word.ready(session.point(), None)
    {
        return complain(&e);
    }
    let ending = serve(&session, &Nowhere, signals).await;
    if let Some((server, _pid_file)) = beside {
        server.finish().await;
    }
    match ending {
        Ending::Complete | Ending::Detached | Ending::Interrupted => ExitCode::SUCCESS,
        Ending::Failed(why) => {
            eprintln!("memory: {why}");
            ExitCode::FAILURE
        }
    }
}
