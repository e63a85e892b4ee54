//! Checkpoints and merges of producer state, in the background.
//!
//! Invariant: nothing here does I/O with the append lock held. A checkpoint freezes the active map in O(1), makes the
//! log durable up to that place, writes the run, names it in the manifest, and only then lets look-ups use it. A failed
//! checkpoint is tried again with the same frozen map and a new file; it fails no append. One checkpoint, merge or
//! rebuild runs at a time.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::{Shared, Tail};
use super::transactions::UndecidedAt;
use crate::checkpoint::{
    self, BaseInputs, Chain, CheckpointConfig, CheckpointKind, Expiry, Merge, Run, RunDraft, RunPlace,
};
use crate::error::Error;
use crate::format::names::FileName;
use crate::format::run::RunKind;
use crate::producer::ProducerMap;
use crate::testing::{Point, cross};
use crate::types::{LogPoint, Offset, ProducerId};

/// A frozen map on its way into a run.
struct Frozen {
    map: Arc<ProducerMap>,
    to: LogPoint,
    chain: Arc<Chain>,
    undecided: UndecidedAt,
}

impl Shared {
    /// Whether so much was written or so many producers have changed that a checkpoint should be made.
    pub(super) fn checkpoint_is_due(&self, tail: &Tail) -> bool {
        let producers = tail.producers.dirty();
        tail.frozen_at.is_some()
            || producers >= self.config.checkpoint_producers
            || tail.bytes_since_checkpoint >= self.config.checkpoint_bytes
    }

    /// Does what is due and nobody waits for: for embedders without the log's threads.
    pub(super) fn maintain(&self) -> Result<(), Error> {
        self.drive();
        self.ensure_sync(super::sync::Caller::Waits);
        if self.written.lock().unfinished_roll.is_some() {
            self.finish_roll();
            self.look_at_queue();
        }
        self.make_next_segment()?;
        self.sync_what_is_old();
        let due = self.checkpoint_is_due(&self.lock_tail());
        if due || self.checkpoint_asked.load(Ordering::Acquire) {
            self.checkpoint()?;
        }
        self.retain()?;
        if self.compaction_may_be_due() { self.compact_if_due() } else { Ok(()) }
    }

    /// Makes one checkpoint of what has changed, then the merges that are due.
    pub(super) fn checkpoint(&self) -> Result<(), Error> {
        let _one_at_a_time = self.lock_background();
        self.checkpoint_alone()
    }

    /// [`Self::checkpoint`] by who holds the `background` lock already.
    pub(super) fn checkpoint_alone(&self) -> Result<(), Error> {
        self.checkpoint_asked.store(false, Ordering::Release);
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        self.checkpoint_and_merge().or_else(|failure| {
            self.make_anew_after(failure)?;
            self.checkpoint_and_merge()
        })
    }

    fn checkpoint_and_merge(&self) -> Result<(), Error> {
        self.rebuild_if_damaged()?;
        self.write_sealed_indexes()?;
        if let Some(frozen) = self.freeze() {
            let from = self.clock.monotonic();
            cross(Point::CheckpointFrozen);
            self.leave_clean_state()?;
            if self.durable_offset() < frozen.to.offset {
                self.flush_written()?;
            }
            self.write_aborted()?;
            let chain = self.write_frozen(&frozen)?;
            self.publish(chain, Publish::Checkpoint);
            cross(Point::CheckpointPublished);
            self.meters.checkpoint_seconds.record(self.clock.monotonic().saturating_sub(from).as_secs_f64());
            self.checkpointed_ms.store(self.monotonic_ms(), Ordering::Release);
            self.remove_unnamed_runs();
            self.write_active_index()?;
            self.export_snapshot_at_roll(&frozen.to)?;
            self.write_leader_epochs()?;
        }
        while self.generation.refusal().is_none() && self.merge()? {}
        Ok(())
    }

