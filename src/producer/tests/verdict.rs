//! One test a row of the verdict table in `docs/DEDUP.md`, and the cases of Kafka's own tests.

use super::super::{Verdict, check, check_marker};
use super::*;
use crate::error::Rejection;
use crate::types::Origin;

fn ask(entry: Option<&Entry>, facts: BatchFacts) -> Result<Verdict, Rejection> {
    check(entry, &facts, Origin::Client, &policy(UnknownProducerPolicy::Reject))
}

fn out_of_order(expected: i32, found: i32) -> Result<Verdict, Rejection> {
    Err(Rejection::OutOfOrder { producer: PRODUCER, expected: seq(expected), found: seq(found) })
}

fn overlap(first: i32, last: i32, expected: i32) -> Result<Verdict, Rejection> {
    Err(Rejection::SequenceOverlap {
        producer: PRODUCER,
        first: seq(first),
        last: seq(last),
        expected: seq(expected),
    })
}

fn unknown_sequence(found: i32, expected: i32) -> Result<Verdict, Rejection> {
    Err(Rejection::SequenceUnknown { producer: PRODUCER, found: seq(found), expected: seq(expected) })
}

fn unknown_producer(found: i32) -> Result<Verdict, Rejection> {
    Err(Rejection::UnknownProducer { producer: PRODUCER, found: seq(found), log_start_offset: Offset(40) })
}

fn fenced(current: i16, found: i16) -> Rejection {
    Rejection::Fenced { producer: PRODUCER, current: ProducerEpoch(current), found: ProducerEpoch(found) }
}

/// Kafka: `ProducerStateManagerTest.testBasicIdMapping`.
#[test]
fn the_next_sequence_appends() {
    assert_eq!(ask(Some(&after_tens(1)), facts(3, 10, 1)), Ok(Verdict::Append));
}

/// Kafka: `ProducerStateManagerTest.testBasicIdMapping`.
#[test]
fn a_gap_is_out_of_order_up_to_half_of_the_sequence_space() {
    let entry = after_tens(1);
    assert_eq!(ask(Some(&entry), facts(3, 11, 1)), out_of_order(10, 11));
    assert_eq!(ask(Some(&entry), facts(3, 10 + (1 << 30) - 1, 1)), out_of_order(10, 10 + (1 << 30) - 1));
    assert_eq!(ask(Some(&entry), facts(3, 10 + (1 << 30), 1)), unknown_sequence(10 + (1 << 30), 10));
}

#[test]
fn each_of_the_last_five_batches_is_a_duplicate_with_its_own_offsets_and_timestamp() {
    let mut entry = None;
    for n in 0..6_i32 {
        let batch = BatchFacts { max_timestamp: 100 + i64::from(n), ..facts(3, n * 10, 10) };
        entry = Some(data(entry.as_ref(), batch, 1_000 + i64::from(n) * 20));
    }
    for n in 1..6 {
        let at = 1_000 + i64::from(n) * 20;
        let stored =
            CachedBatch { max_timestamp: 100 + i64::from(n), ..cached(n * 10, n * 10 + 9, at, at + 9) };
        assert_eq!(ask(entry.as_ref(), facts(3, n * 10, 10)), Ok(Verdict::Duplicate(stored)), "batch {n}");
    }
}

#[test]
fn a_batch_older_than_the_window_and_proven_is_a_duplicate_beyond_it() {
    let entry = after_tens(7);
    let beyond = Ok(Verdict::DuplicateBeyondWindow { oldest: cached(20, 29, 20, 29) });
    assert_eq!(ask(Some(&entry), facts(3, 10, 10)), beyond);
    assert_eq!(ask(Some(&entry), facts(3, 0, 10)), beyond);
    assert_eq!(ask(Some(&entry), facts(3, 13, 4)), beyond, "other borders, but all of it is stored");
}

#[test]
fn beyond_the_window_the_whole_range_must_be_proven() {
    let mut entry = after_tens(7);
    entry.proven = 60;
    let beyond = Ok(Verdict::DuplicateBeyondWindow { oldest: cached(20, 29, 20, 29) });
    assert_eq!(ask(Some(&entry), facts(3, 10, 10)), beyond);
    assert_eq!(ask(Some(&entry), facts(3, 9, 11)), unknown_sequence(9, 70));
    assert_eq!(ask(Some(&entry), facts(3, 0, 10)), unknown_sequence(0, 70));
}

