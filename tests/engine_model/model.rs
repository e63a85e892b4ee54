//! What a log must answer, told the slow way: a list of all batches, walked from its beginning for every question.
//!
//! Written from `docs/DEDUP.md`. It shares words with the crate (`Appended`, `Rejection`), no code.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use oncelog::{
    Appended, Offset, Outcome, ProducerEpoch, ProducerId, Rejection, Sequence, UnknownProducerPolicy,
};

/// How many sequences there are.
const SEQUENCES: i64 = 1 << 31;
/// A batch further ahead than this is behind.
const HALF: i64 = 1 << 30;

/// Who sent a batch, with which sequence; no sequence if a coordinator did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) first: Option<i32>,
}

/// A batch as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) stamp: Option<Stamp>,
    pub(crate) bytes: Bytes,
    /// One for each record, in milliseconds.
    pub(crate) timestamps: Vec<i64>,
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
}

/// What is known of a producer: its epoch and every batch of it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) epoch: i16,
    pub(crate) batches: Vec<Batch>,
}

impl Known {
    /// The batches that a retry is answered from with its offsets.
    pub(crate) fn window(&self) -> &[Batch] {
        &self.batches[self.batches.len().saturating_sub(5)..]
    }

    /// How many sequences are stored without a gap.
    pub(crate) fn proven(&self) -> i64 {
        self.batches.iter().map(|batch| length(batch.first, batch.last)).sum()
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
    /// Everything below this offset was said to be durable.
    pub(crate) durable: i64,
    policy: UnknownProducerPolicy,
    /// Batches of a producer before this place in the log are forgotten.
    forgotten: BTreeMap<i64, usize>,
}

impl Model {
    pub(crate) fn new(policy: UnknownProducerPolicy) -> Self {
        Self { log: Vec::new(), durable: 0, policy, forgotten: BTreeMap::new() }
    }

    pub(crate) fn end(&self) -> i64 {
        self.log.last().map_or(0, |stored| stored.last_offset() + 1)
    }

    pub(crate) fn producers(&self) -> Vec<i64> {
        let mut ids: Vec<i64> =
            self.log.iter().filter_map(|stored| stored.sent.stamp).map(|stamp| stamp.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    pub(crate) fn known(&self, id: i64) -> Option<Known> {
        let from = self.forgotten.get(&id).copied().unwrap_or(0).min(self.log.len());
        let mut known: Option<Known> = None;
        for stored in &self.log[from..] {
            let Some(stamp) = stored.sent.stamp.filter(|stamp| stamp.id == id) else { continue };
            let known = known.get_or_insert(Known { epoch: stamp.epoch, batches: Vec::new() });
            if stamp.epoch > known.epoch {
                *known = Known { epoch: stamp.epoch, batches: Vec::new() };
            }
            let Some(first) = stamp.first.map(i64::from) else { continue };
            known.batches.push(Batch {
                first,
                last: wrapped(first + stored.sent.records() - 1),
                offset: stored.offset,
                last_offset: stored.last_offset(),
                timestamp: stored.sent.max_timestamp(),
            });
        }
        known
    }

    pub(crate) fn forget(&mut self, id: i64) {
        self.forgotten.insert(id, self.log.len());
    }

    /// For how long the producer has not written.
    pub(crate) fn idle(&self, id: i64, now: Duration) -> Duration {
        let newest = self.log.iter().rfind(|stored| stored.sent.stamp.is_some_and(|stamp| stamp.id == id));
        now - newest.map_or(Duration::ZERO, |stored| stored.at)
    }

    pub(crate) fn append(&mut self, sent: Sent, now: Duration) {
        let offset = self.end();
        self.log.push(Stored { sent, offset, at: now });
    }

    /// The power went: what is left is the beginning of the log up to `end`.
    pub(crate) fn cut(&mut self, end: i64) {
        self.log.retain(|stored| stored.last_offset() < end);
        assert_eq!(self.end(), end, "the log ends between two batches");
    }

    pub(crate) fn judge(&self, sent: &Sent) -> Verdict {
        let Some(stamp) = sent.stamp else { return Verdict::Append };
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
            UnknownProducerPolicy::ZeroOnNeverWritten => !self.log.is_empty(),
            UnknownProducerPolicy::Accept => true,
        };
        if first == 0 || accept {
            return Verdict::Append;
        }
        Verdict::Reject(Rejection::UnknownProducer {
            producer: ProducerId(id),
            found: sequence(first),
            log_start_offset: Offset(0),
        })
    }
}

/// Same epoch, some batch of it stored: every sequence is written out and looked for.
fn judge_known(known: &Known, id: i64, first: i64, records: i64) -> Verdict {
    let expected = known.expected();
    let ahead = (first - expected).rem_euclid(SEQUENCES);
    if ahead == 0 {
        return Verdict::Append;
    }
    if ahead < HALF {
        return out_of_order(id, expected, first);
    }
    let asked = sequences(first, records);
    let last = *asked.last().unwrap();
    let window = known.window();
    if let Some(batch) = window.iter().find(|batch| (batch.first, batch.last) == (first, last)) {
        return Verdict::Answer(Appended {
            outcome: Outcome::Duplicate,
            base_offset: Some(Offset(batch.offset)),
            last_offset: Offset(batch.last_offset),
            timestamp: batch.timestamp,
        });
    }
    let stored = |batches: &[Batch]| -> Vec<i64> {
        batches.iter().flat_map(|batch| sequences(batch.first, length(batch.first, batch.last))).collect()
    };
    let (in_window, all) = (stored(window), stored(&known.batches));
    if asked.contains(&expected) || asked.iter().any(|asked| in_window.contains(asked)) {
        return Verdict::Reject(Rejection::SequenceOverlap {
            producer: ProducerId(id),
            first: sequence(first),
            last: sequence(last),
            expected: sequence(expected),
        });
    }
    if asked.iter().all(|asked| all.contains(asked)) {
        return Verdict::Answer(Appended {
            outcome: Outcome::DuplicateBeyondWindow,
            base_offset: None,
            last_offset: Offset(window[0].last_offset),
            timestamp: -1,
        });
    }
    Verdict::Reject(Rejection::SequenceUnknown {
        producer: ProducerId(id),
        found: sequence(first),
        expected: sequence(expected),
    })
}

fn out_of_order(id: i64, expected: i64, found: i64) -> Verdict {
    let (expected, found) = (sequence(expected), sequence(found));
    Verdict::Reject(Rejection::OutOfOrder { producer: ProducerId(id), expected, found })
}

fn sequences(first: i64, count: i64) -> Vec<i64> {
    (0..count).map(|n| wrapped(first + n)).collect()
}

fn length(first: i64, last: i64) -> i64 {
    (last - first).rem_euclid(SEQUENCES) + 1
}

pub(crate) fn wrapped(sequence: i64) -> i64 {
    sequence.rem_euclid(SEQUENCES)
}

pub(crate) fn sequence(value: i64) -> Sequence {
    Sequence::new(i32::try_from(value).unwrap()).unwrap()
}
