//! Transactions inside one partition: what a broker and its tools call.
//!
//! Invariant: the log decides nothing about a transaction. A batch begins one, a marker that the coordinator orders ends
//! it, and what is written is what was ordered. See `docs/TRANSACTIONS.md`.

use super::completion::{Appended, Completion};
use super::handle::Log;
use super::queue::{Kind, Marker, Pending};
use super::sync::Caller;
use super::validate;
use crate::error::{Error, Rejection};
use crate::format::batch::{CheckedBatch, RawBatch, TimestampType};
use crate::format::control::{ControlKind, EndTxnMarker};
use crate::producer::{EndTxn, MarkerFacts, OpenTxn, TransactionVersion, VerificationGuard};
use crate::types::{CoordinatorEpoch, Durability, Offset, Origin, ProducerEpoch, ProducerId, Sequence};

/// The end of a producer's transaction, as its coordinator orders it (`WriteTxnMarkers` in Kafka).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EndTransaction {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Epoch that the marker carries. By [`TransactionVersion::Two`] one more than that of the transaction's batches.
    pub epoch: ProducerEpoch,
    /// Incarnation of the coordinator; one that is older than the last is fenced.
    pub coordinator_epoch: CoordinatorEpoch,
    /// Whether the records count.
    pub outcome: EndTxn,
    /// What the epoch is held to.
    pub version: TransactionVersion,
}

impl Log {
    /// Writes the marker that ends a transaction and waits until it has the durability asked for.
    ///
    /// A marker for a producer without open transaction is written too: it decides nothing, but it fences older epochs of
    /// producer and coordinator and takes back every guard of the producer. The marker may be repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] with [`Rejection::Fenced`] (47) for an older epoch of the producer, or by version 2 one that
    /// is not later than that of its open transaction; with [`Rejection::CoordinatorFenced`] (52) for an older
    /// coordinator; with [`Rejection::InvalidRecord`] (87) for a negative id or epoch. Else as [`Log::append`].
    pub fn end_transaction(&self, end: EndTransaction, durability: Durability) -> Result<Appended, Error> {
        let (completion, _) = self.enter_marker(end, None, durability)?;
        completion.wait()
    }

    /// [`Self::end_transaction`] without waiting. Markers and batches are judged in the order of their submits.
    ///
    /// # Errors
    ///
    /// As [`Log::submit`]; what else can happen is in the completion.
    pub fn submit_end_transaction(
        &self,
        end: EndTransaction,
        durability: Durability,
    ) -> Result<Completion, Error> {
        let (completion, pending) = self.enter_marker(end, None, durability)?;
        self.shared.drive_later(pending);
        self.shared.ensure_sync(Caller::Leaves);
        Ok(completion)
    }

    /// Aborts a transaction that nobody will end any more, by an operator's order, and waits until the marker has the
    /// durability asked for.
    ///
    /// `txn` comes from [`Self::open_transactions`]; a later transaction of the same producer is not touched. The marker
    /// carries the producer's epoch, so the producer itself is not fenced: its coordinator must not go on with the
    /// transaction. As `coordinator_epoch` a tool gives the epoch of the last marker
    /// ([`Log::producer`], or 0 if there was none), as Kafka's `kafka-transactions --abort` does: the real coordinator is
    /// not fenced then.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] with [`Rejection::InvalidTxnState`] (48) if that transaction is not open any more; else as
    /// [`Self::end_transaction`].
    pub fn abort_transaction(
        &self,
        txn: &OpenTxn,
        coordinator_epoch: CoordinatorEpoch,
        durability: Durability,
    ) -> Result<Appended, Error> {
        let end = EndTransaction {
            producer: txn.producer,
            epoch: txn.epoch,
            coordinator_epoch,
            outcome: EndTxn::Abort,
            version: TransactionVersion::One,
        };
        let (completion, _) = self.enter_marker(end, Some(txn.first_offset), durability)?;
        completion.wait()
    }

    /// Transactions that have begun here and have no marker yet, the oldest first.
    #[must_use]
    pub fn open_transactions(&self) -> Vec<OpenTxn> {
        self.shared.open_transactions()
    }

