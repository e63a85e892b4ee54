use super::*;
use crate::segment::active::ActiveSegment;
use crate::segment::indexes::IndexLimits;
use crate::segment::test_log::{disk, file_of};

/// Segments that hold ten offsets and 100 bytes each; the last base is that of the active one.
fn set(bases: &[i64]) -> SegmentSet {
    let (active, sealed) = bases.split_last().unwrap();
    SegmentSet::new(sealed.iter().map(|base| segment(*base)).collect(), view(*active))
}

fn segment(base: i64) -> Arc<SealedSegment> {
    let (storage, dir) = disk();
    let offsets = Offset(base)..Offset(base + 10);
    Arc::new(SealedSegment::new(&storage, dir.join("x.log"), offsets, Position(100), IndexLimits::default()))
}

fn view(base: i64) -> ActiveView {
    ActiveSegment::adopt(file_of(&[]), PathBuf::from("x.log"), Offset(base), 0, IndexLimits::default()).view()
}

fn bases<'a>(segments: impl Iterator<Item = SegmentRef<'a>>) -> Vec<i64> {
    segments.map(|segment| segment.base().0).collect()
}

/// Kafka: `LogSegmentsTest.testClosestMatchOperations`.
#[test]
fn the_segment_that_begins_at_or_below_an_offset_is_found() {
    let set = set(&[10, 20, 40, 60]);
    let found = |offset| set.find(Offset(offset)).map(|segment| segment.base().0);
    for (offset, base) in
        [(9, None), (10, Some(10)), (19, Some(10)), (20, Some(20)), (35, Some(20)), (59, Some(40))]
    {
        assert_eq!(found(offset), base, "offset {offset}");
    }
    assert_eq!((found(60), found(i64::MAX)), (Some(60), Some(60)));
    assert!(matches!(set.find(Offset(60)), Some(SegmentRef::Active(_))));
}

/// Kafka: `LogSegmentsTest.testHigherSegments`.
#[test]
fn segments_are_visited_in_order_from_an_offset_on() {
    let set = set(&[10, 20, 40, 60]);
    assert_eq!(bases(set.iter()), [10, 20, 40, 60]);
    assert_eq!(bases(set.from(Offset(0))), [10, 20, 40, 60]);
    assert_eq!(bases(set.from(Offset(39))), [20, 40, 60]);
    assert_eq!(bases(set.from(Offset(70))), [60]);
}

/// Kafka: `LogSegmentsTest.testBasicOperations`.
#[test]
fn a_set_of_one_segment_is_the_active_one() {
    let set = set(&[7]);
    assert_eq!((bases(set.iter()), set.first_base(), set.sealed_bytes()), (vec![7], Offset(7), 0));
    assert!(set.find(Offset(6)).is_none());
}

#[test]
fn a_roll_makes_a_new_set_and_leaves_the_old_one_alone() {
    let before = set(&[10, 20]);
    let after = before.rolled(segment(20), view(30));
    assert_eq!((bases(before.iter()), bases(after.iter())), (vec![10, 20], vec![10, 20, 30]));
    assert!(Arc::ptr_eq(&before.sealed()[0], &after.sealed()[0]));
}

#[test]
fn the_first_segments_are_given_back_when_they_are_taken_out() {
    let before = set(&[10, 20, 30, 40]);
    let (after, gone) = before.without_first(2);
    assert_eq!((bases(after.iter()), after.first_base()), (vec![30, 40], Offset(30)));
    assert_eq!(gone.iter().map(|segment| segment.base().0).collect::<Vec<_>>(), [10, 20]);
    let (rest, gone) = after.without_first(9);
    assert_eq!((bases(rest.iter()), gone.len()), (vec![40], 1));
}

#[test]
fn a_segment_is_released_and_its_neighbours_are_not() {
    let before = set(&[10, 20, 30]);
    let after = before.releasing(&before.sealed()[1]);
    assert!(!Arc::ptr_eq(&after.sealed()[1], &before.sealed()[1]));
    assert!(Arc::ptr_eq(&after.sealed()[0], &before.sealed()[0]));
    assert_eq!(bases(after.iter()), [10, 20, 30]);
}

/// Who releases segments has looked at the set before: meanwhile compaction may have put another one there.
#[test]
fn a_segment_that_was_compacted_meanwhile_does_not_come_back_when_it_is_released() {
    let seen = set(&[10, 20, 30]);
    let (storage, dir) = disk();
    let both = SealedSegment::new(
        &storage,
        dir.join("x.log"),
        Offset(10)..Offset(30),
        Position(50),
        IndexLimits::default(),
    );
    let compacted = seen.compacted(&Arc::new(both));
    let after = compacted.releasing(&seen.sealed()[0]);
    assert_eq!((after.sealed()[0].next_offset(), after.sealed()[0].len()), (Offset(30), Position(50)));
    assert_eq!(bases(after.iter()), [10, 30]);
}

/// Kafka: `LogSegmentsTest.testSizeForLargeLogs`.
#[test]
fn the_size_of_a_large_log_is_more_than_31_bits() {
    let (storage, dir) = disk();
    let large = |base: i64| {
        let offsets = Offset(base)..Offset(base + 1);
        let len = Position(u64::from(i32::MAX.unsigned_abs()));
        Arc::new(SealedSegment::new(&storage, dir.join("x.log"), offsets, len, IndexLimits::default()))
    };
    let set = SegmentSet::new(vec![large(0), large(1)], view(2));
    assert_eq!(set.sealed_bytes(), 2 * ((1 << 31) - 1));
}
