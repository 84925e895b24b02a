//! An Immich server behind the port: nothing but translation.

use std::str::FromStr;

use async_trait::async_trait;
use bytes::Bytes;
use haven_immich as immich;
use immich::{Content, Id, Immich, QueueName, Verdict};

use crate::server::{
    About, Album, AlbumId, Asset, AssetId, Body, Change, Counts, Done, Present, Queue, Server, ServerError, Sha1,
    TagId, Upload, Uploaded, Visibility,
};

/// Servers up to v2 want the name of a device.
const DEVICE: &str = "haven-import";

#[async_trait]
impl Server for Immich {
    async fn ping(&self) -> Result<(), ServerError> {
        if self.standing().await.map_err(error)? == immich::Standing::Maintenance {
            return Err(ServerError::Gone("it is in maintenance mode".to_owned()));
        }
        // A server without its database answers pings, and nothing else: for whose key this is it needs it.
        match self.account().await.map_err(error) {
            Err(error @ (ServerError::Gone(_) | ServerError::Busy { .. })) => Err(error),
            _ => Ok(()),
        }
    }

    async fn about(&self) -> Result<About, ServerError> {
        let account = self.account().await.map_err(error)?;
        let types = self.media_types().await.map_err(error)?;
        let permissions = self.key_permissions().await.map_err(error)?;
        // Two that the key may not be allowed to ask, and nothing hangs on.
        let disk = self.storage().await.ok().map(|storage| storage.available_bytes);
        let assets = Server::counts(self).await.ok().map(Counts::total);
        let version = self.version();
        Ok(About {
            version: (version.major, version.minor, version.patch),
            user_id: account.id.to_string(),
            user_name: account.name.clone(),
            assets,
            quota_left_bytes: account.room(),
            disk_left_bytes: disk,
            extensions: types.image.into_iter().chain(types.video).collect(),
            permissions: permissions.map(|permissions| permissions.names().to_vec()),
        })
    }

    async fn counts(&self) -> Result<Counts, ServerError> {
        let shown = self.statistics(false).await.map_err(error)?;
        let trashed = self.statistics(true).await.map_err(error)?;
        Ok(Counts { images: shown.images, videos: shown.videos, trashed: trashed.total })
    }

    async fn present(&self, contents: &[Sha1]) -> Result<Vec<Option<Present>>, ServerError> {
        let sums: Vec<immich::Sha1> = contents.iter().map(|sha1| immich::Sha1(sha1.0)).collect();
        let answers = self.bulk_check(&sums).await.map_err(error)?;
        answers
            .into_iter()
            .map(|answer| match answer {
                immich::BulkAnswer::Has { id, trashed } => Ok(Some(Present { id: ours(&id)?, trashed })),
                _ => Ok(None),
            })
            .collect()
    }

    async fn upload(&self, upload: &Upload, body: Body) -> Result<Uploaded, ServerError> {
        let request = immich::Upload {
            file_name: upload.name.clone(),
            created_at: upload.created,
            modified_at: upload.modified,
            favourite: upload.favourite,
            visibility: visibility(upload.visibility),
            live_video: upload.live_video.as_ref().map(|id| theirs(id.as_str())).transpose()?,
            sidecar: upload.xmp.clone().map(Bytes::from),
            duration_ms: None,
            checksum: upload.sha1.map(|sha1| immich::Sha1(sha1.0)),
            device_asset_id: upload.device_asset_id.clone(),
            device_id: DEVICE.to_owned(),
        };
        // By its full name: the port's own method is called the same.
        let answer = Immich::upload(self, request, Content::new(upload.bytes, body)).await.map_err(error)?;
        Ok(Uploaded { id: ours(&answer.id)?, duplicate: answer.verdict == Verdict::Duplicate })
    }

    async fn lets_through(&self, bytes: u64) -> Result<bool, ServerError> {
        Immich::lets_through(self, bytes).await.map_err(error)
    }

