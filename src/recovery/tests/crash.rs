//! Power cuts in the middle of a recovery: whatever they leave, the next recovery comes to the same log.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::world::{DIR, Entries, World, everything, open, state};
use crate::recovery::{RecoveryOptions, Salvage, plan};
use crate::storage::{Image, MemoryStorage, OpenMode, Storage};
use crate::types::{LogPoint, Offset};

/// What must be the same however often the power fails.
#[derive(Debug, PartialEq)]
struct Log {
    end: LogPoint,
    entries: Entries,
    start: Offset,
    segments: Vec<(i64, Vec<u8>)>,
}

fn recover(image: &Image, salvage: Salvage) -> Log {
    let memory = MemoryStorage::from_image(image);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let recovered = open(&storage, salvage).unwrap();
    let after = memory.power_cut();
    let segments = recovered
        .segments
        .iter()
        .map(|segment| {
            let path = Path::new(DIR).join(crate::format::names::log_name(segment.base));
            (segment.base.0, after.read(&path).expect("durable once recovery is done"))
        })
        .collect();
    Log { end: recovered.end, entries: state(&recovered), start: recovered.log_start_offset, segments }
}

/// The bytes that a recovery takes out of the log and keeps aside.
fn what_is_cut(before: &Image, salvage: Salvage) -> Vec<Vec<u8>> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::from_image(before));
    let options = RecoveryOptions { salvage, ..RecoveryOptions::default() };
    let made = plan(&storage, Path::new(DIR), &options).unwrap();
    let kept = made.cuts().iter().filter(|cut| cut.keepsake.is_some());
    kept.map(|cut| {
        let file = before.read(&Path::new(DIR).join(&cut.file)).unwrap();
        file[usize::try_from(cut.bytes.start).unwrap()..usize::try_from(cut.bytes.end).unwrap()].to_vec()
    })
    .collect()
}

/// Recovers, and cuts the power after every operation of it in several ways; every image must recover to the same.
fn every_cut_comes_to_the_same(world: &World, salvage: Salvage) -> usize {
    let before = world.memory.kill();
    let expected = recover(&before, salvage);
    let images = Arc::new(Mutex::new(Vec::new()));
    let memory = MemoryStorage::from_image(&before);
    let taken = Arc::clone(&images);
    memory.on_operation(move |_, disk| {
        let mut images = taken.lock().unwrap();
        images.push(disk.power_cut());
        images.push(disk.kill());
        images.push(disk.power_cut_with(|_| true));
        for seed in 0..6_u64 {
            let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            images.push(disk.power_cut_with(move |_| {
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                dice & 1 == 0
            }));
        }
    });
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    open(&storage, salvage).unwrap();
    memory.forget_observer();
    let images = std::mem::take(&mut *images.lock().unwrap());
    let cut_bytes = what_is_cut(&before, salvage);
    for image in &images {
        let files = everything(image);
        for bytes in &cut_bytes {
            let kept = files.values().any(|file| file.windows(bytes.len()).any(|window| window == bytes));
            assert!(kept, "bytes that were cut are in no file");
        }
        assert_eq!(recover(image, salvage), expected);
    }
    images.len()
}

fn torn() -> World {
    let world = World::mixed();
    world.put_segments();
    let mut manifest = world.manifest(22);
    manifest.chain = vec![world.run(1, -1, 16)];
    manifest.previous_chain = vec![world.run(0, -1, 8)];
    world.put_manifest(&manifest);
    world.put("producers.40.run", b"half a run");
    world
}

#[test]
fn a_torn_tail_with_a_segment_behind_it() {
    let world = torn();
    let hit = world.batches.iter().find(|batch| batch.header.base_offset.0 == 24).unwrap().clone();
    let mut bytes = world.bytes_of(1);
    bytes[hit.position + 70] ^= 1;
    world.put(&world.log(1), &bytes);
    assert!(every_cut_comes_to_the_same(&world, Salvage::Refuse) > 50);
}

#[test]
fn a_sound_tail_that_is_written_again() {
    let world = torn();
    assert!(every_cut_comes_to_the_same(&world, Salvage::Refuse) > 30);
}

#[test]
fn a_segment_below_the_log_start() {
    let world = torn();
    let mut manifest = world.manifest(22);
    manifest.chain = vec![world.run(5, -1, 22)];
    manifest.log_start_offset = Offset(world.segments[1].0);
    world.put_manifest(&manifest);
    every_cut_comes_to_the_same(&world, Salvage::Refuse);
}

