//! A truncation happens or it does not: the power is cut after every single operation of a workload with truncations,
//! and what is opened then is the log before or the log after the step that was under way, with the windows that belong
//! to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oncelog::storage::{Image, MemoryStorage};
use oncelog::{Durability, Error, Log, LogConfig, Outcome, RawBatch, Rejection};

use crate::world::{batches, epoch, of, offset, open, small};

/// A batch as it was sent: producer, first sequence, number of records.
type Sent = (i64, i32, i32);

/// What the log holds: its start, and its batches with their base offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    start: i64,
    batches: Vec<(i64, Sent)>,
}

impl Content {
    fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |(base, sent)| base + i64::from(sent.2))
    }

    fn cut(&self, at: i64) -> Self {
        let mut cut = self.clone();
        cut.batches.retain(|(base, sent)| base + i64::from(sent.2) <= at);
        cut
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(Durability),
    /// As a follower, so many offsets behind the log end.
    Follow(i64),
    Checkpoint,
    /// Nothing but the background's work.
    Maintain,
    Cut(i64),
    Anew(i64),
    Reopen,
}

/// The states of a power cut and of the death of the process after one operation of a step.
struct Moment {
    step: usize,
    what: String,
    images: Vec<(&'static str, Image)>,
}

/// What may be found: batches of `all`, at least the first `least`.
#[derive(Clone, Debug)]
struct Allowed {
    all: Content,
    least: usize,
}

struct Recorded {
    moments: Vec<Moment>,
    /// Before each step, and at the end.
    states: Vec<Allowed>,
}

fn config() -> LogConfig {
    // A base for few producers, so that deltas and merges occur; segments of a few batches.
    LogConfig { segment_bytes: 900, whole_base_producers: 2, max_deltas: 2, ..small() }
}

fn steps() -> Vec<Step> {
    use Durability::{Buffered, Durable};
    let mut steps = Vec::new();
    let append = |steps: &mut Vec<Step>, count, durability| {
        for _ in 0..count {
            steps.extend([Step::Append(durability), Step::Maintain]);
        }
    };
    append(&mut steps, 6, Durable);
    steps.push(Step::Cut(8));
    append(&mut steps, 4, Durable);
    steps.push(Step::Checkpoint);
    append(&mut steps, 8, Durable);
    append(&mut steps, 3, Buffered);
    // Into the bytes that are not durable, into a sealed segment, below a checkpoint.
    steps.extend([Step::Cut(33), Step::Append(Durable), Step::Checkpoint, Step::Cut(21)]);
    append(&mut steps, 9, Buffered);
    steps.extend([Step::Checkpoint, Step::Reopen, Step::Cut(14), Step::Reopen, Step::Cut(0)]);
    append(&mut steps, 6, Durable);
    steps.extend([Step::Checkpoint, Step::Anew(500)]);
    append(&mut steps, 6, Durable);
    steps.extend([Step::Checkpoint, Step::Append(Durable), Step::Cut(510), Step::Anew(4)]);
    append(&mut steps, 3, Durable);
    steps.extend([Step::Cut(8), Step::Reopen]);
    for gap in [0, 0, 3, 0, 9, 0, 0, 20] {
        steps.extend([Step::Follow(gap), Step::Maintain]);
    }
    steps.extend([
        Step::Checkpoint,
        Step::Follow(1),
        Step::Cut(30),
        Step::Follow(0),
        Step::Reopen,
        Step::Follow(4),
    ]);
    steps
}

/// The next batch of the producer whose turn it is. A producer whose batches were cut goes on where the log does.
fn next_batch(content: &Content, turn: usize) -> Sent {
    let producer = 1 + i64::try_from(turn % 5).unwrap();
    let newest = content.batches.iter().rev().find(|(_, sent)| sent.0 == producer);
    (producer, newest.map_or(0, |(_, sent)| sent.1 + sent.2), 1 + i32::try_from(turn % 3).unwrap())
}

fn bytes((producer, first, records): Sent) -> Bytes {
    of(producer, first, records)
}

fn record() -> Recorded {
    let disk = MemoryStorage::new();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let at = Arc::new(Mutex::new(0));
    let (taken, step_now) = (Arc::clone(&moments), Arc::clone(&at));
    let (mut log, _) = open(&disk, &config()).unwrap();
    disk.on_operation(move |operation, disk| {
        let mut dice = operation.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut coin = move || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 32) & 1 == 0
        };
        taken.lock().unwrap().push(Moment {
            step: *step_now.lock().unwrap(),
            what: format!("{:?} {}", operation.kind, operation.name()),
            images: vec![
                ("power cut", disk.power_cut()),
                ("torn power cut", disk.power_cut_with(|_| coin())),
                ("kill", disk.kill()),
            ],
        });
    });
    let mut now = Allowed { all: Content { start: 0, batches: Vec::new() }, least: 0 };
    let mut states = vec![now.clone()];
    for (number, step) in steps().into_iter().enumerate() {
        *at.lock().unwrap() = number;
        match step {
            Step::Append(durability) => {
                let sent = next_batch(&now.all, number);
                // Every few batches another leader.
                log.begin_leader_epoch(epoch(i32::try_from(number / 7).unwrap())).unwrap();
                let appended = log.append(RawBatch(bytes(sent)), durability).unwrap();
                assert_eq!(appended.base_offset, Some(offset(now.all.end())));
                now.all.batches.push((now.all.end(), sent));
                if durability == Durability::Durable {
                    now.least = now.all.batches.len();
                }
            }
            Step::Follow(gap) => {
                let sent = next_batch(&now.all, number);
                let base = now.all.end() + gap;
                let mut stored = bytes(sent).to_vec();
                stored[..8].copy_from_slice(&base.to_be_bytes());
                stored[12..16].copy_from_slice(&i32::try_from(number / 7).unwrap().to_be_bytes());
                log.append_as_follower(RawBatch(stored.into()), Durability::Durable).unwrap();
                now.all.batches.push((base, sent));
                now.least = now.all.batches.len();
            }
            Step::Checkpoint => {
                log.checkpoint().unwrap();
                now.least = now.all.batches.len();
            }
            Step::Maintain => log.maintain().unwrap(),
            Step::Cut(target) => {
                let left = now.all.cut(target);
                assert_eq!(log.truncate_to(offset(target)).unwrap(), offset(left.end()), "step {number}");
                now = Allowed { least: left.batches.len(), all: left };
            }
            Step::Anew(start) => {
                log.truncate_fully_and_start_at(offset(start)).unwrap();
                now = Allowed { all: Content { start, batches: Vec::new() }, least: 0 };
            }
            Step::Reopen => {
                log.close().unwrap();
                now.least = now.all.batches.len();
                log = open(&disk, &config()).unwrap().0;
            }
        }
        assert_eq!(content_of(&log), now.all, "after step {number}, {step:?}");
        states.push(now.clone());
    }
    disk.forget_observer();
    drop(log);
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    Recorded { moments, states }
}

