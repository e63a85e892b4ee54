use super::*;
use crate::format::batch::RawBatch;
use crate::format::record::Records;
use crate::types::Sequence;

fn marker(kind: ControlKind) -> EndTxnMarker {
    EndTxnMarker {
        producer: ProducerId(4009),
        epoch: ProducerEpoch(3),
        kind,
        coordinator_epoch: CoordinatorEpoch(5),
        timestamp: 1000,
    }
}

fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
    Record { attributes: 0, timestamp_delta: 0, offset_delta: 0, key, value, headers: vec![] }
}

fn refused(key: Option<&[u8]>, value: Option<&[u8]>) -> (&'static str, u64) {
    let error = ControlRecord::parse(&record(key, value)).unwrap_err();
    (error.field, error.at)
}

const ABORT: &[u8] = &[0, 0, 0, 0];
const COMMIT: &[u8] = &[0, 0, 0, 1];

/// Kafka: `DefaultRecordBatchTest.testReadAndWriteControlBatch`, `EndTransactionMarkerTest`.
#[test]
fn an_end_marker_has_the_bytes_that_kafka_writes() {
    let bytes = marker(ControlKind::Commit).to_batch();
    assert_eq!(bytes.len(), MARKER_SIZE);
    #[rustfmt::skip]
    let expected = [0x20, 0, 0, 0, 8, 0, 0, 0, 1, 12, 0, 0, 0, 0, 0, 5, 0];
    assert_eq!(bytes[HEADER_SIZE..], expected);
    let batch = RawBatch(bytes).check().unwrap();
    let header = *batch.header();
    assert!(header.attributes.is_control() && header.attributes.is_transactional());
    assert_eq!(
        (header.producer(), header.sequences()),
        (Some((ProducerId(4009), ProducerEpoch(3))), None::<(Sequence, Sequence)>)
    );
    assert_eq!((header.base_timestamp, header.max_timestamp, header.record_count), (1000, 1000, 1));
    assert_eq!((header.base_offset, header.leader_epoch), (Offset::ZERO, LeaderEpoch::NONE));
}

#[test]
fn an_end_marker_reads_back_as_what_it_was_made_of() {
    for kind in [ControlKind::Abort, ControlKind::Commit] {
        let batch = RawBatch(marker(kind).to_batch()).check().unwrap();
        let record = Records::new(batch.payload(), 1).next().unwrap().unwrap();
        let expected = ControlRecord { kind, version: 0, coordinator_epoch: CoordinatorEpoch(5) };
        assert_eq!(ControlRecord::parse(&record), Ok(expected));
    }
}

/// Kafka: `ControlRecordTypeTest.testParseUnknownType`, `testParseUnknownVersion`.
#[test]
fn other_types_are_passed_over_whatever_their_value() {
    let leader_change = ControlRecord::parse(&record(Some(&[0, 0, 0, 2]), None)).unwrap();
    assert_eq!(
        (leader_change.kind, leader_change.coordinator_epoch),
        (ControlKind::Other(2), CoordinatorEpoch::NONE)
    );
    let unknown = ControlRecord::parse(&record(Some(&[0, 0, 0xff, 0xff]), Some(b"x"))).unwrap();
    assert_eq!(unknown.kind, ControlKind::Other(-1));
}

#[test]
fn later_versions_and_longer_fields_are_read_as_the_first() {
    let key = [0, 9, 0, 1, 7, 7, 7];
    let value = [0, 9, 0, 0, 0, 5, 7];
    let expected =
        ControlRecord { kind: ControlKind::Commit, version: 9, coordinator_epoch: CoordinatorEpoch(5) };
    assert_eq!(ControlRecord::parse(&record(Some(&key), Some(&value))), Ok(expected));
}

/// Kafka: `EndTransactionMarkerTest.testIllegalNegativeVersion`, `testNotEnoughBytes`.
#[test]
fn a_control_record_that_is_short_absent_or_negative_is_refused() {
    assert_eq!(refused(None, None), ("control key", 0));
    assert_eq!(refused(Some(&[0, 0, 0]), None), ("control type", 2));
    assert_eq!(refused(Some(&[0xff, 0xff, 0, 1]), None), ("control key version", 0));
    assert_eq!(refused(Some(COMMIT), None), ("control value", 0));
    assert_eq!(refused(Some(ABORT), Some(&[0, 0, 0, 0, 5])), ("coordinator epoch", 2));
    assert_eq!(refused(Some(ABORT), Some(&[0xff, 0xff, 0, 0, 0, 5])), ("control value version", 0));
}