    /// The end (exclusive) of what a reader of committed records may see: the high watermark, or the first offset of the
    /// oldest transaction that is open or whose marker is not below the high watermark.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.shared.last_stable_offset()
    }

    /// First offset of the oldest transaction that is open or whose marker is not below the high watermark; `None` if
    /// there is none.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.shared.first_unstable_offset()
    }

    /// Begins to verify that the coordinator knows of a transaction, before its first batch is appended (KIP-890).
    ///
    /// Ask the coordinator, then hand the batch in with the guard ([`Self::append_verified`]); a marker in between takes
    /// the guard back. [`VerificationGuard::NONE`] says that a transaction of this epoch is open and nothing is to be
    /// verified. While a verification is begun, a batch of the producer with a sequence behind the lowest one asked for
    /// is out of order.
    #[must_use]
    pub fn begin_verification(
        &self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
    ) -> VerificationGuard {
        self.shared.begin_verification(producer, epoch, sequence)
    }

    /// [`Log::append`] of a transactional batch with the guard of its verification.
    ///
    /// # Errors
    ///
    /// As [`Log::append`]; [`Rejection::InvalidTxnState`] (48) if the batch would begin a transaction and the guard is not
    /// the one of its producer.
    pub fn append_verified(
        &self,
        batch: RawBatch,
        guard: VerificationGuard,
        durability: Durability,
    ) -> Result<Appended, Error> {
        let (completion, _) = self.enter_verified(batch, Origin::Client, guard, durability)?;
        completion.wait()
    }

    /// [`Self::append_verified`] without waiting, for a client or a coordinator.
    ///
    /// # Errors
    ///
    /// As [`Log::submit`]; what else can happen is in the completion.
    pub fn submit_verified(
        &self,
        batch: RawBatch,
        origin: Origin,
        guard: VerificationGuard,
        durability: Durability,
    ) -> Result<Completion, Error> {
        let (completion, pending) = self.enter_verified(batch, origin, guard, durability)?;
        self.shared.drive_later(pending);
        self.shared.ensure_sync(Caller::Leaves);
        Ok(completion)
    }

    fn enter_verified(
        &self,
        batch: RawBatch,
        origin: Origin,
        guard: VerificationGuard,
        durability: Durability,
    ) -> Result<(Completion, Pending), Error> {
        let batch = validate::validate(batch, origin, &self.shared.config, self.shared.clock.wall_ms())?;
        self.shared.enqueue(batch, Kind::Append { origin, guard }, durability)
    }

    fn enter_marker(
        &self,
        end: EndTransaction,
        only: Option<Offset>,
        durability: Durability,
    ) -> Result<(Completion, Pending), Error> {
        let timestamp = self.shared.clock.wall_ms();
        let mut batch = marker_batch(&end, timestamp)?;
        if self.shared.config.timestamp_type == TimestampType::LogAppendTime {
            batch = batch.with_log_append_time(timestamp);
        }
        let facts = MarkerFacts {
            producer: end.producer,
            epoch: end.epoch,
            coordinator_epoch: end.coordinator_epoch,
            commit: end.outcome,
            timestamp,
        };
        let kind = Kind::Marker(Box::new(Marker { facts, version: end.version, only }));
        self.shared.enqueue(batch, kind, durability)
    }
}

fn marker_batch(end: &EndTransaction, timestamp: i64) -> Result<CheckedBatch, Rejection> {
    let malformed = |field, found: i64| {
        Rejection::InvalidRecord(crate::error::Malformed::new(field, 0, "0 or more", found))
    };
    if end.producer.0 < 0 {
        return Err(malformed("producer id of a marker", end.producer.0));
    }
    if end.coordinator_epoch.0 < 0 {
        return Err(malformed("coordinator epoch of a marker", i64::from(end.coordinator_epoch.0)));
    }
    let kind = match end.outcome {
        EndTxn::Commit => ControlKind::Commit,
        EndTxn::Abort => ControlKind::Abort,
    };
    let (producer, epoch, coordinator_epoch) = (end.producer, end.epoch, end.coordinator_epoch);
    let marker = EndTxnMarker { producer, epoch, kind, coordinator_epoch, timestamp };
    RawBatch(marker.to_batch()).check().map_err(Rejection::InvalidRecord)
}
