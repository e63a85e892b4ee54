//! The `.txnindex` files: believed below the checkpoint, made from the batches above it.

use super::world::{World, checkpointed};
use crate::format::index_entry::AbortedTxn;
use crate::format::names::txn_index_name;
use crate::format::txn_index_note::TxnIndexNote;
use crate::recovery::{Recovered, SegmentAborted};
use crate::types::{Offset, ProducerId};

/// The one that `World::mixed` aborts: it begins in the first segment and ends in the second, which begins at 19.
const ABORTED: AbortedTxn = AbortedTxn {
    producer: ProducerId(20),
    first_offset: Offset(16),
    last_offset: Offset(22),
    last_stable_offset: Offset(17),
};
const OTHER: AbortedTxn = AbortedTxn {
    producer: ProducerId(8),
    first_offset: Offset(3),
    last_offset: Offset(20),
    last_stable_offset: Offset(16),
};

fn index(world: &World, base: i64) -> Option<Vec<u8>> {
    world.everything().get(&world.path(&txn_index_name(Offset(base)))).cloned()
}

fn put_index(world: &World, base: i64, entries: &[AbortedTxn]) {
    world.put(&txn_index_name(Offset(base)), &bytes_of(entries));
}

fn bytes_of(entries: &[AbortedTxn]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

fn of(recovered: &Recovered, base: i64) -> &SegmentAborted {
    recovered.aborted.iter().find(|segment| segment.base == Offset(base)).unwrap()
}

#[test]
fn what_was_aborted_behind_the_checkpoint_follows_from_the_log() {
    let world = checkpointed();
    let recovered = world.open().unwrap();
    assert_eq!(of(&recovered, 19).entries, [ABORTED]);
    assert_eq!(index(&world, 19), Some(bytes_of(&[ABORTED])));
    assert_eq!(recovered.aborted.len(), 2, "the segments from the one that holds the checkpoint's end");
    assert_eq!((index(&world, 0), index(&world, world.segments[2].0)), (None, None), "no empty file is made");
}

#[test]
fn what_the_file_says_below_the_checkpoint_is_kept_and_what_it_says_above_is_not() {
    let world = checkpointed();
    put_index(&world, 19, &[OTHER, AbortedTxn { producer: ProducerId(99), ..ABORTED }]);
    assert_eq!(of(&world.open().unwrap(), 19).entries, [OTHER, ABORTED]);
    assert_eq!(index(&world, 19), Some(bytes_of(&[OTHER, ABORTED])));
}

#[test]
fn entries_of_batches_that_are_gone_are_cut_with_them() {
    let mut world = World::mixed();
    world.batches.retain(|batch| batch.header.base_offset.0 < 22);
    let kept = world.batches.last().map(|batch| batch.position + batch.header.size()).unwrap();
    world.segments.truncate(2);
    world.segments[1].1.truncate(kept);
    world.put_segments();
    let mut manifest = world.manifest(19);
    manifest.chain = vec![world.run(1, -1, 16)];
    world.put_manifest(&manifest);
    put_index(&world, 19, &[ABORTED]);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.end.offset, Offset(22));
    assert_eq!(of(&recovered, 19).entries, []);
    assert_eq!(index(&world, 19), None);
}

#[test]
fn a_damaged_file_below_the_checkpoint_is_made_from_the_headers_of_the_whole_log() {
    let world = World::mixed();
    world.put_segments();
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.chain = vec![world.run(1, -1, 24)];
    world.put_manifest(&manifest);
    let mut bytes = bytes_of(&[ABORTED]);
    bytes[1] = 7;
    world.put(&txn_index_name(Offset(19)), &bytes);
    let recovered = world.open().unwrap();
    assert_eq!(of(&recovered, 19).entries, [ABORTED]);
    assert_eq!(index(&world, 19), Some(bytes_of(&[ABORTED])));
    let rejected = recovered.report.rejected.iter().find(|one| one.file == txn_index_name(Offset(19)));
    assert!(rejected.is_some(), "{}", recovered.report);
}

#[test]
fn the_file_of_a_segment_that_is_not_there_is_deleted() {
    let world = checkpointed();
    put_index(&world, 500, &[ABORTED]);
    let recovered = world.open().unwrap();
    assert_eq!(index(&world, 500), None);
    assert!(recovered.report.deleted.contains(&txn_index_name(Offset(500))));
}

#[test]
fn a_file_that_is_right_and_below_the_checkpoint_is_left_alone() {
    let world = World::mixed();
    world.put_segments();
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.chain = vec![world.run(1, -1, 24)];
    world.put_manifest(&manifest);
    put_index(&world, 19, &[ABORTED]);
    let made = world.plan().unwrap();
    assert!(made.outcome.aborted.iter().all(|segment| segment.stored), "{:?}", made.outcome.aborted);
}

/// A log with a checkpoint at the start of its third segment, whose manifest notes what `.txnindex` files hold.
fn noted(base: i64, entries: &[AbortedTxn]) -> World {
    let world = World::mixed();
    world.put_segments();
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.chain = vec![world.run(1, -1, 24)];
    manifest.txn_indexes = TxnIndexNote::of(Offset(base), &bytes_of(entries)).into_iter().collect();
    world.put_manifest(&manifest);
    world
}

#[test]
fn a_noted_file_that_is_lost_or_short_or_has_another_entry_is_made_anew() {
    let other = bytes_of(&[AbortedTxn { first_offset: Offset(17), ..ABORTED }]);
    for found in [None, Some(Vec::new()), Some(other)] {
        let world = noted(19, &[ABORTED]);
        if let Some(bytes) = &found {
            world.put(&txn_index_name(Offset(19)), bytes);
        }
        let recovered = world.open().unwrap();
        assert_eq!(index(&world, 19), Some(bytes_of(&[ABORTED])), "{found:?}");
        let rejected = recovered.report.rejected.iter().find(|one| one.file == txn_index_name(Offset(19)));
        assert!(
            rejected.is_some_and(|one| one.reason.contains("the manifest notes")),
            "{}",
            recovered.report
        );
        assert_eq!(
            recovered.manifest.txn_indexes,
            [TxnIndexNote::of(Offset(19), &bytes_of(&[ABORTED])).unwrap()]
        );
    }
}

#[test]
fn a_noted_file_that_is_whole_is_noted_again_and_not_written() {
    let world = noted(19, &[ABORTED]);
    put_index(&world, 19, &[ABORTED]);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.rejected, []);
    assert_eq!(
        recovered.manifest.txn_indexes,
        [TxnIndexNote::of(Offset(19), &bytes_of(&[ABORTED])).unwrap()]
    );
}

#[test]
fn a_note_of_a_segment_that_was_deleted_asks_for_nothing() {
    let world = noted(3, &[OTHER]);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.rejected, []);
}
