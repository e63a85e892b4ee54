//! What is written: batches of several producers, made up as the test goes.
//!
//! Invariant: a [`Batch`] knows everything that any reader may say of it, so every reader is compared with the plan and
//! never with another reader.

use anyhow::Result;
use bytes::Bytes;
use oncelog::{BatchBuilder, Codec, ProducerEpoch, ProducerId, Sequence};

use crate::ledger::Ledger;

/// Idempotent producers, besides the one without an id.
pub(crate) const PRODUCERS: [i64; 6] = [9001, 9002, 9003, 9004, 9005, 9006];
/// Producers that write in transactions, and go on with the same epoch after each.
pub(crate) const TRANSACTIONAL: [i64; 2] = [9101, 9102];
/// This one begins so near to the greatest sequence that it goes over it in one of its first batches.
const WRAPS: i64 = 9003;
/// This one is started anew after every twentieth batch, with the next epoch.
const BUMPS: i64 = 9004;

/// The producer fields of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: Sequence,
}

/// One record as it was given to the producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) header: Option<(&'static str, Option<Vec<u8>>)>,
}

/// The end of a transaction, as a coordinator orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    pub(crate) commits: bool,
}

/// One batch and the bytes that a client sends for it; or a marker, which has no records and takes one offset.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) marker: Option<Marker>,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) codec: Codec,
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: Bytes,
}

impl Batch {
    /// Number of offsets it takes.
    pub(crate) fn count(&self) -> u32 {
        if self.marker.is_some() { 1 } else { u32::try_from(self.records.len()).unwrap_or(u32::MAX) }
    }

    /// Whose transaction it is part of.
    pub(crate) fn transaction(&self) -> Option<i64> {
        self.stamp.map(|stamp| stamp.id).filter(|id| TRANSACTIONAL.contains(id))
    }

    /// Sequence of its last record; `None` without a producer.
    pub(crate) fn last_sequence(&self) -> Option<Sequence> {
        Some(self.stamp?.sequence.wrapping_add(self.count().saturating_sub(1)))
    }
}

/// Makes batches. The same seed gives the same batches as long as the same calls are made.
pub(crate) struct Planner {
    random: fastrand::Rng,
    clock_ms: i64,
    made: usize,
    keys: Keys,
}

/// Which keys records have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Some have none.
    Some,
    /// Every record has one of a few: a compacted log takes no record without.
    Always,
}

impl Planner {
    /// A planner whose timestamps begin at `now_ms`: Kafka forgets a producer whose newest batch is a day old.
    pub(crate) fn new(seed: u64, now_ms: i64, keys: Keys) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), clock_ms: now_ms, made: 0, keys }
    }

    /// The next batch of the next producer, behind those of the ledger.
    pub(crate) fn batch(&mut self, ledger: &Ledger) -> Result<Batch> {
        self.made += 1;
        // The last in turn is the producer without an id; the first batch of each comes early.
        let turns = PRODUCERS.len() + TRANSACTIONAL.len() + 1;
        let turn = if self.made <= turns { self.made - 1 } else { self.random.usize(0..turns) };
        let Some(&id) = PRODUCERS.iter().chain(&TRANSACTIONAL).nth(turn) else { return self.make(None) };
        if ledger.open_since(id).is_some() && self.random.u8(0..3) == 0 {
            return Ok(self.marker(id));
        }
        self.batch_of(id, ledger.last(id))
    }

    fn marker(&mut self, id: i64) -> Batch {
        // Nobody starts a transactional producer anew here.
        let marker = Some(Marker { id, epoch: 0, commits: self.random.bool() });
        Batch { marker, stamp: None, codec: Codec::None, records: Vec::new(), bytes: Bytes::new() }
    }

    /// The batch with which a producer goes on after `last`.
    pub(crate) fn batch_of(&mut self, id: i64, last: Option<&Batch>) -> Result<Batch> {
        let first = if id == WRAPS { Sequence::MAX.wrapping_sub(40) } else { Sequence::ZERO };
        let (epoch, sequence) = match last.and_then(|last| Some((last.stamp?, last.last_sequence()?))) {
            None => (0, first),
            Some((stamp, _)) if id == BUMPS && self.random.u8(0..20) == 0 => {
                (stamp.epoch + 1, Sequence::ZERO)
            }
            Some((stamp, sequence)) => (stamp.epoch, sequence.next()),
        };
        self.make(Some(Stamp { id, epoch, sequence }))
    }

    fn make(&mut self, stamp: Option<Stamp>) -> Result<Batch> {
        let random = &mut self.random;
        let codec = Codec::ALL[random.usize(0..Codec::ALL.len())];
        self.clock_ms += i64::from(random.u8(0..4));
        // One batch in fifty holds one large record, the others up to forty small ones.
        let records = match random.u8(0..50) {
            0 => vec![record(random, self.clock_ms, 200_000, self.keys)],
            _ => (0..random.usize(1..=40)).map(|_| record(random, self.clock_ms, 2_000, self.keys)).collect(),
        };
        let mut builder = BatchBuilder::new().codec(codec);
        if let Some(Stamp { id, epoch, sequence }) = stamp {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
            if TRANSACTIONAL.contains(&id) {
                builder = builder.transactional();
            }
        }
        for Record { timestamp, key, value, header } in &records {
            let header = header.as_ref().map(|(name, value)| (*name, value.as_deref()));
            builder =
                builder.record_with_headers(*timestamp, key.as_deref(), value.as_deref(), header.as_slice());
        }
        Ok(Batch { marker: None, stamp, codec, records, bytes: builder.build()? })
    }
}

/// A record whose timestamp lies up to half a second before `clock_ms`: timestamps do not rise in a real log either.
fn record(random: &mut fastrand::Rng, clock_ms: i64, longest: usize, keys: Keys) -> Record {
    let has_key = random.u8(0..4) > 0 || keys == Keys::Always;
    let key = has_key.then(|| format!("key-{}", random.u16(0..500)).into_bytes());
    let value = (random.u8(0..20) > 0).then(|| {
        let length = if longest > 100_000 { longest } else { random.usize(0..longest) };
        // Half of it can be compressed.
        let mut bytes = vec![b'.'; length];
        bytes.iter_mut().step_by(2).for_each(|byte| *byte = random.u8(..));
        bytes
    });
    let header = match random.u8(0..10) {
        0 => Some(("origin", Some(b"interop".to_vec()))),
        1 => Some(("empty", None)),
        _ => None,
    };
    Record { timestamp: clock_ms - i64::from(random.u16(0..500)), key, value, header }
}
