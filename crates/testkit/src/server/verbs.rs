//! S3's verbs on a store of ours.

use bytes::Bytes;
use data_encoding::BASE64;
use haven_store::{DynStore, ObjectMeta, ObjectName, PutMode, StoreError};
use md5::{Digest, Md5};

use super::{Habits, Reply, Seen, State, now};

/// A request, and what it is about.
struct Call<'a> {
    state: &'a State,
    habits: &'a Habits,
    seen: &'a Seen,
    store: DynStore,
    bucket: String,
    /// Without its question mark.
    query: &'a str,
}

impl Call<'_> {
    fn value(&self, key: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(decode)
    }
}

/// Does what the request asks for.
pub(super) async fn perform(state: &State, habits: &Habits, seen: &Seen, body: Bytes) -> Reply {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let path = decode(path);
    let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    let Some(store) = state.buckets.lock().get(bucket).cloned() else {
        return Reply::error(404, "NoSuchBucket", None);
    };
    let call = Call { state, habits, seen, store, bucket: bucket.to_owned(), query };
    let done = match (seen.method.as_str(), key) {
        ("GET", "") if call.value("versions").is_some() => {
            Ok(Reply::new(200, state.versions.list(&call.value("prefix").unwrap_or_default())))
        }
        ("GET", "") => list(&call).await,
        (method, key) => match ObjectName::new(key) {
            Ok(name) => object(&call, method, &name, body).await,
            Err(_) => Ok(Reply::error(400, "InvalidArgument", None)),
        },
    };
    done.unwrap_or_else(|error| refusal(&error))
}

async fn object(call: &Call<'_>, method: &str, name: &ObjectName, body: Bytes) -> Result<Reply, StoreError> {
    let (store, versions) = (&call.store, &call.state.versions);
    let version = call.value("versionId");
    match (method, version) {
        ("PUT", _) => match call.seen.header("x-amz-copy-source") {
            Some(source) => copy(call, &decode(source), name).await,
            None => put(call, name, body).await,
        },
        ("GET", Some(id)) => Ok(match versions.get(name.as_str(), &id) {
            Some(body) => Reply::new(200, body),
            None => Reply::error(404, "NoSuchVersion", None),
        }),
        ("GET", None) => get(call, name).await,
        ("HEAD", _) => {
            let meta = store.head(name).await?;
            let length = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
            // The body is not sent, but its length is told.
            Ok(Reply::new(200, vec![0_u8; length]).with("etag", meta.etag.unwrap_or_default()))
        }
        ("DELETE", Some(id)) => {
            let lift = call.seen.header("x-amz-bypass-governance-retention") == Some("true");
            let lift = lift && !call.habits.lifts_no_locks;
            Ok(match versions.remove(name.as_str(), &id, lift, now() + call.habits.clock_seconds) {
                true => Reply::new(204, ""),
                false => Reply::error(403, "AccessDenied", None),
            })
        }
        ("DELETE", None) => {
            store.delete(name).await?;
            if call.habits.keeps_versions {
                versions.mark_deleted(name.as_str());
            }
            Ok(Reply::new(204, ""))
        }
        _ => Ok(Reply::error(405, "MethodNotAllowed", None)),
    }
}

/// Copies within a bucket, or from another one.
async fn copy(call: &Call<'_>, source: &str, to: &ObjectName) -> Result<Reply, StoreError> {
    let Some((bucket, Ok(from))) =
        source.trim_start_matches('/').split_once('/').map(|(bucket, key)| (bucket, ObjectName::new(key)))
    else {
        return Ok(Reply::error(400, "InvalidArgument", None));
    };
    let Some(origin) = call.state.buckets.lock().get(bucket).cloned() else {
        return Ok(Reply::error(404, "NoSuchBucket", None));
    };
    let body = origin.get(&from).await?;
    call.store.put(to, body, PutMode::Always).await?;
    Ok(Reply::new(200, "<CopyObjectResult><ETag>\"copied\"</ETag></CopyObjectResult>"))
}

/// Whether every checksum that was sent, and is known, is the body's.
fn is_whole(habits: &Habits, seen: &Seen, body: &[u8]) -> bool {
    let fits = |header: &str, sum: &[u8]| seen.header(header).is_none_or(|told| told == BASE64.encode(sum));
    let crc = crc32c::crc32c(body).to_be_bytes();
    fits("content-md5", &Md5::digest(body)) && (habits.ignores_new_checksums || fits("x-amz-checksum-crc32c", &crc))
}

