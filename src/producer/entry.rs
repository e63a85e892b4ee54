//! What is remembered of one producer in one partition.
//!
//! Invariant: every batch of the window is stored in the log, in the entry's epoch; the batches of a window follow one
//! another without a gap in sequence and with growing offsets, so that "older than the window" is one comparison. The
//! last `proven` sequences up to the newest batch's last are stored too, without a gap and outside of any aborted
//! transaction.

use std::fmt;

use super::facts::{OffsetSpan, sequences_between};
use crate::types::{CoordinatorEpoch, EngineTime, Offset, ProducerEpoch, Sequence};

/// How many batches are remembered: a producer has at most five requests in flight
/// (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN` in Kafka).
pub const WINDOW: usize = 5;

/// The most sequences that are ever counted as proven: half of the sequence space. Beyond it, "behind" and "ahead"
/// of the newest sequence can no longer be told apart.
pub const MAX_PROVEN: u32 = 1 << 30;

/// One stored batch of the window: what is needed to recognise a retry and to answer it as the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedBatch {
    /// Sequence of the first record.
    pub first_sequence: Sequence,
    /// Sequence of the last record; smaller than the first where the batch straddles the wrap.
    pub last_sequence: Sequence,
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Largest timestamp of the batch, in milliseconds.
    pub max_timestamp: i64,
    /// Whether the batch belongs to a transaction that was aborted: its records are void.
    pub aborted: bool,
}

impl CachedBatch {
    /// Fills the slots of a window that hold nothing. Never seen outside.
    const EMPTY: Self = Self {
        first_sequence: Sequence::ZERO,
        last_sequence: Sequence::ZERO,
        first_offset: Offset::ZERO,
        last_offset: Offset::ZERO,
        max_timestamp: 0,
        aborted: false,
    };

    /// How many sequences the batch takes, across the wrap if it straddles it.
    #[inline]
    #[must_use]
    pub fn length(&self) -> u32 {
        sequences_between(self.first_sequence, self.last_sequence)
    }

    /// The offsets of the batch.
    #[inline]
    #[must_use]
    pub fn offsets(&self) -> OffsetSpan {
        OffsetSpan { first: self.first_offset, last: self.last_offset }
    }

    /// Whether `later` is the next batch of the same producer: its sequences go on where these end, at higher offsets.
    #[inline]
    #[must_use]
    pub fn is_followed_by(&self, later: &Self) -> bool {
        later.first_sequence == self.last_sequence.next() && later.first_offset > self.last_offset
    }

    /// Whether both are the same stored batch. The timestamp is left out, because a Kafka snapshot may know only a
    /// later one; so is the abort flag, which it does not know at all.
    fn is_same_batch(&self, other: &Self) -> bool {
        (self.first_sequence, self.last_sequence) == (other.first_sequence, other.last_sequence)
            && self.offsets() == other.offsets()
    }
}

/// What is remembered of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The highest epoch that wrote a batch or a marker. It never decreases.
    pub epoch: ProducerEpoch,
    /// The highest epoch of a coordinator that wrote a marker.
    pub coordinator_epoch: CoordinatorEpoch,
    /// How many sequences that end at the newest batch's last are known to be stored; at most [`MAX_PROVEN`].
    pub proven: u32,
    /// When the producer last wrote, in engine time.
    pub last_seen: EngineTime,
    /// First offset of the transaction that is open, if one is.
    pub txn_first_offset: Option<Offset>,
    window: Window,
}

impl Entry {
    /// A producer of which only the epoch is known.
    #[must_use]
    pub fn new(epoch: ProducerEpoch, seen: EngineTime) -> Self {
        Self {
            epoch,
            coordinator_epoch: CoordinatorEpoch::NONE,
            proven: 0,
            last_seen: seen,
            txn_first_offset: None,
            window: Window::EMPTY,
        }
    }

    /// The same with this window, oldest batch first: for decoders, which set the other fields themselves.
    ///
    /// # Errors
    ///
    /// [`BadWindow`] if there are more than [`WINDOW`] batches or if they are not a window: one that ends before it
    /// begins, or one that does not continue the one before it.
    pub fn with_window(mut self, batches: &[CachedBatch]) -> Result<Self, BadWindow> {
        if batches.len() > WINDOW {
            return Err(BadWindow::TooMany { found: batches.len() });
        }
        self.window = Window::EMPTY;
        for (index, batch) in batches.iter().enumerate() {
            if batch.last_offset < batch.first_offset {
                return Err(BadWindow::Backwards { index });
            }
            if self.newest().is_some_and(|newest| !newest.is_followed_by(batch)) {
                return Err(BadWindow::NotContinuing { index });
            }
            self.push(*batch);
        }
        Ok(self)
    }

