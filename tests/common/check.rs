//! Opens what a crash left and holds it against what was promised.
//!
//! Invariant: what is expected is computed from the ledger and from the batches that are in the log, by rules written
//! down here once more, naively; nothing of it comes from the engine's own state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use oncelog::storage::{Image, ManualClock, MemoryStorage};
use oncelog::{
    Appended, Background, Durability, Environment, Error, FetchedBatch, Isolation, Log, LogConfig, Offset,
    Outcome, ProducerEpoch, ProducerId, RecoveryReport, Rejection, Salvage,
};

use super::ledger::{Ack, Issued, NOW_MS};

/// Where every test on a simulated disk keeps its log.
pub(crate) const DIR: &str = "/logs/orders-0";

/// A producer that no test lets write.
const STRANGER: i64 = 999_999;

/// A broken promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What a crash left was not opened.
    Refused,
    /// An acknowledged batch is not in the log, or not where it was acknowledged.
    LostAck,
    /// A batch is in the log that nobody sent, or twice, or with other bytes, or not at the next offset.
    WrongLog,
    /// The log holds batches in another order than that in which they were sent, or leaves one out.
    WrongOrder,
    /// A batch was answered otherwise than the rules of producers say.
    WrongAnswer,
    /// What was recovered and answered for once did not survive the next crash.
    Unstable,
}

#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

fn broken<T>(rule: Rule, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { rule, what: what.into() })
}

/// What was sent and promised until the crash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) issued: &'a [Issued],
    /// The acknowledgements that the crash must not touch.
    pub(crate) must_survive: &'a [Ack],
    /// Whether the log holds what was issued in an order in which it can have been accepted.
    pub(crate) in_order: fn(&[Issued], &[Kept]) -> bool,
}

/// A log that kept every promise.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) report: RecoveryReport,
    /// How many retries were answered with their first offsets.
    pub(crate) retries: usize,
}

/// Small enough that a few dozen batches roll, checkpoint and merge.
pub(crate) fn small_config() -> LogConfig {
    LogConfig {
        segment_bytes: 3_000,
        index_interval_bytes: 400,
        checkpoint_bytes: 1_500,
        whole_base_producers: 2,
        max_deltas: 2,
        preallocate_bytes: 4_096,
        background: Background::Caller,
        ..LogConfig::default()
    }
}

/// A disk and a clock that stands still.
pub(crate) fn environment(disk: &MemoryStorage) -> Environment {
    environment_with_clock(disk, Arc::new(ManualClock::new(NOW_MS)))
}

pub(crate) fn environment_with_clock(disk: &MemoryStorage, clock: Arc<ManualClock>) -> Environment {
    Environment { storage: Arc::new(disk.clone()), clock, salvage: Salvage::Refuse, progress: None }
}

pub(crate) fn open(disk: &MemoryStorage) -> Result<(Log, RecoveryReport), Error> {
    Log::open_with(Path::new(DIR), small_config(), environment(disk))
}

