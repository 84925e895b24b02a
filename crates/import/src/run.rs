//! A whole import: ask, pause, upload, join, verify, and give back what was paused.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    asked::{Asked, ask},
    compare::{CompareError, cap},
    content::{ContentRow, Linked, Mark, There},
    counted,
    describe::{Facts, Telling},
    group::group,
    jobs,
    journal::{Journal, State},
    lane::Lane,
    options::Options,
    outlook::Measured,
    patience::{Patience, Stop, Waits},
    progress::Progress,
    server::{About, Server, ServerError, Sha1},
    source::Sources,
    stream::upload_streams,
    upload::{Shared, upload_all, waits_for_still},
    verify::verify,
};

/// What an import is run with.
pub struct Setup {
    pub journal: Arc<Journal>,
    pub server: Arc<dyn Server>,
    /// With an administrator's key, where background work is to be paused.
    pub admin: Option<Arc<dyn Server>>,
    /// The server's address, as the owner wrote it.
    pub address: String,
    /// The parts that are here now.
    pub parts: Vec<i64>,
    pub options: Options,
    pub progress: Arc<Progress>,
    pub waits: Waits,
    /// Turns true when the owner wants it to end.
    pub cancelled: watch::Receiver<bool>,
    /// Uploads at once, at most.
    pub tasks_max: usize,
    /// Failures after which all stops; none goes on.
    pub errors_max: Option<u64>,
    /// A word for the owner that is no failure.
    pub warn: Box<dyn Fn(&str) + Send + Sync>,
}

/// Uploads at once in the beginning.
const LANES_FIRST: usize = 8;

/// Runs the import that is planned in the journal. What could not be brought over stands in the journal.
pub async fn run(setup: Setup) -> Result<(), Stop> {
    let admin = setup.admin.clone();
    let about = who(&setup).await;
    if let Some(admin) = &admin {
        match &about {
            Err(Stop::OtherServer(server)) => still_paused(&setup, server)?,
            _ => give_back(&setup, &**admin).await,
        }
    }
    let about = about?;
    introduce(&setup, &about).await?;
    if let Some(admin) = &admin {
        match jobs::pause(&setup.journal, &**admin, &setup.address).await {
            Ok(0) => {}
            Ok(paused) => (setup.warn)(&format!(
                "{paused} queues of the server's background work are paused until the import ends; thumbnails come after it"
            )),
            Err(jobs::JobsError::Journal(error)) => return Err(error.into()),
            Err(error) => (setup.warn)(&format!("the server's background work goes on meanwhile: {error}")),
        }
    }
    let (journal, server, address) = (setup.journal.clone(), setup.server.clone(), setup.address.clone());
    let warn = setup.warn;
    let setup = Setup { warn: Box::new(|_| {}), ..setup };
    let ended = work(setup, about).await;
    if let Some(admin) = admin
        && let Err(error) = jobs::resume(&journal, &*admin, &*server, &address).await
    {
        warn(&format!("background work is still paused: {error}; haven import resume-jobs resumes it"));
    }
    ended
}

/// Queues that an earlier run paused, and was killed before it could resume them.
async fn give_back(setup: &Setup, admin: &dyn Server) {
    if let Err(error) = jobs::resume(&setup.journal, admin, &*setup.server, &setup.address).await {
        (setup.warn)(&format!("background work that an earlier run paused is still paused: {error}"));
    }
}

/// Where this is not the import's server what is paused here is not ours; what an earlier run paused stays noted, and is told.
fn still_paused(setup: &Setup, server: &str) -> Result<(), Stop> {
    if !jobs::leased(&setup.journal)?.is_empty() {
        let place = jobs::place(&setup.journal)?.unwrap_or_else(|| server.to_owned());
        (setup.warn)(&format!(
            "background work that an earlier run paused is still paused: it was paused on {place}; haven import resume-jobs \
             --server {place} resumes it"
        ));
    }
    Ok(())
}

