//! The engine against a naive model (`support/model.rs`): random histories of appends, retries, gaps, overlaps, fenced
//! and unknown producers, reads, checkpoints, clean and unclean restarts and power cuts. Every answer, every fetched
//! byte and the whole producer state are the model's, before and after every restart.
//!
//! Segments, indexes and checkpoints are tiny, so that a history of some dozen operations rolls, writes deltas and
//! merges them. One thread, simulated disk and clock: a failing history fails again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

#[path = "support/model.rs"]
mod model;

use std::sync::Arc;
use std::time::Duration;

use model::{Known, Model, Sent, Stamp, Stored, Verdict, sequence, wrapped};
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{Clock, ManualClock, MemoryStorage, Pending};
use oncelog::{
    Appended, Background, BatchBuilder, Durability, Environment, Error, Isolation, Log, LogConfig, Offset,
    Origin, Outcome, ProducerEpoch, ProducerId, RawBatch, RecoveryReport, UnknownProducerPolicy,
};
use proptest::prelude::*;

use Durability::{Buffered, Durable};

const DIR: &str = "/logs/orders-0";
/// Ids of the producers that append; those from `NEAR_WRAP` on start shortly before the wrap if they may.
const FIRST_ID: i64 = 10;
const NEAR_WRAP: i64 = 14;
const EXPIRY: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// The next batch of a producer.
    Next {
        producer: u8,
        records: u8,
        durability: Durability,
        wait: bool,
    },
    /// A batch that was appended at some time, be it lost since, counted from the newest.
    Retry {
        back: u16,
        durability: Durability,
    },
    /// A batch that starts `by` sequences too far ahead; half of the sequences ahead counts as behind.
    Gap {
        producer: u8,
        by: u32,
        records: u8,
    },
    /// A batch that starts `back` sequences behind the next one, with any borders.
    Behind {
        producer: u8,
        back: u8,
        records: u8,
    },
    /// The first batch of a higher epoch.
    EpochBump {
        producer: u8,
        by: u8,
        first: u8,
    },
    /// The next batch, of a lower epoch.
    OldEpoch {
        producer: u8,
        records: u8,
    },
    /// A batch of a producer that never wrote.
    Unknown {
        producer: u8,
        first: u16,
    },
    /// Without a producer id.
    Plain {
        records: u8,
        durability: Durability,
    },
    /// With an epoch and no sequence, as a coordinator inside the broker writes it.
    Coordinator {
        producer: u8,
        bump: bool,
    },
    Fetch {
        from: u16,
        max_bytes: u16,
        isolation: Isolation,
    },
    FetchByTimestamp {
        minutes_ago: u8,
        jitter: u8,
        isolation: Isolation,
    },
    Maintain,
    Checkpoint,
    Flush,
    /// Close and open.
    Reopen,
    /// The process dies.
    Crash,
    /// The machine loses power; of what was not synced, a random part survives.
    PowerCut {
        seed: u64,
    },
    ClockAdvance {
        minutes: u8,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let producer = 0..6_u8;
    let records = 1..5_u8;
    let durability = prop_oneof![Just(Buffered), Just(Buffered), Just(Durable)];
    let isolation = prop_oneof![Just(Isolation::HighWatermark), Just(Isolation::LogEnd)];
    prop_oneof![
        20 => (producer.clone(), records.clone(), durability.clone(), any::<bool>()).prop_map(
            |(producer, records, durability, wait)| Operation::Next { producer, records, durability, wait }
        ),
        12 => (prop_oneof![0..12_u16, any::<u16>()], durability.clone())
            .prop_map(|(back, durability)| Operation::Retry { back, durability }),
        4 => (producer.clone(), prop_oneof![1..9_u32, (1 << 30) - 2..(1 << 30) + 2_u32], records.clone())
            .prop_map(|(producer, by, records)| Operation::Gap { producer, by, records }),
        8 => (producer.clone(), 1..40_u8, 1..9_u8)
            .prop_map(|(producer, back, records)| Operation::Behind { producer, back, records }),
        3 => (producer.clone(), 1..3_u8, prop_oneof![3 => Just(0), 1 => 1..4_u8])
            .prop_map(|(producer, by, first)| Operation::EpochBump { producer, by, first }),
        2 => (producer.clone(), records.clone())
            .prop_map(|(producer, records)| Operation::OldEpoch { producer, records }),
        2 => (0..3_u8, 0..3_u16).prop_map(|(producer, first)| Operation::Unknown { producer, first }),
        4 => (records, durability).prop_map(|(records, durability)| Operation::Plain { records, durability }),
        2 => (producer, any::<bool>()).prop_map(|(producer, bump)| Operation::Coordinator { producer, bump }),
        5 => (any::<u16>(), any::<u16>(), isolation.clone())
            .prop_map(|(from, max_bytes, isolation)| Operation::Fetch { from, max_bytes, isolation }),
        3 => (0..120_u8, any::<u8>(), isolation).prop_map(|(minutes_ago, jitter, isolation)| {
            Operation::FetchByTimestamp { minutes_ago, jitter, isolation }
        }),
        4 => Just(Operation::Maintain),
        3 => Just(Operation::Checkpoint),
        2 => Just(Operation::Flush),
        3 => Just(Operation::Reopen),
        3 => Just(Operation::Crash),
        3 => any::<u64>().prop_map(|seed| Operation::PowerCut { seed }),
        3 => (1..25_u8).prop_map(|minutes| Operation::ClockAdvance { minutes }),
    ]
}

