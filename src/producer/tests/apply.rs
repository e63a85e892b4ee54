//! What batches and markers leave in an entry: live, on a follower, in replay, and when windows are refilled.
//!
//! Kafka's `ProducerStateManagerTest.testPrepareUpdateDoesNotMutate` has no counterpart: an entry is read through a
//! shared reference and returned as a new value, so the compiler proves it.

use super::super::{BadWindow, MAX_PROVEN, fill_older};
use super::*;
use crate::format::batch::{Attributes, BatchHeader};
use crate::types::LeaderEpoch;

/// Kafka: `ProducerStateManagerTest.testNoValidationOnFirstEntryWhenLoadingLog`,
/// `testAcceptAppendWithoutProducerStateOnReplica`.
#[test]
fn a_first_batch_makes_an_entry_at_any_sequence_and_epoch() {
    let entry = data(None, facts(5, 16, 2), 735);
    assert_eq!(entry.epoch, ProducerEpoch(5));
    assert_eq!(entry.coordinator_epoch, CoordinatorEpoch::NONE);
    assert_eq!(entry.batches(), [cached(16, 17, 735, 736)]);
    assert_eq!((entry.proven, entry.last_seen, entry.txn_first_offset), (2, SEEN, None));
    assert_eq!(entry.expected_sequence(), seq(18));
}

#[test]
fn the_window_keeps_the_newest_five_and_proven_counts_on() {
    let entry = after_tens(7);
    let expected: Vec<CachedBatch> =
        (2..7).map(|n| cached(n * 10, n * 10 + 9, i64::from(n) * 10, i64::from(n) * 10 + 9)).collect();
    assert_eq!(entry.batches(), expected);
    assert_eq!(entry.proven, 70);
    assert_eq!(entry.oldest().map(|batch| batch.first_sequence), Some(seq(20)));
    assert_eq!(entry.newest().map(|batch| batch.last_sequence), Some(seq(69)));
}

/// Kafka: `ProducerStateManagerTest.testAcceptAppendWithSequenceGapsOnReplica`.
#[test]
fn a_batch_that_does_not_continue_empties_the_window_and_proves_itself_alone() {
    let entry = data(Some(&after_tens(3)), facts(3, 31, 4), 30);
    assert_eq!(entry.batches(), [cached(31, 34, 30, 33)]);
    assert_eq!(entry.proven, 4);
}

#[test]
fn a_higher_epoch_empties_the_window() {
    let entry = data(Some(&after_tens(3)), facts(4, 0, 2), 30);
    assert_eq!(entry.epoch, ProducerEpoch(4));
    assert_eq!(entry.batches(), [cached(0, 1, 30, 31)]);
    assert_eq!(entry.proven, 2);
}

#[test]
fn an_older_epoch_on_a_follower_lowers_nothing_and_is_not_remembered() {
    let before = after_tens(2);
    assert_eq!(data(Some(&before), facts(2, 20, 5), 20), before);
}

#[test]
fn proven_stops_at_half_of_the_sequence_space() {
    let entry = data(None, facts(3, 0, MAX_PROVEN - 1), 0);
    assert_eq!(entry.proven, MAX_PROVEN - 1);
    let next = i32::try_from(MAX_PROVEN - 1).expect("fits");
    let entry = data(Some(&entry), facts(3, next, 10), i64::from(MAX_PROVEN));
    assert_eq!(entry.proven, MAX_PROVEN);
}

#[test]
fn last_seen_never_goes_back() {
    let later = apply_data(
        None,
        &facts(3, 0, 1),
        OffsetSpan { first: Offset(0), last: Offset(0) },
        EngineTime(9_000),
    );
    assert_eq!(data(Some(&later), facts(3, 1, 1), 1).last_seen, EngineTime(9_000));
    assert_eq!(end(Some(&later), marker(3, 1, EndTxn::Commit), 1).last_seen, EngineTime(9_000));
}

#[test]
fn a_batch_without_sequence_leaves_the_window_alone() {
    let entry = data(Some(&after_tens(2)), unsequenced(3), 20);
    assert_eq!(entry, after_tens(2));
    let raised = data(Some(&after_tens(2)), unsequenced(4), 20);
    assert_eq!((raised.epoch, raised.batches(), raised.proven), (ProducerEpoch(4), &[][..], 0));
}

