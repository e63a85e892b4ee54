//! Whether what is in a partition is what was sent, and whether what is not there may be gone.
//!
//! Invariant: a batch that was acknowledged is there, at its offset, with all its records, but for what compaction may
//! take below where it has been: the older records of a key, those of aborted transactions, tombstones. It takes no
//! producer's last batch, no marker before the records that it decides, no tombstone before what that one hides, and
//! what it took never comes back.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use oncelog::format::batch::RawBatch;

use super::super::batch::{Kind, Spec};
use super::super::ledger::{Ledger, Stored};
use super::super::report::Violation;
use super::content;

/// What a survey has shown.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Offsets of the data records that are there.
    pub(super) records: HashSet<i64>,
    /// Base offsets of the batches that are there.
    batches: HashSet<i64>,
}

/// Compares the batches of a partition with the book; one behind them that `may_follow` is taken in. Whether what is not
/// there may be gone is for [`excuse`] to say.
pub(super) fn read(
    ledger: &mut Ledger,
    seed: u64,
    batches: &[Bytes],
    may_follow: impl Fn(&Ledger, &Spec) -> bool,
) -> Result<Found, Violation> {
    let mut found = Found::default();
    for bytes in batches {
        let damaged = |error: &dyn std::fmt::Display| {
            Violation::new("a batch in the log is damaged", error.to_string())
        };
        let checked = RawBatch(bytes.clone()).check().map_err(|error| damaged(&error))?;
        let header = *checked.header();
        let base = header.base_offset.0;
        let known = ledger.log.binary_search_by_key(&base, |stored| stored.base).ok();
        let spec = match known.and_then(|nth| ledger.log.get(nth)) {
            Some(known) => known.spec,
            None => {
                let spec = Spec::of(&header, bytes).filter(|spec| may_follow(ledger, spec));
                let Some(spec) = spec.filter(|_| base == ledger.end) else {
                    let detail = format!("{header:?}; the log ended at {}", ledger.end);
                    return Err(Violation::new("a batch is in a partition that nobody sent", detail));
                };
                ledger.store(base, spec);
                spec
            }
        };
        let records = content::compare(&spec, seed, &header, bytes).map_err(|why| {
            Violation::new("a batch has other bytes than were sent", format!("{spec} at {base}: {why}"))
        })?;
        if !found.batches.insert(base) {
            return Err(Violation::new("a batch is in the log twice", format!("{spec} at {base}")));
        }
        found.records.extend(records);
    }
    Ok(found)
}

/// A record that was sent, and what became of its transaction.
struct Sent {
    offset: i64,
    key: u8,
    is_tombstone: bool,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Counts,
    Aborted,
    Undecided,
}

/// Whether all that is missing may be: nothing at or above `bound`, up to which compaction may have been. Returns the
/// offsets of the records that are gone.
pub(super) fn excuse(
    ledger: &Ledger,
    seed: u64,
    found: &Found,
    bound: i64,
) -> Result<HashSet<i64>, Violation> {
    let missing = |stored: &&Stored| !found.batches.contains(&stored.base);
    if let Some(stored) = ledger.log.iter().find(|stored| missing(stored) && stored.base >= bound) {
        let detail = format!("{} at offset {}; compacted is below {bound}", stored.spec, stored.base);
        return Err(Violation::new("a batch of a partition is missing", detail));
    }
    let sent = sent(ledger, seed);
    let mut newest: HashMap<u8, i64> = HashMap::new();
    for record in sent.iter().filter(|record| record.fate == Fate::Counts && record.offset < bound) {
        newest.insert(record.key, record.offset);
    }
    let mut oldest_found: HashMap<u8, i64> = HashMap::new();
    let there = |record: &&Sent| found.records.contains(&record.offset);
    for record in sent.iter().rev().filter(|record| there(record) && record.fate == Fate::Counts) {
        oldest_found.insert(record.key, record.offset);
    }
    let mut gone = HashSet::new();
    for record in sent.iter().filter(|record| !there(record)) {
        let newer = newest.get(&record.key).is_some_and(|newest| *newest > record.offset);
        let hides = oldest_found.get(&record.key).is_some_and(|older| *older < record.offset);
        let excused = record.offset < bound
            && match record.fate {
                Fate::Aborted => true,
                Fate::Undecided => false,
                Fate::Counts => newer || (record.is_tombstone && !hides),
            };
        if !excused {
            let what = if record.is_tombstone { "tombstone" } else { "record" };
            let detail = format!("the {what} of key {} at offset {}", record.key, record.offset);
            return Err(Violation::new("compaction took what it must keep", detail));
        }
        gone.insert(record.offset);
    }
    producers_and_markers(ledger, found)?;
    Ok(gone)
}