    /// Freezes the active map, or finds the map that an earlier checkpoint failed to write. Where no producer has
    /// changed, batches without producer may still have come: a run without entries spares the next open their headers.
    fn freeze(&self) -> Option<Frozen> {
        let mut tail = self.lock_tail();
        if tail.frozen_at.is_none() {
            let end = tail.end();
            if tail.producers.freeze().is_some() {
                tail.frozen_at = Some(end);
                tail.frozen_txns = self.undecided();
            } else if tail.chain.end().map_or(tail.log_start_offset, |to| to.offset) >= end.offset {
                return None;
            }
            tail.bytes_since_checkpoint = 0;
        }
        let map = tail.producers.frozen().map(Arc::clone).unwrap_or_default();
        let chain = Arc::clone(&tail.chain);
        Some(match tail.frozen_at {
            Some(to) => Frozen { map, to, chain, undecided: tail.frozen_txns.clone() },
            None => Frozen { map, to: tail.end(), chain, undecided: self.undecided() },
        })
    }

    /// Writes the frozen map as a run and names the chain that it makes.
    fn write_frozen(&self, frozen: &Frozen) -> Result<Chain, Error> {
        let before = &frozen.chain;
        let entries = frozen.map.sorted();
        let config = self.checkpoint_config();
        let high_watermark = self.high_watermark();
        let expired = Cell::new(0);
        let in_memory = |id| self.is_in_memory_or_expires(id, &expired);
        let kind = checkpoint::plan_checkpoint(
            &before.shape(),
            entries.len() as u64,
            frozen.to.offset,
            high_watermark,
            &config,
        );
        let from = before.end().map_or(Offset::ZERO, |end| end.offset);
        let (chain, run) = match kind {
            CheckpointKind::EmptyBaseAndDelta => {
                // Where no run is, the log tells all from offset 0 on.
                let start = LogPoint::segment_start(Offset::ZERO);
                let base = checkpoint::write_empty_base(self.run_place(), start, self.engine_time())?;
                let draft = self.draft(RunKind::Delta, Offset::ZERO, frozen.to, frozen.undecided.clone());
                let delta = checkpoint::write_delta(self.run_place(), &entries, draft)?;
                (Chain::empty().with(base)?, delta)
            }
            CheckpointKind::WholeBase => {
                let from = before.base().map_or(Offset::ZERO, |base| base.header().from);
                let draft = self.draft(RunKind::Base, from, frozen.to, frozen.undecided.clone());
                let inputs =
                    BaseInputs { chain: before, frozen: &entries, expiry: Some(self.expiry(&in_memory)) };
                (Chain::empty(), checkpoint::write_base(self.run_place(), inputs, draft)?)
            }
            CheckpointKind::Delta => {
                let draft = self.draft(RunKind::Delta, from, frozen.to, frozen.undecided.clone());
                (before.prefix(before.len()), checkpoint::write_delta(self.run_place(), &entries, draft)?)
            }
        };
        cross(Point::CheckpointRunWritten);
        let chain = self.name_run(before, run, |run| chain.with(run))?;
        cross(Point::CheckpointNamed);
        self.meters.expired_producers.increment(expired.get());
        Ok(chain)
    }

    /// Makes one merge if one is due; `true` if another may be.
    fn merge(&self) -> Result<bool, Error> {
        let chain = Arc::clone(&self.lock_tail().chain);
        let high_watermark = self.high_watermark();
        let Some(merge) = checkpoint::plan_merge(&chain.shape(), high_watermark, &self.checkpoint_config())
        else {
            return Ok(false);
        };
        self.merge_runs(&chain, merge)?;
        Ok(true)
    }

    /// Makes one run of the runs of the present chain that `merge` names. The `background` lock is held.
    pub(super) fn merge_runs(&self, chain: &Chain, merge: Merge) -> Result<(), Error> {
        self.leave_clean_state()?;
        let expired = Cell::new(0);
        let (read, run) = match merge {
            Merge::DeltasIntoOne => {
                (chain.prefix(chain.len()), checkpoint::merge_deltas(self.run_place(), chain)?)
            }
            Merge::NewBase { runs } => {
                let part = chain.prefix(runs);
                let in_memory = |id| self.is_in_memory_or_expires(id, &expired);
                let run =
                    checkpoint::merge_into_base(self.run_place(), &part, Some(self.expiry(&in_memory)))?;
                (part, run)
            }
        };
        cross(Point::MergeRunWritten);
        let merged = self.name_run(chain, run, |run| {
            let gone = || Error::Unavailable { why: "the chain has changed during a merge".to_owned() };
            chain.replaced(&read, run)?.ok_or_else(gone)
        })?;
        cross(Point::MergeNamed);
        self.meters.expired_producers.increment(expired.get());
        self.publish(merged, Publish::Merge);
        self.remove_unnamed_runs();
        Ok(())
    }