#[test]
fn a_batch_before_the_first_known_one_is_unknown() {
    let entry = data(None, facts(3, 500, 10), 90);
    assert_eq!(ask(Some(&entry), facts(3, 490, 10)), unknown_sequence(490, 510));
}

#[test]
fn a_batch_that_shares_some_sequences_with_the_window_is_an_overlap() {
    let entry = after_tens(2);
    assert_eq!(ask(Some(&entry), facts(3, 10, 5)), overlap(10, 14, 20), "the first half of one");
    assert_eq!(ask(Some(&entry), facts(3, 15, 5)), overlap(15, 19, 20), "the last half of one");
    assert_eq!(ask(Some(&entry), facts(3, 0, 20)), overlap(0, 19, 20), "two in one");
    assert_eq!(ask(Some(&entry), facts(3, 5, 10)), overlap(5, 14, 20), "across a border");
}

#[test]
fn a_batch_that_begins_before_the_window_and_ends_in_it_is_an_overlap() {
    assert_eq!(ask(Some(&after_tens(7)), facts(3, 15, 10)), overlap(15, 24, 70));
    assert_eq!(ask(Some(&after_tens(7)), facts(3, 10, 11)), overlap(10, 20, 70), "by one sequence");
}

#[test]
fn a_batch_that_begins_behind_and_reaches_past_the_newest_is_an_overlap() {
    assert_eq!(ask(Some(&after_tens(2)), facts(3, 10, 11)), overlap(10, 20, 20));
    assert_eq!(ask(Some(&after_tens(7)), facts(3, 0, 71)), overlap(0, 70, 70), "across the whole window");
}

#[test]
fn a_retry_of_an_aborted_batch_is_a_rejection_of_its_own() {
    let entry = data(None, transactional(3, 0, 10), 0);
    let entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 10);
    let retry = Rejection::AbortedRetry { producer: PRODUCER, expected: seq(10), found: seq(0) };
    assert_eq!(ask(Some(&entry), transactional(3, 0, 10)), Err(retry));
    assert_eq!(ask(Some(&entry), transactional(3, 0, 5)), overlap(0, 4, 10), "a part of it is none");
    assert_eq!(ask(Some(&entry), transactional(3, 10, 5)), Ok(Verdict::Append));
}

#[test]
fn aborted_batches_that_left_the_window_are_never_called_stored() {
    let mut entry = data(None, facts(3, 0, 10), 0);
    entry = data(Some(&entry), transactional(3, 10, 10), 10);
    entry = end(Some(&entry), marker(3, 1, EndTxn::Abort), 20);
    for n in 2..8 {
        entry = data(Some(&entry), facts(3, n * 10, 10), 1 + i64::from(n) * 10);
    }
    let beyond = Ok(Verdict::DuplicateBeyondWindow { oldest: cached(30, 39, 31, 40) });
    assert_eq!(ask(Some(&entry), facts(3, 20, 10)), beyond, "stored after the abort");
    assert_eq!(ask(Some(&entry), facts(3, 10, 10)), unknown_sequence(10, 80), "aborted");
    assert_eq!(ask(Some(&entry), facts(3, 0, 10)), unknown_sequence(0, 80), "before the abort");
}

/// Kafka: `ProducerStateManagerTest.testBasicIdMapping`.
#[test]
fn a_higher_epoch_starts_at_zero() {
    let entry = after_tens(1);
    assert_eq!(ask(Some(&entry), facts(4, 0, 1)), Ok(Verdict::Append));
    assert_eq!(ask(Some(&entry), facts(4, 10, 1)), out_of_order(0, 10));
}

/// Kafka: `ProducerStateManagerTest.testBasicIdMapping`.
#[test]
fn a_lower_epoch_is_fenced_whatever_its_sequence() {
    let entry = after_tens(1);
    for first in [0, 10, 11] {
        assert_eq!(ask(Some(&entry), facts(2, first, 10)), Err(fenced(3, 2)), "sequence {first}");
    }
}

