//! Directories that Apache Kafka 4.3.1 wrote, opened as logs: every offset, batch, record and producer is what Kafka
//! says it is, every retry of a stored batch is recognised, also where Kafka itself has forgotten it, and the log goes
//! on from there.
//!
//! What Kafka says stands in `tests/fixtures/kafka-4.3.1/*.expected.json`; nothing in it was computed by this crate.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

#[path = "support/fixture.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fixture::{Fixture, as_sent, int};
use oncelog::format::batch::crc32c;
use oncelog::format::names::snapshot_name;
use oncelog::recovery::RecoveryKind;
use oncelog::{
    Appended, BatchBuilder, Durability, Error, FetchedBatch, Isolation, Log, Offset, Outcome, OwnedRecord,
    ProducerEpoch, ProducerId, RawBatch, Rejection, Sequence,
};
use serde_json::Value;

// Reading.

/// Every batch below the high watermark, by fetches of `max_bytes`.
fn fetch_all(log: &Log, max_bytes: usize) -> Vec<FetchedBatch> {
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
fn check_batches(fixture: &Fixture, log: &Log, max_bytes: usize) {
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

fn check_header(found: &FetchedBatch, expected: &Value) {
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

fn check_record(found: &OwnedRecord, expected: &Value) {
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
fn check_bytes(found: Option<&Bytes>, name: &str, expected: &Value) {
    let len = found.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap());
    assert_eq!(len, int(expected, &format!("{name}_len")), "length of the {name} of {expected}");
    let Some(bytes) = found else { return };
    match expected.get(format!("{name}_crc32c")) {
        Some(crc) => assert_eq!(Some(i64::from(crc32c(bytes))), crc.as_i64(), "{name} of {expected}"),
        None => assert_eq!(Some(hex(bytes).as_str()), expected[name].as_str(), "{name} of {expected}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// Producers and their retries.

/// A data batch of an idempotent producer, as its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    epoch: i16,
    first: i32,
    last: i32,
    offset: i64,
    last_offset: i64,
    timestamp: i64,
    /// It is all there, in no transaction and not marked by the cleaner, so that its bytes can be sent again.
    whole: bool,
}

/// The data batches of each producer, oldest first.
fn stored_batches(fixture: &Fixture) -> BTreeMap<i64, Vec<Stored>> {
    let mut producers: BTreeMap<i64, Vec<Stored>> = BTreeMap::new();
    for batch in fixture.batches() {
        let (first, last) = (int(batch, "baseSequence"), int(batch, "lastSequence"));
        if first < 0 {
            continue;
        }
        let span = int(batch, "lastOffset") - int(batch, "baseOffset") + 1;
        producers.entry(int(batch, "producerId")).or_default().push(Stored {
            epoch: int(batch, "producerEpoch").try_into().unwrap(),
            first: first.try_into().unwrap(),
            last: last.try_into().unwrap(),
            offset: int(batch, "baseOffset"),
            last_offset: int(batch, "lastOffset"),
            timestamp: int(batch, "CreateTime"),
            whole: int(batch, "count") == span
                && int(batch, "baseOffset") >= fixture.log_start()
                && batch["isTransactional"] == Value::Bool(false)
                && batch["deleteHorizonMs"].is_null(),
        });
    }
    producers
}

/// What the answer to a retry must be, told from the headers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Duplicate,
    BeyondWindow,
    Unknown,
    Fenced,
}

/// The answers to retries of a producer's batches: the newest five that follow one another are the window, older ones
/// that lead up to it without a gap are proven, and what lies before a gap is neither.
fn answers(batches: &[Stored], epoch: i16) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut follows: Option<i32> = None;
    let mut in_window = 0;
    let mut broken = false;
    for batch in batches.iter().rev() {
        if batch.epoch < epoch {
            answers.push(Answer::Fenced);
            continue;
        }
        broken |= follows.is_some_and(|first| batch.last + 1 != first);
        follows = Some(batch.first);
        answers.push(match (broken, in_window) {
            (true, _) => Answer::Unknown,
            (false, 0..5) => Answer::Duplicate,
            (false, _) => Answer::BeyondWindow,
        });
        in_window += 1;
    }
    answers.reverse();
    answers
}

/// Sends a stored batch again: its own bytes where they are whole, otherwise another batch of the same sequences.
fn retry(log: &Log, producer: i64, stored: &Stored) -> Result<Appended, Error> {
    let bytes = if stored.whole {
        let fetched = log.fetch(Offset(stored.offset), 1, Isolation::HighWatermark).unwrap();
        let batch = fetched.batches().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.header.base_offset, Offset(stored.offset));
        as_sent(&batch.bytes)
    } else {
        batch_of(producer, stored.epoch, stored.first, stored.last - stored.first + 1)
    };
    log.append(RawBatch(bytes), Durability::Durable)
}

fn batch_of(producer: i64, epoch: i16, first: i32, records: i32) -> Bytes {
    let sequence = Sequence::new(first).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    (0..records).fold(builder, |builder, _| builder.record(Some(b"k"), Some(b"v"))).build().unwrap()
}

fn duplicate(stored: &Stored) -> Appended {
    Appended {
        outcome: Outcome::Duplicate,
        base_offset: Some(Offset(stored.offset)),
        last_offset: Offset(stored.last_offset),
        timestamp: stored.timestamp,
    }
}

/// Retries every stored batch whose bytes are there, and a synthetic one for those that compaction has thinned out.
fn check_retries(fixture: &Fixture, log: &Log) {
    let end = log.log_end_offset();
    for (producer, batches) in stored_batches(fixture) {
        let epoch = log.producer(ProducerId(producer)).unwrap().unwrap().epoch.0;
        for (stored, expected) in batches.iter().zip(answers(&batches, epoch)) {
            let found = retry(log, producer, stored);
            let context = format!("retry of {stored:?} of producer {producer}");
            match expected {
                Answer::Duplicate => assert_eq!(found.unwrap(), duplicate(stored), "{context}"),
                Answer::BeyondWindow => {
                    let found = found.unwrap();
                    assert_eq!(found.outcome, Outcome::DuplicateBeyondWindow, "{context}");
                    assert_eq!(found.base_offset, None, "{context}");
                }
                Answer::Unknown => match found.unwrap_err() {
                    Error::Rejected(Rejection::SequenceUnknown { found, .. }) => {
                        assert_eq!(found.value(), stored.first, "{context}");
                    }
                    other => panic!("{context}: {other}"),
                },
                Answer::Fenced => match found.unwrap_err() {
                    Error::Rejected(Rejection::Fenced { current, found, .. }) => {
                        assert_eq!((current.0, found.0), (epoch, stored.epoch), "{context}");
                    }
                    other => panic!("{context}: {other}"),
                },
            }
        }
    }
    check_against_the_broker(fixture, log);
    assert_eq!(log.log_end_offset(), end, "no retry was written");
}

/// Whatever the broker recognised as a duplicate before it stopped is one here too.
fn check_against_the_broker(fixture: &Fixture, log: &Log) {
    for said in fixture.expected["live"]["retries"].as_array().into_iter().flatten() {
        if said["answer"] != "NONE" {
            continue;
        }
        let fetched =
            log.fetch(Offset(int(said, "original_base_offset")), 1, Isolation::HighWatermark).unwrap();
        let batch = fetched.batches().unwrap().next().unwrap().unwrap();
        let found = log.append(RawBatch(as_sent(&batch.bytes)), Durability::Durable).unwrap();
        assert_eq!(found.outcome, Outcome::Duplicate, "{said}");
        assert_eq!(found.base_offset, Some(Offset(int(said, "answer_base_offset"))), "{said}");
    }
}

/// Epoch and last sequence of every producer that the reopened broker knows.
fn check_producers(fixture: &Fixture, log: &Log) {
    for expected in fixture.kafka()["producers"].as_array().unwrap() {
        let entry = log.producer(ProducerId(int(expected, "producerId"))).unwrap();
        let entry = entry.unwrap_or_else(|| panic!("{expected} is not known"));
        let last = entry.newest().map_or(-1, |batch| i64::from(batch.last_sequence.value()));
        assert_eq!(i64::from(entry.epoch.0), int(expected, "producerEpoch"), "{expected}");
        assert_eq!(last, int(expected, "lastSequence"), "{expected}");
        assert_eq!(i64::from(entry.coordinator_epoch.0), int(expected, "coordinatorEpoch"), "{expected}");
        let open = entry.txn_first_offset.map(|offset| offset.0);
        assert_eq!(open, expected["currentTxnFirstOffset"].as_i64(), "{expected}");
    }
}

/// Nobody else is known: the `.snapshot` that a close writes names these producers and no others.
fn check_snapshot_names(fixture: &Fixture, end: Offset, more: &[i64]) {
    let bytes = fixture.read(&snapshot_name(end));
    let entries = oncelog::format::snapshot::parse(&bytes).unwrap();
    let found: BTreeSet<i64> = entries.iter().map(|entry| entry.producer.0).collect();
    let producers = fixture.kafka()["producers"].as_array().unwrap();
    let expected: BTreeSet<i64> =
        producers.iter().map(|producer| int(producer, "producerId")).chain(more.iter().copied()).collect();
    assert_eq!(found, expected);
}

fn check_all(fixture: &Fixture, log: &Log) {
    assert_eq!(log.log_start_offset(), Offset(fixture.log_start()));
    check_batches(fixture, log, 1);
    check_batches(fixture, log, 1 << 20);
    check_producers(fixture, log);
    check_retries(fixture, log);
}

/// Opens a fixture, compares all of it, kills the log, opens, appends, closes, opens again.
fn check_fixture(name: &str, kind: RecoveryKind) {
    const NEWCOMER: i64 = 9_000_000;
    let fixture = Fixture::unpack(name);
    let (log, report) = fixture.open();
    assert_eq!(report.kind, kind, "{report}");
    assert_eq!(report.log_end_offset, Offset(fixture.log_end()), "{report}");
    assert_eq!(report.log_start_offset, Offset(fixture.log_start()), "{report}");
    assert_eq!(log.log_end_offset(), Offset(fixture.log_end()));
    assert_eq!(log.high_watermark(), log.log_end_offset());
    check_all(&fixture, &log);
    drop(log);

    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Unclean, "{report}");
    assert_eq!(report.cuts, [], "what is cut is cut once");
    assert_eq!(log.log_end_offset(), Offset(fixture.log_end()));
    check_all(&fixture, &log);
    log.close().unwrap();
    check_snapshot_names(&fixture, Offset(fixture.log_end()), &[]);

    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
    check_all(&fixture, &log);
    let end = fixture.log_end();
    let first = batch_of(NEWCOMER, 0, 0, 3);
    let appended = log.append(RawBatch(first.clone()), Durability::Durable).unwrap();
    assert_eq!((appended.outcome, appended.base_offset), (Outcome::Appended, Some(Offset(end))));
    log.close().unwrap();
    check_snapshot_names(&fixture, Offset(end + 3), &[NEWCOMER]);

    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
    assert_eq!(log.log_end_offset(), Offset(end + 3));
    check_producers(&fixture, &log);
    check_retries(&fixture, &log);
    let again = log.append(RawBatch(first), Durability::Durable).unwrap();
    assert_eq!((again.outcome, again.base_offset), (Outcome::Duplicate, Some(Offset(end))));
    check_every_producer_goes_on(&fixture, &log);
}

/// The next sequence of every known producer is appended, one further on is a gap.
fn check_every_producer_goes_on(fixture: &Fixture, log: &Log) {
    for known in fixture.kafka()["producers"].as_array().unwrap() {
        let (id, last) = (int(known, "producerId"), i32::try_from(int(known, "lastSequence")).unwrap());
        let epoch = i16::try_from(int(known, "producerEpoch")).unwrap();
        let gap = log.append(RawBatch(batch_of(id, epoch, last + 2, 1)), Durability::Buffered);
        match gap.unwrap_err() {
            Error::Rejected(Rejection::OutOfOrder { expected, found, .. }) => {
                assert_eq!((expected.value(), found.value()), (last + 1, last + 2));
            }
            other => panic!("a gap of {known} was answered {other}"),
        }
        let next = log.append(RawBatch(batch_of(id, epoch, last + 1, 2)), Durability::Buffered).unwrap();
        assert_eq!(next.outcome, Outcome::Appended, "{known}");
        assert_eq!(next.last_offset.0 + 1, log.log_end_offset().0);
    }
}

// Fixtures without damage.

#[test]
fn a_log_without_idempotent_producers_in_all_codecs_is_what_kafka_says() {
    check_fixture("plain-clean", RecoveryKind::KafkaClean);
}

#[test]
fn a_cleanly_closed_log_of_idempotent_producers_is_what_kafka_says() {
    check_fixture("idempotent-clean", RecoveryKind::KafkaClean);
}

#[test]
fn a_log_that_lost_its_broker_to_a_kill_is_what_kafka_says() {
    check_fixture("idempotent-kill9", RecoveryKind::KafkaUnclean);
}

#[test]
fn a_compacted_log_with_emptied_batches_and_files_is_what_kafka_says() {
    check_fixture("compacted", RecoveryKind::KafkaClean);
}

#[test]
fn a_log_whose_prefix_was_deleted_is_what_kafka_says() {
    check_fixture("deleted-prefix", RecoveryKind::KafkaClean);
}

#[test]
fn a_producer_all_of_whose_batches_are_deleted_is_still_recognised() {
    let fixture = Fixture::unpack("deleted-prefix");
    let (log, _) = fixture.open();
    let append =
        |first, records| log.append(RawBatch(batch_of(4040, 0, first, records)), Durability::Durable);
    let known = append(4, 2).unwrap();
    assert_eq!((known.outcome, known.base_offset), (Outcome::Duplicate, Some(Offset(4))));
    match append(2, 2).unwrap_err() {
        Error::Rejected(Rejection::SequenceUnknown { found, expected, .. }) => {
            assert_eq!((found.value(), expected.value()), (2, 6));
        }
        other => panic!("{other}"),
    }
    assert_eq!(append(6, 1).unwrap().outcome, Outcome::Appended);
}

#[test]
fn offsets_below_the_deleted_prefix_are_out_of_range() {
    let fixture = Fixture::unpack("deleted-prefix");
    let (log, _) = fixture.open();
    for asked in [0, 76, 91, 217] {
        match log.fetch(Offset(asked), 1, Isolation::LogEnd).unwrap_err() {
            Error::OffsetOutOfRange { log_start_offset, log_end_offset, .. } => {
                assert_eq!((log_start_offset, log_end_offset), (Offset(92), Offset(216)));
            }
            other => panic!("{other}"),
        }
    }
    let first = log.fetch(Offset(92), 1, Isolation::HighWatermark).unwrap().records().unwrap();
    assert_eq!(first[0].offset, Offset(92), "records before the log start are not shown");
}

// Transactions.

/// Offsets as runs, and the XOR of the values' checksums, as the fixtures have them.
fn shown(records: &[OwnedRecord]) -> (Vec<[i64; 2]>, i64) {
    let mut runs: Vec<[i64; 2]> = Vec::new();
    let mut sum = 0;
    for record in records {
        match runs.last_mut().filter(|run| run[1] + 1 == record.offset.0) {
            Some(run) => run[1] = record.offset.0,
            None => runs.push([record.offset.0; 2]),
        }
        sum ^= record.value.as_ref().map_or(-1, |value| i64::from(crc32c(value)));
    }
    (runs, sum)
}

fn check_shown(fixture: &Fixture, log: &Log, isolation: Isolation, max_bytes: usize) {
    let key = if isolation == Isolation::ReadCommitted { "read_committed" } else { "read_uncommitted" };
    let expected = &fixture.kafka()[key];
    let (mut records, mut aborted) = (Vec::new(), Vec::new());
    let mut from = log.log_start_offset();
    loop {
        let fetched = log.fetch(from, max_bytes, isolation).unwrap();
        if fetched.is_empty() {
            break;
        }
        records.extend(fetched.records().unwrap());
        let told = fetched.aborted().iter();
        aborted.extend(told.map(|txn| (txn.last_offset.0, txn.producer.0, txn.first_offset.0)));
        from = fetched.batches().unwrap().last().unwrap().unwrap().header.next_offset();
    }
    assert_eq!(from.0, int(expected, "position"));
    let (runs, sum) = shown(&records);
    let runs_of_kafka: Vec<[i64; 2]> = expected["offsets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| [run[0].as_i64().unwrap(), run[1].as_i64().unwrap()])
        .collect();
    assert_eq!((runs, sum), (runs_of_kafka, int(expected, "value_crc32c_xor")), "{key}");
    if isolation == Isolation::ReadCommitted {
        aborted.sort_unstable();
        aborted.dedup();
        let expected = fixture.expected["aborted_txns"].as_array().unwrap().iter();
        let expected: Vec<_> = expected
            .filter(|txn| int(txn, "firstOffset") < from.0)
            .map(|txn| (int(txn, "lastOffset"), int(txn, "producerId"), int(txn, "firstOffset")))
            .collect();
        assert_eq!(aborted, expected);
    }
}

/// What is open, up to where readers of committed records see, and what they see.
fn check_transactions(fixture: &Fixture, log: &Log) {
    check_batches(fixture, log, 1 << 20);
    check_producers(fixture, log);
    let stable = int(fixture.kafka(), "last_stable_offset");
    assert_eq!(log.last_stable_offset(), Offset(stable));
    let open: BTreeMap<i64, i64> =
        log.open_transactions().iter().map(|txn| (txn.producer.0, txn.first_offset.0)).collect();
    let producers = fixture.kafka()["producers"].as_array().unwrap().iter();
    let expected: BTreeMap<i64, i64> = producers
        .filter_map(|known| Some((int(known, "producerId"), known["currentTxnFirstOffset"].as_i64()?)))
        .collect();
    assert_eq!(open, expected);
    for max_bytes in [1, 1 << 20] {
        check_shown(fixture, log, Isolation::HighWatermark, max_bytes);
        check_shown(fixture, log, Isolation::ReadCommitted, max_bytes);
    }
    check_against_the_broker(fixture, log);
}

#[test]
fn a_log_of_transactions_shows_what_kafka_shows() {
    let fixture = Fixture::unpack("txn-mixed");
    let indexes = || -> Vec<(String, Vec<u8>)> {
        let names = fixture.names().into_iter().filter(|name| name.ends_with(".txnindex"));
        names.map(|name| (name.clone(), fixture.read(&name))).collect()
    };
    let before = indexes();
    assert_eq!(before.iter().map(|(_, bytes)| bytes.len() / 34).sum::<usize>(), 17);
    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::KafkaClean, "{report}");
    check_transactions(&fixture, &log);
    drop(log);
    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Unclean, "{report}");
    check_transactions(&fixture, &log);
    log.close().unwrap();
    assert_eq!(indexes(), before, "Kafka's bytes are as they were");
    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
    check_transactions(&fixture, &log);
}

