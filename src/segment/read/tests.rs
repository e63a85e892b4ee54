use super::*;
use crate::segment::test_log::{TestLog, file_of, index};

fn claimed(number: usize, entry: OffsetEntry, previous: Option<OffsetEntry>) -> Claim {
    Claim { number, entry, previous, trust: Trust::Claimed }
}

fn entry(last_offset: i64, position: u64) -> OffsetEntry {
    OffsetEntry { last_offset: Offset(last_offset), position: Position(position) }
}

fn entry_of(log: &TestLog, batch: usize) -> OffsetEntry {
    let (position, header) = log.batches()[batch];
    OffsetEntry { last_offset: header.last_offset(), position: Position(position) }
}

fn end(log: &TestLog) -> Position {
    Position(log.len())
}

fn base_of(found: Result<Option<BatchAt>, ReadFailure>) -> Option<i64> {
    found.unwrap().map(|batch| batch.header().base_offset.0)
}

/// Kafka: `LogSegmentTest.testReadOnEmptySegment`.
#[test]
fn an_empty_segment_has_no_batch() {
    let file = file_of(&[]);
    assert_eq!(base_of(locate(&*file, Position::ZERO, Anchor::START, Offset::ZERO)), None);
    assert_eq!(base_of(locate_timestamp(&*file, Position::ZERO, Anchor::START, 0)), None);
}

#[test]
fn every_offset_is_found_from_every_anchor() {
    let log = TestLog::varied(40);
    let file = file_of(&log.bytes);
    for target in 0..log.next_offset().0 {
        let wanted = log.headers().iter().find(|h| h.last_offset().0 >= target).map(|h| h.base_offset.0);
        for batch in 0..40 {
            let anchor = Anchor::of_entry(entry_of(&log, batch));
            assert_eq!(base_of(locate(&*file, end(&log), anchor, Offset(target))), wanted);
        }
    }
}

/// Kafka: `LogSegmentTest.testReadBeforeFirstOffset`, `testReadAfterLast`.
#[test]
fn a_target_before_the_log_gives_the_first_batch_and_one_behind_it_gives_none() {
    let mut log = TestLog::starting_at(50);
    log.push(3, 0, b"a");
    log.push(3, 0, b"b");
    let file = file_of(&log.bytes);
    assert_eq!(base_of(locate(&*file, end(&log), Anchor::START, Offset(7))), Some(50));
    assert_eq!(base_of(locate(&*file, end(&log), Anchor::START, Offset(56))), None);
}

/// Kafka: `LogSegmentTest.testReadFromGap`.
#[test]
fn a_target_in_a_gap_gives_the_batch_behind_it() {
    let mut log = TestLog::starting_at(50);
    log.push(2, 0, b"a");
    log.skip(8);
    log.push(2, 0, b"b");
    assert_eq!(base_of(locate(&*file_of(&log.bytes), end(&log), Anchor::START, Offset(55))), Some(60));
}

#[test]
fn nothing_at_or_behind_the_limit_is_found() {
    let log = TestLog::with_payloads(&[10, 10, 10]);
    let file = file_of(&log.bytes);
    let limit = Position(log.positions()[1]);
    assert_eq!(base_of(locate(&*file, limit, Anchor::START, Offset::ZERO)), Some(0));
    assert_eq!(base_of(locate(&*file, limit, Anchor::START, Offset(1))), None);
}

#[test]
fn an_entry_of_a_true_batch_is_proven() {
    let log = TestLog::varied(20);
    let file = file_of(&log.bytes);
    let first = claimed(0, entry_of(&log, 6), None);
    assert_eq!(prove(&*file, end(&log), &first).unwrap(), Some(Anchor::of_entry(entry_of(&log, 6))));
    let second = claimed(1, entry_of(&log, 9), Some(entry_of(&log, 6)));
    assert_eq!(prove(&*file, end(&log), &second).unwrap(), Some(Anchor::of_entry(entry_of(&log, 9))));
}

