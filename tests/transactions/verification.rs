//! Verification of transactions (KIP-890): no batch begins one that the coordinator does not know.

use oncelog::{
    Background, Durability, EndTxn, LogConfig, Origin, Outcome, ProducerEpoch, ProducerId, RawBatch,
    Rejection, Sequence, VerificationGuard,
};

use crate::world::{End, World, end, idempotent, rejected, small, txn};

fn verifying() -> World {
    World::with(LogConfig { verify_transactions: true, ..small() })
}

fn begin(world: &World, epoch: i16, sequence: i32) -> VerificationGuard {
    world.log().begin_verification(ProducerId(1), ProducerEpoch(epoch), Sequence::new(sequence).unwrap())
}

fn append(
    world: &World,
    batch: bytes::Bytes,
    guard: VerificationGuard,
) -> Result<oncelog::Appended, oncelog::Error> {
    world.log().append_verified(RawBatch(batch), guard, Durability::Durable)
}

#[test]
fn verification_is_on_by_default() {
    assert!(LogConfig::default().verify_transactions);
}

/// Kafka: `UnifiedLogTest.testTransactionIsOngoingAndVerificationGuard`.
#[test]
fn a_transaction_begins_with_the_guard_and_goes_on_without() {
    let world = verifying();
    let guard = begin(&world, 0, 0);
    assert_eq!(begin(&world, 0, 0), guard, "until it is used");
    assert_eq!(append(&world, txn(1, 0, 0, 1), guard).unwrap().outcome, Outcome::Appended);
    assert!(begin(&world, 0, 1).is_none(), "nothing is to be verified any more");
    world.add(txn(1, 0, 1, 1));
    assert!(!begin(&world, 1, 0).is_none(), "another epoch is another transaction");
    world.end(1, 0, EndTxn::Commit);
    assert_eq!(rejected(append(&world, txn(1, 0, 2, 1), guard)).kafka_code(), 48, "a guard is used once");
    assert_eq!(world.rejection(txn(1, 0, 2, 1)).kafka_code(), 48);
    let next = begin(&world, 0, 2);
    assert_ne!(next, guard);
    append(&world, txn(1, 0, 2, 1), next).unwrap();
}

#[test]
fn a_guard_of_another_producer_or_log_verifies_nothing() {
    let (world, other) = (verifying(), verifying());
    let _mine = begin(&world, 0, 0);
    let of_other_log = begin(&other, 0, 0);
    let zero = Sequence::new(0).unwrap();
    let of_other_producer = world.log().begin_verification(ProducerId(2), ProducerEpoch(0), zero);
    for guard in [of_other_log, of_other_producer, VerificationGuard::NONE] {
        assert_eq!(rejected(append(&world, txn(1, 0, 0, 1), guard)).kafka_code(), 48);
    }
}

/// Kafka: `UnifiedLogTest.testEmptyTransactionStillClearsVerificationGuard`.
#[test]
fn a_marker_takes_the_guard_back() {
    let world = verifying();
    let guard = begin(&world, 0, 0);
    world.end(1, 0, EndTxn::Abort);
    assert_eq!(rejected(append(&world, txn(1, 0, 0, 1), guard)).kafka_code(), 48);
}

#[test]
fn a_marker_takes_the_guard_back_from_a_batch_that_is_written_together_with_it() {
    for background in [Background::Caller, Background::Threads] {
        let world = World::with(LogConfig { verify_transactions: true, background, ..small() });
        let log = world.log();
        let submit = |batch, guard| {
            log.submit_verified(RawBatch(batch), Origin::Client, guard, Durability::Durable).unwrap()
        };
        // Small submits gather with threads, so most of these go into one write.
        for round in 0..20 {
            let guard = begin(&world, 0, round);
            let first = submit(txn(1, 0, round, 1), guard);
            let marker = log.submit_end_transaction(end(1, 0, EndTxn::Abort), Durability::Durable).unwrap();
            let second = submit(txn(1, 0, round + 1, 1), guard);
            assert_eq!(rejected(second.wait()).kafka_code(), 48);
            assert_eq!(first.wait().unwrap().last_offset.0, i64::from(2 * round));
            assert_eq!(marker.wait().unwrap().last_offset.0, i64::from(2 * round) + 1);
        }
    }
}

#[test]
fn batches_outside_of_transactions_need_no_guard_and_use_none_up() {
    let world = verifying();
    let guard = begin(&world, 0, 1);
    world.add(idempotent(1, 0, 0, 1));
    append(&world, txn(1, 0, 1, 1), guard).unwrap();
}

/// Kafka: `ProducerStateManagerTest.testThrowOutOfOrderSequenceWithVerificationSequenceCheck`.
#[test]
fn a_batch_behind_the_lowest_sequence_that_waits_is_out_of_order_also_if_nothing_is_verified() {
    for verify_transactions in [true, false] {
        let world = World::with(LogConfig { verify_transactions, ..small() });
        world.add(idempotent(1, 0, 0, 2));
        let guard = begin(&world, 0, 1);
        let refused = rejected(append(&world, txn(1, 0, 2, 1), guard));
        let (expected, found) = (Sequence::new(1).unwrap(), Sequence::new(2).unwrap());
        assert_eq!(refused, Rejection::OutOfOrder { producer: ProducerId(1), expected, found });
    }
}

#[test]
fn a_retry_of_a_stored_batch_needs_no_guard() {
    let world = verifying();
    append(&world, txn(1, 0, 0, 1), begin(&world, 0, 0)).unwrap();
    world.end(1, 0, EndTxn::Commit);
    assert_eq!(world.append(txn(1, 0, 0, 1)).unwrap().outcome, Outcome::Duplicate);
}

#[test]
fn a_fenced_batch_is_told_that_and_not_to_verify() {
    let world = verifying();
    world.end(1, 5, EndTxn::Commit);
    assert_eq!(world.rejection(txn(1, 4, 0, 1)).kafka_code(), 47);
    assert_eq!(world.rejection(txn(1, 5, 3, 1)).kafka_code(), 48, "before its sequence is looked at");
}

/// Kafka: `ProducerStateManagerTest.testVerificationStateEntryExpiration`.
#[test]
fn a_guard_expires_with_the_producers() {
    let world = World::with(LogConfig { verify_transactions: true, producer_expiry_ms: 1_000, ..small() });
    let guard = begin(&world, 0, 0);
    world.advance(900);
    assert_eq!(begin(&world, 0, 0), guard);
    world.advance(100);
    assert_eq!(rejected(append(&world, txn(1, 0, 0, 1), guard)).kafka_code(), 48);
}

#[test]
fn an_open_transaction_goes_on_without_a_guard_after_a_restart() {
    for how in End::ALL {
        let mut world = verifying();
        let guard = begin(&world, 0, 0);
        append(&world, txn(1, 0, 0, 1), guard).unwrap();
        world.restart(how);
        assert!(begin(&world, 0, 1).is_none(), "{how:?}");
        world.add(txn(1, 0, 1, 1));
        world.end(1, 0, EndTxn::Commit);
        assert_eq!(world.rejection(txn(1, 0, 2, 1)).kafka_code(), 48, "{how:?}");
    }
}

#[test]
fn without_verification_no_guard_is_needed() {
    let world = World::with(LogConfig { verify_transactions: false, ..small() });
    world.add(txn(1, 0, 0, 1));
}