/// All data records, in the order of the log.
fn sent(ledger: &Ledger, seed: u64) -> Vec<Sent> {
    let mut commits: HashMap<i64, bool> = HashMap::new();
    let mut sent = Vec::new();
    for Stored { base, spec, .. } in ledger.log.iter().rev() {
        let fate = match spec.kind {
            Kind::Commit | Kind::Abort => {
                commits.insert(spec.producer, spec.kind == Kind::Commit);
                continue;
            }
            Kind::Plain => Fate::Counts,
            Kind::Transactional => match commits.get(&spec.producer) {
                Some(true) => Fate::Counts,
                Some(false) => Fate::Aborted,
                None => Fate::Undecided,
            },
        };
        let records = content::records(spec, seed);
        for (offset, record) in
            (*base..=spec.last_offset(*base)).zip(&records).collect::<Vec<_>>().into_iter().rev()
        {
            sent.push(Sent { offset, key: record.key, is_tombstone: record.value.is_none(), fate });
        }
    }
    sent.reverse();
    sent
}

fn producers_and_markers(ledger: &Ledger, found: &Found) -> Result<(), Violation> {
    for producer in ledger.producers.values() {
        if let Some(newest) = producer.newest().filter(|newest| !found.batches.contains(&newest.base)) {
            let detail = format!("{} at offset {}", newest.spec, newest.base);
            return Err(Violation::new("a producer's last batch is gone", detail));
        }
        // Whether a record of the transaction that is open at this place is there.
        let mut shows = false;
        for stored in &producer.stored {
            if !stored.spec.is_marker() {
                let mut offsets = stored.base..=stored.spec.last_offset(stored.base);
                shows |= stored.spec.kind == Kind::Transactional
                    && offsets.any(|offset| found.records.contains(&offset));
                continue;
            }
            if shows && !found.batches.contains(&stored.base) {
                let detail = format!("{} at offset {}", stored.spec, stored.base);
                return Err(Violation::new("a marker went before what it decides", detail));
            }
            shows = false;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 3;

    /// Batches of one record each by one producer, and what each has as its key.
    fn ledger(count: i32) -> (Ledger, Vec<u8>) {
        let mut ledger = Ledger::new(SEED, []);
        let mut keys = Vec::new();
        for first in 0..count {
            let spec = Spec { producer: 1, first, count: 1, ..Spec::default() };
            keys.extend(content::records(&spec, SEED).iter().map(|record| record.key));
            ledger.store(ledger.end, spec);
        }
        (ledger, keys)
    }

    fn without(ledger: &Ledger, gone: &[i64], batches_too: bool) -> Found {
        let all = || ledger.log.iter().map(|stored| stored.base);
        let kept = |base: &i64| !gone.contains(base);
        Found {
            records: all().filter(kept).collect(),
            batches: all().filter(|base| !batches_too || kept(base)).collect(),
        }
    }

    #[test]
    fn the_older_record_of_a_key_may_be_gone_and_the_newest_may_not() {
        let (ledger, keys) = ledger(200);
        let twice = (0..199).find(|at| keys[at + 1..].contains(&keys[*at])).unwrap();
        let older = i64::try_from(twice).unwrap();
        assert!(excuse(&ledger, SEED, &without(&ledger, &[older], true), 200).is_ok());
        let beyond = excuse(&ledger, SEED, &without(&ledger, &[older], false), older);
        assert_eq!(beyond.unwrap_err().what, "compaction took what it must keep");
        let last = i64::try_from(keys.iter().rposition(|key| *key == keys[twice]).unwrap()).unwrap();
        let newest = excuse(&ledger, SEED, &without(&ledger, &[last], false), 200);
        let is_tombstone =
            content::records(&ledger.log[usize::try_from(last).unwrap()].spec, SEED)[0].value.is_none();
        assert!(is_tombstone || newest.is_err());
    }

    #[test]
    fn the_last_batch_of_a_producer_stays_and_nothing_goes_where_no_compaction_was() {
        let (ledger, _) = ledger(50);
        let mut found = without(&ledger, &[], false);
        found.batches.remove(&49);
        assert_eq!(excuse(&ledger, SEED, &found, 50).unwrap_err().what, "a producer's last batch is gone");
        found.batches.remove(&3);
        assert_eq!(excuse(&ledger, SEED, &found, 0).unwrap_err().what, "a batch of a partition is missing");
    }
}
