//! What a service manager is told (sd_notify(3)), where there is one.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// How much more time is asked for while something is under way. It is asked for again each second.
const MORE: Duration = Duration::from_secs(60);

/// Tells it lines such as `READY=1`.
pub fn tell(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|to| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &to));
    if let Err(error) = sent {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// One line on how things are.
pub fn status(text: &str) {
    tell(&format!("STATUS={}", text.replace('\n', " ")));
}

/// The same while a start or a stop takes its time.
pub fn busy(text: &str) {
    tell(&format!("STATUS={}\nEXTEND_TIMEOUT_USEC={}", text.replace('\n', " "), MORE.as_micros()));
}

/// How often it wants to hear that this process lives; none: it does not ask.
pub fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros)
}
