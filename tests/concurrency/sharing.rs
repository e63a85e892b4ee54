//! Syncs are shared, and nobody is told of durability before it is there.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use oncelog::storage::{ManualClock, MemoryStorage, OperationKind};
use oncelog::{Background, Durability, Log, LogConfig, Offset, Outcome};

use crate::gate::Gate;
use crate::world::{
    BOTH, NOW, batch, config, content, offset, open, open_with_clock, until_written, within_a_minute,
};

fn append_in_a_thread(
    log: &Arc<Log>,
    producer: i64,
    sequence: i32,
    durability: Durability,
) -> thread::JoinHandle<i64> {
    let log = Arc::clone(log);
    thread::spawn(move || offset(log.append(batch(producer, sequence), durability)))
}

#[test]
fn everybody_who_comes_during_a_sync_shares_the_next_one() {
    for background in BOTH {
        within_a_minute("a shared sync", move || {
            let disk = MemoryStorage::new();
            let log = open(&disk, config(background));
            let gate = Gate::behind(OperationKind::SyncData, &disk);
            gate.close();
            let first = append_in_a_thread(&log, 0, 0, Durability::Durable);
            gate.wait_for(1);
            let others: Vec<_> =
                (1..32).map(|producer| append_in_a_thread(&log, producer, 0, Durability::Durable)).collect();
            until_written(&log, 32);
            gate.open();
            let mut offsets = vec![first.join().unwrap()];
            offsets.extend(others.into_iter().map(|other| other.join().unwrap()));
            offsets.sort_unstable();
            assert_eq!(offsets, (0..32).collect::<Vec<_>>());
            assert_eq!(gate.arrived(), 2, "32 appends, one sync for the first and one for all others");
        });
    }
}

#[test]
fn a_durable_duplicate_is_answered_only_after_the_sync_of_its_original() {
    within_a_minute("a duplicate", || {
        let disk = MemoryStorage::new();
        let log = open(&disk, config(Background::Threads));
        let gate = Gate::behind(OperationKind::SyncData, &disk);
        gate.close();
        let original = append_in_a_thread(&log, 1, 0, Durability::Durable);
        gate.wait_for(1);
        let buffered = log.append(batch(1, 0), Durability::Buffered).unwrap();
        assert_eq!((buffered.outcome, buffered.base_offset.unwrap().0), (Outcome::Duplicate, 0));
        let durable = log.submit(batch(1, 0), Durability::Durable).unwrap();
        let durable = durable.try_wait().unwrap_err();
        assert!(!original.is_finished());
        gate.open();
        let answer = durable.wait().unwrap();
        assert_eq!((answer.outcome, answer.base_offset.unwrap().0), (Outcome::Duplicate, 0));
        assert_eq!((original.join().unwrap(), gate.arrived()), (0, 1));
    });
}

/// The thread that drains the queue writes other callers' batches too. It may leave once its own batch is answered; the
/// others must not be left without anybody who syncs.
#[test]
fn whoever_writes_a_durable_batch_of_another_and_leaves_lets_somebody_sync() {
    for background in BOTH {
        for level in [Durability::Buffered, Durability::Durable] {
            within_a_minute("a batch that another caller has written", move || {
                let disk = MemoryStorage::new();
                let log = open(&disk, config(background));
                let gate = Gate::behind(OperationKind::Write, &disk);
                gate.close();
                let leaving = append_in_a_thread(&log, 1, 0, Durability::Buffered);
                gate.wait_for(1);
                // This one finds the queue being drained and nothing to sync, and waits.
                let waiting = append_in_a_thread(&log, 2, 0, Durability::Durable);
                let level = match level {
                    Durability::Buffered => append_in_a_thread(&log, 3, 0, Durability::Buffered),
                    Durability::Durable => append_in_a_thread(&log, 3, 0, Durability::Durable),
                };
                for _ in 0..1000 {
                    thread::yield_now();
                }
                gate.open();
                leaving.join().unwrap();
                level.join().unwrap();
                waiting.join().unwrap();
                assert!(log.high_watermark().0 >= 2);
            });
        }
    }
}

/// The clock stands still: only somebody who was woken for it can sync.
#[test]
fn durable_appends_among_buffered_ones_are_never_left_alone() {
    for background in BOTH {
        within_a_minute("a durable append among buffered ones", move || {
            let log = open(&MemoryStorage::new(), config(background));
            let callers: Vec<_> = (0..4)
                .map(|producer| {
                    let log = Arc::clone(&log);
                    let level = if producer == 0 { Durability::Durable } else { Durability::Buffered };
                    thread::spawn(move || {
                        for sequence in 0..3_000 {
                            log.append(batch(producer, sequence), level).unwrap();
                        }
                    })
                })
                .collect();
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            assert_eq!(content(&log).len(), 12_000);
        });
    }
}

/// Each submit that nobody waits for gives the log's thread something to do. It must look at the clock all the same.
#[test]
fn buffered_batches_become_durable_with_time_however_many_come() {
    within_a_minute("the background sync", || {
        let clock = Arc::new(ManualClock::new(NOW));
        let config = LogConfig { background_sync_bytes: u64::MAX, ..config(Background::Threads) };
        let log = open_with_clock(&MemoryStorage::new(), config, Arc::clone(&clock));
        let mut sequence = 0;
        loop {
            drop(log.submit(batch(1, sequence), Durability::Buffered).unwrap());
            clock.advance(Duration::from_millis(100));
            sequence += 1;
            if log.high_watermark() > Offset::ZERO {
                return;
            }
        }
    });
}
