//! What is asked about the other partitions after every open of their root.
//!
//! Invariant: they are read and compared before they are asked anything, as the log is.

use anyhow::Result;
use oncelog::types::Durability;

use super::super::batch::{Kind, Spec};
use super::super::cycle::Cycle;
use super::super::judge::{Circumstances, judge};
use super::super::ledger::{Attempt, CHECK_LANE, Expected};
use super::super::probes::about_stored;
use super::super::protocol::{Command, Event};
use super::super::report::Violation;
use super::deed::Asked;

/// A producer that nobody knows.
const STRANGER: i64 = 4_000_000_000;

impl Cycle<'_> {
    /// Compares all of them with the book and asks what they must remember, in a session that has them.
    pub(in super::super) fn look_around(&mut self) -> Result<bool> {
        if self.root().is_none() {
            return Ok(true);
        }
        self.process.send(&Command::Survey);
        let (mut seen, mut batches) = (Vec::new(), Vec::new());
        loop {
            let wanted = |event: &Event| matches!(event, Event::Batch(_) | Event::Seen(_) | Event::Surveyed);
            match self.until(wanted)? {
                Some(Event::Batch(bytes)) => batches.push(bytes),
                Some(Event::Seen(one)) => seen.push((*one, std::mem::take(&mut batches))),
                Some(_) => break,
                None => return Ok(false),
            }
        }
        let tally = &mut self.test.tally.partitions;
        tally.surveyed += seen.len() as u64;
        tally.batches_compared += seen.iter().map(|(_, batches)| batches.len() as u64).sum::<u64>();
        let violations = self.test.books.settle(&seen);
        self.test.tally.partitions.records_compacted = self.test.books.records_compacted;
        self.violated(violations);
        Ok(self.test.tally.violations == 0 && self.ask_around()?)
    }

    fn ask_around(&mut self) -> Result<bool> {
        let test = &mut *self.test;
        let random = &mut test.random;
        let mut questions = Vec::new();
        for (partition, book) in test.books.partitions.iter().filter(|(_, book)| book.exists) {
            let mut of_it = Vec::new();
            for (id, producer) in &book.ledger.producers {
                about_stored(&book.ledger, *id, random, &mut of_it);
                if let Some(epoch) = producer.log_epoch().filter(|epoch| *epoch > 0) {
                    let old = Spec { producer: *id, epoch: epoch - 1, first: 0, count: 1, kind: Kind::Plain };
                    of_it.push((old, Expected::Fenced(epoch)));
                }
            }
            let stranger = Spec { producer: STRANGER, first: 7, count: 1, ..Spec::default() };
            of_it.push((stranger, Expected::UnknownProducer));
            questions.extend(of_it.into_iter().map(|(spec, expected)| (partition.clone(), spec, expected)));
        }
        let asked = questions.iter().map(|(partition, spec, _)| {
            let durable = random.u8(..100) < self.session.durable_percent;
            Asked { partition: partition.clone(), spec: *spec, durable }
        });
        let asked = asked.collect();
        self.process.send(&Command::Ask(asked));
        let Some(Event::Replies(replies)) = self.until(|event| matches!(event, Event::Replies(_)))? else {
            return Ok(false);
        };
        let circumstances = Circumstances { seed: self.test.seed, failures: false, stumbled: false };
        for ((partition, spec, expected), answer) in questions.into_iter().zip(replies) {
            let durability = Durability::Buffered;
            let attempt = Attempt { spec, lane: CHECK_LANE, durability, expected, answer: None };
            let tally = &mut self.test.tally.partitions;
            tally.retries += u64::from(matches!(expected, Expected::Duplicate(_)));
            tally.fenced += u64::from(matches!(expected, Expected::Fenced(_)));
            if let Err(violation) = judge(&attempt, &answer, circumstances) {
                let detail = format!("{partition}: {}", violation.detail);
                self.violated([Violation::new(violation.what, detail)]);
            }
        }
        Ok(self.test.tally.violations == 0)
    }
}
