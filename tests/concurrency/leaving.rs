//! A log that goes away answers everybody first.

use std::sync::Arc;
use std::thread;

use oncelog::storage::{MemoryStorage, OperationKind};
use oncelog::{Background, Completion, Durability, Log, LogConfig, Offset};

use crate::gate::Gate;
use crate::world::{BOTH, batch, config, content, offset, open, within_a_minute};

/// Twelve batches that nobody has answered: in a log that rolls, most of them are not even written, because the roll
/// before them waits for the disk.
fn pending(disk: &MemoryStorage, background: Background, segment_bytes: u32) -> (Log, Gate, Vec<Completion>) {
    let log = open(disk, LogConfig { segment_bytes, ..config(background) });
    let gate = Gate::behind(OperationKind::SyncData, disk);
    if background == Background::Threads {
        gate.close();
    }
    let pending =
        (0..12)
            .map(|sequence| log.submit(batch(1, sequence), Durability::Durable).unwrap())
            .map(|completion| {
                if background == Background::Threads {
                    completion.try_wait().unwrap_err()
                } else {
                    completion
                }
            })
            .collect();
    (Arc::into_inner(log).unwrap(), gate, pending)
}

fn leave_with(leave: fn(Log)) {
    for background in BOTH {
        for segment_bytes in [1 << 20, 300] {
            within_a_minute("leaving a log with batches on their way", move || {
                let disk = MemoryStorage::new();
                let (log, gate, pending) = pending(&disk, background, segment_bytes);
                // Half of them are waited for while the log goes, half of them afterwards.
                let (now, later): (Vec<_>, Vec<_>) =
                    pending.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
                let waiting: Vec<_> = now
                    .into_iter()
                    .map(|(at, completion)| (at, thread::spawn(move || offset(completion.wait()))))
                    .collect();
                let leaving = thread::spawn(move || leave(log));
                gate.open();
                leaving.join().unwrap();
                let mut offsets: Vec<(usize, i64)> =
                    waiting.into_iter().map(|(at, thread)| (at, thread.join().unwrap())).collect();
                offsets.extend(later.into_iter().map(|(at, completion)| (at, offset(completion.wait()))));
                offsets.sort_unstable();
                assert_eq!(offsets, (0..12).map(|at| (at, i64::try_from(at).unwrap())).collect::<Vec<_>>());

                let after = MemoryStorage::from_image(&disk.power_cut());
                let log = open(&after, config(Background::Caller));
                assert_eq!(log.log_end_offset(), Offset(12));
                assert_eq!(content(&log), (0..12).map(|sequence| (1, sequence)).collect::<Vec<_>>());
            });
        }
    }
}

#[test]
fn a_dropped_log_answers_everything_that_was_submitted() {
    leave_with(drop);
}

#[test]
fn a_closed_log_answers_everything_that_was_submitted() {
    leave_with(|log| log.close().unwrap());
}