/// Every batch of a log, durable or not, in its order.
pub(crate) fn batches_of(log: &Log) -> Result<Vec<FetchedBatch>, Error> {
    let mut batches = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        for batch in log.fetch(next, 1 << 20, Isolation::LogEnd)?.batches()? {
            let batch = batch?;
            next = batch.header.next_offset();
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// Opens `image` and checks everything that can be asked of it; then cuts the power again and checks that what was
/// answered stays.
pub(crate) fn check(image: &Image, facts: Facts<'_>) -> Result<Checked, Violation> {
    let disk = MemoryStorage::from_image(image);
    let (log, report) = match open(&disk) {
        Ok(opened) => opened,
        Err(error) => return broken(Rule::Refused, error.to_string()),
    };
    let kept = check_log(&log, facts)?;
    let retries = check_answers(&log, facts.issued, &kept)?;
    let content = content_of(&log)?;
    let after = disk.power_cut();
    drop(log);
    let again = match open(&MemoryStorage::from_image(&after)) {
        Ok((log, _)) => content_of(&log)?,
        Err(error) => return broken(Rule::Refused, format!("after a second power cut: {error}")),
    };
    if content != again {
        return broken(Rule::Unstable, format!("{} bytes, then {} bytes", content.len(), again.len()));
    }
    Ok(Checked { report, retries })
}

/// All batches of a log, byte by byte.
pub(crate) fn content_of(log: &Log) -> Result<Vec<u8>, Violation> {
    match batches_of(log) {
        Ok(batches) => Ok(batches.iter().flat_map(|batch| batch.bytes.to_vec()).collect()),
        Err(error) => broken(Rule::WrongLog, format!("the log cannot be read: {error}")),
    }
}

/// A batch of the log: which of the issued ones, and where.
pub(crate) type Kept = (usize, Offset);

/// Content against ledger: nothing lost, nothing invented, nothing twice, in order and without a gap.
pub(crate) fn check_log(log: &Log, facts: Facts<'_>) -> Result<Vec<Kept>, Violation> {
    let batches = match batches_of(log) {
        Ok(batches) => batches,
        Err(error) => return broken(Rule::WrongLog, format!("the log cannot be read: {error}")),
    };
    if log.high_watermark() != log.log_end_offset() {
        return broken(Rule::WrongLog, "a recovered log end is not durable");
    }
    let by_name: HashMap<_, _> = facts
        .issued
        .iter()
        .enumerate()
        .map(|(at, batch)| ((batch.producer.0, batch.epoch.0, batch.first.value()), at))
        .collect();
    let mut kept = Vec::new();
    let mut next = Offset::ZERO;
    for batch in &batches {
        let header = &batch.header;
        let name = (header.producer_id, header.producer_epoch, header.base_sequence);
        let Some(&at) = by_name.get(&name) else {
            return broken(Rule::WrongLog, format!("nobody sent {name:?}"));
        };
        if header.base_offset != next {
            return broken(Rule::WrongLog, format!("{name:?} is at {}, not {next}", header.base_offset));
        }
        if batch.bytes != facts.issued[at].stored_at(next) {
            return broken(Rule::WrongLog, format!("{name:?} has other bytes"));
        }
        kept.push((at, next));
        next = header.next_offset();
    }
    let places: BTreeMap<usize, Offset> = kept.iter().copied().collect();
    if places.len() != kept.len() {
        return broken(Rule::WrongLog, "a batch is there twice");
    }
    for ack in facts.must_survive {
        let batch = &facts.issued[ack.batch];
        let acked = ack.appended.base_offset;
        match places.get(&ack.batch) {
            Some(found) if acked.is_none_or(|acked| acked == *found) => {}
            found => {
                let what = format!("{batch:?} was acknowledged at {acked:?} and is at {found:?}");
                return broken(Rule::LostAck, what);
            }
        }
    }
    if !(facts.in_order)(facts.issued, &kept) {
        return broken(Rule::WrongOrder, format!("{kept:?}"));
    }
    Ok(kept)
}

/// Retries, gaps, old epochs and next batches of every producer in the log. Returns how many retries were right.
pub(crate) fn check_answers(log: &Log, issued: &[Issued], kept: &[Kept]) -> Result<usize, Violation> {
    let mut retries = 0;
    let producers: BTreeSet<ProducerId> = kept.iter().map(|(at, _)| issued[*at].producer).collect();
    for producer in producers {
        let own: Vec<(&Issued, Offset)> = kept
            .iter()
            .filter(|(at, _)| issued[*at].producer == producer)
            .map(|(at, base)| (&issued[*at], *base))
            .collect();
        let Some((newest, _)) = own.last().copied() else { continue };
        let (present, fenced): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|(batch, _)| batch.epoch == newest.epoch);
        let window = present.len().saturating_sub(5);
        let oldest = present[window];
        for (place, (batch, base)) in present.iter().enumerate() {
            let expected = if place >= window {
                Appended {
                    outcome: Outcome::Duplicate,
                    base_offset: Some(*base),
                    last_offset: base.saturating_add(i64::from(batch.records) - 1),
                    timestamp: batch.timestamp(),
                }
            } else {
                Appended {
                    outcome: Outcome::DuplicateBeyondWindow,
                    base_offset: None,
                    last_offset: oldest.1.saturating_add(i64::from(oldest.0.records) - 1),
                    timestamp: -1,
                }
            };
            answers(log, batch, Ok(expected))?;
            retries += 1;
        }
        for (batch, _) in &fenced {
            let rejection = Rejection::Fenced { producer, current: newest.epoch, found: batch.epoch };
            answers(log, batch, Err(rejection))?;
        }
        let next = newest.next();
        let gap = Issued::new(producer.0, newest.epoch.0, next.value() + 1, 1);
        answers(log, &gap, Err(Rejection::OutOfOrder { producer, expected: next, found: gap.first }))?;
        let bumped = Issued::new(producer.0, newest.epoch.0 + 1, 1, 1);
        let from_zero =
            Rejection::OutOfOrder { producer, expected: oncelog::Sequence::ZERO, found: bumped.first };
        answers(log, &bumped, Err(from_zero))?;
        append_next(log, newest.producer, newest.epoch, next.value())?;
    }
    let stranger = Issued::new(STRANGER, 0, 3, 1);
    let unknown = Rejection::UnknownProducer {
        producer: stranger.producer,
        found: stranger.first,
        log_start_offset: Offset::ZERO,
    };
    answers(log, &stranger, Err(unknown))?;
    Ok(retries)
}

fn append_next(log: &Log, producer: ProducerId, epoch: ProducerEpoch, first: i32) -> Result<(), Violation> {
    let batch = Issued::new(producer.0, epoch.0, first, 2);
    let end = log.log_end_offset();
    let expected = Appended {
        outcome: Outcome::Appended,
        base_offset: Some(end),
        last_offset: end.saturating_add(1),
        timestamp: batch.timestamp(),
    };
    answers(log, &batch, Ok(expected))
}

fn answers(log: &Log, batch: &Issued, expected: Result<Appended, Rejection>) -> Result<(), Violation> {
    let before = log.log_end_offset();
    let given = log.append(batch.raw(), Durability::Durable);
    let right = match (&given, &expected) {
        (Ok(given), Ok(expected)) => given == expected,
        (Err(Error::Rejected(given)), Err(expected)) => given == expected && log.log_end_offset() == before,
        _ => false,
    };
    if right {
        return Ok(());
    }
    broken(Rule::WrongAnswer, format!("{batch:?}: {given:?} instead of {expected:?}"))
}
