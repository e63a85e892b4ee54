//! Transactions from the parent's side: which are open, where the last stable offset is, what a reader of committed
//! records sees.
//!
//! Invariant: all of it follows from the batches and markers that a dump showed, never from what the engine remembers.

use std::collections::HashMap;

use anyhow::Result;

use super::batch::Kind;
use super::cycle::Cycle;
use super::ledger::Ledger;
use super::protocol::{Command, Decided, Event};
use super::report::Violation;

/// One of so many questions is about the whole log.
const WHOLE_EVERY: u8 = 2;
/// Else it begins among so many of the last batches.
const LAST_BATCHES: usize = 400;

/// So many of the oldest transactions are gone on with in every session.
const OLDEST: usize = 8;

/// Whether all batches of this producer are in transactions.
pub(super) fn has_transactions(producer: i64) -> bool {
    producer % 3 == 1
}

/// Those whose transactions have been open for the longest time.
pub(super) fn oldest_open(ledger: &Ledger) -> Vec<i64> {
    expected(ledger).open.iter().take(OLDEST).map(|(id, _, _)| *id).collect()
}

/// What the log must say.
pub(super) fn expected(ledger: &Ledger) -> Decided {
    let of = |(id, producer): (&i64, &super::ledger::Producer)| {
        Some((*id, producer.log_epoch()?, producer.open_txn()?))
    };
    let mut open: Vec<_> = ledger.producers.iter().filter_map(of).collect();
    open.sort_by_key(|(_, _, first)| *first);
    // What a transaction that began below the log start holds back begins at the log start.
    let first_unstable = open.first().map(|(_, _, first)| (*first).max(ledger.start));
    Decided { open, last_stable: first_unstable.unwrap_or(ledger.end), first_unstable }
}

