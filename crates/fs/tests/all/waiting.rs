//! What is not at hand: a full cache while the bucket is away.

use std::{sync::Arc, time::Duration};

use haven_fs::{Attr, FileState, Fs, FsError, Handle, Options, WriteFlags};
use haven_store::memory::Memory;
use haven_testkit::{
    faults::{FaultHandle, Faults, Weather},
    seed::in_virtual_time,
};
use haven_vault::{
    Need, Vault, VaultError, World,
    disk::MemoryDisk,
    world::{Dice, SystemClock},
};

use crate::common::*;

/// A library whose bucket can be taken away.
async fn open(options: Options) -> (Arc<Vault>, Arc<Fs>, FaultHandle) {
    let (faults, handle) = Faults::new(Arc::new(Memory::new()), 1);
    let world = World {
        store: Arc::new(faults),
        disk: MemoryDisk::new(),
        clock: Arc::new(SystemClock),
        dice: Arc::new(Dice::from_seed(1)),
        host: "host".into(),
        threads: false,
    };
    let small = haven_vault::Options { cache_limit: 256 << 20, ..Default::default() };
    let vault = Vault::open(world, keys(), small).await.unwrap();
    let fs = Fs::start(vault.clone(), keys(), Arc::new(Ticking::default()), options).unwrap();
    (vault, fs, handle)
}

/// Takes the bucket away and fills the cache, until not even a small file has room.
async fn fill(vault: &Arc<Vault>, handle: &FaultHandle) {
    handle.set_weather(Weather::Down);
    for len in [3 << 20, 64 << 10, 1000] {
        for number in 0.. {
            match vault.put(&noise(len as u64 + number, len)) {
                Ok(_) => {}
                // Some is found when packs are ended, and no more.
                Err(VaultError::Need(need)) => {
                    if tokio::time::timeout(Duration::from_secs(600), vault.settle(&need)).await.is_err() {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn bytes_that_a_full_cache_did_not_take_are_stored_when_there_is_room_and_their_writer_waits() {
    in_virtual_time(async {
        let (vault, fs, handle) = open(Options::default()).await;
        let (file, open) = fs.create(&ME, ROOT, b"log", 0o644, 0).unwrap();
        fill(&vault, &handle).await;
        let write = |at| fs.write(file.ino, open, at, &noise(7, 5000), WriteFlags::default());
        assert_eq!(write(0).unwrap(), 5000, "two seconds of it may be in memory");
        for _ in 0..2 {
            _ = fs.tick();
        }
        assert!(matches!(fs.tick(), Err(FsError::Need(_))), "whoever ticks is told what is missing");
        assert_eq!(fs.file_state(file.ino).unwrap(), FileState::Memory);
        _ = fs.tick();
        let Err(FsError::Need(need)) = write(5000) else { panic!("a false success") };
        let waits = tokio::time::timeout(Duration::from_secs(600), fs.settle(&need)).await;
        assert!(waits.is_err(), "there is room while the bucket is away");
        handle.set_weather(Weather::Fine);
        let Err(FsError::Need(need)) = fs.catch_up() else { panic!("there is room already") };
        tokio::time::timeout(Duration::from_secs(600), fs.settle(&need)).await.unwrap().unwrap();
        fs.catch_up().unwrap();
        assert_ne!(fs.file_state(file.ino).unwrap(), FileState::Memory);
        assert_eq!(write(5000).unwrap(), 5000);
    });
}

#[test]
fn one_file_that_cannot_be_stored_keeps_no_other_in_memory() {
    in_virtual_time(async {
        let (vault, fs, handle) = open(Options { dirty_limit: 8000, ..Options::default() }).await;
        let made = |name: &[u8]| fs.create(&ME, ROOT, name, 0o644, 0).unwrap();
        let write = |(file, open): &(Attr, Handle), seed| {
            fs.write(file.ino, *open, 0, &noise(seed, 5000), WriteFlags::default())
        };
        let before = made(b"before");
        write(&before, 1).unwrap();
        fs.flush(before.0.ino, before.1).unwrap();
        let (first, second, third) = (made(b"first"), made(b"second"), made(b"third"));
        fill(&vault, &handle).await;
        write(&first, 2).unwrap();
        // What is stored already needs no room.
        write(&second, 1).unwrap();
        assert!(matches!(fs.flush_all(), Err(FsError::Need(Need::Space { .. }))));
        assert_eq!(fs.file_state(first.0.ino).unwrap(), FileState::Memory);
        assert_eq!(fs.file_state(second.0.ino).unwrap(), FileState::Local);
        // Both are above the limit of what may be in memory; that one of them can go is enough for others to write.
        assert_eq!(write(&third, 3).unwrap(), 5000);
    });
}
