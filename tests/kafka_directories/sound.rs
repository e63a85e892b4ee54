//! Directories without damage: all of what Kafka says, through a kill and two closes.

use oncelog::recovery::RecoveryKind;
use oncelog::{Durability, Error, Isolation, Offset, Outcome, RawBatch, Rejection};

use crate::fixture::Fixture;
use crate::producers::{batch_of, retry_all};
use crate::reading::fetch_all;
use crate::whole::check_fixture;

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
