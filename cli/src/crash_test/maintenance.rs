//! Truncation and deletion from the parent's side: what is asked for, and what may have come of it.
//!
//! Invariant: the book has what is asked for before the child does, and the outcome as soon as it is said. What a kill
//! interrupted is done or not done, and the next dump says which: never half.

use std::collections::BTreeSet;

use anyhow::Result;
use oncelog::testing::Point;
use oncelog::types::Durability;

use super::batch::Spec;
use super::cycle::Cycle;
use super::inspect::Inspected;
use super::ledger::{Attempt, Cut, Expected, FOLLOW_LANE, Ledger};
use super::protocol::{Armed, Command, Ends, Event, Probe, Upkeep};
use super::report::Violation;
use super::schedule::{Care, Ending};

/// A truncation goes back by so many batches at most, unless it goes anywhere.
const SHALLOW: usize = 60;
/// Batches that are appended as a follower at once, at most.
const MOST_FOLLOWED: usize = 100;
/// A log that begins anew does so at most so far behind its end.
const LEAP: i64 = 1000;

impl Cycle<'_> {
    /// Truncates or deletes, if the session does, and checks everything again.
    pub(super) fn look_after(&mut self) -> Result<bool> {
        let Some(full) = self.session.full else { return Ok(true) };
        let Some(care) = full.care else { return Ok(true) };
        if !self.flush()? || !self.dump(false)? {
            return Ok(false);
        }
        let what = self.choose(care);
        self.test.transcript.note(format_args!("{what:?}"));
        let armed = match self.session.ending {
            Ending::UpkeepPoint(point) => Some(Armed::at(point, 1)),
            _ => None,
        };
        let done = match what {
            Upkeep::Truncate(offset) => {
                let cut = Cut::At(base_of(&self.test.ledger, offset));
                self.truncate(what, armed, cut)?
            }
            Upkeep::BeginAnew(start) => self.truncate(what, armed, Cut::Anew(start))?,
            Upkeep::Delete(_) => self.delete(what, armed, None)?,
            Upkeep::Retain => {
                let inspected = Inspected::read(&*self.test.storage, &self.test.dir)?;
                let start = start_after_retention(&inspected, full.deletions.keep_bytes);
                self.delete(what, armed, Some(start.max(self.test.ledger.start)))?
            }
        };
        if !done || !self.follow()? {
            return Ok(false);
        }
        let full_dump = self.test.random.u8(..8) == 0;
        self.check(full_dump)
    }

    /// After a truncation the leader has some of the producers' batches again, at other offsets.
    fn follow(&mut self) -> Result<bool> {
        let test = &mut *self.test;
        let cut: BTreeSet<i64> = test.ledger.cut_away.iter().map(|spec| spec.producer).collect();
        let again: BTreeSet<i64> = cut.into_iter().filter(|_| test.random.u8(..3) == 0).collect();
        let again = test.ledger.cut_away.iter().filter(|spec| again.contains(&spec.producer));
        let specs: Vec<Spec> = again.copied().take(MOST_FOLLOWED).collect();
        if specs.is_empty() {
            return Ok(true);
        }
        let durable = test.random.bool();
        let durability = if durable { Durability::Durable } else { Durability::Buffered };
        let mut announce = |spec: Spec| {
            let (expected, answer) = (Expected::Appended, None);
            let id = test.ledger.announce(Attempt { spec, lane: FOLLOW_LANE, durability, expected, answer });
            Probe { id, spec, durable }
        };
        let batches: Vec<Probe> = specs.into_iter().map(&mut announce).collect();
        test.tally.upkeep.followed += batches.len() as u64;
        self.process.send(&Command::Follow(batches));
        Ok(self.until(|event| matches!(event, Event::ProbesDone))?.is_some() && self.flush()?)
    }

    fn flush(&mut self) -> Result<bool> {
        self.process.send(&Command::Flush);
        Ok(self.until(|event| matches!(event, Event::Flushed))?.is_some())
    }

    fn choose(&mut self, care: Care) -> Upkeep {
        let to_the_point = matches!(self.session.ending, Ending::UpkeepPoint(_));
        let test = &mut *self.test;
        let (start, end) = (test.ledger.start, test.ledger.end);
        let random = &mut test.random;
        match care {
            Care::Truncate => {
                let deepest = if random.u8(..10) < 6 { SHALLOW } else { usize::MAX };
                let nth = test.ledger.log.len().saturating_sub(deepest);
                let first = test.ledger.log.get(nth).map_or(start, |stored| stored.base).max(start);
                Upkeep::Truncate(random.i64(first..=end))
            }
            Care::BeginAnew => Upkeep::BeginAnew(random.i64(start..=end.saturating_add(LEAP))),
            Care::Delete => {
                // Far, where files have to go.
                let least = if to_the_point { start + (end - start) / 2 } else { start };
                Upkeep::Delete(random.i64(least..=end))
            }
            Care::Retain => Upkeep::Retain,
        }
    }

    fn truncate(&mut self, what: Upkeep, armed: Option<Armed>, cut: Cut) -> Result<bool> {
        self.test.ledger.cut_begun = Some(cut);
        self.process.send(&Command::Upkeep(what, armed));
        let Some(Event::Cut(outcome)) = self.until(|event| matches!(event, Event::Cut(_)))? else {
            return Ok(false);
        };
        self.test.ledger.cut_begun = None;
        let tally = &mut self.test.tally.upkeep;
        let expected = match cut {
            Cut::At(at) | Cut::Anew(at) => at,
        };
        match (outcome, cut) {
            (Ok(end), _) if end != expected => {
                let detail = format!("{what:?} ended at offset {end}, not {expected}");
                self.violated([Violation::new("a truncation ended elsewhere", detail)]);
            }
            (Ok(_), _) => {
                tally.truncations += 1;
                carry_out(&mut self.test.ledger, cut);
            }
            // The log has lost its beginning, and no checkpoint is as old as the cut.
            (Err(why), Cut::At(_)) if why.starts_with("too low") && self.test.ledger.start > 0 => {
                tally.truncations_refused += 1;
            }
            (Err(why), _) => {
                self.violated([Violation::new("a truncation was refused", format!("{what:?}: {why}"))]);
            }
        }
        Ok(self.test.tally.violations == 0)
    }

    fn delete(&mut self, what: Upkeep, armed: Option<Armed>, expected: Option<i64>) -> Result<bool> {
        self.process.send(&Command::Upkeep(what, armed));
        if self.until(|event| matches!(event, Event::Deleted(_)))?.is_none() {
            return Ok(false);
        }
        let start = self.test.ledger.start;
        if let Some(expected) = expected.filter(|expected| *expected != start) {
            let detail = format!("the log starts at offset {start}; by the rule it is {expected}");
            self.violated([Violation::new("retention has kept others than its rule does", detail)]);
        }
        Ok(self.test.tally.violations == 0)
    }

    /// Below which offset the child may delete while it appends: what was not read back yet must stay.
    pub(super) fn delete_below(&self) -> Option<i64> {
        self.session.full.filter(|full| full.delete_meanwhile).map(|_| self.test.ledger.end)
    }

    pub(super) fn hear_deleting(&mut self, to: i64) {
        let ledger = &mut self.test.ledger;
        ledger.start_at_most = ledger.start_at_most.max(ledger.start).max(to);
    }

    pub(super) fn hear_deleted(&mut self, outcome: &Result<i64, String>) {
        let ledger = &mut self.test.ledger;
        match outcome {
            Ok(start) if (ledger.start..=ledger.start_at_most).contains(start) => {
                self.test.tally.upkeep.deletions += u64::from(*start > ledger.start);
                ledger.remove_prefix(*start);
                ledger.start_at_most = *start;
            }
            Ok(start) => {
                let detail = format!(
                    "it is at offset {start}; it was at {} and was to go to {} at most",
                    ledger.start, ledger.start_at_most
                );
                self.violated([Violation::new("the log start went elsewhere", detail)]);
            }
            // The manifest may have been written.
            Err(_) if self.failing => self.test.tally.upkeep.deletions_failed += 1,
            Err(why) => self.violated([Violation::new("records could not be deleted", why.as_str())]),
        }
    }

    /// Finds out what became of the truncation and of the deletion that a kill interrupted.
    pub(super) fn resolve_upkeep(&mut self, ends: Ends) -> Option<Violation> {
        self.session.full?;
        let ledger = &mut self.test.ledger;
        match ledger.cut_begun.take() {
            Some(Cut::At(at)) if ends.end == at => carry_out(ledger, Cut::At(at)),
            Some(Cut::Anew(at)) if (ends.start, ends.end) == (at, at) => carry_out(ledger, Cut::Anew(at)),
            Some(cut) if ends.end != ledger.end => {
                let detail =
                    format!("{cut:?} of a log that ended at {}; it ends at {}", ledger.end, ends.end);
                return Some(Violation::new("a truncation was done by half", detail));
            }
            _ => {}
        }
        let allowed = ledger.start..=ledger.start_at_most.max(ledger.start);
        if !allowed.contains(&ends.start) {
            let detail = format!("it is at offset {}; it may be at {allowed:?}", ends.start);
            return Some(Violation::new("the log start is not where it was put", detail));
        }
        ledger.remove_prefix(ends.start);
        ledger.start_at_most = ends.start;
        None
    }
}

