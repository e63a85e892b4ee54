//! The last stable offset and the first unstable one.

use oncelog::{Durability, EndTxn, Isolation, LogConfig, Offset, RawBatch};

use crate::naive::check;
use crate::world::{End, World, end, idempotent, plain, small, txn};

/// Kafka: `UnifiedLogTest.testFirstUnstableOffsetNoTransactionalData`.
#[test]
fn without_transactions_the_last_stable_offset_is_the_high_watermark() {
    let world = World::new();
    world.add(plain("one"));
    world.add(idempotent(1, 0, 0, 3));
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (None, 4));
    world.log().append(RawBatch(plain("not durable")), Durability::Buffered).unwrap();
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (None, 4));
}

/// Kafka: `UnifiedLogTest.testFirstUnstableOffsetWithTransactionalData`.
#[test]
fn an_open_transaction_holds_the_last_stable_offset_at_its_first_record() {
    let world = World::new();
    world.add(plain("before"));
    world.add(txn(1, 0, 0, 2));
    world.add(txn(1, 0, 2, 2));
    world.add(plain("behind"));
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (Some(Offset(1)), 1));
    assert_eq!(world.committed(), [0]);
    assert_eq!(world.end(1, 0, EndTxn::Commit), 6);
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (None, 7));
    assert_eq!(world.committed(), [0, 1, 2, 3, 4, 5]);
}

/// Kafka: `UnifiedLogTest.testLastStableOffsetWithMixedProducerData`.
#[test]
fn of_many_transactions_the_oldest_that_is_undecided_counts() {
    let world = World::new();
    world.add(txn(137, 5, 0, 3));
    world.add(txn(983, 5, 0, 3));
    assert_eq!(world.stable(), 0);
    world.end(137, 5, EndTxn::Abort);
    assert_eq!(world.stable(), 3);
    world.add(txn(137, 5, 3, 1));
    assert_eq!(world.stable(), 3);
    world.end(983, 5, EndTxn::Commit);
    assert_eq!(world.stable(), 7);
    check(&world);
}

#[test]
fn a_marker_that_is_not_durable_decides_nothing() {
    let world = World::new();
    world.add(txn(1, 0, 0, 2));
    world.log().end_transaction(end(1, 0, EndTxn::Commit), Durability::Buffered).unwrap();
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (Some(Offset(0)), 0));
    assert_eq!(world.open_txns(), [], "it is not open any more");
    world.log().flush().unwrap();
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (None, 3));
}

#[test]
fn a_transaction_above_the_high_watermark_does_not_move_the_last_stable_offset() {
    let world = World::new();
    world.add(plain("durable"));
    world.log().append(RawBatch(txn(1, 0, 0, 2)), Durability::Buffered).unwrap();
    assert_eq!((world.log().first_unstable_offset(), world.stable()), (Some(Offset(1)), 1));
}

/// Kafka: `UnifiedLogTest.testFetchUpToLastStableOffset`.
#[test]
fn a_fetch_of_committed_records_ends_before_the_batch_of_the_open_transaction() {
    let world = World::with(LogConfig { segment_bytes: 1 << 20, ..small() });
    for n in 0..40 {
        world.add(plain(&format!("value {n}")));
    }
    world.add(txn(1, 0, 0, 2));
    world.add(plain("behind"));
    let fetched = world.log().fetch(Offset(0), 1 << 20, Isolation::ReadCommitted).unwrap();
    assert_eq!(fetched.records().unwrap().len(), 40);
    assert_eq!((fetched.last_stable_offset(), fetched.high_watermark()), (Offset(40), Offset(43)));
    for from in [40, 41, 43] {
        assert!(world.log().fetch(Offset(from), 1, Isolation::ReadCommitted).unwrap().is_empty(), "{from}");
    }
}

#[test]
fn a_timestamp_is_not_found_behind_the_last_stable_offset() {
    let world = World::new();
    let now = crate::world::NOW;
    world.add(idempotent(1, 0, 0, 1));
    world.add(txn(2, 0, 0, 1));
    world.add(idempotent(1, 0, 1, 1));
    let find = |isolation| world.log().offset_for_timestamp(now + 1, isolation).unwrap();
    assert_eq!(find(Isolation::HighWatermark), Some((Offset(2), now + 1)));
    assert_eq!(find(Isolation::ReadCommitted), None);
    world.end(2, 0, EndTxn::Abort);
    assert_eq!(find(Isolation::ReadCommitted), Some((Offset(2), now + 1)));
    let first = |isolation| world.log().offset_for_timestamp(now, isolation).unwrap().unwrap().0;
    assert_eq!(first(Isolation::ReadCommitted), Offset(0));
}

/// Kafka: `UnifiedLogTest.testRebuildTransactionalState`.
#[test]
fn open_and_ended_transactions_are_the_same_after_every_restart() {
    for end in End::ALL {
        for checkpoint in [false, true] {
            let mut world = World::new();
            world.add(txn(1, 3, 0, 2));
            world.add(txn(2, 0, 0, 1));
            if checkpoint {
                world.log().checkpoint().unwrap();
            }
            world.add(txn(3, 0, 0, 1));
            world.end(2, 0, EndTxn::Commit);
            world.restart(end);
            assert_eq!(world.open_txns(), [(1, 0), (3, 3)], "{end:?} {checkpoint}");
            assert_eq!(world.log().open_transactions()[0].epoch.0, 3, "{end:?} {checkpoint}");
            assert_eq!(world.stable(), 0, "{end:?} {checkpoint}");
            check(&world);
            world.end(1, 3, EndTxn::Abort);
            world.end(3, 0, EndTxn::Commit);
            assert_eq!(world.stable(), 7, "{end:?} {checkpoint}");
            world.restart(end);
            assert_eq!((world.open_txns(), world.stable()), (vec![], 7), "{end:?} {checkpoint}");
            check(&world);
        }
    }
}

