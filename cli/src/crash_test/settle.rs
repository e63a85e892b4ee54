//! What the log holds after a crash, against what was sent and answered before it.
//!
//! Invariant: every rule here is one of the list "Log content": nothing acknowledged is missing, nothing is there twice,
//! offsets are those acknowledged and dense, bytes are those sent, what is there of one thread is a prefix of what it
//! sent, and nothing is there that nobody sent or that was refused.

use std::collections::HashMap;

use bytes::Bytes;
use oncelog::format::batch::{BatchHeader, RawBatch};
use oncelog::types::Durability;

use super::batch::Spec;
use super::ledger::{Attempt, Expected, FOREIGN_LANE, Ledger};
use super::report::Violation;

/// What happened to the log since the last dump, beside the death of its process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// Unsynced bytes were taken away: only what was acknowledged as durable has to be there.
    pub(super) power: bool,
    /// Writes were made to fail: a batch can be missing although one sent after it is there.
    pub(super) failures: bool,
    /// Another program cut the log here and went on.
    pub(super) cut: Option<i64>,
}

impl Loss {
    /// Whether what this attempt was answered no longer counts, because another program cut the log below it.
    fn voids(self, attempt: &Attempt) -> bool {
        let Some(place) = attempt.place() else { return false };
        attempt.lane != FOREIGN_LANE && self.cut.is_some_and(|cut| place.base >= cut)
    }
}

/// What became of the attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Batches that are in the log although their acknowledgement was never sent.
    pub(super) found_unanswered: u64,
    /// Buffered acknowledgements that a power cut took.
    pub(super) lost_buffered: u64,
}

/// Compares the batches from the last known end on with what was sent, and takes them into the book.
pub(super) fn settle(ledger: &mut Ledger, batches: &[Bytes], loss: Loss) -> Result<Settled, Vec<Violation>> {
    let mut violations = Vec::new();
    let attempts = std::mem::take(&mut ledger.attempts);
    let mut by_spec: HashMap<Spec, Vec<&Attempt>> = HashMap::new();
    for attempt in &attempts {
        by_spec.entry(attempt.spec).or_default().push(attempt);
    }
    let mut found: HashMap<Spec, i64> = HashMap::new();
    for bytes in batches {
        match take_in(ledger, bytes, &by_spec, loss) {
            Ok((spec, base)) => {
                found.insert(spec, base);
            }
            Err(violation) => {
                // What follows a batch that is not understood cannot be judged.
                violations.push(violation);
                break;
            }
        }
    }
    let mut settled = Settled::default();
    if violations.is_empty() {
        settled = missing(&attempts, &by_spec, &found, loss, &mut violations);
        prefixes(&attempts, &by_spec, &found, loss, &mut violations);
        owe(ledger, &attempts, &found);
    }
    ledger.forget_attempts();
    if violations.is_empty() { Ok(settled) } else { Err(violations) }
}

/// Judges one batch and appends it to the book.
fn take_in(
    ledger: &mut Ledger,
    bytes: &Bytes,
    by_spec: &HashMap<Spec, Vec<&Attempt>>,
    loss: Loss,
) -> Result<(Spec, i64), Violation> {
    let (header, spec) = identify(bytes, ledger.seed)?;
    let base = header.base_offset.0;
    if base != ledger.end {
        let detail = format!("{spec} is at offset {base}; the batch before it ends at {}", ledger.end);
        return Err(Violation::new("offsets are not dense", detail));
    }
    if let Some(stored) =
        ledger.producers.get(&spec.producer).and_then(|p| p.stored.iter().rev().find(|s| s.spec == spec))
    {
        let detail = format!("{spec} is at offsets {} and {base}", stored.base);
        return Err(Violation::new("a batch is in the log twice", detail));
    }
    let sent = by_spec.get(&spec).map(Vec::as_slice).unwrap_or_default();
    if sent.iter().all(|attempt| !attempt.expected.is_data() || attempt.is_refused()) {
        let what = if sent.is_empty() {
            "a batch is in the log that nobody sent"
        } else {
            "a refused batch is in the log"
        };
        let answers: Vec<_> = sent.iter().map(|attempt| &attempt.answer).collect();
        return Err(Violation::new(what, format!("{spec} at offset {base}; answers: {answers:?}")));
    }
    for place in sent.iter().filter(|attempt| !loss.voids(attempt)).filter_map(|attempt| attempt.place()) {
        if place.base != base {
            let detail = format!("{spec} was acknowledged at offset {} and is at {base}", place.base);
            return Err(Violation::new("a batch is not at its acknowledged offset", detail));
        }
    }
    in_sequence(ledger, spec, base)?;
    ledger.store(base, spec);
    Ok((spec, base))
}

/// Whose batch it is, if it is byte for byte the one that was sent.
pub(super) fn identify(bytes: &Bytes, seed: u64) -> Result<(BatchHeader, Spec), Violation> {
    let unreadable =
        |error: &dyn std::fmt::Display| Violation::new("a batch in the log is damaged", error.to_string());
    let checked = RawBatch(bytes.clone()).check().map_err(|error| unreadable(&error))?;
    let header = *checked.header();
    let strange = || Violation::new("a batch is in the log that nobody sent", format!("{header:?}"));
    let spec = Spec::of(&header, bytes).ok_or_else(strange)?;
    let sent = match spec.marker(header.max_timestamp) {
        Some(marker) => marker.to_batch(),
        None => spec.stamped(seed, header.base_offset, header.leader_epoch).map_err(|_| strange())?,
    };
    let same = if spec.is_marker() {
        // The leader stamps base offset and leader epoch.
        sent.get(8..12) == bytes.get(8..12) && sent.get(16..) == bytes.get(16..)
    } else {
        sent == *bytes
    };
    if same {
        Ok((header, spec))
    } else {
        let at = sent.iter().zip(bytes).position(|(sent, stored)| sent != stored);
        let detail = format!("{spec} at offset {}: first difference at byte {at:?}", header.base_offset);
        Err(Violation::new("a batch has other bytes than were sent", detail))
    }
}

