//! Transactions: what readers of committed records see, as Kafka's own consumer saw it.

use std::collections::BTreeMap;

use oncelog::format::batch::crc32c;
use oncelog::recovery::RecoveryKind;
use oncelog::{Durability, Isolation, Log, Offset, OwnedRecord};

use crate::fixture::{Fixture, int};
use crate::producers::{check_against_the_broker, check_producers};
use crate::reading::check_batches;

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
