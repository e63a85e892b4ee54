//! Roll: going on in the next segment without waiting for the old one.
//!
//! Invariant: under the append lock a roll is one rename of a file that was made ahead. The rest (old segment, directory,
//! manifest) belongs to the syncer, and until it is done no watermark and no Durable completion goes beyond the old
//! segment. A roll that is due while the last one is unfinished, or while no segment is made ahead, ends the turn before
//! the batch that needs it; the end of the roll wakes the combiner.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::Background;
use super::segments::index_limits;
use super::shared::{Shared, Tail, UnfinishedRoll};
use super::worker::Task;
use crate::error::Error;
use crate::format::names;
use crate::segment::active::ActiveSegment;
use crate::segment::roll::RollLimits;
use crate::storage::{File, OpenMode};
use crate::testing::{Point, cross};
use crate::types::Offset;

impl Shared {
    pub(super) fn roll_limits(&self) -> RollLimits {
        // A record that must be compacted soon must be in a complete segment before.
        let most = self.config.compaction.max_lag_ms.filter(|_| self.config.cleanup.compacts());
        let most = most.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX));
        RollLimits { segment_bytes: self.config.segment_bytes, segment_ms: self.config.segment_ms.min(most) }
    }

    /// Goes on in the next segment, which begins at `base`; `false` if that is not possible yet.
    pub(super) fn roll(&self, tail: &mut Tail, base: Offset) -> bool {
        if self.written.lock().unfinished_roll.is_some() {
            return false;
        }
        let Some(file) = tail.next_segment.take() else { return false };
        let old_end = tail.active.point();
        let path = self.dir.join(names::log_name(base));
        if let Err(error) = self.storage.rename(&self.dir.join(names::NEXT_SEGMENT), &path) {
            tracing::warn!(path = %path.display(), %error, "the next segment could not be given its name");
            *self.roll_error.lock() = Some(Error::io("rename to", &path, error));
            return false;
        }
        cross(Point::RollRenamed);
        let limits = index_limits(&self.config);
        let next = ActiveSegment::adopt(Arc::clone(&file), path, base, self.clock.wall_ms(), limits);
        let old = std::mem::replace(&mut tail.active, next);
        tail.sealed_end = Some(old_end);
        let old_file = Arc::clone(old.file());
        let sealed = old.seal(&self.storage);
        let segment = Arc::new(sealed.segment);
        // Before readers see it as sealed: whoever looks for what is not written yet must find it.
        self.sealed_unwritten.lock().push((Arc::clone(&segment), Arc::new(sealed.tail)));
        {
            let mut view = self.view.write();
            *view = view.rolled(segment, tail.active.view());
        }
        {
            // Behind the view: a reader that is given an end must find the segment of that end.
            let mut written = self.written.lock();
            written.unfinished_roll = Some(UnfinishedRoll { old_end, old_file });
            written.end = tail.active.point();
            written.file = file;
        }
        // The state at this very place is what Kafka's `.snapshot` of the new segment holds.
        if tail.frozen_at.is_none() && tail.producers.freeze().is_some() {
            tail.frozen_at = Some(old_end);
            tail.frozen_txns = self.undecided();
            tail.bytes_since_checkpoint = 0;
        }
        self.roll_begun.store(true, Ordering::Release);
        true
    }

    /// Goes on in a new segment now, unless the present one is empty. Waits for what a roll waits for.
    pub(super) fn roll_now(&self) -> Result<(), Error> {
        self.leave_clean_state()?;
        loop {
            self.make_next_segment()?;
            if self.written.lock().unfinished_roll.is_some() {
                self.flush_written()?;
                self.finish_roll();
            }
            let turn = self.combiner.lock();
            let mut tail = self.lock_tail();
            if let Some(error) = self.latch_error() {
                return Err(error);
            }
            let end = tail.active.next_offset();
            let done = tail.active.is_empty() || self.roll(&mut tail, end);
            drop((tail, turn));
            self.look_at_queue();
            if done {
                self.after_turn();
                return self.flush_written();
            }
            if let Some(error) = self.roll_error.lock().take() {
                return Err(error);
            }
        }
    }

    /// What a turn leaves for the background; called with no lock held.
    pub(super) fn after_turn(&self) {
        if self.roll_begun.swap(false, Ordering::AcqRel) {
            self.ask(Task::Roll);
        }
        if self.config.background == Background::Caller {
            return;
        }
        let much = self.unsynced_bytes.load(Ordering::Relaxed) >= self.config.background_sync_bytes;
        if much && !self.sync_on_duty.swap(true, Ordering::AcqRel) && !self.ask(Task::Sync) {
            self.sync_on_duty.store(false, Ordering::Release);
        }
    }

    /// Called when a turn ended before a roll: `true` if it is worth trying again now.
    pub(super) fn unblock_roll(&self) -> bool {
        if self.roll_is_possible() && self.roll_error.lock().is_none() {
            return true;
        }
        if self.config.background == Background::Threads && self.ask(Task::Roll) {
            return false;
        }
        self.finish_roll()
    }

    /// Ends an unfinished roll and makes the next segment. Refuses the requests that wait for a roll only if one of the
    /// two has failed: "not possible right now" may just mean that another thread has begun the next roll already.
    pub(super) fn finish_roll(&self) -> bool {
        let mut done = Vec::new();
        let mut failure = self.roll_error.lock().take();
        if self.written.lock().unfinished_roll.is_some()
            && let Err(error) = self.sync_once(&mut done)
        {
            failure = Some(error);
        }
        if let Err(error) = self.make_next_segment() {
            failure = Some(error);
        }
        if let Some(cause) = &failure {
            let error = self.latch_error().unwrap_or_else(|| Error::Unavailable {
                why: format!("the next segment cannot be begun: {cause}"),
            });
            let mut turn = self.combiner.lock();
            turn.refuse_all(&error);
            done.append(&mut turn.take_done());
        }
        self.deliver(done);
        failure.is_none()
    }

    fn roll_is_possible(&self) -> bool {
        let made = self.lock_tail().next_segment.is_some();
        made && self.written.lock().unfinished_roll.is_none()
    }

    /// The syncer has made a roll durable.
    pub(super) fn roll_ended(&self) {
        self.meters.rolls.increment(1);
        self.ask(Task::Roll);
    }

    /// Creates the next segment's file under a name that Kafka ignores, unless it is there.
    pub(super) fn make_next_segment(&self) -> Result<(), Error> {
        let _making = self.making_segment.lock();
        if self.lock_tail().next_segment.is_some() || self.latched.load(Ordering::Acquire) {
            return Ok(());
        }
        let path = self.dir.join(names::NEXT_SEGMENT);
        let file = self.create_fresh(&path).map_err(|error| Error::io("create", &path, error))?;
        cross(Point::RollMadeAhead);
        self.lock_tail().next_segment = Some(file);
        Ok(())
    }

    fn create_fresh(&self, path: &std::path::Path) -> io::Result<Arc<dyn File>> {
        match self.storage.unlink(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.storage.open(path, OpenMode::CreateNew)?;
        file.allocate(0, self.config.preallocate_bytes.min(u64::from(self.config.segment_bytes)))?;
        Ok(file)
    }
}