/// Kafka: `ProducerStateManagerTest.updateProducerTransactionState`.
#[test]
fn a_transaction_spans_batches_and_a_commit_ends_it_without_touching_them() {
    let entry = data(None, transactional(3, 0, 10), 16);
    assert_eq!(entry.txn_first_offset, Some(Offset(16)));
    let entry = data(Some(&entry), transactional(3, 10, 10), 26);
    assert_eq!(entry.txn_first_offset, Some(Offset(16)));
    let ended = end(Some(&entry), marker(3, 1, EndTxn::Commit), 36);
    assert_eq!(ended.txn_first_offset, None);
    assert_eq!(ended.coordinator_epoch, CoordinatorEpoch(1));
    assert_eq!(ended.batches(), [cached(0, 9, 16, 25), cached(10, 19, 26, 35)]);
    assert_eq!(ended.proven, 20);
}

#[test]
fn an_abort_flags_the_batches_of_its_transaction_and_proves_nothing_any_more() {
    let entry = data(None, facts(3, 0, 10), 0);
    let entry = data(Some(&entry), transactional(3, 10, 10), 10);
    let entry = data(Some(&entry), transactional(3, 20, 10), 20);
    let entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 30);
    assert_eq!(
        entry.batches(),
        [cached(0, 9, 0, 9), aborted(cached(10, 19, 10, 19)), aborted(cached(20, 29, 20, 29))]
    );
    assert_eq!((entry.proven, entry.txn_first_offset), (0, None));
    assert_eq!(data(Some(&entry), facts(3, 30, 5), 31).proven, 5, "what comes next counts again");
}

/// Kafka: `ProducerStateManagerTest.testControlRecordBumpsProducerEpoch`.
#[test]
fn a_marker_of_a_higher_epoch_empties_the_window_and_ends_the_transaction() {
    let entry = data(None, transactional(3, 0, 10), 0);
    let entry = end(Some(&entry), marker(4, 1, EndTxn::Commit), 10);
    assert_eq!(entry.epoch, ProducerEpoch(4));
    assert_eq!((entry.batches(), entry.proven, entry.txn_first_offset), (&[][..], 0, None));
}

/// Kafka: `ProducerStateManagerTest.testProducerStateAfterFencingAbortMarker`,
/// `testRecoverFromSnapshotEmptyTransaction`.
#[test]
fn a_marker_alone_makes_an_entry_that_lives_as_long_as_any_other() {
    let entry = end(None, marker(3, 1, EndTxn::Abort), 0);
    assert_eq!((entry.epoch, entry.batches(), entry.txn_first_offset), (ProducerEpoch(3), &[][..], None));
    assert_eq!(entry.coordinator_epoch, CoordinatorEpoch(1));
    assert!(!entry.is_expired(EngineTime(SEEN.0 + 99), 100));
}

#[test]
fn a_marker_of_an_older_epoch_or_coordinator_lowers_nothing_but_ends_the_transaction() {
    let entry = end(None, marker(3, 5, EndTxn::Commit), 0);
    let entry = data(Some(&entry), transactional(3, 0, 10), 1);
    let entry = end(Some(&entry), marker(2, 4, EndTxn::Commit), 11);
    assert_eq!((entry.epoch, entry.coordinator_epoch), (ProducerEpoch(3), CoordinatorEpoch(5)));
    assert_eq!((entry.txn_first_offset, entry.proven), (None, 10));
}

/// Kafka: `ProducerStateManagerTest.testSkipEmptyTransactions`.
#[test]
fn a_marker_without_an_open_transaction_or_a_repeated_one_has_no_second_effect() {
    let entry = data(None, transactional(3, 0, 10), 0);
    let once = end(Some(&entry), marker(3, 1, EndTxn::Commit), 10);
    assert_eq!(end(Some(&once), marker(3, 1, EndTxn::Abort), 11), once);
}

/// Kafka: `ProducerStateManagerTest.testProducersWithOngoingTransactionsDontExpire`.
#[test]
fn an_entry_expires_after_its_time_but_never_with_an_open_transaction() {
    let idle = after_tens(1);
    assert!(!idle.is_expired(EngineTime(1_099), 100));
    assert!(idle.is_expired(EngineTime(1_100), 100));
    assert!(!idle.is_expired(EngineTime(0), 100), "a time before the last one is no reason");
    let open = data(None, transactional(3, 0, 1), 0);
    assert!(!open.is_expired(EngineTime(u64::MAX), 100));
}

