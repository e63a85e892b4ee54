//! Transactions follow the log when it is cut (UnifiedLogTest, ProducerStateManagerTest).

use bytes::Bytes;
use oncelog::types::CoordinatorEpoch;
use oncelog::{
    BatchBuilder, Durability, EndTransaction, EndTxn, Isolation, LogConfig, ProducerEpoch, ProducerId,
    Sequence, TransactionVersion,
};

use crate::world::{NOW, World, of, offset, small};

fn transactional(producer: i64, first: i32) -> Bytes {
    BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(0), Sequence::new(first).unwrap())
        .transactional()
        .record_at(NOW, None, Some(b"v"))
        .build()
        .unwrap()
}

fn end(world: &World, producer: i64, outcome: EndTxn) {
    let end = EndTransaction {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(0),
        coordinator_epoch: CoordinatorEpoch(1),
        outcome,
        version: TransactionVersion::One,
    };
    world.log().end_transaction(end, Durability::Durable).unwrap();
}

fn open(world: &World) -> Vec<(i64, i64)> {
    let open = world.log().open_transactions();
    open.iter().map(|txn| (txn.producer.0, txn.first_offset.0)).collect()
}

/// 0: plain, 1 and 3: of producer 1, which aborts at 4; 2 and 5: of producer 2, which is open; 6: plain.
fn mixed() -> World {
    let world = World::with(LogConfig { verify_transactions: false, ..small() });
    world.add(of(9, 0, 1));
    world.add(transactional(1, 0));
    world.add(transactional(2, 0));
    world.add(transactional(1, 1));
    end(&world, 1, EndTxn::Abort);
    world.add(transactional(2, 1));
    world.add(of(9, 1, 1));
    assert_eq!((open(&world), world.end()), (vec![(2, 2)], 7));
    world
}

fn aborted(world: &World) -> Vec<(i64, i64, i64)> {
    let fetched = world.log().fetch(offset(0), 1 << 20, Isolation::ReadCommitted).unwrap();
    fetched.aborted().iter().map(|txn| (txn.producer.0, txn.first_offset.0, txn.last_offset.0)).collect()
}

/// Kafka: `UnifiedLogTest.testTruncateBelowFirstUnstableOffset`,
/// `ProducerStateManagerTest.testFirstUnstableOffsetAfterTruncation`.
#[test]
fn transactions_are_as_they_were_at_the_cut() {
    for (cut, left, unstable) in [
        (6, vec![(2, 2)], Some(2)),
        (5, vec![(2, 2)], Some(2)),
        (4, vec![(1, 1), (2, 2)], Some(1)),
        (2, vec![(1, 1)], Some(1)),
        (1, vec![], None),
    ] {
        let mut world = mixed();
        world.log().checkpoint().unwrap();
        world.log().truncate_to(offset(cut)).unwrap();
        for _ in 0..3 {
            assert_eq!(open(&world), left, "cut at {cut}");
            assert_eq!(world.log().first_unstable_offset().map(|first| first.0), unstable, "cut at {cut}");
            assert_eq!(world.log().last_stable_offset(), offset(unstable.unwrap_or(cut)));
            world.kill();
            world.open().unwrap();
        }
        if cut == 5 {
            end(&world, 2, EndTxn::Commit);
            assert_eq!(aborted(&world), [(1, 1, 4)]);
        }
        if cut == 4 {
            end(&world, 1, EndTxn::Commit);
            end(&world, 2, EndTxn::Commit);
            assert_eq!(aborted(&world), [], "the abort was cut");
        }
    }
}

/// Kafka: `UnifiedLogTest.testTruncateFullyAndStartBelowFirstUnstableOffset`.
#[test]
fn a_log_that_starts_fully_anew_has_no_transaction() {
    for start in [0, 3, 50] {
        let world = mixed();
        world.log().truncate_fully_and_start_at(offset(start)).unwrap();
        assert_eq!(open(&world), []);
        assert_eq!(world.log().first_unstable_offset(), None);
        assert_eq!(world.log().last_stable_offset(), offset(start));
        assert_eq!(world.names(".txnindex"), [""; 0]);
    }
}
