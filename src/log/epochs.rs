//! Leader epochs of an open log.
//!
//! Invariant: the list under the append lock names every epoch that a batch of the log has, with its first offset.
//! `leader-epoch-checkpoint` follows at checkpoints and at close: nothing of ours is read from it in a log of ours.

use super::shared::Shared;
use crate::error::Error;
use crate::leader_epoch::LeaderEpochs;
use crate::recovery;
use crate::types::LeaderEpoch;

impl Shared {
    /// What is known of leader epochs now.
    pub(super) fn leader_epochs(&self) -> LeaderEpochs {
        self.lock_tail().leader_epochs.clone()
    }

    /// Batches are stamped with `epoch` from now on, and it begins at the log end.
    pub(super) fn begin_leader_epoch(&self, epoch: LeaderEpoch) -> Result<(), Error> {
        let mut tail = self.lock_tail();
        let newest = tail.leader_epochs.latest().map_or(tail.leader_epoch, |last| last.epoch);
        let least = newest.max(tail.leader_epoch);
        if epoch < least || epoch < LeaderEpoch(0) {
            return Err(Error::Misuse(format!(
                "leader epoch {} begins behind epoch {}; accepted is {1} to 2147483647",
                epoch.0, least.0
            )));
        }
        let end = tail.active.next_offset();
        tail.leader_epoch = epoch;
        tail.leader_epochs.assign(epoch, end);
        Ok(())
    }

    /// Brings `leader-epoch-checkpoint` up to date. The append lock must not be held.
    pub(super) fn write_leader_epochs(&self) -> Result<(), Error> {
        let now = self.leader_epochs();
        let mut written = self.epoch_file.lock();
        if written.as_ref() == Some(&now) {
            return Ok(());
        }
        // What stands there is not known while it is replaced.
        *written = None;
        recovery::write_leader_epochs(&*self.storage, &self.dir, &now)?;
        *written = Some(now);
        Ok(())
    }
}
