//! One child's life, from the parent's side: open, dump, questions, work, death.
//!
//! Invariant: everything that a child says comes by [`Cycle::hear`], in the order in which it was said, and is in the book
//! before the next word is looked at. A child that dies is looked at only after all that it said was heard.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use oncelog::testing::Point;

use super::batch::Spec;
use super::decided::{has_transactions, oldest_open};
use super::inspect::Inspected;
use super::judge::{Circumstances, Judged, judge};
use super::ledger::{Attempt, Expected, Producer};
use super::opening::{self, Since};
use super::partitions::{Mark, RootSettings};
use super::protocol::{self, Answer, Armed, Command, Disk, Event, Intent, Purpose, Start, Work};
use super::report::Violation;
use super::run::Test;
use super::schedule::{Ending, Session};
use super::session::{End, Next, Process};

/// A child that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a child may take to come to its point; then it is killed from outside.
const TO_THE_POINT: Duration = Duration::from_secs(1);

/// A session in progress.
pub(super) struct Cycle<'a> {
    pub(super) test: &'a mut Test,
    pub(super) session: &'a Session,
    before: Inspected,
    pub(super) process: Process,
    /// When and as what to kill the child.
    pub(super) kill_at: Option<(Instant, &'static str)>,
    pub(super) killed_as: Option<&'static str>,
    /// Whether writes are made to fail by now.
    pub(super) failing: bool,
    opened: bool,
    said_closed: bool,
    /// It was told to close the log.
    closing: bool,
    faults: Vec<String>,
}

impl<'a> Cycle<'a> {
    /// Starts a child and tells it to open the log.
    pub(super) fn start(test: &'a mut Test, session: &'a Session, before: Inspected) -> Result<Self> {
        let mut process = Process::start(&test.program)?;
        if let Some(settings) = session.full.and_then(|full| full.root) {
            test.books.open(settings);
        }
        let opening = match session.ending {
            Ending::OpeningPoint(point, crossing) => Some(Armed::at(point, crossing)),
            _ => None,
        };
        process.send(&Command::Start(Box::new(Start {
            dir: test.dir.clone(),
            seed: test.seed,
            segment_bytes: session.segment_bytes,
            checkpoint_bytes: session.checkpoint_bytes,
            checkpoint_producers: session.checkpoint_producers,
            whole_base_producers: session.whole_base_producers,
            accept_unknown: session.lenient,
            deletions: session.full.as_ref().map(|full| full.deletions),
            root: session.full.and_then(|full| full.root),
            broken: test.broken.map(|rule| rule.name().to_owned()),
            armed: opening,
        })));
        Ok(Self {
            test,
            session,
            before,
            process,
            kill_at: None,
            killed_as: None,
            failing: false,
            opened: false,
            said_closed: false,
            closing: false,
            faults: Vec::new(),
        })
    }

    /// Leads the child through its life. Returns the armed point it died at, if it did.
    pub(super) fn run(mut self, full_dump: bool) -> Result<Option<Point>> {
        if self.open()? && self.check(full_dump)? && self.look_around()? && self.look_after()? {
            self.open_a_second_time();
            self.test.transcript.note("all questions answered");
            self.work()?;
        }
        self.bury()
    }

    /// Compares everything that can be asked of a log to which nobody appends.
    pub(super) fn check(&mut self, full_dump: bool) -> Result<bool> {
        Ok(self.dump(full_dump)? && self.decide()? && self.fetch()? && self.ask()?)
    }

