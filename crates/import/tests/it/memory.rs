//! A photo server in memory, which behaves as Immich does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use haven_import::server::*;
use sha1::{Digest, Sha1 as Hasher};
use tokio::time::Instant;

/// An asset with all that was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub upload: Upload,
    pub sha1: Sha1,
    pub trashed: bool,
    pub tags: BTreeSet<String>,
    pub untagged: BTreeSet<String>,
    /// What was said of it later.
    pub said: Vec<String>,
}

#[derive(Debug, Default)]
pub struct State {
    /// A proxy's limit.
    pub body_max: Option<u64>,
    pub assets: BTreeMap<AssetId, Kept>,
    pub albums: BTreeMap<AlbumId, (String, BTreeSet<AssetId>)>,
    pub tags: Vec<String>,
    pub stacks: Vec<Vec<AssetId>>,
    pub paused: BTreeSet<String>,
    /// How many bytes of bodies were read.
    pub body_bytes: u64,
    /// Answers to come instead of the next uploads.
    pub faults: Vec<Fault>,
    /// Files of more than 32 MiB wait until so many others are there, and are then refused.
    pub long_wait_for: Option<usize>,
    /// It goes away when so many photos are there, for so long.
    pub goes: Option<(usize, Absence)>,
    /// How it is away, and since when.
    pub away: Option<(Absence, Instant)>,
    /// When it was asked whether it is back.
    pub pings: Vec<Instant>,
    /// Calls about albums under way, and the most there were.
    pub album_calls: usize,
    pub album_calls_most: usize,
    /// Nothing is taken out of its trash.
    pub keeps_trash: bool,
    /// It makes no stacks.
    pub refuses_stacks: bool,
    /// Asked for its albums, it answers something else.
    pub strange_albums: bool,
    /// What makes its user another one than other servers' users.
    pub user: &'static str,
}

/// How a server is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Nobody answers.
    Stopped(Duration),
    /// It answers, and with an error: its database is away.
    NoDatabase(Duration),
    /// A proxy answers in its place, with a page.
    Page(Duration),
}

/// What goes wrong with an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and nobody answers.
    Before,
    /// It takes effect, and the answer is lost.
    After,
    /// Some of the body is read, and then it is too busy.
    Busy,
    /// Some of the body is read, and then it goes away.
    Goes(Absence),
}

#[derive(Debug, Default)]
pub struct Memory(pub Mutex<State>);

