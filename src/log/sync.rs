//! The one syncer: callers on many threads share a sync.
//!
//! Invariant: one function syncs a log's files, one call at a time, because Linux reports a write-back error once per
//! open file: with two syncers one of them would acknowledge lost bytes. It notes the written end, syncs, writes a
//! watermark slot, and completes all that waits below; while a roll is unfinished its end is that of the old segment.
//! A failure fails everything above the watermark and latches the log.
//!
//! The *duty* to sync has one holder at a time (`sync_on_duty`). Whoever ends a turn or a sync with a completion still
//! outstanding and finds nobody on duty hands it to a blocked caller, or to the worker if no caller is blocked. In a log
//! without threads there is no worker: there whoever leaves asks one of those who wait to look for itself.
//! `tests/sync_duty.rs` walks through the interleavings of this protocol: change both together.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::completion::Reply;
use super::config::Background;
use super::shared::{Shared, UnfinishedRoll, Waiting};
use super::state_file::is_out_of_space;
use super::unit::Answer;
use super::worker::Task;
use crate::error::Error;
use crate::format::manifest::FailedSync;
use crate::testing::{Point, cross};
use crate::types::{LogPoint, Offset};

/// How many waiting callers are asked to take the duty before the worker is.
const HAND_TO: usize = 4;

/// How often a caller lets others run before it sleeps on an answer that is being worked on.
const YIELDS: usize = 32;

/// What the thread that found the duty free will do next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// It waits for its own completion anyway, and can sync meanwhile.
    Waits,
    /// It goes on with other work.
    Leaves,
}

type Done = Vec<(Arc<Reply>, Answer)>;

impl Shared {
    /// Gives answers out. No lock may be held but one that makes its thread quiet.
    pub(super) fn deliver(&self, done: Done) {
        if self.latched.load(Ordering::Acquire) {
            self.note_latch();
        }
        self.give_out(done);
    }

    /// Lets replies wait until the log is durable up to their ends, or moves them to `done` if it is already.
    pub(super) fn wait_for_durability(&self, replies: Vec<Waiting>, done: &mut Done) {
        if replies.is_empty() {
            return;
        }
        let mut waiters = self.waiters.lock();
        for waiting in replies {
            if waiting.end <= waiters.durable.offset {
                done.push((waiting.reply, Ok(waiting.appended)));
            } else if let Some(why) = &waiters.latched {
                done.push((waiting.reply, Err(Error::Indeterminate { why: why.to_string() })));
            } else if waiters.appended.back().is_none_or(|last| last.end <= waiting.end) {
                waiters.appended.push_back(waiting);
            } else {
                waiters.duplicates.push(waiting);
            }
        }
        self.outstanding.store(!waiters.is_empty(), Ordering::Release);
    }

    /// Does what a caller that waits for `reply` can do for everybody first: drain and sync if it must wait, and else
    /// make sure that the batches of others that it has written are not left alone.
    pub(super) fn help(&self, reply: &Reply) {
        for _ in 0..YIELDS {
            if reply.attend() {
                break;
            }
            self.drive();
            if !self.combiner.is_locked() && self.queue.is_empty() {
                break;
            }
            // The combiner's turn is short, most often this request's; to sleep and be woken costs more than to let it run.
            std::thread::yield_now();
        }
        self.ensure_sync(if reply.attend() { Caller::Leaves } else { Caller::Waits });
    }

    /// Somebody wants to know the answer, but does not block for it.
    pub(super) fn nudge(&self, reply: &Reply) {
        if !reply.is_answered() {
            self.drive();
            self.ensure_sync(Caller::Leaves);
        }
    }

    /// Makes sure that somebody is on duty if a sync is needed. Whoever has drained the queue calls it: there may be
    /// batches among them whose callers looked before they were written, and block now.
    ///
    /// A caller that leaves, of a log without threads, does not touch the duty: it may have nobody to hand it to, and
    /// who saw it taken meanwhile would wait for nothing.
    pub(super) fn ensure_sync(&self, caller: Caller) {
        if !self.completion_outstanding() {
            return;
        }
        if caller == Caller::Leaves && self.config.background == Background::Caller {
            self.ask_somebody_to_look();
            return;
        }
        if self.sync_on_duty.swap(true, Ordering::AcqRel) {
            return;
        }
        match caller {
            Caller::Waits => self.sync_duty(),
            Caller::Leaves if self.hand_duty() => {}
            // The threads have ended: whoever closes the log answers everybody.
            Caller::Leaves => self.sync_on_duty.store(false, Ordering::Release),
        }
    }

