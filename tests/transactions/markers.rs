//! Markers: what they end, whom they fence, and what they leave.

use oncelog::{
    AbortedTxn, CoordinatorEpoch, Durability, EndTransaction, EndTxn, Error, Isolation, Offset, Outcome,
    ProducerEpoch, ProducerId, Rejection, TransactionVersion,
};

use crate::naive::check;
use crate::world::{End, World, end, idempotent, rejected, txn};

fn mark(world: &World, end: EndTransaction) -> Result<oncelog::Appended, Error> {
    world.log().end_transaction(end, Durability::Durable)
}

#[test]
fn a_marker_is_the_batch_that_kafka_writes() {
    let world = World::new();
    world.add(txn(7, 2, 0, 1));
    let appended = mark(&world, end(7, 2, EndTxn::Commit)).unwrap();
    assert_eq!((appended.outcome, appended.base_offset), (Outcome::Appended, Some(Offset(1))));
    let fetched = world.log().fetch(Offset(1), 1, Isolation::HighWatermark).unwrap();
    let batch = fetched.batches().unwrap().next().unwrap().unwrap();
    let header = batch.header;
    assert_eq!(batch.bytes.len(), 78);
    assert!(header.attributes.is_control() && header.attributes.is_transactional());
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 2, -1));
    assert_eq!((header.max_timestamp, header.record_count), (crate::world::NOW, 1));
}

/// Kafka: `UnifiedLogTest.testEndTxnWithFencedProducerEpoch`.
#[test]
fn a_marker_of_an_older_producer_epoch_is_fenced() {
    for restart in [None, Some(End::Close), Some(End::Kill)] {
        let mut world = World::new();
        world.add(txn(1, 4, 0, 1));
        restart.map(|restart| world.restart(restart));
        let refused = rejected(mark(&world, end(1, 3, EndTxn::Abort)));
        let (current, found) = (ProducerEpoch(4), ProducerEpoch(3));
        assert_eq!(refused, Rejection::Fenced { producer: ProducerId(1), current, found });
        assert_eq!(refused.kafka_code(), 47);
        assert_eq!(world.open_txns(), [(1, 0)]);
    }
}

/// Kafka: `UnifiedLogTest.testZombieCoordinatorFenced`, `testZombieCoordinatorFencedEmptyTransaction`,
/// `ProducerStateManagerTest.testCoordinatorFencedAfterReload`.
#[test]
fn a_marker_of_an_older_coordinator_is_fenced_also_after_a_restart() {
    for restart in [None, Some(End::Close), Some(End::Kill), Some(End::PowerCut)] {
        let mut world = World::new();
        mark(&world, end(1, 0, EndTxn::Abort)).unwrap();
        world.add(txn(1, 0, 0, 1));
        restart.map(|restart| world.restart(restart));
        let zombie = EndTransaction { coordinator_epoch: CoordinatorEpoch(4), ..end(1, 0, EndTxn::Abort) };
        let refused = rejected(mark(&world, zombie));
        let (current, found) = (CoordinatorEpoch(5), CoordinatorEpoch(4));
        assert_eq!(refused, Rejection::CoordinatorFenced { producer: ProducerId(1), current, found });
        assert_eq!(refused.kafka_code(), 52);
        assert_eq!(world.open_txns(), [(1, 1)], "{restart:?}");
    }
}

/// Kafka: `ProducerStateManagerTest.testAppendTxnMarkerWithNoProducerState`, `testSkipEmptyTransactions`.
#[test]
fn a_marker_without_open_transaction_decides_nothing_and_fences() {
    let mut world = World::new();
    mark(&world, end(1, 15, EndTxn::Abort)).unwrap();
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (None, 1));
    world.restart(End::Close);
    let fenced = world.rejection(txn(1, 14, 0, 1));
    let (current, found) = (ProducerEpoch(15), ProducerEpoch(14));
    assert_eq!(fenced, Rejection::Fenced { producer: ProducerId(1), current, found });
    assert_eq!(world.rejection(txn(1, 15, 3, 1)).kafka_code(), 45);
    world.add(txn(1, 15, 0, 1));
    let (_, told) = world.read(Isolation::ReadCommitted, 1);
    assert_eq!(told, [] as [AbortedTxn; 0]);
    assert_eq!(world.names(".txnindex"), [] as [String; 0]);
}

