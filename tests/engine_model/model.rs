//! What a log must answer, told the slow way: a list of all batches, walked from its beginning for every question.
//!
//! Written from `docs/DEDUP.md` and `docs/TRANSACTIONS.md`. It shares words with the crate (`Appended`, `Rejection`), no
//! code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use oncelog::{
    Appended, CoordinatorEpoch, EndTxn, Offset, ProducerEpoch, ProducerId, Rejection, TransactionVersion,
    UnknownProducerPolicy,
};

use crate::rules::{judge_known, length, out_of_order, sequence, wrapped};

/// Who sent a batch, with which sequence; no sequence if a coordinator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: Option<i32>,
    pub(crate) transactional: bool,
}

/// How a transaction was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) outcome: EndTxn,
    pub(crate) coordinator: i32,
}

/// A batch as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) stamp: Option<Stamp>,
    pub(crate) bytes: Bytes,
    /// One for each record, in milliseconds.
    pub(crate) timestamps: Vec<i64>,
    /// One for each record, in a log that is compacted.
    pub(crate) keys: Vec<u8>,
}

impl Sent {
    fn records(&self) -> i64 {
        i64::try_from(self.timestamps.len()).unwrap()
    }

    pub(crate) fn max_timestamp(&self) -> i64 {
        self.timestamps.iter().copied().max().unwrap()
    }
}

/// A batch in the log.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) sent: Sent,
    pub(crate) offset: i64,
    /// Of a marker.
    pub(crate) end: Option<End>,
    /// When it was appended, by the monotonic clock.
    at: Duration,
}

impl Stored {
    pub(crate) fn last_offset(&self) -> i64 {
        self.offset + self.sent.records() - 1
    }
}

/// One batch of a producer's present epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) aborted: bool,
}

/// What is known of a producer: its epoch and every batch of it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: i16,
    pub(crate) coordinator: i32,
    pub(crate) batches: Vec<Batch>,
    /// The batches from here on stand behind every abort.
    proven_from: usize,
    /// First offset of the open transaction.
    pub(crate) open: Option<i64>,
}

impl Known {
    /// The batches that a retry is answered from with its offsets.
    pub(crate) fn window(&self) -> &[Batch] {
        &self.batches[self.batches.len().saturating_sub(5)..]
    }

    /// The batches behind every abort.
    pub(crate) fn proven_batches(&self) -> &[Batch] {
        &self.batches[self.proven_from..]
    }

    /// How many sequences are stored without a gap.
    pub(crate) fn proven(&self) -> i64 {
        self.proven_batches().iter().map(|batch| length(batch.first, batch.last)).sum()
    }

    fn raise(&mut self, epoch: i16) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.batches.clear();
            self.proven_from = 0;
        }
    }

    fn end(&mut self, end: End) {
        self.coordinator = self.coordinator.max(end.coordinator);
        if let Some(first) = self.open.take()
            && end.outcome == EndTxn::Abort
        {
            self.batches
                .iter_mut()
                .filter(|batch| batch.offset >= first)
                .for_each(|batch| batch.aborted = true);
            self.proven_from = self.batches.len();
        }
    }

    pub(crate) fn expected(&self) -> i64 {
        self.batches.last().map_or(0, |newest| wrapped(newest.last + 1))
    }
}

/// What must become of a batch.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Append,
    Answer(Appended),
    Reject(Rejection),
}

/// The log, and what was said about it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) log: Vec<Stored>,
    /// Where the log began when it was last begun anew.
    base: i64,
    /// Where the log was cut, if that was in a gap.
    floor: i64,
    /// First offset that was not deleted.
    pub(crate) start: i64,
    /// Below this offset a compaction may have taken records.
    pub(crate) compacted: i64,
    /// Offsets of the data records that it took.
    pub(crate) gone: BTreeSet<i64>,
    /// Everything below this offset was said to be durable.
    pub(crate) durable: i64,
    policy: UnknownProducerPolicy,
    /// Batches of a producer before the last of these places in the log are forgotten.
    forgotten: BTreeMap<i64, Vec<usize>>,
}

impl Model {
    pub(crate) fn new(policy: UnknownProducerPolicy) -> Self {
        Self {
            log: Vec::new(),
            base: 0,
            floor: 0,
            start: 0,
            compacted: 0,
            gone: BTreeSet::new(),
            durable: 0,
            policy,
            forgotten: BTreeMap::new(),
        }
    }