#[test]
fn what_kafka_aborted_is_found_again_without_its_files() {
    let fixture = Fixture::unpack("txn-mixed");
    let lost = fixture.names().into_iter().filter(|name| name.ends_with(".txnindex"));
    let lost: Vec<(String, Vec<u8>)> = lost.map(|name| (name.clone(), fixture.read(&name))).collect();
    for (name, _) in &lost {
        fixture.storage.unlink(&fixture.dir.join(name)).unwrap();
    }
    let (log, _) = fixture.open();
    check_transactions(&fixture, &log);
    log.close().unwrap();
    for (name, bytes) in &lost {
        assert_eq!(&fixture.read(name), bytes, "{name} has Kafka's bytes again");
    }
}

#[test]
fn a_transaction_that_kafka_left_open_is_ended_by_our_marker() {
    let fixture = Fixture::unpack("txn-mixed");
    let (log, _) = fixture.open();
    let hanging = log.open_transactions()[0];
    assert_eq!(hanging.first_offset, Offset(218));
    let coordinator_epoch = oncelog::CoordinatorEpoch(0);
    log.abort_transaction(&hanging, coordinator_epoch, Durability::Durable).unwrap();
    assert_eq!(log.last_stable_offset(), log.log_end_offset());
    assert_eq!(log.open_transactions(), []);
}

