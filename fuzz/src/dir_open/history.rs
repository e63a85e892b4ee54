//! Directories that this library wrote, as a crash or a close left them, and then with damage.
//!
//! Invariant: the script decides everything; there is no thread and no clock in it.

use std::path::PathBuf;

use oncelog::format::names::{LOG_LOCK, ROOT_LOCK};
use oncelog::storage::{MemoryStorage, OpenMode, Storage};
use oncelog::{
    Durability, Log, LogConfig, Offset, Outcome, ProducerEpoch, ProducerId, RawBatch, Salvage, Sequence,
};

use super::super::disk::{disk, put, sync_all};
use super::super::input::{Input, mutate};
use super::{DIR, ROOT, Scene, batch, config, environment, in_dir};

/// Runs a script and leaves what it ends with.
pub(super) fn read(input: &mut Input<'_>) -> Scene {
    let (first, _) = disk(std::path::Path::new(DIR));
    sync_all(&first);
    let config = LogConfig {
        segment_bytes: [300, 1500, 1 << 20][input.below(3)],
        checkpoint_producers: [1, 3, 1000][input.below(3)],
        whole_base_producers: [0, 65_536][input.below(2)],
        max_deltas: 2,
        ..config()
    };
    let mut scene = Scene {
        disk: first,
        config,
        damaged: false,
        foreign: false,
        written: Vec::new(),
        durable: Vec::new(),
    };
    let mut producers = Producers::default();
    for _ in 0..=input.below(3) {
        live(input, &mut scene, &mut producers);
        make_locks(&scene.disk);
    }
    for _ in 0..input.below(4) {
        damage(input, &mut scene);
    }
    scene
}

/// The next sequence of each producer.
#[derive(Default)]
struct Producers([i32; 6]);

/// One life of the log, from an opening to its end.
fn live(input: &mut Input<'_>, scene: &mut Scene, producers: &mut Producers) {
    let opened = Log::open_with(DIR, scene.config.clone(), environment(&scene.disk, Salvage::Refuse));
    let Ok((log, _)) = opened else { unreachable!("{opened:?}") };
    // What a crash took back was never acknowledged; its producer goes on where the log says.
    for (id, next) in (0..).zip(&mut producers.0) {
        let entry = log.producer(ProducerId(id));
        let Ok(entry) = entry else { unreachable!("{entry:?}") };
        *next = entry.map_or(0, |entry| entry.expected_sequence().value());
    }
    for _ in 0..input.below(24) {
        step(input, scene, producers, &log);
    }
    let image = match input.below(4) {
        0 => {
            let closed = log.close();
            assert!(closed.is_ok(), "{closed:?}");
            return;
        }
        1 => return,
        2 => scene.disk.kill(),
        _ => {
            let mut bits: u64 = input.number();
            scene.disk.power_cut_with(|_| {
                bits = bits.rotate_left(1);
                bits & 1 == 1
            })
        }
    };
    drop(log);
    scene.disk = MemoryStorage::from_image(&image);
}

fn step(input: &mut Input<'_>, scene: &mut Scene, producers: &mut Producers, log: &Log) {
    let done = match input.below(8) {
        0 => log.checkpoint(),
        1 => log.maintain(),
        2 => log.flush().map(drop),
        _ => {
            let shape: u8 = input.number();
            let id = usize::from(shape % 6);
            let (length, durable) = (1 + u32::from(shape >> 6), shape & 0x20 != 0);
            let first = Sequence::new(producers.0[id]).unwrap_or_default();
            let id = ProducerId(i64::from(shape % 6));
            let bytes = batch(id, ProducerEpoch(0), first, length);
            scene.written.push(bytes[16..].to_vec());
            let durability = if durable { Durability::Durable } else { Durability::Buffered };
            log.append(RawBatch(bytes), durability).map(|appended| {
                assert_eq!(appended.outcome, Outcome::Appended);
                producers.0[usize::from(shape % 6)] = first.wrapping_add(length).value();
                if durable {
                    let offset = appended.base_offset.unwrap_or(Offset(-1));
                    scene.durable.push((id, first, length, offset));
                }
            })
        }
    };
    assert!(done.is_ok(), "{done:?}");
}

/// Changes, removes or replaces one file.
fn damage(input: &mut Input<'_>, scene: &mut Scene) {
    let mut files: Vec<PathBuf> = scene.disk.kill().files();
    // An opening makes them anew, and a refusal is compared file by file.
    files.retain(|path| !locks().contains(path));
    let Some(path) = files.get(input.below(files.len())) else { return };
    scene.damaged = true;
    let before = scene.disk.kill().read(path).unwrap_or_default();
    let mut bytes = before.clone();
    match input.below(4) {
        0 => {
            let gone = scene.disk.unlink(path);
            assert!(gone.is_ok(), "{gone:?}");
            return;
        }
        1 => {
            let len = input.below(64);
            bytes = input.bytes(len).to_vec();
        }
        _ => mutate(input, &mut bytes, 2),
    }
    if bytes != before {
        put(&scene.disk, path, &bytes);
    }
}

/// Locks are files too: a directory that is compared has them already.
fn make_locks(disk: &MemoryStorage) {
    for name in locks() {
        let made = disk.open(&name, OpenMode::Create);
        assert!(made.is_ok(), "{made:?}");
    }
}

fn locks() -> [PathBuf; 2] {
    [in_dir(LOG_LOCK), PathBuf::from(ROOT).join(ROOT_LOCK)]
}
