//! What a leader checks of a client's batch before it may enter the queue.
//!
//! Invariant: pure, off every lock; what it accepts parses to the last record. Codec and bytes stay the producer's:
//! only the max timestamp may be rewritten, with its CRC. Source: Kafka's `LogValidator` and
//! `UnifiedLog.analyzeAndValidateRecords`.

use std::ops::RangeInclusive;

use super::config::LogConfig;
use crate::error::{Error, Malformed, Rejection};
use crate::format::batch::{CheckedBatch, HEADER_SIZE, RawBatch, TimestampType};
use crate::format::compression::{self, Codec};
use crate::format::record;
use crate::types::Origin;

/// Largest payload that a compressed batch may open to, as a multiple of the largest accepted batch.
const MOST_EXPANSION: usize = 64;

/// Checks a leader append.
///
/// # Errors
///
/// [`Error::Rejected`] with the broken rule; nothing was written.
pub(super) fn validate(
    batch: RawBatch,
    origin: Origin,
    config: &LogConfig,
    now_ms: i64,
) -> Result<CheckedBatch, Error> {
    let size = batch.0.len() as u64;
    if size > u64::from(config.max_batch_bytes) {
        return Err(Rejection::BatchTooLarge { limit: u64::from(config.max_batch_bytes), found: size }.into());
    }
    if size > u64::from(config.segment_bytes) {
        return Err(Rejection::SegmentTooSmall { limit: u64::from(config.segment_bytes), found: size }.into());
    }
    let batch = batch.check().map_err(|malformed| {
        // Another magic is a client of another time, not damage.
        if malformed.field == "magic" {
            Rejection::InvalidRecord(malformed)
        } else {
            Rejection::CorruptMessage(malformed)
        }
    })?;
    check_header(&batch, origin)?;
    let timestamps = check_records(&batch, config)?;
    let max_timestamp = *timestamps.end();
    match config.timestamp_type {
        TimestampType::LogAppendTime => Ok(batch.with_log_append_time(now_ms)),
        TimestampType::CreateTime => {
            check_timestamps(&timestamps, config, now_ms)?;
            if batch.header().max_timestamp == max_timestamp {
                Ok(batch)
            } else {
                Ok(batch.with_max_timestamp(max_timestamp))
            }
        }
    }
}

fn check_header(batch: &CheckedBatch, origin: Origin) -> Result<(), Rejection> {
    let header = batch.header();
    let invalid = |field, at, expected: &str, found: String| {
        Err(Rejection::InvalidRecord(Malformed::new(field, at, expected, found)))
    };
    if header.base_offset.0 != 0 {
        return invalid("base offset", 0, "0 from a producer", header.base_offset.to_string());
    }
    if header.record_count < 1 {
        return invalid("record count", 57, "at least 1", header.record_count.to_string());
    }
    if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
        let expected = format!("{} (record count less 1)", header.record_count - 1);
        return invalid("last offset delta", 23, &expected, header.last_offset_delta.to_string());
    }
    if header.attributes.is_control() {
        return invalid(
            "attributes",
            21,
            "no control bit from a client",
            format!("{:#06x}", header.attributes.0),
        );
    }
    if header.attributes.has_delete_horizon() {
        return invalid(
            "attributes",
            21,
            "no delete horizon from a client",
            format!("{:#06x}", header.attributes.0),
        );
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        let malformed = Malformed::new("attributes", 21, "CreateTime from a client", "LogAppendTime");
        return Err(Rejection::InvalidTimestamp(malformed));
    }
    if header.producer_id >= 0 && header.base_sequence < 0 && origin == Origin::Client {
        return invalid(
            "base sequence",
            53,
            "0 or more beside a producer id",
            header.base_sequence.to_string(),
        );
    }
    if header.attributes.is_transactional() && header.producer_id < 0 {
        return invalid("producer id", 43, "0 or more in a transaction", header.producer_id.to_string());
    }
    Ok(())
}

/// Walks the records and returns their smallest and their largest timestamp.
fn check_records(batch: &CheckedBatch, config: &LogConfig) -> Result<RangeInclusive<i64>, Rejection> {
    let header = batch.header();
    let codec = Codec::from_id(header.attributes.codec())?;
    let limit = (config.max_batch_bytes as usize).saturating_mul(MOST_EXPANSION);
    let payload = compression::decompress(codec, batch.payload(), limit)?;
    let summary =
        record::validate_records(&payload, header.record_count).map_err(Rejection::InvalidRecord)?;
    if config.cleanup.compacts()
        && let Some(delta) = summary.first_without_key
    {
        let found = format!("none in the record with offset delta {delta}");
        return Err(Rejection::InvalidRecord(Malformed::new(
            "record key",
            61,
            "a key, as the log is compacted",
            found,
        )));
    }
    let at = |delta| header.base_timestamp.saturating_add(delta);
    Ok(at(summary.min_timestamp_delta)..=at(summary.max_timestamp_delta))
}

/// Each record must lie within the range, so the oldest and the newest must.
fn check_timestamps(
    timestamps: &RangeInclusive<i64>,
    config: &LogConfig,
    now_ms: i64,
) -> Result<(), Rejection> {
    let bound = |limit: Option<u64>| limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let earliest = bound(config.timestamp_before_max_ms).map(|before| now_ms.saturating_sub(before));
    let latest = bound(config.timestamp_after_max_ms).map(|after| now_ms.saturating_add(after));
    for (field, byte, timestamp) in [
        ("max timestamp", 35, *timestamps.end()),
        ("record timestamp", HEADER_SIZE as u64, *timestamps.start()),
    ] {
        // Below 0 is Kafka's "no timestamp": nothing to compare.
        if timestamp >= 0
            && (earliest.is_some_and(|earliest| timestamp < earliest)
                || latest.is_some_and(|latest| timestamp > latest))
        {
            let from = earliest.map_or_else(|| "any time".to_owned(), |at| at.to_string());
            let to = latest.map_or_else(|| "any time".to_owned(), |at| at.to_string());
            let malformed = Malformed::new(field, byte, format!("{from} to {to}"), timestamp);
            return Err(Rejection::InvalidTimestamp(malformed));
        }
    }
    Ok(())
}