    pub(crate) fn end(&self) -> i64 {
        self.log.last().map_or(self.base, |stored| stored.last_offset() + 1).max(self.floor)
    }

    pub(crate) fn producers(&self) -> Vec<i64> {
        let mut ids: Vec<i64> =
            self.log.iter().filter_map(|stored| stored.sent.stamp).map(|stamp| stamp.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(crate) fn known(&self, id: i64) -> Option<Known> {
        let from = self.forgotten.get(&id).and_then(|places| places.last()).copied().unwrap_or(0);
        self.known_from(id, from)
    }

    fn known_from(&self, id: i64, from: usize) -> Option<Known> {
        let mut known: Option<Known> = None;
        for stored in self.log.iter().skip(from) {
            let Some(stamp) = stored.sent.stamp.filter(|stamp| stamp.id == id) else { continue };
            let known = known.get_or_insert(Known {
                epoch: stamp.epoch,
                coordinator: -1,
                batches: Vec::new(),
                proven_from: 0,
                open: None,
            });
            known.raise(stamp.epoch);
            if let Some(end) = stored.end {
                known.end(end);
                continue;
            }
            if stamp.transactional {
                known.open.get_or_insert(stored.offset);
            }
            let Some(first) = stamp.first.map(i64::from) else { continue };
            known.batches.push(Batch {
                first,
                last: wrapped(first + stored.sent.records() - 1),
                offset: stored.offset,
                last_offset: stored.last_offset(),
                timestamp: stored.sent.max_timestamp(),
                aborted: false,
            });
        }
        known
    }

    pub(crate) fn forget(&mut self, id: i64) {
        self.forgotten.entry(id).or_default().push(self.log.len());
    }

    pub(crate) fn forgotten(&self) -> Vec<i64> {
        self.forgotten.keys().copied().collect()
    }

    /// A cut may bring back what had been forgotten above it. The last place that `agrees` counts.
    pub(crate) fn remember(&mut self, id: i64, agrees: impl Fn(Option<Known>) -> bool) {
        let len = self.log.len();
        let Some(mut places) = self.forgotten.remove(&id) else { return };
        places.iter_mut().for_each(|place| *place = (*place).min(len));
        while let Some(place) = places.last()
            && !agrees(self.known_from(id, *place))
        {
            places.pop();
        }
        if !places.is_empty() {
            self.forgotten.insert(id, places);
        }
    }

    /// For how long the producer has not written.
    pub(crate) fn idle(&self, id: i64, now: Duration) -> Duration {
        let newest = self.log.iter().rfind(|stored| stored.sent.stamp.is_some_and(|stamp| stamp.id == id));
        now - newest.map_or(Duration::ZERO, |stored| stored.at)
    }

    pub(crate) fn append(&mut self, sent: Sent, end: Option<End>, now: Duration) {
        let offset = self.end();
        self.log.push(Stored { sent, offset, end, at: now });
    }

    /// What is left is the beginning of the log up to `end`, the end of a batch or a place in a gap.
    pub(crate) fn cut(&mut self, end: i64) {
        self.log.retain(|stored| stored.last_offset() < end);
        self.floor = self.floor.min(end);
        if self.compacted > 0 {
            self.floor = end;
        }
        assert_eq!(self.end(), end, "the log ends between two batches");
        self.durable = self.durable.min(end);
        self.compacted = self.compacted.min(end);
        self.gone.split_off(&end);
    }

    /// Whether a cut at `target` may end the log at `end`: batches stay whole.
    pub(crate) fn may_end(&self, target: i64, end: i64) -> bool {
        let holds = self.log.iter().find(|stored| stored.last_offset() >= target);
        if holds.is_none_or(|stored| stored.offset >= self.compacted) {
            return end == holds.map_or(target, |stored| stored.offset.min(target));
        }
        // What was compacted away there ends nothing.
        let goes = self.log.iter().filter(|stored| stored.last_offset() >= end && stored.offset < target);
        end <= target
            && goes.filter(|stored| stored.last_offset() < target).all(|stored| self.is_gone(stored))
    }

    /// Whether no record of the batch is left. A marker may be there or not.
    pub(crate) fn is_gone(&self, stored: &Stored) -> bool {
        stored.offset < self.compacted
            && (stored.end.is_some()
                || (stored.offset.max(self.start)..=stored.last_offset())
                    .all(|offset| self.gone.contains(&offset)))
    }

    /// A round up to `to` has left the data records at `present`. What is missing is checked, and remembered.
    pub(crate) fn compact(&mut self, to: i64, present: &BTreeSet<i64>, high_watermark: i64) {
        self.compacted = self.compacted.max(to);
        let committed: BTreeSet<i64> = self.committed(0, high_watermark).into_iter().collect();
        let data = self.log.iter().filter(|stored| stored.end.is_none());
        let records: Vec<(i64, Option<u8>)> = data
            .flat_map(|stored| {
                (stored.offset..)
                    .zip((0..stored.sent.timestamps.len()).map(|n| stored.sent.keys.get(n).copied()))
            })
            .collect();
        let newest: BTreeMap<Option<u8>, i64> = records
            .iter()
            .filter(|(offset, _)| committed.contains(offset))
            .map(|(offset, key)| (*key, *offset))
            .collect();
        for (offset, key) in records.iter().filter(|(offset, _)| *offset >= self.start) {
            if present.contains(offset) {
                assert!(!self.gone.contains(offset), "record {offset} is there again");
            } else if !self.gone.contains(offset) {
                let replaced = newest.get(key).is_some_and(|newest| newest > offset);
                let void = !committed.contains(offset);
                assert!(
                    *offset < to && (replaced || void),
                    "record {offset} with key {key:?} is gone; newest {newest:?}"
                );
                self.gone.insert(*offset);
            }
        }
    }

    /// Nothing is left, and the log goes on at `start`.
    pub(crate) fn begin_anew(&mut self, start: i64) {
        *self = Self { base: start, floor: start, start, durable: start, ..Self::new(self.policy) };
    }

    pub(crate) fn judge(&self, sent: &Sent) -> Verdict {
        let Some(stamp) = sent.stamp else { return Verdict::Append };
        let verdict = self.judge_sequence(stamp, sent);
        let open = self.known(stamp.id).and_then(|known| known.open);
        if matches!(verdict, Verdict::Append) && open.is_some() && !stamp.transactional {
            return Verdict::Reject(Rejection::InvalidTxnState(String::new()));
        }
        verdict
    }

    pub(crate) fn judge_marker(&self, stamp: Stamp, end: End, version: TransactionVersion) -> Verdict {
        let Some(known) = self.known(stamp.id) else { return Verdict::Append };
        let bumps = version == TransactionVersion::Two && known.open.is_some();
        if stamp.epoch < known.epoch || (bumps && stamp.epoch == known.epoch) {
            return Verdict::Reject(Rejection::Fenced {
                producer: ProducerId(stamp.id),
                current: ProducerEpoch(known.epoch),
                found: ProducerEpoch(stamp.epoch),
            });
        }
        if end.coordinator < known.coordinator {
            return Verdict::Reject(Rejection::CoordinatorFenced {
                producer: ProducerId(stamp.id),
                current: CoordinatorEpoch(known.coordinator),
                found: CoordinatorEpoch(end.coordinator),
            });
        }
        Verdict::Append
    }

    fn judge_sequence(&self, stamp: Stamp, sent: &Sent) -> Verdict {
        let known = self.known(stamp.id);
        if let Some(known) = known.as_ref().filter(|known| stamp.epoch < known.epoch) {
            return Verdict::Reject(Rejection::Fenced {
                producer: ProducerId(stamp.id),
                current: ProducerEpoch(known.epoch),
                found: ProducerEpoch(stamp.epoch),
            });
        }
        let Some(first) = stamp.first.map(i64::from) else { return Verdict::Append };
        match known {
            None => self.judge_unknown(stamp.id, first),
            Some(known) if stamp.epoch > known.epoch || known.batches.is_empty() => {
                if first == 0 {
                    Verdict::Append
                } else {
                    out_of_order(stamp.id, 0, first)
                }
            }
            Some(known) => judge_known(&known, stamp.id, first, sent.records()),
        }
    }

    fn judge_unknown(&self, id: i64, first: i64) -> Verdict {
        let accept = match self.policy {
            UnknownProducerPolicy::Reject => false,
            UnknownProducerPolicy::ZeroOnNeverWritten => self.end() > 0,
            UnknownProducerPolicy::Accept => true,
        };
        if first == 0 || accept {
            return Verdict::Append;
        }
        Verdict::Reject(Rejection::UnknownProducer {
            producer: ProducerId(id),
            found: sequence(first),
            log_start_offset: Offset(self.start),
        })
    }
}
