//! Which of the oldest segments may go.
//!
//! Invariant: a pure decision over facts. Segments go oldest first, up to the first that must stay; none that reaches
//! above the high watermark goes, and the last one only if the log can go on in a new one. Source: Kafka's
//! `UnifiedLog.deleteOldSegments` with its three rules, by time, by size and by the log start offset.

use crate::types::Offset;

/// How long and how much a log keeps. The default keeps everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Retention {
    /// A segment goes when its newest timestamp is older than this, in milliseconds. Kafka: `retention.ms`. A segment
    /// whose batches have no timestamps does not go by time.
    pub max_age_ms: Option<u64>,
    /// The oldest segment goes while the others together have at least so many bytes. Kafka: `retention.bytes`.
    pub max_bytes: Option<u64>,
}

impl Retention {
    /// Whether everything is kept.
    #[must_use]
    pub fn keeps_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// What the decision needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentUse {
    /// Offset at which it begins.
    pub base: Offset,
    /// Offset at which the next one begins, or the log end.
    pub end: Offset,
    /// Bytes of its `.log` file.
    pub bytes: u64,
    /// Its largest timestamp, in milliseconds; `None` if no batch has one.
    pub newest_timestamp: Option<i64>,
}

/// What the log is like at the time of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// First readable offset.
    pub log_start_offset: Offset,
    /// End (exclusive) of what is replicated.
    pub high_watermark: Offset,
    /// Wall clock, in milliseconds.
    pub now_ms: i64,
}

/// Why a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Everything in it is older than [`Retention::max_age_ms`].
    Age,
    /// The log is larger than [`Retention::max_bytes`].
    Size,
    /// It lies wholly below the log start offset.
    LogStart,
}

/// How many of the oldest `segments`, the one that is appended to last, may go, and why the last of them does.
///
/// All of them may, if the last one is not empty: then the log has to go on in a new one first.
#[must_use]
pub fn expired(segments: &[SegmentUse], moment: &Moment, retention: &Retention) -> (usize, Option<Reason>) {
    let mut bytes = segments.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.bytes));
    let mut last = None;
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        if segment.end > moment.high_watermark || (is_last && segment.bytes == 0) {
            return (index, last);
        }
        let Some(reason) = reason(segment, is_last, bytes, moment, retention) else { return (index, last) };
        bytes = bytes.saturating_sub(segment.bytes);
        last = Some(reason);
    }
    (segments.len(), last)
}

fn reason(
    segment: &SegmentUse,
    is_last: bool,
    bytes: u64,
    moment: &Moment,
    retention: &Retention,
) -> Option<Reason> {
    let too_old = |newest: i64| {
        let age = u64::try_from(moment.now_ms.saturating_sub(newest)).unwrap_or(0);
        retention.max_age_ms.is_some_and(|most| age > most)
    };
    // The last segment goes by age alone: by size it never has to, and the log start offset never passes its end.
    let by_size = |most: u64| !is_last && bytes.saturating_sub(segment.bytes) >= most;
    if segment.newest_timestamp.is_some_and(too_old) {
        Some(Reason::Age)
    } else if retention.max_bytes.is_some_and(by_size) {
        Some(Reason::Size)
    } else if !is_last && segment.end <= moment.log_start_offset {
        Some(Reason::LogStart)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const NOW: i64 = 1_700_000_000_000;

    /// Segments of ten offsets and 100 bytes; the ages in hours, the newest last.
    fn segments(ages: &[i64]) -> Vec<SegmentUse> {
        (0..)
            .zip(ages)
            .map(|(number, hours)| SegmentUse {
                base: Offset(number * 10),
                end: Offset(number * 10 + 10),
                bytes: 100,
                newest_timestamp: Some(NOW - hours * 3_600_000),
            })
            .collect()
    }

    fn moment(log_start: i64, high_watermark: i64) -> Moment {
        Moment { log_start_offset: Offset(log_start), high_watermark: Offset(high_watermark), now_ms: NOW }
    }

    fn by_age() -> Retention {
        Retention { max_age_ms: Some(DAY), max_bytes: None }
    }

    fn by_size(bytes: u64) -> Retention {
        Retention { max_age_ms: None, max_bytes: Some(bytes) }
    }

    #[test]
    fn a_log_without_limits_keeps_everything() {
        assert_eq!(expired(&segments(&[9999, 5000, 1]), &moment(0, 30), &Retention::default()), (0, None));
    }

    #[test]
    fn segments_go_by_age_up_to_the_first_that_is_young_enough() {
        let aged = segments(&[50, 25, 24, 60, 1]);
        assert_eq!(expired(&aged, &moment(0, 50), &by_age()), (2, Some(Reason::Age)));
    }

    #[test]
    fn every_segment_may_go_by_age_unless_the_last_is_empty() {
        let mut aged = segments(&[50, 30]);
        assert_eq!(expired(&aged, &moment(0, 20), &by_age()), (2, Some(Reason::Age)));
        aged[1].bytes = 0;
        assert_eq!(expired(&aged, &moment(0, 20), &by_age()), (1, Some(Reason::Age)));
    }

    #[test]
    fn a_segment_without_timestamps_does_not_go_by_age() {
        let mut aged = segments(&[50, 50]);
        aged[0].newest_timestamp = None;
        assert_eq!(expired(&aged, &moment(0, 20), &by_age()), (0, None));
    }

    #[test]
    fn a_timestamp_in_the_future_keeps_its_segment() {
        assert_eq!(expired(&segments(&[-50, 50]), &moment(0, 20), &by_age()), (0, None));
    }

    #[test]
    fn segments_go_by_size_while_the_rest_is_large_enough() {
        let four = segments(&[1, 1, 1, 1]);
        assert_eq!(expired(&four, &moment(0, 40), &by_size(200)), (2, Some(Reason::Size)));
        assert_eq!(expired(&four, &moment(0, 40), &by_size(201)), (1, Some(Reason::Size)));
        assert_eq!(expired(&four, &moment(0, 40), &by_size(400)), (0, None));
        assert_eq!(expired(&four, &moment(0, 40), &by_size(0)), (3, Some(Reason::Size)));
    }

    #[test]
    fn nothing_at_or_above_the_high_watermark_goes() {
        let aged = segments(&[50, 50, 50]);
        assert_eq!(expired(&aged, &moment(0, 20), &by_age()), (2, Some(Reason::Age)));
        assert_eq!(expired(&aged, &moment(0, 19), &by_age()), (1, Some(Reason::Age)));
        assert_eq!(expired(&aged, &moment(0, 0), &by_age()), (0, None));
    }

    #[test]
    fn what_lies_below_the_log_start_goes_whatever_the_limits() {
        let young = segments(&[1, 1, 1]);
        assert_eq!(expired(&young, &moment(20, 30), &Retention::default()), (2, Some(Reason::LogStart)));
        assert_eq!(expired(&young, &moment(19, 30), &Retention::default()), (1, Some(Reason::LogStart)));
        assert_eq!(expired(&young, &moment(30, 30), &Retention::default()), (2, Some(Reason::LogStart)));
    }
}
