use super::*;

fn state() -> RollState {
    RollState {
        base: Offset(100),
        len: Position(600),
        first_timestamp: Some(1_000),
        created_ms: 5_000,
        offset_index_full: false,
        time_index_full: false,
    }
}

fn incoming() -> Incoming {
    Incoming { bytes: 400, max_timestamp: 1_500, last_offset: Offset(120), now_ms: 5_500 }
}

const LIMITS: RollLimits = RollLimits { segment_bytes: 1_000, segment_ms: 1_000 };

fn due(state: RollState, incoming: Incoming) -> Option<RollReason> {
    roll_due(&state, &incoming, &LIMITS)
}

#[test]
fn a_batch_that_fits_to_the_last_byte_does_not_roll() {
    assert_eq!(due(state(), incoming()), None);
    assert_eq!(due(state(), Incoming { bytes: 401, ..incoming() }), Some(RollReason::Bytes));
}

#[test]
fn a_segment_never_outgrows_what_an_index_entry_can_express() {
    let limits = RollLimits { segment_bytes: u32::MAX, ..LIMITS };
    let state = RollState { len: Position((1 << 31) - 500), ..state() };
    assert_eq!(roll_due(&state, &Incoming { bytes: 499, ..incoming() }, &limits), None);
    assert_eq!(roll_due(&state, &Incoming { bytes: 500, ..incoming() }, &limits), Some(RollReason::Bytes));
}

#[test]
fn the_age_counts_from_the_first_batch_to_the_incoming_one() {
    assert_eq!(due(state(), Incoming { max_timestamp: 2_000, ..incoming() }), None);
    assert_eq!(due(state(), Incoming { max_timestamp: 2_001, ..incoming() }), Some(RollReason::Age));
    // The wall clock does not matter then, and a batch without a timestamp ages nothing.
    assert_eq!(due(state(), Incoming { now_ms: i64::MAX, ..incoming() }), None);
    assert_eq!(due(state(), Incoming { max_timestamp: -1, now_ms: i64::MAX, ..incoming() }), None);
}

#[test]
fn the_age_counts_by_the_wall_clock_if_the_first_batch_has_no_timestamp() {
    let state = RollState { first_timestamp: None, ..state() };
    assert_eq!(due(state, Incoming { max_timestamp: i64::MAX, now_ms: 6_000, ..incoming() }), None);
    assert_eq!(due(state, Incoming { now_ms: 6_001, ..incoming() }), Some(RollReason::Age));
    assert_eq!(due(RollState { created_ms: i64::MAX, ..state }, incoming()), None);
}

#[test]
fn a_full_index_rolls() {
    assert_eq!(
        due(RollState { offset_index_full: true, ..state() }, incoming()),
        Some(RollReason::OffsetIndexFull)
    );
    assert_eq!(
        due(RollState { time_index_full: true, ..state() }, incoming()),
        Some(RollReason::TimeIndexFull)
    );
}

/// Kafka: `LogSegmentTest.testAppendForLogSegmentOffsetOverflowException`.
#[test]
fn an_offset_that_no_index_entry_can_express_rolls() {
    let most = Offset(100 + i64::from(i32::MAX));
    assert_eq!(due(state(), Incoming { last_offset: most, ..incoming() }), None);
    let far = Incoming { last_offset: most.saturating_add(1), ..incoming() };
    assert_eq!(due(state(), far), Some(RollReason::OffsetRange));
    assert_eq!(due(RollState { len: Position::ZERO, ..state() }, far), Some(RollReason::OffsetRange));
}

#[test]
fn an_empty_segment_is_not_rolled_for_size_age_or_a_full_index() {
    let empty = RollState {
        len: Position::ZERO,
        first_timestamp: None,
        created_ms: 0,
        offset_index_full: true,
        time_index_full: true,
        ..state()
    };
    assert_eq!(due(empty, Incoming { bytes: 1 << 40, now_ms: i64::MAX, ..incoming() }), None);
}