async fn put(call: &Call<'_>, name: &ObjectName, body: Bytes) -> Result<Reply, StoreError> {
    let (habits, seen) = (call.habits, call.seen);
    if !is_whole(habits, seen, &body) {
        return Ok(Reply::error(400, "BadDigest", None));
    }
    if habits.refuses_conditions && (seen.header("if-none-match").or(seen.header("if-match"))).is_some() {
        return Ok(Reply::error(501, "NotImplemented", None));
    }
    let lock = seen.header("x-amz-object-lock-mode").filter(|_| habits.keeps_versions);
    let summed = seen.headers.iter().any(|(name, _)| name == "content-md5" || name.starts_with("x-amz-checksum-"));
    if lock.is_some() && !(habits.holds_locks && summed) {
        return Ok(Reply::error(400, "InvalidRequest", None));
    }
    let mode = match (seen.header("if-none-match"), seen.header("if-match")) {
        _ if habits.ignores_conditions => PutMode::Always,
        (Some("*"), _) => PutMode::IfAbsent,
        (_, Some(etag)) if habits.unquoted_etags && !etag.starts_with('"') => PutMode::IfMatch(format!("\"{etag}\"")),
        (_, Some(_)) if habits.unquoted_etags => return Ok(Reply::error(412, "PreconditionFailed", None)),
        (_, Some(etag)) => PutMode::IfMatch(etag.to_owned()),
        _ => PutMode::Always,
    };
    call.store.put(name, body.clone(), mode).await?;
    if !habits.keeps_versions {
        return Ok(Reply::new(200, ""));
    }
    let until = seen.header("x-amz-object-lock-retain-until-date").unwrap_or_default();
    let lock = lock.map(|mode| (mode, until));
    Ok(Reply::new(200, "").with("x-amz-version-id", call.state.versions.add(name.as_str(), body, lock)))
}

async fn get(call: &Call<'_>, name: &ObjectName) -> Result<Reply, StoreError> {
    let store = &call.store;
    let whole = store.head(name).await?.bytes;
    let range = call.seen.header("range").filter(|_| !call.habits.ignores_ranges);
    let Some((first, last)) = range.and_then(|r| r.strip_prefix("bytes=")?.split_once('-')) else {
        return Ok(Reply::new(200, store.get(name).await?));
    };
    let first: u64 = first.parse().unwrap_or(0);
    let end = last.parse::<u64>().map_or(whole, |last| whole.min(last.saturating_add(1)));
    if first >= end {
        return Ok(Reply::error(416, "InvalidRange", None));
    }
    let part = store.get_range(name, first..end).await?;
    Ok(Reply::new(206, part).with("content-range", format!("bytes {first}-{}/{whole}", end - 1)))
}

async fn list(call: &Call<'_>) -> Result<Reply, StoreError> {
    let (habits, bucket) = (call.habits, &call.bucket);
    let value = |key: &str| call.value(key);
    let prefix = value("prefix").unwrap_or_default();
    let start = value("start-after").filter(|_| !habits.ignores_start_after);
    let after = value("continuation-token").or(start);
    let page_max = if habits.page_max == 0 { 1000 } else { habits.page_max };
    let wanted = value("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000).min(page_max);
    let page = call.store.list(&prefix, after.as_deref(), wanted).await?;
    let objects: String = page.objects.iter().map(|object| contents(object, habits)).collect();
    let token = page.objects.last().filter(|_| page.more && !habits.gives_no_token);
    let token = token.map(|o| format!("<NextContinuationToken>{}</NextContinuationToken>", o.name));
    Ok(Reply::new(
        200,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{bucket}</Name>\
             <IsTruncated>{}</IsTruncated>{}{objects}</ListBucketResult>",
            page.more,
            token.unwrap_or_default(),
        ),
    ))
}

fn contents(object: &ObjectMeta, habits: &Habits) -> String {
    let etag = object.etag.clone().unwrap_or_default();
    let etag = if habits.unquoted_etags { etag.trim_matches('"').to_owned() } else { etag.replace('"', "&quot;") };
    format!("<Contents><Key>{}</Key><Size>{}</Size><ETag>{etag}</ETag></Contents>", object.name, object.bytes)
}

/// A store's error in S3's words.
fn refusal(error: &StoreError) -> Reply {
    match error {
        StoreError::NotFound { .. } => Reply::error(404, "NoSuchKey", None),
        StoreError::Exists { .. } | StoreError::Changed { .. } => Reply::error(412, "PreconditionFailed", None),
        StoreError::NoBucket { .. } => Reply::error(404, "NoSuchBucket", None),
        StoreError::Denied { .. } | StoreError::Untrusted { .. } => Reply::error(403, "AccessDenied", None),
        StoreError::Unauthorized { .. } => Reply::error(403, "InvalidAccessKeyId", None),
        StoreError::Full { .. } => Reply::error(403, "QuotaExceeded", None),
        StoreError::Unavailable { after: Some(after), .. } => {
            Reply::error(503, "SlowDown", None).with("retry-after", after.as_secs())
        }
        StoreError::Unavailable { .. } | StoreError::Garbled { .. } => Reply::error(500, "InternalError", None),
        StoreError::Unsupported { .. } => Reply::error(501, "NotImplemented", None),
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |b: u8| char::from(b).to_digit(16);
        match byte {
            b'%' => match (rest.next().and_then(hex), rest.next().and_then(hex)) {
                (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
                _ => bytes.push(b'%'),
            },
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
