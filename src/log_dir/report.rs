//! What was found under a root.
//!
//! Invariant: every directory in the root stands in the report: as a partition, as one that is being deleted, or as one
//! that was left alone.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::format::names::PartitionName;
use crate::recovery::RecoveryReport;
use crate::types::Offset;

/// How far the opening of a root has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogDirProgress {
    /// Partitions that are open, or could not be opened.
    pub partitions_done: usize,
    /// Partitions that were found.
    pub partitions_total: usize,
    /// Bytes of batches that recoveries have read so far.
    pub bytes_read: u64,
}

/// What became of a partition that was found.
pub type FoundPartition = Result<RecoveryReport, Error>;

/// What [`crate::LogDir::open`] found.
#[derive(Clone, Debug)]
pub struct LogDirReport {
    /// Whether the last stop of whoever used the root before was clean.
    pub clean_shutdown: bool,
    /// Every partition, with what its recovery did or why it stays closed.
    pub partitions: BTreeMap<PartitionName, FoundPartition>,
    /// Directories on their way out (`-delete`), those of moves that a crash has cut short among them: the background
    /// removes them.
    pub deleting: Vec<String>,
    /// Directories that are left as they are: `-stray`, `-future` of a broker, the cluster's metadata, and what is no
    /// partition.
    pub left_alone: Vec<String>,
    /// Everything else worth knowing.
    pub notes: Vec<String>,
}

impl LogDirReport {
    /// The partitions that stay closed, with the reason.
    pub fn failed(&self) -> impl Iterator<Item = (&PartitionName, &Error)> {
        self.partitions.iter().filter_map(|(name, found)| Some((name, found.as_ref().err()?)))
    }
}

/// A partition as it stands now.
#[derive(Clone, Debug)]
pub enum PartitionState {
    /// Its log is open.
    Open {
        /// First readable offset.
        log_start_offset: Offset,
        /// The offset that the next record gets.
        log_end_offset: Offset,
    },
    /// Its log is closed and is opened by the next use.
    Resting {
        /// First readable offset.
        log_start_offset: Offset,
        /// The offset that the next record gets.
        log_end_offset: Offset,
    },
    /// It could not be opened and stays closed.
    Failed(Error),
    /// It was deleted, or the root is closed.
    Gone,
}
