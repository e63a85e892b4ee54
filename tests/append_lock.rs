//! The append path waits for nobody else's I/O: whoever holds the append lock writes positionally, renames the segment
//! that was made ahead when it rolls, cuts and syncs after a failed write, and does nothing else to the disk.
//!
//! A wrapper round the storage asks at every operation whether the calling thread holds the lock. That needs the
//! feature `testing`.

#![cfg(feature = "testing")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "append_lock/watched.rs"]
mod watched;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use oncelog::storage::{MemoryStorage, Storage, SystemClock};
use oncelog::{
    BatchBuilder, Durability, Environment, Error, Isolation, Log, LogConfig, Offset, Outcome, ProducerEpoch,
    ProducerId, RawBatch, Salvage, Sequence,
};
use watched::{Sabotage, Seen, Watched};

const DIR: &str = "/logs/orders-0";
const WRITERS: i64 = 4;
/// Producers of each writing thread.
const PRODUCERS: i64 = 6;
/// Batches of each producer at least, and at most: how much the background does meanwhile is up to the scheduler.
const BATCHES: std::ops::Range<i32> = 30..5_000;

/// Small enough that everything happens often.
fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 16_000,
        index_interval_bytes: 512,
        checkpoint_bytes: 4_000,
        whole_base_producers: 2,
        max_deltas: 2,
        background_sync_bytes: 4_000,
        preallocate_bytes: 16_000,
        ..LogConfig::default()
    }
}

fn open(watched: &Watched) -> Log {
    let environment = Environment {
        storage: Arc::new(watched.clone()),
        clock: Arc::new(SystemClock::new()),
        salvage: Salvage::Refuse,
        progress: None,
    };
    Log::open_with(DIR, config(), environment).expect("nothing is wrong with the disk").0
}

fn batch(producer: i64, sequence: i32) -> RawBatch {
    let sequence = Sequence::new(sequence).expect("counted from 0");
    let batch = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(0), sequence)
        .record(None, Some(&[7; 150]))
        .build();
    RawBatch(batch.expect("it keeps the rules"))
}

/// One thread's producers, one batch each in turn; a batch that could not be written is sent again.
/// Goes on until everything was seen to happen. Returns the batches of each producer.
fn write(log: &Log, enough: impl Fn() -> bool, writer: i64, unavailable: &AtomicUsize) -> i32 {
    for sequence in 0..BATCHES.end {
        if sequence >= BATCHES.start && enough() {
            return sequence;
        }
        for producer in writer * PRODUCERS..(writer + 1) * PRODUCERS {
            let level = if sequence % 3 == 0 { Durability::Durable } else { Durability::Buffered };
            loop {
                match log.append(batch(producer, sequence), level) {
                    Ok(appended) => {
                        assert_eq!(appended.outcome, Outcome::Appended);
                        break;
                    }
                    Err(Error::Unavailable { .. }) => unavailable.fetch_add(1, Ordering::Relaxed),
                    Err(error) => panic!("{error}"),
                };
            }
            if sequence % 7 == 0 {
                let retry = log.append(batch(producer, sequence), level).expect("it was appended");
                assert_eq!(retry.outcome, Outcome::Duplicate);
            }
        }
    }
    BATCHES.end
}

fn everything_happened(seen: &Seen) -> bool {
    seen.writes_under_the_lock >= 50
        && seen.rolls_under_the_lock >= 5
        && seen.writes_undone_under_the_lock >= 3
        && seen.runs >= 5
        && seen.merges >= 2
        && seen.index_writes >= 5
        && seen.syncs >= 20
}

fn read(log: &Log, done: &AtomicBool, fetches: &AtomicUsize) {
    while !done.load(Ordering::Acquire) {
        let mut next = Offset::ZERO;
        while let Some(batch) = log
            .fetch(next, 3_000, Isolation::LogEnd)
            .and_then(|fetched| fetched.batches())
            .expect("the log can be read")
            .last()
        {
            next = batch.expect("its bytes are right").header.next_offset();
            fetches.fetch_add(1, Ordering::Relaxed);
        }
        let _found = log.offset_for_timestamp(0, Isolation::HighWatermark).expect("the log can be read");
        let _state = log.producer(ProducerId(1)).expect("the runs can be read");
    }
}

#[test]
fn the_holder_of_the_append_lock_only_writes_renames_at_a_roll_and_undoes_a_failed_write() {
    let watched = Watched::new(Arc::new(MemoryStorage::new()));
    watched.fail_every_write_under_the_lock(41);
    let log = open(&watched);
    let (done, unavailable, fetches) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let enough = || everything_happened(&watched.seen()) && fetches.load(Ordering::Relaxed) >= 20;
    let batches = thread::scope(|scope| {
        let reader = scope.spawn(|| read(&log, &done, &fetches));
        let maintainer = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                log.checkpoint().expect("nothing is wrong but writes to the log");
                log.flush().expect("nothing is wrong but writes to the log");
                log.maintain().expect("nothing is wrong but writes to the log");
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (log, enough, unavailable) = (&log, &enough, &unavailable);
                scope.spawn(move || write(log, enough, writer, unavailable))
            })
            .collect();
        let written = writers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>();
        done.store(true, Ordering::Release);
        maintainer.join().expect("it does not panic");
        reader.join().expect("it does not panic");
        written.into_iter().map(|batches| batches.expect("no writer panics")).sum::<i32>()
    });
    assert_eq!(log.log_end_offset().0, PRODUCERS * i64::from(batches));
    log.close().expect("nothing is wrong but writes to the log");

    assert_eq!(watched.violations(), Vec::<String>::new());
    let seen = watched.seen();
    println!(
        "{} fetches, {} unavailable, {seen:?}",
        fetches.load(Ordering::Relaxed),
        unavailable.load(Ordering::Relaxed)
    );
    assert!(enough(), "{seen:?}");
    assert!(unavailable.load(Ordering::Relaxed) >= 3, "no append felt a failed write");
}

#[test]
fn a_forbidden_operation_under_the_append_lock_is_noticed() {
    for sabotage in Sabotage::ALL {
        let watched = Watched::new(Arc::new(MemoryStorage::new()));
        let log = open(&watched);
        assert_eq!(watched.violations(), Vec::<String>::new());
        watched.sabotage(sabotage, Path::new(DIR));
        log.append(batch(1, 0), Durability::Buffered).expect("the sabotage harms nothing");
        let violations = watched.violations();
        assert_eq!(violations.len(), 1, "{sabotage:?}: {violations:?}");
        assert!(violations[0].starts_with(sabotage.operation()), "{sabotage:?}: {violations:?}");
    }
}

#[test]
fn the_same_operations_without_the_lock_are_nobodys_business() {
    let watched = Watched::new(Arc::new(MemoryStorage::new()));
    watched.create_dir_all(Path::new(DIR)).expect("an empty disk");
    let file = watched.open(&Path::new(DIR).join("some"), oncelog::storage::OpenMode::Create).expect("made");
    file.sync_data().expect("an empty file");
    watched.list(Path::new(DIR)).expect("it was made");
    assert_eq!(watched.violations(), Vec::<String>::new());
}