/// Asks the server who it is, and whether it is the one of this import. Fails at once where nobody answers: an address can be wrong.
async fn who(setup: &Setup) -> Result<About, Stop> {
    let about = setup.server.about().await.map_err(|error| match error {
        ServerError::Unauthorized(what) => Stop::Unauthorized(what),
        ServerError::Forbidden { what, permission } => Stop::Forbidden { what, permission },
        ServerError::Gone(what) => Stop::Gone(what),
        other => Stop::Strange(other.to_string()),
    })?;
    // The user, not the address: the same server is reached by several.
    match setup.journal.meta("user")? {
        Some(user) if user != about.user_id => Err(Stop::OtherServer(setup.journal.meta("server")?.unwrap_or(user))),
        _ => Ok(about),
    }
}

/// May this import go there, and what would hinder it? The first time it is noted where it goes.
async fn introduce(setup: &Setup, about: &About) -> Result<(), Stop> {
    let lacking = lacking(about, &setup.options);
    if !lacking.is_empty() {
        return Err(Stop::Permissions(lacking));
    }
    if setup.journal.meta("user")?.is_none() {
        setup.journal.set_meta("user", &about.user_id)?;
        setup.journal.set_meta("server", &format!("{} ({})", setup.address, about.user_name))?;
        if let Some(assets) = about.assets {
            counted::before(&setup.journal, assets)?;
        }
    }
    let due = setup
        .journal
        .count("SELECT coalesce(sum(bytes), 0) FROM content WHERE state IN (0, 1, 4) AND entry IS NOT NULL")?;
    let left = [("quota", about.quota_left_bytes), ("disk", about.disk_left_bytes)];
    for (what, left) in left.into_iter().filter_map(|(what, left)| Some((what, left?))).filter(|(_, left)| *left < due)
    {
        (setup.warn)(&format!(
            "{:.1} GB are to be uploaded, and the server's {what} has room for {:.1} GB: the import will stop there, and goes on when there is room",
            due as f64 / 1e9,
            left as f64 / 1e9
        ));
    }
    let wanted = ["asset.statistics", "asset.update", "tag.create", "tag.asset"];
    let lacks = without(about, &wanted);
    if !lacks.is_empty() {
        (setup.warn)(&format!(
            "the API key lacks {}: photos that are on the server already can't be tagged and joined, and the import stops \
             where it would have to",
            lacks.join(", ")
        ));
    }
    match cap(&setup.journal, &*setup.server).await {
        Ok(Some(cap)) => (setup.warn)(&format!(
            "a proxy before the server lets no request of {:.0} MB or more through: {} files ({:.1} GB) will not get there \
             (nginx: client_max_body_size; Cloudflare: 100 MB). Immich's own address and port, http://HOST:2283, has no \
             such limit",
            cap.refused_bytes as f64 / 1e6,
            cap.refused_files,
            cap.refused_sum_bytes as f64 / 1e9
        )),
        Ok(None) => {}
        Err(CompareError::Journal(error)) => return Err(error.into()),
        // Whatever it is will be met again.
        Err(CompareError::Server(_)) => {}
    }
    Ok(())
}

/// What the import needs and the key may not.
pub fn lacking(about: &About, options: &Options) -> Vec<String> {
    let mut needed = vec!["asset.upload", "asset.read"];
    if options.albums || options.into_album.is_some() {
        needed.extend(["album.create", "album.read", "albumAsset.create"]);
    }
    if options.trashed || options.restore {
        needed.push("asset.delete");
    }
    if options.verify_downloads {
        needed.push("asset.download");
    }
    if options.stacks.any() {
        needed.push("stack.create");
    }
    without(about, &needed)
}

/// Those of `needed` that the key may not, as far as the server tells.
fn without(about: &About, needed: &[&str]) -> Vec<String> {
    let Some(has) = about.permissions.as_ref().filter(|has| !has.iter().any(|p| p == "all")) else { return vec![] };
    needed.iter().filter(|needed| !has.iter().any(|has| has == *needed)).map(|needed| (*needed).to_owned()).collect()
}