// Damaged ones.

/// What is cut: file, bytes, offset at which the log ends, valid batches among the bytes, whether they are kept aside.
type Cut = (&'static str, std::ops::Range<u64>, i64, u64, bool);

/// Checks the cuts of a damaged fixture, that the cut bytes are kept, and then all that is checked of sound ones.
fn check_damaged(name: &str, expected: &[Cut]) {
    let fixture = Fixture::unpack(name);
    let files: Vec<Vec<u8>> = expected.iter().map(|cut| fixture.read(cut.0)).collect();
    let (log, report) = fixture.open();
    assert_eq!(report.cuts.len(), expected.len(), "{report}");
    for ((found, cut), file) in report.cuts.iter().zip(expected).zip(files) {
        let (name, bytes, offset, valid_batches, kept) = cut.clone();
        assert_eq!((found.file.as_str(), &found.bytes), (name, &bytes), "{found}");
        assert_eq!((found.offset, found.valid_batches), (Offset(offset), valid_batches), "{found}");
        assert_eq!(found.keepsake.is_some(), kept, "{found}");
        if let Some(keepsake) = &found.keepsake {
            let range = usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap();
            assert_eq!(fixture.read(keepsake), file[range], "{found}");
        }
    }
    log.close().unwrap();
    check_fixture(name, RecoveryKind::KafkaUnclean);
}

const LAST: &str = "00000000000000000153.log";

#[test]
fn a_log_torn_in_the_length_of_its_last_batch_ends_before_it() {
    check_damaged("torn-in-length", &[(LAST, 5402..5413, 198, 0, true)]);
}

#[test]
fn a_log_torn_in_the_records_of_its_last_batch_ends_before_it() {
    check_damaged("torn-in-payload", &[(LAST, 5402..5520, 198, 0, true)]);
}

#[test]
fn a_log_that_lost_its_last_batch_as_a_whole_ends_there() {
    check_damaged("torn-at-boundary", &[]);
}

#[test]
fn zeros_behind_the_last_batch_are_cut_and_not_kept() {
    check_damaged("tail-zeros", &[(LAST, 5577..9673, 199, 0, false)]);
}

#[test]
fn a_last_batch_with_a_flipped_bit_is_cut_and_kept_aside() {
    check_damaged("flip-tail", &[(LAST, 5402..5577, 198, 0, true)]);
}

#[test]
fn damage_in_the_first_segment_cuts_there_and_keeps_what_kafka_deletes() {
    check_damaged(
        "flip-sealed",
        &[
            ("00000000000000000000.log", 4371..8140, 42, 14, true),
            ("00000000000000000077.log", 0..8047, 77, 28, true),
            (LAST, 0..5577, 153, 20, true),
        ],
    );
}

#[test]
fn a_batch_that_was_torn_off_is_appended_when_it_is_sent_again() {
    let sound = Fixture::unpack("idempotent-kill9");
    let (log, _) = sound.open();
    let lost = fetch_all(&log, 1 << 20).pop().unwrap();
    for name in ["torn-in-length", "torn-in-payload", "torn-at-boundary", "flip-tail"] {
        let fixture = Fixture::unpack(name);
        let (log, _) = fixture.open();
        let again = log.append(RawBatch(as_sent(&lost.bytes)), Durability::Durable).unwrap();
        assert_eq!((again.outcome, again.base_offset), (Outcome::Appended, Some(Offset(198))), "{name}");
        let stored = fetch_all(&log, 1 << 20).pop().unwrap();
        assert_eq!(stored.bytes, lost.bytes, "{name}");
    }
}

// The window of five.

/// The five retries of the fixture, and for comparison what Kafka answers after its restart.
#[test]
fn all_five_batches_of_the_window_are_recognised_where_kafka_knows_one() {
    let fixture = Fixture::unpack("five-window");
    let kafka = fixture.kafka()["retries"].as_array().unwrap();
    let recognised = kafka.iter().filter(|retry| retry["answer"] == "NONE").count();
    assert_eq!((kafka.len(), recognised), (5, 1), "the fixture shows the gap in Kafka's snapshot");

    let (log, _) = fixture.open();
    let batches = fetch_all(&log, 1 << 20);
    assert_eq!(retry_all(&log, &batches), [0, 3, 6, 9, 12]);
    log.close().unwrap();
    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Clean);
    assert_eq!(retry_all(&log, &batches), [0, 3, 6, 9, 12]);
    log.append(RawBatch(batch_of(1, 0, 0, 1)), Durability::Buffered).unwrap();
    drop(log);
    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Unclean);
    assert_eq!(retry_all(&log, &batches), [0, 3, 6, 9, 12]);
}