#[test]
fn by_version_two_each_transaction_begins_with_the_markers_epoch_at_sequence_zero() {
    let mut world = World::new();
    let version = TransactionVersion::Two;
    for epoch in 0..4 {
        world.add(txn(1, epoch, 0, 2));
        world.add(txn(1, epoch, 2, 1));
        let same = EndTransaction { version, ..end(1, epoch, EndTxn::Commit) };
        assert_eq!(rejected(mark(&world, same)).kafka_code(), 47, "an open transaction needs a later epoch");
        let outcome = if epoch % 2 == 0 { EndTxn::Commit } else { EndTxn::Abort };
        let marker = EndTransaction { version, ..end(1, epoch + 1, outcome) };
        mark(&world, marker).unwrap();
        let again = mark(&world, marker).unwrap();
        assert_eq!(
            again.outcome,
            Outcome::Appended,
            "a repeated marker is written again and decides nothing"
        );
        assert_eq!(world.rejection(txn(1, epoch, 3, 1)).kafka_code(), 47);
        assert_eq!(world.rejection(txn(1, epoch + 1, 3, 1)).kafka_code(), 45);
        world.restart(End::ALL[usize::try_from(epoch).unwrap() % 3]);
    }
    assert_eq!(world.committed(), [0, 1, 2, 10, 11, 12]);
    check(&world);
}

/// Kafka: `ProducerStateManagerTest.testNonTransactionalAppendWithOngoingTransaction`.
#[test]
fn a_batch_outside_of_the_open_transaction_is_refused() {
    for restart in [None, Some(End::Close), Some(End::Kill)] {
        let mut world = World::new();
        world.add(txn(1, 0, 0, 1));
        restart.map(|restart| world.restart(restart));
        assert_eq!(world.rejection(idempotent(1, 0, 1, 1)).kafka_code(), 48);
        world.end(1, 0, EndTxn::Commit);
        world.add(idempotent(1, 0, 1, 1));
    }
}

#[test]
fn a_transactional_batch_without_producer_is_refused() {
    let world = World::new();
    let batch = oncelog::BatchBuilder::new().transactional().record(None, Some(b"x")).build().unwrap();
    assert_eq!(world.rejection(batch).kafka_code(), 87);
}

#[test]
fn a_marker_with_a_negative_number_is_refused() {
    let world = World::new();
    let sound = end(1, 0, EndTxn::Commit);
    for marker in [
        EndTransaction { producer: ProducerId(-1), ..sound },
        EndTransaction { epoch: ProducerEpoch(-1), ..sound },
        EndTransaction { coordinator_epoch: CoordinatorEpoch(-1), ..sound },
    ] {
        assert_eq!(rejected(mark(&world, marker)).kafka_code(), 87, "{marker:?}");
    }
    assert_eq!(world.log().log_end_offset(), Offset(0));
}

#[test]
fn markers_and_batches_are_judged_in_the_order_of_their_submits() {
    let world = World::new();
    let log = world.log();
    let mut completions = Vec::new();
    for first in 0..10 {
        completions.push(log.submit(oncelog::RawBatch(txn(1, 0, first, 1)), Durability::Durable).unwrap());
        let outcome = if first % 3 == 0 { EndTxn::Abort } else { EndTxn::Commit };
        completions.push(log.submit_end_transaction(end(1, 0, outcome), Durability::Durable).unwrap());
    }
    let offsets: Vec<i64> =
        completions.into_iter().map(|completion| completion.wait().unwrap().last_offset.0).collect();
    assert_eq!(offsets, (0..20).collect::<Vec<i64>>());
    assert_eq!(world.committed(), [2, 4, 8, 10, 14, 16]);
    check(&world);
}

// An operator's abort.

#[test]
fn a_transaction_that_nobody_ends_is_listed_and_can_be_aborted() {
    let mut world = World::new();
    world.add(txn(1, 3, 0, 1));
    world.advance(60_000);
    world.add(txn(2, 0, 0, 1));
    let open = world.log().open_transactions();
    assert_eq!(open.iter().map(|txn| txn.started.0).collect::<Vec<_>>(), [0, 60_000]);
    world.restart(End::Close);
    let hanging = world.log().open_transactions()[0];
    assert_eq!(
        (hanging.producer, hanging.epoch, hanging.first_offset),
        (ProducerId(1), ProducerEpoch(3), Offset(0))
    );
    world.log().abort_transaction(&hanging, CoordinatorEpoch(0), Durability::Durable).unwrap();
    assert_eq!((world.open_txns(), world.stable()), (vec![(2, 1)], 1));
    world.end(2, 0, EndTxn::Commit);
    assert_eq!(world.committed(), [1]);
    world.add(txn(1, 3, 1, 1));
    world.end(1, 3, EndTxn::Commit);
    check(&world);
}

#[test]
fn an_abort_that_comes_late_does_not_touch_the_next_transaction() {
    let world = World::new();
    world.add(txn(1, 0, 0, 1));
    let hanging = world.log().open_transactions()[0];
    world.end(1, 0, EndTxn::Commit);
    for open in [false, true] {
        if open {
            world.add(txn(1, 0, 1, 1));
        }
        let late = world.log().abort_transaction(&hanging, CoordinatorEpoch(5), Durability::Durable);
        assert_eq!(rejected(late).kafka_code(), 48, "{open}");
    }
    assert_eq!(world.open_txns(), [(1, 2)]);
}
