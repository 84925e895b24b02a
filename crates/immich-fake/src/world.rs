//! What the server keeps.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// An API key and its user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub secret: String,
    pub email: String,
    #[serde(default)]
    pub admin: bool,
    #[serde(default = "all")]
    pub permissions: Vec<String>,
    #[serde(default)]
    pub quota_bytes: Option<u64>,
}

fn all() -> Vec<String> {
    vec!["all".into()]
}

/// How often what was asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Counts {
    /// By method and path of the description.
    pub calls: BTreeMap<String, u64>,
    /// Bytes of files that arrived, whole or not.
    pub media_bytes: u64,
    pub created: u64,
    pub duplicates: u64,
    /// Duplicates that were answered before their body was read.
    pub early: u64,
    /// Answers that said no to what was asked, without those that were ordered.
    pub refused: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asset {
    pub owner: String,
    /// Hex.
    pub sha1: String,
    pub size: u64,
    pub name: String,
    pub created_at: String,
    pub modified_at: String,
    pub favourite: bool,
    pub visibility: String,
    pub trashed: bool,
    pub sidecar: Option<String>,
    pub live_video: Option<String>,
    /// Where the server was told to keep them.
    #[serde(skip)]
    pub bytes: Option<Bytes>,
    /// What was said of it after it was uploaded.
    #[serde(default)]
    pub said: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Album {
    pub owner: String,
    pub name: String,
    pub description: String,
    pub assets: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub owner: String,
    pub value: String,
    pub assets: BTreeSet<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stack {
    pub owner: String,
    /// The first is shown.
    pub assets: Vec<String>,
}

/// All of it, by id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct World {
    pub keys: Vec<Key>,
    /// User ids by address.
    pub users: BTreeMap<String, String>,
    pub assets: HashMap<String, Asset>,
    /// Asset ids by owner and SHA-1.
    #[serde(skip)]
    pub by_sum: HashMap<(String, String), String>,
    pub albums: BTreeMap<String, Album>,
    pub tags: BTreeMap<String, Tag>,
    pub stacks: BTreeMap<String, Stack>,
    pub paused: BTreeSet<String>,
    pub maintenance: Option<String>,
    /// It starts anew, and nobody answers till then.
    #[serde(skip)]
    pub away_until: Option<std::time::Instant>,
    pub counts: Counts,
    pub violations: Vec<String>,
}

/// A UUID of version 4.
pub(crate) fn new_id() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl World {
    pub(crate) fn new(keys: Vec<Key>) -> Self {
        let mut world = Self { keys, ..Self::default() };
        for key in world.keys.clone() {
            world.users.entry(key.email).or_insert_with(new_id);
        }
        world
    }

    /// Nobody answers for that long.
    pub(crate) fn restart(&mut self, ms: u64) {
        self.away_until = Some(std::time::Instant::now() + std::time::Duration::from_millis(ms));
    }

    /// From what was saved.
    pub(crate) fn load(text: &str) -> serde_json::Result<Self> {
        let mut world: Self = serde_json::from_str(text)?;
        world.by_sum = world.assets.iter().map(|(id, a)| ((a.owner.clone(), a.sha1.clone()), id.clone())).collect();
        Ok(world)
    }

    pub(crate) fn find(&self, owner: &str, sha1: &str) -> Option<&str> {
        self.by_sum.get(&(owner.to_owned(), sha1.to_owned())).map(String::as_str)
    }

    pub(crate) fn used(&self, owner: &str) -> u64 {
        self.assets.values().filter(|a| a.owner == owner).map(|a| a.size).sum()
    }

    pub(crate) fn add(&mut self, asset: Asset) -> String {
        let id = new_id();
        self.by_sum.insert((asset.owner.clone(), asset.sha1.clone()), id.clone());
        if let Some(video) = asset.live_video.as_ref().and_then(|video| self.assets.get_mut(video)) {
            video.visibility = "hidden".into();
        }
        self.assets.insert(id.clone(), asset);
        id
    }

    /// Makes a stack; those its members stood in become one with it, as in Immich.
    pub(crate) fn stack(&mut self, owner: &str, ids: &[String]) -> String {
        let mut members: Vec<String> = ids.to_vec();
        let others: Vec<String> = self
            .stacks
            .iter()
            .filter(|(_, stack)| stack.assets.iter().any(|id| ids.contains(id)))
            .map(|(id, _)| id.clone())
            .collect();
        for other in others {
            for id in self.stacks.remove(&other).map(|stack| stack.assets).unwrap_or_default() {
                if !members.contains(&id) {
                    members.push(id);
                }
            }
        }
        let id = new_id();
        self.stacks.insert(id.clone(), Stack { owner: owner.to_owned(), assets: members });
        id
    }

    /// The tag of that path, made with all above it where it is not there.
    pub(crate) fn tag(&mut self, owner: &str, value: &str) -> String {
        let mut last = String::new();
        let ends = value.match_indices('/').map(|(at, _)| at).chain([value.len()]);
        for end in ends {
            let path = &value[..end];
            let known = self.tags.iter().find(|(_, tag)| tag.owner == owner && tag.value == path);
            last = match known {
                Some((id, _)) => id.clone(),
                None => {
                    let id = new_id();
                    let tag = Tag { owner: owner.to_owned(), value: path.to_owned(), assets: BTreeSet::new() };
                    self.tags.insert(id.clone(), tag);
                    id
                }
            };
        }
        last
    }

    /// All that matters in one order, with contents in place of ids.
    pub(crate) fn state(&self) -> Value {
        let email = |owner: &str| self.users.iter().find(|(_, id)| *id == owner).map_or("", |(email, _)| email);
        let sum = |id: &String| self.assets.get(id).map_or_else(|| format!("gone: {id}"), |a| a.sha1.clone());
        let sums = |ids: &BTreeSet<String>| {
            let mut sums: Vec<String> = ids.iter().map(sum).collect();
            sums.sort();
            sums
        };
        let mut assets: Vec<Value> = self
            .assets
            .values()
            .map(|a| {
                json!({
                    "user": email(&a.owner), "sha1": a.sha1, "size": a.size, "name": a.name,
                    "createdAt": a.created_at, "modifiedAt": a.modified_at, "favourite": a.favourite,
                    "visibility": a.visibility, "trashed": a.trashed, "sidecar": a.sidecar,
                    "liveVideo": a.live_video.as_ref().map(sum), "said": a.said,
                })
            })
            .collect();
        let mut albums: Vec<Value> = self
            .albums
            .values()
            .map(|a| {
                json!({"user": email(&a.owner), "name": a.name, "description": a.description, "assets": sums(&a.assets)})
            })
            .collect();
        let mut tags: Vec<Value> = self
            .tags
            .values()
            .map(|t| json!({"user": email(&t.owner), "value": t.value, "assets": sums(&t.assets)}))
            .collect();
        let mut stacks: Vec<Value> = self
            .stacks
            .values()
            .map(|s| {
                let mut rest: Vec<String> = s.assets.iter().skip(1).map(sum).collect();
                rest.sort();
                json!({"user": email(&s.owner), "primary": s.assets.first().map(sum), "others": rest})
            })
            .collect();
        for list in [&mut assets, &mut albums, &mut tags, &mut stacks] {
            list.sort_by_key(Value::to_string);
        }
        json!({"assets": assets, "albums": albums, "tags": tags, "stacks": stacks, "paused": self.paused})
    }
}
