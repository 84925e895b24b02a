//! What programs notice of a bucket that is away.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use haven_fs::{Fs, FsError};
use haven_mount::MountOptions;
use haven_store::{
    DynStore,
    memory::Memory,
    retry::{Retry, RetryConfig},
};
use haven_testkit::faults::{FaultHandle, Faults, Weather};
use haven_vault::{
    Options, Vault, World,
    disk::MemoryDisk,
    world::{Dice, SystemClock},
};
use tokio::runtime::Runtime;

use crate::support::{Mounted, Point, fuse_here, keys, runtime, start};

/// A machine that has nothing of the library on its disk yet, before a bucket that can be taken away.
fn machine(runtime: &Runtime, bucket: &DynStore, number: u64) -> (Arc<Vault>, Arc<Fs>, FaultHandle) {
    machine_with(runtime, bucket, number, Options::default())
}

fn machine_with(
    runtime: &Runtime,
    bucket: &DynStore,
    number: u64,
    options: Options,
) -> (Arc<Vault>, Arc<Fs>, FaultHandle) {
    let (faults, handle) = Faults::new(bucket.clone(), number);
    let patience = RetryConfig { pause_max: Duration::from_millis(200), ..RetryConfig::default() };
    let world = World {
        store: Arc::new(Retry::new(Arc::new(faults), patience)),
        disk: MemoryDisk::new(),
        clock: Arc::new(SystemClock),
        dice: Arc::new(Dice::from_seed(number)),
        host: format!("host-{number}"),
        threads: false,
    };
    runtime.block_on(async {
        let vault = Vault::open(world, keys(), options).await.unwrap();
        let fs = loop {
            match start(&vault) {
                Err(FsError::Need(need)) => vault.settle(&need).await.unwrap(),
                started => break started.unwrap(),
            }
        };
        (vault, fs, handle)
    })
}

fn mounted(runtime: Runtime, fs: Arc<Fs>) -> Mounted {
    Mounted::of(fs, runtime, Point::new(), &MountOptions::new("memory:")).unwrap()
}

#[test]
fn reads_that_wait_for_the_network_hold_up_no_read_of_what_is_here() {
    const WAITING: usize = 200;
    // As much as the kernel asks for at once: less is no buffered read that waits behind others.
    const LONG: usize = 1 << 20;
    if !fuse_here() {
        return;
    }
    let bucket: DynStore = Arc::new(Memory::new());
    {
        let runtime = runtime();
        let (vault, fs, _) = machine(&runtime, &bucket, 1);
        let m = mounted(runtime, fs);
        (0..WAITING).for_each(|n| fs::write(m.path(&n.to_string()), vec![n as u8; LONG]).unwrap());
        m.runtime.block_on(vault.close(true)).unwrap();
    }
    let runtime = runtime();
    let (_vault, fs, handle) = machine(&runtime, &bucket, 2);
    let m = mounted(runtime, fs);
    let far: Vec<File> = (0..WAITING).map(|n| File::open(m.path(&n.to_string())).unwrap()).collect();
    fs::write(m.path("here"), vec![255; LONG]).unwrap();
    let here = File::open(m.path("here")).unwrap();
    handle.set_weather(Weather::Down);
    let readers: Vec<_> =
        far.into_iter().map(|file| thread::spawn(move || file.read_exact_at(&mut vec![0; LONG], 0))).collect();
    let all = || m.session.waiting() >= WAITING;
    (0..500).take_while(|_| !all()).for_each(|_| thread::sleep(Duration::from_millis(10)));
    // Or the kernel would know the answer.
    m.session.invalidate(haven_format::Ino(fs::metadata(m.path("here")).unwrap().ino())).unwrap();
    let (told, answer) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; LONG];
        here.read_exact_at(&mut bytes, 0).unwrap();
        told.send(bytes == vec![255; LONG]).ok();
    });
    let answer = answer.recv_timeout(Duration::from_secs(10));
    handle.set_weather(Weather::Fine);
    readers.into_iter().for_each(|reader| reader.join().unwrap().unwrap());
    reader.join().unwrap();
    assert_eq!(answer, Ok(true));
}

#[test]
fn a_program_that_waits_for_room_can_be_killed() {
    if !fuse_here() {
        return;
    }
    let runtime = runtime();
    let bucket: DynStore = Arc::new(Memory::new());
    let options = Options { cache_limit: 256 << 20, ..Options::default() };
    let (_vault, fs, handle) = machine_with(&runtime, &bucket, 1, options);
    let m = mounted(runtime, fs);
    fs::write(m.path("early"), "before").unwrap();
    handle.set_weather(Weather::Down);
    let mut writer = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", &format!("of={}", m.path("late").display())])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let full = || m.session.waiting() > 0 && length(&m.path("late")) > 100 << 20;
    assert!((0..600).any(|_| full() || pause()), "it was never full");
    assert!(writer.try_wait().unwrap().is_none(), "it waits");
    writer.kill().unwrap();
    assert!((0..200).any(|_| writer.try_wait().unwrap().is_some() || pause()), "it stays");
    // It holds up nobody, and what was written is there.
    let stays = length(&m.path("late"));
    assert!(stays > 100 << 20, "{stays}");
    assert_eq!(fs::read(m.path("early")).unwrap(), b"before");
    fs::remove_file(m.path("late")).unwrap();
    handle.set_weather(Weather::Fine);
    fs::write(m.path("after"), "with room").unwrap();
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

/// For `any`: not yet.
fn pause() -> bool {
    thread::sleep(Duration::from_millis(100));
    false
}
