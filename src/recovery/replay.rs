//! The producer state that follows from the batches of a log, on top of what a chain of runs knows.
//!
//! Invariant: batches are applied in the order of the log, each once, with the same functions that an append uses; an
//! entry is copied out of the runs when its producer is first met, and nothing is written to them. So state = chain +
//! batches behind its end.

use std::collections::BTreeMap;

use super::log_files::LogFiles;
use super::walk::{Seen, Visit};
use crate::checkpoint::Chain;
use crate::error::Error;
use crate::format::batch::{BatchHeader, verify_crc};
use crate::format::index_entry::AbortedTxn;
use crate::format::run::CompletedTxn;
use crate::leader_epoch::LeaderEpochs;
use crate::producer::{
    BatchFacts, EndTxn, Entry, Marker, MarkerFacts, OffsetSpan, OpenTxn, ProducerMap, apply_data,
    apply_marker, marker_of,
};
use crate::testing::{self, Break};
use crate::types::{EngineTime, LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Why a pass was given up.
#[derive(Debug)]
pub(super) enum Halt {
    /// Nothing can go on.
    Error(Error),
    /// An entry could not be read from the runs: another chain may do.
    Chain(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What is known of transactions and leader epochs beside the producers' entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogFacts {
    pub(super) leader_epochs: LeaderEpochs,
    /// Open transactions by first offset.
    pub(super) open_txns: BTreeMap<Offset, ProducerId>,
    /// Ended ones, in the order of their markers.
    pub(super) completed_txns: Vec<CompletedTxn>,
    /// The aborted of those that the replay met.
    pub(super) aborted_txns: Vec<AbortedTxn>,
    /// Abort markers whose transaction did not begin in what was replayed, in their order.
    pub(super) aborts_without_begin: Vec<(ProducerId, Offset)>,
}

impl LogFacts {
    /// Notes the leader epoch of a batch, where it is a later one.
    pub(super) fn see_epoch(&mut self, epoch: LeaderEpoch, first: Offset) {
        if self.leader_epochs.latest().is_none_or(|known| known.epoch < epoch) {
            self.leader_epochs.assign(epoch, first);
        }
    }

    fn open(&mut self, producer: ProducerId, first: Offset) {
        self.open_txns.insert(first, producer);
    }

    fn end(&mut self, facts: &MarkerFacts, first: Offset, marker: Offset) {
        self.open_txns.remove(&first);
        self.completed_txns.push(CompletedTxn {
            producer: facts.producer,
            first_offset: first,
            marker_offset: marker,
        });
        if facts.commit == EndTxn::Abort {
            // As Kafka counts it at the time of the abort: the first offset still open, else behind the marker.
            let oldest_open = self.open_txns.keys().next().copied();
            self.aborted_txns.push(AbortedTxn {
                producer: facts.producer,
                first_offset: first,
                last_offset: marker,
                last_stable_offset: oldest_open.unwrap_or_else(|| marker.saturating_add(1)),
            });
        }
    }
}

/// The state while batches are applied.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    chain: Option<&'a Chain>,
    seen: EngineTime,
    pub(super) producers: ProducerMap,
    pub(super) facts: LogFacts,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// Bytes of batches of which only the header was read.
    pub(super) unverified: u64,
    /// Markers that could not be read although their CRC is right.
    pub(super) odd_markers: u64,
}

impl<'a> Fold<'a> {
    /// A state that begins with a chain, or with nothing.
    pub(super) fn new(chain: Option<&'a Chain>, facts: LogFacts, seen: EngineTime) -> Self {
        Self {
            chain,
            seen,
            producers: ProducerMap::new(),
            facts,
            batches: 0,
            bytes: 0,
            unverified: 0,
            odd_markers: 0,
        }
    }

    /// When producers of applied batches count as seen.
    pub(super) fn seen(&self) -> EngineTime {
        self.seen
    }

    /// Applies a batch of a walk.
    pub(super) fn visit(&mut self, files: &LogFiles<'_>, visit: &Visit<'_>) -> Result<Seen, Halt> {
        let header = visit.header;
        if header.attributes.is_control() {
            let read;
            let bytes = match visit.bytes {
                Some(bytes) => bytes,
                None => {
                    // The payload of a marker is a few bytes: it is read, and proven, even where headers do elsewhere.
                    read = files.batch(visit.segment, visit.position, header)?;
                    if let Err(malformed) = verify_crc(header, &read) {
                        return Ok(Seen::Damaged(malformed));
                    }
                    &read
                }
            };
            match marker_of(header, bytes) {
                Marker::End(facts) => self.marker(&facts, header.base_offset)?,
                Marker::Other => {}
                Marker::Unreadable => self.odd_markers += 1,
            }
        } else {
            if let Some(facts) = BatchFacts::of(header) {
                self.data(&facts, header)?;
            }
            if visit.bytes.is_none() {
                self.unverified += header.size() as u64;
            }
        }
        self.facts.see_epoch(header.leader_epoch, header.base_offset);
        self.batches += 1;
        self.bytes += header.size() as u64;
        Ok(Seen::Taken)
    }

    /// The entry of a producer as of now.
    pub(super) fn entry(&self, id: ProducerId) -> Result<Option<Entry>, Halt> {
        if let Some(entry) = self.producers.get(id) {
            return Ok(Some(*entry));
        }
        match self.chain {
            None => Ok(None),
            Some(chain) => chain.get(id).map_err(Halt::Chain),
        }
    }

    fn data(&mut self, facts: &BatchFacts, header: &BatchHeader) -> Result<(), Halt> {
        let before = self.entry(facts.producer)?;
        let offsets = OffsetSpan { first: header.base_offset, last: header.last_offset() };
        let after = apply_data(before.as_ref(), facts, offsets, self.seen);
        let was_open = before.and_then(|entry| entry.txn_first_offset);
        if let Some(first) = after.txn_first_offset.filter(|first| was_open != Some(*first)) {
            self.facts.open(facts.producer, first);
        }
        self.producers.insert(facts.producer, after);
        Ok(())
    }

    fn marker(&mut self, facts: &MarkerFacts, offset: Offset) -> Result<(), Halt> {
        let before = self.entry(facts.producer)?;
        let after = apply_marker(before.as_ref(), facts, offset, self.seen);
        if let Some(first) = before.and_then(|entry| entry.txn_first_offset)
            && after.txn_first_offset.is_none()
        {
            self.facts.end(facts, first, offset);
        } else if facts.commit == EndTxn::Abort {
            self.facts.aborts_without_begin.push((facts.producer, offset));
        }
        self.producers.insert(facts.producer, after);
        Ok(())
    }

    /// The open transactions, oldest first, with what their producers' entries know of them.
    pub(super) fn open_transactions(&self) -> Result<Vec<OpenTxn>, Halt> {
        let open = self.facts.open_txns.iter();
        open.map(|(first_offset, producer)| {
            let entry = self.entry(*producer)?;
            let epoch = entry.map_or_else(ProducerEpoch::default, |entry| entry.epoch);
            let started = entry.map_or(self.seen, |entry| entry.last_seen);
            Ok(OpenTxn { producer: *producer, epoch, first_offset: *first_offset, started })
        })
        .collect()
    }

    /// The producers at the end; with a broken rule, as a state that forgets would have them.
    pub(super) fn into_producers(self) -> ProducerMap {
        if !testing::broken(Break::WindowOfOne) {
            return self.producers;
        }
        let mut narrow = ProducerMap::new();
        for (id, entry) in self.producers.iter() {
            let newest: Vec<_> = entry.newest().copied().into_iter().collect();
            let length = newest.first().map_or(0, |batch| batch.length());
            if let Ok(mut one) = entry.with_window(&newest) {
                one.proven = one.proven.min(length);
                narrow.insert(id, one);
            }
        }
        narrow
    }
}