    /// Remembers the newest batch; the oldest goes if there are already [`WINDOW`]. `proven` is the caller's.
    #[inline]
    pub fn push(&mut self, batch: CachedBatch) {
        self.window.push_newest(batch);
    }

    /// Puts a batch before the oldest one. Does nothing if the window is full.
    pub(super) fn push_oldest(&mut self, batch: CachedBatch) {
        self.window.push_oldest(batch);
    }

    /// Forgets all batches, and with them what was proven: for a new epoch or after a gap.
    #[inline]
    pub fn clear_window(&mut self) {
        self.window.len = 0;
        self.proven = 0;
    }

    /// Flags the batches from `first` on as aborted.
    pub(super) fn flag_aborted_from(&mut self, first: Offset) {
        for batch in self.window.as_mut_slice() {
            batch.aborted |= batch.first_offset >= first;
        }
    }

    /// Adds what a replay of batch headers below this entry's snapshot found out, which began somewhere in the log
    /// with no entry: window, abort flags and `proven`. Everything else stays.
    ///
    /// Headers are read in rising order, but an entry from a Kafka snapshot knows only its newest batch, which the
    /// oldest header does not touch. So the headers are first folded by themselves, and the result is taken over if it
    /// ends at the very batch that the snapshot names; otherwise it speaks of something else and is dropped.
    pub fn refill_from(&mut self, replayed: &Self) {
        let Some(found) = replayed.newest().filter(|_| replayed.epoch == self.epoch) else { return };
        if self.newest().is_some_and(|known| !known.is_same_batch(found)) {
            return;
        }
        // Only the replay knows of aborts: what a snapshot lets us believe of an aborted batch is void.
        self.proven = if found.aborted { replayed.proven } else { self.proven.max(replayed.proven) };
        if replayed.batches().len() >= self.batches().len() {
            self.window = replayed.window;
        }
    }

    /// The remembered batches, oldest first.
    #[inline]
    #[must_use]
    pub fn batches(&self) -> &[CachedBatch] {
        self.window.as_slice()
    }

    /// The newest batch of this epoch; `None` if none is known, as after a marker that raised the epoch.
    #[inline]
    #[must_use]
    pub fn newest(&self) -> Option<&CachedBatch> {
        self.batches().last()
    }

    /// The oldest batch that is remembered.
    #[inline]
    #[must_use]
    pub fn oldest(&self) -> Option<&CachedBatch> {
        self.batches().first()
    }

    /// The only first sequence that appends in this epoch.
    #[inline]
    #[must_use]
    pub fn expected_sequence(&self) -> Sequence {
        self.newest().map_or(Sequence::ZERO, |newest| newest.last_sequence.next())
    }

    /// Whether the producer wrote nothing for `after_ms` milliseconds of engine time. Never while its transaction is
    /// open: forgetting it would turn an open transaction into committed records.
    #[must_use]
    pub fn is_expired(&self, now: EngineTime, after_ms: u64) -> bool {
        self.txn_first_offset.is_none() && now.0.saturating_sub(self.last_seen.0) >= after_ms
    }
}

/// Why some batches are not a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// More than are ever kept.
    #[error("{found} batches, at most {WINDOW} are kept")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// The last offset of a batch is below its first.
    #[error("batch {index} of the window ends below its first offset")]
    Backwards {
        /// Which batch, counted from 0 at the oldest.
        index: usize,
    },
    /// The sequences or offsets of a batch do not continue those of the batch before it.
    #[error("batch {index} of the window does not continue the one before it")]
    NotContinuing {
        /// Which batch, counted from 0 at the oldest.
        index: usize,
    },
}

/// Up to five batches inside the entry itself: an entry is copied for every verdict and must not touch the heap.
#[derive(Clone, Copy)]
struct Window {
    slots: [CachedBatch; WINDOW],
    /// How many of the first slots are in use; what the others hold means nothing.
    len: u8,
}

impl Window {
    const EMPTY: Self = Self { slots: [CachedBatch::EMPTY; WINDOW], len: 0 };

    #[inline]
    fn as_slice(&self) -> &[CachedBatch] {
        self.slots.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn as_mut_slice(&mut self) -> &mut [CachedBatch] {
        self.slots.get_mut(..usize::from(self.len)).unwrap_or(&mut [])
    }

    #[inline]
    fn push_newest(&mut self, batch: CachedBatch) {
        if let Some(slot) = self.slots.get_mut(usize::from(self.len)) {
            *slot = batch;
            self.len += 1;
        } else {
            self.slots.copy_within(1.., 0);
            if let Some(last) = self.slots.last_mut() {
                *last = batch;
            }
        }
    }

    fn push_oldest(&mut self, batch: CachedBatch) {
        if usize::from(self.len) < WINDOW {
            self.slots.copy_within(..WINDOW - 1, 1);
            if let Some(first) = self.slots.first_mut() {
                *first = batch;
            }
            self.len += 1;
        }
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Window {}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
