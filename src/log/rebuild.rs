//! A damaged run: what is kept of producers is made anew from what can be read.
//!
//! Invariant: until the new base is published, producers whose block is damaged are answered `Unavailable`, never
//! "unknown". The new base says what the log says: it comes from the runs that can be read and the batches behind them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::maintain::Publish;
use super::shared::Shared;
use super::transactions::UndecidedAt;
use crate::checkpoint::{self, BaseInputs, Chain};
use crate::error::Error;
use crate::format::names::FileName;
use crate::format::run::RunKind;
use crate::recovery;
use crate::testing::{Point, cross};

impl Shared {
    /// A run could not be read: the background is asked for a new one.
    pub(super) fn chain_is_damaged(&self) {
        self.rebuild_asked.store(true, Ordering::Release);
        self.ask_checkpoint();
    }

    /// After `failure` of a work that reads runs: makes a damaged one anew, so that the work can be done once more. Any other
    /// failure comes back. Called with the `background` lock held.
    pub(super) fn make_anew_after(&self, failure: Error) -> Result<(), Error> {
        if !is_of_a_run(&failure) {
            return Err(failure);
        }
        tracing::warn!(dir = %self.dir.display(), %failure, "a run is damaged");
        self.rebuild_asked.store(true, Ordering::Release);
        self.rebuild_if_damaged()
    }

    /// Writes a new base in the place of a chain with a damaged run. Called with the `background` lock held.
    pub(super) fn rebuild_if_damaged(&self) -> Result<(), Error> {
        if !self.rebuild_asked.load(Ordering::Acquire) {
            return Ok(());
        }
        let chain = Arc::clone(&self.lock_tail().chain);
        let Some(end) = chain.end().copied() else { return Ok(()) };
        self.leave_clean_state()?;
        let previous = self.manifest.lock().previous_chain.clone();
        let state = recovery::state_at(&self.storage, &self.dir, &chain, &previous, &end)?;
        let undecided = chain.newest().map_or_else(UndecidedAt::default, |newest| UndecidedAt {
            open: newest.header().open_txns.clone(),
            completed: newest.header().completed_txns.clone(),
        });
        let draft = self.draft(RunKind::Base, end.offset.min(state.from), end, undecided);
        let entries = state.producers.sorted();
        let inputs = BaseInputs { chain: &state.chain, frozen: &entries, expiry: None };
        let run = checkpoint::write_base(self.run_place(), inputs, draft)?;
        cross(Point::MergeRunWritten);
        let rebuilt = self.name_run(&state.chain, run, |run| Chain::empty().with(run))?;
        self.publish(rebuilt, Publish::Merge);
        self.rebuild_asked.store(false, Ordering::Release);
        self.remove_unnamed_runs();
        tracing::warn!(dir = %self.dir.display(), offset = %end.offset, "a damaged run was made anew");
        Ok(())
    }
}

/// Whether bytes of a run are damaged. One that the system does not give may be there the next time.
fn is_of_a_run(failure: &Error) -> bool {
    let Error::Corrupt(corruption) = failure else { return false };
    let name = corruption.path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| matches!(FileName::parse(name), FileName::Run(_)))
}
