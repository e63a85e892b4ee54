//! The rules on sequences, told the slow way: every sequence is written out and looked for.

use oncelog::{Appended, Offset, Outcome, ProducerId, Rejection, Sequence};

use crate::model::{Batch, Known, Verdict};

/// How many sequences there are.
const SEQUENCES: i64 = 1 << 31;
/// A batch further ahead than this is behind.
const HALF: i64 = 1 << 30;

/// Same epoch, some batch of it stored: every sequence is written out and looked for.
pub(crate) fn judge_known(known: &Known, id: i64, first: i64, records: i64) -> Verdict {
    let expected = known.expected();
    let ahead = (first - expected).rem_euclid(SEQUENCES);
    if ahead == 0 {
        return Verdict::Append;
    }
    if ahead < HALF {
        return out_of_order(id, expected, first);
    }
    let asked = sequences(first, records);
    let last = *asked.last().unwrap();
    let window = known.window();
    if let Some(batch) = window.iter().find(|batch| (batch.first, batch.last) == (first, last)) {
        if batch.aborted {
            return Verdict::Reject(Rejection::AbortedRetry {
                producer: ProducerId(id),
                expected: sequence(expected),
                found: sequence(first),
            });
        }
        return Verdict::Answer(Appended {
            outcome: Outcome::Duplicate,
            base_offset: Some(Offset(batch.offset)),
            last_offset: Offset(batch.last_offset),
            timestamp: batch.timestamp,
        });
    }
    let stored = |batches: &[Batch]| -> Vec<i64> {
        batches.iter().flat_map(|batch| sequences(batch.first, length(batch.first, batch.last))).collect()
    };
    let (in_window, proven) = (stored(window), stored(known.proven_batches()));
    if asked.contains(&expected) || asked.iter().any(|asked| in_window.contains(asked)) {
        return Verdict::Reject(Rejection::SequenceOverlap {
            producer: ProducerId(id),
            first: sequence(first),
            last: sequence(last),
            expected: sequence(expected),
        });
    }
    if asked.iter().all(|asked| proven.contains(asked)) {
        return Verdict::Answer(Appended {
            outcome: Outcome::DuplicateBeyondWindow,
            base_offset: None,
            last_offset: Offset(window[0].last_offset),
            timestamp: -1,
        });
    }
    Verdict::Reject(Rejection::SequenceUnknown {
        producer: ProducerId(id),
        found: sequence(first),
        expected: sequence(expected),
    })
}

pub(crate) fn out_of_order(id: i64, expected: i64, found: i64) -> Verdict {
    let (expected, found) = (sequence(expected), sequence(found));
    Verdict::Reject(Rejection::OutOfOrder { producer: ProducerId(id), expected, found })
}

fn sequences(first: i64, count: i64) -> Vec<i64> {
    (0..count).map(|n| wrapped(first + n)).collect()
}

pub(crate) fn length(first: i64, last: i64) -> i64 {
    (last - first).rem_euclid(SEQUENCES) + 1
}

pub(crate) fn wrapped(sequence: i64) -> i64 {
    sequence.rem_euclid(SEQUENCES)
}

pub(crate) fn sequence(value: i64) -> Sequence {
    Sequence::new(i32::try_from(value).unwrap()).unwrap()
}
