//! What the caller of a recovery chooses.

use std::fmt;
use std::sync::Arc;

use super::kafka_root::UnderRoot;
use crate::segment::scan::Density;
use crate::types::Offset;

/// What to do with damage below what is known durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Salvage {
    /// Refuse to open and change nothing. The default.
    #[default]
    Refuse,
    /// Cut the log at the damage, keep the cut bytes aside, go on with what is valid, and remember that producers may
    /// have been lost ([`crate::types::History::Salvaged`]).
    Cut,
}

/// How far a recovery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Base offset of the segment that is being read or rewritten.
    pub segment: Offset,
    /// Bytes done of this segment.
    pub bytes_done: u64,
    /// Length of this segment in bytes.
    pub bytes_total: u64,
}

/// Told about progress, once for every few megabytes; must not block.
pub type OnProgress = Arc<dyn Fn(RecoveryProgress) + Send + Sync>;

/// What a recovery needs to know from the configuration of the log.
#[derive(Clone)]
pub struct RecoveryOptions {
    /// What to do with damage below what is known durable.
    pub salvage: Salvage,
    /// Whether offsets follow each other without a gap in what this program wrote. [`Density::Sparse`] for a log that
    /// is compacted or that follows the log of a leader which is.
    pub density: Density,
    /// Told about progress.
    pub progress: Option<OnProgress>,
    /// What the caller knows of the directory above; `None`: recovery looks for itself.
    pub root: Option<UnderRoot>,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self { salvage: Salvage::Refuse, density: Density::Dense, progress: None, root: None }
    }
}

impl fmt::Debug for RecoveryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryOptions")
            .field("salvage", &self.salvage)
            .field("density", &self.density)
            .field("progress", &self.progress.is_some())
            .field("root", &self.root.is_some())
            .finish()
    }
}