#[test]
fn an_entry_that_points_beside_a_batch_is_not_proven() {
    let log = TestLog::varied(20);
    let file = file_of(&log.bytes);
    let good = entry_of(&log, 9);
    let wrong = [
        entry(good.last_offset.0 + 1, good.position.0),
        entry(good.last_offset.0, good.position.0 + 1),
        entry(good.last_offset.0, log.positions()[10]),
        entry(good.last_offset.0, log.len()),
        entry(good.last_offset.0, 1 << 30),
    ];
    for wrong in wrong {
        assert_eq!(prove(&*file, end(&log), &claimed(0, wrong, None)).unwrap(), None);
        assert_eq!(prove(&*file, end(&log), &claimed(1, wrong, Some(entry_of(&log, 6)))).unwrap(), None);
    }
}

/// A record may carry a stored batch: header, offsets and CRC are all right there, and it is no batch of this log.
#[test]
fn a_stored_batch_inside_of_a_payload_is_not_taken_for_a_batch_of_the_log() {
    let mut log = TestLog::default();
    log.push(1, 0, b"first");
    let mut stored = TestLog::starting_at(7);
    stored.push(1, 0, b"stored");
    log.push(1, 0, &[b"key".as_slice(), &stored.bytes].concat());
    log.push(9, 0, b"last");
    let file = file_of(&log.bytes);
    let inside = entry(7, log.positions()[1] + HEADER_SIZE as u64 + 3);
    assert_eq!(
        check_batch(&*file, inside.position, log.len()).unwrap().map(|h| h.last_offset()),
        Some(Offset(7))
    );
    assert_eq!(prove(&*file, end(&log), &claimed(0, inside, None)).unwrap(), None);
    assert_eq!(prove(&*file, end(&log), &claimed(1, inside, Some(entry_of(&log, 0)))).unwrap(), None);
}

#[test]
fn an_entry_behind_a_wrong_one_is_not_proven() {
    let log = TestLog::varied(20);
    let file = file_of(&log.bytes);
    let good = entry_of(&log, 9);
    let before = entry_of(&log, 6);
    for previous in [
        good,
        entry(before.last_offset.0, before.position.0 + 1),
        entry(before.last_offset.0 + 1, before.position.0),
        entry(before.last_offset.0, log.positions()[12]),
    ] {
        assert_eq!(prove(&*file, end(&log), &claimed(1, good, Some(previous))).unwrap(), None);
    }
    assert_eq!(prove(&*file, end(&log), &claimed(1, good, None)).unwrap(), None);
}

#[test]
fn an_entry_behind_a_batch_with_a_wrong_crc_is_not_proven() {
    let mut log = TestLog::with_payloads(&[10; 9]);
    let payload = index(log.positions()[3]) + HEADER_SIZE;
    log.bytes[payload] ^= 1;
    let claim = claimed(1, entry_of(&log, 5), Some(entry_of(&log, 3)));
    assert_eq!(prove(&*file_of(&log.bytes), end(&log), &claim).unwrap(), None);
}

/// Kafka: `LogSegmentTest.testFindOffsetByTimestamp`.
#[test]
fn the_first_batch_with_a_timestamp_at_or_above_is_found() {
    let log = TestLog::varied(40);
    let file = file_of(&log.bytes);
    for timestamp in 900..1_200 {
        let wanted = log.headers().iter().find(|h| h.max_timestamp >= timestamp).map(|h| h.base_offset.0);
        assert_eq!(base_of(locate_timestamp(&*file, end(&log), Anchor::START, timestamp)), wanted);
    }
}

