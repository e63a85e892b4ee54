//! The manifest: every change of it comes by here.
//!
//! Invariant: what is written is complete at the time of writing: watermark, engine time and boot id are those of now,
//! and a clean-close mark stands only in the manifest that a clean close writes. The lock of the manifest is the last
//! in the order; a caller may hold the sync lock, never the append lock.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use super::shared::Shared;
use crate::checkpoint;
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::types::Gaps;

impl Shared {
    /// Replaces the manifest.
    pub(super) fn write_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), Error> {
        let mut current = self.manifest.lock();
        let mut next = current.clone();
        next.clean_close = None;
        change(&mut next);
        next.sequence = next.sequence.saturating_add(1);
        next.watermark = self.durable_point();
        next.engine_time = self.engine_time();
        next.boot_id = self.storage.boot_id();
        checkpoint::write_manifest(&*self.storage, &self.dir, &next)?;
        self.marked_clean.store(next.clean_close.is_some(), Ordering::Release);
        *current = next;
        Ok(())
    }

    /// [`Self::write_manifest`] after which it is known which manifest stands on disk: if it is not, the log latches. No
    /// lock but `background` may be held.
    pub(super) fn write_manifest_or_latch(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), Error> {
        self.write_manifest(change).inspect_err(|error| {
            if !is_out_of_space(error) {
                let mut done = Vec::new();
                self.latch(&format!("the manifest could not be replaced: {error}"), &mut done);
                self.deliver(done);
            }
        })
    }

    /// Makes the names in the directory durable; a failed sync latches, whatever it was for.
    pub(super) fn sync_names_or_latch(&self) -> Result<(), Error> {
        self.storage.sync_dir(&self.dir).map_err(|error| {
            let mut done = Vec::new();
            self.latch(&format!("a sync of the directory failed: {error}"), &mut done);
            self.deliver(done);
            Error::io("sync", &self.dir, error)
        })
    }

    /// Before the first write after a clean open: takes the mark off the manifest, and Kafka's off the root.
    pub(super) fn leave_clean_state(&self) -> Result<(), Error> {
        if !self.marked_clean.load(Ordering::Acquire) {
            return Ok(());
        }
        self.root_mark.leave()?;
        self.write_manifest(|_| {})
    }

    /// Before the first batch behind a gap: says in the manifest that a gap is no loss.
    pub(super) fn allow_gaps(&self) -> Result<(), Error> {
        self.write_manifest(|manifest| manifest.gaps = Gaps::Possible)?;
        self.gaps_possible.store(true, Ordering::Release);
        Ok(())
    }
}

/// No space is the one failure after which nothing is in doubt: the temporary file was not completed, the name still
/// means the old manifest, and the same call may succeed later.
pub(super) fn is_out_of_space(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}