#[test]
fn a_replay_of_what_an_entry_covers_changes_nothing() {
    let entry = after_tens(7);
    for n in 0..7 {
        assert_eq!(data(Some(&entry), facts(3, n * 10, 10), i64::from(n) * 10), entry, "batch {n}");
    }
}

#[test]
fn a_replay_of_an_aborted_transaction_does_not_make_it_count() {
    let mut entry = data(None, facts(3, 0, 10), 0);
    entry = data(Some(&entry), transactional(3, 10, 10), 10);
    entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 20);
    for n in 2..7 {
        entry = data(Some(&entry), facts(3, n * 10, 10), 1 + i64::from(n) * 10);
    }
    let replayed = data(Some(&entry), transactional(3, 10, 10), 10);
    let replayed = end(Some(&replayed), marker(3, 1, EndTxn::Abort), 20);
    assert_eq!(replayed, entry);
    assert_eq!(replayed.proven, 50);
}

#[test]
fn a_replay_of_an_older_marker_leaves_the_open_transaction_open() {
    let entry = data(None, transactional(3, 0, 10), 0);
    let entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 10);
    let entry = data(Some(&entry), transactional(3, 10, 10), 11);
    let replayed = end(Some(&entry), marker(3, 1, EndTxn::Abort), 10);
    assert_eq!(replayed, entry);
    assert_eq!(replayed.txn_first_offset, Some(Offset(11)));
}

#[test]
fn a_replay_of_a_transaction_without_sequences_leaves_later_batches_alone() {
    let transaction = BatchFacts { transactional: true, ..unsequenced(3) };
    let entry = data(None, transaction, 0);
    let entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 1);
    let entry = data(Some(&entry), facts(3, 0, 10), 2);
    // No offset of such a batch is remembered, so its replay opens the transaction again until its marker comes.
    let mut reopened = entry;
    reopened.txn_first_offset = Some(Offset(0));
    assert_eq!(end(Some(&reopened), marker(3, 1, EndTxn::Abort), 1), entry);
}

#[test]
fn older_batches_found_newest_first_fill_the_window_and_go_on_proving() {
    let mut entry = data(None, facts(3, 60, 10), 60);
    for n in (0..6_i32).rev() {
        let at = i64::from(n) * 10;
        fill_older(&mut entry, ProducerEpoch(3), cached(n * 10, n * 10 + 9, at, at + 9));
    }
    assert_eq!(entry, after_tens(7));
}

#[test]
fn an_older_batch_fills_nothing_over_a_gap_an_abort_or_another_epoch() {
    let newest = data(None, facts(3, 60, 10), 60);
    let fill = |epoch, batch| {
        let mut entry = newest;
        fill_older(&mut entry, ProducerEpoch(epoch), batch);
        entry
    };
    assert_eq!(fill(3, cached(50, 58, 50, 58)), newest, "a gap");
    assert_eq!(fill(2, cached(50, 59, 50, 59)), newest, "another epoch");
    assert_eq!(fill(3, cached(60, 69, 60, 69)), newest, "the newest itself");
    assert_eq!(fill(3, cached(50, 59, 80, 89)), newest, "a later offset");
    let mut entry = fill(3, aborted(cached(50, 59, 50, 59)));
    assert_eq!(entry.batches(), [aborted(cached(50, 59, 50, 59)), cached(60, 69, 60, 69)]);
    fill_older(&mut entry, ProducerEpoch(3), cached(40, 49, 40, 49));
    assert_eq!((entry.batches().len(), entry.proven), (3, 10), "nothing is proven across an abort");
}

#[test]
fn an_older_copy_of_an_aborted_batch_proves_nothing() {
    let entry = data(None, transactional(3, 0, 10), 20);
    let mut entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 30);
    let before = entry;
    fill_older(&mut entry, ProducerEpoch(3), cached(0, 9, 0, 9));
    assert_eq!(entry, before);
}

#[test]
fn the_first_batch_found_for_an_entry_without_any_becomes_its_newest() {
    let mut entry = end(None, marker(3, 1, EndTxn::Commit), 90);
    fill_older(&mut entry, ProducerEpoch(3), cached(50, 59, 50, 59));
    assert_eq!((entry.batches(), entry.proven), (&[cached(50, 59, 50, 59)][..], 10));
}

