use super::*;
use crate::producer::marker_of;

fn is_aborted(transactions: &mut Transactions, batch: &Bytes) -> bool {
    transactions.is_aborted(&header(batch))
}

fn unneeded(transactions: &mut Transactions, batch: &Bytes) -> bool {
    transactions.marker_is_unneeded(&header(batch), marker_of(&header(batch), batch))
}

/// Kafka: `LogCleanerTest.testAbortedTransactionSeparation`.
#[test]
fn an_aborted_transaction_is_what_lies_between_its_first_record_and_its_marker() {
    let mut transactions = Transactions::new(vec![aborted(1, 4, 6), aborted(2, 5, 9)]);
    assert!(!is_aborted(&mut transactions, &txn(0, 1, "a")), "an earlier transaction");
    assert!(!unneeded(&mut transactions, &marker(1, 1, ControlKind::Commit)));
    assert!(is_aborted(&mut transactions, &txn(4, 1, "a")));
    assert!(is_aborted(&mut transactions, &txn(5, 2, "a")));
    assert!(!unneeded(&mut transactions, &marker(6, 1, ControlKind::Abort)));
    assert!(!is_aborted(&mut transactions, &txn(7, 1, "a")), "a later transaction");
    assert!(is_aborted(&mut transactions, &txn(8, 2, "a")));
    assert!(!unneeded(&mut transactions, &marker(9, 2, ControlKind::Abort)));
    assert!(!unneeded(&mut transactions, &marker(10, 1, ControlKind::Commit)));
}

#[test]
fn an_entry_whose_marker_is_gone_takes_no_later_transaction_with_it() {
    let mut transactions = Transactions::new(vec![aborted(1, 0, 3)]);
    assert!(!is_aborted(&mut transactions, &txn(5, 1, "a")));
    assert!(!unneeded(&mut transactions, &marker(6, 1, ControlKind::Commit)));
}

#[test]
fn records_outside_of_transactions_count_whatever_else_their_producer_did() {
    let mut transactions = Transactions::new(vec![aborted(1, 0, 3)]);
    let plain = builder(1, "a").producer(ProducerId(1), ProducerEpoch(0), Sequence::ZERO).build().unwrap();
    assert!(!is_aborted(&mut transactions, &plain));
}

#[test]
fn a_marker_of_a_transaction_without_batches_is_not_needed() {
    let mut transactions = Transactions::default();
    assert!(unneeded(&mut transactions, &marker(0, 1, ControlKind::Commit)));
    assert!(unneeded(&mut transactions, &marker(1, 2, ControlKind::Abort)));
    let mut transactions = Transactions::default();
    is_aborted(&mut transactions, &txn(0, 1, "a"));
    assert!(!unneeded(&mut transactions, &marker(1, 1, ControlKind::Commit)));
    assert!(unneeded(&mut transactions, &marker(2, 1, ControlKind::Commit)), "the next one");
}

#[test]
fn an_abort_without_an_entry_is_needed_while_the_records_that_count_as_committed_are_there() {
    let mut transactions = Transactions::default();
    assert!(!is_aborted(&mut transactions, &txn(0, 1, "a")));
    assert!(!unneeded(&mut transactions, &marker(1, 1, ControlKind::Abort)));
}

#[test]
fn aborted_records_are_nobodys_newest() {
    let log = [batch(0, "a"), txn(1, 1, "a"), marker(2, 1, ControlKind::Abort)];
    let map = map_of(&log, &[aborted(1, 1, 2)]);
    assert_eq!(map.newest(b"a"), Some(Offset(0)));
    assert_eq!(map.len(), 1);
}