/// The next sequence of the same epoch, or the first of a later one.
fn in_sequence(ledger: &Ledger, spec: Spec, base: i64) -> Result<(), Violation> {
    let Some(producer) = ledger.producers.get(&spec.producer) else { return Ok(()) };
    let (expected, what) = match producer.log_epoch() {
        Some(epoch) if epoch > spec.epoch => {
            let detail = format!("{spec} is at offset {base}, behind epoch {epoch}");
            return Err(Violation::new("an old epoch is in the log", detail));
        }
        Some(epoch) if epoch == spec.epoch => {
            (producer.newest().map_or(0, |newest| newest.spec.next()), "the epoch's next")
        }
        Some(_) => (0, "the new epoch's first"),
        None => (producer.began_at, "the producer's first"),
    };
    if spec.is_marker() || spec.first == expected {
        return Ok(());
    }
    let detail = format!("{spec} is at offset {base}; {what} sequence is {expected}");
    Err(Violation::new("sequences are not in order", detail))
}

/// Every acknowledged batch that must have survived is there.
fn missing(
    attempts: &[Attempt],
    by_spec: &HashMap<Spec, Vec<&Attempt>>,
    found: &HashMap<Spec, i64>,
    loss: Loss,
    violations: &mut Vec<Violation>,
) -> Settled {
    let mut settled = Settled::default();
    let unanswered =
        |spec: &Spec| by_spec.get(spec).is_some_and(|sent| sent.iter().all(|a| a.place().is_none()));
    settled.found_unanswered = found.keys().filter(|spec| unanswered(spec)).count() as u64;
    for attempt in attempts.iter().filter(|attempt| must_be_new(attempt)) {
        let Some(place) = attempt.place() else { continue };
        if found.get(&attempt.spec) == Some(&place.base) || loss.voids(attempt) {
            continue;
        }
        if loss.power && attempt.durability == Durability::Buffered {
            settled.lost_buffered += 1;
            continue;
        }
        let at = found.get(&attempt.spec);
        let detail = format!(
            "{} was acknowledged as {:?} at offset {}; found at {at:?}",
            attempt.spec, attempt.durability, place.base
        );
        violations.push(Violation::new("an acknowledged batch is missing", detail));
    }
    settled
}

/// Whether the batch was not in the log at the dump before.
fn must_be_new(attempt: &Attempt) -> bool {
    matches!(attempt.expected, Expected::Appended | Expected::Duplicate(None))
}

/// What is in the log of each thread is a prefix of what it sent.
fn prefixes(
    attempts: &[Attempt],
    by_spec: &HashMap<Spec, Vec<&Attempt>>,
    found: &HashMap<Spec, i64>,
    loss: Loss,
    violations: &mut Vec<Violation>,
) {
    if loss.failures || loss.cut.is_some() {
        return;
    }
    let mut absent: HashMap<u8, &Attempt> = HashMap::new();
    let mut before: HashMap<u8, i64> = HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.expected == Expected::Appended) {
        let Some(base) = found.get(&attempt.spec) else {
            if !attempt.is_refused() {
                absent.entry(attempt.lane).or_insert(attempt);
            }
            continue;
        };
        if let Some(hole) = absent.get(&attempt.lane) {
            let detail = format!("{} is in the log, {}, sent before it, is not", attempt.spec, hole.spec);
            violations.push(Violation::new("the log is not a prefix of what was sent", detail));
            return;
        }
        let sent_once = by_spec
            .get(&attempt.spec)
            .is_none_or(|sent| sent.iter().filter(|a| a.expected == Expected::Appended).count() == 1);
        if let Some(earlier) = before.insert(attempt.lane, *base)
            && earlier > *base
            && sent_once
        {
            let detail = format!("{} is at offset {base}, one sent before it at {earlier}", attempt.spec);
            violations.push(Violation::new("the log is not in the order of sending", detail));
            return;
        }
    }
}

/// What was sent and is not there is owed another try.
fn owe(ledger: &mut Ledger, attempts: &[Attempt], found: &HashMap<Spec, i64>) {
    for producer in ledger.producers.values_mut() {
        producer.owed.clear();
    }
    // A marker that is not there is not sent again: its coordinator orders another.
    let sent = attempts
        .iter()
        .filter(|attempt| attempt.expected == Expected::Appended && !attempt.spec.is_marker())
        .map(|attempt| attempt.spec);
    for spec in std::mem::take(&mut ledger.cut_away).into_iter().chain(sent) {
        if let Some(producer) = ledger.producers.get_mut(&spec.producer)
            && !found.contains_key(&spec)
            && producer.log_epoch().is_none_or(|epoch| epoch <= spec.epoch)
            && !producer.owed.contains(&spec)
        {
            producer.owed.push(spec);
        }
    }
    for producer in ledger.producers.values_mut() {
        producer.resume();
        let (epoch, next) = (producer.epoch, producer.next);
        // A later epoch begins at 0.
        let first = |spec: &Spec| if spec.epoch == epoch { next } else { 0 };
        producer.owed.sort_by_key(|spec| (spec.epoch, Ledger::steps(first(spec), spec.first)));
    }
}

#[cfg(test)]
mod tests;
