//! What a fetch of a log shows, compared with what Kafka's tools show of its files.

use bytes::Bytes;
use oncelog::format::batch::crc32c;
use oncelog::{FetchedBatch, Isolation, Log, OwnedRecord};
use serde_json::Value;

use crate::fixture::{Fixture, int};

/// Every batch below the high watermark, by fetches of `max_bytes`.
pub(crate) fn fetch_all(log: &Log, max_bytes: usize) -> Vec<FetchedBatch> {
    let mut batches: Vec<FetchedBatch> = Vec::new();
    let mut from = log.log_start_offset();
    loop {
        let fetched = log.fetch(from, max_bytes, Isolation::HighWatermark).unwrap();
        if fetched.is_empty() {
            return batches;
        }
        batches.extend(fetched.batches().unwrap().map(Result::unwrap));
        from = batches.last().unwrap().header.next_offset();
    }
}

/// Compares all that can be fetched with what `DumpLogSegments` printed.
pub(crate) fn check_batches(fixture: &Fixture, log: &Log, max_bytes: usize) {
    let found = fetch_all(log, max_bytes);
    let expected: Vec<&Value> = fixture
        .batches()
        .into_iter()
        .filter(|batch| int(batch, "lastOffset") >= fixture.log_start())
        .collect();
    let offsets = |batches: &[FetchedBatch]| -> Vec<i64> {
        batches.iter().map(|batch| batch.header.base_offset.0).collect()
    };
    let expected_offsets: Vec<i64> = expected.iter().map(|batch| int(batch, "baseOffset")).collect();
    assert_eq!(offsets(&found), expected_offsets, "fetched {max_bytes} bytes at a time");
    for (found, expected) in found.iter().zip(expected) {
        check_header(found, expected);
        let records = fixture.records_of(expected);
        let opened = found.records().unwrap();
        assert_eq!(opened.len(), records.len(), "records of {expected}");
        for (opened, record) in opened.iter().zip(records) {
            check_record(opened, record);
        }
    }
}

pub(crate) fn check_header(found: &FetchedBatch, expected: &Value) {
    let header = &found.header;
    let numbers = [
        ("baseOffset", header.base_offset.0),
        ("lastOffset", header.last_offset().0),
        ("count", i64::from(header.record_count)),
        ("baseSequence", i64::from(header.base_sequence)),
        ("producerId", header.producer_id),
        ("producerEpoch", i64::from(header.producer_epoch)),
        ("partitionLeaderEpoch", i64::from(header.leader_epoch.0)),
        ("position", i64::try_from(found.position.0).unwrap()),
        ("CreateTime", header.max_timestamp),
        ("size", i64::try_from(found.bytes.len()).unwrap()),
        ("magic", i64::from(header.magic)),
        ("crc", i64::from(header.crc)),
        ("base_timestamp_raw", header.base_timestamp),
    ];
    for (name, value) in numbers {
        assert_eq!(value, int(expected, name), "{name} of {expected}");
    }
    let attributes = header.attributes;
    assert_eq!(attributes.is_transactional(), expected["isTransactional"].as_bool().unwrap());
    assert_eq!(attributes.is_control(), expected["isControl"].as_bool().unwrap());
    assert_eq!(attributes.has_delete_horizon(), !expected["deleteHorizonMs"].is_null());
    let codec = ["none", "gzip", "snappy", "lz4", "zstd"][usize::from(attributes.codec())];
    assert_eq!(codec, expected["compresscodec"].as_str().unwrap());
}

pub(crate) fn check_record(found: &OwnedRecord, expected: &Value) {
    assert_eq!(found.offset.0, int(expected, "offset"));
    assert_eq!(found.timestamp, int(expected, "timestamp"), "timestamp of {expected}");
    check_bytes(found.key.as_ref(), "key", expected);
    check_bytes(found.value.as_ref(), "value", expected);
    assert_eq!(i64::try_from(found.headers.len()).unwrap(), int(expected, "header_count"));
    for ((name, value), header) in
        found.headers.iter().zip(expected["headers"].as_array().into_iter().flatten())
    {
        assert_eq!(Some(name.as_str()), header[0].as_str());
        assert_eq!(value.as_ref().map(|value| hex(value)).as_deref(), header[1].as_str());
    }
}

/// Length, and either the bytes or their checksum.
pub(crate) fn check_bytes(found: Option<&Bytes>, name: &str, expected: &Value) {
    let len = found.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap());
    assert_eq!(len, int(expected, &format!("{name}_len")), "length of the {name} of {expected}");
    let Some(bytes) = found else { return };
    match expected.get(format!("{name}_crc32c")) {
        Some(crc) => assert_eq!(Some(i64::from(crc32c(bytes))), crc.as_i64(), "{name} of {expected}"),
        None => assert_eq!(Some(hex(bytes).as_str()), expected[name].as_str(), "{name} of {expected}"),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
