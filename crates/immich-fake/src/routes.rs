//! Who may ask, what is asked, and the answer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    orders::Orders,
    serve::{Lost, Shared},
    shapes,
    spec::Operation,
    upload,
    world::{self, Album, Key, World},
};

/// An answer before it is bytes.
pub(crate) struct Told {
    pub status: u16,
    pub body: Value,
    pub cookie: Option<String>,
    /// In place of `body`.
    pub file: Option<Bytes>,
}

impl Told {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self { status, body, cookie: None, file: None }
    }

    /// Refused as Immich would, and remembered as wrong of the client.
    pub(crate) fn violation(shared: &Shared, operation: &Operation, faults: Vec<String>) -> Self {
        let mut world = shared.world.lock();
        world.counts.refused += 1;
        for fault in &faults {
            world.violations.push(format!("{}: {fault}", operation.name));
        }
        Self::new(400, shapes::refusal(400, &faults, shared.version))
    }

    /// Refused for what is the case, and not for how it was asked.
    pub(crate) fn refuse(shared: &Shared, status: u16, words: &str) -> Self {
        shared.world.lock().counts.refused += 1;
        Self::new(status, shapes::refusal(status, &[words.to_owned()], shared.version))
    }

    fn response(self) -> Response<Full<Bytes>> {
        if let Some(file) = self.file {
            let response =
                Response::builder().status(self.status).header(header::CONTENT_TYPE, "application/octet-stream");
            return response.body(Full::new(file)).unwrap_or_default();
        }
        let body = if self.body.is_null() { Bytes::new() } else { Bytes::from(self.body.to_string()) };
        let mut response = Response::builder().status(self.status).header(header::CONTENT_TYPE, "application/json");
        if let Some(cookie) = self.cookie {
            response = response.header(header::SET_COOKIE, cookie);
        }
        response.body(Full::new(body)).unwrap_or_default()
    }
}

/// Who asks.
struct Asker {
    id: String,
    key: Key,
}

pub(crate) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if let Some(order) = path.strip_prefix("/_fake/") {
        return Ok(control(&shared, order, body).await.response());
    }
    if shared.world.lock().away_until.is_some_and(|until| std::time::Instant::now() < until) {
        return Err(Lost);
    }
    let found = path.strip_prefix("/api").and_then(|path| shared.spec.find(parts.method.as_str(), path));
    let Some(operation) = found else {
        shared.world.lock().violations.push(format!("{} {path}: no such call", parts.method));
        return Ok(Told::refuse(&shared, 404, &format!("Cannot {} {path}", parts.method)).response());
    };
    let count = {
        let mut world = shared.world.lock();
        let count = world.counts.calls.entry(operation.name.clone()).or_default();
        *count += 1;
        *count
    };
    let (slow, failure, body_max) = {
        let mut orders = shared.orders.lock();
        (orders.slow_ms, orders.failure(&operation.name, count), orders.body_max)
    };
    if slow > 0 {
        tokio::time::sleep(Duration::from_millis(slow)).await;
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if let (Some(max), Some(length)) = (body_max, length)
        && length > max
    {
        let page = "<html><body><center><h1>413 Request Entity Too Large</h1></center></body></html>";
        let response = Response::builder().status(413).header(header::SERVER, "nginx/1.24.0");
        return Ok(response.header(header::CONTENT_TYPE, "text/html").body(Full::new(page.into())).unwrap_or_default());
    }
    if let Some(fail) = failure {
        tokio::spawn(upload::drain(body));
        let mut response =
            Told::new(fail.status, json!({"message": fail.message, "statusCode": fail.status})).response();
        if let Some(seconds) = fail.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return Ok(response);
    }
    let told = admitted(&shared, &operation, &parts.headers, parts.uri.query().unwrap_or(""), body).await?;
    for fault in shared.spec.check_answer(&operation, told.status, &told.body) {
        shared.world.lock().violations.push(format!("the fake's own answer to {}: {fault}", operation.name));
    }
    let lose = shared.orders.lock().lose_every;
    let losable = operation.name == "POST /assets" || operation.name.contains("/albums");
    if lose > 0 && losable && count.is_multiple_of(lose) {
        return Err(Lost);
    }
    Ok(told.response())
}

