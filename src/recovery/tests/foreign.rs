//! What another program left, and truncations that were begun.

use std::path::Path;

use super::world::{World, checkpointed, put_at, state};
use crate::format::manifest::{Extent, TruncationIntent};
use crate::recovery::RecoveryKind;
use crate::types::{Gaps, LeaderEpoch, LogPoint, Offset};

#[test]
fn another_programs_batches_across_the_watermark_are_noticed() {
    let world = checkpointed();
    // The same log up to offset 25; from there on another leader appended.
    let cut = world.batches.iter().find(|batch| batch.header.base_offset.0 == 25).unwrap().clone();
    let mut foreign = World::starting_at(25);
    foreign.leader_epoch = 8;
    for n in 0..12 {
        foreign.append(40 + n % 2, 1);
    }
    let mut bytes = world.bytes_of(1)[..cut.position].to_vec();
    bytes.extend_from_slice(&foreign.bytes_of(0));
    world.put(&world.log(1), &bytes);
    world.remove(&world.log(2));
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::AnotherProgramWrote);
    assert_eq!(recovered.manifest.truncation_generation, 3);
    assert_eq!(recovered.end.offset, Offset(37));
    assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [1, 2]);
    let mut expected = world.fold(25);
    expected.extend(foreign.fold_from(25, 37));
    assert_eq!(state(&recovered), expected);
}

#[test]
fn what_another_program_appended_behind_a_clean_close_is_taken_in() {
    let mut world = checkpointed();
    let mut manifest = world.manifest(world.end());
    manifest.chain = vec![world.run(7, -1, world.end())];
    manifest.clean_close = Some(world.end_point());
    world.put_manifest(&manifest);
    world.leader_epoch = 4;
    world.append(50, 2);
    world.put_segments();
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::AnotherProgramWrote);
    assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [7]);
    assert_eq!(state(&recovered), world.fold(world.end()));
    assert_eq!(recovered.manifest.clean_close, None);
}

/// We died, and Kafka went on as a follower of a compacted log. It begins a segment at the far side of a gap, and its mark of
/// a clean stop stands in the root, which we remove before we write.
#[test]
fn gaps_that_another_program_left_behind_an_unclean_stop_of_ours_are_taken_in() {
    for gaps in [Gaps::None, Gaps::Possible] {
        let mut world = checkpointed();
        let mut manifest = world.manifest(world.end());
        manifest.chain = vec![world.run(7, -1, world.end())];
        manifest.gaps = gaps;
        world.put_manifest(&manifest);
        world.segments.push((world.end() + 9, Vec::new()));
        world.append_at(50, 2, world.end() + 9);
        world.put_segments();
        put_at(&world.memory, Path::new("/logs/.kafka_cleanshutdown"), b"{}");
        let recovered = world.open().unwrap();
        assert_eq!(recovered.end, world.end_point(), "{:?}", recovered.report);
        assert_eq!(recovered.report.kind, RecoveryKind::AnotherProgramWrote);
        assert_eq!(state(&recovered), world.fold(world.end()));
    }
}

#[test]
fn a_truncation_that_was_begun_is_finished() {
    for half_done in [false, true] {
        let world = checkpointed();
        let mut manifest = world.manifest(25);
        manifest.chain = vec![world.run(7, -1, 22)];
        manifest.intent =
            Some(TruncationIntent { cut: Offset(25), extent: Extent::Above, leader_epoch: LeaderEpoch(3) });
        world.put_manifest(&manifest);
        if half_done {
            world.remove(&world.log(2));
        }
        let recovered = world.open().unwrap();
        assert_eq!(recovered.end, world.point(25));
        assert_eq!(state(&recovered), world.fold(25));
        assert_eq!(recovered.manifest.intent, None);
        assert!(recovered.report.cuts.iter().all(|cut| cut.keepsake.is_none()));
        assert_eq!(world.everything()[&world.path(&world.log(1))].len() as u64, world.point(25).position.0);
        assert!(!world.everything().contains_key(&world.path(&world.log(2))));
    }
}

