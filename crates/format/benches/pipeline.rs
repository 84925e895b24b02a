//! What each stage between a written byte and a sealed chunk costs: `cargo bench -p haven-format`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use haven_format::{Keys, LibraryId, MasterKey, PackId, chunk, codec, pack};

const LENGTH: usize = 32 << 20;

/// Bytes like a JPEG's: nothing to compress.
fn noise() -> Vec<u8> {
    let mut out = vec![0; LENGTH];
    blake3::Hasher::new().update(b"photo").finalize_xof().fill(&mut out);
    out
}

/// Bytes like an XMP sidecar's.
fn text() -> Vec<u8> {
    let line = |n: usize| format!("<rdf:li photo:id='{n:08x}' photo:rating='3'>Holiday</rdf:li>\n").into_bytes();
    (0..).flat_map(line).take(LENGTH).collect()
}

fn stages(criterion: &mut Criterion) {
    let keys = Keys::new(LibraryId([1; 16]), &MasterKey([2; 32]));
    for (kind, data) in [("photo", noise()), ("text", text())] {
        let chunks = || {
            let mut rest = &data[..];
            let cuts = chunk::cut(&data, true, true);
            cuts.into_iter().map(move |len| rest.split_off(..len).expect("within the data")).collect::<Vec<_>>()
        };
        let mut group = criterion.benchmark_group("pipeline");
        group.throughput(Throughput::Bytes(LENGTH as u64)).sample_size(10);
        group.bench_function(BenchmarkId::new("cut", kind), |b| b.iter(|| chunk::cut(&data, true, true)));
        group.bench_function(BenchmarkId::new("hash", kind), |b| {
            b.iter(|| chunks().iter().map(|chunk| keys.chunk_id(chunk).0[0]).fold(0, u8::wrapping_add))
        });
        group.bench_function(BenchmarkId::new("compress", kind), |b| {
            b.iter(|| chunks().iter().map(|chunk| codec::prepare(chunk).bytes()).sum::<usize>())
        });
        group.bench_function(BenchmarkId::new("all, sealed into a pack", kind), |b| {
            b.iter(|| {
                let (mut sealer, _) = pack::begin(&keys, PackId([3; 16]));
                let mut out = Vec::with_capacity(8 << 20);
                for chunk in chunks() {
                    out.clear();
                    keys.chunk_id(chunk);
                    sealer.append_payload([4; 12], &codec::prepare(chunk), &mut out);
                }
                sealer.offset()
            })
        });
        group.finish();
    }
}

criterion_group!(benches, stages);
criterion_main!(benches);