    async fn asset(&self, id: &AssetId) -> Result<Option<Asset>, ServerError> {
        match Immich::asset(self, &theirs(id.as_str())?).await {
            Ok(asset) => Ok(Some(Asset {
                id: id.clone(),
                sha1: Some(Sha1(asset.checksum.0)),
                trashed: asset.is_trashed,
                favourite: asset.is_favorite,
                visibility: match asset.visibility {
                    immich::Visibility::Timeline => Visibility::Timeline,
                    immich::Visibility::Archive => Visibility::Archive,
                    immich::Visibility::Hidden => Visibility::Hidden,
                    immich::Visibility::Locked => Visibility::Locked,
                },
                live_video: asset.live_photo_video_id.as_ref().map(ours).transpose()?,
            })),
            Err(immich::Error::Refused { status: 400 | 404, .. }) => Ok(None),
            Err(other) => Err(error(other)),
        }
    }

    async fn downloaded(&self, id: &AssetId) -> Result<Sha1, ServerError> {
        let (sum, _) = self.download_sum(&theirs(id.as_str())?).await.map_err(error)?;
        Ok(Sha1(sum.0))
    }

    async fn change(&self, ids: &[AssetId], change: &Change) -> Result<(), ServerError> {
        let ids = all_theirs(ids)?;
        if change.favourite.is_some() || change.visibility.is_some() {
            let change = immich::Change { favourite: change.favourite, visibility: change.visibility.map(visibility) };
            Immich::change(self, &ids, change).await.map_err(error)?;
        }
        if let (Some(video), [still]) = (&change.live_video, &ids[..]) {
            self.link_live_video(still, &theirs(video.as_str())?).await.map_err(error)?;
        }
        let words = immich::Words {
            taken: change.taken.as_ref().map(|taken| taken.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()),
            latitude: change.place.map(|(latitude, _)| latitude),
            longitude: change.place.map(|(_, longitude)| longitude),
            description: change.description.clone(),
        };
        if let (true, [asset]) = (words != immich::Words::default(), &ids[..]) {
            self.describe(asset, &words).await.map_err(error)?;
        }
        Ok(())
    }

    async fn trash(&self, ids: &[AssetId]) -> Result<(), ServerError> {
        Immich::trash(self, &all_theirs(ids)?).await.map_err(error)
    }

    async fn restore(&self, ids: &[AssetId]) -> Result<(), ServerError> {
        Immich::restore(self, &all_theirs(ids)?).await.map_err(error)
    }

    async fn albums(&self) -> Result<Vec<Album>, ServerError> {
        let albums = Immich::albums(self).await.map_err(error)?;
        let album = |album: immich::Album| -> Result<Album, ServerError> {
            Ok(Album { id: ours(&album.id)?, title: album.album_name, owned: true })
        };
        albums.into_iter().map(album).collect()
    }

    async fn create_album(&self, title: &str, description: &str, ids: &[AssetId]) -> Result<AlbumId, ServerError> {
        let ids = all_theirs(ids)?;
        let (album, rest) = Immich::create_album(self, title, description, &ids).await.map_err(error)?;
        if !rest.is_empty() {
            self.fill_album(&album.id, rest).await.map_err(error)?;
        }
        ours(&album.id)
    }

    async fn add_to_album(&self, album: &AlbumId, ids: &[AssetId]) -> Result<Vec<Done>, ServerError> {
        let answers = self.fill_album(&theirs(album.as_str())?, &all_theirs(ids)?).await.map_err(error)?;
        let done = |answer| match answer {
            immich::AlbumAnswer::Added => Done::Added,
            immich::AlbumAnswer::WasIn => Done::Already,
            immich::AlbumAnswer::Failed(why) => Done::Not(why),
        };
        Ok(answers.into_iter().map(done).collect())
    }

    async fn album_members(&self, album: &AlbumId) -> Result<Option<Vec<AssetId>>, ServerError> {
        let members = Immich::album_members(self, &theirs(album.as_str())?).await.map_err(error)?;
        members.map(|members| members.iter().map(ours).collect::<Result<Vec<AssetId>, ServerError>>()).transpose()
    }

