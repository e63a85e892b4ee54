//! The two threads of a log, and the ticks of time that they act on.
//!
//! Invariant: a thread holds the log only weakly between tasks, so that dropping the last handle ends it; all it does is
//! call what any caller could call.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::shared::Shared;

/// What a background thread is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Drain the queue.
    Drive,
    /// Drain the queue after [`LINGER`].
    DriveSoon,
    /// Take over the duty to sync.
    Sync,
    /// End an unfinished roll and make the next segment.
    Roll,
    /// Make a checkpoint.
    Checkpoint,
    /// End the thread.
    Stop,
}

/// Which of the two threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Syncs, drains and makes segments ahead.
    Sync,
    /// Writes checkpoints.
    Checkpoint,
}

/// How long small batches that nobody waits for may gather.
const LINGER: Duration = Duration::from_millis(1);
/// How often a thread looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// Runs tasks until it is told to stop or the log is gone.
pub(super) fn spawn(duty: Duty, tasks: Receiver<Task>, log: Weak<Shared>) -> std::io::Result<JoinHandle<()>> {
    let name = match duty {
        Duty::Sync => "oncelog-sync",
        Duty::Checkpoint => "oncelog-checkpoint",
    };
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut drive_at: Option<Instant> = None;
        let mut tick_at = Instant::now() + TICK;
        loop {
            let next = drive_at.map_or(tick_at, |at| at.min(tick_at));
            let task = match tasks.recv_deadline(next) {
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Task::DriveSoon) => {
                    drive_at.get_or_insert_with(|| Instant::now() + LINGER);
                    None
                }
                Ok(task) => Some(task),
                Err(RecvTimeoutError::Timeout) => None,
            };
            // Tasks may come faster than time passes: what time makes due does not wait for them to end.
            let now = Instant::now();
            let gathered = drive_at.is_some_and(|at| at <= now);
            if task.is_none() && !gathered && now < tick_at {
                continue;
            }
            let Some(log) = log.upgrade() else { return };
            if let Some(task) = task {
                log.run(task);
            }
            if gathered {
                drive_at = None;
                log.run(Task::Drive);
            }
            if now >= tick_at {
                log.tick(duty);
                tick_at = Instant::now() + TICK;
            }
        }
    })
}

impl Shared {
    fn run(&self, task: Task) {
        match task {
            Task::Drive => {
                self.drive_asked.store(false, Ordering::Release);
                self.drive();
                self.ensure_sync(super::sync::Caller::Waits);
            }
            Task::Sync => self.sync_duty(),
            Task::Roll => {
                self.finish_roll();
                self.drive();
                self.ensure_sync(super::sync::Caller::Waits);
            }
            Task::Checkpoint => {
                if let Err(error) = self.checkpoint() {
                    tracing::warn!(dir = %self.dir.display(), %error, "a checkpoint failed; it is tried again");
                }
            }
            // The thread itself lingers and makes a `Drive` of the one; the other ends it.
            Task::DriveSoon | Task::Stop => {}
        }
    }

    /// What time alone makes due. Each thread does what it does anyway.
    fn tick(&self, duty: Duty) {
        match duty {
            Duty::Sync => self.sync_what_is_old(),
            Duty::Checkpoint => {
                self.show_gauges();
                let due = self.checkpoint_is_due(&self.lock_tail());
                if due {
                    self.run(Task::Checkpoint);
                }
                if let Err(error) = self.retain() {
                    tracing::warn!(dir = %self.dir.display(), %error, "old segments could not be deleted");
                }
            }
        }
    }

    /// Buffered appends become durable in the background too, after a time; many bytes do not wait for it.
    pub(super) fn sync_what_is_old(&self) {
        let due = {
            let written = self.written.lock();
            let now = self.clock.monotonic();
            let old = |since| now.saturating_sub(since) >= self.config.background_sync_after;
            written.unfinished_roll.is_some() || written.unsynced_since.is_some_and(old)
        };
        if due {
            let mut done = Vec::new();
            if let Err(error) = self.sync_once(&mut done) {
                tracing::warn!(dir = %self.dir.display(), %error, "a background sync failed");
            }
            self.deliver(done);
        } else if self.slots_dirty.swap(false, Ordering::AcqRel) {
            self.sync_slots();
        }
    }
}

/// The threads of a log, joined when it is closed.
#[derive(Default)]
pub(super) struct Threads {
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn push(&mut self, handle: JoinHandle<()>) {
        self.handles.push(handle);
    }

    pub(super) fn join(&mut self) {
        for handle in self.handles.drain(..) {
            // A background thread that panicked has logged why; the log's files are as after a crash.
            if handle.thread().id() != thread::current().id() && handle.join().is_err() {
                tracing::error!("a background thread of the log panicked");
            }
        }
    }
}
