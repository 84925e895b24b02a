//! `haven bench`: how fast this machine cuts, hashes, compresses and seals, and how fast the store takes it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use haven_format::{Keys, LibraryId, MasterKey, Nonce, chunk, codec};
use haven_store::{DynStore, ObjectName, PutMode, StoreError};
use serde::Serialize;

use super::{Context, UrlArg, wait};
use crate::{
    library::{self, dice, store_trouble},
    report::Trouble,
    words,
};

/// Measure what this machine, and the store if one is named, can do
///
/// Cuts, hashes, compresses and seals made-up data on one core; then writes, reads and deletes a few objects below
/// bench-… in the store.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  haven bench\n  haven bench s3://photos/haven")]
pub struct Args {
    #[command(flatten)]
    url: UrlArg,
    /// How much data to work on
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = haven_store::human::parse_bytes)]
    size: u64,
}

#[derive(Debug, Serialize)]
struct Figure {
    step: String,
    bytes: u64,
    seconds: f64,
    mb_a_second: f64,
}

impl Figure {
    fn new(step: &str, bytes: usize, took: Duration) -> Self {
        let seconds = took.as_secs_f64().max(1e-9);
        Self { step: step.into(), bytes: bytes as u64, seconds, mb_a_second: bytes as f64 / 1e6 / seconds }
    }
}

/// Objects of this many bytes go to the store: what packs are like.
const PACK_BYTES: usize = 16 << 20;

pub fn run(context: &Context, args: Args) -> Result<(), Trouble> {
    let size = usize::try_from(args.size).unwrap_or(usize::MAX).clamp(8 << 20, 4 << 30);
    let mut figures = pipeline("like photos", &noise(size));
    figures.extend(pipeline("like text", &text(size)));
    if let Ok(place) = args.url.place(&context.config) {
        figures.extend(wait(async {
            let store = library::open_place(&place)?.store;
            transfers(&store)
                .await
                .map_err(|error| store_trouble(format!("{} can't be measured", store.describe()), &error))
        })?);
    }
    let rows: Vec<_> = figures
        .iter()
        .map(|figure| {
            [
                figure.step.clone(),
                words::bytes(figure.bytes),
                format!("{:.3} s", figure.seconds),
                format!("{:.0} MB/s", figure.mb_a_second),
            ]
        })
        .collect();
    let text = words::table(["STEP", "BYTES", "TOOK", "SPEED"], &rows);
    context.answer(&serde_json::json!({ "figures": figures }), &text)
}

/// Each step alone, then all in a row, over the same data on one core.
fn pipeline(what: &str, data: &[u8]) -> Vec<Figure> {
    let keys = Keys::new(LibraryId([7; 16]), &MasterKey([7; 32]));
    let timed = |step: &str, work: &mut dyn FnMut()| {
        let started = Instant::now();
        work();
        Figure::new(&format!("{step}, {what}"), data.len(), started.elapsed())
    };
    let mut cuts = Vec::new();
    let mut payloads = Vec::new();
    let mut out = Vec::with_capacity(chunk::CHUNK_MAX + 1024);
    let chunks = |cuts: &[usize]| {
        let mut at = 0;
        let ranges: Vec<_> = cuts
            .iter()
            .map(|&length| {
                at += length;
                at - length..at
            })
            .collect();
        ranges
    };
    let mut figures = vec![timed("cut", &mut || cuts = chunk::cut(data, true, true))];
    let ranges = chunks(&cuts);
    figures.push(timed("hash", &mut || {
        ranges.iter().for_each(|range| {
            std::hint::black_box(keys.chunk_id(&data[range.clone()]));
        })
    }));
    figures.push(timed("compress", &mut || {
        payloads = ranges.iter().map(|range| codec::encode(&data[range.clone()])).collect()
    }));
    let key = keys.object("p/00/bench");
    figures.push(timed("seal", &mut || {
        payloads.iter().zip(0..).for_each(|(payload, index)| {
            out.clear();
            key.seal(index, [0; 12], payload, &mut out);
        })
    }));
    figures.push(timed("all of it", &mut || {
        for (range, index) in chunks(&chunk::cut(data, true, true)).into_iter().zip(0..) {
            std::hint::black_box(keys.chunk_id(&data[range.clone()]));
            out.clear();
            key.seal(index, [0; 12], &codec::encode(&data[range]), &mut out);
        }
    }));
    figures
}

/// A few packs out, back, and away; and small objects one after another.
async fn transfers(store: &DynStore) -> Result<Vec<Figure>, StoreError> {
    let mut nonce = [0; 8];
    dice(&mut nonce);
    let prefix = format!("bench-{}", Nonce(nonce));
    let name = |n: usize| ObjectName::new(format!("{prefix}/{n}")).expect("plain letters and digits");
    let body = Bytes::from(noise(PACK_BYTES));
    let started = Instant::now();
    for n in 0..4 {
        store.put(&name(n), body.clone(), PutMode::Always).await?;
    }
    let put = Figure::new("write 4 packs, one after another", 4 * PACK_BYTES, started.elapsed());
    let started = Instant::now();
    for n in 0..4 {
        store.get(&name(n)).await?;
    }
    let get = Figure::new("read them back", 4 * PACK_BYTES, started.elapsed());
    let started = Instant::now();
    for n in 0..20_u64 {
        store.get_range(&name(0), n * 65_536..n * 65_536 + 16_384).await?;
    }
    let small = Figure::new("read 20 pieces of 16 KiB", 20 * 16_384, started.elapsed());
    for n in 0..4 {
        store.delete(&name(n)).await?;
    }
    Ok(vec![put, get, small])
}

/// Bytes that do not compress, as in a JPEG.
fn noise(size: usize) -> Vec<u8> {
    use rand::{RngCore, SeedableRng};
    let mut out = vec![0; size];
    rand::rngs::SmallRng::seed_from_u64(1).fill_bytes(&mut out);
    out
}

fn text(size: usize) -> Vec<u8> {
    let line = |n: usize| {
        format!("<rdf:li n=\"{n}\">a walk by the sea, {}</rdf:li>\n", n.wrapping_mul(2_654_435_761) % 100_003)
    };
    let mut out = Vec::with_capacity(size + 100);
    for n in 0.. {
        if out.len() >= size {
            break;
        }
        out.extend_from_slice(line(n).as_bytes());
    }
    out
}
