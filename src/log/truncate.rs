//! Truncation: a follower's log goes back to where it agrees with the leader's.
//!
//! Invariant: what happens here is what the next open would do: a manifest with the intent, then the recovery that
//! finishes it. It is decided as a whole before the first write, so a refusal changes nothing; after the first manifest
//! it either ends or leaves the log unusable until an open ends it. The sync lock is held from before the first manifest
//! to after the last, so that no slot and no completion speaks of the old log.
//!
//! Locks: `background` (jobs give up as soon as they see the state), `making_segment`, combiner, sync, manifest; the
//! append lock is taken last and shortly, which no one can mind who does not have the combiner's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::completion::Reply;
use super::hosted::Lowered;
use super::segments::{LoadedIndexes, index_limits, segments_of};
use super::shared::Shared;
use super::state_file::is_out_of_space;
use super::unit::{Answer, Turn};
use super::worker::Task;
use crate::checkpoint;
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::producer::{EverWritten, ProducerTable};
use crate::recovery::{self, Plan, Recovered, RecoveryOptions, Salvage, Truncation};
use crate::segment::active::ActiveSegment;
use crate::segment::set::SegmentSet;
use crate::testing::{Break, Point, broken, cross};
use crate::types::{Gaps, LeaderEpoch, LogPoint, Offset};

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The batch that holds the offset, and all behind it.
    From(Offset),
    /// Everything; the log begins anew at the offset.
    Everything(Offset),
}

type Done = Vec<(Arc<Reply>, Answer)>;

/// The log as it is after the cut.
struct Left {
    recovered: Recovered,
    active: ActiveSegment,
}

impl Shared {
    /// Cuts the log at `target` and answers the new log end.
    pub(super) fn truncate_to(&self, target: Offset) -> Result<Offset, Error> {
        self.cut(Cut::From(target))
    }

    /// Takes everything out of the log, which goes on at `start`.
    pub(super) fn truncate_fully_and_start_at(&self, start: Offset) -> Result<Offset, Error> {
        self.cut(Cut::Everything(start))
    }

    fn cut(&self, cut: Cut) -> Result<Offset, Error> {
        self.generation.begin()?;
        if let Err(error) = self.lower_what_the_root_says(cut) {
            self.lift_ceilings();
            self.generation.reopen();
            return Err(error);
        }
        let mut done = Done::new();
        let outcome = {
            let _background = self.lock_background();
            let _making = self.making_segment.lock();
            let mut turn = self.combiner.lock();
            self.refuse_submitted(&mut turn);
            done.append(&mut turn.take_done());
            let outcome = self.cut_alone(cut, &mut done);
            if outcome.is_ok() || self.generation.refusal().is_none() {
                // The durable end and the high watermark are as low by now, or nothing was cut.
                self.lift_ceilings();
            }
            outcome
        };
        self.deliver(done);
        // What came while the combiner's lock was held, and the segment that the next roll will need.
        self.drive();
        self.ask(Task::Roll);
        outcome
    }

    /// The root's recovery point must never name an offset that the log has not: Kafka would not look at what is written
    /// there later, and a high watermark up there would show it too early. Before the first lock, because whoever writes
    /// those files asks the logs one by one; until the cut is over, the ceilings speak for this one.
    fn lower_what_the_root_says(&self, cut: Cut) -> Result<(), Error> {
        if !self.may_cut(cut)? {
            return Ok(());
        }
        let Some(lower) = &self.lower_root_lines else { return Ok(()) };
        let lowered = match cut {
            // The batch that holds the offset goes as a whole. What is appended to afterwards is the segment that holds the
            // last record to stay, or the one before.
            Cut::From(end) => {
                let last = end.saturating_add(-1);
                let base = self.view.read().find(last).map_or(end, |segment| segment.base());
                Lowered { recovery_point: base, end }
            }
            Cut::Everything(start) => Lowered { recovery_point: start, end: start },
        };
        self.recovery_ceiling.store(lowered.recovery_point.0, Ordering::SeqCst);
        self.line_ceiling.store(lowered.end.0, Ordering::SeqCst);
        lower(lowered)
    }

    fn lift_ceilings(&self) {
        self.recovery_ceiling.store(i64::MAX, Ordering::SeqCst);
        self.line_ceiling.store(i64::MAX, Ordering::SeqCst);
    }

    fn refuse_submitted(&self, turn: &mut Turn) {
        let refusal = Error::Unavailable { why: "the log is being truncated".to_owned() };
        turn.refuse_all(&refusal);
        self.queue.drain_into(&mut turn.requests, usize::MAX, usize::MAX);
        turn.refuse_all(&refusal);
    }