async fn admitted(
    shared: &Arc<Shared>,
    operation: &Operation,
    headers: &HeaderMap,
    query: &str,
    body: Incoming,
) -> Result<Told, Lost> {
    let maintenance = shared.world.lock().maintenance.clone();
    let open = ["GET /server/ping", "GET /server/version", "GET /server/config", "GET /admin/maintenance/status"];
    if let Some(token) = maintenance.filter(|_| !open.contains(&operation.name.as_str())) {
        let cookie = headers.get(header::COOKIE).and_then(|v| v.to_str().ok()).unwrap_or("");
        if operation.name == "POST /admin/maintenance" && (cookie.contains(&token) || signed(cookie)) {
            let away = shared.orders.lock().restart_ms;
            let mut world = shared.world.lock();
            world.maintenance = None;
            world.restart(away);
            return Ok(Told::new(201, Value::Null));
        }
        tokio::spawn(upload::drain(body));
        return Ok(Told::refuse(shared, 404, "Cannot do that in maintenance mode"));
    }
    let asker = match admit(shared, operation, headers) {
        Ok(asker) => asker,
        Err(told) => {
            tokio::spawn(upload::drain(body));
            return Ok(told);
        }
    };
    if operation.name == "POST /assets" {
        return upload::take(shared, operation, &asker.id, asker.key.quota_bytes, headers, body).await;
    }
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let json = if body.is_empty() { None } else { Some(serde_json::from_slice(&body).unwrap_or(Value::Null)) };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned()));
    let query: Vec<(String, String)> = pairs.collect();
    let faults = shared.spec.check(operation, &query, json.as_ref());
    if !faults.is_empty() {
        return Ok(Told::violation(shared, operation, faults));
    }
    Ok(route(shared, operation, &asker, &query, json.unwrap_or_default()))
}

/// Whether there is a token in it that was made with the secret in the database (a JWT, HS256).
fn signed(cookie: &str) -> bool {
    use aws_lc_rs::hmac::{HMAC_SHA256, Key, verify};
    use data_encoding::BASE64URL_NOPAD;
    let whole = || {
        let token = cookie.split("immich_maintenance_token=").nth(1)?.split(';').next()?;
        let (signed, tag) = token.rsplit_once('.')?;
        let key = Key::new(HMAC_SHA256, crate::MAINTENANCE_SECRET.as_bytes());
        verify(&key, signed.as_bytes(), &BASE64URL_NOPAD.decode(tag.as_bytes()).ok()?).ok()?;
        let claims = BASE64URL_NOPAD.decode(signed.split_once('.')?.1.as_bytes()).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        Some(claims["username"].is_string() && claims["exp"].as_i64()? > jiff::Timestamp::now().as_second())
    };
    whole().unwrap_or(false)
}

