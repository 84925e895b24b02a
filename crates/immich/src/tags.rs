//! Tags.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{Error, Id, Immich, call};

/// Ids in one request.
const IDS_MAX: usize = 500;

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tag {
    pub id: Id,
    /// The whole path: `People/Anna`.
    pub value: String,
}

#[derive(Serialize)]
struct Upsert<'a> {
    tags: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagAssets<'a> {
    tag_ids: &'a [Id],
    asset_ids: &'a [Id],
}

#[derive(Serialize)]
struct Ids<'a> {
    ids: &'a [Id],
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

impl Immich {
    /// All tags of this user.
    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.get(call::TAGS, "/tags").await
    }

    /// Makes sure that these tags are there, with what stands above them (`a/b` is `b` below `a`).
    pub async fn upsert_tags(&self, values: &[String]) -> Result<Vec<Tag>, Error> {
        self.ask(call::CREATE_TAGS, Method::PUT, "/tags", Some(&Upsert { tags: values })).await
    }

    /// Puts each tag on each asset, 500 assets at a time; how many were not on them before. To be called when the server
    /// has read the files: it replaces tags by what they say.
    pub async fn tag_assets(&self, tags: &[Id], assets: &[Id]) -> Result<u64, Error> {
        let mut count = 0;
        for asset_ids in assets.chunks(IDS_MAX) {
            let body = TagAssets { tag_ids: tags, asset_ids };
            count += self.ask::<Count>(call::TAG_ASSETS, Method::PUT, "/tags/assets", Some(&body)).await?.count;
        }
        Ok(count)
    }

    /// Takes a tag off assets, 500 at a time; what does not have it stays as it is.
    pub async fn untag_assets(&self, tag: &Id, assets: &[Id]) -> Result<(), Error> {
        let path = format!("/tags/{tag}/assets");
        for ids in assets.chunks(IDS_MAX) {
            self.tell(call::TAG_ASSETS, Method::DELETE, &path, Some(&Ids { ids })).await?;
        }
        Ok(())
    }
}