fn carry_out(ledger: &mut Ledger, cut: Cut) {
    match cut {
        Cut::At(at) => ledger.cut(at),
        Cut::Anew(at) => ledger.begin_anew(at),
    }
}

/// First offset of the batch that holds this one; the offset itself behind the last.
fn base_of(ledger: &Ledger, offset: i64) -> i64 {
    let nth = ledger.log.partition_point(|stored| stored.base <= offset);
    let holds = |stored: &&super::ledger::Stored| stored.spec.last_offset(stored.base) >= offset;
    nth.checked_sub(1).and_then(|nth| ledger.log.get(nth)).filter(holds).map_or(offset, |stored| stored.base)
}

/// Where the log starts when the oldest segments go as long as the others have so many bytes.
fn start_after_retention(inspected: &Inspected, keep_bytes: u64) -> i64 {
    let first = inspected.first_offset();
    let mut left = inspected.segments.iter().filter(|(base, _)| *base >= first).peekable();
    let mut bytes: u64 = left.clone().map(|(_, len)| len).sum();
    let mut start = 0;
    while let Some((_, len)) = left.next() {
        let Some((next, _)) = left.peek() else { break };
        bytes -= len;
        let below_the_start = *next <= inspected.log_start;
        if bytes < keep_bytes && !below_the_start {
            break;
        }
        start = *next;
    }
    start
}

