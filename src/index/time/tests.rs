use proptest::prelude::*;

use super::*;

const BASE: Offset = Offset(100);

fn index_of(most: u32, entries: &[(i64, i64)]) -> TimeIndex {
    let mut index = TimeIndex::new(BASE, IndexSize(most * 12));
    for (timestamp, offset) in entries {
        index.push(*timestamp, Offset(*offset)).unwrap();
    }
    index
}

fn sealed(bytes: &[u8]) -> Result<SealedTimeIndex, Malformed> {
    SealedTimeIndex::new(BASE, Mapping::in_memory(bytes.into()), Offset(200))
}

fn entry(claim: Option<TimeClaim>) -> Option<(i64, i64)> {
    claim.map(|claim| (claim.entry.timestamp, claim.entry.last_offset.0))
}

/// Kafka: `TimeIndexTest.testLookUp`.
#[test]
fn the_floor_is_the_last_entry_at_or_below_the_timestamp() {
    let index = index_of(9, &[(10, 105), (20, 110), (30, 130)]);
    let sealed = sealed(&index.to_bytes()).unwrap();
    for (timestamp, expected) in
        [(-1, None), (9, None), (10, Some((10, 105))), (29, Some((20, 110))), (i64::MAX, Some((30, 130)))]
    {
        assert_eq!(entry(index.floor(timestamp)), expected);
        assert_eq!(entry(sealed.floor(timestamp)), expected);
    }
    assert_eq!(TimeIndex::new(BASE, IndexSize(99)).floor(5), None);
}

/// Kafka: `TimeIndexTest.testAppend`.
#[test]
fn a_timestamp_that_does_not_rise_is_left_out() {
    let mut index = index_of(9, &[(10, 105)]);
    assert_eq!((index.push(10, Offset(106)), index.push(9, Offset(107))), (Ok(()), Ok(())));
    assert_eq!(index.len(), 1);
}

#[test]
fn a_batch_without_a_timestamp_is_left_out() {
    let mut index = index_of(9, &[(-1, 105)]);
    index.seal_entry(-1, Offset(105)).unwrap();
    assert!(index.is_empty());
}

/// Kafka: `TimeIndexTest.testAppend`.
#[test]
fn an_offset_that_falls_is_refused() {
    let mut index = index_of(9, &[(10, 105)]);
    let error = index.push(11, Offset(104)).unwrap_err();
    assert_eq!((error.field, error.at, error.expected.as_str()), ("relative offset", 20, "105 or more"));
    assert_eq!(index.push(11, Offset(105)), Ok(()));
}

/// Kafka: `TimeIndexTest.testEntryOverflow`.
#[test]
fn an_offset_below_the_base_is_refused() {
    let mut index = index_of(9, &[]);
    assert_eq!(index.push(1, Offset(99)).unwrap_err().field, "relative offset");
    assert_eq!(index.push(1, Offset(101 + i64::from(i32::MAX))).unwrap_err().field, "relative offset");
}

/// Kafka: `TimeIndexTest.testIsFull`, `testAppend` (the last slot).
#[test]
fn the_last_slot_is_kept_for_the_entry_of_the_seal() {
    let mut index = index_of(3, &[(10, 105), (20, 110)]);
    assert!(index.is_full());
    assert_eq!(index.push(30, Offset(115)).unwrap_err().field, "entry count");
    assert_eq!(index.seal_entry(30, Offset(115)), Ok(()));
    assert_eq!(entry(index.last()), Some((30, 115)));
    assert_eq!(index.seal_entry(40, Offset(120)).unwrap_err().field, "entry count");
}

/// Kafka: `TimeIndexTest.testLastEntry`.
#[test]
fn the_entry_of_the_seal_is_not_doubled() {
    let mut index = index_of(9, &[(10, 105)]);
    index.seal_entry(10, Offset(105)).unwrap();
    assert_eq!((index.len(), entry(index.last())), (1, Some((10, 105))));
}

