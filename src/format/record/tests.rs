use proptest::prelude::*;

use super::*;
use crate::format::cursor::put_varlong;

/// Key "a", no value, deltas 0, no headers: the example of the module's documentation.
const SMALL: [u8; 8] = [0x0e, 0, 0, 0, 2, b'a', 1, 0];

fn with_delta(offset_delta: u8) -> [u8; 8] {
    let mut record = SMALL;
    record[3] = offset_delta * 2;
    record
}

/// The body of a record behind its own length, which may be wrong by `off`.
fn framed(body: &[u8], off: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varlong(&mut out, i64::try_from(body.len()).unwrap() + off);
    out.extend_from_slice(body);
    out
}

/// What both readers say of one record: they must agree.
fn refused(payload: &[u8]) -> (&'static str, u64) {
    let read = parse_record(&mut Cursor::new(payload)).unwrap_err();
    let validated = validate_records(payload, 1).unwrap_err();
    assert_eq!(read, validated);
    (read.field, read.at)
}

#[test]
fn a_record_has_the_bytes_that_kafka_writes() {
    let mut c = Cursor::new(&SMALL);
    let record = parse_record(&mut c).unwrap();
    let expected = Record {
        attributes: 0,
        timestamp_delta: 0,
        offset_delta: 0,
        key: Some(b"a"),
        value: None,
        headers: vec![],
    };
    assert_eq!(record, expected);
    assert_eq!(c.remaining(), 0);
    assert_eq!(SMALLEST_RECORD, SMALL.len() - 1, "without the byte of the key");
}

#[test]
fn negative_timestamp_deltas_and_unknown_attributes_are_kept() {
    let body = [0x55, 3, 0, 1, 1, 0];
    let payload = framed(&body, 0);
    let record = parse_record(&mut Cursor::new(&payload)).unwrap();
    assert_eq!((record.attributes, record.timestamp_delta), (0x55, -2));
    let summary = validate_records(&payload, 1).unwrap();
    assert_eq!((summary.min_timestamp_delta, summary.max_timestamp_delta), (-2, -2));
}

/// Kafka: `DefaultRecordBatchTest.testInvalidRecordSize`, `DefaultRecordTest.testBasicSerdeInvalidHeaderCountTooHigh`
/// and its relatives.
#[test]
fn a_record_that_is_not_as_long_as_it_says_is_refused() {
    let body = &SMALL[1..];
    assert_eq!(refused(&framed(&[body, &[0]].concat(), 0)), ("record length", 8));
    assert_eq!(refused(&framed(body, 1)), ("record", 1));
    assert_eq!(refused(&framed(body, -1)), ("header count", 7));
    assert_eq!(refused(&[1]), ("record length", 0));
    assert_eq!(refused(&[]), ("record length", 0));
    for len in 1..SMALL.len() {
        assert_eq!(refused(&SMALL[..len]), ("record", 1), "{len} bytes");
    }
}

#[test]
fn a_field_cannot_reach_into_the_next_record() {
    let mut payload = [SMALL, with_delta(1)].concat();
    payload[4] = 10;
    assert_eq!(validate_records(&payload, 2).unwrap_err().field, "record key");
    let first = Records::new(&payload, 2).next().unwrap().unwrap_err();
    assert_eq!((first.field, first.at, first.found.as_str()), ("record key", 5, "3 left"));
}

#[test]
fn lengths_below_minus_one_are_refused() {
    assert_eq!(refused(&framed(&[0, 0, 0, 3, 1, 0], 0)), ("record key", 4));
    assert_eq!(refused(&framed(&[0, 0, 0, 1, 3, 0], 0)), ("record value", 5));
    assert_eq!(refused(&framed(&[0, 0, 0, 1, 1, 1], 0)), ("header count", 6));
    assert_eq!(
        parse_record(&mut Cursor::new(&framed(&[0, 0, 1, 1, 1, 0], 0))).unwrap_err().field,
        "offset delta"
    );
}

#[test]
fn a_header_key_is_there_and_is_text() {
    let headers = |bytes: &[u8]| framed(&[&[0, 0, 0, 1, 1, 2], bytes].concat(), 0);
    assert_eq!(refused(&headers(&[1, 1])), ("header key length", 7));
    assert_eq!(refused(&headers(&[4, b'a', 0xff, 1])), ("header key", 9));
    assert_eq!(refused(&headers(&[0, 3])), ("header value", 8));
    let payload = headers(&[0, 0]);
    let record = parse_record(&mut Cursor::new(&payload)).unwrap();
    assert_eq!(record.headers, [RecordHeader { key: "", value: Some(b"") }]);
}

#[test]
fn a_count_of_headers_that_the_bytes_do_not_back_allocates_nothing() {
    let mut body = vec![0, 0, 0, 1, 1];
    put_varlong(&mut body, i64::from(i32::MAX));
    body.extend_from_slice(&[0, 1]);
    assert_eq!(refused(&framed(&body, 0)), ("header count", 6));
}

