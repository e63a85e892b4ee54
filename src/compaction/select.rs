//! Which segments a round takes, and which of them become one.
//!
//! Invariant: a pure decision over facts. Segments are taken from the oldest on, up to the first that must not be
//! touched: one that is appended to, undecided, too young, or needed to bind a chain of runs to the log. Source: Kafka's
//! `LogCleanerManager.cleanableOffsets` and `Cleaner.groupSegmentsBySize`.

use std::ops::Range;

use super::settings::CompactionConfig;
use crate::types::Offset;

/// What the decision needs to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentShape {
    /// Offset at which it begins.
    pub base: Offset,
    /// Offset at which the next one begins.
    pub end: Offset,
    /// Bytes of its `.log` file.
    pub bytes: u64,
    /// Largest timestamp of its first batch, in milliseconds, if it has one.
    pub first_timestamp: Option<i64>,
    /// Its largest timestamp, in milliseconds, if it has one.
    pub newest_timestamp: Option<i64>,
}

/// What the log is like at the time of the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// First readable offset.
    pub log_start_offset: Offset,
    /// End (exclusive) of what earlier rounds have compacted.
    pub clean_to: Offset,
    /// No segment that reaches above it is touched: the last stable offset, or what binds a chain.
    pub limit: Offset,
    /// Wall clock, in milliseconds.
    pub now_ms: i64,
}

/// What a round could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// How many of the oldest segments it takes.
    pub segments: usize,
    /// Where the records begin that no round has seen.
    pub from: Offset,
    /// Bytes that earlier rounds have compacted.
    pub clean_bytes: u64,
    /// Bytes of the others.
    pub dirty_bytes: u64,
    /// Oldest timestamp among the first batches of the others.
    pub oldest_timestamp: Option<i64>,
}

/// What can be done with the complete segments of a log; `None` if nothing.
#[must_use]
pub fn cleanable(segments: &[SegmentShape], moment: &Moment, config: &CompactionConfig) -> Option<Cleanable> {
    let from = moment.clean_to.max(moment.log_start_offset);
    let lag = i64::try_from(config.min_lag_ms).unwrap_or(i64::MAX);
    let too_young = |segment: &SegmentShape| {
        let newest = segment.newest_timestamp.filter(|_| lag > 0 && segment.end > from);
        newest.is_some_and(|newest| newest > moment.now_ms.saturating_sub(lag))
    };
    let taken: Vec<_> = segments
        .iter()
        .take_while(|segment| segment.end <= moment.limit && !too_young(segment))
        .copied()
        .collect();
    let dirty = || taken.iter().filter(|segment| segment.end > from);
    let bytes = |sum: u64, segment: &SegmentShape| sum.saturating_add(segment.bytes);
    let dirty_bytes = dirty().fold(0, bytes);
    let clean_bytes = taken.iter().fold(0, bytes).saturating_sub(dirty_bytes);
    let oldest_timestamp = dirty().filter_map(|segment| segment.first_timestamp).min();
    (dirty_bytes > 0).then_some(Cleanable {
        segments: taken.len(),
        from,
        clean_bytes,
        dirty_bytes,
        oldest_timestamp,
    })
}

/// Whether the background should do it now: much of the log is dirty, or a record is older than it may be.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio of bytes; its last digits decide nothing")]
pub fn is_due(cleanable: &Cleanable, now_ms: i64, config: &CompactionConfig) -> bool {
    let all = cleanable.clean_bytes.saturating_add(cleanable.dirty_bytes);
    let ratio = cleanable.dirty_bytes as f64 / all.max(1) as f64;
    let too_old = |oldest: i64| {
        let age = u64::try_from(now_ms.saturating_sub(oldest)).unwrap_or(0);
        config.max_lag_ms.is_some_and(|most| age > most)
    };
    ratio > config.min_dirty_ratio || cleanable.oldest_timestamp.is_some_and(too_old)
}

/// Which neighbours become one segment: as many as stay within `segment_bytes` and whose offsets an index can express.
#[must_use]
pub fn groups(segments: &[SegmentShape], segment_bytes: u64) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut start = 0;
    while let Some(first) = segments.get(start) {
        let mut bytes = 0_u64;
        let fits = |segment: &&SegmentShape| {
            bytes = bytes.saturating_add(segment.bytes);
            bytes <= segment_bytes && segment.end.distance_from(first.base) <= i64::from(i32::MAX)
        };
        let count = segments.iter().skip(start).take_while(fits).count().max(1);
        groups.push(start..start + count);
        start += count;
    }
    groups
}
