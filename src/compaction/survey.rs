//! The first walk of a round: which record is the newest of each key.
//!
//! Invariant: the map knows every committed record with a key from the first dirty offset to the end of the round, which
//! is the end of a batch: the one before the first that brought more keys than there is memory for.

use std::ops::ControlFlow;

use super::offset_map::OffsetMap;
use super::payload::{self, BatchFailure};
use super::transactions::Transactions;
use crate::format::batch::BatchHeader;
use crate::format::record::for_each_span;
use crate::types::Offset;

/// What the walk has found.
#[derive(Debug)]
pub struct Survey {
    map: OffsetMap,
    transactions: Transactions,
    from: Offset,
    end: Offset,
}

impl Survey {
    /// A walk that begins at `from`.
    #[must_use]
    pub fn new(map: OffsetMap, transactions: Transactions, from: Offset) -> Self {
        Self { map, transactions, from, end: from }
    }

    /// Takes the next batch, whose CRC was proven; breaks off if its keys do not fit.
    ///
    /// # Errors
    ///
    /// [`BatchFailure`] if its records cannot be opened.
    pub fn take(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<ControlFlow<()>, BatchFailure> {
        if header.next_offset() <= self.from {
            return Ok(ControlFlow::Continue(()));
        }
        let mut full = false;
        if !header.attributes.is_control() && !self.transactions.is_aborted(header) {
            let (_, records) = payload::open(header, batch)?;
            let (map, from) = (&mut self.map, self.from);
            for_each_span(&records, header.record_count, |record| {
                let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
                // The log may start inside of a batch: there is no room for what was deleted.
                if let Some(key) = record.key.filter(|_| offset >= from) {
                    full |= map.put(key, offset).is_err();
                }
            })?;
        }
        if full {
            return Ok(ControlFlow::Break(()));
        }
        self.end = header.next_offset();
        Ok(ControlFlow::Continue(()))
    }

    /// No batch is left below `end`: a gap may lie before it.
    pub fn all_seen(&mut self, end: Offset) {
        self.end = self.end.max(end);
    }

    /// Where the round ends, exclusive.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The newest offset of each key.
    #[must_use]
    pub fn into_map(self) -> OffsetMap {
        self.map
    }
}
