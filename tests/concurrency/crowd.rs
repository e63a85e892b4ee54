//! Eight threads with three producers each, among checkpoints, rolls, flushes and readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oncelog::storage::MemoryStorage;
use oncelog::{Background, Durability, Isolation, Log, LogConfig, Offset, Outcome};

use crate::world::{batch, config, content, offset, open, within_a_minute};

const THREADS: i64 = 8;
const PRODUCERS: i64 = 3;
const BATCHES: i32 = 60;

/// Appends of three producers in turn, by every way to an answer. Returns where each batch was acknowledged.
fn write(log: &Log, thread: i64) -> Vec<((i64, i32), i64)> {
    let mut acked = Vec::new();
    for sequence in 0..BATCHES {
        let mut submitted = Vec::new();
        for producer in thread * PRODUCERS..(thread + 1) * PRODUCERS {
            let raw = batch(producer, sequence);
            match (i64::from(sequence) + producer) % 4 {
                0 => acked.push(((producer, sequence), offset(log.append(raw, Durability::Durable)))),
                1 => acked.push(((producer, sequence), offset(log.append(raw, Durability::Buffered)))),
                2 => submitted.push(((producer, sequence), log.submit(raw, Durability::Durable).unwrap())),
                _ => submitted.push(((producer, sequence), log.submit(raw, Durability::Buffered).unwrap())),
            }
        }
        acked.extend(submitted.into_iter().map(|(name, completion)| (name, offset(completion.wait()))));
        // The one before, sent once more, is where it was.
        if sequence % 5 == 4 {
            let producer = thread * PRODUCERS;
            let retry = log.append(batch(producer, sequence - 1), Durability::Durable).unwrap();
            assert_eq!(retry.outcome, Outcome::Duplicate);
            acked.push(((producer, sequence - 1), retry.base_offset.unwrap().0));
        }
    }
    acked
}

/// Reads from the start to what is durable, again and again: never a gap, never back.
fn read(log: &Log, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let mut next = Offset::ZERO;
        let end = log.high_watermark();
        while next < end {
            let fetched = log.fetch(next, 2_000, Isolation::HighWatermark).unwrap();
            for batch in fetched.batches().unwrap() {
                let header = batch.unwrap().header;
                assert_eq!(header.base_offset, next);
                next = header.next_offset();
            }
        }
    }
}

#[test]
fn every_acknowledged_batch_is_in_the_log_once_and_in_the_order_of_its_producer() {
    within_a_minute("the crowd", || {
        let disk = MemoryStorage::new();
        let small = LogConfig {
            segment_bytes: 5_000,
            index_interval_bytes: 500,
            checkpoint_bytes: 4_000,
            whole_base_producers: 4,
            max_deltas: 2,
            queue_bytes: 2_000,
            ..config(Background::Threads)
        };
        let log = open(&disk, small.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let beside: Vec<_> = [
            |log: &Log, stop: &AtomicBool| read(log, stop),
            |log: &Log, stop: &AtomicBool| {
                while !stop.load(Ordering::Acquire) {
                    log.checkpoint().unwrap();
                    log.flush().unwrap();
                }
            },
        ]
        .into_iter()
        .map(|work| {
            let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
            thread::spawn(move || work(&log, &stop))
        })
        .collect();
        let writers: Vec<_> = (0..THREADS)
            .map(|writer| {
                let log = Arc::clone(&log);
                thread::spawn(move || write(&log, writer))
            })
            .collect();
        let acked: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        stop.store(true, Ordering::Release);
        beside.into_iter().for_each(|work| work.join().unwrap());

        let check = |log: &Log| {
            let found = content(log);
            assert_eq!(i64::try_from(found.len()).unwrap(), THREADS * PRODUCERS * i64::from(BATCHES));
            // Each batch has one record, so its place is its offset.
            for (name, offset) in &acked {
                assert_eq!(found[usize::try_from(*offset).unwrap()], *name);
            }
            let mut next: BTreeMap<i64, i32> = BTreeMap::new();
            for (producer, sequence) in found {
                let expected = next.entry(producer).or_default();
                assert_eq!(sequence, *expected, "producer {producer}");
                *expected += 1;
            }
        };
        check(&log);
        log.flush().unwrap();
        drop(log);
        check(&open(&MemoryStorage::from_image(&disk.power_cut()), small));
    });
}
