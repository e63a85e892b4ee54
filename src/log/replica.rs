//! What a broker asks of a log that is one replica of several.
//!
//! Invariant: nothing here decides who leads. The log answers where leader epochs begin and end; the embedder compares
//! the answers of two replicas with the functions of [`crate::LeaderEpochs`].

use super::handle::Log;
use crate::error::Error;
use crate::leader_epoch::{EpochEnd, LeaderEpochs};
use crate::types::{LeaderEpoch, Offset};

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

    /// Cuts the log: the batch that holds `offset` goes and all behind it. Answers the new log end, which is `offset` or
    /// the base offset of that batch; all of it is durable. Producers are as they were at that place.
    ///
    /// While the log is cut, appends and fetches are answered [`Error::Unavailable`]; appends that waited for
    /// durability above the cut are answered [`Error::Indeterminate`], fetches that were made before
    /// [`Error::Truncated`]. At the log end nothing is cut but an epoch that was begun there.
    ///
    /// After a crash at any moment the log is wholly as before or wholly cut.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] outside of the log; [`Error::TruncationTooLow`] if the beginning of the log is gone and
    /// no producer state is kept below the cut: then [`Self::truncate_fully_and_start_at`] is what is left;
    /// [`Error::Corrupt`] if what would stay is damaged; [`Error::Unavailable`] if the log is read-only or being cut.
    /// Nothing has changed then. [`Error::Io`]: if it was begun, the log is read-only, and opening it again finishes it.
    pub fn truncate_to(&self, offset: Offset) -> Result<Offset, Error> {
        self.shared.truncate_to(offset)
    }

    /// Takes everything out of the log, producers and leader epochs included: it begins anew, empty, at `offset`.
    ///
    /// For a follower whose leader's log begins above its own end. Otherwise as [`Self::truncate_to`].
    ///
    /// # Errors
    ///
    /// As [`Self::truncate_to`], but no offset is too low; [`Error::Misuse`] for a negative one.
    pub fn truncate_fully_and_start_at(&self, offset: Offset) -> Result<Offset, Error> {
        self.shared.truncate_fully_and_start_at(offset)
    }
}
