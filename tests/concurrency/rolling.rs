//! Readers up to the log end while the log goes on in segment after segment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oncelog::storage::MemoryStorage;
use oncelog::{Background, Durability, Isolation, Log, LogConfig, Offset};

use crate::world::{batch, config, open, within_a_minute};

/// Logs are short, because every roll makes the list of segments anew.
const LOGS: usize = 6;
const BATCHES: i32 = 250;

/// A reader that knew the log end in the new segment, and the old one as the one that is appended to, read on behind its
/// end and called the log damaged.
#[test]
fn a_reader_up_to_the_log_end_meets_no_damage_at_a_roll() {
    within_a_minute("a reader beside rolls", || {
        for _ in 0..LOGS {
            // Segments of one batch or two.
            let small = LogConfig { segment_bytes: 200, ..config(Background::Threads) };
            let log = open(&MemoryStorage::new(), small);
            let over = Arc::new(AtomicBool::new(false));
            let readers: Vec<_> = (0..2).map(|back| reader(&log, &over, back)).collect();
            for sequence in 0..BATCHES {
                log.append(batch(1, sequence), Durability::Buffered).unwrap();
            }
            over.store(true, Ordering::Release);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        }
    });
}

/// Fetches `back` offsets before the log end until it is over.
fn reader(log: &Arc<Log>, over: &Arc<AtomicBool>, back: i64) -> thread::JoinHandle<()> {
    let (log, over) = (Arc::clone(log), Arc::clone(over));
    thread::spawn(move || {
        while !over.load(Ordering::Acquire) {
            let from = Offset((log.log_end_offset().0 - back).max(0));
            let fetched = log.fetch(from, 1 << 20, Isolation::LogEnd).unwrap();
            assert!(fetched.batches().unwrap().all(|batch| batch.is_ok()), "from {from}");
        }
    })
}