    /// With all locks above that of the syncer held. Leaves the generation open, or failed.
    fn cut_alone(&self, cut: Cut, done: &mut Done) -> Result<Offset, Error> {
        let prepared =
            self.may_cut(cut).and_then(|needed| if needed { self.leave_clean_state() } else { Ok(()) });
        if let Err(error) = prepared {
            self.generation.reopen();
            return Err(error);
        }
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        if cut == Cut::From(end) {
            self.lock_tail().leader_epochs.truncate_from_end(end);
            self.generation.reopen();
            return self.write_leader_epochs().map(|()| end);
        }
        let syncer = self.syncer.lock();
        let mut manifest = self.manifest.lock();
        let decided = self.decide(cut, &manifest);
        let (Truncation { manifest: intended, plan }, loaded) = match decided {
            Ok(decided) => decided,
            Err(error) => {
                self.generation.reopen();
                return Err(error);
            }
        };
        let noted = if broken(Break::TruncateWithoutIntent) {
            Manifest { intent: None, ..intended.clone() }
        } else {
            intended.clone()
        };
        let written = checkpoint::write_manifest(&*self.storage, &self.dir, &noted);
        if let Err(error) = written {
            if is_out_of_space(&error) {
                // The old manifest stands, and nothing else was touched.
                self.generation.reopen();
                return Err(error);
            }
            return Err(self.cut_failed(error, &intended, done));
        }
        cross(Point::TruncateIntended);
        self.generation.raise(intended.truncation_generation);
        *manifest = intended;
        let left = match self.carry_out(plan, loaded) {
            Ok(left) => left,
            Err(error) => return Err(self.cut_failed(error, &manifest, done)),
        };
        let end_point = left.active.point();
        self.restart_syncs(&left, done);
        *manifest = left.recovered.manifest.clone();
        drop(manifest);
        drop(syncer);
        self.replace_tail(left);
        self.generation.reopen();
        tracing::info!(dir = %self.dir.display(), from = %start, to = %end, end = %end_point.offset, "truncated");
        Ok(end_point.offset)
    }

    /// Whether the cut is possible, and whether it changes anything.
    fn may_cut(&self, cut: Cut) -> Result<bool, Error> {
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        let (log_start_offset, log_end_offset) = (self.log_start_offset(), self.log_end_offset());
        match cut {
            Cut::From(asked) if asked < log_start_offset || asked > log_end_offset => {
                Err(Error::OffsetOutOfRange { asked, log_start_offset, log_end_offset })
            }
            Cut::From(asked) => Ok(asked < log_end_offset),
            Cut::Everything(start) if start < Offset::ZERO => {
                Err(Error::Misuse(format!("a log cannot start at offset {start}")))
            }
            Cut::Everything(_) => Ok(true),
        }
    }

    /// The whole truncation as a plan. Reads, and changes nothing.
    fn decide(&self, cut: Cut, manifest: &Manifest) -> Result<(Truncation, Option<LoadedIndexes>), Error> {
        let now = Manifest {
            watermark: self.durable_point(),
            engine_time: self.engine_time(),
            boot_id: self.storage.boot_id(),
            ..manifest.clone()
        };
        let newest = self.newest_epoch();
        let options = RecoveryOptions::default();
        let (storage, dir) = (&self.storage, &self.dir);
        let truncation = match cut {
            Cut::From(target) => recovery::plan_truncation(storage, dir, &now, target, newest, &options)?,
            Cut::Everything(start) => {
                recovery::plan_fresh_start(storage, dir, &now, start, newest, &options)?
            }
        };
        let loaded = match truncation.plan.active_segment() {
            Some(facts) => {
                let limits = index_limits(&self.config);
                Some(LoadedIndexes::of(facts, storage, dir, limits, Salvage::Refuse)?)
            }
            None => None,
        };
        Ok((truncation, loaded))
    }

    /// The leader epoch of the newest batch, or a later one that was begun: no batch of ours has a higher one.
    fn newest_epoch(&self) -> LeaderEpoch {
        let tail = self.lock_tail();
        tail.leader_epochs.latest().map_or(tail.leader_epoch, |newest| newest.epoch.max(tail.leader_epoch))
    }

    fn carry_out(&self, plan: Plan, loaded: Option<LoadedIndexes>) -> Result<Left, Error> {
        let (storage, dir) = (&self.storage, &self.dir);
        let recovered = recovery::execute(storage, dir, plan, &RecoveryOptions::default())?;
        cross(Point::TruncateDone);
        let limits = index_limits(&self.config);
        let loaded = match (loaded, recovered.segments.last()) {
            (Some(loaded), Some(facts)) if loaded.facts == *facts => Some(loaded),
            (_, Some(facts)) => Some(LoadedIndexes::of(*facts, storage, dir, limits, Salvage::Refuse)?),
            (_, None) => None,
        };
        let indexes = loaded.map(|loaded| loaded.indexes);
        let (_, active) = segments_of(&recovered, indexes, storage, dir, limits, self.clock.wall_ms())?;
        Ok(Left { recovered, active })
    }