/// The key's user, where the key may do this.
fn admit(shared: &Shared, operation: &Operation, headers: &HeaderMap) -> Result<Asker, Told> {
    let world = shared.world.lock();
    let secret = headers.get("x-api-key").and_then(|v| v.to_str().ok()).unwrap_or("");
    let key = world.keys.iter().find(|key| key.secret == secret).cloned();
    let public = operation.described["security"].as_array().is_none_or(Vec::is_empty);
    let Some(key) = key else {
        drop(world);
        let nobody = || Key {
            secret: String::new(),
            email: String::new(),
            admin: false,
            permissions: vec![],
            quota_bytes: None,
        };
        let refused = || Told::refuse(shared, 401, "Invalid API key");
        return if public { Ok(Asker { id: String::new(), key: nobody() }) } else { Err(refused()) };
    };
    let id = world.users.get(&key.email).cloned().unwrap_or_default();
    drop(world);
    let denied = shared.orders.lock().deny.clone();
    let permission = operation.described["x-immich-permission"].as_str().unwrap_or("");
    let has =
        key.permissions.iter().any(|own| own == "all" || own == permission) && !denied.iter().any(|d| d == permission);
    if !permission.is_empty() && !has {
        return Err(Told::refuse(shared, 403, &format!("Missing required permission: {permission}")));
    }
    if operation.described["x-immich-admin-only"] == true && !key.admin {
        return Err(Told::refuse(shared, 403, "Forbidden"));
    }
    Ok(Asker { id, key })
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn route(shared: &Shared, operation: &Operation, asker: &Asker, query: &[(String, String)], body: Value) -> Told {
    let me = asker.id.as_str();
    let id = operation.argument.clone().unwrap_or_default();
    let ok = |value: Value| Told::new(200, value);
    let version = shared.version;
    let away = shared.orders.lock().restart_ms;
    let mut world = shared.world.lock();
    let owns = |world: &World, asset: &str| world.assets.get(asset).is_some_and(|a| a.owner == me);
    match operation.name.as_str() {
        "GET /server/ping" => ok(json!({"res": "pong"})),
        "GET /server/version" => {
            ok(json!({"major": version.0, "minor": version.1, "patch": version.2, "prerelease": null}))
        }
        "GET /server/config" => ok(json!({
            "externalDomain": "", "isInitialized": true, "isOnboarded": true, "loginPageMessage": "",
            "maintenanceMode": world.maintenance.is_some(), "mapDarkStyleUrl": "", "mapLightStyleUrl": "", "minFaces": 3,
            "oauthButtonText": "", "publicUsers": true, "trashDays": 30, "userDeleteDelay": 7,
        })),
        "GET /server/media-types" => ok(shapes::media_types()),
        "GET /server/about" => {
            let text = format!("v{}.{}.{}", version.0, version.1, version.2);
            ok(json!({"licensed": false, "version": text, "versionUrl": "https://example.org"}))
        }
        "GET /server/storage" => {
            let used: u64 = world.assets.values().map(|a| a.size).sum();
            let size = shared.orders.lock().disk_bytes.unwrap_or(1 << 40);
            let left = size.saturating_sub(used);
            ok(json!({"diskAvailable": "", "diskAvailableRaw": left, "diskSize": "", "diskSizeRaw": size,
                      "diskUsagePercentage": 0.5, "diskUse": "", "diskUseRaw": used}))
        }
        "GET /server/statistics" => {
            let usage: u64 = world.assets.values().map(|a| a.size).sum();
            ok(
                json!({"photos": world.assets.len(), "videos": 0, "usage": usage, "usagePhotos": usage, "usageVideos": 0,
                      "usageByUser": []}),
            )
        }
        "GET /users/me" => ok(shapes::me(&world, me, &asker.key.email, asker.key.admin, asker.key.quota_bytes)),
        "GET /api-keys/me" => ok(json!({"id": world::new_id(), "name": "key", "permissions": asker.key.permissions,
                                        "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z"})),
        "POST /assets/bulk-upload-check" => {
            drop(world);
            let items = body["assets"].as_array().cloned().unwrap_or_default();
            let results: Option<Vec<Value>> = items.iter().map(|item| upload::checked(shared, me, item)).collect();
            match results {
                Some(results) => ok(json!({"results": results})),
                None => Told::violation(shared, operation, vec!["checksum: no SHA-1".into()]),
            }
        }
        "GET /assets/{id}" if owns(&world, &id) => ok(shapes::asset(&id, &world.assets[&id], version)),
        "GET /assets/{id}/original" if owns(&world, &id) && world.assets[&id].bytes.is_some() => {
            let mut bytes = world.assets[&id].bytes.as_deref().unwrap_or_default().to_vec();
            if let Some(last) = bytes.last_mut().filter(|_| shared.orders.lock().rot) {
                *last ^= 1;
            }
            Told { file: Some(bytes.into()), ..ok(Value::Null) }
        }
        "PUT /assets/{id}" if owns(&world, &id) => {
            change(&mut world, std::slice::from_ref(&id), &body);
            ok(shapes::asset(&id, &world.assets[&id], version))
        }
        "PUT /assets" | "DELETE /assets" | "POST /trash/restore/assets" => {
            let ids = strings(&body["ids"]);
            if let Some(foreign) = ids.iter().find(|asset| !owns(&world, asset)) {
                let words = format!("Not found or no asset access: {foreign}");
                drop(world);
                return Told::refuse(shared, 400, &words);
            }
            match operation.name.as_str() {
                "PUT /assets" => change(&mut world, &ids, &body),
                name => ids.iter().for_each(|id| {
                    world.assets.get_mut(id).into_iter().for_each(|a| a.trashed = name == "DELETE /assets");
                }),
            }
            if operation.name.starts_with("POST") {
                ok(json!({"count": ids.len()}))
            } else {
                Told::new(204, Value::Null)
            }
        }
        "GET /assets/statistics" => {
            let trashed = query.iter().any(|(name, value)| name == "isTrashed" && value == "true");
            let shown = |a: &&world::Asset| {
                a.owner == me && a.trashed == trashed && matches!(a.visibility.as_str(), "timeline" | "archive")
            };
            let (videos, images): (Vec<_>, Vec<_>) =
                world.assets.values().filter(shown).partition(|a| shapes::is_video(&a.name));
            ok(json!({"images": images.len(), "videos": videos.len(), "total": images.len() + videos.len()}))
        }
        "POST /search/metadata" => ok(search(&world, me, &body, version)),
        "GET /albums" => {
            let own = world.albums.iter().filter(|(_, a)| a.owner == me);
            ok(own.map(|(id, a)| shapes::album(id, a, &asker.key.email, version)).collect())
        }
        "POST /albums" => {
            let ids: BTreeSet<String> = strings(&body["assetIds"]).into_iter().filter(|id| owns(&world, id)).collect();
            let text = |name: &str| body[name].as_str().unwrap_or("").to_owned();
            let album =
                Album { owner: me.into(), name: text("albumName"), description: text("description"), assets: ids };
            let id = world::new_id();
            let shape = shapes::album(&id, &album, &asker.key.email, version);
            world.albums.insert(id, album);
            Told::new(201, shape)
        }
        "GET /albums/{id}" if world.albums.get(&id).is_some_and(|a| a.owner == me) => {
            ok(shapes::album(&id, &world.albums[&id], &asker.key.email, version))
        }
        "PUT /albums/{id}/assets" if world.albums.get(&id).is_some_and(|a| a.owner == me) => {
            let mut results = Vec::new();
            for asset in strings(&body["ids"]) {
                let known = owns(&world, &asset);
                let album = world.albums.get_mut(&id);
                let error = if !known {
                    Some("no_permission")
                } else if album.is_some_and(|album| album.assets.insert(asset.clone())) {
                    None
                } else {
                    Some("duplicate")
                };
                results.push(match error {
                    Some(error) => json!({"id": asset, "success": false, "error": error}),
                    None => json!({"id": asset, "success": true}),
                });
            }
            ok(Value::Array(results))
        }
        "GET /tags" => ok(world.tags.iter().filter(|(_, t)| t.owner == me).map(|(id, t)| shapes::tag(id, t)).collect()),
        "PUT /tags" => {
            let ids: Vec<String> = strings(&body["tags"]).iter().map(|value| world.tag(me, value)).collect();
            ok(ids.iter().map(|id| shapes::tag(id, &world.tags[id])).collect())
        }
        "PUT /tags/assets" => {
            let assets: Vec<String> = strings(&body["assetIds"]).into_iter().filter(|id| owns(&world, id)).collect();
            let tags = strings(&body["tagIds"]);
            let mut count = 0;
            for id in tags {
                let Some(tag) = world.tags.get_mut(&id).filter(|tag| tag.owner == me) else { continue };
                count += assets.iter().filter(|id| tag.assets.insert((*id).clone())).count();
            }
            ok(json!({"count": count}))
        }
        "DELETE /tags/{id}/assets" if world.tags.get(&id).is_some_and(|tag| tag.owner == me) => {
            let mut results = Vec::new();
            for asset in strings(&body["ids"]) {
                let had = world.tags.get_mut(&id).is_some_and(|tag| tag.assets.remove(&asset));
                results.push(match had {
                    true => json!({"id": asset, "success": true}),
                    false => json!({"id": asset, "success": false, "error": "not_found"}),
                });
            }
            ok(Value::Array(results))
        }
        "POST /stacks" => {
            let ids = strings(&body["assetIds"]);
            let distinct: BTreeSet<&String> = ids.iter().collect();
            if distinct.len() != ids.len() || !ids.iter().all(|id| owns(&world, id)) {
                drop(world);
                return Told::refuse(shared, 400, "Not found or no asset.update access");
            }
            let id = world.stack(me, &ids);
            let members = world.stacks[&id].assets.iter();
            let assets: Vec<Value> = members.map(|a| shapes::asset(a, &world.assets[a], version)).collect();
            Told::new(201, json!({"id": id, "primaryAssetId": ids[0], "assets": assets}))
        }
        "GET /queues" => ok(queue_names(shared).iter().map(|name| queue(&world, name)).collect()),
        "GET /queues/{name}" => ok(queue(&world, &id)),
        "PUT /queues/{name}" => {
            pause(&mut world, &id, body["isPaused"].as_bool());
            ok(queue(&world, &id))
        }
        "GET /jobs" => ok(queue_names(shared)
            .iter()
            .map(|name| (name.clone(), legacy(&world, name)))
            .collect::<serde_json::Map<_, _>>()
            .into()),
        "PUT /jobs/{name}" => {
            let command = body["command"].as_str();
            pause(&mut world, &id, command.filter(|c| matches!(*c, "pause" | "resume")).map(|c| c == "pause"));
            ok(legacy(&world, &id))
        }
        "POST /admin/maintenance" if body["action"] == "start" => {
            let token = world::new_id();
            world.maintenance = Some(token.clone());
            world.restart(away);
            let cookie = format!("immich_maintenance_token={token}; Path=/; HttpOnly; SameSite=Lax");
            Told { cookie: Some(cookie), ..Told::new(201, Value::Null) }
        }
        // With a key and outside of maintenance nothing happens.
        "POST /admin/maintenance" => Told::new(201, Value::Null),
        "GET /admin/maintenance/status" => {
            let active = world.maintenance.is_some();
            ok(json!({"active": active, "action": if active { "start" } else { "end" }}))
        }
        _ => {
            drop(world);
            Told::refuse(shared, 400, "Not found or no access")
        }
    }
}

fn change(world: &mut World, ids: &[String], body: &Value) {
    if let Some(video) = body["livePhotoVideoId"].as_str() {
        world.assets.get_mut(video).into_iter().for_each(|a| a.visibility = "hidden".into());
    }
    for id in ids {
        let Some(asset) = world.assets.get_mut(id) else { continue };
        if let Some(favourite) = body["isFavorite"].as_bool() {
            asset.favourite = favourite;
        }
        if let Some(visibility) = body["visibility"].as_str() {
            asset.visibility = visibility.to_owned();
        }
        if let Some(video) = body["livePhotoVideoId"].as_str() {
            asset.live_video = Some(video.to_owned());
        }
        for name in ["dateTimeOriginal", "latitude", "longitude", "description"] {
            if !body[name].is_null() {
                asset.said.insert(name.to_owned(), body[name].clone());
            }
        }
    }
}

fn search(world: &World, me: &str, body: &Value, version: crate::spec::Version) -> Value {
    let sum = body["checksum"].as_str().and_then(upload::hex_of);
    let albums = strings(&body["albumIds"]);
    let shown = |a: &world::Asset| match body["visibility"].as_str() {
        Some(wanted) => a.visibility == wanted,
        None if version < (3, 0, 0) => a.visibility == "timeline",
        None => a.visibility != "locked",
    };
    let mut found: Vec<(&String, &world::Asset)> = world
        .assets
        .iter()
        .filter(|(id, a)| {
            a.owner == me
                && shown(a)
                && (!a.trashed || body["withDeleted"] == true)
                && sum.as_ref().is_none_or(|sum| a.sha1 == *sum)
                && albums.iter().all(|album| world.albums.get(album).is_some_and(|al| al.assets.contains(*id)))
        })
        .collect();
    found.sort_by_key(|(id, _)| *id);
    let size = body["size"].as_u64().unwrap_or(250) as usize;
    let page = body["page"].as_u64().unwrap_or(1).max(1) as usize;
    let items: Vec<Value> =
        found.iter().skip((page - 1) * size).take(size).map(|(id, a)| shapes::asset(id, a, version)).collect();
    let next = (found.len() > page * size).then(|| (page + 1).to_string());
    json!({
        "albums": {"count": 0, "facets": [], "items": [], "total": 0},
        "assets": {"count": items.len(), "facets": [], "items": items, "nextPage": next, "total": items.len()},
    })
}

fn queue_names(shared: &Shared) -> Vec<String> {
    shared.spec.queue_names()
}

fn pause(world: &mut World, name: &str, paused: Option<bool>) {
    match paused {
        Some(true) => world.paused.insert(name.to_owned()),
        Some(false) => world.paused.remove(name),
        None => false,
    };
}

fn statistics() -> Value {
    json!({"active": 0, "completed": 0, "delayed": 0, "failed": 0, "paused": 0, "waiting": 0})
}

fn queue(world: &World, name: &str) -> Value {
    json!({"name": name, "isPaused": world.paused.contains(name), "statistics": statistics()})
}

fn legacy(world: &World, name: &str) -> Value {
    json!({"jobCounts": statistics(), "queueStatus": {"isActive": false, "isPaused": world.paused.contains(name)}})
}

/// What scripts ask and order.
async fn control(shared: &Shared, order: &str, body: Incoming) -> Told {
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    match order {
        "state" => Told::new(200, shared.world.lock().state()),
        "violations" => Told::new(200, json!(shared.world.lock().violations)),
        "counts" => Told::new(200, json!(shared.world.lock().counts)),
        "orders" => match serde_json::from_slice::<Orders>(&body) {
            Ok(orders) => {
                *shared.orders.lock() = orders;
                Told::new(200, json!({"ordered": true}))
            }
            Err(error) => Told::new(400, json!({"message": error.to_string()})),
        },
        "reset" => {
            let mut world = shared.world.lock();
            *world = World::new(world.keys.clone());
            Told::new(200, json!({"reset": true}))
        }
        _ => Told::new(404, json!({"message": "state, violations, counts, orders, reset"})),
    }
}