#[test]
fn an_entry_of_a_kafka_snapshot_is_refilled_from_headers_read_forwards() {
    let mut snapshot = data(None, facts(3, 60, 10), 60);
    snapshot.txn_first_offset = Some(Offset(3));
    snapshot.refill_from(&after_tens(7));
    assert_eq!((snapshot.batches(), snapshot.proven), (after_tens(7).batches(), 70));
    assert_eq!(snapshot.txn_first_offset, Some(Offset(3)), "all else stays");
}

#[test]
fn a_refill_that_ends_elsewhere_is_dropped() {
    let snapshot = data(None, facts(3, 60, 10), 60);
    let refilled = |replayed: &Entry| {
        let mut entry = snapshot;
        entry.refill_from(replayed);
        entry
    };
    assert_eq!(refilled(&after_tens(6)), snapshot, "an older batch");
    let mut other_epoch = after_tens(7);
    other_epoch.epoch = ProducerEpoch(4);
    assert_eq!(refilled(&other_epoch), snapshot, "another epoch");
    assert_eq!(refilled(&data(None, facts(3, 60, 10), 61)), snapshot, "another offset");
}

#[test]
fn a_refill_never_shortens_a_window_and_brings_the_flags_of_aborts() {
    let mut full = after_tens(7);
    full.refill_from(&data(None, facts(3, 60, 10), 60));
    assert_eq!(full, after_tens(7));

    let mut snapshot = data(None, facts(3, 0, 10), 0);
    let replayed = data(None, transactional(3, 0, 10), 0);
    snapshot.refill_from(&end(Some(&replayed), marker(3, 1, EndTxn::Abort), 10));
    assert_eq!((snapshot.batches(), snapshot.proven), (&[aborted(cached(0, 9, 0, 9))][..], 0));
}

#[test]
fn a_decoded_window_must_be_one() {
    let new = || Entry::new(ProducerEpoch(3), SEEN);
    let mut expected = after_tens(5);
    expected.proven = 0;
    assert_eq!(new().with_window(after_tens(5).batches()), Ok(expected));
    assert_eq!(new().with_window(&[cached(0, 9, 0, 9); 6]), Err(BadWindow::TooMany { found: 6 }));
    assert_eq!(new().with_window(&[cached(0, 9, 9, 8)]), Err(BadWindow::Backwards { index: 0 }));
    let gap = [cached(0, 9, 0, 9), cached(11, 12, 10, 11)];
    assert_eq!(new().with_window(&gap), Err(BadWindow::NotContinuing { index: 1 }));
    let same_offset = [cached(0, 9, 0, 9), cached(10, 12, 9, 11)];
    assert_eq!(new().with_window(&same_offset), Err(BadWindow::NotContinuing { index: 1 }));
}

#[test]
fn entries_are_equal_by_what_they_know_not_by_what_they_forgot() {
    let mut cleared = after_tens(7);
    cleared.clear_window();
    assert_eq!(cleared, Entry::new(ProducerEpoch(3), SEEN));
    assert!(size_of::<Entry>() <= 256, "an entry is copied for every verdict: {}", size_of::<Entry>());
}

#[test]
fn the_facts_of_a_header_are_its_own_and_a_batch_without_producer_has_none() {
    let header = |producer_id, base_sequence| BatchHeader {
        base_offset: Offset(100),
        batch_length: 49,
        leader_epoch: LeaderEpoch(0),
        magic: 2,
        crc: 0,
        attributes: Attributes(1 << 4),
        last_offset_delta: 19,
        base_timestamp: 400,
        max_timestamp: 500,
        producer_id,
        producer_epoch: 3,
        base_sequence,
        record_count: 20,
    };
    let straddling = BatchFacts::of(&header(7, i32::MAX - 9)).expect("it names a producer");
    assert_eq!(straddling, transactional(3, i32::MAX - 9, 20));
    assert_eq!((straddling.last_sequence, straddling.length()), (Some(seq(9)), 20));
    let coordinator = BatchFacts::of(&header(7, -1)).expect("it names a producer");
    assert_eq!((coordinator.sequences(), coordinator.length()), (None, 0));
    assert_eq!(BatchFacts::of(&header(-1, -1)), None);
}