    /// `false`, as of the steps that follow: the child is dead or no longer worth asking.
    fn open(&mut self) -> Result<bool> {
        let Some(event) = self.until(|event| matches!(event, Event::Opened(_) | Event::OpenFailed(_)))?
        else {
            return Ok(false);
        };
        match event {
            Event::Opened(opened) => {
                self.opened = true;
                self.test.transcript.note("opened");
                let since = std::mem::take(&mut self.test.since);
                let violations = opening::check(&opened, &self.before, &since, &self.test.lost_runs);
                opening::count(&mut self.test.tally, &opened, &since);
                // Where descriptors are few, a log is put to rest, closed in order, as soon as it was recovered.
                let rested = self.root().is_some_and(RootSettings::is_tight);
                let perhaps_closed = since.closed || since.perhaps_closed || rested;
                self.test.since = Since { perhaps_closed, ..Since::default() };
                // A child that died behind it may have made a run of what it took from the snapshot.
                let perhaps = since.died_opening && since.another_program();
                if (opened.snapshot.is_some() && opened.runs.is_empty()) || perhaps {
                    self.test.ledger.blur();
                }
                self.violated(violations);
                if let Ending::Early(after) = self.session.ending {
                    self.kill_at = Some((Instant::now() + after, "verification"));
                }
            }
            Event::OpenFailed(text) => self.violated([Violation::new("the log could not be opened", text)]),
            _ => {}
        }
        Ok(self.test.tally.violations == 0)
    }

    /// Lets the child append until it is killed, kills itself, or has closed the log.
    fn work(&mut self) -> Result<()> {
        let (armed, kill_after) = match self.session.ending {
            Ending::WorkingPoint(point, crossing) => (Some(Armed::at(point, crossing)), TO_THE_POINT),
            Ending::UpkeepPoint(_) => (None, Duration::from_millis(5)),
            Ending::Timer(after) | Ending::Close(after) | Ending::Early(after) => (None, after),
            Ending::OpeningPoint(..) => (None, Duration::from_millis(5)),
            // It is come by when the child closes the root.
            Ending::ClosingPoint(point, after) => (Some(Armed::at(point, 1)), after),
        };
        let crew = self.root().filter(|_| self.session.failures.is_none()).map(|_| {
            let favour = self.session.full.and_then(|full| full.favour);
            self.test.books.crew(self.session.durable_percent, favour)
        });
        let producers = self.workers();
        self.process.send(&Command::Work(Box::new(Work {
            seed: self.session.seed,
            first_id: self.test.ledger.next_id(),
            lanes: self.session.lanes.clone(),
            producers,
            durable_percent: self.session.durable_percent,
            odd_percent: self.session.odd_percent,
            repeat_percent: self.session.repeat_percent,
            failures: self.session.failures,
            armed,
            delete_below: self.delete_below(),
            crew,
        })));
        self.failing = self.session.failures.is_some();
        if self.until(|event| matches!(event, Event::Working))?.is_none() {
            return Ok(());
        }
        self.test.loss.failures |= self.failing;
        if matches!(self.session.ending, Ending::Close(_) | Ending::ClosingPoint(..)) {
            let close_at = Instant::now() + kill_after;
            while self.test.tally.violations == 0 {
                match self.process.next(close_at) {
                    Next::Event(event) => drop(self.hear(event)?),
                    Next::Deadline => break,
                    Next::Gone => return Ok(()),
                }
            }
            self.process.send(&Command::Close);
            self.closing = true;
        } else {
            let at = Instant::now() + kill_after;
            let earlier = self.kill_at.filter(|(planned, _)| *planned < at);
            self.kill_at = earlier.or(Some((at, "timer")));
        }
        self.until(|_| false).map(drop)
    }

    /// The producers of this session, as the child has to know them. Some are replaced by new ones.
    fn workers(&mut self) -> Vec<protocol::Producer> {
        let test = &mut *self.test;
        for place in 0..test.active.len() {
            let Some(id) = test.active.get_mut(place) else { break };
            let stuck =
                test.ledger.producers.get(id).is_none_or(Producer::needs_leniency) && !self.session.lenient;
            let near_the_wrap = self.session.lenient && test.random.u8(..100) < 3;
            // Its transaction would stay open for ever, and nothing behind it be decided.
            let near_the_wrap = near_the_wrap && test.ledger.open_txn(*id).is_none();
            if stuck || near_the_wrap {
                let first = if near_the_wrap { i32::MAX - test.random.i32(0..60) } else { 0 };
                *id = test.next_producer;
                test.next_producer += 1;
                test.ledger.producers.insert(*id, Producer::beginning_at(first));
            }
        }
        let oldest = if self.session.full.is_some() { oldest_open(&test.ledger) } else { Vec::new() };
        let mut workers = Vec::new();
        for id in &test.active {
            // Else nothing would ever be decided behind the oldest transactions.
            let held_up = oldest.contains(id);
            if (test.random.u8(..100) < self.session.active_percent || held_up)
                && let Some(producer) = test.ledger.producers.get(id)
            {
                let (epoch, next, recent) = (producer.epoch, producer.next, producer.recent());
                let of_transactions = self.session.full.is_some() && has_transactions(*id);
                let coordinator = producer.coordinator().map_or(0, |present| present.saturating_add(1));
                let txn = of_transactions.then(|| (producer.undecided(), coordinator));
                workers.push(protocol::Producer { id: *id, epoch, next, recent, txn });
            }
        }
        workers
    }