/// First offsets that the retries are answered with.
fn retry_all(log: &Log, batches: &[FetchedBatch]) -> Vec<i64> {
    let retry =
        |batch: &FetchedBatch| log.append(RawBatch(as_sent(&batch.bytes)), Durability::Durable).unwrap();
    let answers = batches.iter().map(retry);
    answers
        .map(|answer| {
            assert_eq!(answer.outcome, Outcome::Duplicate);
            answer.base_offset.unwrap().0
        })
        .collect()
}

// Another program between two opens.

/// How our log and the other program end their work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    InOrder,
    Killed,
}

/// A log of ours on `five-window` with four more batches of its producer, and the batches from the fourth on.
fn log_of_ours(end: End) -> (Fixture, Vec<FetchedBatch>) {
    let fixture = Fixture::unpack("five-window");
    let (log, _) = fixture.open();
    for n in 0..4 {
        log.append(RawBatch(batch_of(4045, 0, 15 + 2 * n, 2)), Durability::Durable).unwrap();
    }
    let batches = fetch_all(&log, 1 << 20);
    match end {
        End::InOrder => log.close().unwrap(),
        End::Killed => drop(log),
    }
    (fixture, batches)
}

/// Cuts the log at the seventh batch and writes others from there, as a Kafka follower of another leader does.
fn truncate_and_append(fixture: &Fixture, batches: &[FetchedBatch], end: End) -> i64 {
    const LOG: &str = "00000000000000000000.log";
    let cut = &batches[6];
    let mut bytes = fixture.read(LOG);
    bytes.truncate(usize::try_from(cut.position.0).unwrap());
    let mut offset = cut.header.base_offset;
    for n in 0..5 {
        let batch = BatchBuilder::new()
            .base_offset(offset)
            .leader_epoch(oncelog::LeaderEpoch(9))
            .producer(ProducerId(777), ProducerEpoch(0), Sequence::new(3 * n).unwrap())
            .record(None, Some(b"one of another leader"))
            .record(None, Some(b"two of another leader"))
            .record(None, Some(b"three of another leader"))
            .build()
            .unwrap();
        bytes.extend_from_slice(&batch);
        offset = Offset(offset.0 + 3);
    }
    fixture.overwrite(LOG, &bytes);
    for name in fixture.names() {
        if name.ends_with(".snapshot") && name > snapshot_name(cut.header.base_offset) {
            fixture.storage.unlink(&fixture.dir.join(name)).unwrap();
        }
    }
    if end == End::InOrder {
        fixture.stop_in_order(offset.0);
    }
    offset.0
}

