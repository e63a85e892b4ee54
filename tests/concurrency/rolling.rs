//! Readers up to the log end while the log goes on in segment after segment.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use oncelog::format::names::NEXT_SEGMENT;
use oncelog::storage::{MemoryStorage, OperationKind};
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

/// A batch that waited for a roll was passed over, and so was the first batch of a producer that a claim was to fence.
#[test]
fn a_flush_waits_for_the_batches_that_wait_for_a_roll() {
    within_a_minute("a flush behind a roll", || {
        let disk = MemoryStorage::new();
        let (entered, hangs) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(Some(released));
        let log = open(&disk, LogConfig { segment_bytes: 400, ..config(Background::Threads) });
        disk.on_operation(move |operation, _| {
            let makes_next = operation.kind == OperationKind::Create && operation.name() == NEXT_SEGMENT;
            let waits = if makes_next { released.lock().unwrap().take() } else { None };
            if let Some(released) = waits {
                entered.send(()).unwrap();
                released.recv().unwrap();
            }
        });
        let submitted: Vec<_> =
            (0..20).map(|sequence| log.submit(batch(1, sequence), Durability::Buffered).unwrap()).collect();
        hangs.recv().unwrap();
        let (told, answer) = mpsc::channel();
        let flushing = Arc::clone(&log);
        let flush = thread::spawn(move || told.send(flushing.flush()).unwrap());
        let early = answer.recv_timeout(Duration::from_millis(200));
        release.send(()).unwrap();
        flush.join().unwrap();
        assert_eq!(early.or_else(|_| answer.recv()).unwrap().unwrap(), Offset(20));
        assert!(submitted.into_iter().all(|completion| completion.wait().is_ok()));
    });
}
