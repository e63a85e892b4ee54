//! Rest: closing idle logs down to their heads, to keep within the budget of descriptors.
//!
//! Invariant: only a log that nobody else holds rests, and it is closed in order first: synced, checkpointed, marked. So
//! no descriptor with unsynced bytes is closed, and the next use opens it without reading a batch. A read-only log (after
//! a failed sync) does not rest: reopening is the embedder's word.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::inner::Inner;
use super::slot::{Life, Slot};
use super::together::for_each;
use crate::log::{Background, Kept, Quiet};
use crate::testing::{Point, cross};

impl Inner {
    /// Rests the longest idle logs until `needed` descriptors are free, as far as there are idle ones.
    pub(super) fn make_room(&self, needed: usize) {
        if self.charged.load(Ordering::Acquire) + needed <= self.budget {
            return;
        }
        let mut idle: Vec<(Duration, Arc<Slot>)> =
            self.open.lock().iter().map(|slot| (slot.last_used(), Arc::clone(slot))).collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        // Closing a log is waiting for a dozen syncs, which several logs can do at a time: then for those who come next, too.
        let threads = self.closing_threads();
        let ahead = if threads > 1 { self.budget / 16 } else { 0 };
        for several in idle.chunks(threads) {
            if self.charged.load(Ordering::Acquire) + needed + ahead <= self.budget {
                return;
            }
            // The caller may hold a partition's lock: what is to be called is called by it, once it does not.
            let calls = Mutex::new(Vec::new());
            for_each(several, threads, |(_, slot)| {
                let later = Quiet::keep(|| {
                    self.rest(slot);
                });
                calls.lock().push(later);
            });
            calls.into_inner().into_iter().for_each(Kept::make);
        }
        if self.charged.load(Ordering::Acquire) + needed > self.budget {
            tracing::debug!(
                budget = self.budget,
                "more logs are held than the budget of descriptors has room for"
            );
        }
    }

    /// How many logs are closed at a time.
    pub(super) fn closing_threads(&self) -> usize {
        match self.config.log.background {
            Background::Threads => self.config.open_threads.max(self.config.sync_threads),
            Background::Caller => self.config.open_threads,
        }
    }

    /// Rests the logs that were not used for as long as `idle`.
    pub(super) fn rest_idle(&self, idle: Duration) {
        let now = self.clock.monotonic();
        let open = self.open.lock().clone();
        for slot in open {
            if now.saturating_sub(slot.last_used()) >= idle {
                self.rest(&slot);
            }
        }
    }

    /// Deletes what is too old in logs that rest, and compacts those that are to be. Size and log start do not change while
    /// they do.
    pub(super) fn tend_resting(&self) {
        let now = self.clock.wall_ms();
        let is_now = |at: Option<i64>| at.is_some_and(|at| at <= now);
        for slot in self.all_slots() {
            let due = match &*slot.lock() {
                Life::Resting { due, .. } => *due,
                _ => continue,
            };
            if is_now(due.retention_at)
                && let Err(error) = self.pin(&slot).and_then(|log| log.apply_retention())
            {
                tracing::warn!(partition = %slot.name, %error, "old segments could not be deleted");
            }
            if is_now(due.compaction_at)
                && let Err(error) = self.pin(&slot).and_then(|log| log.compact_if_due())
            {
                tracing::warn!(partition = %slot.name, %error, "a log that rested could not be compacted");
            }
        }
    }

    /// Closes the log of a slot if nobody uses it now; `true` if it rests.
    pub(super) fn rest(&self, slot: &Arc<Slot>) -> bool {
        // Another slot's lock may be held: this one only if it is free.
        let Some(mut state) = slot.try_lock() else { return false };
        let Life::Open(log) = &*state else { return false };
        if Arc::strong_count(log) > 1 || log.is_latched() || !log.may_rest() {
            return false;
        }
        let log = Arc::clone(log);
        let due = log.due();
        let closed = log.close_in_place();
        cross(Point::RootRested);
        let clean = closed.is_ok();
        if let Err(error) = closed {
            tracing::warn!(partition = %slot.name, %error, "an idle log could not be closed in order");
        }
        *state = match log.heads() {
            Ok(heads) => Life::Resting { heads, clean, due },
            Err(error) => Life::Failed(error),
        };
        drop(log);
        self.discharge(slot);
        true
    }
}