fn content_of(log: &Log) -> Content {
    let batches = batches(log).into_iter().map(|batch| {
        let header = &batch.header;
        (header.base_offset.0, (header.producer_id, header.base_sequence, header.record_count))
    });
    Content { start: log.log_start_offset().0, batches: batches.collect() }
}

fn is_allowed(found: &Content, allowed: &Allowed) -> bool {
    found.start == allowed.all.start
        && found.batches.len() >= allowed.least
        && allowed.all.batches.starts_with(&found.batches)
}

/// Retries of all that is in the log, and the next batch of each producer.
fn check_windows(log: &Log, content: &Content) -> Result<(), String> {
    let mut own: BTreeMap<i64, Vec<(i64, Sent)>> = BTreeMap::new();
    for (base, sent) in &content.batches {
        own.entry(sent.0).or_default().push((*base, *sent));
    }
    for producer in 1..=5 {
        let known = own.remove(&producer).unwrap_or_default();
        for (place, (base, sent)) in known.iter().enumerate() {
            let answer = log.append(RawBatch(bytes(*sent)), Durability::Durable);
            let right = match &answer {
                Ok(given) if place + 5 >= known.len() => {
                    given.outcome == Outcome::Duplicate && given.base_offset == Some(offset(*base))
                }
                Ok(given) => given.outcome == Outcome::DuplicateBeyondWindow,
                Err(_) => false,
            };
            if !right {
                return Err(format!("retry of {sent:?} at {base}: {answer:?}"));
            }
        }
        let next = known.last().map_or(0, |(_, sent)| sent.1 + sent.2);
        let early = log.append(RawBatch(of(producer, next + 1, 1)), Durability::Durable);
        let right = match &early {
            Err(Error::Rejected(Rejection::OutOfOrder { .. })) => !known.is_empty(),
            Err(Error::Rejected(Rejection::UnknownProducer { .. })) => known.is_empty(),
            _ => false,
        };
        if !right {
            return Err(format!("a gap of producer {producer} after {next}: {early:?}"));
        }
        let end = log.log_end_offset();
        let appended = log.append(RawBatch(of(producer, next, 1)), Durability::Durable);
        if !matches!(&appended, Ok(given) if given.base_offset == Some(end)) {
            return Err(format!("producer {producer} goes on with {next}: {appended:?}"));
        }
    }
    Ok(())
}

