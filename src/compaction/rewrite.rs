//! Batches that lost records.
//!
//! Invariant: base offset, last offset delta, leader epoch, producer, epoch, sequence and the transactional, control and
//! timestamp type bits stay; so does the timestamp of every record that stays. Records that need not move in time are
//! copied as they stand.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::payload::BatchFailure;
use crate::error::Malformed;
use crate::format::batch::{Attributes, BatchHeader, HEADER_SIZE, TimestampType, seal};
use crate::format::compression::{Codec, compress};
use crate::format::record::for_each_span;

/// Whether a record stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
}

const CODEC_BITS: i16 = 0x07;

/// Whether the timestamps of records with these `deltas` can be told from a `horizon` in the place of the base timestamp.
pub(super) fn can_hold(header: &BatchHeader, deltas: &RangeInclusive<i64>, horizon: i64) -> bool {
    let moved = header.base_timestamp.checked_sub(horizon);
    moved.is_some_and(|moved| {
        [deltas.start(), deltas.end()].iter().all(|delta| delta.checked_add(moved).is_some())
    })
}

/// The batch with those of `records` that stay; with a `horizon`, in milliseconds, in the place of its base timestamp.
pub(super) fn anew(
    header: &BatchHeader,
    codec: Codec,
    records: &[u8],
    keep: &[Keep],
    horizon: Option<i64>,
) -> Result<Bytes, BatchFailure> {
    let base_timestamp = horizon.unwrap_or(header.base_timestamp);
    let moved = header.base_timestamp.checked_sub(base_timestamp).ok_or_else(|| {
        Malformed::new("base timestamp", 27, "less than 2^63 ms from the horizon", header.base_timestamp)
    })?;
    let mut payload = Vec::with_capacity(records.len());
    let (mut count, mut newest, mut failure) = (0, -1, None);
    let mut decisions = keep.iter();
    for_each_span(records, header.record_count, |record| {
        if decisions.next() != Some(&Keep::Yes) {
            return;
        }
        count += 1;
        newest = newest.max(header.base_timestamp.saturating_add(record.timestamp_delta));
        if moved == 0 {
            payload.extend_from_slice(record.bytes);
        } else if let Err(malformed) = record.put_moved(moved, &mut payload) {
            failure.get_or_insert(malformed);
        }
    })?;
    if let Some(malformed) = failure {
        return Err(malformed.into());
    }
    let max_timestamp = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => newest,
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let delete_horizon = if horizon.is_some() { Attributes::DELETE_HORIZON } else { 0 };
    let attributes = Attributes(header.attributes.0 | delete_horizon);
    let header = BatchHeader { attributes, base_timestamp, max_timestamp, record_count: count, ..*header };
    let payload = compress(codec, &payload)?;
    if i32::try_from(payload.len().saturating_add(HEADER_SIZE)).is_err() {
        return Err(Malformed::new("batch length", 8, "at most 2147483647", payload.len()).into());
    }
    Ok(seal(header, &payload))
}

/// The header alone, as Kafka's `DefaultRecordBatch.writeEmptyHeader` leaves it.
pub(super) fn emptied(header: &BatchHeader) -> Bytes {
    let attributes = Attributes(header.attributes.0 & !(CODEC_BITS | Attributes::DELETE_HORIZON));
    seal(BatchHeader { attributes, base_timestamp: -1, record_count: 0, ..*header }, &[])
}
