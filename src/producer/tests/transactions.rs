//! What is undecided, and from where on.

use super::super::{OpenTxn, Transactions};
use super::*;
use crate::format::index_entry::AbortedTxn;
use crate::format::run::CompletedTxn;

fn txn(producer: i64, first: i64) -> OpenTxn {
    OpenTxn {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(0),
        first_offset: Offset(first),
        started: SEEN,
    }
}

fn commit(transactions: &mut Transactions, producer: i64, marker: i64) {
    assert_eq!(transactions.ended(ProducerId(producer), EndTxn::Commit, Offset(marker)), None);
}

fn abort(transactions: &mut Transactions, producer: i64, marker: i64) -> AbortedTxn {
    transactions.ended(ProducerId(producer), EndTxn::Abort, Offset(marker)).expect("it was open")
}

fn unstable(transactions: &mut Transactions, high_watermark: i64) -> Option<i64> {
    transactions.first_unstable_offset(Offset(high_watermark)).map(|offset| offset.0)
}

/// Kafka: `ProducerStateManagerTest.testFirstUnstableOffset`.
#[test]
fn the_oldest_open_transaction_is_the_first_unstable_offset() {
    let mut transactions = Transactions::new();
    assert_eq!(unstable(&mut transactions, 100), None);
    transactions.wrote(txn(1, 99));
    assert_eq!(unstable(&mut transactions, 100), Some(99));
    transactions.wrote(txn(2, 105));
    transactions.wrote(txn(1, 106));
    assert_eq!(unstable(&mut transactions, 107), Some(99));
    commit(&mut transactions, 1, 112);
    assert_eq!(unstable(&mut transactions, 113), Some(105));
    commit(&mut transactions, 2, 115);
    assert_eq!(unstable(&mut transactions, 116), None);
    assert!(transactions.is_empty());
}

/// Kafka: `ProducerStateManagerTest.testFirstUnstableOffset`, its part about the high watermark.
#[test]
fn an_ended_transaction_stays_unstable_until_the_high_watermark_passes_its_marker() {
    let mut transactions = Transactions::new();
    transactions.wrote(txn(1, 99));
    commit(&mut transactions, 1, 112);
    assert_eq!(unstable(&mut transactions, 100), Some(99));
    assert_eq!(unstable(&mut transactions, 112), Some(99));
    assert_eq!(unstable(&mut transactions, 113), None);
}

#[test]
fn a_transaction_that_began_earlier_and_ended_later_holds_what_ended_before_it() {
    let mut transactions = Transactions::new();
    transactions.wrote(txn(1, 10));
    transactions.wrote(txn(2, 11));
    commit(&mut transactions, 2, 12);
    commit(&mut transactions, 1, 13);
    assert_eq!(unstable(&mut transactions, 13), Some(10));
    assert_eq!(unstable(&mut transactions, 14), None);
}

/// Kafka: `ProducerStateManagerTest.testLastStableOffsetCompletedTxn`.
#[test]
fn an_abort_notes_the_next_open_transaction_or_the_offset_behind_its_marker() {
    let mut transactions = Transactions::new();
    for (producer, first) in [(1, 10), (2, 20), (3, 30)] {
        transactions.wrote(txn(producer, first));
    }
    let entry = |producer, first, last, stable| AbortedTxn {
        producer: ProducerId(producer),
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
    };
    assert_eq!(abort(&mut transactions, 2, 40), entry(2, 20, 40, 10));
    assert_eq!(abort(&mut transactions, 1, 41), entry(1, 10, 41, 30));
    assert_eq!(abort(&mut transactions, 3, 42), entry(3, 30, 42, 43));
}

/// Kafka: `ProducerStateManagerTest.testSkipEmptyTransactions`.
#[test]
fn a_marker_without_open_transaction_completes_none() {
    let mut transactions = Transactions::new();
    for marker in [5, 6] {
        assert_eq!(transactions.ended(ProducerId(1), EndTxn::Abort, Offset(marker)), None);
    }
    assert!(transactions.is_empty());
    transactions.wrote(txn(1, 7));
    assert_eq!(abort(&mut transactions, 1, 8).first_offset, Offset(7));
    assert_eq!(transactions.ended(ProducerId(1), EndTxn::Abort, Offset(9)), None);
}

#[test]
fn a_later_batch_of_a_transaction_changes_its_epoch_alone() {
    let mut transactions = Transactions::new();
    transactions.wrote(txn(1, 10));
    transactions.wrote(OpenTxn { epoch: ProducerEpoch(4), started: EngineTime(9_999), ..txn(1, 20) });
    transactions.wrote(txn(1, 30));
    let expected = OpenTxn { epoch: ProducerEpoch(4), ..txn(1, 10) };
    assert_eq!(transactions.open().copied().collect::<Vec<_>>(), [expected]);
    assert_eq!(transactions.open_of(ProducerId(1)), Some(&expected));
    assert_eq!(transactions.open_of(ProducerId(2)), None);
}

#[test]
fn what_was_restored_goes_on() {
    let completed =
        CompletedTxn { producer: ProducerId(1), first_offset: Offset(3), marker_offset: Offset(9) };
    let mut transactions = Transactions::restored([txn(2, 5), txn(3, 7)], [completed]);
    assert_eq!(transactions.completed().copied().collect::<Vec<_>>(), [completed]);
    assert_eq!(unstable(&mut transactions, 9), Some(3));
    assert_eq!(unstable(&mut transactions, 10), Some(5));
    assert_eq!(abort(&mut transactions, 2, 10).last_stable_offset, Offset(7));
}