#[test]
fn a_time_entry_is_proven_only_if_no_batch_before_is_as_new() {
    let mut log = TestLog::default();
    for timestamp in [5, 5, 9, 5, 12] {
        log.push(1, timestamp, b"x");
    }
    let file = file_of(&log.bytes);
    let proven = |timestamp, last_offset, previous: Option<(i64, i64)>| {
        let time_entry = |(timestamp, offset)| TimeEntry { timestamp, last_offset: Offset(offset) };
        let claim = TimeClaim {
            number: usize::from(previous.is_some()),
            entry: time_entry((timestamp, last_offset)),
            previous: previous.map(time_entry),
            trust: Trust::Claimed,
        };
        base_of(prove_time(&*file, end(&log), Anchor::START, &claim))
    };
    assert_eq!(proven(5, 0, None), Some(0));
    assert_eq!(proven(9, 2, Some((5, 0))), Some(2));
    assert_eq!(proven(12, 4, Some((9, 2))), Some(4));
    // The batches 1 and 3 have the same timestamp as the entry, but are not the first ones.
    assert_eq!((proven(5, 1, None), proven(5, 3, None)), (None, None));
    assert_eq!(proven(9, 3, Some((5, 0))), None);
    assert_eq!(proven(8, 2, Some((5, 0))), None);
    assert_eq!((proven(12, 4, Some((9, 1))), proven(12, 4, Some((12, 2)))), (None, None));
}

#[test]
fn a_range_holds_as_many_whole_batches_as_fit_and_at_least_one() {
    let log = TestLog::varied(30);
    let file = file_of(&log.bytes);
    let mut bounds = log.ends();
    bounds.insert(0, 0);
    for start in 0..30 {
        let from =
            locate(&*file, end(&log), Anchor::START, log.headers()[start].last_offset()).unwrap().unwrap();
        for max_bytes in (0..3_000).step_by(97) {
            let most = from.position().0 + max_bytes;
            let wanted = *bounds.iter().rfind(|bound| **bound <= most).unwrap();
            let wanted = wanted.max(from.end().0);
            let next = log.batches().iter().find(|(at, _)| *at == wanted).map(|(_, h)| h.base_offset);
            for anchor in
                std::iter::once(None).chain((0..30).map(|n| Some(Anchor::of_entry(entry_of(&log, n)))))
            {
                let range = range_end(&*file, &from, end(&log), max_bytes, anchor).unwrap();
                assert_eq!(range, RangeEnd { position: Position(wanted), next_offset: next });
            }
        }
    }
}

/// Kafka: `LogSegmentTest.testReadWhenNoMaxPosition`.
#[test]
fn a_range_ends_at_the_limit_if_there_is_room() {
    let log = TestLog::with_payloads(&[10, 10, 10]);
    let file = file_of(&log.bytes);
    let from = locate(&*file, end(&log), Anchor::START, Offset::ZERO).unwrap().unwrap();
    let limit = Position(log.positions()[2]);
    let range = range_end(&*file, &from, limit, u64::MAX, None).unwrap();
    assert_eq!(range, RangeEnd { position: limit, next_offset: None });
}

#[test]
fn damage_before_the_answer_is_a_failure_that_names_the_byte() {
    let mut log = TestLog::with_payloads(&[10, 10, 10]);
    let second = log.positions()[1];
    log.bytes[index(second) + 16] = 7;
    let file = file_of(&log.bytes);
    assert_eq!(base_of(locate(&*file, end(&log), Anchor::START, Offset::ZERO)), Some(0));
    let failure = locate(&*file, end(&log), Anchor::START, Offset(5)).unwrap_err();
    let Error::Corrupt(corruption) = failure.in_file(Path::new("/t-0/0.log")) else { panic!("not corrupt") };
    assert_eq!((corruption.bytes.start, corruption.what.as_str()), (second + 16, "magic"));
}

#[test]
fn a_file_that_ends_before_the_limit_is_a_failure() {
    let log = TestLog::with_payloads(&[10, 10]);
    let file = file_of(&log.bytes[..index(log.positions()[1])]);
    let failure = locate(&*file, end(&log), Anchor::START, Offset(9)).unwrap_err();
    let ReadFailure::Damage { position, damage } = failure else { panic!("not damage") };
    assert_eq!((position.0, damage.kind), (log.positions()[1], DamageKind::ShortHeader));
}