async fn work(setup: Setup, about: About) -> Result<(), Stop> {
    let journal = setup.journal.clone();
    journal.db().execute("UPDATE content SET state = 0, why = NULL WHERE state = 4", [])?;
    let session = if setup.options.session_tag { Some(session(&journal)?) } else { None };
    let fresh = about.assets == Some(0);
    let shared = Arc::new(Shared {
        sources: Sources::open(&journal, &setup.parts, &setup.progress)?,
        telling: Telling { zone: setup.options.zone(), options: setup.options, session },
        journal: setup.journal,
        server: setup.server,
        progress: setup.progress,
        patience: Patience::new(setup.waits, setup.cancelled),
        about,
        lane: Lane::new(LANES_FIRST, setup.tasks_max),
        memory: Shared::memory(),
        long: Shared::long(),
        ahead: Shared::ahead(),
        fresh,
        asked: Asked::default(),
        errors_max: setup.errors_max,
        failures: AtomicU64::new(0),
    });
    known(&shared).await?;
    send(&shared).await?;
    group(&shared).await?;
    let first = verify(&shared).await?;
    if first.missing + first.loose > 0 {
        // What the server lost is sent once more, and looked at once more.
        send(&shared).await?;
        group(&shared).await?;
        verify(&shared).await?;
    }
    counted::count(&shared).await?;
    if journal.count("SELECT count(*) FROM content WHERE state IN (0, 1, 4) AND entry IS NOT NULL")? == 0 {
        journal.clear_meta("session")?;
    }
    Ok(())
}

async fn send(shared: &Arc<Shared>) -> Result<(), Stop> {
    let due = "FROM content WHERE state IN (0, 1) AND entry IS NOT NULL";
    let files = shared.journal.count(&format!("SELECT count(*) {due}"))?;
    let bytes = shared.journal.count(&format!("SELECT coalesce(sum(bytes), 0) {due}"))?;
    shared.progress.begin("upload", files, bytes);
    let measured = Measured::start(&shared.progress);
    let sent = match upload_all(shared).await {
        Ok(()) => upload_streams(shared).await,
        stopped => stopped,
    };
    // However it ended: the next plan tells by it how long the rest will take.
    measured.keep(&shared.journal)?;
    sent
}

/// The same tag until an import is whole, however often it is begun.
fn session(journal: &Journal) -> Result<String, Stop> {
    if let Some(session) = journal.meta("session")? {
        return Ok(session);
    }
    let session = format!("haven/{}", Timestamp::now().strftime("%Y-%m-%d %H:%M"));
    journal.set_meta("session", &session)?;
    Ok(session)
}

/// Contents whose SHA-1 is known already: what the server has of them is not read.
async fn known(shared: &Arc<Shared>) -> Result<(), Stop> {
    let mark = Mark(&shared.journal);
    let mut after = 0;
    loop {
        let batch: Vec<(i64, [u8; 20])> = {
            let db = shared.journal.db();
            let mut query = db.prepare(
                "SELECT id, sha1 FROM content WHERE state IN (0, 1) AND sha1 IS NOT NULL AND entry IS NOT NULL AND id > ?1
                 ORDER BY id LIMIT 1000",
            )?;
            query.query_map([after], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?
        };
        let Some((last, _)) = batch.last() else { return Ok(()) };
        after = *last;
        let sums: Vec<Sha1> = batch.iter().map(|(_, sha1)| Sha1(*sha1)).collect();
        let present = ask(shared, &sums).await?;
        for ((id, sha1), present) in batch.iter().zip(present) {
            if mark.twin(*id, Sha1(*sha1))? {
                continue;
            }
            let (Some(present), Some(row)) = (present, ContentRow::load(&shared.journal, *id)?) else { continue };
            // What is there and may not be wanted is looked into first.
            if shared.telling.is_judged_when_read(&row) || waits_for_still(shared, &row)? {
                continue;
            }
            let ours = row.tries > 0;
            let tags = if ours && row.xmp.is_none() {
                vec![]
            } else {
                shared.telling.describe(&row, &Facts::default(), None).tags
            };
            let state = if ours { State::Uploaded } else { State::Present };
            shared.progress.there.fetch_add(u64::from(!ours), Relaxed);
            mark.there(*id, &There { state, asset: present.id, sha1: row.sha1, linked: Linked::No, tags })?;
        }
    }
}
