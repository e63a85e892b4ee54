//! What a recovery hands to the log.

use super::aborted::SegmentAborted;
use super::report::RecoveryReport;
use crate::checkpoint::Chain;
use crate::format::manifest::{Manifest, RunRef};
use crate::format::run::CompletedTxn;
use crate::leader_epoch::LeaderEpochs;
use crate::producer::{OpenTxn, ProducerMap};
use crate::types::{LeaderEpoch, LogPoint, Offset};

/// A segment of the recovered log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Base offset: the name of its files.
    pub base: Offset,
    /// Length of the `.log` file in bytes.
    pub len: u64,
    /// The offset behind its last one: where the next segment begins, or the log end.
    pub next_offset: Offset,
}

/// A recovered log, not yet open.
#[derive(Debug)]
pub struct Recovered {
    /// What was found and done.
    pub report: RecoveryReport,
    /// The manifest that is on disk: as read where the log was closed in order (with its mark, which the first write
    /// must take away), else the one that the recovery wrote.
    pub manifest: Manifest,
    /// The open runs that the manifest names as the present chain.
    pub chain: Chain,
    /// The runs that the manifest names as the chain before.
    pub previous_chain: Vec<RunRef>,
    /// Entries that are newer than the chain: they wait for a checkpoint.
    pub producers: ProducerMap,
    /// Oldest first; the last one is active. Empty only in a plan for a directory without a segment.
    pub segments: Vec<SegmentFacts>,
    /// The log end, in the active segment.
    pub end: LogPoint,
    /// Leader epoch of the last batch of the log: what is appended must not have a lower one, or the next recovery
    /// takes it for a stale tail. [`LeaderEpoch::NONE`] in a log without batches.
    pub leader_epoch: LeaderEpoch,
    /// First offset of each leader epoch, as far as chain and replay know.
    pub leader_epochs: LeaderEpochs,
    /// Open transactions, by their first offset.
    pub open_txns: Vec<OpenTxn>,
    /// Ended transactions whose marker the chain kept or the replay met, in the order of the markers.
    pub completed_txns: Vec<CompletedTxn>,
    /// Aborted transactions of all segments from the one that holds [`Self::replayed_from`].
    pub aborted: Vec<SegmentAborted>,
    /// Batches from this offset on were applied to the state.
    pub replayed_from: Offset,
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Number of the next run.
    pub next_run_number: u64,
    /// Whether the log was closed in order, so that nothing was written.
    pub clean: bool,
    /// Whether any offset of this partition was ever given out.
    pub ever_written: bool,
}
