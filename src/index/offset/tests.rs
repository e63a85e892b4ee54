use proptest::prelude::*;

use super::*;

const BASE: Offset = Offset(45);

fn size(entries: u32) -> IndexSize {
    IndexSize(entries * 8)
}

fn index_of(entries: &[(i64, u64)]) -> OffsetIndex {
    let mut index = OffsetIndex::new(BASE, size(1_000));
    for (offset, position) in entries {
        index.push(Offset(*offset), Position(*position)).unwrap();
    }
    index
}

fn end() -> OffsetEntry {
    OffsetEntry { last_offset: Offset(i64::MAX), position: Position(1 << 31) }
}

fn sealed(bytes: &[u8]) -> Result<SealedOffsetIndex, Malformed> {
    SealedOffsetIndex::new(BASE, Mapping::in_memory(bytes.into()), end())
}

fn entry(claim: Option<Claim>) -> Option<(i64, u64)> {
    claim.map(|claim| (claim.entry.last_offset.0, claim.entry.position.0))
}

/// Kafka: `OffsetIndexTest.lookupExtremeCases`.
#[test]
fn an_empty_index_knows_nothing() {
    let index = index_of(&[]);
    assert_eq!((index.floor(BASE), index.floor_position(Position(9)), index.last()), (None, None, None));
    let sealed = sealed(&[]).unwrap();
    assert_eq!((sealed.floor(BASE), sealed.floor_position(Position(9))), (None, None));
}

/// Kafka: `OffsetIndexTest.lookupExtremeCases`, `randomLookupTest`.
#[test]
fn the_floor_is_the_last_entry_at_or_below_the_target() {
    let index = index_of(&[(50, 10), (60, 20), (70, 30)]);
    let sealed = sealed(&index.to_bytes()).unwrap();
    for (target, expected) in
        [(49, None), (50, Some((50, 10))), (59, Some((50, 10))), (60, Some((60, 20))), (999, Some((70, 30)))]
    {
        assert_eq!(entry(index.floor(Offset(target))), expected);
        assert_eq!(entry(sealed.floor(Offset(target))), expected);
    }
    for (limit, expected) in [(9, None), (10, Some((50, 10))), (29, Some((60, 20))), (30, Some((70, 30)))] {
        assert_eq!(entry(index.floor_position(Position(limit))), expected);
        assert_eq!(entry(sealed.floor_position(Position(limit))), expected);
    }
}

#[test]
fn a_claim_carries_the_entry_before_it() {
    let index = index_of(&[(50, 10), (60, 20)]);
    let claim = index.floor(Offset(65)).unwrap();
    let before = OffsetEntry { last_offset: Offset(50), position: Position(10) };
    assert_eq!((claim.number, claim.previous, claim.trust), (1, Some(before), Trust::Proven));
    let claim = sealed(&index.to_bytes()).unwrap().floor(Offset(55)).unwrap();
    assert_eq!((claim.number, claim.previous, claim.trust), (0, None, Trust::Claimed));
}

/// Kafka: `OffsetIndexTest.appendOutOfOrder`.
#[test]
fn an_offset_or_position_that_does_not_rise_is_refused() {
    let mut index = index_of(&[(51, 10)]);
    let error = index.push(Offset(51), Position(20)).unwrap_err();
    assert_eq!(
        (error.field, error.expected.as_str(), error.found.as_str()),
        ("relative offset", "more than 51", "51")
    );
    assert_eq!(index.push(Offset(52), Position(10)).unwrap_err().field, "position");
    assert_eq!(index.len(), 1);
}

/// Kafka: `OffsetIndexTest.testEntryOverflow`, `LogSegmentTest.testAppendForLogSegmentOffsetOverflowException`.
#[test]
fn an_offset_below_the_base_or_too_far_above_it_is_refused() {
    let mut index = index_of(&[]);
    assert_eq!(index.push(Offset(44), Position(0)).unwrap_err().field, "relative offset");
    let most = BASE.saturating_add(i64::from(i32::MAX));
    assert_eq!(index.push(most.saturating_add(1), Position(0)).unwrap_err().field, "relative offset");
    assert_eq!(index.push(Offset(50), Position(1 << 31)).unwrap_err().field, "position");
    assert_eq!(index.push(most, Position((1 << 31) - 1)), Ok(()));
}

/// Kafka: `OffsetIndexTest.appendTooMany`.
#[test]
fn a_full_index_takes_no_more() {
    let mut index = OffsetIndex::new(BASE, IndexSize(2 * 8 + 7));
    for n in 0..2 {
        assert!(!index.is_full());
        index.push(Offset(50 + n), Position(n.unsigned_abs() + 1)).unwrap();
    }
    assert!(index.is_full());
    assert_eq!(index.push(Offset(60), Position(9)).unwrap_err().field, "entry count");
}

/// Kafka: `OffsetIndexTest.truncate`.
#[test]
fn truncating_keeps_the_entries_below_the_offset() {
    for (offset, kept) in [(0, 0), (50, 0), (51, 1), (60, 1), (61, 2), (999, 3)] {
        let mut index = index_of(&[(50, 10), (60, 20), (70, 30)]);
        index.truncate_to(Offset(offset));
        assert_eq!(index.len(), kept, "truncated to {offset}");
        assert_eq!(index.push(Offset(1_000), Position(1_000)), Ok(()));
    }
}

