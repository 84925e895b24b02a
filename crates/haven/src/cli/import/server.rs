//! Where the server is, and the key to it.

use std::path::{Path, PathBuf};

use clap::ArgAction;
use haven_import::{immich, server::ServerError};

use crate::report::{Code, Trouble, UNTOUCHED};

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub struct WhereArgs {
    /// Immich's own address: http://nas:2283. A proxy before it may limit the length of uploads
    #[arg(long, short = 's', value_name = "URL", env = "HAVEN_IMMICH_SERVER", help_heading = "Server")]
    pub server: Option<String>,
    /// The file with the API key
    #[arg(long, short = 'k', value_name = "FILE", env = "HAVEN_IMMICH_API_KEY_FILE", help_heading = "Server")]
    pub api_key_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted besides the system's
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub ca_file: Option<PathBuf>,
}

/// Where it is, and how it is spoken with.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    #[command(flatten)]
    pub place: WhereArgs,
    /// The file with an administrator's API key, to pause background work [default: the API key]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub admin_api_key_file: Option<PathBuf>,
    /// Pause the server's heavy background work until the import ends
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set, help_heading = "Server")]
    pub pause_immich_jobs: bool,
    /// Uploads at once, at most; how many there are follows from how the server keeps up
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Server")]
    pub concurrent_tasks: u16,
    /// stop at the first file that fails, go on, or stop after N
    #[arg(long, value_name = "stop|continue|N", default_value = "continue", value_parser = on_errors, help_heading = "Server")]
    pub on_errors: OnErrors,
    /// How long a server that is away is waited for
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = haven_store::human::parse_duration, help_heading = "Server")]
    pub wait: std::time::Duration,
}

/// After how many failures all stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnErrors(pub Option<u64>);

fn on_errors(text: &str) -> Result<OnErrors, String> {
    match text {
        "stop" => Ok(OnErrors(Some(1))),
        "continue" => Ok(OnErrors(None)),
        number => number
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .map(|n| OnErrors(Some(n)))
            .ok_or_else(|| "stop, continue, or a number of failures".to_owned()),
    }
}

/// Opens the server at `address`, with the key in `file`.
pub async fn open(
    place: &WhereArgs,
    file: Option<&Path>,
    address: &str,
) -> Result<Result<haven_immich::Immich, ServerError>, Trouble> {
    let file = file.ok_or_else(|| {
        Trouble::new(Code::NoSecret, "no API key was given")
            .meaning(UNTOUCHED)
            .next("--api-key-file FILE; a key is made in Immich: account settings, API keys")
    })?;
    let settings = haven_immich::Settings {
        address: address.to_owned(),
        key: key(file)?,
        ca_file: place.ca_file.clone(),
        timeouts: haven_immich::Timeouts::default(),
    };
    Ok(immich::open(settings).await)
}

/// Reads a key from a file.
pub fn key(path: &Path) -> Result<zeroize::Zeroizing<String>, Trouble> {
    let text = std::fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(|error| {
        Trouble::new(Code::NoSecret, format!("the API key can't be read from {}", path.display()))
            .caused_by(&error)
            .meaning(UNTOUCHED)
            .next("make a key in Immich: account settings, API keys; put it alone into a file that only you can read")
    })?;
    let key = text.trim();
    if key.is_empty() || key.chars().any(char::is_whitespace) {
        return Err(Trouble::new(Code::BadSecret, format!("what is in {} is no API key", path.display()))
            .because(if key.is_empty() { "the file is empty" } else { "there is more than one word in it" })
            .meaning(UNTOUCHED));
    }
    Ok(zeroize::Zeroizing::new(key.to_owned()))
}
