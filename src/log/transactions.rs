//! Transactions of an open log: what is decided for whom, what was aborted, and what a checkpoint must know of both.
//!
//! Invariant: the list of undecided transactions changes under the append lock, in one step with the producers' entries,
//! and before the log end moves; so whoever reads a high watermark first and the list then never takes for decided what
//! was not. The last stable offset is never above the high watermark.

use std::sync::atomic::Ordering;

use super::shared::{Shared, Tail};
use super::verdict::Effect;
use crate::error::Error;
use crate::format::index_entry::AbortedTxn;
use crate::format::names;
use crate::format::run::CompletedTxn;
use crate::format::txn_index_note::note_written;
use crate::index::Collected;
use crate::producer::{OpenTxn, Transactions, VerificationGuard, Verifications};
use crate::segment::indexes::AbortedTail;
use crate::segment::set::{SegmentRef, SegmentSet};
use crate::testing::{Break, Point, broken, cross};
use crate::types::{LogPoint, Offset, ProducerEpoch, ProducerId, Sequence};

/// The transactions that were not decided at the end of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct UndecidedAt {
    pub(super) open: Vec<(ProducerId, Offset)>,
    pub(super) completed: Vec<CompletedTxn>,
}

impl Shared {
    /// First offset of the oldest transaction that is open, or whose marker is not below the high watermark.
    pub(super) fn first_unstable_offset(&self) -> Option<Offset> {
        self.first_unstable_at(self.high_watermark())
    }