/// Kafka: `DefaultRecordBatchTest.testInvalidRecordCountTooManyNonCompressedV2`.
#[test]
fn fewer_records_than_stated_are_refused() {
    assert_eq!(validate_records(&SMALL, 2).unwrap_err().field, "record length");
    let items: Vec<_> = Records::new(&SMALL, 2).collect();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1].as_ref().unwrap_err().at, 8);
}

/// Kafka: `DefaultRecordBatchTest.testInvalidRecordCountTooLittleNonCompressedV2`.
#[test]
fn more_bytes_than_the_stated_records_are_refused() {
    let payload = [SMALL, with_delta(1)].concat();
    let error = validate_records(&payload, 1).unwrap_err();
    assert_eq!((error.field, error.at, error.found.as_str()), ("record count", 8, "8 more bytes"));
    let items: Vec<_> = Records::new(&payload, 1).collect();
    assert_eq!(items.len(), 2);
    assert_eq!(items[1], Err(error));
}

#[test]
fn after_an_error_there_are_no_more_records() {
    let mut payload = [SMALL, with_delta(1), with_delta(2)].concat();
    payload[8] = 1;
    let mut records = Records::new(&payload, 3);
    assert!(records.next().unwrap().is_ok());
    assert_eq!(records.next().unwrap().unwrap_err().field, "record length");
    assert_eq!(records.next(), None);
    assert_eq!(records.size_hint(), (0, None));
}

#[test]
fn no_records_are_no_bytes() {
    assert_eq!(Records::new(&[], 0).next(), None);
    let nothing = RecordSummary { min_timestamp_delta: 0, max_timestamp_delta: 0, first_without_key: None };
    assert_eq!(validate_records(&[], 0), Ok(nothing));
    assert_eq!(validate_records(&[], -1).unwrap_err().field, "record count");
    assert_eq!(Records::new(&SMALL, -1).next().unwrap().unwrap_err().field, "record count");
}

/// Kafka: `LogValidatorTest.testValidationOfBatchesWithNonSequentialInnerOffsets`.
#[test]
fn offset_deltas_of_an_append_count_from_zero() {
    let error = validate_records(&[SMALL, with_delta(2)].concat(), 2).unwrap_err();
    assert_eq!((error.field, error.at), ("offset delta", 11));
    assert_eq!((error.expected.as_str(), error.found.as_str()), ("1", "2"));
    assert_eq!(validate_records(&with_delta(1), 1).unwrap_err().expected, "0");
    let with_gap: Result<Vec<_>, _> = Records::new(&[SMALL, with_delta(2)].concat(), 2)
        .map(|record| record.map(|record| record.offset_delta))
        .collect();
    assert_eq!(with_gap, Ok(vec![0, 2]), "compaction leaves gaps");
}

/// Kafka: `LogValidatorTest.checkNoKeyCompactedTopic` asks for the record without a key.
#[test]
fn the_summary_tells_the_first_record_without_a_key_and_the_range_of_timestamps() {
    let record = |timestamp: u8, offset: u8, key: &[u8]| {
        framed(&[&[0, timestamp, offset * 2], key, &[1, 0]].concat(), 0)
    };
    let payload = [record(8, 0, &[0]), record(3, 1, &[1]), record(20, 2, &[1])].concat();
    let summary = validate_records(&payload, 3).unwrap();
    assert_eq!(summary.first_without_key, Some(1));
    assert_eq!((summary.min_timestamp_delta, summary.max_timestamp_delta), (-2, 10));
    assert_eq!(
        validate_records(&record(8, 0, &[0]), 1).unwrap().first_without_key,
        None,
        "an empty key is a key"
    );
}

proptest! {
    /// The fast pass and the full reader are two programs for one rule.
    #[test]
    fn both_readers_agree_on_bytes_of_any_kind(
        bodies in proptest::collection::vec(proptest::collection::vec(0u8..8, 0..12), 0..5),
        count in -1..6i32,
    ) {
        let payload: Vec<u8> = bodies.iter().flat_map(|body| framed(body, 0)).collect();
        let read: Result<Vec<_>, _> = Records::new(&payload, count).collect();
        let validated = validate_records(&payload, count);
        match read {
            Ok(records) => {
                let consecutive = records.iter().zip(0..).all(|(record, delta)| record.offset_delta == delta);
                prop_assert_eq!(validated.is_ok(), consecutive && count >= 0);
            }
            Err(_) => prop_assert!(validated.is_err()),
        }
    }

    #[test]
    fn bytes_of_any_kind_never_make_a_reader_panic(payload in proptest::collection::vec(any::<u8>(), 0..100), count: i32) {
        let _ = validate_records(&payload, count);
        let _ = Records::new(&payload, count).count();
    }
}