/// The ranges of offsets from `from` on, both ends inclusive, that a reader of committed records sees.
pub(super) fn visible(ledger: &Ledger, from: i64) -> Vec<(i64, i64)> {
    let stable = expected(ledger).last_stable;
    let mut committed: HashMap<i64, bool> = HashMap::new();
    let mut shown = Vec::new();
    for stored in ledger.log.iter().rev() {
        let spec = &stored.spec;
        let is_shown = match spec.kind {
            Kind::Commit | Kind::Abort => {
                committed.insert(spec.producer, spec.kind == Kind::Commit);
                false
            }
            Kind::Plain => true,
            Kind::Transactional => committed.get(&spec.producer) == Some(&true),
        };
        let last = spec.last_offset(stored.base);
        // A log that starts inside of a batch may have its last stable offset there.
        if is_shown && stored.base.max(ledger.start) < stable && last >= from {
            shown.push((stored.base.max(from), last));
        }
    }
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for (first, last) in shown.into_iter().rev() {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

impl Cycle<'_> {
    /// Asks about transactions, in a session that has them.
    pub(super) fn decide(&mut self) -> Result<bool> {
        if self.session.full.is_none() {
            return Ok(true);
        }
        let from = self.first_committed();
        self.process.send(&Command::Decide { from });
        let expected = expected(&self.test.ledger);
        match self.until(|event| matches!(event, Event::Decided(_)))? {
            Some(Event::Decided(found)) => {
                let violations = compare(&expected, &found);
                self.violated(violations);
            }
            _ => return Ok(false),
        }
        let Some(Event::Committed(found)) = self.until(|event| matches!(event, Event::Committed(_)))? else {
            return Ok(false);
        };
        let visible = visible(&self.test.ledger, from);
        self.test.tally.transactions.open_compared += expected.open.len() as u64;
        self.test.tally.transactions.committed_reads += 1;
        if visible != found {
            let differs = visible.iter().zip(&found).position(|(a, b)| a != b);
            let at = differs.unwrap_or(visible.len().min(found.len()));
            let detail = format!(
                "from offset {from} on, range {at}: {:?} are committed, shown are {:?}; last stable offset {}",
                visible.get(at),
                found.get(at),
                expected.last_stable
            );
            self.violated([Violation::new("a reader of committed records sees others", detail)]);
        }
        Ok(self.test.tally.violations == 0)
    }

    fn first_committed(&mut self) -> i64 {
        let test = &mut *self.test;
        let stable = expected(&test.ledger).last_stable;
        let whole = test.random.u8(..WHOLE_EVERY) == 0;
        let near = test.ledger.log.len().saturating_sub(LAST_BATCHES);
        let first = test.ledger.log.get(near).map_or(test.ledger.start, |stored| stored.base);
        let first = if whole { test.ledger.start } else { first.max(test.ledger.start) };
        if whole || first >= stable { first.min(stable) } else { test.random.i64(first..=stable) }
    }
}

fn compare(expected: &Decided, found: &Decided) -> Option<Violation> {
    let (what, detail) = if expected.open != found.open {
        let detail = format!("by the log {:?}; it says {:?}", expected.open, found.open);
        ("open transactions are not those of the log", detail)
    } else if (expected.last_stable, expected.first_unstable) != (found.last_stable, found.first_unstable) {
        ("the last stable offset is wrong", format!("by the log {expected:?}; it says {found:?}"))
    } else {
        return None;
    };
    Some(Violation::new(what, detail))
}

#[cfg(test)]
mod tests {
    use super::super::batch::Spec;
    use super::*;

    /// Batches of two records and markers of one, in this order.
    fn ledger(log: &[(i64, Kind)]) -> Ledger {
        let mut ledger = Ledger::new(1, []);
        for (first, (producer, kind)) in (0..).zip(log) {
            let count = if matches!(kind, Kind::Commit | Kind::Abort) { 1 } else { 2 };
            let base = ledger.end;
            ledger.store(base, Spec { producer: *producer, epoch: 0, first, count, kind: *kind });
        }
        ledger
    }

    #[test]
    fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
        use Kind::{Abort, Commit, Plain, Transactional};
        let open = ledger(&[(2, Plain), (1, Transactional), (4, Transactional), (1, Transactional)]);
        let decided = expected(&open);
        assert_eq!(decided.open, [(1, 0, 2), (4, 0, 4)]);
        assert_eq!((decided.last_stable, decided.first_unstable), (2, Some(2)));
        let ended =
            ledger(&[(1, Transactional), (4, Transactional), (1, Commit), (4, Abort), (4, Transactional)]);
        assert_eq!(expected(&ended).open, [(4, 0, 6)]);
        assert_eq!(expected(&ledger(&[(2, Plain)])).last_stable, 2);
    }

    #[test]
    fn only_plain_and_committed_batches_below_the_last_stable_offset_are_seen() {
        use Kind::{Abort, Commit, Plain, Transactional};
        let log = ledger(&[
            (1, Transactional),
            (4, Transactional),
            (2, Plain),
            (4, Abort),
            (1, Commit),
            (7, Transactional),
            (2, Plain),
        ]);
        assert_eq!(visible(&log, 0), [(0, 1), (4, 5)]);
        assert_eq!(visible(&log, 1), [(1, 1), (4, 5)]);
        assert_eq!(visible(&log, 6), []);
    }

    #[test]
    fn what_differs_has_a_name() {
        let right = Decided { open: vec![(1, 0, 2)], last_stable: 2, first_unstable: Some(2) };
        assert_eq!(compare(&right, &right), None);
        let what = |found: &Decided| compare(&right, found).map(|violation| violation.what);
        let forgotten = Decided { open: Vec::new(), ..right.clone() };
        assert_eq!(what(&forgotten), Some("open transactions are not those of the log"));
        let beyond = Decided { last_stable: 9, ..right.clone() };
        assert_eq!(what(&beyond), Some("the last stable offset is wrong"));
    }
}