/// Kafka: `ProducerStateManagerTest.testAppendTxnMarkerWithNoProducerState`.
#[test]
fn a_producer_of_which_only_a_marker_is_known_is_fenced_and_starts_at_zero() {
    let entry = end(None, marker(3, 15, EndTxn::Commit), 0);
    assert_eq!(ask(Some(&entry), facts(2, 0, 1)), Err(fenced(3, 2)));
    assert_eq!(ask(Some(&entry), facts(3, 17, 1)), out_of_order(0, 17));
    assert_eq!(ask(Some(&entry), facts(3, 0, 1)), Ok(Verdict::Append));
    assert_eq!(ask(Some(&entry), facts(4, 17, 1)), out_of_order(0, 17));
    assert_eq!(ask(Some(&entry), facts(4, 0, 1)), Ok(Verdict::Append));
}

/// Kafka: `ProducerStateManagerTest.testControlRecordBumpsProducerEpoch`.
#[test]
fn after_a_marker_raised_the_epoch_the_new_epoch_starts_at_zero() {
    let entry = data(None, transactional(3, 0, 10), 0);
    let entry = end(Some(&entry), marker(4, 1, EndTxn::Commit), 10);
    assert_eq!(ask(Some(&entry), facts(4, 0, 1)), Ok(Verdict::Append));
    assert_eq!(ask(Some(&entry), facts(3, 10, 1)), Err(fenced(4, 3)));
}

/// Kafka: `ProducerStateManagerTest.testOutOfSequenceAfterControlRecordEpochBump`.
#[test]
fn after_a_marker_raised_the_epoch_no_other_sequence_starts_it_or_a_later_one() {
    let entry = data(None, transactional(3, 0, 10), 0);
    let entry = end(Some(&entry), marker(4, 1, EndTxn::Commit), 10);
    assert_eq!(ask(Some(&entry), transactional(4, 10, 1)), out_of_order(0, 10));
    assert_eq!(ask(Some(&entry), transactional(5, 10, 1)), out_of_order(0, 10));
}

/// Kafka: `ProducerStateManagerTest.testProducerSequenceWrapAround`.
#[test]
fn after_the_last_sequence_comes_zero() {
    let entry = data(None, facts(3, i32::MAX, 1), 0);
    assert_eq!(ask(Some(&entry), facts(3, 0, 1)), Ok(Verdict::Append));
}

/// Kafka: `ProducerStateManagerTest.testProducerSequenceInvalidWrapAround`.
#[test]
fn after_the_last_sequence_one_is_out_of_order() {
    let entry = data(None, facts(3, i32::MAX, 1), 0);
    assert_eq!(ask(Some(&entry), facts(3, 1, 1)), out_of_order(0, 1));
}

/// Kafka: `ProducerStateManagerTest.testProducerSequenceWithWrapAroundBatchRecord`.
#[test]
fn a_batch_may_straddle_the_wrap_and_is_recognised_across_it() {
    let entry = data(None, facts(3, i32::MAX - 9, 20), 100);
    assert_eq!(entry.batches(), [cached(i32::MAX - 9, 9, 100, 119)]);
    assert_eq!(ask(Some(&entry), facts(3, 10, 5)), Ok(Verdict::Append));
    let retry = ask(Some(&entry), facts(3, i32::MAX - 9, 20));
    assert_eq!(retry, Ok(Verdict::Duplicate(cached(i32::MAX - 9, 9, 100, 119))));
    assert_eq!(ask(Some(&entry), facts(3, 0, 10)), overlap(0, 9, 10), "its part behind the wrap");
    assert_eq!(ask(Some(&entry), facts(3, i32::MAX - 9, 21)), overlap(i32::MAX - 9, 10, 10));
    assert_eq!(ask(Some(&entry), facts(3, i32::MAX - 10, 1)), unknown_sequence(i32::MAX - 10, 10));
}

#[test]
fn what_is_proven_reaches_back_across_the_wrap() {
    let mut entry = data(None, facts(3, i32::MAX - 29, 10), 0);
    for n in 1..8_u32 {
        let first = seq(i32::MAX - 29).wrapping_add(n * 10).value();
        entry = data(Some(&entry), facts(3, first, 10), i64::from(n) * 10);
    }
    let beyond = Ok(Verdict::DuplicateBeyondWindow { oldest: cached(0, 9, 30, 39) });
    assert_eq!(ask(Some(&entry), facts(3, i32::MAX - 29, 10)), beyond);
    assert_eq!(ask(Some(&entry), facts(3, i32::MAX - 9, 10)), beyond);
    assert_eq!(ask(Some(&entry), facts(3, i32::MAX - 30, 10)), unknown_sequence(i32::MAX - 30, 50));
}

