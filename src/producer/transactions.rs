//! Which transactions of a partition are not decided yet for a reader of committed records.
//!
//! Invariant: a producer has at most one open transaction, and no two transactions begin at the same offset. An ended
//! transaction stays until the high watermark has passed its marker, because a marker that may still be lost decides
//! nothing. Every operation costs the logarithm of the number of transactions, or is paid for by the one that brought
//! the transaction in. The rules are those of `ongoingTxns` and `unreplicatedTxns` in Kafka's `ProducerStateManager`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashMap;

use super::facts::EndTxn;
use crate::format::index_entry::AbortedTxn;
use crate::format::run::CompletedTxn;
use crate::types::{EngineTime, Offset, ProducerEpoch, ProducerId};

/// A transaction that has begun in this partition and has no marker yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenTxn {
    /// Whose transaction.
    pub producer: ProducerId,
    /// The newest epoch of the producer that wrote here.
    pub epoch: ProducerEpoch,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// When it began, in engine time. After a restart: when its producer last wrote, which is not earlier.
    pub started: EngineTime,
}

/// Open transactions, and ended ones whose marker is not below the high watermark.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    open: BTreeMap<Offset, OpenTxn>,
    by_producer: HashMap<ProducerId, Offset>,
    /// In the order of their markers.
    completed: VecDeque<CompletedTxn>,
    completed_firsts: BTreeSet<Offset>,
}

impl Transactions {
    /// No transactions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a recovery has found; `completed` in the order of their markers.
    #[must_use]
    pub fn restored(
        open: impl IntoIterator<Item = OpenTxn>,
        completed: impl IntoIterator<Item = CompletedTxn>,
    ) -> Self {
        let mut transactions = Self::new();
        for txn in open {
            transactions.wrote(txn);
        }
        for txn in completed {
            transactions.keep(txn);
        }
        transactions
    }

    /// A transactional batch was written: it begins a transaction if its producer has none open, and otherwise only
    /// raises the epoch that is known of it.
    pub fn wrote(&mut self, batch: OpenTxn) {
        match self.by_producer.get(&batch.producer).and_then(|first| self.open.get_mut(first)) {
            Some(open) => open.epoch = open.epoch.max(batch.epoch),
            None => {
                self.by_producer.insert(batch.producer, batch.first_offset);
                self.open.insert(batch.first_offset, batch);
            }
        }
    }

    /// A marker was written at `marker`. Gives the entry for the transaction index if it aborts a transaction; a marker
    /// without open transaction completes none.
    pub fn ended(&mut self, producer: ProducerId, outcome: EndTxn, marker: Offset) -> Option<AbortedTxn> {
        let first_offset = self.by_producer.remove(&producer)?;
        self.open.remove(&first_offset);
        self.keep(CompletedTxn { producer, first_offset, marker_offset: marker });
        (outcome == EndTxn::Abort).then(|| AbortedTxn {
            producer,
            first_offset,
            last_offset: marker,
            last_stable_offset: self.oldest_open().unwrap_or_else(|| marker.saturating_add(1)),
        })
    }

    /// The first offset that is not decided for a reader below `high_watermark`: that of the oldest transaction that is
    /// open, or whose marker is not below it. `None` if there is no such transaction.
    ///
    /// The high watermark must not be lower than at an earlier call: what it has passed is forgotten.
    pub fn first_unstable_offset(&mut self, high_watermark: Offset) -> Option<Offset> {
        while let Some(txn) = self.completed.front().filter(|txn| txn.marker_offset < high_watermark) {
            self.completed_firsts.remove(&txn.first_offset);
            self.completed.pop_front();
        }
        let completed = self.completed_firsts.first().copied();
        self.oldest_open().into_iter().chain(completed).min()
    }

    /// The open transaction of a producer.
    #[must_use]
    pub fn open_of(&self, producer: ProducerId) -> Option<&OpenTxn> {
        self.by_producer.get(&producer).and_then(|first| self.open.get(first))
    }

    /// All open transactions, the oldest first.
    pub fn open(&self) -> impl Iterator<Item = &OpenTxn> {
        self.open.values()
    }

    /// Ended transactions whose marker the high watermark had not passed when it was last told, in the order of their
    /// markers.
    pub fn completed(&self) -> impl Iterator<Item = &CompletedTxn> {
        self.completed.iter()
    }

    /// Whether every transaction is decided.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.completed.is_empty()
    }

    fn oldest_open(&self) -> Option<Offset> {
        self.open.keys().next().copied()
    }

    fn keep(&mut self, txn: CompletedTxn) {
        debug_assert!(
            self.completed.back().is_none_or(|last| last.marker_offset < txn.marker_offset),
            "markers come in the order of the log"
        );
        self.completed_firsts.insert(txn.first_offset);
        self.completed.push_back(txn);
    }
}
