//! Records as a consumer of a fetch gets them.
//!
//! Invariant: an [`OwnedRecord`] is a copy; it keeps no batch, file or segment alive.

use bytes::Bytes;

use crate::error::Malformed;
use crate::format::batch::BatchHeader;
use crate::format::record::Records;
use crate::types::Offset;

/// One record, with the offset and the timestamp it has in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its number in the partition.
    pub offset: Offset,
    /// Milliseconds; the broker's where the batch says `LogAppendTime`.
    pub timestamp: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in their order; a name may occur more than once.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// Copies the records out of a batch's opened payload.
pub(super) fn copy_records(header: &BatchHeader, payload: &[u8]) -> Result<Vec<OwnedRecord>, Malformed> {
    let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    Records::new(payload, header.record_count)
        .map(|record| {
            let record = record?;
            Ok(OwnedRecord {
                offset: record.offset(header),
                timestamp: record.timestamp(header),
                key: copy(record.key),
                value: copy(record.value),
                headers: record.headers.iter().map(|one| (one.key.to_owned(), copy(one.value))).collect(),
            })
        })
        .collect()
}
