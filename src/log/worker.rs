//! What the background does for a log, and the ticks of time that it acts on.
//!
//! Invariant: all that happens here is what any caller could call. `pool.rs` says on which thread and when.

use std::sync::atomic::Ordering;

use super::shared::Shared;

/// What the background is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Drain the queue.
    Drive,
    /// Drain the queue after a moment in which more may come.
    DriveSoon,
    /// Take over the duty to sync.
    Sync,
    /// End an unfinished roll and make the next segment.
    Roll,
    /// Make a checkpoint.
    Checkpoint,
    /// Call whom a thread has answered that must not call itself.
    Call,
    /// Do what time alone has made due.
    Tick,
}

/// Which kind of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Syncs, drains and makes segments ahead.
    Sync,
    /// Writes checkpoints.
    Checkpoint,
    /// Compacts.
    Compact,
}

impl Shared {
    /// Does one task of a lane.
    pub(super) fn run(&self, task: Task, duty: Duty) {
        match task {
            // The lane lingers, not the log.
            Task::Drive | Task::DriveSoon => {
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
            Task::Call => self.make_owed_calls(),
            Task::Tick => self.tick(duty),
        }
    }

    /// Shows the gauges and tells whether time alone has made something due. Cheap: every open log is asked, five times a
    /// second.
    pub(super) fn tick_is_due(&self, duty: Duty) -> bool {
        match duty {
            Duty::Sync => self.has_old_bytes() || self.slots_dirty.load(Ordering::Acquire),
            Duty::Checkpoint => {
                self.show_gauges();
                // While the append lock is taken there are appends, which look for themselves.
                let due = self.tail.try_lock().is_some_and(|tail| self.checkpoint_is_due(&tail));
                due || self.retention_is_due() || !self.doomed.lock().is_empty()
            }
            Duty::Compact => self.compaction_may_be_due(),
        }
    }

    fn tick(&self, duty: Duty) {
        match duty {
            Duty::Sync => self.sync_what_is_old(),
            Duty::Checkpoint => {
                let due = self.checkpoint_is_due(&self.lock_tail());
                if due {
                    self.run(Task::Checkpoint, duty);
                }
                if let Err(error) = self.retain() {
                    tracing::warn!(dir = %self.dir.display(), %error, "old segments could not be deleted");
                }
            }
            Duty::Compact => {
                if let Err(error) = self.compact_if_due() {
                    tracing::warn!(dir = %self.dir.display(), %error, "a compaction failed; it is tried again");
                }
            }
        }
    }

    /// A task has panicked half done: nothing that was not proven durable is counted on any more.
    pub(super) fn background_panicked(&self) {
        let mut done = Vec::new();
        self.latch("a background task panicked", &mut done);
        self.deliver(done);
    }

    fn has_old_bytes(&self) -> bool {
        let written = self.written.lock();
        let now = self.clock.monotonic();
        let old = |since| now.saturating_sub(since) >= self.config.background_sync_after;
        written.unfinished_roll.is_some() || written.unsynced_since.is_some_and(old)
    }

    /// Buffered appends become durable in the background too, after a time; many bytes do not wait for it.
    pub(super) fn sync_what_is_old(&self) {
        if self.has_old_bytes() {
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
