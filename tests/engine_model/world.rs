//! The engine and the model, side by side.

use std::sync::Arc;
use std::time::Duration;

use oncelog::recovery::RecoveryKind;
use oncelog::storage::{Clock, ManualClock, MemoryStorage};
use oncelog::{
    Appended, Background, BatchBuilder, Cleanup, CompactionConfig, Durability, Environment, Error, Log,
    LogConfig, Offset, Origin, Outcome, ProducerEpoch, ProducerId, RawBatch, RecoveryReport, Rejection,
    UnknownProducerPolicy,
};

use Durability::{Buffered, Durable};

use crate::model::{End, Model, Sent, Stamp, Verdict};
use crate::operation::Operation;
use crate::rules::{sequence, wrapped};

pub(crate) const DIR: &str = "/logs/orders-0";
/// Ids of the producers that append; those from `NEAR_WRAP` on start shortly before the wrap if they may.
pub(crate) const FIRST_ID: i64 = 10;
pub(crate) const NEAR_WRAP: i64 = 14;
pub(crate) const EXPIRY: Duration = Duration::from_secs(3600);

/// The engine and the model, side by side.
pub(crate) struct World {
    pub(crate) memory: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: LogConfig,
    pub(crate) log: Option<Log>,
    pub(crate) model: Model,
    /// All batches that were ever appended.
    sent: Vec<Sent>,
    /// The newest checkpoint that was asked for covers the log at least up to here.
    pub(crate) checkpoint_end: i64,
}

