//! `POST /assets`.

use std::sync::Arc;

use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    form::{self, Form},
    orders::Early,
    routes::Told,
    serve::{Lost, Shared},
    shapes,
    spec::Operation,
    world::Asset,
};

/// Takes a file in.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    operation: &Operation,
    owner: &str,
    quota: Option<u64>,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Told, Lost> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let kind = text(header::CONTENT_TYPE);
    let Ok(length) = text(header::CONTENT_LENGTH).parse::<u64>() else {
        return Ok(Told::violation(shared, operation, vec!["content-length: missing".into()]));
    };
    let mut told = None;
    if let Some(sum) = headers.get("x-immich-checksum") {
        let Some(sha1) = sum.to_str().ok().and_then(hex_of) else {
            return Ok(Told::violation(shared, operation, vec!["x-immich-checksum: no SHA-1".into()]));
        };
        let early = shared.orders.lock().early;
        let mut world = shared.world.lock();
        if let Some(id) = world.find(owner, &sha1).map(str::to_owned).filter(|_| early != Early::Never) {
            world.counts.duplicates += 1;
            world.counts.early += 1;
            if early == Early::Drain {
                tokio::spawn(drain(body));
            }
            return Ok(Told::new(200, json!({"id": id, "status": "duplicate"})));
        }
        told = Some(sha1);
    }
    let counting = shared.clone();
    let arrived = move |bytes| counting.world.lock().counts.media_bytes += bytes;
    let stall_after = shared.orders.lock().stall_after;
    let form = match shared.null {
        true => form::skim(body, &kind, length, told, arrived).await,
        false => form::read(body, &kind, stall_after, shared.keep, arrived).await,
    };
    // Who went away gets no answer and leaves nothing.
    let form = form.map_err(|_| Lost)?;
    Ok(keep(shared, operation, owner, quota, form))
}

fn keep(shared: &Shared, operation: &Operation, owner: &str, quota: Option<u64>, form: Form) -> Told {
    if !shared.null {
        let mut faults = shared.spec.check_form(operation, &form.fields);
        if form.fields.last().is_none_or(|(name, _)| name != "assetData") {
            faults.push("assetData: not the last part".into());
        }
        if !faults.is_empty() {
            return Told::violation(shared, operation, faults);
        }
    }
    let name = form.field("filename").unwrap_or(&form.part_name).to_owned();
    let orders = shared.orders.lock().clone();
    if !shapes::supported(&name) {
        return Told::refuse(shared, 400, &format!("Unsupported file type {name}"));
    }
    if orders.refuse_names.iter().any(|end| name.ends_with(end)) {
        return Told::refuse(shared, 400, "Input file has corrupt header");
    }
    let mut world = shared.world.lock();
    if let Some(id) = world.find(owner, &form.sha1).map(str::to_owned) {
        world.counts.duplicates += 1;
        return Told::new(200, json!({"id": id, "status": "duplicate"}));
    }
    if quota.is_some_and(|quota| world.used(owner) + form.size > quota) {
        world.counts.refused += 1;
        return Told::new(400, shapes::refusal(400, &["Quota has been exceeded!".into()], shared.version));
    }
    let on_disk: u64 = if orders.disk_bytes.is_some() { world.assets.values().map(|a| a.size).sum() } else { 0 };
    if orders.disk_bytes.is_some_and(|disk| on_disk + form.size > disk) {
        world.counts.refused += 1;
        return Told::new(500, json!({"message": "Internal server error", "statusCode": 500}));
    }
    let live_video = form.field("livePhotoVideoId").map(str::to_owned);
    if let Some(video) = &live_video {
        let fits = world.assets.get(video).is_some_and(|a| a.owner == owner && shapes::is_video(&a.name));
        if !fits {
            drop(world);
            return Told::refuse(shared, 400, "Live photo video not found");
        }
    }
    let asset = Asset {
        owner: owner.to_owned(),
        size: form.size,
        name,
        created_at: form.field("fileCreatedAt").unwrap_or_default().to_owned(),
        modified_at: form.field("fileModifiedAt").unwrap_or_default().to_owned(),
        favourite: form.field("isFavorite") == Some("true"),
        visibility: form.field("visibility").unwrap_or("timeline").to_owned(),
        trashed: false,
        sidecar: form.sidecar,
        sha1: form.sha1,
        live_video,
        bytes: shared.keep.then(|| form.bytes.into()),
        said: Default::default(),
    };
    let id = world.add(asset);
    world.counts.created += 1;
    Told::new(201, json!({"id": id, "status": "created"}))
}

/// Reads what nobody wants.
pub(crate) async fn drain(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// A SHA-1 in hex, from either of its forms.
pub(crate) fn hex_of(sum: &str) -> Option<String> {
    let bytes = match sum.len() {
        40 => data_encoding::HEXLOWER_PERMISSIVE.decode(sum.as_bytes()).ok()?,
        28 => data_encoding::BASE64.decode(sum.as_bytes()).ok()?,
        _ => return None,
    };
    Some(data_encoding::HEXLOWER.encode(&bytes))
}

/// The answer to one question of a bulk check.
pub(crate) fn checked(shared: &Shared, owner: &str, item: &Value) -> Option<Value> {
    let sha1 = hex_of(item["checksum"].as_str()?)?;
    let world = shared.world.lock();
    Some(match world.find(owner, &sha1) {
        Some(id) => json!({"id": item["id"], "action": "reject", "reason": "duplicate", "assetId": id,
                           "isTrashed": world.assets[id].trashed}),
        None => json!({"id": item["id"], "action": "accept"}),
    })
}
