//! Submits whose answers nobody asks for: they gather into common writes, and are written all the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::{Arc, mpsc};
use std::time::Duration;

use oncelog::storage::{MemoryStorage, SystemClock};
use oncelog::{
    BatchBuilder, Durability, Environment, Log, LogConfig, Offset, ProducerEpoch, ProducerId, RawBatch,
    Sequence,
};

/// Waits until `holds`, on a thread of its own: a batch that is lost fails the test instead of hanging it.
fn comes_true(log: Log, holds: impl Fn(&Log) -> bool + Send + 'static) {
    let (done, heard) = mpsc::channel();
    std::thread::spawn(move || {
        while !holds(&log) {
            std::thread::yield_now();
        }
        done.send(()).unwrap();
    });
    heard.recv_timeout(Duration::from_secs(60)).unwrap();
}

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
    comes_true(log, |log| log.log_end_offset() == Offset(1));
}

#[test]
fn a_durable_submit_that_nobody_asks_about_is_synced_by_the_worker() {
    let log = open(&MemoryStorage::new());
    drop(log.submit(batch(0), Durability::Durable).unwrap());
    comes_true(log, |log| log.high_watermark() == Offset(1));
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

#[test]
fn appends_beside_checkpoints_and_flushes_never_leave_each_other_alone() {
    let log = Arc::new(open(&MemoryStorage::new()));
    let beside = Arc::clone(&log);
    let (stop, stopped) = mpsc::channel::<()>();
    let checkpoints = std::thread::spawn(move || {
        while stopped.try_recv().is_err() {
            beside.checkpoint().unwrap();
            beside.flush().unwrap();
        }
    });
    let appender = Arc::clone(&log);
    let (done, heard) = mpsc::channel();
    std::thread::spawn(move || {
        for sequence in 0..20_000 {
            appender.append(batch(sequence), Durability::Buffered).unwrap();
        }
        done.send(()).unwrap();
    });
    heard.recv_timeout(Duration::from_secs(60)).unwrap();
    stop.send(()).unwrap();
    checkpoints.join().unwrap();
}
