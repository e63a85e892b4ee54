//! Which batches of a fetch a reader of committed records sees.
//!
//! Invariant: batches are shown in the order of the log, and each aborted transaction counts from its first offset to its
//! marker. What Kafka's consumer does with the list that a broker sends it.

use hashbrown::HashSet;

use super::batches::FetchedBatch;
use crate::format::batch::HEADER_SIZE;
use crate::format::control::{ControlKind, ControlRecord};
use crate::format::index_entry::AbortedTxn;
use crate::format::record::Records;
use crate::types::{Offset, ProducerId};

/// Takes the batches of aborted transactions out.
pub(super) struct AbortedFilter {
    /// By falling first offset: the next to begin is the last.
    waiting: Vec<(Offset, ProducerId)>,
    begun: HashSet<ProducerId>,
}

impl AbortedFilter {
    pub(super) fn new(aborted: &[AbortedTxn]) -> Self {
        let mut waiting: Vec<_> = aborted.iter().map(|txn| (txn.first_offset, txn.producer)).collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        Self { waiting, begun: HashSet::new() }
    }

    /// Whether the records of the next batch are void.
    pub(super) fn is_void(&mut self, batch: &FetchedBatch) -> bool {
        let header = &batch.header;
        while let Some((_, producer)) = self.waiting.pop_if(|(first, _)| *first <= header.last_offset()) {
            self.begun.insert(producer);
        }
        let Some((producer, _)) = header.producer() else { return false };
        if header.attributes.is_control() {
            if is_abort(batch) {
                self.begun.remove(&producer);
            }
            return false;
        }
        header.attributes.is_transactional() && self.begun.contains(&producer)
    }
}

fn is_abort(batch: &FetchedBatch) -> bool {
    let payload = batch.bytes.get(HEADER_SIZE..).unwrap_or_default();
    let record = Records::new(payload, batch.header.record_count).next().and_then(Result::ok);
    let control = record.and_then(|record| ControlRecord::parse(&record).ok());
    control.is_some_and(|control| control.kind == ControlKind::Abort)
}
