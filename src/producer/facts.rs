//! What a batch or a marker says about its producer: all that the rules look at.
//!
//! Invariant: plain values out of a header whose CRC was checked; nothing here knows an entry or a verdict.

use crate::format::batch::BatchHeader;
use crate::types::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// The part of a data batch's header that the rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Whose batch.
    pub producer: ProducerId,
    /// Incarnation of the producer.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record. `None` (-1 on disk) in batches that a coordinator writes.
    pub first_sequence: Option<Sequence>,
    /// Sequence of the last record; smaller than the first where the batch straddles the wrap.
    pub last_sequence: Option<Sequence>,
    /// Largest timestamp of the batch, in milliseconds; a duplicate's reply carries it.
    pub max_timestamp: i64,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

impl BatchFacts {
    /// The facts of a header, or `None` if the batch names no producer. Call it for data batches; what a control
    /// batch says stands in its record (see [`MarkerFacts`]).
    #[must_use]
    pub fn of(header: &BatchHeader) -> Option<Self> {
        let (producer, epoch) = header.producer()?;
        let (first_sequence, last_sequence) = header.sequences().unzip();
        Some(Self {
            producer,
            epoch,
            first_sequence,
            last_sequence,
            max_timestamp: header.max_timestamp,
            transactional: header.attributes.is_transactional(),
        })
    }

    /// First and last sequence, both inclusive; `None` if the batch has none.
    #[inline]
    #[must_use]
    pub fn sequences(&self) -> Option<(Sequence, Sequence)> {
        self.first_sequence.zip(self.last_sequence)
    }

    /// How many sequences the batch takes, across the wrap if it straddles it; 0 if it has none.
    #[inline]
    #[must_use]
    pub fn length(&self) -> u32 {
        self.sequences().map_or(0, |(first, last)| sequences_between(first, last))
    }
}

/// How many sequences lie from `first` to `last`, both counted, modulo 2^31.
#[inline]
pub(super) fn sequences_between(first: Sequence, last: Sequence) -> u32 {
    last.steps_from(first) + 1
}

/// The offsets that a batch got, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetSpan {
    /// Offset of the first record (of the batch as written: compaction may have removed it).
    pub first: Offset,
    /// Offset of the last record.
    pub last: Offset,
}

/// How a transaction ended (`ControlRecordType` in Kafka).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndTxn {
    /// Its records count.
    Commit,
    /// Its records are void.
    Abort,
}

/// Which rule the epoch of a marker is held to (`transaction.version` in Kafka). It is not stored in the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TransactionVersion {
    /// The epoch of the transaction's batches, or a later one.
    #[default]
    One,
    /// An epoch later than that of the transaction's batches (KIP-890): the next transaction begins at sequence 0.
    Two,
}

/// What the marker at the end of a transaction says (`EndTransactionMarker` in Kafka).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkerFacts {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Epoch of the producer; with version 2 of transactions one higher than that of the data.
    pub epoch: ProducerEpoch,
    /// Incarnation of the coordinator that wrote the marker.
    pub coordinator_epoch: CoordinatorEpoch,
    /// Whether the transaction counts.
    pub commit: EndTxn,
    /// Timestamp of the marker's record, in milliseconds. No rule looks at it.
    pub timestamp: i64,
}
