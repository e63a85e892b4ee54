//! Power cuts after every operation, with every subset of what was not yet on the medium, and a failure of every
//! operation.

use std::sync::Mutex;

use super::files::manifest;
use super::*;
use crate::format::manifest::RunRef;
use crate::storage::{Fault, Image, OperationKind};

/// What a power cut may leave now: all subsets of what is pending, or some hundred of them if there are more.
fn cuts(memory: &MemoryStorage) -> Vec<Image> {
    let pending = memory.pending().len();
    let subsets: Vec<u64> = if pending <= 9 {
        (0..1 << pending).collect()
    } else {
        let scattered = (1..200_u64).map(|seed| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31));
        scattered.chain([0, u64::MAX]).chain((0..64).flat_map(|bit| [1 << bit, !(1 << bit)])).collect()
    };
    let keep = |subset: u64| {
        let mut nth = 0;
        memory.power_cut_with(|_| {
            nth += 1;
            subset.rotate_right((nth - 1) % 64) & 1 == 1
        })
    };
    subsets.into_iter().map(keep).collect()
}

fn named(storage: &dyn Storage, dir: &Path) -> (u64, Vec<RunRef>) {
    match read_manifest(storage, dir).unwrap() {
        ManifestState::Present(manifest) => (manifest.sequence, manifest.chain),
        other => panic!("{other:?}"),
    }
}

/// A disk with a base and a manifest that names it.
fn with_base(old: &Entries) -> (Disk, Chain) {
    let disk = Disk::new();
    let base = disk.run(0, RunKind::Base, 0, 10, old);
    let chain = Chain::empty().with(base).unwrap();
    write_manifest(&disk.memory, &disk.dir, &manifest(1, &chain.references())).unwrap();
    (disk, chain)
}

fn checkpoint(disk: &Disk, chain: &Chain, number: u64, frozen: &Entries) -> Result<(), Error> {
    let draft = RunDraft::new(RunKind::Delta, Offset(10), point(20), EngineTime(9));
    let delta = write_delta(disk.place(number), &borrowed(frozen), draft)?;
    write_manifest(&disk.memory, &disk.dir, &manifest(2, &chain.with(delta)?.references()))
}

/// Reads the state back as recovery does and compares it with what was found. Until the directory sync at the end of a
/// manifest's replacement, the manifest's new name may outlive a power cut that the run's does not: then the chain
/// without that run stands for what was true before.
fn check(storage: &dyn Storage, dir: &Path, old: &Entries, new: &Entries) -> Found {
    let (sequence, references) = named(storage, dir);
    let longest = Chain::open_longest(storage, dir, &references).unwrap();
    let expected = if longest.chain.len() == 1 { old } else { new };
    assert_eq!(&collect(longest.chain.entries().unwrap()), expected);
    match (sequence, longest.rejected) {
        (1, None) => Found::Old,
        (2, None) => Found::New,
        (2, Some((run, Error::Io { source, .. }))) => {
            assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
            assert_eq!(run, references[1]);
            Found::NewWithoutItsRun
        }
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Found {
    Old,
    New,
    NewWithoutItsRun,
}

#[test]
fn after_a_power_cut_at_any_time_the_manifest_leads_to_the_state_before_or_after() {
    let (old, frozen) = (many(40), entries([(3, 9), (500, 9)]));
    let mut new = old.clone();
    new.extend(&frozen);
    let (disk, chain) = with_base(&old);
    let images = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&images);
    disk.memory.on_operation(move |_, memory| seen.lock().unwrap().extend(cuts(memory)));
    checkpoint(&disk, &chain, 1, &frozen).unwrap();
    disk.memory.forget_observer();

    let mut met = std::collections::HashMap::new();
    for image in images.lock().unwrap().iter() {
        *met.entry(check(&MemoryStorage::from_image(image), &disk.dir, &old, &new)).or_insert(0) += 1;
    }
    assert_eq!(met.len(), 3, "each outcome was met: {met:?}");
    for image in cuts(&disk.memory) {
        let found = check(&MemoryStorage::from_image(&image), &disk.dir, &old, &new);
        assert_eq!(found, Found::New, "what was written is durable");
    }
}

#[test]
fn a_checkpoint_that_fails_at_any_operation_harms_nothing_and_succeeds_when_tried_again() {
    let (old, frozen) = (many(40), many(50));
    let mut new = old.clone();
    new.extend(&frozen);
    for nth in 1.. {
        let (disk, chain) = with_base(&old);
        disk.memory.fail(Fault::on_any_mutation().nth(nth).with_errno(28));
        let failed = checkpoint(&disk, &chain, 1, &frozen);
        if disk.memory.faults_struck() == 0 {
            failed.unwrap();
            assert!(nth > 8, "{nth} operations");
            return;
        }
        if failed.is_err() {
            check(&disk.memory, &disk.dir, &old, &new);
            for image in cuts(&disk.memory) {
                check(&MemoryStorage::from_image(&image), &disk.dir, &old, &new);
            }
            checkpoint(&disk, &chain, 2, &frozen).unwrap();
        }
        assert_eq!(check(&disk.memory, &disk.dir, &old, &new), Found::New);
        assert_eq!(
            check(&MemoryStorage::from_image(&disk.memory.power_cut()), &disk.dir, &old, &new),
            Found::New
        );
    }
}

#[test]
fn a_run_whose_writing_was_cut_short_is_refused_or_whole() {
    let disk = Disk::new();
    let images = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&images);
    disk.memory.on_operation(move |_, memory| seen.lock().unwrap().extend(cuts(memory)));
    let content = many(60);
    disk.run(1, RunKind::Base, 0, 10, &content);
    disk.memory.forget_observer();
    let mut whole = 0;
    for image in images.lock().unwrap().iter() {
        let storage = MemoryStorage::from_image(image);
        let adoption = adopt_runs(&storage, &disk.dir, &[1]).unwrap();
        for chain in adoption.chains {
            assert_eq!(collect(chain.entries().unwrap()), content);
            whole += 1;
        }
    }
    assert!(whole > 0);
}

#[test]
fn a_full_disk_is_not_filled_further_by_attempts() {
    let (disk, chain) = with_base(&many(40));
    let before = disk.names();
    disk.memory.fail(Fault::on(OperationKind::Write).named("producers.1").with_errno(28));
    let error = checkpoint(&disk, &chain, 1, &many(50)).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "write", .. }), "{error:?}");
    assert_eq!(disk.names(), before);
}

#[test]
fn a_power_cut_never_takes_the_watermark_below_its_last_sync_or_above_its_last_write() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    disk.memory.sync_dir(&disk.dir).unwrap();
    file.sync().unwrap();
    let mut synced = 0;
    for offset in 1..=12 {
        file.write(&point(offset), 0).unwrap();
        for image in cuts(&disk.memory) {
            let slots = read_slots(&MemoryStorage::from_image(&image), &disk.dir).unwrap();
            let newest = slots.first().map_or(0, |slot| slot.point.offset.0);
            assert!(synced <= newest && newest <= offset, "{synced} {newest} {offset}");
        }
        if offset % 3 == 0 {
            file.sync().unwrap();
            synced = offset;
        }
    }
}
