//! One child's life, from the parent's side: open, dump, questions, work, death.
//!
//! Invariant: everything that a child says comes by [`Cycle::hear`], in the order in which it was said, and is in the book
//! before the next word is looked at. A child that dies is looked at only after all that it said was heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use oncelog::testing::Point;

use super::batch::Spec;
use super::inspect::Inspected;
use super::judge::{Circumstances, Judged, judge};
use super::ledger::{Attempt, Expected, Producer};
use super::opening::{self, Since};
use super::probes::{self, Asking};
use super::protocol::{self, Answer, Armed, Command, Disk, Ends, Event, Intent, Purpose, Start, Work};
use super::report::Violation;
use super::run::Test;
use super::schedule::{Ending, Session};
use super::session::{End, Next, Process};
use super::settle::{identify, settle};

/// A child that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a child may take to come to its point; then it is killed from outside.
const TO_THE_POINT: Duration = Duration::from_secs(1);

/// A session in progress.
pub(super) struct Cycle<'a> {
    test: &'a mut Test,
    session: &'a Session,
    before: Inspected,
    process: Process,
    /// When and as what to kill the child.
    kill_at: Option<(Instant, &'static str)>,
    killed_as: Option<&'static str>,
    /// Whether writes are made to fail by now.
    failing: bool,
    opened: bool,
    said_closed: bool,
    faults: Vec<String>,
}

impl<'a> Cycle<'a> {
    /// Starts a child and tells it to open the log.
    pub(super) fn start(test: &'a mut Test, session: &'a Session, before: Inspected) -> Result<Self> {
        let mut process = Process::start(&test.program)?;
        let opening = match session.ending {
            Ending::OpeningPoint(point, crossing) => Some(Armed { point: point.name().to_owned(), crossing }),
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
            faults: Vec::new(),
        })
    }

    /// Leads the child through its life. Returns the armed point it died at, if it did.
    pub(super) fn run(mut self, full_dump: bool) -> Result<Option<Point>> {
        if self.open()? && self.dump(full_dump)? && self.ask()? {
            self.test.transcript.note("all questions answered");
            self.work()?;
        }
        self.bury()
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
                let violations = opening::check(&opened, &self.before, &since);
                opening::count(&mut self.test.tally, &opened, &since);
                self.test.since =
                    Since { perhaps_closed: since.closed || since.perhaps_closed, ..Since::default() };
                if opened.snapshot.is_some() && opened.runs.is_empty() {
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

    /// Reads what the log holds and settles all that was sent before.
    fn dump(&mut self, full: bool) -> Result<bool> {
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

    /// Asks about everything that the log must remember.
    fn ask(&mut self) -> Result<bool> {
        let asking = Asking { lenient: self.session.lenient, durable_percent: self.session.durable_percent };
        let test = &mut *self.test;
        let probes = probes::ask(&mut test.ledger, &test.active, &mut test.random, asking);
        self.process.send(&Command::Probe(probes));
        let done = self.until(|event| matches!(event, Event::ProbesDone))?;
        Ok(done.is_some() && self.test.tally.violations == 0)
    }

    /// Lets the child append until it is killed, kills itself, or has closed the log.
    fn work(&mut self) -> Result<()> {
        let (armed, kill_after) = match self.session.ending {
            Ending::WorkingPoint(point, crossing) => {
                (Some(Armed { point: point.name().to_owned(), crossing }), TO_THE_POINT)
            }
            Ending::Timer(after) | Ending::Close(after) | Ending::Early(after) => (None, after),
            Ending::OpeningPoint(..) => (None, Duration::from_millis(5)),
        };
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
        })));
        self.failing = self.session.failures.is_some();
        if self.until(|event| matches!(event, Event::Working))?.is_none() {
            return Ok(());
        }
        self.test.loss.failures |= self.failing;
        if matches!(self.session.ending, Ending::Close(_)) {
            let close_at = Instant::now() + kill_after;
            while self.test.tally.violations == 0 {
                match self.process.next(close_at) {
                    Next::Event(event) => drop(self.hear(event)?),
                    Next::Deadline => break,
                    Next::Gone => return Ok(()),
                }
            }
            self.process.send(&Command::Close);
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
            if stuck || near_the_wrap {
                let first = if near_the_wrap { i32::MAX - test.random.i32(0..60) } else { 0 };
                *id = test.next_producer;
                test.next_producer += 1;
                test.ledger.producers.insert(*id, Producer::beginning_at(first));
            }
        }
        let mut workers = Vec::new();
        for id in &test.active {
            if test.random.u8(..100) < self.session.active_percent
                && let Some(producer) = test.ledger.producers.get(id)
            {
                let (epoch, next, recent) = (producer.epoch, producer.next, producer.sent.clone());
                workers.push(protocol::Producer { id: *id, epoch, next, recent });
            }
        }
        workers
    }

    /// Hears everything up to the first event of this kind; `None` if the child is gone. Kills it when its time has come.
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Option<Event>> {
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
            Purpose::Again => Expected::Appended,
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
        let stumbled = ledger.producers.get(&attempt.spec.producer).is_some_and(|producer| producer.stumbled);
        match judge(&attempt, answer, Circumstances { seed, failures: self.failing, stumbled }) {
            Ok(judged) => {
                self.test.tally.judged(&attempt, answer, judged);
                if judged == Judged::Stumbled
                    && let Some(producer) = self.test.ledger.producers.get_mut(&attempt.spec.producer)
                {
                    producer.stumbled = true;
                }
                if let Answer::Appended(_) = answer {
                    self.test.since.perhaps_closed = false;
                }
            }
            Err(violation) => self.violated([violation]),
        }
        Ok(())
    }

    fn violated(&mut self, violations: impl IntoIterator<Item = Violation>) {
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
        let end = self.process.wait()?;
        self.test.transcript.note(format_args!("end: {end:?}, killed as {:?}", self.killed_as));
        let armed = match self.session.ending {
            Ending::OpeningPoint(point, _) | Ending::WorkingPoint(point, _) => Some(point),
            _ => None,
        };
        if !self.opened {
            self.test.since.died_opening = true;
        }
        let mut died_at = None;
        match (end, self.killed_as, armed) {
            _ if self.test.tally.violations > 0 => {}
            (End::Killed, Some(as_what), _) => self.test.tally.killed(as_what),
            (End::Killed, None, Some(point)) => {
                self.test.tally.killed(point.name());
                died_at = Some(point);
            }
            (End::Killed, None, None) => bail!("the child was killed by somebody else"),
            (End::Success, _, _) if self.said_closed => {
                self.test.tally.clean_closes += 1;
                self.test.since = Since { closed: true, ..Since::default() };
            }
            (end, ..) => {
                let detail = format!("{end:?}; it said {:?}", self.faults);
                self.test.tally.violated([Violation::new("the process ended by itself", detail)]);
            }
        }
        Ok(died_at)
    }
}
