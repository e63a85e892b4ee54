//! What a recovery would do: the decision, made without changing anything.
//!
//! Invariant: [`plan`] only reads. Every refusal comes from here, so a directory that is refused is byte for byte what
//! it was; and everything that `execute` does stands in the [`Plan`] before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inventory::Inventory;
use super::kafka;
use super::lost_manifest;
use super::options::RecoveryOptions;
use super::outcome::{Recovered, SegmentFacts};
use super::own;
use super::report::{CutReport, RecoveryReport};
use crate::checkpoint::{ManifestState, read_manifest};
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::leader_epoch::LeaderEpochs;
use crate::storage::Storage;
use crate::types::{LogPoint, Offset};

/// Everything that reading needs: where, through what, and what was found there.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) storage: &'a Arc<dyn Storage>,
    pub(super) dir: &'a Path,
    pub(super) options: &'a RecoveryOptions,
    pub(super) inventory: Inventory,
}

/// Bytes that leave the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Base offset of the segment.
    pub(super) segment: Offset,
    /// First byte that goes; the file itself goes if `whole`.
    pub(super) from: u64,
    /// Length of the file.
    pub(super) to: u64,
    pub(super) whole: bool,
    pub(super) keepsake: Option<String>,
}

/// Whether producers have to be written down before the manifest may say that the log is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FirstBase {
    /// The chain, or the log from offset 0 on, tells all.
    NotNeeded,
    /// The state cannot be read from the log and our runs alone: a base is written at the log end.
    Needed,
}

/// A recovery that was decided and not begun.
#[derive(Debug)]
pub struct Plan {
    pub(super) outcome: Recovered,
    /// A compacted segment that takes the place of others, before anything else is done.
    pub(super) finish: Option<LogPoint>,
    pub(super) cuts: Vec<Cut>,
    /// Files to unlink before anything is cut.
    pub(super) unlinks: Vec<String>,
    /// Files of no meaning, to unlink at the very end.
    pub(super) leftovers: Vec<String>,
    /// From here to the log end the bytes are rewritten in place.
    pub(super) rewrite_from: Option<LogPoint>,
    /// Segments, oldest first, that hold bytes to be synced.
    pub(super) sync_from_segment: Option<Offset>,
    /// A segment to be made, where there is none.
    pub(super) create_segment: Option<Offset>,
    /// `.kafka_cleanshutdown` of the root: no longer true after the first write.
    pub(super) clean_shutdown: Option<PathBuf>,
    /// What `leader-epoch-checkpoint` should say, where it says something else.
    pub(super) epoch_file: Option<LeaderEpochs>,
    pub(super) first_base: FirstBase,
}

impl Plan {
    /// What was found, and what carrying the plan out would do.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.outcome.report
    }

    /// Whether a compacted segment is about to take the place of others: until the plan is carried out, the files are not
    /// what it says.
    #[must_use]
    pub fn finishes_compaction(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether carrying the plan out takes bytes or names away, leftovers aside.
    pub(super) fn takes_away(&self) -> bool {
        let names = !self.unlinks.is_empty() || self.finish.is_some();
        names || !self.cuts.is_empty() || self.outcome.aborted.iter().any(|segment| !segment.stored)
    }

    /// Whether the log was closed in order: carrying the plan out changes nothing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.outcome.clean
    }

    /// What would be cut, in the order of the log.
    #[must_use]
    pub fn cuts(&self) -> &[CutReport] {
        &self.outcome.report.cuts
    }

    /// Names of files that would be deleted, apart from whole segments among the cuts.
    pub fn unlinks(&self) -> impl Iterator<Item = &str> {
        self.unlinks.iter().chain(&self.leftovers).map(String::as_str)
    }

    /// Where the bytes begin that would be written in place once more; `None` if none would.
    #[must_use]
    pub fn rewrite_from(&self) -> Option<&LogPoint> {
        self.rewrite_from.as_ref()
    }

    /// The manifest that would stand on disk at the end.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.outcome.manifest
    }

    /// The log end.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.outcome.report.log_end_offset
    }

    /// The segment that appends will go to; `None` if it has to be made.
    #[must_use]
    pub fn active_segment(&self) -> Option<SegmentFacts> {
        self.outcome.segments.last().copied()
    }

    /// The log as it can be read without carrying the plan out: for a reader that must not write. What the plan cuts is
    /// still in the files, behind the ends given here.
    #[must_use]
    pub fn into_unexecuted(self) -> Recovered {
        self.outcome
    }
}

/// Decides what to do with a directory. Reads only.
///
/// # Errors
///
/// [`Error::Corrupt`] if what is known to be durable is damaged or gone, or if producers cannot be accounted for; its
/// advice says what the caller can do. [`Error::Io`] if something cannot be read.
pub fn plan(storage: &Arc<dyn Storage>, dir: &Path, options: &RecoveryOptions) -> Result<Plan, Error> {
    let mut inventory = Inventory::take(storage, dir)?;
    let mut found = read_manifest(&**storage, dir)?;
    if let ManifestState::Present(manifest) = &mut found {
        inventory = inventory.with_replacement(storage, dir, manifest.compaction.replacement)?;
        if let Some(replacement) = &inventory.replacement {
            manifest.txn_indexes.retain(|note| !replacement.covers(note.base));
        }
    }
    let context = Context { storage, dir, options, inventory };
    match found {
        ManifestState::Present(manifest) => own::plan_with_manifest(&context, *manifest),
        ManifestState::Damaged(corruption) => {
            lost_manifest::plan_without_manifest(&context, corruption.to_string())
        }
        ManifestState::Missing if context.inventory.is_ours() => {
            lost_manifest::plan_without_manifest(&context, "there is no such file".to_owned())
        }
        ManifestState::Missing => kafka::plan_fresh(&context),
    }
}