    /// Names a new run in the manifest. A chain that does not simply go on makes the one before it the previous chain.
    pub(super) fn name_run(
        &self,
        before: &Chain,
        run: Arc<Run>,
        chain: impl FnOnce(Arc<Run>) -> Result<Chain, Error>,
    ) -> Result<Chain, Error> {
        if let Some(refusal) = self.generation.refusal() {
            // A truncation waits for this job. The run is left over, and what it says is made anew.
            return Err(refusal);
        }
        let chain = chain(run)?;
        let (references, old) = (chain.references(), before.references());
        // The names of the run and of `.txnindex` files that were just made: a power cut may keep the manifest's rename
        // and lose theirs, and no recovery looks for aborted transactions below a checkpoint in the log.
        self.sync_names_or_latch()?;
        self.write_manifest_or_latch(|manifest| {
            let goes_on = !old.is_empty() && references.starts_with(&old);
            if !goes_on && !old.is_empty() {
                manifest.previous_chain = old;
            }
            manifest.chain = references;
        })?;
        Ok(chain)
    }

    /// Lets look-ups use `chain`. What the old state held on the heap is freed after the lock is released.
    pub(super) fn publish(&self, chain: Chain, what: Publish) {
        let (unneeded, old) = {
            let mut tail = self.lock_tail();
            let old = std::mem::replace(&mut tail.chain, Arc::new(chain));
            let unneeded = match what {
                Publish::Checkpoint => {
                    tail.frozen_at = None;
                    Some(tail.producers.frozen_is_written())
                }
                Publish::Merge => None,
            };
            (unneeded, old)
        };
        drop((unneeded, old));
    }

    /// Deletes the run files that the manifest no longer names.
    pub(super) fn remove_unnamed_runs(&self) {
        let named: Vec<u64> = {
            let manifest = self.manifest.lock();
            manifest.chain.iter().chain(&manifest.previous_chain).map(|run| run.number).collect()
        };
        let Ok(entries) = self.storage.list(&self.dir) else { return };
        for entry in entries {
            if matches!(FileName::parse(&entry.name), FileName::Run(number) if !named.contains(&number)) {
                // Left over, it costs disk space until the next open removes it.
                let _left_over = self.storage.unlink(&self.dir.join(&entry.name));
            }
        }
    }

    /// Where the next run goes. Its number was never used: one that a crash left behind is deleted before the next open
    /// counts on.
    pub(super) fn run_place(&self) -> RunPlace<'_> {
        let mut manifest = self.manifest.lock();
        let number = manifest.next_run_number;
        // It stays far below the greatest number that a file may have, unless a manifest was made up.
        manifest.next_run_number = number.saturating_add(1);
        RunPlace { storage: &self.storage, dir: &self.dir, number }
    }

    /// What a run says of the log besides its entries.
    pub(super) fn draft(
        &self,
        kind: RunKind,
        from: Offset,
        to: LogPoint,
        undecided: UndecidedAt,
    ) -> RunDraft {
        let leader_epochs = self.lock_tail().leader_epochs.below(to.offset).pairs();
        let UndecidedAt { open: open_txns, completed: completed_txns } = undecided;
        RunDraft {
            leader_epochs,
            open_txns,
            completed_txns,
            ..RunDraft::new(kind, from, to, self.engine_time())
        }
    }

    fn checkpoint_config(&self) -> CheckpointConfig {
        CheckpointConfig {
            whole_base_producers: self.config.whole_base_producers,
            max_deltas: self.config.max_deltas,
        }
    }

    /// Who may fall out of a base now. The append lock is taken for those alone that would.
    fn expiry<'a>(&self, wrote_since: &'a dyn Fn(ProducerId) -> bool) -> Expiry<'a> {
        Expiry { now: self.engine_time(), after_ms: self.config.producer_expiry_ms, wrote_since }
    }

    /// Asked of producers that would fall out of a base; counts those that do.
    fn is_in_memory_or_expires(&self, id: ProducerId, expired: &Cell<u64>) -> bool {
        let known = self.lock_tail().producers.get(id).is_some();
        expired.set(expired.get() + u64::from(!known));
        known
    }
}

/// What made a new chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// It holds the frozen map, which only saves look-ups from now on.
    Checkpoint,
    /// It says what the old one said.
    Merge,
}
