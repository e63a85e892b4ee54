//! What is checked after every open, before anything new is appended.
//!
//! Invariant: the log is read and compared before it is asked anything, because what it must answer follows from what is
//! in it.

use std::collections::VecDeque;

use anyhow::Result;
use bytes::Bytes;
use oncelog::{Error, Log, LogConfig};

use super::cycle::Cycle;
use super::ledger::Stored;
use super::probes::{self, Asking};
use super::protocol::{Command, Ends, Event};
use super::report::Violation;
use super::settle::{identify, settle};

/// How many offsets are fetched after an open.
const FETCHES: usize = 10;

impl Cycle<'_> {
    /// Reads what the log holds and settles all that was sent before.
    pub(super) fn dump(&mut self, full: bool) -> Result<bool> {
        let from = if full { self.test.ledger.start } else { self.test.ledger.end };
        self.process.send(&Command::Dump { from });
        let mut batches = Vec::new();
        let ends = loop {
            match self.until(|event| matches!(event, Event::Batch(_) | Event::DumpEnd(_)))? {
                Some(Event::Batch(bytes)) => batches.push(bytes),
                Some(Event::DumpEnd(ends)) => break ends,
                _ => return Ok(false),
            }
        };
        self.test.tally.batches_compared += batches.len() as u64;
        let violations = self.resolve_upkeep(ends);
        self.violated(violations);
        let mut batches = VecDeque::from(batches);
        if full {
            let violations = self.compare_known(&mut batches);
            self.violated(violations);
        }
        let loss = std::mem::take(&mut self.test.loss);
        match settle(&mut self.test.ledger, batches.make_contiguous(), loss) {
            Ok(settled) => {
                self.test.tally.unanswered_found += settled.found_unanswered;
                self.test.tally.buffered_lost += settled.lost_buffered;
            }
            Err(violations) => self.violated(violations),
        }
        self.test.transcript.note("dumped and settled");
        let violations = self.compare_ends(ends);
        self.violated(violations);
        Ok(self.test.tally.violations == 0)
    }

    /// Takes the batches that were there before off a full dump.
    fn compare_known(&self, batches: &mut VecDeque<Bytes>) -> Option<Violation> {
        for known in &self.test.ledger.log {
            let Some(bytes) = batches.pop_front() else {
                let detail = format!("{} at offset {}", known.spec, known.base);
                return Some(Violation::new("a batch that was read before is missing", detail));
            };
            match identify(&bytes, self.test.seed) {
                Ok((header, spec)) if spec == known.spec && header.base_offset.0 == known.base => {}
                Ok((header, spec)) => {
                    let detail = format!(
                        "{spec} is at offset {}; {} was read there before",
                        header.base_offset, known.spec
                    );
                    return Some(Violation::new("another batch is where one was read before", detail));
                }
                Err(violation) => return Some(violation),
            }
        }
        None
    }

    fn compare_ends(&self, ends: Ends) -> Option<Violation> {
        let ledger = &self.test.ledger;
        let expected = Ends { start: ledger.start, end: ledger.end, high_watermark: ledger.end };
        (ends != expected && self.test.tally.violations == 0).then(|| {
            let detail = format!("{ends:?}; by the batches there it is {expected:?}");
            Violation::new("the log's ends are not where its batches are", detail)
        })
    }

    /// Fetches at some offsets, so that the indexes are asked.
    pub(super) fn fetch(&mut self) -> Result<bool> {
        let test = &mut *self.test;
        let wanted: Vec<Stored> = test.random.choose_multiple(test.ledger.log.iter().copied(), FETCHES);
        let mut offsets = Vec::new();
        for stored in &wanted {
            let first = stored.base.max(test.ledger.start);
            offsets.push(test.random.i64(first..=stored.spec.last_offset(stored.base)));
        }
        self.process.send(&Command::Fetch(offsets));
        let mut found = Vec::new();
        loop {
            match self.until(|event| matches!(event, Event::Batch(_) | Event::Fetched))? {
                Some(Event::Batch(bytes)) => found.push(bytes),
                Some(_) => break,
                None => return Ok(false),
            }
        }
        self.test.tally.fetches += wanted.len() as u64;
        for (place, stored) in wanted.iter().enumerate() {
            match found.get(place).map(|bytes| identify(bytes, self.test.seed)) {
                Some(Ok((header, spec))) if spec == stored.spec && header.base_offset.0 == stored.base => {}
                other => {
                    let detail = format!("{} is at offset {}; found: {other:?}", stored.spec, stored.base);
                    self.violated([Violation::new("a fetch shows another batch", detail)]);
                }
            }
        }
        Ok(self.test.tally.violations == 0)
    }

    /// Now and then, a second process (this one) tries to open the log: it must be refused.
    pub(super) fn open_a_second_time(&mut self) {
        if self.test.random.u8(..20) > 0 || self.kill_at.is_some() {
            return;
        }
        self.test.tally.second_openers += 1;
        match Log::open(&self.test.dir, LogConfig::default()) {
            Err(Error::Locked { .. }) => {}
            Err(error) => {
                self.violated([Violation::new(
                    "a second opener was not told of the lock",
                    error.to_string(),
                )]);
            }
            Ok(_) => self.violated([Violation::new("the log could be opened twice", "by another process")]),
        }
    }

    /// Asks about everything that the log must remember.
    pub(super) fn ask(&mut self) -> Result<bool> {
        let asking = Asking { lenient: self.session.lenient, durable_percent: self.session.durable_percent };
        let test = &mut *self.test;
        let probes = probes::ask(&mut test.ledger, &test.active, &mut test.random, asking);
        self.process.send(&Command::Probe(probes));
        let done = self.until(|event| matches!(event, Event::ProbesDone))?;
        Ok(done.is_some() && self.test.tally.violations == 0)
    }
}
