//! Where each leader epoch of a log begins: how two replicas find the place at which their logs part.
//!
//! Invariant: epochs and start offsets both rise from entry to entry, so the answer to every question is one place in
//! the list. Nothing is read or written here: batches, run headers and `leader-epoch-checkpoint` are where it comes
//! from. The rules are those of Kafka's `LeaderEpochFileCache` and `AbstractFetcherThread` (KIP-101, KIP-279).

use crate::format::checkpoint_file::EpochStart;
use crate::types::{LeaderEpoch, Offset};

/// The end of what a log holds of a leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochEnd {
    /// The epoch asked for, or the next lower one that the log knows.
    pub epoch: LeaderEpoch,
    /// The offset behind its last record.
    pub end_offset: Offset,
}

/// What a follower does with a leader's answer about the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Divergence {
    /// The logs are the same below this offset: cut here (or do nothing if it is the log end), then fetch from here.
    TruncateTo(Offset),
    /// The leader does not know the epoch that was asked for. Cut here, then ask for the end of `epoch`.
    AskAgain {
        /// What lies from here on is certainly not in the leader's log.
        truncate_to: Offset,
        /// The newest epoch that is left, and that the leader may know.
        epoch: LeaderEpoch,
    },
}

/// Whether a follower may fetch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Continuation {
    /// Its log is the beginning of the leader's.
    Goes,
    /// It is not: the follower truncates by this answer ([`LeaderEpochs::divergence`]). Kafka's `DivergingEpoch`.
    Diverges(EpochEnd),
    /// The leader knows nothing of that epoch. Kafka answers `OFFSET_OUT_OF_RANGE`.
    Unknown,
}

/// The first offset of each leader epoch of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    /// Both fields rise.
    starts: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// No epoch is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The list that assigning each of `starts` in turn gives.
    #[must_use]
    pub fn from_starts(starts: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut epochs = Self::new();
        for (epoch, start_offset) in starts {
            epochs.assign(epoch, start_offset);
        }
        epochs
    }

    /// Notes that `epoch` begins at `start_offset`. What is known of later epochs and higher offsets is dropped: the
    /// newest word is right. A negative epoch or offset says nothing.
    ///
    /// `true` if the list has changed; the second batch of an epoch changes nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        let known =
            self.latest().is_some_and(|last| epoch == last.epoch && start_offset >= last.start_offset);
        if known || epoch < LeaderEpoch(0) || start_offset < Offset::ZERO {
            return false;
        }
        self.starts.retain(|start| start.epoch < epoch && start.start_offset < start_offset);
        self.starts.push(EpochStart { epoch, start_offset });
        true
    }

    /// The newest epoch and where it begins.
    #[must_use]
    pub fn latest(&self) -> Option<EpochStart> {
        self.starts.last().copied()
    }

    /// The epoch of the record at `offset`; `None` below the first epoch known.
    #[must_use]
    pub fn epoch_for(&self, offset: Offset) -> Option<LeaderEpoch> {
        let behind = self.starts.partition_point(|start| start.start_offset <= offset);
        self.starts.get(behind.checked_sub(1)?).map(|start| start.epoch)
    }

    /// Where the log's records of `epoch` end, for a follower that holds records of that epoch.
    ///
    /// Of the newest epoch that is the log end. Of an older one it is the start of the next higher, and the answer names
    /// the newest epoch known that is not above the one asked for; if there is none, the one asked for. `None` if the
    /// epoch is higher than all, or nothing is known.
    #[must_use]
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        if self.latest()?.epoch == epoch {
            return Some(EpochEnd { epoch, end_offset: log_end });
        }
        if epoch < LeaderEpoch(0) {
            return None;
        }
        let above = self.starts.partition_point(|start| start.epoch <= epoch);
        let end_offset = self.starts.get(above)?.start_offset;
        let floor = above.checked_sub(1).and_then(|floor| self.starts.get(floor));
        Some(EpochEnd { epoch: floor.map_or(epoch, |floor| floor.epoch), end_offset })
    }

    /// Whether a log whose last record, before `offset`, is of `epoch` is the beginning of this one: what a leader asks
    /// of each fetch of a follower (KIP-595).
    #[must_use]
    pub fn continuation(&self, epoch: LeaderEpoch, offset: Offset, log_end: Offset) -> Continuation {
        match self.end_offset_for(epoch, log_end) {
            None => Continuation::Unknown,
            Some(end) if end.epoch < epoch || end.end_offset < offset => Continuation::Diverges(end),
            Some(_) => Continuation::Goes,
        }
    }

    /// What this log, as a follower's, is to do when `leader` is the leader's answer about an epoch of it.
    #[must_use]
    pub fn divergence(&self, leader: EpochEnd, log_end: Offset) -> Divergence {
        match self.end_offset_for(leader.epoch, log_end) {
            Some(own) if own.epoch != leader.epoch => {
                Divergence::AskAgain { truncate_to: own.end_offset.min(log_end), epoch: own.epoch }
            }
            Some(own) => Divergence::TruncateTo(own.end_offset.min(leader.end_offset).min(log_end)),
            None => Divergence::TruncateTo(leader.end_offset.min(log_end)),
        }
    }

    /// Forgets epochs that begin at or above `offset`: the log ends there now.
    pub fn truncate_from_end(&mut self, offset: Offset) {
        self.starts.retain(|start| start.start_offset < offset);
    }

    /// Forgets epochs that end at or below `offset`: the log begins there now, and so does the epoch that holds it.
    pub fn truncate_from_start(&mut self, offset: Offset) {
        let behind = self.starts.partition_point(|start| start.start_offset <= offset);
        let Some(held) = behind.checked_sub(1) else { return };
        self.starts.drain(..held);
        if let Some(first) = self.starts.first_mut() {
            first.start_offset = offset;
        }
    }

    /// The epochs that begin below `offset`.
    #[must_use]
    pub fn below(&self, offset: Offset) -> Self {
        let mut below = self.clone();
        below.truncate_from_end(offset);
        below
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The entries as a run header keeps them.
    #[must_use]
    pub fn pairs(&self) -> Vec<(LeaderEpoch, Offset)> {
        self.starts.iter().map(|start| (start.epoch, start.start_offset)).collect()
    }

    /// Whether no epoch is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

#[cfg(test)]
mod tests;
