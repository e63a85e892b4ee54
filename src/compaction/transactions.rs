//! Which batches of transactions count, and which markers are still needed, as a walk over the log goes on.
//!
//! Invariant: an aborted transaction is the range of offsets that its entry names, from its first record to its marker,
//! and nothing of the producer outside of it: an entry whose marker is gone already takes no later transaction with it.
//! A marker is needed as long as the walk has met a batch of its transaction, an emptied one too. Kafka's class is
//! `CleanedTransactionMetadata`.

use std::collections::{HashMap, HashSet};

use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::producer::{EndTxn, Marker};
use crate::types::ProducerId;

/// The transactions around the batch that the walk is at.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// Those that begin behind it, the last one first.
    ahead: Vec<AbortedTxn>,
    /// The aborted ones that it is inside of, and whether a batch of theirs was met.
    aborted: HashMap<ProducerId, (AbortedTxn, bool)>,
    /// Producers of which a batch was met that is in no aborted transaction, and no marker since.
    committed: HashSet<ProducerId>,
}

impl Transactions {
    /// A walk over a log with these aborted transactions, from its start.
    #[must_use]
    pub fn new(mut aborted: Vec<AbortedTxn>) -> Self {
        aborted.sort_unstable_by_key(|txn| std::cmp::Reverse((txn.first_offset, txn.last_offset)));
        Self { ahead: aborted, ..Self::default() }
    }

    /// Takes the next data batch: `true` if it is of an aborted transaction, so that none of its records counts.
    pub fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        self.go_to(header);
        let Some((producer, _)) = header.producer().filter(|_| header.attributes.is_transactional()) else {
            return false;
        };
        match self.aborted.get_mut(&producer) {
            Some((txn, met)) if header.last_offset() <= txn.last_offset => {
                *met = true;
                true
            }
            _ => {
                self.committed.insert(producer);
                false
            }
        }
    }

    /// Takes the next control batch: `true` if no batch of what it ends was met, so that it may go.
    pub fn marker_is_unneeded(&mut self, header: &BatchHeader, marker: Marker) -> bool {
        self.go_to(header);
        let Some((producer, _)) = header.producer() else { return header.record_count == 0 };
        match marker {
            Marker::End(facts) if facts.commit == EndTxn::Commit => !self.committed.remove(&producer),
            Marker::End(_) => match self.aborted.remove(&producer) {
                Some((txn, met)) if txn.last_offset == header.last_offset() => !met,
                Some(other) => {
                    // It ends another transaction than the one that is known.
                    self.aborted.insert(producer, other);
                    !self.committed.remove(&producer)
                }
                // Without an entry the records counted as committed: then they, and their marker, stay.
                None => !self.committed.remove(&producer),
            },
            // An emptied one was passed before. What cannot be read, or is of another kind, is not ours to drop.
            Marker::Other => header.record_count == 0,
            Marker::Unreadable => false,
        }
    }

    fn go_to(&mut self, header: &BatchHeader) {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= header.last_offset()) {
            self.aborted.insert(next.producer, (next, false));
        }
    }
}
