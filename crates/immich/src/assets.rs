//! Assets: which ones the server has, and what it knows of them.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{Error, Id, Immich, Sha1, call};

/// Where an asset is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    Timeline,
    Archive,
    /// The moving half of a live photo.
    Hidden,
    Locked,
}

impl Visibility {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::Archive => "archive",
            Self::Hidden => "hidden",
            Self::Locked => "locked",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AssetKind {
    Image,
    Video,
    Audio,
    Other,
}

/// One asset.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asset {
    pub id: Id,
    pub owner_id: Id,
    /// Of the content the server has on its disk, as it was summed on arrival.
    pub checksum: Sha1,
    #[serde(rename = "type")]
    pub kind: AssetKind,
    pub original_file_name: String,
    #[serde(default)]
    pub is_favorite: bool,
    #[serde(default)]
    pub is_trashed: bool,
    pub visibility: Visibility,
    #[serde(default)]
    pub live_photo_video_id: Option<Id>,
}

/// What the server says to one checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkAnswer {
    /// It does not have it.
    New,
    Has {
        id: Id,
        trashed: bool,
    },
    /// It would not take it.
    Unsupported,
}

/// What to list.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// Members of this album.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_list")]
    pub album_ids: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Sha1>,
    /// Without it v3 lists all but locked ones, and what came before those of the timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// With those in the trash.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub with_deleted: bool,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Found {
    pub assets: Vec<Asset>,
    /// The next page's number; none at the end.
    pub next: Option<u32>,
}

/// How many assets the user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Statistics {
    pub images: u64,
    pub videos: u64,
    pub total: u64,
}

/// Assets on one page of a list: the most the server gives.
const PAGE: u32 = 1000;
/// Checksums in one question: what Immich's own client sends at most is far less than the server's limit of 10 MB.
const BULK_MAX: usize = 1000;
/// Ids in one request that changes assets.
const IDS_MAX: usize = 500;

#[derive(Serialize)]
struct Check<'a> {
    assets: Vec<CheckItem<'a>>,
}

#[derive(Serialize)]
struct CheckItem<'a> {
    id: String,
    checksum: &'a Sha1,
}

#[derive(Deserialize)]
struct Checked {
    results: Vec<CheckedItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckedItem {
    id: String,
    action: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    asset_id: Option<Id>,
    #[serde(default)]
    is_trashed: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    query: &'a Query,
    page: u32,
    size: u32,
}

#[derive(Deserialize)]
struct Searched {
    assets: SearchedAssets,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SearchedAssets {
    items: Vec<Asset>,
    next_page: Option<String>,
}

#[derive(Serialize)]
struct Ids<'a> {
    ids: &'a [Id],
}

#[derive(Serialize)]
struct StackBody<'a> {
    #[serde(rename = "assetIds")]
    ids: &'a [Id],
}

#[derive(Deserialize)]
struct StackMade {
    id: Id,
}

/// What is to be changed of assets; what is none stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    #[serde(rename = "isFavorite", skip_serializing_if = "Option::is_none")]
    pub favourite: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// What is to be said of one asset; what is none stays. The server writes it into a sidecar of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Words {
    /// ISO 8601 with its offset.
    #[serde(rename = "dateTimeOriginal", skip_serializing_if = "Option::is_none")]
    pub taken: Option<String>,
    /// Degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

#[derive(Serialize)]
struct ChangeBody<'a> {
    ids: &'a [Id],
    #[serde(flatten)]
    change: Change,
}

#[derive(Serialize)]
struct LiveVideo<'a> {
    #[serde(rename = "livePhotoVideoId")]
    video: &'a Id,
}

fn as_list<S: serde::Serializer>(id: &Option<Id>, to: S) -> Result<S::Ok, S::Error> {
    id.as_slice().serialize(to)
}

impl Immich {
    /// Which of these contents the user has: one answer for each, in order. Asks 1,000 at a time.
    pub async fn bulk_check(&self, sums: &[Sha1]) -> Result<Vec<BulkAnswer>, Error> {
        let mut answers = Vec::with_capacity(sums.len());
        for sums in sums.chunks(BULK_MAX) {
            let items = sums.iter().enumerate();
            let assets = items.map(|(at, checksum)| CheckItem { id: at.to_string(), checksum }).collect();
            let path = "/assets/bulk-upload-check";
            let checked: Checked = self.ask(call::BULK_CHECK, Method::POST, path, Some(&Check { assets })).await?;
            let mut given: Vec<Option<BulkAnswer>> = vec![None; sums.len()];
            for item in checked.results {
                let at = item.id.parse::<usize>().ok().filter(|at| *at < given.len());
                let at = at.ok_or_else(|| garbled(format!("an answer to {:?}, which was not asked", item.id)))?;
                given[at] = Some(item.meaning()?);
            }
            for answer in given {
                answers.push(answer.ok_or_else(|| garbled("fewer answers than questions".into()))?);
            }
        }
        Ok(answers)
    }