impl Memory {
    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What every call answers while it is away.
    fn serves(&self) -> Result<(), ServerError> {
        let mut state = self.state();
        if let Some((_, how)) = state.goes.filter(|(photos, _)| state.assets.len() >= *photos) {
            (state.goes, state.away) = (None, Some((how, Instant::now())));
        }
        match state.away {
            Some((Absence::Stopped(time), since)) if since.elapsed() < time => Err(gone()),
            Some((Absence::NoDatabase(time), since)) if since.elapsed() < time => {
                Err(ServerError::Busy { what: "500 Internal Server Error".to_owned(), retry_after: None })
            }
            Some((Absence::Page(time), since)) if since.elapsed() < time => {
                Err(ServerError::Strange("it answers 404 Not Found to what Immich knows".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

pub fn sha1(bytes: &[u8]) -> Sha1 {
    Sha1(Hasher::digest(bytes).into())
}

fn gone() -> ServerError {
    ServerError::Gone("connection reset".to_owned())
}

fn refused(what: &str) -> ServerError {
    ServerError::Refused { status: 400, what: what.to_owned() }
}

#[async_trait]
impl Server for Memory {
    async fn ping(&self) -> Result<(), ServerError> {
        self.state().pings.push(Instant::now());
        self.serves()
    }

    async fn about(&self) -> Result<About, ServerError> {
        self.serves()?;
        let user = self.state().user;
        let extensions = [".jpg", ".jpeg", ".heic", ".png", ".mp4", ".mov", ".gif", ".webp", ".dng", ".3gp"];
        Ok(About {
            version: (3, 1, 0),
            user_id: format!("u1{user}"),
            user_name: "Owner".to_owned(),
            assets: Some(self.state().assets.len() as u64),
            quota_left_bytes: None,
            disk_left_bytes: None,
            extensions: extensions.map(str::to_owned).to_vec(),
            permissions: Some(vec!["all".to_owned()]),
        })
    }

    async fn counts(&self) -> Result<Counts, ServerError> {
        self.serves()?;
        let state = self.state();
        let shown = |kept: &&Kept| matches!(kept.upload.visibility, Visibility::Timeline | Visibility::Archive);
        let (trashed, shown): (Vec<_>, Vec<_>) = state.assets.values().filter(shown).partition(|kept| kept.trashed);
        let videos = shown.iter().filter(|kept| kept.upload.name.to_lowercase().ends_with(".mp4")).count();
        let count = |n: usize| n as u64;
        Ok(Counts { images: count(shown.len() - videos), videos: count(videos), trashed: count(trashed.len()) })
    }

    async fn present(&self, contents: &[Sha1]) -> Result<Vec<Option<Present>>, ServerError> {
        self.serves()?;
        let state = self.state();
        let find = |sha1: &Sha1| state.assets.iter().find(|(_, kept)| kept.sha1 == *sha1);
        let present = |(id, kept): (&AssetId, &Kept)| Present { id: id.clone(), trashed: kept.trashed };
        Ok(contents.iter().map(|sha1| find(sha1).map(present)).collect())
    }

    async fn upload(&self, upload: &Upload, mut body: Body) -> Result<Uploaded, ServerError> {
        self.serves()?;
        let fault = self.state().faults.pop();
        if fault == Some(Fault::Before) {
            return Err(gone());
        }
        let others = self.state().long_wait_for.filter(|_| upload.bytes > 32 << 20);
        if let Some(others) = others {
            while self.state().assets.len() < others {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return Err(refused("too long a film"));
        }
        let known = self.present(&upload.sha1.into_iter().collect::<Vec<_>>()).await?;
        if let Some(Some(present)) = known.first() {
            return Ok(Uploaded { id: present.id.clone(), duplicate: true });
        }
        if let Some(Fault::Busy | Fault::Goes(_)) = fault {
            _ = body.next().await;
        }
        match fault {
            Some(Fault::Busy) => {
                return Err(ServerError::Busy { what: "429 Too Many Requests".to_owned(), retry_after: None });
            }
            Some(Fault::Goes(absence)) => {
                self.state().away = Some((absence, Instant::now()));
                return Err(gone());
            }
            _ => {}
        }
        let (mut hasher, mut bytes) = (Hasher::new(), 0);
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(ServerError::Source)?;
            hasher.update(&piece);
            bytes += piece.len() as u64;
        }
        if bytes != upload.bytes {
            return Err(refused("the body is not as long as was said"));
        }
        let sha1 = Sha1(hasher.finalize().into());
        let known = self.present(&[sha1]).await?;
        let mut state = self.state();
        state.body_bytes += bytes;
        if let Some(present) = &known[0] {
            return Ok(Uploaded { id: present.id.clone(), duplicate: true });
        }
        let id: AssetId = format!("asset-{}", state.assets.len()).parse().unwrap();
        let upload = Upload { sha1: None, ..upload.clone() };
        let (tags, untagged) = (BTreeSet::new(), BTreeSet::new());
        state.assets.insert(id.clone(), Kept { upload, sha1, trashed: false, tags, untagged, said: vec![] });
        if fault == Some(Fault::After) { Err(gone()) } else { Ok(Uploaded { id, duplicate: false }) }
    }

    async fn lets_through(&self, bytes: u64) -> Result<bool, ServerError> {
        Ok(self.state().body_max.is_none_or(|max| bytes <= max))
    }

    async fn asset(&self, id: &AssetId) -> Result<Option<Asset>, ServerError> {
        Ok(self.state().assets.get(id).map(|kept| Asset {
            id: id.clone(),
            sha1: Some(kept.sha1),
            trashed: kept.trashed,
            favourite: kept.upload.favourite,
            visibility: kept.upload.visibility,
            live_video: kept.upload.live_video.clone(),
        }))
    }

    async fn downloaded(&self, id: &AssetId) -> Result<Sha1, ServerError> {
        self.state().assets.get(id).map(|kept| kept.sha1).ok_or_else(|| refused("no such asset"))
    }

    async fn change(&self, ids: &[AssetId], change: &Change) -> Result<(), ServerError> {
        let mut state = self.state();
        for id in ids {
            let kept = state.assets.get_mut(id).ok_or_else(|| refused("no such asset"))?;
            kept.upload.favourite = change.favourite.unwrap_or(kept.upload.favourite);
            kept.upload.visibility = change.visibility.unwrap_or(kept.upload.visibility);
            kept.upload.live_video = change.live_video.clone().or(kept.upload.live_video.take());
            let taken = change.taken.as_ref().map(|taken| format!("taken {taken}"));
            let place = change.place.map(|place| format!("place {place:?}"));
            let text = change.description.as_ref().map(|text| format!("text {text}"));
            kept.said.extend([taken, place, text].into_iter().flatten());
        }
        Ok(())
    }

    async fn trash(&self, ids: &[AssetId]) -> Result<(), ServerError> {
        let mut state = self.state();
        ids.iter().for_each(|id| state.assets.get_mut(id).unwrap().trashed = true);
        Ok(())
    }

    async fn restore(&self, ids: &[AssetId]) -> Result<(), ServerError> {
        let mut state = self.state();
        if state.keeps_trash {
            return Err(refused("not now"));
        }
        ids.iter().for_each(|id| state.assets.get_mut(id).unwrap().trashed = false);
        Ok(())
    }

    async fn albums(&self) -> Result<Vec<Album>, ServerError> {
        if self.state().strange_albums {
            return Err(ServerError::Strange("a page".to_owned()));
        }
        let album =
            |(id, (title, _)): (&AlbumId, &(String, _))| Album { id: id.clone(), title: title.clone(), owned: true };
        Ok(self.state().albums.iter().map(album).collect())
    }

    async fn create_album(&self, title: &str, _: &str, ids: &[AssetId]) -> Result<AlbumId, ServerError> {
        let id: AlbumId = format!("album-{}", self.state().albums.len()).parse().unwrap();
        self.state().albums.insert(id.clone(), (title.to_owned(), BTreeSet::new()));
        self.add_to_album(&id, ids).await?;
        Ok(id)
    }

    async fn add_to_album(&self, album: &AlbumId, ids: &[AssetId]) -> Result<Vec<Done>, ServerError> {
        {
            let mut state = self.state();
            state.album_calls += 1;
            state.album_calls_most = state.album_calls.max(state.album_calls_most);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.state().album_calls -= 1;
        self.serves()?;
        let mut state = self.state();
        let known: Vec<bool> = ids.iter().map(|id| state.assets.contains_key(id)).collect();
        let (_, members) = state.albums.get_mut(album).ok_or_else(|| refused("no such album"))?;
        let add = |(id, known): (&AssetId, bool)| match known {
            false => Done::Not("not_found".to_owned()),
            true if members.insert(id.clone()) => Done::Added,
            true => Done::Already,
        };
        Ok(ids.iter().zip(known).map(add).collect())
    }

    async fn album_members(&self, album: &AlbumId) -> Result<Option<Vec<AssetId>>, ServerError> {
        Ok(self.state().albums.get(album).map(|(_, members)| members.iter().cloned().collect()))
    }

    async fn tags(&self, names: &[String]) -> Result<Vec<TagId>, ServerError> {
        let mut state = self.state();
        for name in names {
            if !state.tags.contains(name) {
                state.tags.push(name.clone());
            }
        }
        Ok(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    async fn tag_assets(&self, tags: &[TagId], ids: &[AssetId]) -> Result<(), ServerError> {
        let mut state = self.state();
        for id in ids {
            let kept = state.assets.get_mut(id).ok_or_else(|| refused("no such asset"))?;
            kept.tags.extend(tags.iter().map(|tag| tag.as_str().to_owned()));
        }
        Ok(())
    }

    async fn untag_assets(&self, tag: &TagId, ids: &[AssetId]) -> Result<(), ServerError> {
        let mut state = self.state();
        for id in ids {
            let kept = state.assets.get_mut(id).ok_or_else(|| refused("no such asset"))?;
            kept.tags.remove(tag.as_str());
            kept.untagged.insert(tag.as_str().to_owned());
        }
        Ok(())
    }

    async fn stack(&self, ids: &[AssetId]) -> Result<(), ServerError> {
        let mut state = self.state();
        if state.refuses_stacks {
            return Err(refused("no stacks here"));
        }
        state.stacks.push(ids.to_vec());
        Ok(())
    }

    async fn queues(&self) -> Result<Vec<Queue>, ServerError> {
        let state = self.state();
        let queue = |name: &str| Queue { name: name.to_owned(), paused: state.paused.contains(name), pending: 0 };
        Ok(["thumbnailGeneration", "metadataExtraction", "smartSearch"].map(queue).to_vec())
    }

    async fn pause_queue(&self, name: &str, paused: bool) -> Result<(), ServerError> {
        let mut state = self.state();
        if paused {
            state.paused.insert(name.to_owned())
        } else {
            state.paused.remove(name)
        };
        Ok(())
    }
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_known_by_its_bytes() {
    let server = Memory::default();
    server.state().faults = vec![Fault::After, Fault::Before];
    let upload = Upload {
        name: "a.jpg".to_owned(),
        created: jiff::Timestamp::UNIX_EPOCH,
        modified: jiff::Timestamp::UNIX_EPOCH,
        favourite: false,
        visibility: Visibility::Timeline,
        live_video: None,
        xmp: None,
        sha1: None,
        bytes: 3,
        device_asset_id: "a".to_owned(),
    };
    let body = || futures::stream::iter([Ok(bytes::Bytes::from_static(b"abc"))]).boxed();
    assert!(server.upload(&upload, body()).await.is_err());
    assert!(server.upload(&upload, body()).await.is_err());
    let third = server.upload(&upload, body()).await.unwrap();
    assert!(third.duplicate);
    assert_eq!(server.state().assets.len(), 1);
}
