//! The ways to an answer: waiting, asking, polling, being called, or not caring.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use oncelog::storage::{MemoryStorage, OperationKind};
use oncelog::{Background, Durability, Log, Outcome};

use crate::gate::Gate;
use crate::world::{batch, config, content, offset, open, within_a_minute};

/// A log whose syncs are held up.
fn held_up() -> (Arc<Log>, Gate) {
    let disk = MemoryStorage::new();
    let log = open(&disk, config(Background::Threads));
    let gate = Gate::behind(OperationKind::SyncData, &disk);
    gate.close();
    (log, gate)
}

struct Bell {
    rung: AtomicUsize,
    ring: mpsc::Sender<()>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        self.ring.send(()).unwrap();
    }
}

fn bell() -> (Arc<Bell>, Waker, mpsc::Receiver<()>) {
    let (ring, heard) = mpsc::channel();
    let bell = Arc::new(Bell { rung: AtomicUsize::new(0), ring });
    (Arc::clone(&bell), Waker::from(bell), heard)
}

#[test]
fn a_future_wakes_the_last_waker_that_polled_it_and_only_when_the_answer_is_there() {
    within_a_minute("a future", || {
        let (log, gate) = held_up();
        let mut future = pin!(log.submit(batch(1, 0), Durability::Durable).unwrap());
        let (early, early_waker, _unheard) = bell();
        let (late, late_waker, heard) = bell();
        assert!(future.as_mut().poll(&mut Context::from_waker(&early_waker)).is_pending());
        assert!(future.as_mut().poll(&mut Context::from_waker(&late_waker)).is_pending());
        gate.wait_for(1);
        assert_eq!((early.rung.load(Ordering::SeqCst), late.rung.load(Ordering::SeqCst)), (0, 0));
        gate.open();
        heard.recv().unwrap();
        assert_eq!((early.rung.load(Ordering::SeqCst), late.rung.load(Ordering::SeqCst)), (0, 1));
        match future.as_mut().poll(&mut Context::from_waker(&late_waker)) {
            Poll::Ready(answer) => assert_eq!(offset(answer), 0),
            Poll::Pending => panic!("woken without an answer"),
        }
    });
}

#[test]
fn a_callback_is_called_once_by_the_thread_that_has_the_answer() {
    within_a_minute("a callback", || {
        let (log, gate) = held_up();
        let (told, answers) = mpsc::channel();
        for sequence in 0..3 {
            let told = told.clone();
            let completion = log.submit(batch(1, sequence), Durability::Durable).unwrap();
            completion.on_complete(move |answer| told.send((sequence, offset(answer))).unwrap());
        }
        drop(told);
        gate.wait_for(1);
        assert_eq!(answers.try_recv(), Err(mpsc::TryRecvError::Empty));
        gate.open();
        let mut answers: Vec<_> = answers.iter().collect();
        answers.sort_unstable();
        assert_eq!(answers, [(0, 0), (1, 1), (2, 2)]);
        // Here the answer is there before the callback is.
        let again = log.append(batch(1, 2), Durability::Durable).unwrap();
        let (told, answer) = mpsc::channel();
        let completion = log.submit(batch(1, 2), Durability::Durable).unwrap();
        completion.on_complete(move |answer| told.send(answer.unwrap()).unwrap());
        assert_eq!((answer.recv().unwrap(), again.outcome), (again, Outcome::Duplicate));
    });
}

#[test]
fn asking_gives_the_completion_back_until_the_answer_is_there() {
    within_a_minute("asking", || {
        let (log, gate) = held_up();
        let mut completion = log.submit(batch(1, 0), Durability::Durable).unwrap();
        gate.wait_for(1);
        for _ in 0..10 {
            completion = completion.try_wait().unwrap_err();
        }
        gate.open();
        let answer = loop {
            match completion.try_wait() {
                Ok(answer) => break answer,
                Err(pending) => completion = pending,
            }
            std::thread::yield_now();
        };
        assert_eq!(offset(answer), 0);
    });
}

#[test]
fn a_dropped_completion_keeps_nobody_else_waiting() {
    within_a_minute("a wait beside dropped completions", || {
        let (log, gate) = held_up();
        drop(log.submit(batch(1, 0), Durability::Durable).unwrap());
        gate.wait_for(1);
        drop(log.submit(batch(1, 1), Durability::Durable).unwrap());
        // A future that was polled and is dropped leaves its waker behind.
        let (bell, waker, _heard) = bell();
        {
            let mut future = pin!(log.submit(batch(1, 2), Durability::Durable).unwrap());
            assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let kept = log.submit(batch(2, 0), Durability::Durable).unwrap();
        gate.open();
        assert_eq!(offset(kept.wait()), 3);
        assert!(bell.rung.load(Ordering::SeqCst) <= 1);
        assert_eq!(content(&log), [(1, 0), (1, 1), (1, 2), (2, 0)]);
    });
}
