//! What a broker asks of a log that is one replica of several.
//!
//! Invariant: nothing here decides who leads. The log answers where leader epochs begin and end; the embedder compares
//! the answers of two replicas with the functions of [`crate::LeaderEpochs`].

use super::completion::{Appended, Completion};
use super::follow;
use super::handle::Log;
use super::queue::Kind;
use super::sync::Caller;
use crate::error::Error;
use crate::format::batch::RawBatch;
use crate::leader_epoch::{EpochEnd, LeaderEpochs};
use crate::types::{Durability, LeaderEpoch, Offset};

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
    /// the base offset of that batch; if anything was cut, all that is left is durable. Producers are as they were at
    /// that place.
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

    /// Appends batches as a leader has written them, byte for byte, at the offsets that they have, and waits until they
    /// have the durability asked for. `batches` is what a fetch from the leader returned: one batch or several, the last
    /// of which may be cut short and is then left out.
    ///
    /// Frame and CRC are checked, that the first batch begins at or above the log end and each other above the one
    /// before, and that leader epochs do not fall; no limit of size and no rule of producers applies. Offsets that are
    /// left out, as a compacted leader has them, are kept so; the manifest says then that a gap is no loss.
    ///
    /// The answer has the first offset of the first batch and the last of the last.
    ///
    /// # Errors
    ///
    /// [`Error::UnexpectedAppendOffset`] for offsets below the log end; [`Error::FencedLeaderEpoch`];
    /// [`Error::Rejected`] with `CorruptMessage` for damaged bytes or none; else as [`Log::append`]. Batches before the
    /// first bad one may have been appended: go on at [`Log::log_end_offset`].
    pub fn append_as_follower(&self, batches: RawBatch, durability: Durability) -> Result<Appended, Error> {
        self.enter_followed(&batches, durability)?.wait()
    }

    /// [`Self::append_as_follower`] without waiting.
    ///
    /// # Errors
    ///
    /// As [`Self::append_as_follower`] for what the bytes show; what else can happen is in the completion.
    pub fn submit_as_follower(&self, batches: RawBatch, durability: Durability) -> Result<Completion, Error> {
        let completion = self.enter_followed(&batches, durability)?;
        self.shared.drive();
        self.shared.ensure_sync(Caller::Leaves);
        Ok(completion)
    }

    fn enter_followed(&self, batches: &RawBatch, durability: Durability) -> Result<Completion, Error> {
        let (before, (batch, follow)) = follow::split(batches)?;
        for (batch, follow) in before {
            // The last one answers for all.
            let _answered_by_the_last =
                self.shared.enqueue(batch, Kind::Follow(Box::new(follow)), Durability::Buffered)?;
        }
        let (completion, _) = self.shared.enqueue(batch, Kind::Follow(Box::new(follow)), durability)?;
        Ok(completion)
    }
}
