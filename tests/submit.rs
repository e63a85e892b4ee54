//! Submits whose answers nobody asks for: they gather into common writes, and are written all the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use oncelog::storage::{MemoryStorage, SystemClock};
use oncelog::{
    BatchBuilder, Durability, Environment, Log, LogConfig, Offset, ProducerEpoch, ProducerId, RawBatch,
    Sequence,
};

/// Longer than any healthy run takes: only a lost batch reaches it.
const FOR_EVER: Duration = Duration::from_secs(60);

fn open(memory: &MemoryStorage) -> Log {
    let environment = Environment {
        storage: Arc::new(memory.clone()),
        clock: Arc::new(SystemClock::new()),
        ..Environment::default()
    };
    Log::open_with("/logs/orders-0", LogConfig::default(), environment).unwrap().0
}

fn batch(sequence: i32) -> RawBatch {
    let first = Sequence::new(sequence).unwrap();
    RawBatch(
        BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), first)
            .record(None, Some(b"value"))
            .build()
            .unwrap(),
    )
}

#[test]
fn a_submit_that_nobody_asks_about_is_written_by_the_worker() {
    let log = open(&MemoryStorage::new());
    drop(log.submit(batch(0), Durability::Buffered).unwrap());
    let from = Instant::now();
    while log.log_end_offset() < Offset(1) {
        assert!(from.elapsed() < FOR_EVER, "the batch is still in the queue");
        std::thread::yield_now();
    }
}

#[test]
fn a_durable_submit_that_nobody_asks_about_is_synced_by_the_worker() {
    let log = open(&MemoryStorage::new());
    drop(log.submit(batch(0), Durability::Durable).unwrap());
    let from = Instant::now();
    while log.high_watermark() < Offset(1) {
        assert!(from.elapsed() < FOR_EVER, "the batch is not durable");
        std::thread::yield_now();
    }
}

#[test]
fn a_flush_makes_durable_what_was_submitted_before_it() {
    let log = open(&MemoryStorage::new());
    for sequence in 0..40 {
        drop(log.submit(batch(sequence), Durability::Buffered).unwrap());
        assert_eq!(log.flush().unwrap(), Offset(i64::from(sequence) + 1));
    }
}

#[test]
fn a_close_writes_what_was_submitted_before_it() {
    let memory = MemoryStorage::new();
    let log = open(&memory);
    let completions: Vec<_> =
        (0..40).map(|sequence| log.submit(batch(sequence), Durability::Durable).unwrap()).collect();
    log.close().unwrap();
    for (expected, completion) in (0..).zip(completions) {
        assert_eq!(completion.wait().unwrap().base_offset, Some(Offset(expected)));
    }
    assert_eq!(open(&memory).log_end_offset(), Offset(40));
}