/// Kafka: `TimeIndexTest.testTruncate`.
#[test]
fn truncating_keeps_the_entries_below_the_offset() {
    for (offset, kept) in [(0, 0), (105, 0), (106, 1), (110, 1), (111, 2)] {
        let mut index = index_of(9, &[(10, 105), (20, 110)]);
        let _written = index.take_unwritten();
        index.truncate_to(Offset(offset));
        assert_eq!((index.len(), index.unwritten().position), (kept, 12 * u64::try_from(kept).unwrap()));
    }
}

#[test]
fn entries_are_handed_over_for_writing_once() {
    let mut index = index_of(9, &[(10, 105)]);
    let first = index.take_unwritten();
    assert_eq!(first, Unwritten { position: 0, bytes: vec![0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 5] });
    index.give_back(&first);
    index.push(20, Offset(110)).unwrap();
    assert_eq!(index.take_unwritten().bytes.len(), 24);
    assert_eq!(index.take_unwritten(), Unwritten { position: 24, bytes: vec![] });
}

#[test]
fn entries_from_a_file_end_below_the_end_and_are_claims() {
    let bytes = index_of(9, &[(10, 105), (20, 110), (30, 130)]).to_bytes();
    let mut index = TimeIndex::from_file(BASE, IndexSize(99), &bytes, Offset(130)).unwrap();
    assert_eq!(entry(index.last()), Some((20, 110)));
    assert_eq!(index.last().unwrap().begins_at(), Some(Offset(105)));
    index.push(40, Offset(140)).unwrap();
    assert_eq!(index.last().unwrap().trust, Trust::Proven);
    assert_eq!(index.last().unwrap().begins_at(), Some(Offset(140)));
    assert_eq!(index.take_unwritten().position, 24);
}

/// Kafka: `TimeIndexTest.testSanityCheck`.
#[test]
fn a_file_that_does_not_rise_or_fit_is_refused() {
    let load = |bytes: &[u8]| {
        TimeIndex::from_file(BASE, IndexSize(24), bytes, Offset(200))
            .map(|index| index.len())
            .map_err(|e| e.field)
    };
    let sound = index_of(9, &[(10, 105), (20, 110)]).to_bytes();
    assert_eq!(load(&sound), Ok(2));
    assert_eq!(load(&sound[..23]), Err("file length"));
    assert_eq!(load(&[0; 24]), Err("timestamp"));
    assert_eq!(load(&[&sound[12..], &sound[..12]].concat()), Err("relative offset"));
    let three = index_of(9, &[(10, 105), (20, 110), (30, 130)]).to_bytes();
    assert_eq!(load(&three), Err("entry count"));
}

/// Kafka: `TimeIndexTest.testSanityCheck`.
#[test]
fn a_sealed_file_whose_end_makes_no_sense_is_refused() {
    let mut bytes = index_of(9, &[(10, 105), (20, 110)]).to_bytes();
    assert!(sealed(&bytes).is_ok());
    assert_eq!(sealed(&bytes[..13]).unwrap_err().field, "file length");
    assert_eq!(
        SealedTimeIndex::new(BASE, Mapping::in_memory(bytes.as_slice().into()), Offset(110))
            .unwrap_err()
            .field,
        "last entry"
    );
    bytes.resize(12 * 50, 0);
    assert_eq!(sealed(&bytes).unwrap_err().field, "last entry");
}

proptest! {
    #[test]
    fn any_bytes_are_searched_without_a_panic_and_answered_with_an_entry_that_holds(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        timestamp: i64,
    ) {
        let count = bytes.len() / 12;
        let index = SealedTimeIndex { base: BASE, entries: Mapping::in_memory(bytes.into()), count };
        if let Some(claim) = index.floor(timestamp) {
            prop_assert!(claim.entry.timestamp <= timestamp);
        }
    }
}