#[test]
fn a_log_that_another_program_cut_and_wrote_on_is_noticed_and_read_anew() {
    for (ours, theirs) in [
        (End::InOrder, End::InOrder),
        (End::InOrder, End::Killed),
        (End::Killed, End::InOrder),
        (End::Killed, End::Killed),
    ] {
        let (fixture, batches) = log_of_ours(ours);
        let end = truncate_and_append(&fixture, &batches, theirs);
        let context = format!("ours ended {ours:?}, theirs {theirs:?}");
        let (log, report) = fixture.open();
        assert_eq!(report.kind, RecoveryKind::AnotherProgramWrote, "{context}: {report}");
        assert_eq!(log.log_end_offset(), Offset(end), "{context}");
        let now = fetch_all(&log, 1 << 20);
        assert_eq!(now.len(), 11, "{context}");
        assert_eq!(retry_all(&log, &now[1..6]), [3, 6, 9, 12, 15], "{context}");
        assert_eq!(retry_all(&log, &now[6..]), [17, 20, 23, 26, 29], "{context}");
        // What was cut away is not in the log: the second of it has a gap before it, the first is the next one.
        let gap = log.append(RawBatch(as_sent(&batches[7].bytes)), Durability::Durable);
        match gap.unwrap_err() {
            Error::Rejected(Rejection::OutOfOrder { expected, found, .. }) => {
                assert_eq!((expected.value(), found.value()), (17, 19), "{context}");
            }
            other => panic!("{context}: {other}"),
        }
        let again = log.append(RawBatch(as_sent(&batches[6].bytes)), Durability::Durable).unwrap();
        assert_eq!((again.outcome, again.base_offset), (Outcome::Appended, Some(Offset(end))), "{context}");
        log.close().unwrap();
        let (log, report) = fixture.open();
        assert_eq!(report.kind, RecoveryKind::Clean, "{context}");
        assert_eq!(retry_all(&log, &now[6..]), [17, 20, 23, 26, 29], "{context}");
    }
}