impl World {
    pub(crate) fn new(policy: UnknownProducerPolicy, cleanup: Cleanup) -> Self {
        let config = LogConfig {
            segment_bytes: 700,
            segment_ms: 40 * 60_000,
            index_interval_bytes: 128,
            segment_index_bytes: 48,
            unknown_producer: policy,
            producer_expiry_ms: u64::try_from(EXPIRY.as_millis()).unwrap(),
            checkpoint_bytes: 600,
            checkpoint_producers: 3,
            whole_base_producers: 2,
            max_deltas: 2,
            snapshot_producers: 3,
            preallocate_bytes: 0,
            background: Background::Caller,
            cleanup,
            compaction: CompactionConfig { min_dirty_ratio: 1.0, ..CompactionConfig::default() },
            verify_transactions: false,
            delete_delay_ms: 0,
            ..LogConfig::default()
        };
        let mut world = Self {
            memory: MemoryStorage::new(),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            config,
            log: None,
            model: Model::new(policy),
            sent: Vec::new(),
            checkpoint_end: 0,
        };
        assert_eq!(world.open().kind, RecoveryKind::NewLog);
        world
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    pub(crate) fn open(&mut self) -> RecoveryReport {
        let environment = Environment {
            storage: Arc::new(self.memory.clone()),
            clock: Arc::<ManualClock>::clone(&self.clock),
            ..Environment::default()
        };
        let (log, report) = Log::open_with(DIR, self.config.clone(), environment).unwrap();
        assert_eq!(log.log_end_offset(), report.log_end_offset);
        self.log = Some(log);
        report
    }

    pub(crate) fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Next { producer, records, durability, wait } => {
                let stamp = self.next_stamp(id_of(producer));
                let sent = self.batch(Some(stamp), records);
                if wait {
                    self.append(sent, durability);
                } else {
                    self.submit(sent, durability);
                }
            }
            Operation::Retry { back, durability } => {
                if let Some(last) = self.sent.len().checked_sub(1) {
                    let sent = self.sent[last - usize::from(back) % self.sent.len()].clone();
                    self.append(sent, durability);
                }
            }
            Operation::Gap { producer, by, records } => {
                self.append_at(id_of(producer), 0, |expected| expected + i64::from(by), records);
            }
            Operation::Behind { producer, back, records } => {
                self.append_at(id_of(producer), 0, |expected| expected - i64::from(back), records);
            }
            Operation::EpochBump { producer, by, first } => {
                self.append_at(id_of(producer), i16::from(by), |_| i64::from(first), 2);
            }
            Operation::OldEpoch { producer, records } => {
                self.append_at(id_of(producer), -1, |expected| expected, records);
            }
            Operation::Unknown { producer, first } => {
                let stamp = Stamp {
                    id: 100 + i64::from(producer),
                    epoch: 0,
                    first: Some(i32::from(first)),
                    transactional: false,
                };
                self.learn(stamp.id);
                let sent = self.batch(Some(stamp), 1);
                self.append(sent, Buffered);
            }
            Operation::Plain { records, durability } => {
                let sent = self.batch(None, records);
                self.append(sent, durability);
            }
            Operation::Coordinator { producer, bump } => {
                let id = id_of(producer);
                self.learn(id);
                let epoch = self.model.known(id).map_or(0, |known| known.epoch) + i16::from(bump);
                let sent = self.batch(Some(Stamp { id, epoch, first: None, transactional: false }), 1);
                self.append(sent, Buffered);
            }
            Operation::Transactional { producer, records, durability } => {
                let stamp = Stamp { transactional: true, ..self.next_stamp(id_of(producer)) };
                let sent = self.batch(Some(stamp), records);
                self.append(sent, durability);
            }
            Operation::End { producer, outcome, version, epoch_by, coordinator_by, durability } => {
                let known = self.next_known(id_of(producer));
                let epoch = (known.0 + i16::from(epoch_by)).max(0);
                let end = End { outcome, coordinator: (known.1 + i32::from(coordinator_by)).max(0) };
                self.end(id_of(producer), epoch, end, version, durability);
            }
            Operation::Delete { further } => self.delete(self.model.start + i64::from(further)),
            Operation::Truncate { back } => self.truncate(self.model.end() - i64::from(back)),
            Operation::Compact => self.compact(),
            Operation::BeginAnew { further } => self.begin_anew(self.model.end() + i64::from(further)),
            Operation::ReadCommitted { from, max_bytes } => {
                let from = self.model.start + i64::from(from) % (self.model.end() - self.model.start + 1);
                self.check_committed(from, usize::from(max_bytes) % 900);
            }
            Operation::Fetch { from, max_bytes, isolation } => {
                let from = i64::from(from) % (self.model.end() + 3);
                self.check_fetch(from, usize::from(max_bytes) % 1500, isolation);
            }
            Operation::FetchByTimestamp { minutes_ago, jitter, isolation } => {
                let at = self.clock.wall_ms() - i64::from(minutes_ago) * 60_000 + i64::from(jitter % 16) - 8;
                self.check_timestamp(at, isolation);
            }
            Operation::Maintain => self.log().maintain().unwrap(),
            Operation::Checkpoint => {
                self.log().checkpoint().unwrap();
                self.checkpoint_end = self.model.end();
            }
            Operation::Flush => {
                assert_eq!(self.log().flush().unwrap(), Offset(self.model.end()));
                self.model.durable = self.model.end();
            }
            Operation::Failing { fault, during, dies } => self.fail_during(fault, &during, dies),
            Operation::Reopen => self.reopen(),
            Operation::Crash => self.crash(),
            Operation::PowerCut { seed } => self.power_cut(seed),
            Operation::ClockAdvance { minutes } => {
                self.clock.advance(Duration::from_secs(60 * u64::from(minutes)));
            }
        }
        self.check_offsets();
    }

    // Appends.

    /// A producer that did not write for long may be forgotten, but must not; the engine says whether it did.
    pub(crate) fn learn(&mut self, id: i64) {
        let found = self.log().producer(ProducerId(id)).unwrap();
        if found.is_none() && self.model.known(id).is_some() {
            let idle = self.model.idle(id, self.clock.monotonic());
            assert!(idle >= EXPIRY, "producer {id} is forgotten after {idle:?}");
            self.model.forget(id);
        }
    }

    pub(crate) fn next_stamp(&mut self, id: i64) -> Stamp {
        self.learn(id);
        let start = if id >= NEAR_WRAP { i64::from(i32::MAX) - 6 } else { 0 };
        let accepts = self.config.unknown_producer == UnknownProducerPolicy::Accept;
        match self.model.known(id) {
            None => Stamp {
                id,
                epoch: 0,
                first: Some(narrow(if accepts { start } else { 0 })),
                transactional: false,
            },
            Some(known) => {
                Stamp { id, epoch: known.epoch, first: Some(narrow(known.expected())), transactional: false }
            }
        }
    }

    fn append_at(&mut self, id: i64, epoch_by: i16, first: impl Fn(i64) -> i64, records: u8) {
        let next = self.next_stamp(id);
        let first = wrapped(first(i64::from(next.first.unwrap())));
        let stamp = Stamp {
            id,
            epoch: (next.epoch + epoch_by).max(0),
            first: Some(narrow(first)),
            transactional: false,
        };
        let sent = self.batch(Some(stamp), records);
        self.append(sent, Buffered);
    }

    /// Builds a batch whose timestamps go up and down around now.
    pub(crate) fn batch(&self, stamp: Option<Stamp>, records: u8) -> Sent {
        let now = self.clock.wall_ms();
        let timestamps: Vec<i64> =
            (0..i64::from(records)).map(|n| now + (n * 7 + self.model.end() * 3) % 11 - 5).collect();
        let mut builder = BatchBuilder::new();
        if let Some(Stamp { id, epoch, first, transactional }) = stamp {
            let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
            builder = match first {
                Some(first) => builder.producer(id, epoch, sequence(i64::from(first))),
                None => builder.producer_without_sequence(id, epoch),
            };
            if transactional {
                builder = builder.transactional();
            }
        }
        let compacts = self.config.cleanup == Cleanup::Compact;
        let keys: Vec<u8> = (0..records)
            .filter(|_| compacts)
            .map(|n| (n * 3 + u8::try_from(self.sent.len() % 7).unwrap()) % 5)
            .collect();
        for (number, timestamp) in timestamps.iter().enumerate() {
            let value = format!(
                "{} of {:?}",
                self.sent.len(),
                stamp.map(|stamp| (stamp.id, stamp.epoch, stamp.first))
            );
            let key = keys.get(number).map(std::slice::from_ref);
            builder = builder.record_at(*timestamp, key, Some(value.as_bytes()));
        }
        Sent { stamp, bytes: builder.build().unwrap(), timestamps, keys }
    }

    fn append(&mut self, sent: Sent, durability: Durability) {
        let verdict = self.judge(&sent);
        let completion = self.submit_to_log(&sent, durability);
        let answer = completion.wait();
        if let Some(covered) = self.compare(&verdict, answer, sent)
            && durability == Durable
        {
            self.model.durable = self.model.durable.max(covered);
        }
    }

    /// Nobody waits for the answer: the batch is in the log, and that is all.
    fn submit(&mut self, sent: Sent, durability: Durability) {
        let verdict = self.judge(&sent);
        let completion = self.submit_to_log(&sent, durability);
        match (completion.try_wait(), verdict) {
            (Ok(answer), verdict) => {
                self.compare(&verdict, answer, sent);
            }
            (Err(_pending), Verdict::Append) => {
                assert_eq!(durability, Durable, "a Buffered batch is answered when it is written");
                self.appended(sent);
            }
            (Err(_pending), verdict) => panic!("{verdict:?} is not answered at once"),
        }
    }

    pub(crate) fn judge(&mut self, sent: &Sent) -> Verdict {
        if let Some(stamp) = sent.stamp {
            self.learn(stamp.id);
        }
        self.model.judge(sent)
    }

    fn submit_to_log(&self, sent: &Sent, durability: Durability) -> oncelog::Completion {
        let origin = match sent.stamp {
            Some(Stamp { first: None, .. }) => Origin::Coordinator,
            _ => Origin::Client,
        };
        self.log().submit_from(RawBatch(sent.bytes.clone()), origin, durability).unwrap()
    }

    /// Holds the engine's answer against the model's; returns the offset up to which it speaks of stored batches.
    pub(crate) fn compare(
        &mut self,
        verdict: &Verdict,
        answer: Result<Appended, Error>,
        sent: Sent,
    ) -> Option<i64> {
        match (verdict, answer) {
            (Verdict::Append, Ok(answer)) => {
                let end = self.model.end();
                let last = end + i64::try_from(sent.timestamps.len()).unwrap() - 1;
                let expected = Appended {
                    outcome: Outcome::Appended,
                    base_offset: Some(Offset(end)),
                    last_offset: Offset(last),
                    timestamp: sent.max_timestamp(),
                };
                assert_eq!(answer, expected);
                self.appended(sent);
                Some(last + 1)
            }
            (Verdict::Answer(expected), Ok(answer)) => {
                assert_eq!(answer, *expected);
                Some(answer.last_offset.0 + 1)
            }
            (Verdict::Reject(expected), Err(Error::Rejected(rejection))) => {
                assert_same_rule(&rejection, expected);
                None
            }
            (verdict, answer) => panic!("{:?}: expected {verdict:?}, found {answer:?}", sent.stamp),
        }
    }

    /// [`Self::appended`] of a batch that nobody was told of.
    pub(crate) fn appended_unseen(&mut self, sent: Sent) {
        self.sent.push(sent.clone());
        self.model.append(sent, None, self.clock.monotonic());
    }

    pub(crate) fn appended(&mut self, sent: Sent) {
        self.sent.push(sent.clone());
        let id = sent.stamp.map(|stamp| stamp.id);
        self.model.append(sent, None, self.clock.monotonic());
        if let Some(id) = id {
            self.check_producer(id);
        }
    }
}

/// What a transaction's state refuses says why in words of its own.
pub(crate) fn assert_same_rule(found: &Rejection, expected: &Rejection) {
    match (found, expected) {
        (Rejection::InvalidTxnState(_), Rejection::InvalidTxnState(_)) => {}
        _ => assert_eq!(found, expected),
    }
}

pub(crate) fn id_of(producer: u8) -> i64 {
    FIRST_ID + i64::from(producer)
}

fn narrow(sequence: i64) -> i32 {
    i32::try_from(sequence).unwrap()
}