/// What a session must do to come by this point.
pub(super) fn care_of(point: Point) -> Option<Care> {
    match point.name().split_once('.') {
        Some(("truncate", _)) => Some(Care::Truncate),
        Some(("retain", _)) => Some(Care::Delete),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Spec;
    use super::*;

    #[test]
    fn a_cut_inside_of_a_batch_goes_before_it() {
        let mut ledger = Ledger::new(1, []);
        for first in [0, 3] {
            ledger.store(i64::from(first), Spec { producer: 1, first, count: 3, ..Spec::default() });
        }
        let bases: Vec<i64> = (0..=6).map(|offset| base_of(&ledger, offset)).collect();
        assert_eq!(bases, [0, 0, 0, 3, 3, 3, 6]);
    }

    #[test]
    fn the_oldest_segments_go_while_the_others_have_enough_bytes() {
        let segments = vec![(0, 100), (10, 100), (20, 100), (30, 5)];
        let inspected = Inspected {
            segments,
            chain: Vec::new(),
            previous: Vec::new(),
            watermark: None,
            log_start: 0,
            snapshots: Vec::new(),
        };
        let start = |keep| start_after_retention(&inspected, keep);
        assert_eq!((start(1000), start(206), start(205), start(105), start(5)), (0, 0, 10, 20, 30));
        assert_eq!(start(0), 30, "the last one stays");
    }

    #[test]
    fn truncation_and_deletion_have_points_of_their_own() {
        assert_eq!(care_of(Point::TruncateIntended), Some(Care::Truncate));
        assert_eq!(care_of(Point::RetainNamed), Some(Care::Delete));
        assert_eq!(care_of(Point::RollRenamed), None);
    }
}