    /// The first manifest was written, or may have been, and the rest was not: only an open can tell now. Nothing above
    /// the cut counts as durable any more.
    fn cut_failed(&self, error: Error, intended: &Manifest, done: &mut Done) -> Error {
        self.generation.raise(intended.truncation_generation);
        self.generation.fail();
        self.lower_durable(intended.watermark);
        // The intent says more than a note of a failed sync could, and must not be written over.
        self.latch_noted.store(true, Ordering::Release);
        self.latch(&format!("a truncation failed: {error}"), done);
        error
    }

    fn lower_durable(&self, to: LogPoint) {
        let mut waiters = self.waiters.lock();
        if to.offset < waiters.durable.offset {
            waiters.durable = to;
            self.durable_end.store(to.offset.0, Ordering::Release);
        }
    }

    /// Syncs go on with the log that is left, all of which is durable. Who waits for what was cut is told so.
    fn restart_syncs(&self, left: &Left, done: &mut Done) {
        let end = left.active.point();
        {
            let mut written = self.written.lock();
            written.end = end;
            written.file = Arc::clone(left.active.file());
            written.unfinished_roll = None;
            written.unsynced_since = None;
        }
        self.unsynced_bytes.store(0, Ordering::Relaxed);
        let mut waiters = self.waiters.lock();
        waiters.durable = end;
        self.lower_high_watermark(end, left.recovered.log_start_offset);
        self.gaps_possible.store(left.recovered.manifest.gaps == Gaps::Possible, Ordering::Release);
        self.durable_end.store(end.offset.0, Ordering::Release);
        let appended = std::mem::take(&mut waiters.appended);
        let duplicates = std::mem::take(&mut waiters.duplicates);
        self.outstanding.store(false, Ordering::Release);
        drop(waiters);
        let cut = Error::Indeterminate { why: format!("the log was truncated to offset {}", end.offset) };
        done.extend(appended.into_iter().chain(duplicates).map(|waiting| {
            let kept = waiting.end <= end.offset;
            (waiting.reply, if kept { Ok(waiting.appended) } else { Err(cut.clone()) })
        }));
    }

    /// What stands under the append lock becomes that of the log that is left.
    fn replace_tail(&self, left: Left) {
        let Left { recovered, active } = left;
        let (base, end) = (active.base(), active.next_offset());
        let kept =
            |sealed: Offset| recovered.segments.iter().any(|facts| facts.base == sealed) && sealed < base;
        self.sealed_unwritten.lock().retain(|(segment, _)| kept(segment.base()));
        {
            // The segments behind the active one will be others.
            let mut done = self.indexes_durable.lock();
            done.below = base.min(done.below);
        }
        *self.epoch_file.lock() = Some(recovered.leader_epochs.clone());
        *self.roll_error.lock() = None;
        self.rebuild_asked.store(false, Ordering::Release);
        let old = {
            let mut tail = self.lock_tail();
            {
                let mut view = self.view.write();
                let sealed = view.sealed().iter().filter(|segment| kept(segment.base())).cloned();
                *view = SegmentSet::new(sealed.collect(), active.view());
            }
            let producers = ProducerTable::starting_with(recovered.producers);
            let old = (
                if broken(Break::TruncateKeepsState) {
                    producers
                } else {
                    std::mem::replace(&mut tail.producers, producers)
                },
                std::mem::replace(&mut tail.chain, Arc::new(recovered.chain)),
                std::mem::replace(&mut tail.active, active),
            );
            tail.frozen_at = None;
            self.replace_transactions(&mut tail, recovered.open_txns, recovered.completed_txns);
            // Its name was deleted with those of the other leftovers.
            tail.next_segment = None;
            tail.sealed_end = None;
            tail.leader_epochs = recovered.leader_epochs;
            tail.log_start_offset = recovered.log_start_offset;
            tail.bytes_since_checkpoint = recovered.report.replayed_bytes;
            // As the next open will have it: of a log that was cut down to offset 0 nothing tells any more.
            tail.ever_written = EverWritten::from(recovered.ever_written);
            self.log_start.store(recovered.log_start_offset.0, Ordering::Release);
            self.log_end.store(end.0, Ordering::Release);
            old
        };
        drop(old);
        self.roll_begun.store(true, Ordering::Release);
    }
}