    /// Hears everything up to the first event of this kind; `None` if the child is gone. Kills it when its time has come.
    pub(super) fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Option<Event>> {
        loop {
            let silence = Instant::now() + SILENCE;
            let deadline = self.kill_at.map_or(silence, |(at, _)| at.min(silence));
            match self.process.next(deadline) {
                Next::Gone => return Ok(None),
                Next::Event(event) => {
                    let is_wanted = wanted(&event);
                    let event = self.hear(event)?;
                    if is_wanted {
                        return Ok(Some(event));
                    }
                    if self.test.tally.violations > 0 {
                        return Ok(None);
                    }
                }
                Next::Deadline => {
                    let as_what = match self.kill_at.take() {
                        Some((_, as_what)) => as_what,
                        None => {
                            let detail = format!("nothing for {} s", SILENCE.as_secs());
                            self.violated([Violation::new("the log does not answer", detail)]);
                            "timer"
                        }
                    };
                    self.killed_as = Some(as_what);
                    self.process.kill()?;
                }
            }
        }
    }

    /// Takes what the child says into the book and judges it.
    fn hear(&mut self, event: Event) -> Result<Event> {
        self.test.transcript.event(&event)?;
        match &event {
            Event::Intent(intent) => self.hear_intent(intent)?,
            Event::Answer { id, answer } => self.hear_answer(*id, answer)?,
            Event::Disk(disk) => {
                self.test.medium.hear(disk);
                if let Disk::Failed { .. } = disk
                    && !self.failing
                {
                    bail!("a write was made to fail in a session without failures");
                }
            }
            Event::Deleting { to } => self.hear_deleting(*to),
            Event::Deleted(outcome) => self.hear_deleted(outcome),
            Event::Deed(deed) => self.test.books.begin(deed),
            Event::Outcome(outcome) => {
                self.test.tally.partitions.count(outcome);
                let violations = self.test.books.end(outcome);
                self.violated(violations);
            }
            Event::Closed => self.said_closed = true,
            Event::Fault(text) => self.faults.push(text.clone()),
            _ => {}
        }
        Ok(event)
    }

    fn hear_intent(&mut self, intent: &Intent) -> Result<()> {
        let Intent { id, lane, purpose, durability, spec } = *intent;
        self.test.since.closed = false;
        let ledger = &mut self.test.ledger;
        let Some(producer) = ledger.producers.get(&spec.producer) else {
            bail!("{spec}: nobody knows this producer")
        };
        let expected = match purpose {
            Purpose::Fresh => {
                let begins = Spec { epoch: producer.epoch.saturating_add(1), first: 0, ..spec };
                let follows = Spec { epoch: producer.epoch, first: producer.next, ..spec };
                if spec != begins && spec != follows {
                    bail!(
                        "{spec} was sent as new; epoch {} sequence {} is next",
                        producer.epoch,
                        producer.next
                    );
                }
                Expected::Appended
            }
            Purpose::Again | Purpose::End => Expected::Appended,
            Purpose::Aborted => Expected::AbortedRetry,
            Purpose::Repeat => Expected::Duplicate(
                producer.stored.iter().rev().find(|stored| stored.spec == spec).map(|stored| stored.base),
            ),
            Purpose::Gap => Expected::OutOfOrder((!self.failing).then_some(producer.next)),
            Purpose::OldEpoch => Expected::Fenced(producer.epoch),
        };
        ledger.announce_as(id, Attempt { spec, lane, durability, expected, answer: None });
        Ok(())
    }