#[test]
fn an_open_transaction_survives_many_checkpoints_rolls_and_merges() {
    let mut world = World::with(LogConfig { whole_base_producers: 0, max_deltas: 2, ..small() });
    world.add(txn(1, 0, 0, 2));
    for n in 0..12 {
        for producer in 2..5 {
            world.add(idempotent(producer, 0, n, 1));
        }
        world.log().checkpoint().unwrap();
    }
    world.restart(End::PowerCut);
    assert_eq!((world.open_txns(), world.stable()), (vec![(1, 0)], 0));
    world.restart(End::Close);
    assert_eq!((world.open_txns(), world.stable()), (vec![(1, 0)], 0));
}

/// Kafka: `ProducerStateManagerTest.testProducersWithOngoingTransactionsDontExpire`.
#[test]
fn a_producer_with_an_open_transaction_does_not_expire() {
    let mut world = World::with(LogConfig { producer_expiry_ms: 1_000, ..small() });
    world.add(txn(1, 0, 0, 2));
    world.add(idempotent(2, 0, 0, 1));
    world.advance(5_000);
    world.add(plain("later"));
    for _ in 0..2 {
        world.restart(End::Close);
        world.add(plain("later still"));
    }
    assert!(world.log().producer(oncelog::ProducerId(2)).unwrap().is_none(), "it is gone");
    assert_eq!(world.open_txns(), [(1, 0)]);
    world.end(1, 0, EndTxn::Commit);
    check(&world);
}

/// Kafka: `UnifiedLogTest.testLastStableOffsetDoesNotExceedLogStartOffsetMidSegment`,
/// `testLastStableOffsetDoesNotExceedLogStartOffsetAfterSegmentDeletion`.
#[test]
fn a_transaction_that_began_in_deleted_records_holds_the_log_start() {
    let mut world = World::new();
    world.add(txn(1, 0, 0, 2));
    for n in 0..20 {
        world.add(plain(&format!("value {n}")));
    }
    for start in [1, 2, 15] {
        world.log().delete_records_before(Offset(start)).unwrap();
        for restart in [None, Some(End::Close), Some(End::Kill)] {
            restart.map(|restart| world.restart(restart));
            assert_eq!(world.log().first_unstable_offset(), Some(Offset(start)), "{restart:?}");
            assert_eq!(world.stable(), start, "{restart:?}");
            assert!(world.log().fetch(Offset(start), 1, Isolation::ReadCommitted).unwrap().is_empty());
        }
    }
    world.end(1, 0, EndTxn::Abort);
    assert_eq!(world.stable(), 23);
    assert_eq!(world.committed(), (15..22).collect::<Vec<i64>>());
}

/// Kafka: `UnifiedLogTest.testReadCommittedWithConcurrentHighWatermarkUpdates`.
#[test]
fn a_reader_beside_a_writer_sees_whole_committed_transactions_and_no_other() {
    let config = LogConfig { background: oncelog::Background::Threads, segment_bytes: 4_000, ..small() };
    let world = World::with(config);
    let log = world.log();
    let read = || -> Vec<i64> {
        let (records, _) = world.read(Isolation::ReadCommitted, 1 << 20);
        records.iter().map(|record| record.offset.0).collect()
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..60 {
                let submit = |first| log.submit(RawBatch(txn(1, 0, first, 1)), Durability::Durable).unwrap();
                let _first = submit(2 * n);
                let _second = submit(2 * n + 1);
                let outcome = if n % 2 == 0 { EndTxn::Commit } else { EndTxn::Abort };
                log.end_transaction(end(1, 0, outcome), Durability::Durable).unwrap();
            }
        });
        while !writer.is_finished() {
            for pair in read().chunks(2) {
                assert_eq!(pair, [pair[0], pair[0] + 1], "both records of a transaction");
                assert_eq!(pair[0] % 6, 0, "of one that was committed");
            }
        }
        writer.join().unwrap();
    });
    assert_eq!(read().len(), 60);
    check(&world);
}

/// Kafka: `ProducerStateManagerTest.testFirstUnstableOffset`, across a restart, where Kafka forgets it.
#[test]
fn a_marker_that_is_not_replicated_decides_nothing_also_after_a_restart() {
    for end in End::ALL {
        for checkpoint in [false, true] {
            let high_watermark = oncelog::HighWatermark::External;
            let mut world = World::with(LogConfig { high_watermark, ..small() });
            world.add(txn(1, 0, 0, 2));
            world.end(1, 0, EndTxn::Abort);
            if checkpoint {
                world.log().checkpoint().unwrap();
            }
            for restart in [false, true] {
                if restart {
                    world.restart(end);
                }
                world.log().set_high_watermark(Offset(2)).unwrap();
                assert_eq!(world.stable(), 0, "{end:?}, checkpoint: {checkpoint}, restart: {restart}");
                assert!(world.log().fetch(Offset(0), 1, Isolation::ReadCommitted).unwrap().is_empty());
            }
            world.log().set_high_watermark(Offset(3)).unwrap();
            assert_eq!((world.stable(), world.committed()), (3, vec![]));
        }
    }
}