#[test]
fn an_unknown_producer_starts_at_zero_under_every_policy() {
    for unknown in [
        UnknownProducerPolicy::Reject,
        UnknownProducerPolicy::ZeroOnNeverWritten,
        UnknownProducerPolicy::Accept,
    ] {
        for history in [History::Complete, History::Salvaged] {
            let policy = Policy { history, ..policy(unknown) };
            assert_eq!(check(None, &facts(3, 0, 1), Origin::Client, &policy), Ok(Verdict::Append));
        }
    }
}

#[test]
fn an_unknown_producer_with_another_sequence_is_told_the_log_start_by_default() {
    assert_eq!(UnknownProducerPolicy::default(), UnknownProducerPolicy::Reject);
    assert_eq!(ask(None, facts(3, 7, 1)), unknown_producer(7));
}

/// Kafka: `ProducerStateManagerTest.testPidExpirationTimeout`, under the policy that is Kafka's.
#[test]
fn an_unknown_producer_with_another_sequence_is_accepted_if_the_policy_says_so() {
    let policy = policy(UnknownProducerPolicy::Accept);
    assert_eq!(check(None, &facts(3, 7, 1), Origin::Client, &policy), Ok(Verdict::Append));
}

#[test]
fn an_unknown_producer_is_accepted_on_a_written_log_only_under_the_policy_between() {
    let written = policy(UnknownProducerPolicy::ZeroOnNeverWritten);
    let never = Policy { ever_written: EverWritten::No, ..written };
    assert_eq!(check(None, &facts(3, 7, 1), Origin::Client, &written), Ok(Verdict::Append));
    assert_eq!(check(None, &facts(3, 7, 1), Origin::Client, &never), unknown_producer(7));
}

#[test]
fn after_a_salvage_an_unknown_producer_gets_no_code_on_which_it_writes_twice() {
    for unknown in [
        UnknownProducerPolicy::Reject,
        UnknownProducerPolicy::ZeroOnNeverWritten,
        UnknownProducerPolicy::Accept,
    ] {
        let policy = Policy { history: History::Salvaged, ..policy(unknown) };
        assert_eq!(check(None, &facts(3, 7, 1), Origin::Client, &policy), unknown_sequence(7, 0));
    }
}

#[test]
fn after_a_salvage_a_producer_known_by_a_marker_alone_may_have_written_in_that_epoch() {
    let policy = Policy { history: History::Salvaged, ..policy(UnknownProducerPolicy::Reject) };
    let entry = end(None, marker(3, 1, EndTxn::Commit), 90);
    let ask = |facts| check(Some(&entry), &facts, Origin::Client, &policy);
    assert_eq!(ask(facts(3, 7, 1)), unknown_sequence(7, 0));
    assert_eq!(ask(facts(3, 0, 1)), Ok(Verdict::Append));
    assert_eq!(ask(facts(4, 7, 1)), out_of_order(0, 7), "but in no later one");
}

/// Kafka: `ProducerStateManagerTest.testSequenceNotValidatedForGroupMetadataTopic`.
#[test]
fn a_coordinator_is_held_to_its_epoch_and_to_no_sequence() {
    let policy = policy(UnknownProducerPolicy::Reject);
    let ask = |entry, facts| check(entry, &facts, Origin::Coordinator, &policy);
    assert_eq!(ask(None, unsequenced(3)), Ok(Verdict::Append));
    let entry = data(None, unsequenced(3), 0);
    assert_eq!(ask(Some(&entry), unsequenced(3)), Ok(Verdict::Append));
    assert_eq!(ask(Some(&entry), unsequenced(4)), Ok(Verdict::Append));
    assert_eq!(ask(Some(&entry), facts(3, 99, 1)), Ok(Verdict::Append), "even if there is one");
    assert_eq!(ask(Some(&entry), unsequenced(2)), Err(fenced(3, 2)));
}

#[test]
fn a_client_batch_without_a_sequence_is_an_invalid_record() {
    let Err(Rejection::InvalidRecord(why)) = ask(None, unsequenced(3)) else { panic!("accepted") };
    assert_eq!((why.field, why.at, why.found.as_str()), ("base sequence", 53, "-1"));
}

