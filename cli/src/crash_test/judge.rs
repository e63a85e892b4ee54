//! Whether an answer is the one that had to come.
//!
//! Invariant: what must be answered follows from what is in the log and what was sent, never from what the engine says
//! of itself. A duplicate must carry offsets and timestamp of its original.

use super::batch::Spec;
use super::ledger::{Attempt, Expected};
use super::protocol::{Answer, Place};
use super::report::Violation;

/// What an answer says of the state of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// As it had to be.
    Right,
    /// Not stored, because the disk was made to fail.
    Stumbled,
}

/// What can excuse an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Circumstances {
    pub(super) seed: u64,
    /// Writes are made to fail in this session.
    pub(super) failures: bool,
    /// An earlier batch of the producer was not stored because of that.
    pub(super) stumbled: bool,
}

/// Compares the answer of `attempt` with what it had to be.
pub(super) fn judge(
    attempt: &Attempt,
    answer: &Answer,
    circumstances: Circumstances,
) -> Result<Judged, Violation> {
    let Circumstances { seed, failures, stumbled } = circumstances;
    let spec = attempt.spec;
    let right_place = |place: &Place| {
        // A marker is stamped with the time at which it was written.
        let timestamp = spec.is_marker() || place.timestamp == spec.timestamp(seed);
        timestamp && place.last == spec.last_offset(place.base)
    };
    let right = match (attempt.expected, answer) {
        (Expected::Appended, Answer::Appended(place)) => right_place(place),
        (Expected::Duplicate(base), Answer::Duplicate(place)) => {
            right_place(place) && base.is_none_or(|base| base == place.base)
        }
        (Expected::DuplicateOrUnknown(base), Answer::Duplicate(place)) => {
            base == place.base && place.last == spec.last_offset(base)
        }
        (Expected::DuplicateOrUnknown(_), answer) => {
            matches!(answer, Answer::SequenceUnknown | Answer::DuplicateBeyondWindow)
        }
        (Expected::BeyondWindow(_), Answer::DuplicateBeyondWindow) => true,
        (Expected::BeyondWindow(blurred), Answer::SequenceUnknown) => blurred,
        (Expected::OutOfOrder(expected), Answer::OutOfOrder { expected: found }) => {
            expected.is_none_or(|expected| expected == *found)
        }
        (Expected::Fenced(current), Answer::Fenced { current: found }) => current == *found,
        (Expected::CoordinatorFenced(current), Answer::CoordinatorFenced { current: found }) => {
            current == *found
        }
        (Expected::AbortedRetry | Expected::Void, Answer::AbortedRetry) => true,
        (Expected::Void, Answer::SequenceUnknown) => true,
        (Expected::Overlap, Answer::SequenceOverlap) => true,
        (Expected::UnknownProducer, Answer::UnknownProducer) => true,
        _ => false,
    };
    if right {
        return Ok(Judged::Right);
    }
    match (attempt.expected, answer) {
        (_, Answer::Unavailable(_)) if failures => Ok(Judged::Stumbled),
        // Of a producer whose first batch was not stored nothing is known.
        (Expected::Appended, Answer::OutOfOrder { .. } | Answer::UnknownProducer) if failures && stumbled => {
            Ok(Judged::Stumbled)
        }
        _ => Err(Violation::new(name(&spec, attempt.expected), text(attempt, answer, seed))),
    }
}

/// What it is called when such an answer does not come.
fn name(spec: &Spec, expected: Expected) -> &'static str {
    match expected {
        Expected::Appended if spec.is_marker() => "a marker was not written",
        Expected::Appended => "a new batch was not appended",
        Expected::Duplicate(_) | Expected::DuplicateOrUnknown(_) => "a retry was not recognised",
        Expected::BeyondWindow(_) => "an old retry was not recognised",
        Expected::OutOfOrder(_) => "a gap was not refused",
        Expected::Fenced(_) => "an old epoch was not fenced",
        Expected::CoordinatorFenced(_) => "an old coordinator was not fenced",
        Expected::AbortedRetry | Expected::Void => "a retry of an aborted batch was not refused as such",
        Expected::Overlap => "an overlapping batch was not refused",
        Expected::UnknownProducer => "an unknown producer was not refused",
    }
}

fn text(attempt: &Attempt, answer: &Answer, seed: u64) -> String {
    let spec = attempt.spec;
    let expected = match attempt.expected {
        Expected::Duplicate(Some(base)) => {
            let place = Place { base, last: spec.last_offset(base), timestamp: spec.timestamp(seed) };
            format!("{:?}", Answer::Duplicate(place))
        }
        other => format!("{other:?}"),
    };
    format!("{spec}: expected {expected}, answered {answer:?}")
}

