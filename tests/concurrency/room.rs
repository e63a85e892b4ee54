//! The queue is bounded: who finds it full waits or is told so, and goes on when there is room.

use std::sync::Arc;
use std::thread;

use oncelog::storage::{MemoryStorage, OperationKind};
use oncelog::{Background, Durability, LogConfig};

use crate::gate::Gate;
use crate::world::{BOTH, batch, batch_of, config, content, offset, open, within_a_minute};

/// One thread is held up in a write; the next batch waits in the queue; a third has no room. Its size decides whether the
/// queue is more than half full when it is drained: either way there is room then. How far the waiting thread has come
/// when the gate opens is up to the scheduler, hence the rounds.
#[test]
fn a_submit_that_found_the_queue_full_goes_on_when_it_is_drained() {
    let small = batch(1, 0).0.len();
    let large = batch_of(1, 0, 220).0.len();
    for (background, first, second) in
        BOTH.into_iter().flat_map(|background| [(background, 20, 220), (background, 220, 20)])
    {
        for round in 0..30 {
            within_a_minute("a submit that waits for room", move || {
                let disk = MemoryStorage::new();
                let limit = small + large - 1;
                let log = open(&disk, LogConfig { queue_bytes: limit, ..config(background) });
                let gate = Gate::behind(OperationKind::Write, &disk);
                gate.close();
                let writer = {
                    let log = Arc::clone(&log);
                    thread::spawn(move || offset(log.append(batch(1, 0), Durability::Buffered)))
                };
                gate.wait_for(1);
                let queued = log.try_submit(batch_of(1, 1, first), Durability::Buffered).unwrap().unwrap();
                let queued = queued.try_wait().unwrap_err();
                assert!(log.try_submit(batch_of(1, 2, second), Durability::Buffered).unwrap().is_none());
                let waiting = {
                    let log = Arc::clone(&log);
                    thread::spawn(move || {
                        offset(log.submit(batch_of(1, 2, second), Durability::Buffered).unwrap().wait())
                    })
                };
                for _ in 0..round * 20 {
                    thread::yield_now();
                }
                gate.open();
                assert_eq!(
                    (writer.join().unwrap(), offset(queued.wait()), waiting.join().unwrap()),
                    (0, 1, 2)
                );
                assert_eq!(content(&log), [(1, 0), (1, 1), (1, 2)]);
            });
        }
    }
}

#[test]
fn a_batch_larger_than_the_queue_is_taken_alone() {
    within_a_minute("a large batch", || {
        let log = open(&MemoryStorage::new(), LogConfig { queue_bytes: 1, ..config(Background::Threads) });
        let callers: Vec<_> = (0..4)
            .map(|producer| {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    for sequence in 0..200 {
                        log.append(batch(producer, sequence), Durability::Buffered).unwrap();
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        assert_eq!(content(&log).len(), 800);
    });
}