    fn hear_answer(&mut self, id: u32, answer: &Answer) -> Result<()> {
        let ledger = &mut self.test.ledger;
        let seed = ledger.seed;
        let Some(attempt) = ledger.attempt_mut(id) else { bail!("an answer to {id}, which nobody asked") };
        attempt.answer = Some(answer.clone());
        let attempt = attempt.clone();
        let producer = attempt.spec.producer;
        let mut stumbled = ledger.producers.get(&producer).is_some_and(|producer| producer.stumbled);
        // The answer to the one before it may come later than this: no order of completions is promised.
        stumbled |= match answer {
            Answer::OutOfOrder { expected } => self.failing && ledger.is_missing(producer, *expected),
            Answer::UnknownProducer => {
                let first = ledger.producers.get(&producer).map_or(0, |producer| producer.began_at);
                self.failing && ledger.is_missing(producer, first)
            }
            _ => false,
        };
        match judge(&attempt, answer, Circumstances { seed, failures: self.failing, stumbled }) {
            Ok(judged) => {
                self.test.tally.judged(&attempt, answer, judged);
                if judged == Judged::Stumbled
                    && let Some(producer) = self.test.ledger.producers.get_mut(&attempt.spec.producer)
                {
                    producer.stumbled = true;
                }
                if let Answer::Appended(_) = answer {
                    self.test.books.mark = Mark::Gone;
                    self.test.since.perhaps_closed = false;
                }
            }
            Err(violation) => self.violated([violation]),
        }
        Ok(())
    }

    /// How the root is opened, if it is.
    pub(super) fn root(&self) -> Option<RootSettings> {
        self.session.full.and_then(|full| full.root)
    }

    pub(super) fn violated(&mut self, violations: impl IntoIterator<Item = Violation>) {
        for violation in violations {
            self.test.transcript.note(format_args!("VIOLATION {}: {}", violation.what, violation.detail));
            self.test.tally.violated([violation]);
        }
    }

    /// Finds out how the child ended.
    fn bury(mut self) -> Result<Option<Point>> {
        if self.test.tally.violations > 0 && self.killed_as.is_none() {
            self.process.kill()?;
        }
        self.test.transcript.note("dead or dying");
        // What it said on the way.
        while let Next::Event(event) = self.process.next(Instant::now() + SILENCE) {
            self.hear(event)?;
        }
        let (together, rests) = (self.root().is_some(), self.root().is_some_and(RootSettings::is_tight));
        let end = self.process.wait()?;
        self.test.transcript.note(format_args!("end: {end:?}, killed as {:?}", self.killed_as));
        let armed = match self.session.ending {
            Ending::OpeningPoint(point, _)
            | Ending::WorkingPoint(point, _)
            | Ending::ClosingPoint(point, _)
            | Ending::UpkeepPoint(point) => Some(point),
            _ => None,
        };
        if !self.opened {
            self.test.since.died_opening = true;
            self.test.since.perhaps_closed |= rests;
        }
        if self.closing {
            // The log may have been closed in order before the rest was.
            self.test.since.perhaps_closed = true;
            self.test.books.perhaps_close();
        }
        let mut died_at = None;
        match (end, self.killed_as, armed) {
            _ if self.test.tally.violations > 0 => {}
            (End::Panicked(text), ..) => {
                self.test.tally.violated([Violation::new("a thread of the log panicked", text)]);
            }
            (End::Killed, Some(as_what), _) => self.test.tally.killed(as_what),
            (End::Killed, None, Some(point)) => {
                self.test.tally.killed(point.name());
                died_at = Some(point);
            }
            (End::Killed, None, None) => bail!("the child was killed by somebody else"),
            (End::Success, _, _) if self.said_closed => {
                self.test.tally.clean_closes += 1;
                self.test.since = Since { closed: true, ..Since::default() };
                if together {
                    self.test.books.mark = Mark::Stands;
                    self.test.books.close();
                }
            }
            (end, ..) => {
                let detail = format!("{end:?}; it said {:?}", self.faults);
                self.test.tally.violated([Violation::new("the process ended by itself", detail)]);
            }
        }
        Ok(died_at)
    }
}