#[test]
fn entries_are_handed_over_for_writing_once() {
    let mut index = index_of(&[(50, 10), (60, 20)]);
    let first = index.take_unwritten();
    assert_eq!((first.position, first.bytes.len()), (0, 16));
    assert_eq!(index.take_unwritten(), Unwritten { position: 16, bytes: vec![] });
    index.push(Offset(70), Position(30)).unwrap();
    let second = index.take_unwritten();
    assert_eq!((second.position, second.bytes.as_slice()), (16, [0, 0, 0, 25, 0, 0, 0, 30].as_slice()));
    index.give_back(&second);
    assert_eq!(index.take_unwritten(), second);
}

#[test]
fn a_truncated_index_writes_again_what_was_cut() {
    let mut index = index_of(&[(50, 10), (60, 20)]);
    let _written = index.take_unwritten();
    index.truncate_to(Offset(60));
    assert_eq!(index.unwritten(), Unwritten { position: 8, bytes: vec![] });
    index.push(Offset(65), Position(15)).unwrap();
    assert_eq!(index.take_unwritten().position, 8);
}

/// Kafka: `OffsetIndexTest.testReopen`.
#[test]
fn entries_from_a_file_are_claims_and_those_behind_them_are_proven() {
    let bytes = index_of(&[(50, 10), (60, 20), (70, 30)]).to_bytes();
    let end = OffsetEntry { last_offset: Offset(70), position: Position(30) };
    let mut index = OffsetIndex::from_file(BASE, size(10), &bytes, end).unwrap();
    assert_eq!(entry(index.floor(Offset(99))), Some((60, 20)));
    index.push(Offset(71), Position(31)).unwrap();
    assert_eq!(index.floor(Offset(65)).unwrap().trust, Trust::Claimed);
    assert_eq!(index.floor(Offset(71)).unwrap().trust, Trust::Proven);
    assert_eq!(index.take_unwritten().position, 16);
    index.truncate_to(Offset(55));
    index.push(Offset(56), Position(12)).unwrap();
    assert_eq!(index.floor(Offset(56)).unwrap().trust, Trust::Proven);
}

#[test]
fn a_file_that_does_not_rise_or_fit_is_refused() {
    let load =
        |bytes: &[u8], most| OffsetIndex::from_file(BASE, size(most), bytes, end()).map(|index| index.len());
    let sound = index_of(&[(50, 10), (60, 20)]).to_bytes();
    assert_eq!(load(&sound, 2), Ok(2));
    assert_eq!(load(&sound, 1).unwrap_err().field, "entry count");
    assert_eq!(load(&sound[..15], 2).unwrap_err().field, "file length");
    assert_eq!(load(&[0; 16], 2).unwrap_err().field, "relative offset");
    assert_eq!(load(&[0xff; 8], 2).unwrap_err().field, "relative offset");
}

#[test]
fn a_sealed_file_of_full_size_that_was_never_trimmed_is_refused() {
    let mut bytes = index_of(&[(50, 10), (60, 20)]).to_bytes();
    assert!(sealed(&bytes).is_ok());
    bytes.resize(8 * 100, 0);
    assert_eq!(sealed(&bytes).unwrap_err().field, "last entry");
    assert_eq!(sealed(&bytes[..17]).unwrap_err().field, "file length");
}

#[test]
fn a_sealed_file_that_goes_on_behind_the_segment_is_refused() {
    let bytes = index_of(&[(50, 10), (60, 20)]).to_bytes();
    let fits = |offset, position| {
        let end = OffsetEntry { last_offset: Offset(offset), position: Position(position) };
        SealedOffsetIndex::new(BASE, Mapping::in_memory(bytes.as_slice().into()), end).is_ok()
    };
    assert_eq!((fits(61, 21), fits(60, 21), fits(61, 20)), (true, false, false));
}

proptest! {
    #[test]
    fn any_bytes_are_searched_without_a_panic_and_answered_with_an_entry_that_holds(
        bytes in proptest::collection::vec(any::<u8>(), 0..40).prop_map(|mut bytes| {
            bytes.truncate(bytes.len() / 8 * 8);
            bytes
        }),
        target: i64,
        limit: u64,
    ) {
        let count = bytes.len() / 8;
        let index = SealedOffsetIndex { base: BASE, entries: Mapping::in_memory(bytes.into()), count };
        if let Some(claim) = index.floor(Offset(target)) {
            prop_assert!(claim.entry.last_offset <= Offset(target));
        }
        if let Some(claim) = index.floor_position(Position(limit)) {
            prop_assert!(claim.entry.position <= Position(limit));
        }
    }

    /// Kafka: `OffsetIndexTest.randomLookupTest`.
    #[test]
    fn a_look_up_is_that_of_a_linear_search(
        steps in proptest::collection::vec((1i64..9, 1u64..999), 1..200),
        target in 0i64..2_000,
    ) {
        let mut entries = Vec::new();
        for (offset, position) in steps {
            let (o, p) = entries.last().copied().unwrap_or((BASE.0, 0));
            entries.push((o + offset, p + position));
        }
        let index = index_of(&entries);
        let expected = entries.iter().rev().find(|(offset, _)| *offset <= target).copied();
        prop_assert_eq!(entry(index.floor(Offset(target))), expected);
        prop_assert_eq!(entry(sealed(&index.to_bytes()).unwrap().floor(Offset(target))), expected);
    }
}
