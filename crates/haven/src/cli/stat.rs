//! `haven stat`: how much there is, before and after, and what it costs.

use std::path::Path;

use haven_format::layout;
use haven_mount::control::{Found, Request, find};
use haven_store::{DynStore, StoreError};
use haven_vault::{Sums, disk::MemoryDisk};
use serde::{Deserialize, Serialize};

use super::{Context, ask::ask, wait};
use crate::{
    library::{self, store_trouble},
    replicas::Place,
    report::{Code, Trouble},
    secret::KeyArgs,
    wire, words,
};

/// Count files, bytes before and after deduplication and compression, objects, and cost
///
/// Of a mounted library, or of any by its URL. Lists the bucket: a request for every thousand objects.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  haven stat /mnt/photos\n  haven stat s3://photos/haven --json")]
pub struct Args {
    /// A mount point, or the URL of a library [default: library.url in haven.toml]
    #[arg(value_name = "MOUNTPOINT|URL")]
    what: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

/// What there is. Sizes in bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Gathered {
    pub url: String,
    /// Files, directories and links.
    pub inodes: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Different chunks, their bytes plain and sealed.
    pub chunks: u64,
    pub chunk_bytes: u64,
    pub sealed_bytes: u64,
    pub packs: u64,
    pub pack_bytes: u64,
    /// What the store holds, by kind.
    pub stored: Vec<Kind>,
    pub stored_objects: u64,
    pub stored_bytes: u64,
    /// US dollars a month for what is stored, at list prices.
    pub cost: Vec<Cost>,
}

/// Objects of one kind.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kind {
    pub kind: String,
    pub objects: u64,
    pub bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Cost {
    pub store: String,
    pub dollars_a_month: f64,
}

/// List prices of storage in US dollars for a GB and month, without requests and traffic: their public price lists.
const PRICES: [(&str, f64); 3] = [("AWS S3 Standard", 0.023), ("Cloudflare R2", 0.015), ("Backblaze B2", 0.006)];

const KINDS: [(&str, &str); 6] = [
    ("packs", layout::PACKS),
    ("shards", layout::SHARDS),
    ("segments", layout::SEGMENTS),
    ("roots", layout::ROOTS),
    ("claims", layout::CLAIMS),
    ("configurations", layout::CONFIGS),
];

/// Counts the objects in `store` and puts `sums` beside them.
pub async fn gather(store: &DynStore, url: &str, sums: Sums) -> Result<Gathered, StoreError> {
    let mut stored = Vec::new();
    for (kind, prefix) in KINDS {
        let (mut objects, mut bytes, mut after) = (0, 0, None::<String>);
        loop {
            let page = store.list(prefix, after.as_deref(), 1000).await?;
            objects += page.objects.len() as u64;
            bytes += page.objects.iter().map(|object| object.bytes).sum::<u64>();
            after = page.objects.last().map(|object| object.name.to_string()).or(after);
            if !page.more {
                break;
            }
        }
        stored.push(Kind { kind: kind.into(), objects, bytes });
    }
    let stored_bytes = stored.iter().map(|kind| kind.bytes).sum::<u64>();
    let cost =
        |(store, price): (&str, f64)| Cost { store: store.into(), dollars_a_month: stored_bytes as f64 / 1e9 * price };
    let Sums { inodes, file_bytes, chunks, chunk_bytes, sealed_bytes, packs, pack_bytes } = sums;
    Ok(Gathered {
        url: url.to_owned(),
        inodes,
        file_bytes,
        chunks,
        chunk_bytes,
        sealed_bytes,
        packs,
        pack_bytes,
        stored_objects: stored.iter().map(|kind| kind.objects).sum(),
        stored_bytes,
        stored,
        cost: PRICES.map(cost).into(),
    })
}

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let what = args
        .what
        .clone()
        .or_else(|| std::env::var("HAVEN_LIBRARY").ok())
        .or_else(|| context.config.library.url.clone());
    let Some(what) = what else {
        return Err(Trouble::new(Code::Usage, "no library was named").next("haven stat MOUNTPOINT, or haven stat URL"));
    };
    let gathered = match find(Path::new(&what)) {
        Ok(Found::Mount { at, .. }) if !what.contains("://") => {
            let value = ask(&at, &Request::new("stat"), "counting")?;
            serde_json::from_value(value).map_err(|error| {
                Trouble::new(Code::Bug, "the mount's process answered something else").caused_by(&error)
            })?
        }
        _ => wait_for_store(context, &context.config.place(&what), &args.key)?,
    };
    context.answer(&gathered, &told(&gathered))
}

/// Opens the library for reading only, with nothing on this machine's disk.
fn wait_for_store(context: &Context, place: &Place, key: &KeyArgs) -> Result<Gathered, Trouble> {
    wait(async {
        let stack = library::open_place(place)?;
        let found = library::find(&stack.store).await?;
        let open = found.unlock(&key.source(&context.config.key).read()?)?;
        let options =
            haven_vault::Options { read_only: true, cache_limit: 1 << 30, ..wire::vault_options(&context.config) };
        let vault = wire::vault(wire::world(&stack, MemoryDisk::new()), open.keys(), options).await?;
        let sums = vault.status().sums;
        let gathered = gather(&stack.store, &place.url, sums).await;
        _ = vault.close(false).await;
        gathered.map_err(|error| store_trouble("the store's objects can't be counted", &error))
    })
}

fn told(all: &Gathered) -> String {
    let share = |part: u64, whole: u64| if whole == 0 { 100.0 } else { 100.0 * part as f64 / whole as f64 };
    let mut out = format!("{}\n\n", all.url);
    let mut row = |name: &str, value: String| out += &format!("{name:<26}{value}\n");
    row("files, folders, links", all.inodes.to_string());
    row("bytes of all files", words::bytes(all.file_bytes));
    row(
        "  after deduplication",
        format!(
            "{}, {:.1} %, in {}",
            words::bytes(all.chunk_bytes),
            share(all.chunk_bytes, all.file_bytes),
            words::count(all.chunks as usize, "chunk")
        ),
    );
    row(
        "  and compression",
        format!("{}, {:.1} %", words::bytes(all.sealed_bytes), share(all.sealed_bytes, all.file_bytes)),
    );
    row(
        "in the store",
        format!("{} in {}", words::bytes(all.stored_bytes), words::count(all.stored_objects as usize, "object")),
    );
    for kind in &all.stored {
        row(&format!("  {}", kind.kind), format!("{} in {}", words::bytes(kind.bytes), kind.objects));
    }
    row("a month of that", String::new());
    for cost in &all.cost {
        row(&format!("  {}", cost.store), format!("{:.2} USD", cost.dollars_a_month));
    }
    out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
