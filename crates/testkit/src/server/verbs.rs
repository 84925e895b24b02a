//! S3's verbs on a store of ours.

use bytes::Bytes;
use haven_store::{DynStore, ObjectMeta, ObjectName, PutMode, StoreError};

use super::{Habits, Reply, Seen};

/// Does what the request asks for.
pub(super) async fn perform(store: &DynStore, bucket: &str, habits: &Habits, seen: &Seen, body: Bytes) -> Reply {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let path = decode(path);
    let (found_bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    if found_bucket != bucket {
        return Reply::error(404, "NoSuchBucket", None);
    }
    let done = match (seen.method.as_str(), key) {
        ("GET", "") => list(store, bucket, habits, query).await,
        (method, key) => match ObjectName::new(key) {
            Ok(name) => object(store, bucket, habits, seen, method, &name, body).await,
            Err(_) => Ok(Reply::error(400, "InvalidArgument", None)),
        },
    };
    done.unwrap_or_else(|error| refusal(&error))
}

async fn object(
    store: &DynStore,
    bucket: &str,
    habits: &Habits,
    seen: &Seen,
    method: &str,
    name: &ObjectName,
    body: Bytes,
) -> Result<Reply, StoreError> {
    match method {
        "PUT" => match seen.header("x-amz-copy-source") {
            Some(source) => {
                let source = decode(source);
                let from = source.trim_start_matches('/').strip_prefix(bucket).and_then(|s| s.strip_prefix('/'));
                let Some(Ok(from)) = from.map(ObjectName::new) else {
                    return Ok(Reply::error(400, "InvalidArgument", None));
                };
                store.copy(&from, name).await?;
                Ok(Reply::new(200, "<CopyObjectResult><ETag>\"copied\"</ETag></CopyObjectResult>"))
            }
            None => put(store, habits, seen, name, body).await,
        },
        "GET" => get(store, habits, seen, name).await,
        "HEAD" => {
            let meta = store.head(name).await?;
            let length = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
            // The body is not sent, but its length is told.
            Ok(Reply::new(200, vec![0_u8; length]).with("etag", meta.etag.unwrap_or_default()))
        }
        "DELETE" => {
            store.delete(name).await?;
            Ok(Reply::new(204, ""))
        }
        _ => Ok(Reply::error(405, "MethodNotAllowed", None)),
    }
}

async fn put(
    store: &DynStore,
    habits: &Habits,
    seen: &Seen,
    name: &ObjectName,
    body: Bytes,
) -> Result<Reply, StoreError> {
    if seen.header("content-md5").is_some_and(|md5| md5 == "AAAAAAAAAAAAAAAAAAAAAA==") {
        return Ok(Reply::error(400, "BadDigest", None));
    }
    let mode = match (seen.header("if-none-match"), seen.header("if-match")) {
        _ if habits.ignores_conditions => PutMode::Always,
        (Some("*"), _) => PutMode::IfAbsent,
        (_, Some(etag)) if habits.unquoted_etags && !etag.starts_with('"') => PutMode::IfMatch(format!("\"{etag}\"")),
        (_, Some(_)) if habits.unquoted_etags => return Ok(Reply::error(412, "PreconditionFailed", None)),
        (_, Some(etag)) => PutMode::IfMatch(etag.to_owned()),
        _ => PutMode::Always,
    };
    store.put(name, body, mode).await?;
    Ok(Reply::new(200, ""))
}

async fn get(store: &DynStore, habits: &Habits, seen: &Seen, name: &ObjectName) -> Result<Reply, StoreError> {
    let whole = store.head(name).await?.bytes;
    let range = seen.header("range").filter(|_| !habits.ignores_ranges);
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

async fn list(store: &DynStore, bucket: &str, habits: &Habits, query: &str) -> Result<Reply, StoreError> {
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')).map(decode);
    let prefix = value("prefix").unwrap_or_default();
    let start = value("start-after").filter(|_| !habits.ignores_start_after);
    let after = value("continuation-token").or(start);
    let page_max = if habits.page_max == 0 { 1000 } else { habits.page_max };
    let wanted = value("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000).min(page_max);
    let page = store.list(&prefix, after.as_deref(), wanted).await?;
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