    /// One asset. [`Error::Refused`] where there is none of that id, or it is another user's.
    pub async fn asset(&self, id: &Id) -> Result<Asset, Error> {
        self.get(call::ASSET, &format!("/assets/{id}")).await
    }

    /// The SHA-1 and the length of an asset's bytes, as they come back from the server's disk.
    pub async fn download_sum(&self, id: &Id) -> Result<(Sha1, u64), Error> {
        let mut sum = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        let mut bytes = 0;
        let path = format!("/assets/{id}/original");
        let read = self.wire.read(call::DOWNLOAD, &path, |piece| {
            sum.update(piece);
            bytes += piece.len() as u64;
        });
        if let Err(answer) = read.await? {
            self.serving(answer.status).await?;
            answer.good(call::DOWNLOAD, self.wire.connector.address(), 0)?;
        }
        let mut sha1 = [0; 20];
        sha1.copy_from_slice(sum.finish().as_ref());
        Ok((Sha1(sha1), bytes))
    }

    /// A page of a list; the first is 1.
    pub async fn search(&self, query: &Query, page: u32) -> Result<Found, Error> {
        let body = Page { query, page, size: PAGE };
        let found: Searched = self.ask(call::SEARCH, Method::POST, "/search/metadata", Some(&body)).await?;
        let next = found.assets.next_page.map(|page| page.parse::<u32>());
        let next = next.transpose().map_err(|_| Error::Garbled {
            call: call::SEARCH.does,
            detail: "the number of the next page is none".into(),
        })?;
        Ok(Found { assets: found.assets.items, next: next.filter(|next| *next > page) })
    }

    /// How many assets the user has, without hidden ones: those in the trash, or the others.
    pub async fn statistics(&self, trashed: bool) -> Result<Statistics, Error> {
        self.get(call::STATISTICS, &format!("/assets/statistics?isTrashed={trashed}")).await
    }

    /// Changes each of these assets in the same way.
    pub async fn change(&self, ids: &[Id], change: Change) -> Result<(), Error> {
        for ids in ids.chunks(IDS_MAX) {
            self.tell(call::UPDATE_ASSET, Method::PUT, "/assets", Some(&ChangeBody { ids, change })).await?;
        }
        Ok(())
    }

    /// Links a still to its moving half, after both were uploaded.
    pub async fn link_live_video(&self, still: &Id, video: &Id) -> Result<(), Error> {
        self.tell(call::UPDATE_ASSET, Method::PUT, &format!("/assets/{still}"), Some(&LiveVideo { video })).await?;
        Ok(())
    }

    /// Says something of one asset, in place of what was said before.
    pub async fn describe(&self, asset: &Id, words: &Words) -> Result<(), Error> {
        self.tell(call::UPDATE_ASSET, Method::PUT, &format!("/assets/{asset}"), Some(words)).await?;
        Ok(())
    }

    /// Moves assets into the trash, from which they go after the server's delay.
    pub async fn trash(&self, ids: &[Id]) -> Result<(), Error> {
        for ids in ids.chunks(IDS_MAX) {
            self.tell(call::TRASH, Method::DELETE, "/assets", Some(&Ids { ids })).await?;
        }
        Ok(())
    }

    /// Takes assets out of the trash.
    pub async fn restore(&self, ids: &[Id]) -> Result<(), Error> {
        for ids in ids.chunks(IDS_MAX) {
            self.tell(call::RESTORE, Method::POST, "/trash/restore/assets", Some(&Ids { ids })).await?;
        }
        Ok(())
    }

    /// Stacks at least two assets; the first is shown. An asset stands in one stack: making a second one with it makes
    /// one of both.
    pub async fn stack(&self, ids: &[Id]) -> Result<Id, Error> {
        let made: StackMade = self.ask(call::CREATE_STACK, Method::POST, "/stacks", Some(&StackBody { ids })).await?;
        Ok(made.id)
    }
}

impl CheckedItem {
    fn meaning(self) -> Result<BulkAnswer, Error> {
        match (self.action.as_str(), self.reason.as_deref(), self.asset_id) {
            ("accept", ..) => Ok(BulkAnswer::New),
            ("reject", Some("unsupported-format"), _) => Ok(BulkAnswer::Unsupported),
            ("reject", _, Some(id)) => Ok(BulkAnswer::Has { id, trashed: self.is_trashed }),
            (action, ..) => Err(garbled(format!("{action:?} without an asset's id"))),
        }
    }
}

fn garbled(detail: String) -> Error {
    Error::Garbled { call: call::BULK_CHECK.does, detail }
}
