//! What a broker asks of a log that is one replica of several.
//!
//! Invariant: nothing here decides who leads. The log answers where leader epochs begin and end; the embedder compares
//! the answers of two replicas with the functions of [`crate::LeaderEpochs`].

use super::handle::Log;
use crate::error::Error;
use crate::leader_epoch::{EpochEnd, LeaderEpochs};
use crate::types::LeaderEpoch;

impl Log {
    /// Batches that are appended as leader from now on carry `epoch`, which begins at the log end.
    ///
    /// Nothing is written for it: until a batch of the epoch is in the log, a restart forgets it.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the log knows a later epoch already.
    pub fn begin_leader_epoch(&self, epoch: LeaderEpoch) -> Result<(), Error> {
        self.shared.begin_leader_epoch(epoch)
    }

    /// Where each leader epoch begins.
    #[must_use]
    pub fn leader_epochs(&self) -> LeaderEpochs {
        self.shared.leader_epochs()
    }

    /// Where the records of `epoch` end in this log, for a follower that asks (Kafka's `OffsetsForLeaderEpoch`); `None`
    /// if the epoch is later than all, or nothing is known.
    #[must_use]
    pub fn end_offset_for_leader_epoch(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        self.shared.leader_epochs().end_offset_for(epoch, self.log_end_offset())
    }
}