#[cfg(test)]
mod tests {
    use oncelog::types::Durability;

    use super::super::batch::{Kind, Spec};
    use super::*;

    const SEED: u64 = 5;
    const SPEC: Spec = Spec { producer: 1, epoch: 3, first: 10, count: 2, kind: Kind::Plain };

    fn judged(
        expected: Expected,
        answer: &Answer,
        failures: bool,
        stumbled: bool,
    ) -> Result<Judged, &'static str> {
        let attempt =
            Attempt { spec: SPEC, lane: 0, durability: Durability::Buffered, expected, answer: None };
        let circumstances = Circumstances { seed: SEED, failures, stumbled };
        judge(&attempt, answer, circumstances).map_err(|violation| violation.what)
    }

    fn place(base: i64) -> Place {
        Place { base, last: base + 1, timestamp: SPEC.timestamp(SEED) }
    }

    #[test]
    fn a_retry_is_right_only_with_the_offsets_and_the_timestamp_of_its_original() {
        let expected = Expected::Duplicate(Some(40));
        let answered = |answer| judged(expected, &answer, false, false);
        assert_eq!(answered(Answer::Duplicate(place(40))), Ok(Judged::Right));
        let wrong = Err("a retry was not recognised");
        assert_eq!(answered(Answer::Duplicate(place(41))), wrong);
        assert_eq!(answered(Answer::Duplicate(Place { last: 42, ..place(40) })), wrong);
        assert_eq!(answered(Answer::Duplicate(Place { timestamp: 0, ..place(40) })), wrong);
        assert_eq!(answered(Answer::Appended(place(40))), wrong);
        assert_eq!(answered(Answer::OutOfOrder { expected: 10 }), wrong);
        assert_eq!(answered(Answer::SequenceUnknown), wrong);
        assert_eq!(answered(Answer::DuplicateBeyondWindow), wrong);
    }

    #[test]
    fn after_a_snapshot_of_kafka_a_retry_may_be_unknown_but_never_new_or_elsewhere() {
        let expected = Expected::DuplicateOrUnknown(40);
        assert_eq!(judged(expected, &Answer::SequenceUnknown, false, false), Ok(Judged::Right));
        assert_eq!(judged(expected, &Answer::Duplicate(place(40)), false, false), Ok(Judged::Right));
        let wrong = Err("a retry was not recognised");
        assert_eq!(judged(expected, &Answer::Duplicate(place(41)), false, false), wrong);
        assert_eq!(judged(expected, &Answer::Appended(place(40)), false, false), wrong);
    }

    #[test]
    fn a_gap_must_name_the_next_sequence_where_that_is_certain() {
        let gap = |expected, found| {
            judged(Expected::OutOfOrder(expected), &Answer::OutOfOrder { expected: found }, false, false)
        };
        assert_eq!(gap(Some(8), 8), Ok(Judged::Right));
        assert_eq!(gap(None, 8), Ok(Judged::Right));
        assert_eq!(gap(Some(8), 9), Err("a gap was not refused"));
    }

    #[test]
    fn an_append_may_stumble_only_where_writes_are_made_to_fail() {
        let unavailable = Answer::Unavailable("no space".to_owned());
        let wrong = Err("a new batch was not appended");
        assert_eq!(judged(Expected::Appended, &unavailable, true, false), Ok(Judged::Stumbled));
        assert_eq!(judged(Expected::Appended, &unavailable, false, false), wrong);
        let behind = Answer::OutOfOrder { expected: 8 };
        assert_eq!(judged(Expected::Appended, &behind, true, true), Ok(Judged::Stumbled));
        assert_eq!(judged(Expected::Appended, &behind, true, false), wrong);
        assert_eq!(judged(Expected::Appended, &Answer::UnknownProducer, true, true), Ok(Judged::Stumbled));
        assert_eq!(judged(Expected::Appended, &Answer::UnknownProducer, true, false), wrong);
        assert_eq!(judged(Expected::Appended, &Answer::Duplicate(place(3)), true, true), wrong);
    }

    #[test]
    fn a_fence_must_name_the_present_epoch() {
        assert_eq!(
            judged(Expected::Fenced(4), &Answer::Fenced { current: 4 }, false, false),
            Ok(Judged::Right)
        );
        let wrong = judged(Expected::Fenced(4), &Answer::Fenced { current: 5 }, false, false);
        assert_eq!(wrong, Err("an old epoch was not fenced"));
    }
}
