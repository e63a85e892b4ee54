use super::*;
use crate::types::ProducerId;

const BASE: Offset = Offset(10);

/// Producer, first, last, last stable.
type Row = (i64, i64, i64, i64);

fn entry((producer, first, last, stable): Row) -> AbortedTxn {
    AbortedTxn {
        producer: ProducerId(producer),
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
    }
}

fn index_of(rows: &[Row]) -> TxnIndex {
    let mut index = TxnIndex::new(BASE);
    for row in rows {
        index.push(entry(*row)).unwrap();
    }
    index
}

fn sealed(bytes: &[u8]) -> Result<SealedTxnIndex, Malformed> {
    SealedTxnIndex::new(BASE, Mapping::in_memory(bytes.into()), Offset(100))
}

/// Asks the index on the heap and the one in a file; both must say the same.
fn collected(rows: &[Row], from: i64, upper: i64) -> (Vec<i64>, Collected) {
    let (mut heap, mut file) = (Vec::new(), Vec::new());
    let index = index_of(rows);
    let reach = index.collect(Offset(from), Offset(upper), &mut heap);
    let in_file = sealed(&index.to_bytes()).unwrap();
    assert_eq!(in_file.collect(Offset(from), Offset(upper), &mut file), Ok(reach));
    assert_eq!(heap, file);
    (heap.iter().map(|txn| txn.producer.0).collect(), reach)
}

/// The rows of Kafka's `TransactionIndexTest`.
const ROWS: [Row; 4] = [(0, 0, 10, 11), (1, 5, 15, 13), (2, 18, 35, 25), (3, 32, 50, 40)];

/// Kafka: `TransactionIndexTest.testCollectAbortedTransactions`.
#[test]
fn transactions_that_overlap_the_range_are_collected_until_no_later_one_can() {
    use Collected::{All, SoFar};
    for (from, upper, expected) in [
        (0, 100, (vec![0, 1, 2, 3], SoFar)),
        (0, 32, (vec![0, 1, 2], All)),
        (0, 35, (vec![0, 1, 2, 3], All)),
        (10, 35, (vec![0, 1, 2, 3], All)),
        (11, 35, (vec![1, 2, 3], All)),
        (20, 41, (vec![2, 3], SoFar)),
    ] {
        assert_eq!(collected(&ROWS, from, upper), expected, "{from} to {upper}");
    }
    assert_eq!(collected(&ROWS, 51, 60), (vec![], SoFar));
    assert_eq!(collected(&[], 0, 60), (vec![], SoFar));
}

/// Kafka: `TransactionIndexTest.testLastOffsetMustIncrease`, `testLastOffsetCannotDecrease`.
#[test]
fn a_marker_that_does_not_rise_is_refused() {
    let mut index = index_of(&[(1, 0, 15, 11)]);
    for last in [15, 14] {
        let error = index.push(entry((0, 0, last, 11))).unwrap_err();
        assert_eq!((error.field, error.at, error.expected.as_str()), ("last offset", 52, "16 or more"));
    }
    assert_eq!(index.entries().len(), 1);
}

/// Kafka: `TransactionIndexTest.testSanityCheck`.
#[test]
fn a_marker_below_the_base_of_the_segment_is_refused() {
    let bytes = entry((1, 0, 9, 11)).to_bytes();
    assert_eq!(read_txn_index(BASE, &bytes, Offset(100)).unwrap_err().expected, "10 or more");
    assert_eq!(sealed(&bytes).unwrap_err().expected, "10 or more");
}

#[test]
fn a_marker_behind_the_end_of_a_sealed_segment_is_damage_and_of_an_active_one_never_was() {
    let bytes = index_of(&[(1, 0, 20, 11), (2, 21, 100, 101)]).to_bytes();
    assert_eq!(sealed(&bytes).unwrap_err(), Malformed::new("last offset", 52, "below 100", 100));
    assert_eq!(read_txn_index(BASE, &bytes, Offset(100)), Ok(vec![entry((1, 0, 20, 11))]));
}

#[test]
fn a_piece_of_an_entry_at_the_end_is_passed_over() {
    let mut bytes = index_of(&ROWS[..2]).to_bytes();
    bytes.extend_from_slice(&[0; 33]);
    assert_eq!(read_txn_index(BASE, &bytes, Offset(100)).unwrap().len(), 2);
    assert_eq!(sealed(&bytes).unwrap().count, 2);
}

#[test]
fn an_entry_that_is_none_is_named_by_its_place_in_the_file() {
    let mut bytes = index_of(&ROWS).to_bytes();
    bytes[34] = 1;
    let expected = Malformed::new("version", 34, 0, 256);
    assert_eq!(read_txn_index(BASE, &bytes, Offset(100)), Err(expected.clone()));
    assert_eq!(sealed(&bytes).unwrap_err(), expected);
}

/// Kafka: `TransactionIndexTest.testTruncate`.
#[test]
fn a_truncation_drops_what_was_aborted_from_there_on_and_cuts_the_file() {
    let mut index = index_of(&ROWS);
    let all = index.take_unwritten().unwrap();
    assert_eq!((all.position, all.bytes.len()), (0, 4 * 34));
    index.truncate_to(Offset(51));
    assert_eq!(index.take_unwritten(), None);
    index.truncate_to(Offset(50));
    assert_eq!(index.entries().len(), 3);
    assert_eq!(index.take_unwritten(), Some(Unwritten { position: 3 * 34, bytes: Vec::new() }));
    index.truncate_to(Offset(0));
    assert_eq!(index.take_unwritten(), Some(Unwritten { position: 0, bytes: Vec::new() }));
    assert_eq!(index.take_unwritten(), None);
}

#[test]
fn no_file_is_asked_for_where_nothing_was_aborted() {
    assert_eq!(TxnIndex::new(BASE).take_unwritten(), None);
    assert_eq!(TxnIndex::of_written(BASE, &[]).unwrap().take_unwritten(), None);
}

#[test]
fn entries_whose_write_failed_are_given_back() {
    let mut index = TxnIndex::of_written(BASE, &[entry(ROWS[0])]).unwrap();
    index.push(entry(ROWS[1])).unwrap();
    let unwritten = index.take_unwritten().unwrap();
    assert_eq!((unwritten.position, unwritten.bytes.len()), (34, 34));
    assert_eq!(index.take_unwritten(), None);
    index.give_back(&unwritten);
    index.push(entry(ROWS[2])).unwrap();
    let again = index.take_unwritten().unwrap();
    assert_eq!((again.position, again.bytes.len()), (34, 68));
}

#[test]
fn entries_that_are_not_in_the_file_replace_what_is() {
    let mut index = TxnIndex::of_unwritten(BASE, &[]).unwrap();
    assert_eq!(index.take_unwritten(), Some(Unwritten { position: 0, bytes: Vec::new() }));
}