#[test]
fn a_log_that_was_only_cut_below_its_durable_end_is_refused_unchanged_and_both_causes_are_named() {
    for ours in [End::InOrder, End::Killed] {
        let (fixture, batches) = log_of_ours(ours);
        let log = "00000000000000000000.log";
        let mut bytes = fixture.read(log);
        bytes.truncate(usize::try_from(batches[6].position.0).unwrap());
        fixture.overwrite(log, &bytes);
        let before: Vec<(String, Vec<u8>)> =
            fixture.names().into_iter().map(|name| (name.clone(), fixture.read(&name))).collect();
        let refusal = match Log::open(&fixture.dir, fixture::config()).unwrap_err() {
            Error::Corrupt(corruption) => corruption,
            other => panic!("{ours:?}: {other}"),
        };
        assert_eq!(refusal.path, fixture.dir.join(log), "{ours:?}");
        assert_eq!(refusal.bytes.start, bytes.len() as u64, "{ours:?}: {refusal}");
        let text = refusal.to_string();
        assert!(text.contains("another program") && text.contains("lost"), "{ours:?}: {text}");
        let after: Vec<(String, Vec<u8>)> =
            fixture.names().into_iter().map(|name| (name.clone(), fixture.read(&name))).collect();
        assert_eq!(before, after, "{ours:?}: a refusal changes nothing");
    }
}