    /// Syncs until nothing is outstanding or somebody else has the duty.
    pub(super) fn sync_duty(&self) {
        loop {
            let mut done = Done::new();
            // A sync that fails has told all who waited. Who has come since saw the duty taken, so the look is due anyway.
            let _all_were_told = self.sync_once(&mut done);
            self.sync_on_duty.swap(false, Ordering::AcqRel);
            let more = self.completion_outstanding() && !self.sync_on_duty.swap(true, Ordering::AcqRel);
            // The next sync can run while this one's callers wake up.
            let handed = more && self.hand_duty();
            self.deliver(done);
            if !more || handed {
                return;
            }
        }
    }

    fn hand_duty(&self) -> bool {
        let handed = {
            let waiters = self.waiters.lock();
            waiters.appended.iter().take(HAND_TO).any(|waiting| waiting.reply.hand_duty())
        };
        handed || self.ask(Task::Sync)
    }

    /// Wakes one caller that waits for durability. Who is not here yet looks for itself when it comes.
    fn ask_somebody_to_look(&self) {
        let waiters = self.waiters.lock();
        let mut replies = waiters.appended.iter().chain(&waiters.duplicates).map(|waiting| &waiting.reply);
        let _nobody_is_here = replies.any(|reply| reply.ask_to_look());
    }

