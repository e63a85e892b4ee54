//! What is cut off the log takes its transactions along, and brings those back that it had ended.

use oncelog::{Background, EndTxn, Isolation, LogConfig, Offset};

use crate::naive::check;
use crate::world::{End, World, aborted, plain, small, txn};

/// Two transactions: 1 from offset 1 to its abort at 4, 2 from 2 to its commit at 6. Offset 5 is nobody's.
fn two_ended(world: &World) {
    world.add(plain("before"));
    world.add(txn(1, 0, 0, 1));
    world.add(txn(2, 0, 0, 2));
    assert_eq!(world.end(1, 0, EndTxn::Abort), 4);
    world.add(plain("between"));
    assert_eq!(world.end(2, 0, EndTxn::Commit), 6);
}

fn configurations() -> [LogConfig; 3] {
    [
        small(),
        LogConfig { segment_bytes: 128, ..small() },
        LogConfig { background: Background::Threads, ..small() },
    ]
}

/// Kafka: `ProducerStateManagerTest.testFirstUnstableOffsetAfterTruncation`,
/// `UnifiedLogTest.testTruncateBelowFirstUnstableOffset`.
#[test]
fn a_transaction_whose_marker_is_cut_off_is_open_again() {
    for config in configurations() {
        for checkpoint in [false, true] {
            for (cut, open, stable) in [
                (7, vec![], 7),
                (6, vec![(2, 2)], 2),
                (4, vec![(1, 1), (2, 2)], 1),
                (2, vec![(1, 1)], 1),
                (1, vec![], 1),
                (0, vec![], 0),
            ] {
                let mut world = World::with(config.clone());
                if checkpoint {
                    // A base is kept that ends below every cut, and what comes then is in a delta.
                    world.log().checkpoint().unwrap();
                }
                two_ended(&world);
                if checkpoint {
                    world.log().checkpoint().unwrap();
                }
                assert_eq!(world.log().truncate_to(Offset(cut)).unwrap(), Offset(cut));
                for end in [None, Some(End::Kill), Some(End::Close)] {
                    end.map(|end| world.restart(end));
                    assert_eq!(world.open_txns(), open, "cut at {cut}, then {end:?}");
                    assert_eq!(world.stable(), stable, "cut at {cut}, then {end:?}");
                    check(&world);
                }
                for (producer, _) in open {
                    world.end(producer, 0, EndTxn::Commit);
                }
                check(&world);
                world.restart(End::Close);
                check(&world);
            }
        }
    }
}

#[test]
fn an_abort_that_is_cut_off_is_taken_out_of_the_file() {
    let mut world = World::with(LogConfig { segment_bytes: 1 << 20, ..small() });
    two_ended(&world);
    world.add(txn(1, 0, 1, 1));
    world.end(1, 0, EndTxn::Abort);
    world.log().checkpoint().unwrap();
    let file = "00000000000000000000.txnindex";
    assert_eq!(world.file(file).map(|bytes| bytes.len()), Some(68));
    world.log().truncate_to(Offset(7)).unwrap();
    let (_, told) = world.read(Isolation::ReadCommitted, 1 << 20);
    assert_eq!(told, [aborted(1, 1, 4, 2)]);
    world.close();
    assert_eq!(world.file(file).map(|bytes| bytes.len()), Some(34));
}

/// Kafka: `UnifiedLogTest.testTruncateFullyAndStart`, `testTruncateFullyAndStartBelowFirstUnstableOffset`.
#[test]
fn a_log_that_begins_anew_has_no_transactions() {
    let mut world = World::new();
    two_ended(&world);
    world.add(txn(3, 0, 0, 1));
    world.log().truncate_fully_and_start_at(Offset(100)).unwrap();
    for end in [None, Some(End::Kill), Some(End::Close)] {
        end.map(|end| world.restart(end));
        assert_eq!((world.open_txns(), world.stable()), (vec![], 100), "{end:?}");
        assert_eq!(world.names(".txnindex"), [] as [String; 0]);
    }
    world.add(txn(3, 0, 0, 1));
    assert_eq!((world.open_txns(), world.stable()), (vec![(3, 100)], 100));
}
