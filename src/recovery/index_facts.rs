//! Index entries of the stretch of a segment that a recovery has read.
//!
//! Invariant: entries follow the rule of an append, batch by batch (`LogSegment.recover` in Kafka): one of each index
//! when more than the interval was passed since the last. Below [`IndexFacts::from`] nothing is known: there the
//! segment's own index files count.

use crate::format::batch::BatchHeader;
use crate::types::{Offset, Position};

/// What a pass over a segment says about its indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFacts {
    /// Base offset of the segment.
    pub segment: Offset,
    /// Where the pass began. Entries of the index files for batches from here on are to be dropped.
    pub from: Position,
    /// Offset of the first batch from there on; entries of the time index at or above it are to be dropped.
    pub from_offset: Offset,
    /// Entries of the offset index: last offset of a batch and where the batch begins.
    pub offsets: Vec<(Offset, Position)>,
    /// Entries of the time index: largest timestamp so far in the pass, and the last offset of the batch that has it.
    pub times: Vec<(i64, Offset)>,
    /// Largest timestamp in the pass, in milliseconds, and the last offset of the batch that has it.
    pub max_timestamp: Option<(i64, Offset)>,
    bytes_since_entry: u64,
}

impl IndexFacts {
    pub(super) fn new(segment: Offset, from: Position, from_offset: Offset) -> Self {
        Self {
            segment,
            from,
            from_offset,
            offsets: Vec::new(),
            times: Vec::new(),
            max_timestamp: None,
            bytes_since_entry: 0,
        }
    }

    pub(super) fn visit(&mut self, position: Position, header: &BatchHeader, interval: u64) {
        let last = header.last_offset();
        if self.max_timestamp.is_none_or(|(greatest, _)| header.max_timestamp > greatest) {
            self.max_timestamp = Some((header.max_timestamp, last));
        }
        if self.bytes_since_entry > interval {
            self.offsets.push((last, position));
            if let Some(newest) = self.max_timestamp
                && self.times.last().is_none_or(|(timestamp, _)| newest.0 > *timestamp)
            {
                self.times.push(newest);
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(header.size() as u64);
    }
}
