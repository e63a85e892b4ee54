//! Logs and batches of these tests.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use oncelog::storage::{ManualClock, MemoryStorage};
use oncelog::{
    Appended, Background, BatchBuilder, Environment, Error, Isolation, Log, LogConfig, Offset, ProducerEpoch,
    ProducerId, RawBatch, Sequence,
};

const DIR: &str = "/logs/orders-0";
pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) const BOTH: [Background; 2] = [Background::Threads, Background::Caller];

pub(crate) fn open(disk: &MemoryStorage, config: LogConfig) -> Arc<Log> {
    open_with_clock(disk, config, Arc::new(ManualClock::new(NOW)))
}

pub(crate) fn open_with_clock(disk: &MemoryStorage, config: LogConfig, clock: Arc<ManualClock>) -> Arc<Log> {
    let environment = Environment { storage: Arc::new(disk.clone()), clock, ..Environment::default() };
    Arc::new(Log::open_with(DIR, LogConfig { preallocate_bytes: 0, ..config }, environment).unwrap().0)
}

pub(crate) fn config(background: Background) -> LogConfig {
    LogConfig { background, ..LogConfig::default() }
}

/// A batch of one record whose value has `bytes` bytes.
pub(crate) fn batch_of(producer: i64, sequence: i32, bytes: usize) -> RawBatch {
    let sequence = Sequence::new(sequence).unwrap();
    let batch = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(0), sequence)
        .record_at(NOW, None, Some(&vec![7; bytes]))
        .build();
    RawBatch(batch.unwrap())
}

pub(crate) fn batch(producer: i64, sequence: i32) -> RawBatch {
    batch_of(producer, sequence, 20)
}

/// The offset at which a batch was acknowledged.
pub(crate) fn offset(answer: Result<Appended, Error>) -> i64 {
    answer.unwrap().base_offset.unwrap().0
}

/// Producer and sequence of each batch of the log, in its order; fails at the first offset that does not follow.
pub(crate) fn content(log: &Log) -> Vec<(i64, i32)> {
    let mut found = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        for batch in log.fetch(next, 1 << 20, Isolation::LogEnd).unwrap().batches().unwrap() {
            let header = batch.unwrap().header;
            assert_eq!(header.base_offset, next);
            next = header.next_offset();
            found.push((header.producer_id, header.base_sequence));
        }
    }
    found
}

/// Lets other threads write until the log ends at `end`.
pub(crate) fn until_written(log: &Log, end: i64) {
    while log.log_end_offset() < Offset(end) {
        thread::yield_now();
    }
}

/// The result of `work`, which must not get stuck.
pub(crate) fn within_a_minute<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    let worker = thread::spawn(move || done.send(work()).unwrap());
    match result.recv_timeout(Duration::from_secs(60)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} is stuck"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => panic!("{what} has ended without a result"),
        },
    }
}
