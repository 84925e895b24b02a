//! What a bucket with versions keeps: every body that was put, marks of deletion, and locks.

use bytes::Bytes;
use parking_lot::Mutex;

/// All versions of all objects, oldest first.
#[derive(Debug, Default)]
pub(super) struct Versions {
    kept: Mutex<Vec<Version>>,
}

#[derive(Debug)]
struct Version {
    name: String,
    id: String,
    /// `None`: a mark of deletion.
    body: Option<Bytes>,
    lock: Option<Lock>,
}

#[derive(Debug)]
struct Lock {
    is_compliance: bool,
    /// As `2026-11-23T04:46:29Z`, which sorts by time.
    until: String,
}

impl Versions {
    /// Keeps a version and tells its id. `lock`: its mode, and until when.
    pub(super) fn add(&self, name: &str, body: Bytes, lock: Option<(&str, &str)>) -> String {
        let lock = lock.map(|(mode, until)| Lock { is_compliance: mode == "COMPLIANCE", until: until.to_owned() });
        self.keep(name, Some(body), lock)
    }

    pub(super) fn mark_deleted(&self, name: &str) {
        self.keep(name, None, None);
    }

    fn keep(&self, name: &str, body: Option<Bytes>, lock: Option<Lock>) -> String {
        let id = format!("v{:016x}", rand::random::<u64>());
        self.kept.lock().push(Version { name: name.to_owned(), id: id.clone(), body, lock });
        id
    }

    pub(super) fn get(&self, name: &str, id: &str) -> Option<Bytes> {
        let kept = self.kept.lock();
        kept.iter().find(|version| version.name == name && version.id == id)?.body.clone()
    }

    /// Removes a version; false if its lock forbids it. `lift`: with the right to lift locks of governance mode.
    pub(super) fn remove(&self, name: &str, id: &str, lift: bool, now: i64) -> bool {
        let now = time(now);
        let mut kept = self.kept.lock();
        let Some(at) = kept.iter().position(|version| version.name == name && version.id == id) else { return true };
        if kept[at].lock.as_ref().is_some_and(|lock| lock.until > now && (lock.is_compliance || !lift)) {
            return false;
        }
        kept.remove(at);
        true
    }

    /// All below a prefix, in S3's words.
    pub(super) fn list(&self, prefix: &str) -> String {
        let kept = self.kept.lock();
        let element = |version: &Version| {
            let kind = if version.body.is_some() { "Version" } else { "DeleteMarker" };
            format!("<{kind}><Key>{}</Key><VersionId>{}</VersionId></{kind}>", version.name, version.id)
        };
        let below: String = kept.iter().filter(|version| version.name.starts_with(prefix)).map(element).collect();
        format!("<ListVersionsResult>{below}</ListVersionsResult>")
    }

    pub(super) fn count(&self) -> usize {
        self.kept.lock().len()
    }
}

/// `2026-11-23T04:46:29Z`.
fn time(seconds: i64) -> String {
    let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds.max(0).cast_unsigned());
    let http = httpdate::fmt_http_date(at);
    // `Mon, 23 Nov 2026 04:46:29 GMT`
    let words: Vec<&str> = http.split(' ').collect();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = 1 + months.iter().position(|month| *month == words[2]).unwrap_or_default();
    format!("{}-{month:02}-{}T{}Z", words[3], words[1], words[4])
}
