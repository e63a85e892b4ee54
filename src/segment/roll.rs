//! When a segment has had enough (Kafka's `LogSegment.shouldRoll`).
//!
//! Invariant: a pure decision, made before each batch; the log carries it out. An empty segment is rolled only if its
//! base offset lies so far below the batch that no index entry can express it: any other roll of it would make a
//! segment of the same name.

use crate::types::{Offset, Position};

/// The segment that is appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollState {
    /// Offset at which it begins.
    pub base: Offset,
    /// The byte behind its last batch.
    pub len: Position,
    /// Largest timestamp of its first batch in milliseconds, if that has one.
    pub first_timestamp: Option<i64>,
    /// Wall time at which it was made, in milliseconds.
    pub created_ms: i64,
    /// Whether the offset index takes no more entries.
    pub offset_index_full: bool,
    /// Whether the time index takes no more entries (its last slot is reserved).
    pub time_index_full: bool,
}

/// The batch that is about to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its size.
    pub bytes: u64,
    /// Its largest timestamp in milliseconds; -1 if it has none.
    pub max_timestamp: i64,
    /// The offset that its last record will get.
    pub last_offset: Offset,
    /// The wall time now, in milliseconds.
    pub now_ms: i64,
}

/// How large and how old a segment may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RollLimits {
    /// `segment.bytes`; never more than an index entry can express.
    pub segment_bytes: u32,
    /// `segment.ms` less the jitter of this segment.
    pub segment_ms: i64,
}

impl Default for RollLimits {
    fn default() -> Self {
        Self { segment_bytes: 1 << 30, segment_ms: 7 * 24 * 60 * 60 * 1000 }
    }
}

/// Why a segment must be rolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RollReason {
    /// The batch would make it too large.
    Bytes,
    /// Its first batch is too old: by timestamps where it has one, else by the wall clock.
    Age,
    /// The offset index is full.
    OffsetIndexFull,
    /// The time index is full.
    TimeIndexFull,
    /// The last offset lies more than 2147483647 above the base offset.
    OffsetRange,
}

/// Whether the segment must be rolled before the batch, and why.
#[must_use]
pub fn roll_due(state: &RollState, incoming: &Incoming, limits: &RollLimits) -> Option<RollReason> {
    if !is_expressible(state.base, incoming.last_offset) {
        return Some(RollReason::OffsetRange);
    }
    if state.len == Position::ZERO {
        return None;
    }
    let most = u64::from(limits.segment_bytes).min(u64::from(i32::MAX.unsigned_abs()));
    if state.len.0.saturating_add(incoming.bytes) > most {
        return Some(RollReason::Bytes);
    }
    let age = match state.first_timestamp {
        Some(first) => incoming.max_timestamp.saturating_sub(first),
        None => incoming.now_ms.saturating_sub(state.created_ms),
    };
    if age > limits.segment_ms {
        return Some(RollReason::Age);
    }
    if state.offset_index_full {
        return Some(RollReason::OffsetIndexFull);
    }
    state.time_index_full.then_some(RollReason::TimeIndexFull)
}

/// Offset at which the segment behind a log that ends at `end` begins, if the batch of the offsets from `first` to `last`
/// is to be its first.
///
/// That is where the log ends, so that the end of a segment that is lost shows in the name of the next one. Only a gap that
/// no index entry could express is left out.
#[must_use]
pub fn next_base(end: Offset, first: Offset, last: Offset) -> Offset {
    if is_expressible(end, last) { end } else { end.max(first) }
}

/// Whether an index entry of a segment that begins at `base` can express a batch that ends with `last`.
#[must_use]
pub fn is_expressible(base: Offset, last: Offset) -> bool {
    last.distance_from(base) <= i64::from(i32::MAX)
}

#[cfg(test)]
mod tests;