fn check(recorded: &Recorded, moment: &Moment, image: &Image) -> Result<(), String> {
    let disk = MemoryStorage::from_image(image);
    let (log, _) = open(&disk, &config()).map_err(|error| format!("not opened: {error}"))?;
    let found = content_of(&log);
    let (before, after) = (&recorded.states[moment.step], &recorded.states[moment.step + 1]);
    if !is_allowed(&found, before) && !is_allowed(&found, after) {
        return Err(format!("found {found:?}, neither of {before:?} nor of {after:?}"));
    }
    let epochs = log.leader_epochs();
    let mut known = oncelog::LeaderEpochs::new();
    for batch in batches(&log) {
        known.assign(batch.header.leader_epoch, batch.header.base_offset);
    }
    if epochs != known {
        return Err(format!("epochs {epochs:?}, the batches have {known:?}"));
    }
    check_windows(&log, &found)?;
    let content = content_of(&log);
    let again = disk.power_cut();
    drop(log);
    let (log, _) = open(&MemoryStorage::from_image(&again), &config())
        .map_err(|error| format!("not opened after a second power cut: {error}"))?;
    if content_of(&log) == content { Ok(()) } else { Err("the second power cut changed the log".to_owned()) }
}

#[test]
fn a_truncation_happens_wholly_or_not_at_all_whatever_operation_is_the_last() {
    let recorded = record();
    let steps = steps();
    let mut in_cuts = 0;
    for moment in &recorded.moments {
        in_cuts += usize::from(matches!(steps[moment.step], Step::Cut(_) | Step::Anew(_)));
        for (kind, image) in &moment.images {
            if let Err(why) = check(&recorded, moment, image) {
                panic!(
                    "{kind} after {} in step {} ({:?}): {why}",
                    moment.what, moment.step, steps[moment.step]
                );
            }
        }
    }
    assert!(in_cuts >= 100, "only {in_cuts} operations in truncations");
}

#[test]
fn a_power_cut_in_the_recovery_that_finishes_a_truncation_changes_nothing() {
    let recorded = record();
    let steps = steps();
    let mut images = 0;
    for moment in
        recorded.moments.iter().filter(|moment| matches!(steps[moment.step], Step::Cut(_) | Step::Anew(_)))
    {
        let disk = MemoryStorage::from_image(&moment.images[0].1);
        let nested = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&nested);
        disk.on_operation(move |_, disk| taken.lock().unwrap().push(disk.power_cut()));
        let (log, _) = open(&disk, &config()).unwrap();
        disk.forget_observer();
        let recovered = content_of(&log);
        drop(log);
        for image in nested.lock().unwrap().iter().step_by(3) {
            let (log, _) = open(&MemoryStorage::from_image(image), &config()).unwrap();
            assert_eq!(content_of(&log), recovered, "after {} in step {}", moment.what, moment.step);
            images += 1;
        }
    }
    assert!(images >= 300, "only {images} images");
}
