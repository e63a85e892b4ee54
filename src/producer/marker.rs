//! What the control batches of a log say to the producers' state.
//!
//! Invariant: a control batch that is no marker, or that cannot be read, changes no producer; it is never an error,
//! because it is in the log already.

use super::facts::{EndTxn, MarkerFacts};
use crate::format::batch::{BatchHeader, HEADER_SIZE};
use crate::format::control::{ControlKind, ControlRecord};
use crate::format::record::Records;

/// What a control batch means for its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// The end of a transaction.
    End(MarkerFacts),
    /// A control batch that ends no transaction: emptied by compaction, or of Kafka's metadata log.
    Other,
    /// Its record cannot be read.
    Unreadable,
}

/// Reads the marker in a control batch: all its bytes, whose CRC was proven.
#[must_use]
pub fn marker_of(header: &BatchHeader, batch: &[u8]) -> Marker {
    let Some((producer, epoch)) = header.producer() else { return Marker::Other };
    let payload = batch.get(HEADER_SIZE..).unwrap_or_default();
    let mut records = Records::new(payload, header.record_count);
    let record = match records.next() {
        None => return Marker::Other,
        Some(Err(_)) => return Marker::Unreadable,
        Some(Ok(record)) => record,
    };
    let commit = match ControlRecord::parse(&record) {
        Err(_) => return Marker::Unreadable,
        Ok(control) => match control.kind {
            ControlKind::Commit => (EndTxn::Commit, control.coordinator_epoch),
            ControlKind::Abort => (EndTxn::Abort, control.coordinator_epoch),
            ControlKind::Other(_) => return Marker::Other,
        },
    };
    let (commit, coordinator_epoch) = commit;
    Marker::End(MarkerFacts {
        producer,
        epoch,
        coordinator_epoch,
        commit,
        timestamp: record.timestamp(header),
    })
}
