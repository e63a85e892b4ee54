//! Control records: the markers that end a transaction.
//!
//! ```text
//! key    0  2  version = 0 (longer keys and higher versions are read as this one)
//!        2  2  type: 0 abort, 1 commit; others belong to Kafka's metadata log and are passed over
//! value  0  2  version = 0
//!        2  4  coordinator epoch
//! ```
//!
//! An end marker is a batch of one such record, 78 bytes: control and transactional bits set, no sequence.
//!
//! Invariant: a batch built here is what Kafka's `MemoryRecords.withEndTransactionMarker` builds from the same values.
//! Kafka's classes are `ControlRecordType` and `EndTransactionMarker`.

use bytes::Bytes;

use super::batch::{Attributes, BatchHeader, HEADER_SIZE, MAGIC, seal};
use super::cursor::{Cursor, put_varlong};
use super::record::Record;
use crate::error::Malformed;
use crate::types::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId};

#[cfg(test)]
mod tests;

/// Version of key and value that is written here.
pub const VERSION: i16 = 0;
/// Bytes of a batch with one end marker.
pub const MARKER_SIZE: usize = 78;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlKind {
    /// The transaction never was.
    Abort,
    /// The transaction counts.
    Commit,
    /// Of no meaning in a partition of data.
    Other(i16),
}

impl ControlKind {
    fn number(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(number) => number,
        }
    }
}

/// The one record of a control batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ControlRecord {
    /// What it says.
    pub kind: ControlKind,
    /// Version of the key as stored.
    pub version: i16,
    /// Epoch of the coordinator that wrote it; [`CoordinatorEpoch::NONE`] for [`ControlKind::Other`].
    pub coordinator_epoch: CoordinatorEpoch,
}

impl ControlRecord {
    /// Reads key and value of a record of a control batch.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the key is absent or shorter than four bytes, if a version is negative, or if an end marker has
    /// a value of fewer than six bytes. Bytes are counted from the start of key or value.
    pub fn parse(record: &Record<'_>) -> Result<Self, Malformed> {
        let absent = |field| Malformed::new(field, 0, "bytes", "none");
        let mut key = Cursor::new(record.key.ok_or_else(|| absent("control key"))?);
        let version = key_version(&mut key, "control key version")?;
        let kind = match key.i16("control type")? {
            0 => ControlKind::Abort,
            1 => ControlKind::Commit,
            other => {
                let coordinator_epoch = CoordinatorEpoch::NONE;
                return Ok(Self { kind: ControlKind::Other(other), version, coordinator_epoch });
            }
        };
        let mut value = Cursor::new(record.value.ok_or_else(|| absent("control value"))?);
        key_version(&mut value, "control value version")?;
        let coordinator_epoch = CoordinatorEpoch(value.i32("coordinator epoch")?);
        Ok(Self { kind, version, coordinator_epoch })
    }
}

fn key_version(c: &mut Cursor<'_>, field: &'static str) -> Result<i16, Malformed> {
    let version = c.i16(field)?;
    if version < 0 { Err(Malformed::new(field, 0, "0 or more", version)) } else { Ok(version) }
}

/// The end of a transaction, as a coordinator orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndTxnMarker {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Epoch of the producer; by transaction version 2 one more than that of the transaction's batches.
    pub epoch: ProducerEpoch,
    /// Commit or abort.
    pub kind: ControlKind,
    /// Who orders it.
    pub coordinator_epoch: CoordinatorEpoch,
    /// When, in milliseconds.
    pub timestamp: i64,
}

impl EndTxnMarker {
    /// The marker as a batch of [`MARKER_SIZE`] bytes, with base offset 0 and no leader epoch: the leader stamps both.
    #[must_use]
    pub fn to_batch(&self) -> Bytes {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::NONE,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes(Attributes::TRANSACTIONAL | Attributes::CONTROL),
            last_offset_delta: 0,
            base_timestamp: self.timestamp,
            max_timestamp: self.timestamp,
            producer_id: self.producer.0,
            producer_epoch: self.epoch.0,
            base_sequence: -1,
            record_count: 1,
        };
        seal(header, &marker_record(self.kind, self.coordinator_epoch))
    }
}

fn marker_record(kind: ControlKind, coordinator_epoch: CoordinatorEpoch) -> Vec<u8> {
    let mut body = vec![0, 0, 0];
    put_varlong(&mut body, 4);
    body.extend_from_slice(&VERSION.to_be_bytes());
    body.extend_from_slice(&kind.number().to_be_bytes());
    put_varlong(&mut body, 6);
    body.extend_from_slice(&VERSION.to_be_bytes());
    body.extend_from_slice(&coordinator_epoch.0.to_be_bytes());
    put_varlong(&mut body, 0);
    let mut record = Vec::with_capacity(MARKER_SIZE - HEADER_SIZE);
    put_varlong(&mut record, 16);
    record.append(&mut body);
    record
}
