//! What a log knows of producers, compared with what Kafka knows, and how it answers retries of what is stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use oncelog::format::names::snapshot_name;
use oncelog::{
    Appended, BatchBuilder, Durability, Error, FetchedBatch, Isolation, Log, Offset, Outcome, ProducerEpoch,
    ProducerId, RawBatch, Rejection, Sequence,
};

use serde_json::Value;

use crate::fixture::{Fixture, as_sent, int};

/// A data batch of an idempotent producer, as its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) epoch: i16,
    pub(crate) first: i32,
    pub(crate) last: i32,
    pub(crate) offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) timestamp: i64,
    /// It is all there, in no transaction and not marked by the cleaner, so that its bytes can be sent again.
    pub(crate) whole: bool,
}

/// The data batches of each producer, oldest first.
pub(crate) fn stored_batches(fixture: &Fixture) -> BTreeMap<i64, Vec<Stored>> {
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
pub(crate) enum Answer {
    Duplicate,
    BeyondWindow,
    Unknown,
    Fenced,
}

/// The answers to retries of a producer's batches: the newest five that follow one another are the window, older ones
/// that lead up to it without a gap are proven, and what lies before a gap is neither.
pub(crate) fn answers(batches: &[Stored], epoch: i16) -> Vec<Answer> {
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
pub(crate) fn retry(log: &Log, producer: i64, stored: &Stored) -> Result<Appended, Error> {
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

pub(crate) fn batch_of(producer: i64, epoch: i16, first: i32, records: i32) -> Bytes {
    let sequence = Sequence::new(first).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    (0..records).fold(builder, |builder, _| builder.record(Some(b"k"), Some(b"v"))).build().unwrap()
}

pub(crate) fn duplicate(stored: &Stored) -> Appended {
    Appended {
        outcome: Outcome::Duplicate,
        base_offset: Some(Offset(stored.offset)),
        last_offset: Offset(stored.last_offset),
        timestamp: stored.timestamp,
    }
}

/// Retries every stored batch whose bytes are there, and a synthetic one for those that compaction has thinned out.
pub(crate) fn check_retries(fixture: &Fixture, log: &Log) {
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
pub(crate) fn check_against_the_broker(fixture: &Fixture, log: &Log) {
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
pub(crate) fn check_producers(fixture: &Fixture, log: &Log) {
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
pub(crate) fn check_snapshot_names(fixture: &Fixture, end: Offset, more: &[i64]) {
    let bytes = fixture.read(&snapshot_name(end));
    let entries = oncelog::format::snapshot::parse(&bytes).unwrap();
    let found: BTreeSet<i64> = entries.iter().map(|entry| entry.producer.0).collect();
    let producers = fixture.kafka()["producers"].as_array().unwrap();
    let expected: BTreeSet<i64> =
        producers.iter().map(|producer| int(producer, "producerId")).chain(more.iter().copied()).collect();
    assert_eq!(found, expected);
}

/// First offsets that the retries are answered with.
pub(crate) fn retry_all(log: &Log, batches: &[FetchedBatch]) -> Vec<i64> {
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