/// Kafka: `ProducerStateManagerTest.testNonTransactionalAppendWithOngoingTransaction`.
#[test]
fn a_batch_outside_of_the_open_transaction_is_refused() {
    let entry = data(None, transactional(3, 0, 10), 20);
    let why = "producer 7 sent a batch without the transactional flag, but its transaction from offset 20 on is \
               open; end that first";
    let refused = Err(Rejection::InvalidTxnState(why.to_owned()));
    assert_eq!(ask(Some(&entry), facts(3, 10, 1)), refused);
    assert_eq!(ask(Some(&entry), facts(4, 0, 1)), refused, "a new epoch does not end it");
    assert_eq!(ask(Some(&entry), transactional(3, 10, 1)), Ok(Verdict::Append));
    assert_eq!(
        check(Some(&entry), &unsequenced(3), Origin::Coordinator, &policy(UnknownProducerPolicy::Reject)),
        refused
    );
}

#[test]
fn a_retry_is_answered_whatever_transaction_is_open() {
    let entry = data(None, facts(3, 0, 10), 0);
    let entry = data(Some(&entry), transactional(3, 10, 10), 10);
    assert_eq!(ask(Some(&entry), facts(3, 0, 10)), Ok(Verdict::Duplicate(cached(0, 9, 0, 9))));
    assert_eq!(ask(Some(&entry), facts(3, 21, 1)), out_of_order(20, 21), "and so is a gap");
}

/// Kafka: `ProducerStateManagerTest.testOldEpochForControlRecord`.
#[test]
fn a_marker_of_an_older_epoch_is_fenced() {
    let entry = after_tens(1);
    assert_eq!(
        check_marker(Some(&entry), &marker(2, 1, EndTxn::Commit), TransactionVersion::One),
        Err(fenced(3, 2))
    );
    assert_eq!(check_marker(Some(&entry), &marker(3, 1, EndTxn::Commit), TransactionVersion::One), Ok(()));
    assert_eq!(check_marker(Some(&entry), &marker(4, 1, EndTxn::Abort), TransactionVersion::One), Ok(()));
    assert_eq!(check_marker(None, &marker(0, 0, EndTxn::Abort), TransactionVersion::One), Ok(()));
}

/// Kafka: `ProducerStateManagerTest.testCoordinatorFencing`, `testCoordinatorFencedAfterReload`.
#[test]
fn a_marker_of_an_older_coordinator_is_fenced() {
    let entry = end(None, marker(3, 5, EndTxn::Commit), 0);
    let older = Rejection::CoordinatorFenced {
        producer: PRODUCER,
        current: CoordinatorEpoch(5),
        found: CoordinatorEpoch(4),
    };
    assert_eq!(older.kafka_code(), 52);
    assert_eq!(
        check_marker(Some(&entry), &marker(3, 4, EndTxn::Commit), TransactionVersion::One),
        Err(older)
    );
    assert_eq!(
        check_marker(Some(&entry), &marker(3, 5, EndTxn::Commit), TransactionVersion::One),
        Ok(()),
        "repeated"
    );
    assert_eq!(check_marker(Some(&entry), &marker(3, 6, EndTxn::Commit), TransactionVersion::One), Ok(()));
}

/// Kafka: `UnifiedLogTest.testEndTxnWithFencedProducerEpoch`, the part of transaction version 2 (KAFKA-19999).
#[test]
fn by_version_two_the_marker_of_an_open_transaction_must_raise_the_epoch() {
    let version = TransactionVersion::Two;
    let open = data(None, transactional(3, 0, 1), 10);
    assert_eq!(check_marker(Some(&open), &marker(3, 0, EndTxn::Commit), version), Err(fenced(3, 3)));
    assert_eq!(check_marker(Some(&open), &marker(4, 0, EndTxn::Commit), version), Ok(()));
    let ended = end(Some(&open), marker(4, 0, EndTxn::Commit), 11);
    assert_eq!(check_marker(Some(&ended), &marker(4, 0, EndTxn::Commit), version), Ok(()), "repeated");
    assert_eq!(check_marker(Some(&ended), &marker(3, 0, EndTxn::Commit), version), Err(fenced(4, 3)));
}
