//! Albums.

use http::Method;
use serde::{Deserialize, Serialize};

use crate::{Error, Id, Immich, Query, Visibility, call};

/// Ids in one request.
const IDS_MAX: usize = 500;

/// One album.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Album {
    pub id: Id,
    pub album_name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub asset_count: u64,
}

/// What became of one asset that was to enter an album.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlbumAnswer {
    Added,
    /// It is in it already: as good as added.
    WasIn,
    /// The server's word: `not_found`, `no_permission`, `validation`, `unknown`.
    Failed(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewAlbum<'a> {
    album_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "<[Id]>::is_empty")]
    asset_ids: &'a [Id],
}

#[derive(Serialize)]
struct Ids<'a> {
    ids: &'a [Id],
}

#[derive(Deserialize)]
struct Answered {
    id: Id,
    success: bool,
    #[serde(default)]
    error: Option<String>,
}

impl Immich {
    /// All albums this user owns.
    pub async fn albums(&self) -> Result<Vec<Album>, Error> {
        let path = if self.version().asks_owned() { "/albums?isOwned=true" } else { "/albums" };
        self.get(call::ALBUMS, path).await
    }

    /// One album, without its members: [`Immich::search`] lists those.
    pub async fn album(&self, id: &Id) -> Result<Album, Error> {
        let without = if self.version().asks_owned() { "" } else { "?withoutAssets=true" };
        self.get(call::ALBUMS, &format!("/albums/{id}{without}")).await
    }

    /// The members of an album, trashed ones too, of any visibility but locked; none where there is no such album.
    pub async fn album_members(&self, id: &Id) -> Result<Option<Vec<Id>>, Error> {
        match self.album(id).await {
            Ok(_) => {}
            Err(Error::Refused { status: 400 | 404, .. }) => return Ok(None),
            Err(other) => return Err(other),
        }
        let kinds: &[Option<Visibility>] = match self.version().lists_all_visibilities() {
            true => &[None],
            false => &[Some(Visibility::Timeline), Some(Visibility::Archive), Some(Visibility::Hidden)],
        };
        let mut members = Vec::new();
        for visibility in kinds {
            let query =
                Query { album_ids: Some(id.clone()), visibility: *visibility, with_deleted: true, ..Query::default() };
            let mut page = Some(1);
            while let Some(number) = page {
                let found = self.search(&query, number).await?;
                members.extend(found.assets.into_iter().map(|asset| asset.id));
                page = found.next;
            }
        }
        Ok(Some(members))
    }

    /// Makes an album with the first 500 of `ids`; the others, which are given back, enter it by [`Self::fill_album`].
    /// A second album of the same name is another album.
    pub async fn create_album<'a>(
        &self,
        name: &str,
        description: &str,
        ids: &'a [Id],
    ) -> Result<(Album, &'a [Id]), Error> {
        let (first, rest) = ids.split_at(ids.len().min(IDS_MAX));
        let body = NewAlbum { album_name: name, description, asset_ids: first };
        Ok((self.ask(call::CREATE_ALBUM, Method::POST, "/albums", Some(&body)).await?, rest))
    }

    /// Puts assets into an album, 500 at a time: an answer for each, in order.
    pub async fn fill_album(&self, album: &Id, ids: &[Id]) -> Result<Vec<AlbumAnswer>, Error> {
        let mut answers = Vec::with_capacity(ids.len());
        let path = format!("/albums/{album}/assets");
        for ids in ids.chunks(IDS_MAX) {
            let answered: Vec<Answered> = self.ask(call::FILL_ALBUM, Method::PUT, &path, Some(&Ids { ids })).await?;
            for id in ids {
                let own = answered.iter().filter(|answer| answer.id == *id);
                // An id that was named twice is answered twice: added, and a duplicate.
                let best = own.max_by_key(|answer| answer.success);
                answers.push(match best {
                    Some(Answered { success: true, .. }) => AlbumAnswer::Added,
                    Some(Answered { error: Some(word), .. }) if word == "duplicate" => AlbumAnswer::WasIn,
                    Some(Answered { error, .. }) => {
                        AlbumAnswer::Failed(error.clone().unwrap_or_else(|| "unknown".into()))
                    }
                    None => AlbumAnswer::Failed("no answer".into()),
                });
            }
        }
        Ok(answers)
    }
}