    /// The end (exclusive) of what is decided.
    pub(super) fn last_stable_offset(&self) -> Offset {
        // The high watermark first: see the head of this module.
        let high_watermark = self.high_watermark();
        self.first_unstable_at(high_watermark).map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// The place where readers of committed records stop.
    pub(super) fn last_stable_point(&self) -> Result<LogPoint, Error> {
        let high_watermark = self.high_watermark_point();
        match self.first_unstable_at(high_watermark.offset) {
            Some(first) if first < high_watermark.offset => self.point_at(first, &high_watermark),
            _ => Ok(high_watermark),
        }
    }

    /// What a transaction that began below the log start holds back begins at the log start.
    fn first_unstable_at(&self, high_watermark: Offset) -> Option<Offset> {
        if !self.any_txns.load(Ordering::Acquire) || broken(Break::StableIgnoresOpen) {
            return None;
        }
        let mut transactions = self.transactions.lock();
        let first = transactions.first_unstable_offset(high_watermark);
        if transactions.is_empty() {
            self.any_txns.store(false, Ordering::Release);
        }
        drop(transactions);
        first.map(|first| first.max(self.log_start_offset()))
    }

    /// All open transactions, the oldest first.
    pub(super) fn open_transactions(&self) -> Vec<OpenTxn> {
        self.transactions.lock().open().copied().collect()
    }

    /// The transaction that a producer has open.
    pub(super) fn open_transaction_of(&self, producer: ProducerId) -> Option<OpenTxn> {
        self.transactions.lock().open_of(producer).copied()
    }

    /// A guard for the first batch of a transaction; none if one of this epoch is open.
    pub(super) fn begin_verification(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
    ) -> VerificationGuard {
        let now = self.engine_time();
        let mut tail = self.lock_tail();
        tail.verifications.expire(now, self.config.producer_expiry_ms);
        if self.open_transaction_of(producer).is_some_and(|open| open.epoch == epoch) {
            return VerificationGuard::NONE;
        }
        tail.verifications.begin(producer, epoch, sequence, now)
    }

    /// Applies what the batches of a unit have changed, in their order: they are written.
    pub(super) fn apply_effects(&self, tail: &mut Tail, effects: impl ExactSizeIterator<Item = Effect>) {
        if effects.len() == 0 {
            return;
        }
        let high_watermark = self.high_watermark();
        let mut transactions = self.transactions.lock();
        for effect in effects {
            match effect {
                Effect::Wrote(txn) => {
                    transactions.wrote(txn);
                    tail.verifications.end(txn.producer);
                }
                Effect::Ended { producer, outcome, marker } => {
                    if let Some(aborted) = transactions.ended(producer, outcome, marker) {
                        tail.active.txn_aborted(aborted);
                    }
                    tail.verifications.end(producer);
                }
            }
        }
        // What is decided by now is forgotten here too: perhaps nobody ever asks.
        let _not_asked = transactions.first_unstable_offset(high_watermark);
        self.any_txns.store(!transactions.is_empty(), Ordering::Release);
    }

    /// Puts what a recovery has found in the place of what was known. Call it with the append lock held.
    pub(super) fn replace_transactions(
        &self,
        tail: &mut Tail,
        open: impl IntoIterator<Item = OpenTxn>,
        completed: impl IntoIterator<Item = CompletedTxn>,
    ) {
        tail.frozen_txns = UndecidedAt::default();
        // The coordinator may have ended what was verified in the part that is gone: it is asked again.
        tail.verifications = Verifications::default();
        let mut transactions = self.transactions.lock();
        *transactions = Transactions::restored(open, completed);
        self.any_txns.store(!transactions.is_empty(), Ordering::Release);
    }

    /// The undecided transactions now. Call it with the append lock held.
    pub(super) fn undecided(&self) -> UndecidedAt {
        let high_watermark = self.high_watermark();
        let mut transactions = self.transactions.lock();
        let _not_asked = transactions.first_unstable_offset(high_watermark);
        UndecidedAt {
            open: transactions.open().map(|txn| (txn.producer, txn.first_offset)).collect(),
            completed: transactions.completed().copied().collect(),
        }
    }

    /// The transactions that were aborted at or behind `from` and began before `upper`, from the segment that begins at
    /// `base` on.
    pub(super) fn collect_aborted(
        &self,
        base: Offset,
        from: Offset,
        upper: Offset,
    ) -> Result<Vec<AbortedTxn>, Error> {
        loop {
            let view = self.view.read().clone();
            if let Some(found) = self.aborted_listed_in(&view, base, from, upper)? {
                return Ok(found);
            }
        }
    }

    /// [`Self::collect_aborted`] from the lists of the segments of `view`; `None` if they are not those of the log by now.
    pub(super) fn aborted_listed_in(
        &self,
        view: &SegmentSet,
        base: Offset,
        from: Offset,
        upper: Offset,
    ) -> Result<Option<Vec<AbortedTxn>>, Error> {
        let mut found = Vec::new();
        for segment in view.from(base) {
            let reach = match segment {
                SegmentRef::Sealed(sealed) => {
                    let reach = sealed.collect_aborted(from, upper, &mut found);
                    // Once the log has let go of it, the name by which it opens its list may be another segment's, or
                    // nobody's: compaction pins those segments alone that the log has.
                    if !self.view.read().has(sealed) {
                        return Ok(None);
                    }
                    reach?
                }
                SegmentRef::Active(active) => {
                    let tail = self.lock_tail();
                    if tail.active.base() != active.base() {
                        // It is sealed now, and was not asked.
                        return Ok(None);
                    }
                    tail.active.collect_aborted(from, upper, &mut found)
                }
            };
            if reach == Collected::All {
                break;
            }
        }
        Ok(Some(found))
    }

    /// Makes all aborted transactions durable that are in the log now. A checkpoint does it before it is named, because
    /// no recovery reads the log below it.
    pub(super) fn write_aborted(&self) -> Result<(), Error> {
        // The active segment first: what a roll seals after this look, it writes as a whole; what was sealed before it is
        // among the sealed ones below. The other way round a roll in between would leave a segment out.
        let (base, unwritten) = {
            let mut tail = self.lock_tail();
            (tail.active.base(), tail.active.take_unwritten_aborted())
        };
        let io = |error| Error::io("write", &self.dir.join(names::txn_index_name(base)), error);
        let write = || {
            let file = unwritten.write(&*self.storage, &self.dir, base)?;
            file.map_or(Ok(()), |file| file.sync_data())?;
            self.note_aborted(base, &unwritten);
            Ok(())
        };
        let written = write().map_err(io).and_then(|()| self.write_sealed_indexes());
        cross(Point::TxnAbortedWritten);
        written.inspect_err(|_| {
            let mut tail = self.lock_tail();
            if tail.active.base() == base {
                tail.active.give_back_aborted(&unwritten);
            }
        })
    }

    /// The next manifest notes what was made durable of a `.txnindex`.
    pub(super) fn note_aborted(&self, base: Offset, written: &AbortedTail) {
        if let Some((position, bytes)) = written.unwritten() {
            note_written(&mut self.manifest.lock().txn_indexes, base, position, bytes);
        }
    }
}
