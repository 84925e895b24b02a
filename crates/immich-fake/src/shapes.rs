//! The server's answers, in the form of its version.

use serde_json::{Value, json};

use crate::{
    spec::Version,
    world::{Album, Asset, Tag, World},
};

const THEN: &str = "2026-01-01T00:00:00.000Z";

pub(crate) fn media_types() -> Value {
    json!({
        "image": [".avif", ".bmp", ".dng", ".gif", ".heic", ".heif", ".jpe", ".jpeg", ".jpg", ".jxl", ".png", ".tif",
                  ".tiff", ".webp", ".cr2", ".nef", ".arw", ".raf"],
        "video": [".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".webm", ".wmv"],
        "sidecar": [".xmp"],
    })
}

/// Is that a file this server takes?
pub(crate) fn supported(name: &str) -> bool {
    let Some(dot) = name.rfind('.') else { return false };
    let extension = name[dot..].to_lowercase();
    let types = media_types();
    let has = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|known| *known == extension));
    has(&types["image"]) || has(&types["video"])
}

pub(crate) fn is_video(name: &str) -> bool {
    let types = media_types();
    let extension = name.rfind('.').map(|dot| name[dot..].to_lowercase()).unwrap_or_default();
    types["video"].as_array().is_some_and(|list| list.iter().any(|known| *known == extension))
}

fn user(id: &str, email: &str) -> Value {
    json!({"id": id, "email": email, "name": email, "profileImagePath": "", "avatarColor": "primary",
           "profileChangedAt": THEN})
}

pub(crate) fn me(world: &World, id: &str, email: &str, admin: bool, quota: Option<u64>) -> Value {
    let mut me = user(id, email);
    let more = json!({
        "createdAt": THEN, "updatedAt": THEN, "deletedAt": null, "isAdmin": admin, "license": null, "oauthId": "",
        "quotaSizeInBytes": quota, "quotaUsageInBytes": world.used(id), "shouldChangePassword": false,
        "status": "active", "storageLabel": null,
    });
    merge(&mut me, more);
    me
}

pub(crate) fn asset(id: &str, asset: &Asset, version: Version) -> Value {
    let sum = data_encoding::HEXLOWER.decode(asset.sha1.as_bytes()).unwrap_or_default();
    let mut shape = json!({
        "id": id, "ownerId": asset.owner, "checksum": data_encoding::BASE64.encode(&sum), "createdAt": THEN,
        "updatedAt": THEN, "fileCreatedAt": asset.created_at, "fileModifiedAt": asset.modified_at,
        "localDateTime": asset.created_at, "duration": null, "hasMetadata": true, "height": null, "width": null,
        "isArchived": asset.visibility == "archive", "isEdited": false, "isFavorite": asset.favourite,
        "isOffline": false, "isTrashed": asset.trashed, "originalFileName": asset.name,
        "originalPath": format!("/data/upload/{id}"), "thumbhash": null,
        "type": if is_video(&asset.name) { "VIDEO" } else { "IMAGE" }, "visibility": asset.visibility,
        "livePhotoVideoId": asset.live_video,
    });
    if version < (3, 0, 0) {
        merge(&mut shape, json!({"duration": "0:00:00.00000", "deviceAssetId": id, "deviceId": "x", "people": []}));
    }
    shape
}

pub(crate) fn album(id: &str, album: &Album, email: &str, version: Version) -> Value {
    let owner = user(&album.owner, email);
    let mut shape = json!({
        "id": id, "albumName": album.name, "description": album.description, "albumThumbnailAssetId": null,
        "albumUsers": [], "assetCount": album.assets.len(), "createdAt": THEN, "updatedAt": THEN,
        "hasSharedLink": false, "isActivityEnabled": true, "shared": false, "order": "desc",
    });
    if version < (3, 0, 0) {
        merge(&mut shape, json!({"ownerId": album.owner, "owner": owner, "assets": []}));
    } else {
        merge(&mut shape, json!({"albumUsers": [{"role": "owner", "user": owner}]}));
    }
    shape
}

pub(crate) fn tag(id: &str, tag: &Tag) -> Value {
    let name = tag.value.rsplit('/').next().unwrap_or_default();
    json!({"id": id, "name": name, "value": tag.value, "createdAt": THEN, "updatedAt": THEN})
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

/// A refusal, as the version words it.
pub(crate) fn refusal(status: u16, faults: &[String], version: Version) -> Value {
    let error = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Error");
    match faults {
        [one] => json!({"message": one, "error": error, "statusCode": status}),
        many if version < (3, 0, 0) => json!({"message": many, "error": error, "statusCode": status}),
        many => {
            let errors: Vec<Value> = many
                .iter()
                .map(|fault| {
                    let (path, message) = fault.split_once(": ").unwrap_or(("", fault));
                    json!({"path": path.trim_matches('/').split('/').collect::<Vec<_>>(), "message": message})
                })
                .collect();
            json!({"message": "Validation failed", "errors": errors, "statusCode": status})
        }
    }
}