    async fn tags(&self, names: &[String]) -> Result<Vec<TagId>, ServerError> {
        let made = self.upsert_tags(names).await.map_err(error)?;
        let find = |name: &String| {
            let tag = made.iter().find(|tag| tag.value == *name);
            ours(&tag.ok_or_else(|| ServerError::Strange(format!("no tag {name:?} in the answer")))?.id)
        };
        names.iter().map(find).collect()
    }

    async fn tag_assets(&self, tags: &[TagId], ids: &[AssetId]) -> Result<(), ServerError> {
        let tags = tags.iter().map(|tag| theirs(tag.as_str())).collect::<Result<Vec<Id>, _>>()?;
        Immich::tag_assets(self, &tags, &all_theirs(ids)?).await.map_err(error)?;
        Ok(())
    }

    async fn untag_assets(&self, tag: &TagId, ids: &[AssetId]) -> Result<(), ServerError> {
        Immich::untag_assets(self, &theirs(tag.as_str())?, &all_theirs(ids)?).await.map_err(error)
    }

    async fn stack(&self, ids: &[AssetId]) -> Result<(), ServerError> {
        Immich::stack(self, &all_theirs(ids)?).await.map_err(error)?;
        Ok(())
    }

    async fn queues(&self) -> Result<Vec<Queue>, ServerError> {
        let queues = Immich::queues(self).await.map_err(error)?;
        let queue = |queue: immich::Queue| Queue {
            name: queue.name.as_str().to_owned(),
            paused: queue.paused,
            pending: queue.waiting,
        };
        Ok(queues.into_iter().map(queue).collect())
    }

    async fn pause_queue(&self, name: &str, paused: bool) -> Result<(), ServerError> {
        Immich::pause_queue(self, &QueueName::new(name), paused).await.map_err(error)
    }
}

fn visibility(of: Visibility) -> immich::Visibility {
    match of {
        Visibility::Timeline => immich::Visibility::Timeline,
        Visibility::Archive => immich::Visibility::Archive,
        Visibility::Hidden => immich::Visibility::Hidden,
        Visibility::Locked => immich::Visibility::Locked,
    }
}

fn theirs(id: &str) -> Result<Id, ServerError> {
    id.parse().map_err(|error: immich::NotAnId| ServerError::Strange(error.to_string()))
}

fn all_theirs(ids: &[AssetId]) -> Result<Vec<Id>, ServerError> {
    ids.iter().map(|id| theirs(id.as_str())).collect()
}

fn ours<T: FromStr<Err = crate::server::EmptyId>>(id: &Id) -> Result<T, ServerError> {
    id.as_str().parse().map_err(|error: crate::server::EmptyId| ServerError::Strange(error.to_string()))
}

/// By what can be done.
fn error(error: immich::Error) -> ServerError {
    use immich::Error;
    let what = error.to_string();
    match error {
        Error::Gone { .. } | Error::Maintenance { .. } => ServerError::Gone(what),
        // Without a status the connection broke; with these a proxy says that nobody is behind it.
        Error::Passing { status: None | Some(502 | 503 | 504 | 520..=524), after: None, .. } => ServerError::Gone(what),
        Error::Passing { after, .. } => ServerError::Busy { what, retry_after: after },
        Error::Garbled { .. } => ServerError::Busy { what, retry_after: None },
        Error::Key { permission: None, .. } => ServerError::Unauthorized(what),
        Error::Key { permission, .. } => ServerError::Forbidden { what, permission },
        Error::TooLarge { .. } => ServerError::TooLarge(what),
        Error::Full { .. } => ServerError::Full(what),
        Error::Refused { status, .. } => ServerError::Refused { status, what },
        Error::Source(error) => ServerError::Source(error),
        Error::Address { .. }
        | Error::TooOld { .. }
        | Error::TooNew { .. }
        | Error::Missing { .. }
        | Error::NotImmich { .. }
        | Error::Tls(_) => ServerError::Strange(what),
    }
}

/// Opens a server; the error as the port tells it.
pub async fn open(settings: immich::Settings) -> Result<Immich, ServerError> {
    Immich::open(settings).await.map_err(error)
}
