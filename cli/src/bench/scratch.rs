//! Directories that live for one round.
//!
//! Invariant: when a round's directory is gone, so is everything that it left to be written: the next round starts on a
//! quiet disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oncelog::storage::{OsStorage, Storage};

/// A directory for one round.
pub(super) struct Scratch {
    dir: tempfile::TempDir,
    parent: PathBuf,
}

impl Scratch {
    pub(super) fn new(parent: &Path) -> Result<Self> {
        let dir = tempfile::tempdir_in(parent).with_context(|| format!("{}", parent.display()))?;
        Ok(Self { dir, parent: parent.to_path_buf() })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where the log goes: below a root of its own, as Kafka lays partitions out.
    pub(super) fn log_dir(&self) -> PathBuf {
        self.dir.path().join("bench-0")
    }

    /// Removes the directory and waits until that is done. Pages of removed files are not written any more; the sync of
    /// the directory above ends the file system's own work.
    pub(super) fn remove(self) -> Result<()> {
        let path = self.dir.path().to_path_buf();
        self.dir.close().with_context(|| format!("{} cannot be removed", path.display()))?;
        OsStorage::new().sync_dir(&self.parent).with_context(|| format!("{}", self.parent.display()))?;
        Ok(())
    }
}