#[test]
fn a_truncation_to_the_start_of_a_segment_takes_that_segment_along() {
    let world = checkpointed();
    let cut = world.segments[2].0;
    let mut manifest = world.manifest(cut);
    manifest.chain = vec![world.run(7, -1, 22)];
    manifest.intent =
        Some(TruncationIntent { cut: Offset(cut), extent: Extent::Above, leader_epoch: LeaderEpoch(3) });
    world.put_manifest(&manifest);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.end, world.point(cut));
    assert_eq!(recovered.segments.len(), 2);
}

#[test]
fn a_later_leader_epoch_above_the_cut_of_a_truncation_is_another_programs() {
    let mut world = World::mixed();
    world.leader_epoch = 6;
    world.append(1, 1);
    world.put_segments();
    let mut manifest = world.manifest(25);
    manifest.chain = vec![world.run(7, -1, 22)];
    manifest.intent =
        Some(TruncationIntent { cut: Offset(25), extent: Extent::Above, leader_epoch: LeaderEpoch(3) });
    world.put_manifest(&manifest);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::AnotherProgramWrote);
    assert_eq!(recovered.end, world.end_point());
    assert_eq!(state(&recovered), world.fold(world.end()));
    assert_eq!(recovered.manifest.truncation_generation, 3);
}

#[test]
fn a_log_that_was_to_begin_anew_does_so_whatever_was_deleted_by_then() {
    for gone in 0..=3 {
        let world = checkpointed();
        let mut manifest = world.manifest(25);
        manifest.chain = Vec::new();
        manifest.watermark = LogPoint::segment_start(Offset(25));
        manifest.log_start_offset = Offset(25);
        manifest.intent =
            Some(TruncationIntent { cut: Offset(25), extent: Extent::Whole, leader_epoch: LeaderEpoch(3) });
        world.put_manifest(&manifest);
        for segment in 0..gone {
            world.remove(&world.log(2 - segment));
        }
        let recovered = world.open().unwrap();
        assert_eq!(recovered.end, LogPoint::segment_start(Offset(25)), "{gone} segments gone");
        assert_eq!((recovered.manifest.intent, recovered.log_start_offset), (None, Offset(25)));
        assert_eq!(recovered.chain.end().map(|end| end.offset), Some(Offset(25)));
        assert!(recovered.producers.is_empty() && recovered.leader_epochs.is_empty());
        let logs =
            world.everything().into_keys().filter(|path| path.extension().is_some_and(|it| it == "log"));
        assert_eq!(logs.collect::<Vec<_>>(), [world.path("00000000000000000025.log")]);
    }
}

#[test]
fn a_later_leader_epoch_in_a_log_that_was_to_go_is_another_programs() {
    let mut world = World::mixed();
    world.leader_epoch = 6;
    world.append(1, 1);
    world.put_segments();
    let mut manifest = world.manifest(0);
    manifest.chain = Vec::new();
    manifest.watermark = LogPoint::segment_start(Offset(25));
    manifest.log_start_offset = Offset(25);
    manifest.intent =
        Some(TruncationIntent { cut: Offset(25), extent: Extent::Whole, leader_epoch: LeaderEpoch(3) });
    world.put_manifest(&manifest);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::AnotherProgramWrote);
    assert_eq!(recovered.end, world.end_point());
    assert_eq!(recovered.manifest.intent, None);
}

#[test]
fn another_batch_of_the_same_length_voids_the_mark() {
    let world = checkpointed();
    let mut manifest = world.manifest(world.end());
    manifest.chain = vec![world.run(7, -1, 22)];
    manifest.clean_close = Some(world.end_point());
    world.put_manifest(&manifest);
    let last = world.batches.last().unwrap();
    let mut bytes = world.bytes_of(2);
    bytes[last.position + 42] ^= 1;
    let crc = crate::format::batch::crc32c(&bytes[last.position + 21..]);
    bytes[last.position + 17..last.position + 21].copy_from_slice(&crc.to_be_bytes());
    world.put(&world.log(2), &bytes);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::AnotherProgramWrote);
    assert!(!recovered.clean);
    assert_eq!(recovered.manifest.truncation_generation, 3);
}
