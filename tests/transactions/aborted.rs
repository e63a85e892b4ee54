//! What was aborted: who is told, what is not shown, and the files that say so.

use oncelog::{EndTxn, Isolation, LogConfig, Offset};

use crate::naive::check;
use crate::world::{End, World, aborted, idempotent, plain, small, txn};

fn bytes_of(entries: &[oncelog::AbortedTxn]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// Kafka: `UnifiedLogTest.testTransactionIndexUpdated`.
#[test]
fn records_of_aborted_transactions_are_told_and_not_shown() {
    let world = World::with(LogConfig { segment_bytes: 1 << 20, ..small() });
    world.add(txn(1, 0, 0, 5));
    world.add(txn(2, 0, 0, 3));
    world.add(idempotent(3, 0, 0, 2));
    world.add(txn(4, 0, 0, 1));
    world.end(1, 0, EndTxn::Abort);
    world.end(2, 0, EndTxn::Commit);
    world.end(4, 0, EndTxn::Abort);
    let fetched = world.log().fetch(Offset(0), 1 << 20, Isolation::ReadCommitted).unwrap();
    assert_eq!(fetched.aborted(), [aborted(1, 0, 11, 5), aborted(4, 10, 13, 14)]);
    assert_eq!(world.committed(), [5, 6, 7, 8, 9]);
    let all = world.log().fetch(Offset(0), 1 << 20, Isolation::HighWatermark).unwrap();
    assert_eq!((all.records().unwrap().len(), all.aborted()), (11, &[][..]));
    check(&world);
}

/// Kafka: `UnifiedLogTest.testAbortedTransactionSpanningMultipleSegments`.
#[test]
fn a_transaction_aborted_in_a_later_segment_is_told_from_its_beginning_on() {
    let mut world = World::new();
    for first in 0..20 {
        world.add(txn(1, 0, first, 1));
    }
    world.end(1, 0, EndTxn::Abort);
    assert!(world.names(".log").len() > 2);
    for end in End::ALL {
        let fetched = world.log().fetch(Offset(0), 1, Isolation::ReadCommitted).unwrap();
        assert_eq!(fetched.aborted(), [aborted(1, 0, 20, 21)], "{end:?}");
        assert_eq!(world.committed(), [] as [i64; 0]);
        world.restart(end);
    }
}

#[test]
fn a_producer_is_void_only_in_its_aborted_transactions() {
    let world = World::new();
    let mut sequence = 0;
    for outcome in [EndTxn::Abort, EndTxn::Commit, EndTxn::Abort, EndTxn::Abort, EndTxn::Commit] {
        world.add(txn(1, 0, sequence, 1));
        world.end(1, 0, outcome);
        sequence += 1;
    }
    world.add(idempotent(1, 0, sequence, 1));
    assert_eq!(world.committed(), [2, 8, 10]);
    check(&world);
}

#[test]
fn the_file_of_aborted_transactions_is_there_only_where_there_are_some() {
    let mut world = World::new();
    world.add(txn(1, 0, 0, 1));
    world.end(1, 0, EndTxn::Commit);
    world.restart(End::Close);
    assert_eq!(world.names(".txnindex"), [] as [String; 0]);
    world.add(txn(1, 0, 1, 1));
    world.end(1, 0, EndTxn::Abort);
    world.close();
    assert_eq!(world.names(".txnindex"), ["00000000000000000000.txnindex"]);
    assert_eq!(world.file("00000000000000000000.txnindex"), Some(bytes_of(&[aborted(1, 2, 3, 4)])));
}

#[test]
fn each_segment_has_the_transactions_whose_markers_it_holds() {
    let mut world = World::new();
    for first in 0..10 {
        world.add(txn(1, 0, first, 1));
        world.end(1, 0, EndTxn::Abort);
        world.add(plain("between"));
    }
    let before = world.read(Isolation::ReadCommitted, 1);
    assert_eq!(before.1.len(), 10);
    world.log().checkpoint().unwrap();
    assert_eq!(world.read(Isolation::ReadCommitted, 1), before, "from the files");
    let files = world.names(".txnindex");
    assert!(files.len() > 2, "{files:?}");
    for file in files {
        let base: i64 = file.strip_suffix(".txnindex").unwrap().parse().unwrap();
        let bytes = world.file(&file).unwrap();
        let entries = oncelog::index::read_txn_index(Offset(base), &bytes, Offset(i64::MAX)).unwrap();
        assert!(!entries.is_empty() && bytes.len() == 34 * entries.len());
    }
    for end in End::ALL {
        world.restart(end);
        assert_eq!(world.read(Isolation::ReadCommitted, 1), before, "{end:?}");
    }
}

/// Kafka: `LogLoaderTest.testFullTransactionIndexRecovery`.
#[test]
fn the_list_is_the_same_when_the_log_tells_it_anew() {
    let mut world = World::new();
    for first in 0..10 {
        world.add(txn(1, 0, first, 1));
        world.add(txn(2, 0, first, 1));
        world.end(1, 0, EndTxn::Abort);
        world.end(2, 0, if first % 2 == 0 { EndTxn::Abort } else { EndTxn::Commit });
    }
    let before = world.read(Isolation::ReadCommitted, 1);
    assert_eq!(before.1.len(), 15);
    world.restart(End::Kill);
    assert_eq!(world.read(Isolation::ReadCommitted, 1), before);
}
