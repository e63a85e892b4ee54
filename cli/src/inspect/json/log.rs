//! Batches and records, in the words of Kafka's `DumpLogSegments`.

use oncelog::format::batch::{BatchHeader, TimestampType, crc32c};
use oncelog::format::control::{ControlKind, ControlRecord};
use oncelog::format::record;
use oncelog::types::{Position, Sequence};
use serde::Serialize;

use super::{Damage, hex};

/// Keys and header values up to this length are shown, longer ones by their CRC-32C.
const SHOWN_KEY: usize = 64;
/// The same for values.
const SHOWN_VALUE: usize = 24;

/// A `.log` file with its indexes.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Segment {
    pub(in crate::inspect) base_offset: i64,
    pub(in crate::inspect) log: String,
    pub(in crate::inspect) size: u64,
    /// Where the unbroken run of valid batches ends.
    pub(in crate::inspect) valid_bytes: u64,
    /// `[offset, position]`; left out if there is no `.index`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) index: Option<Vec<(i64, u64)>>,
    /// `[timestamp, offset]`; left out if there is no `.timeindex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) timeindex: Option<Vec<(i64, i64)>>,
    pub(in crate::inspect) batches: Vec<Batch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::inspect) damage: Vec<Damage>,
}

/// The header of a batch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::inspect) struct Batch {
    pub(in crate::inspect) base_offset: i64,
    pub(in crate::inspect) last_offset: i64,
    pub(in crate::inspect) count: i32,
    pub(in crate::inspect) base_sequence: i32,
    pub(in crate::inspect) last_sequence: i32,
    pub(in crate::inspect) producer_id: i64,
    pub(in crate::inspect) producer_epoch: i16,
    pub(in crate::inspect) partition_leader_epoch: i32,
    pub(in crate::inspect) is_transactional: bool,
    pub(in crate::inspect) is_control: bool,
    pub(in crate::inspect) delete_horizon_ms: Option<i64>,
    pub(in crate::inspect) position: u64,
    // Kafka names the largest timestamp after who gave it.
    #[serde(rename = "CreateTime", skip_serializing_if = "Option::is_none")]
    create_time: Option<i64>,
    #[serde(rename = "LogAppendTime", skip_serializing_if = "Option::is_none")]
    log_append_time: Option<i64>,
    pub(in crate::inspect) size: usize,
    pub(in crate::inspect) magic: i8,
    pub(in crate::inspect) compresscodec: &'static str,
    pub(in crate::inspect) crc: u32,
    pub(in crate::inspect) isvalid: bool,
    #[serde(rename = "base_timestamp_raw")]
    base_timestamp_raw: i64,
    timestamp_type: &'static str,
    #[serde(rename = "records_sampled", skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::inspect) records_sampled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) records: Option<Vec<Record>>,
    /// Why the records cannot be shown.
    #[serde(rename = "records_error", skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) records_error: Option<String>,
}

impl Batch {
    pub(in crate::inspect) fn of(position: Position, header: &BatchHeader, isvalid: bool) -> Self {
        let timestamp_type = header.attributes.timestamp_type();
        let largest = |wanted| (timestamp_type == wanted).then_some(header.max_timestamp);
        Self {
            base_offset: header.base_offset.0,
            last_offset: header.last_offset().0,
            count: header.record_count,
            base_sequence: header.base_sequence,
            last_sequence: header.sequences().map_or(-1, |(_, last)| last.value()),
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            partition_leader_epoch: header.leader_epoch.0,
            is_transactional: header.attributes.is_transactional(),
            is_control: header.attributes.is_control(),
            delete_horizon_ms: header.attributes.has_delete_horizon().then_some(header.base_timestamp),
            position: position.0,
            create_time: largest(TimestampType::CreateTime),
            log_append_time: largest(TimestampType::LogAppendTime),
            size: header.size(),
            magic: header.magic,
            compresscodec: codec_name(header.attributes.codec()),
            crc: header.crc,
            isvalid,
            base_timestamp_raw: header.base_timestamp,
            timestamp_type: match timestamp_type {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            },
            records_sampled: false,
            records: None,
            records_error: None,
        }
    }

    /// The largest timestamp, whoever gave it.
    pub(in crate::inspect) fn max_timestamp(&self) -> i64 {
        self.create_time.or(self.log_append_time).unwrap_or(-1)
    }
}

/// The name that Kafka gives to a codec number.
pub(in crate::inspect) fn codec_name(codec: u8) -> &'static str {
    match codec {
        0 => "none",
        1 => "gzip",
        2 => "snappy",
        3 => "lz4",
        4 => "zstd",
        _ => "unknown",
    }
}

/// A record. Long keys and values are shown by their CRC-32C.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Record {
    pub(in crate::inspect) offset: i64,
    pub(in crate::inspect) timestamp: i64,
    pub(in crate::inspect) sequence: i32,
    pub(in crate::inspect) size: usize,
    /// -1: no key.
    pub(in crate::inspect) key_len: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) key_crc32c: Option<u32>,
    /// -1: no value.
    pub(in crate::inspect) value_len: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) value_crc32c: Option<u32>,
    pub(in crate::inspect) header_count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::inspect) headers: Vec<(String, Option<String>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) control_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::inspect) coordinator_epoch: Option<i32>,
}

impl Record {
    pub(in crate::inspect) fn of(header: &BatchHeader, record: &record::Record<'_>, size: usize) -> Self {
        let first = Sequence::new(header.base_sequence);
        let sequence = first.map(|first| first.wrapping_add(record.offset_delta.unsigned_abs()));
        let (key_len, key, key_crc32c) = shown(record.key, SHOWN_KEY);
        let (value_len, value, value_crc32c) = shown(record.value, SHOWN_VALUE);
        let control = header.attributes.is_control().then(|| ControlRecord::parse(record).ok()).flatten();
        Self {
            offset: record.offset(header).0,
            timestamp: record.timestamp(header),
            sequence: sequence.map_or(-1, Sequence::value),
            size,
            key_len,
            key,
            key_crc32c,
            value_len,
            value,
            value_crc32c,
            header_count: record.headers.len(),
            headers: record.headers.iter().map(header_pair).collect(),
            control_type: control.map(|control| control_name(control.kind)),
            coordinator_epoch: control
                .filter(|control| !matches!(control.kind, ControlKind::Other(_)))
                .map(|control| control.coordinator_epoch.0),
        }
    }
}

fn header_pair(header: &record::RecordHeader<'_>) -> (String, Option<String>) {
    let value = header.value.map(|value| match shown(Some(value), SHOWN_KEY) {
        (_, Some(text), _) => text,
        (_, None, crc) => format!("crc32c:{}", crc.unwrap_or_default()),
    });
    (header.key.to_owned(), value)
}

fn control_name(kind: ControlKind) -> String {
    match kind {
        ControlKind::Abort => "ABORT".to_owned(),
        ControlKind::Commit => "COMMIT".to_owned(),
        ControlKind::Other(number) => format!("UNKNOWN({number})"),
    }
}

/// Length (-1: none), the bytes if they are short, else their CRC.
fn shown(bytes: Option<&[u8]>, most: usize) -> (i64, Option<String>, Option<u32>) {
    let Some(bytes) = bytes else { return (-1, None, None) };
    let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    if bytes.len() <= most { (len, Some(hex(bytes)), None) } else { (len, None, Some(crc32c(bytes))) }
}
