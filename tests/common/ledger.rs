//! What a client of a log remembers: the batches it sent, and what it was told about them.
//!
//! Invariant: a batch is written down before it is sent, and an answer at the moment in which it is given, so that a
//! test which stops the world at any operation knows exactly what was promised by then.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use oncelog::{
    Appended, BatchBuilder, Completion, Durability, Error, Offset, ProducerEpoch, ProducerId, RawBatch,
    Sequence,
};

/// A batch as its producer sent it.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) producer: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) first: Sequence,
    pub(crate) records: u32,
    pub(crate) bytes: Bytes,
}

impl Issued {
    /// A batch whose bytes no other batch of the test has.
    pub(crate) fn new(producer: i64, epoch: i16, first: i32, records: u32) -> Self {
        let (producer, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
        let first = Sequence::new(first).expect("tests count from 0");
        let mut batch = BatchBuilder::new().producer(producer, epoch, first);
        for record in 0..records {
            let value = format!("producer {producer} epoch {epoch} sequence {first} record {record}");
            let timestamp = NOW_MS - 1_000 + i64::from(first.value()) + i64::from(record);
            batch = batch.record_at(
                timestamp,
                Some(value.get(..10).expect("is longer").as_bytes()),
                Some(value.as_bytes()),
            );
        }
        Self { producer, epoch, first, records, bytes: batch.build().expect("a batch that keeps the rules") }
    }

    pub(crate) fn raw(&self) -> RawBatch {
        RawBatch(self.bytes.clone())
    }

    /// The sequence behind its last one.
    pub(crate) fn next(&self) -> Sequence {
        self.first.wrapping_add(self.records)
    }

    /// The largest timestamp.
    pub(crate) fn timestamp(&self) -> i64 {
        NOW_MS - 1_000 + i64::from(self.first.value()) + i64::from(self.records) - 1
    }

    /// Its bytes in the log, where a leader of epoch 0 gave it `base`.
    pub(crate) fn stored_at(&self, base: Offset) -> Vec<u8> {
        let mut stored = self.bytes.to_vec();
        stored[..8].copy_from_slice(&base.0.to_be_bytes());
        stored[12..16].copy_from_slice(&0_i32.to_be_bytes());
        stored
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records from {:?} of {:?}, epoch {}",
            self.records, self.first, self.producer, self.epoch
        )
    }
}

/// The wall clock of a test, in milliseconds.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// An acknowledgement: of a new batch or of a duplicate, either way a promise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    /// Place of the batch among the issued ones.
    pub(crate) batch: usize,
    pub(crate) level: Durability,
    pub(crate) appended: Appended,
}

/// What was sent and what was answered, each in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) issued: Vec<Issued>,
    pub(crate) acks: Vec<Ack>,
    /// Answers that were errors, with the place of their batch.
    pub(crate) errors: Vec<(usize, Error)>,
}

/// A ledger that completions write into.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch down; returns its place.
    pub(crate) fn issue(&self, batch: Issued) -> usize {
        let mut ledger = self.lock();
        ledger.issued.push(batch);
        ledger.issued.len() - 1
    }

    /// Writes the answer down as soon as it is given.
    pub(crate) fn expect_answer(&self, batch: usize, level: Durability, completion: Completion) {
        let ledger = self.clone();
        completion.on_complete(move |answer| ledger.answered(batch, level, answer));
    }

    pub(crate) fn answered(&self, batch: usize, level: Durability, answer: Result<Appended, Error>) {
        let mut ledger = self.lock();
        match answer {
            Ok(appended) => ledger.acks.push(Ack { batch, level, appended }),
            Err(error) => ledger.errors.push((batch, error)),
        }
    }
}