#[test]
fn damage_below_the_watermark_that_is_salvaged() {
    let world = torn();
    let hit = world.batches.iter().find(|batch| batch.header.base_offset.0 == 19).unwrap().clone();
    let mut bytes = world.bytes_of(1);
    bytes[hit.position + 70] ^= 1;
    world.put(&world.log(1), &bytes);
    every_cut_comes_to_the_same(&world, Salvage::Cut);
}

#[test]
fn a_truncation_that_was_begun() {
    let world = torn();
    let mut manifest = world.manifest(22);
    manifest.chain = vec![world.run(5, -1, 22)];
    let leader_epoch = crate::types::LeaderEpoch(3);
    manifest.intent = Some(crate::format::manifest::TruncationIntent {
        cut: Offset(24),
        extent: crate::format::manifest::Extent::Above,
        leader_epoch,
    });
    world.put_manifest(&manifest);
    every_cut_comes_to_the_same(&world, Salvage::Refuse);
}

#[test]
fn a_truncation_that_was_begun_at_the_start_of_a_segment() {
    let world = torn();
    let mut manifest = world.manifest(22);
    manifest.chain = vec![world.run(5, -1, 22)];
    let (cut, leader_epoch) = (Offset(world.segments[2].0), crate::types::LeaderEpoch(3));
    manifest.intent = Some(crate::format::manifest::TruncationIntent {
        cut,
        extent: crate::format::manifest::Extent::Above,
        leader_epoch,
    });
    world.put_manifest(&manifest);
    every_cut_comes_to_the_same(&world, Salvage::Refuse);
}

#[test]
fn bytes_whose_sync_had_failed_are_durable_after_a_recovery() {
    let world = torn();
    // A process wrote the last segment, its sync failed, and it died: the cache shows the bytes, the medium has none,
    // and no later sync would write them.
    world.put(&world.log(2), b"");
    let file = world.memory.open(&world.path(&world.log(2)), OpenMode::Write).unwrap();
    file.write_all_at(&world.bytes_of(2), 0).unwrap();
    world.memory.fail(crate::storage::Fault::on_any_sync());
    assert!(file.sync_data().is_err());
    let memory = MemoryStorage::from_image(&world.memory.kill());
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let recovered = open(&storage, Salvage::Refuse).unwrap();
    assert_eq!(recovered.end, world.end_point());
    let after = memory.power_cut();
    assert_eq!(after.read(&world.path(&world.log(2))), Some(world.bytes_of(2)));
}

#[test]
fn a_directory_of_kafka() {
    let world = World::mixed();
    world.put_segments();
    super::world::put_at(
        &world.memory,
        Path::new("/logs/recovery-point-offset-checkpoint"),
        b"0\n1\norders 0 22\n",
    );
    every_cut_comes_to_the_same(&world, Salvage::Refuse);
}

#[test]
fn a_directory_where_another_program_wrote_and_no_chain_fits() {
    let world = torn();
    // Another log up to offset 31, of a later leader: neither watermark nor runs speak of it.
    let mut theirs = World::starting_at(0);
    theirs.leader_epoch = 9;
    for n in 0..31 {
        theirs.append(60 + n % 3, 1);
    }
    world.put(&world.log(0), &theirs.bytes_of(0));
    world.remove(&world.log(1));
    world.remove(&world.log(2));
    let mut manifest = world.manifest(8);
    manifest.chain = vec![world.run(9, -1, 8)];
    world.put_manifest(&manifest);
    every_cut_comes_to_the_same(&world, Salvage::Refuse);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, crate::recovery::RecoveryKind::AnotherProgramWrote);
    assert_eq!(state(&recovered), theirs.fold(31));
    assert_eq!(recovered.chain.len(), 1);
}

#[test]
fn a_lost_manifest() {
    let world = torn();
    world.remove("oncelog.manifest");
    every_cut_comes_to_the_same(&world, Salvage::Refuse);
}

#[test]
fn a_failure_of_any_operation_leaves_a_log_that_recovers_to_the_same() {
    let world = torn();
    let last = world.batches.last().unwrap();
    world.put(&world.log(2), &world.bytes_of(2)[..last.position + 20]);
    let before = world.memory.kill();
    let expected = recover(&before, Salvage::Refuse);
    for n in 1.. {
        let memory = MemoryStorage::from_image(&before);
        memory.fail(crate::storage::Fault::on_any_mutation().nth(n));
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let outcome = open(&storage, Salvage::Refuse);
        if memory.faults_struck() == 0 {
            outcome.unwrap();
            assert!(n > 10);
            return;
        }
        memory.clear_faults();
        for image in [memory.kill(), memory.power_cut()] {
            assert_eq!(recover(&image, Salvage::Refuse), expected, "operation {n}");
        }
    }
}