    fn completion_outstanding(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) && !self.latched.load(Ordering::Acquire)
    }

    /// One sync of everything that is written, the end of an unfinished roll first. Fails if it could not be done.
    pub(super) fn sync_once(&self, done: &mut Done) -> Result<(), Error> {
        let mut syncer = self.syncer.lock();
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        let (end, file, unfinished) = {
            let mut written = self.written.lock();
            self.unsynced_bytes.store(0, Ordering::Relaxed);
            written.unsynced_since = None;
            (written.end, Arc::clone(&written.file), written.unfinished_roll.clone())
        };
        let rolled = unfinished.is_some();
        if let Some(roll) = unfinished
            && let Err(error) = self.end_roll(&roll, done)
        {
            drop(syncer);
            tracing::warn!(dir = %self.dir.display(), %error, "a roll could not be ended");
            // Nobody waits for space to come back: a retry finds the batch and waits for its durability anew.
            self.fail_waiters(&format!("a roll could not be ended: {error}"), done);
            return Err(error);
        }
        let mut took = None;
        if end.offset > self.durable_offset() {
            let from = self.clock.monotonic();
            if let Err(error) = file.sync_data() {
                let why = format!("a sync of segment {} failed: {error}", end.segment);
                self.latch(&why, done);
                return Err(Error::Unavailable { why });
            }
            took = Some(self.clock.monotonic().saturating_sub(from));
            if let Err(error) = syncer.slots.write(&end, self.generation.number()) {
                // The slot is a lower bound: an old one costs a longer scan at the next open, nothing else.
                tracing::warn!(dir = %self.dir.display(), %error, "the watermark slot could not be written");
            }
            self.slots_dirty.store(true, Ordering::Release);
            cross(Point::SlotWritten);
            self.advance_durable(end, done);
        }
        drop(syncer);
        if let Some(took) = took {
            self.meters.sync_seconds.record(took.as_secs_f64());
        }
        if rolled {
            self.roll_ended();
        }
        Ok(())
    }

    /// Makes a roll durable: old segment, directory, manifest with the watermark at the old end.
    fn end_roll(&self, roll: &UnfinishedRoll, done: &mut Done) -> Result<(), Error> {
        if let Err(error) = roll.old_file.sync_data() {
            let why = format!("a sync of segment {} failed: {error}", roll.old_end.segment);
            self.latch(&why, done);
            return Err(Error::Unavailable { why });
        }
        cross(Point::RollOldSynced);
        if let Err(error) = self.storage.sync_dir(&self.dir) {
            let why = format!("a sync of the directory failed: {error}");
            self.latch(&why, done);
            return Err(Error::Unavailable { why });
        }
        cross(Point::RollDirSynced);
        self.advance_durable(roll.old_end, done);
        self.write_manifest(|_| {}).inspect_err(|error| {
            if !is_out_of_space(error) {
                self.latch(&format!("the manifest could not be written at a roll: {error}"), done);
            }
        })?;
        cross(Point::RollEnded);
        self.written.lock().unfinished_roll = None;
        Ok(())
    }

    fn advance_durable(&self, to: LogPoint, done: &mut Done) {
        let mut waiters = self.waiters.lock();
        if to.offset < waiters.durable.offset {
            return;
        }
        waiters.durable = to;
        self.durable_end.store(to.offset.0, Ordering::Release);
        while waiters.appended.front().is_some_and(|waiting| waiting.end <= to.offset) {
            if let Some(waiting) = waiters.appended.pop_front() {
                done.push((waiting.reply, Ok(waiting.appended)));
            }
        }
        for waiting in waiters.duplicates.extract_if(.., |waiting| waiting.end <= to.offset) {
            done.push((waiting.reply, Ok(waiting.appended)));
        }
        self.outstanding.store(!waiters.is_empty(), Ordering::Release);
    }

    /// Makes the log read-only: what is not proven durable is not counted on from now on.
    pub(super) fn latch(&self, why: &str, done: &mut Done) {
        let mut waiters = self.waiters.lock();
        if waiters.latched.is_none() {
            tracing::error!(dir = %self.dir.display(), why, "the log is read-only now");
            waiters.latched = Some(Arc::from(why));
        }
        self.latched.store(true, Ordering::Release);
        drop(waiters);
        self.fail_waiters(why, done);
    }

    /// Tells everybody who waits for durability that it is not known.
    fn fail_waiters(&self, why: &str, done: &mut Done) {
        let failed = Error::Indeterminate { why: why.to_owned() };
        let mut waiters = self.waiters.lock();
        let appended = std::mem::take(&mut waiters.appended);
        let duplicates = std::mem::take(&mut waiters.duplicates);
        self.outstanding.store(false, Ordering::Release);
        drop(waiters);
        done.extend(
            appended.into_iter().chain(duplicates).map(|waiting| (waiting.reply, Err(failed.clone()))),
        );
    }

    /// Leaves word of the failed sync for the next open, once and before anybody is told.
    fn note_latch(&self) {
        if self.latch_noted.swap(true, Ordering::AcqRel) {
            return;
        }
        self.meters.latches.increment(1);
        let note = FailedSync { durable: self.durable_point(), boot_id: self.storage.boot_id() };
        if let Err(error) = self.write_manifest(|manifest| manifest.failed_sync = Some(note)) {
            tracing::warn!(dir = %self.dir.display(), %error, "no note of the failed sync could be left");
        }
    }

    /// Makes the watermark slots durable.
    pub(super) fn sync_slots(&self) {
        if let Err(error) = self.syncer.lock().slots.sync() {
            // The slots are a lower bound: unsynced ones cost a longer scan after a power cut.
            tracing::warn!(dir = %self.dir.display(), %error, "the watermark slots could not be synced");
        }
    }

    pub(super) fn durable_point(&self) -> LogPoint {
        self.waiters.lock().durable
    }

    pub(super) fn durable_offset(&self) -> Offset {
        Offset(self.durable_end.load(Ordering::Acquire))
    }

    /// Waits until everything that is written now is durable.
    pub(super) fn flush_written(&self) -> Result<(), Error> {
        let generation = self.generation.number();
        let target = self.written.lock().end.offset;
        while self.durable_offset() < target {
            let mut done = Done::new();
            let synced = self.sync_once(&mut done);
            self.deliver(done);
            synced.map_err(|error| Error::Indeterminate { why: error.to_string() })?;
            if self.generation.number() != generation {
                let why = "the log was truncated while it was made durable".to_owned();
                return Err(Error::Indeterminate { why });
            }
        }
        Ok(())
    }
}