fn policy() -> impl Strategy<Value = UnknownProducerPolicy> {
    prop_oneof![
        Just(UnknownProducerPolicy::Reject),
        Just(UnknownProducerPolicy::ZeroOnNeverWritten),
        Just(UnknownProducerPolicy::Accept),
    ]
}

/// The engine and the model, side by side.
struct World {
    memory: MemoryStorage,
    clock: Arc<ManualClock>,
    config: LogConfig,
    log: Option<Log>,
    model: Model,
    /// All batches that were ever appended.
    sent: Vec<Sent>,
    /// The newest checkpoint that was asked for covers the log at least up to here.
    checkpoint_end: i64,
}

impl World {
    fn new(policy: UnknownProducerPolicy) -> Self {
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

    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn open(&mut self) -> RecoveryReport {
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

    fn run(&mut self, operation: Operation) {
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
                let stamp = Stamp { id: 100 + i64::from(producer), epoch: 0, first: Some(i32::from(first)) };
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
                let sent = self.batch(Some(Stamp { id, epoch, first: None }), 1);
                self.append(sent, Buffered);
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
    fn learn(&mut self, id: i64) {
        let found = self.log().producer(ProducerId(id)).unwrap();
        if found.is_none() && self.model.known(id).is_some() {
            let idle = self.model.idle(id, self.clock.monotonic());
            assert!(idle >= EXPIRY, "producer {id} is forgotten after {idle:?}");
            self.model.forget(id);
        }
    }

    fn next_stamp(&mut self, id: i64) -> Stamp {
        self.learn(id);
        let start = if id >= NEAR_WRAP { i64::from(i32::MAX) - 6 } else { 0 };
        let accepts = self.config.unknown_producer == UnknownProducerPolicy::Accept;
        match self.model.known(id) {
            None => Stamp { id, epoch: 0, first: Some(narrow(if accepts { start } else { 0 })) },
            Some(known) => Stamp { id, epoch: known.epoch, first: Some(narrow(known.expected())) },
        }
    }

    fn append_at(&mut self, id: i64, epoch_by: i16, first: impl Fn(i64) -> i64, records: u8) {
        let next = self.next_stamp(id);
        let first = wrapped(first(i64::from(next.first.unwrap())));
        let stamp = Stamp { id, epoch: (next.epoch + epoch_by).max(0), first: Some(narrow(first)) };
        let sent = self.batch(Some(stamp), records);
        self.append(sent, Buffered);
    }

    /// Builds a batch whose timestamps go up and down around now.
    fn batch(&self, stamp: Option<Stamp>, records: u8) -> Sent {
        let now = self.clock.wall_ms();
        let timestamps: Vec<i64> =
            (0..i64::from(records)).map(|n| now + (n * 7 + self.model.end() * 3) % 11 - 5).collect();
        let mut builder = BatchBuilder::new();
        if let Some(Stamp { id, epoch, first }) = stamp {
            let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
            builder = match first {
                Some(first) => builder.producer(id, epoch, sequence(i64::from(first))),
                None => builder.producer_without_sequence(id, epoch),
            };
        }
        for timestamp in &timestamps {
            let value = format!("{} of {stamp:?}", self.sent.len());
            builder = builder.record_at(*timestamp, None, Some(value.as_bytes()));
        }
        Sent { stamp, bytes: builder.build().unwrap(), timestamps }
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

    fn judge(&mut self, sent: &Sent) -> Verdict {
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
    fn compare(&mut self, verdict: &Verdict, answer: Result<Appended, Error>, sent: Sent) -> Option<i64> {
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
                assert_eq!(rejection, *expected);
                None
            }
            (verdict, answer) => panic!("{:?}: expected {verdict:?}, found {answer:?}", sent.stamp),
        }
    }

    fn appended(&mut self, sent: Sent) {
        self.sent.push(sent.clone());
        let id = sent.stamp.map(|stamp| stamp.id);
        self.model.append(sent, self.clock.monotonic());
        if let Some(id) = id {
            self.check_producer(id);
        }
    }

    // Restarts.

    fn since_checkpoint(&self) -> impl Iterator<Item = &Stored> {
        self.model.log.iter().filter(|stored| stored.offset >= self.checkpoint_end)
    }

    fn reopen(&mut self) {
        self.log.take().unwrap().close().unwrap();
        let report = self.open();
        assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
        let work = (report.scanned_bytes, report.replayed_bytes, report.rewritten_bytes);
        assert_eq!(work, (0, 0, 0), "{report}");
        self.checkpoint_end = self.model.end();
        self.model.durable = self.model.end();
        self.check_everything();
    }

    fn crash(&mut self) {
        // The image comes first: dropping the log must not be what saves it.
        let image = self.memory.kill();
        self.log = None;
        self.memory = MemoryStorage::from_image(&image);
        let report = self.open();
        assert_eq!(report.cuts, [], "a kill loses nothing");
        self.check_recovery(&report);
        assert_eq!(self.log().log_end_offset(), Offset(self.model.end()), "{report}");
        self.model.durable = self.model.end();
        self.check_everything();
    }

    fn power_cut(&mut self, seed: u64) {
        let mut random = seed;
        let image = self.memory.power_cut_with(|_: &Pending| {
            // Nothing survives with the first seeds, everything with the next: the ends of the scale.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match seed % 4 {
                0 => false,
                1 => true,
                _ => random >> 63 == 1,
            }
        });
        self.log = None;
        self.memory = MemoryStorage::from_image(&image);
        let report = self.open();
        self.check_recovery(&report);
        let end = self.log().log_end_offset().0;
        assert!(end >= self.model.durable, "offset {} was durable: {report}", self.model.durable);
        self.model.cut(end);
        self.model.durable = end;
        self.check_everything();
    }

    fn check_recovery(&self, report: &RecoveryReport) {
        assert!(!report.salvaged, "{report}");
        let bytes: usize = self.since_checkpoint().map(|stored| stored.sent.bytes.len()).sum();
        assert!(report.replayed_bytes <= bytes as u64, "{bytes} bytes since the last checkpoint: {report}");
    }

    // Comparisons.

    fn check_offsets(&self) {
        let log = self.log();
        assert_eq!(log.log_start_offset(), Offset(0));
        assert_eq!(log.log_end_offset(), Offset(self.model.end()));
        let high_watermark = log.high_watermark().0;
        assert!((self.model.durable..=self.model.end()).contains(&high_watermark), "{high_watermark}");
    }

    fn check_everything(&mut self) {
        self.check_offsets();
        let mut from = 0;
        while from < self.model.end() {
            from = self.check_fetch(from, 1 << 20, Isolation::LogEnd);
        }
        for id in (FIRST_ID..FIRST_ID + 6).chain(100..103).chain(self.model.producers()) {
            self.check_producer(id);
        }
    }

    fn check_producer(&mut self, id: i64) {
        self.learn(id);
        let found = self.log().producer(ProducerId(id)).unwrap().map(|entry| {
            let batches = entry.batches().iter().map(|batch| model::Batch {
                first: i64::from(batch.first_sequence.value()),
                last: i64::from(batch.last_sequence.value()),
                offset: batch.first_offset.0,
                last_offset: batch.last_offset.0,
                timestamp: batch.max_timestamp,
            });
            (entry.epoch.0, batches.collect::<Vec<_>>(), i64::from(entry.proven))
        });
        let expected =
            self.model.known(id).map(|known: Known| (known.epoch, known.window().to_vec(), known.proven()));
        assert_eq!(found, expected, "producer {id}");
    }

    /// Fetches once, compares, and returns the offset behind what was fetched.
    fn check_fetch(&self, from: i64, max_bytes: usize, isolation: Isolation) -> i64 {
        let end = self.model.end();
        let fetched = match self.log().fetch(Offset(from), max_bytes, isolation) {
            Ok(fetched) => fetched,
            Err(Error::OffsetOutOfRange { asked, log_start_offset, log_end_offset }) => {
                assert_eq!((asked, log_start_offset, log_end_offset), (Offset(from), Offset(0), Offset(end)));
                assert!(from > end);
                return from;
            }
            Err(error) => panic!("{error}"),
        };
        assert!(from <= end, "offset {from} is not in the log");
        let bound = match isolation {
            Isolation::HighWatermark => self.log().high_watermark().0,
            _ => end,
        };
        let mut expected = self.model.log.iter().filter(|stored| stored.last_offset() >= from);
        let (mut bytes, mut next) = (0, from);
        for batch in fetched.batches().unwrap() {
            let batch = batch.unwrap();
            let stored = expected.next().unwrap();
            assert!(stored.last_offset() < bound, "{stored:?} is not below {bound}");
            let mut stamped = stored.sent.bytes.to_vec();
            stamped[..8].copy_from_slice(&stored.offset.to_be_bytes());
            stamped[12..16].copy_from_slice(&0_i32.to_be_bytes());
            assert_eq!(batch.bytes, stamped, "{stored:?}");
            bytes += stamped.len();
            next = stored.last_offset() + 1;
            assert!(
                bytes <= max_bytes || bytes == stamped.len(),
                "{bytes} bytes, {max_bytes} were asked for"
            );
        }
        assert_eq!(next > from, from < bound, "a fetch from {from} below {bound} finds something");
        next
    }

    fn check_timestamp(&self, at: i64, isolation: Isolation) {
        let bound = match isolation {
            Isolation::HighWatermark => self.log().high_watermark().0,
            _ => self.model.end(),
        };
        let records = self.model.log.iter().flat_map(|stored| (stored.offset..).zip(&stored.sent.timestamps));
        let expected = records
            .filter(|(offset, _)| *offset < bound)
            .find(|(_, timestamp)| **timestamp >= at)
            .map(|(offset, timestamp)| (Offset(offset), *timestamp));
        assert_eq!(self.log().offset_for_timestamp(at, isolation).unwrap(), expected, "at {at}");
    }
}

fn id_of(producer: u8) -> i64 {
    FIRST_ID + i64::from(producer)
}

fn narrow(sequence: i64) -> i32 {
    i32::try_from(sequence).unwrap()
}

/// Plays a history, and at its end a clean close, a kill and a power cut.
fn play(policy: UnknownProducerPolicy, operations: &[Operation]) {
    let mut world = World::new(policy);
    for operation in operations {
        world.run(*operation);
    }
    for last in [Operation::Crash, Operation::Reopen, Operation::PowerCut { seed: 0 }] {
        world.run(last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 200,
        max_shrink_iters: 4096,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_answer_is_the_models_before_and_after_every_restart(
        policy in policy(),
        operations in prop::collection::vec(operation(), 1..90),
    ) {
        play(policy, &operations);
    }
}

// Histories that went wrong once.

const fn next(records: u8) -> Operation {
    Operation::Next { producer: 0, records, durability: Buffered, wait: false }
}

/// A base judged a producer by its entry in the runs, although it had written since: after a kill, all that was known
/// of it began behind the new base.
#[test]
fn a_producer_that_wrote_since_is_not_expired_by_its_older_entry() {
    let other = Operation::Next { producer: 1, records: 1, durability: Buffered, wait: false };
    let mut history = vec![next(3), Operation::Checkpoint, Operation::ClockAdvance { minutes: 59 }];
    // Enough for a roll, which freezes the other's entry; the producer's own batch comes behind it.
    history.extend([other; 7]);
    history.extend([next(1), Operation::ClockAdvance { minutes: 1 }, Operation::Maintain]);
    play(UnknownProducerPolicy::Reject, &history);
}

/// A power cut left a batch right behind the durable end whose first bytes were those of an older sector. They stand
/// outside of the CRC, so its header parsed, and the log was refused.
#[test]
fn a_batch_with_a_torn_base_offset_right_behind_the_watermark_is_cut() {
    let plain = |records| Operation::Plain { records, durability: Buffered };
    let history = [
        plain(4),
        next(4),
        Operation::Maintain,
        plain(1),
        Operation::Crash,
        next(1),
        next(1),
        Operation::PowerCut { seed: 3_898_783_868_963_910_522 },
    ];
    play(UnknownProducerPolicy::Reject, &history);
}

/// A checkpoint wrote what the last roll had frozen, and nothing of what was appended since.
#[test]
fn a_checkpoint_that_is_asked_for_after_a_roll_reaches_the_log_end() {
    let mut history = vec![next(1); 13];
    history.push(Operation::Checkpoint);
    play(UnknownProducerPolicy::Reject, &history);
}

/// A close wrote what the last roll had frozen; batches without a producer behind it were read by the next open.
#[test]
fn a_clean_open_reads_no_batch_even_if_only_plain_ones_follow_a_roll() {
    let mut history = vec![next(1); 5];
    history.extend([Operation::Plain { records: 3, durability: Buffered }; 2]);
    history.push(Operation::Reopen);
    play(UnknownProducerPolicy::Reject, &history);
}
