//! What a child appends: several threads, each with producers of its own and up to five batches in flight of each.
//!
//! Invariant: all batches of a producer come from one thread, in the order of their sequences, and the parent hears of
//! each before the log does. A producer behaves as real ones do: it sends a batch that was not stored again, and
//! nothing new before that.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Result, anyhow};
use oncelog::types::Durability;

use super::batch::{Kind, Spec, sequence};
use super::child::{Served, spell, wait_for_close};
use super::partitions;
use super::protocol::{Answer, Event, Intent, Producer, Purpose, Work};
use super::upkeep;

/// Requests that a producer may have in flight, as a Kafka client's default is.
const IN_FLIGHT: usize = 5;
/// Batches of a transaction, at most.
const MOST_BATCHES: usize = 6;
/// How long a lane with nothing to do waits before it looks whether it should stop.
const IDLE: Duration = Duration::from_millis(20);

/// Runs the lanes until the parent asks for an end.
pub(super) fn run(child: &Served, work: &Work, commands: &mut impl Read) -> Result<()> {
    let stop = AtomicBool::new(false);
    let ids = AtomicU32::new(work.first_id);
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for (nth, blocking) in work.lanes.iter().enumerate() {
            let mut lane = Lane::new(child, work, nth, *blocking, &ids);
            let stop = &stop;
            lanes.push(scope.spawn(move || lane.run(stop)));
        }
        let deleting = work.delete_below.map(|limit| {
            scope.spawn({
                let stop = &stop;
                move || upkeep::delete_until(child, limit, work.seed, stop)
            })
        });
        let deeds = work.crew.as_ref().map(|crew| {
            scope.spawn({
                let stop = &stop;
                move || partitions::work(child, child.root()?, crew, work.seed, stop)
            })
        });
        let parent_is_there = wait_for_close(commands)?;
        stop.store(true, Ordering::Relaxed);
        if !parent_is_there {
            std::process::exit(3);
        }
        for lane in lanes {
            lane.join().map_err(|_| anyhow!("a lane panicked"))??;
        }
        if let Some(deeds) = deeds {
            deeds.join().map_err(|_| anyhow!("the deeds panicked"))??;
        }
        if let Some(deleting) = deleting {
            deleting.join().map_err(|_| anyhow!("the deletion panicked"))?;
        }
        Ok(())
    })
}

/// A thread that appends.
struct Lane<'a> {
    child: &'a Served,
    work: &'a Work,
    nth: u8,
    blocking: bool,
    ids: &'a AtomicU32,
    random: fastrand::Rng,
    producers: Vec<Sending>,
    answered: (Sender<Answered>, Receiver<Answered>),
}

/// An answer on its way back to the lane.
struct Answered {
    producer: usize,
    id: u32,
    stored: bool,
}

/// A producer with what it has in flight.
struct Sending {
    id: i64,
    epoch: i16,
    next: i32,
    in_flight: Vec<Flight>,
    /// Data batches of this epoch in the order of sending, newest last, with what became of them.
    recent: VecDeque<(Spec, Fate)>,
    /// Answered as not stored; sent again once nothing is in flight.
    failed: Vec<Spec>,
    again: VecDeque<Spec>,
    txn: Option<Txn>,
}

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was not answered yet, or not as stored.
    Sent,
    Stored,
    /// Its transaction was aborted.
    Aborted,
}

/// What a producer of transactions knows of its present one.
struct Txn {
    /// How many of the last batches are of it.
    batches: usize,
    /// How many it will have.
    wanted: usize,
    /// For the next marker.
    coordinator_epoch: i32,
}

struct Flight {
    id: u32,
    purpose: Purpose,
    spec: Spec,
}

impl<'a> Lane<'a> {
    fn new(child: &'a Served, work: &'a Work, nth: usize, blocking: bool, ids: &'a AtomicU32) -> Self {
        let mine = work.producers.iter().skip(nth).step_by(work.lanes.len().max(1));
        Self {
            child,
            work,
            nth: u8::try_from(nth).unwrap_or(u8::MAX),
            blocking,
            ids,
            random: fastrand::Rng::with_seed(work.seed.wrapping_add(nth as u64)),
            producers: mine.map(Sending::new).collect(),
            answered: mpsc::channel(),
        }
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<()> {
        while !self.producers.is_empty() && !stop.load(Ordering::Relaxed) {
            while let Ok(answered) = self.answered.1.try_recv() {
                self.take_answer(&answered);
            }
            let producer = self.random.usize(..self.producers.len());
            if !self.send_something(producer)? && !self.send_anything()? {
                self.wait();
            }
        }
        while self.producers.iter().any(|producer| !producer.in_flight.is_empty()) {
            self.wait();
        }
        Ok(())
    }

    fn wait(&mut self) {
        if let Ok(answered) = self.answered.1.recv_timeout(IDLE) {
            self.take_answer(&answered);
        }
    }

    fn take_answer(&mut self, answered: &Answered) {
        if let Some(producer) = self.producers.get_mut(answered.producer) {
            producer.take_answer(answered);
        }
    }

    /// Every producer in turn; `false` if none can send.
    fn send_anything(&mut self) -> Result<bool> {
        for producer in 0..self.producers.len() {
            if self.send_something(producer)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets one producer send what comes next or something odd; `false` if it has to wait.
    fn send_something(&mut self, nth: usize) -> Result<bool> {
        let Some(producer) = self.producers.get_mut(nth) else { return Ok(false) };
        if producer.in_flight.len() >= IN_FLIGHT || !producer.may_send() {
            return Ok(false);
        }
        let count = self.random.u8(1..=4);
        let odd = producer.again.is_empty() && self.random.u8(..100) < self.work.odd_percent;
        let (purpose, spec) = if odd {
            producer.odd(&mut self.random, self.work.repeat_percent).unwrap_or_else(|| producer.data(count))
        } else if producer.is_to_end() {
            if !producer.in_flight.is_empty() {
                return Ok(false);
            }
            let may_raise = self.work.failures.is_none();
            producer.end(&mut self.random, may_raise)
        } else {
            producer.data(count)
        };
        let durable = self.random.u8(..100) < self.work.durable_percent;
        let durability = if durable { Durability::Durable } else { Durability::Buffered };
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        producer.in_flight.push(Flight { id, purpose, spec });
        let emitter = &self.child.emitter;
        emitter.send(&Event::Intent(Intent { id, lane: self.nth, purpose, durability, spec }));
        let (emitter, done) = (emitter.clone(), self.answered.0.clone());
        let then = move |answer| {
            let answer = spell(answer);
            let stored = matches!(answer, Answer::Appended(_) | Answer::Duplicate(_));
            emitter.send(&Event::Answer { id, answer });
            // Nobody receives once the lane has stopped.
            let _ = done.send(Answered { producer: nth, id, stored });
        };
        if self.blocking {
            then(self.child.append(&spec, durability)?);
        } else {
            self.child.submit(&spec, durability, then)?;
        }
        Ok(true)
    }
}

impl Sending {
    fn new(producer: &Producer) -> Self {
        Self {
            id: producer.id,
            epoch: producer.epoch,
            next: producer.next,
            in_flight: Vec::new(),
            recent: producer
                .recent
                .iter()
                .map(|(spec, aborted)| (*spec, if *aborted { Fate::Aborted } else { Fate::Stored }))
                .collect(),
            failed: Vec::new(),
            again: VecDeque::new(),
            txn: producer.txn.map(|(batches, coordinator_epoch)| Txn {
                batches,
                // What an earlier process left open is ended at once by most, and gone on with by the others.
                wanted: if batches > 0 && producer.id % 4 > 0 { batches } else { MOST_BATCHES },
                coordinator_epoch,
            }),
        }
    }

    fn kind(&self) -> Kind {
        if self.txn.is_some() { Kind::Transactional } else { Kind::Plain }
    }

    /// Whether its transaction has all its batches.
    fn is_to_end(&self) -> bool {
        self.again.is_empty() && self.txn.as_ref().is_some_and(|txn| txn.batches >= txn.wanted)
    }

    /// The marker that its coordinator orders next.
    fn end(&mut self, random: &mut fastrand::Rng, may_raise: bool) -> (Purpose, Spec) {
        let kind = if random.u8(..3) == 0 { Kind::Abort } else { Kind::Commit };
        let raised = may_raise && random.u8(..4) == 0;
        let epoch = if raised { self.epoch.saturating_add(1) } else { self.epoch };
        let mut first = 0;
        if let Some(txn) = &mut self.txn {
            (first, txn.coordinator_epoch) = (txn.coordinator_epoch, txn.coordinator_epoch.saturating_add(1));
            txn.wanted = random.usize(1..=MOST_BATCHES);
        }
        (Purpose::End, Spec { producer: self.id, epoch, first, count: 1, kind })
    }

    /// The marker is in the log.
    fn ended(&mut self, marker: &Spec) {
        let Some(txn) = &mut self.txn else { return };
        let before = self.recent.len().saturating_sub(txn.batches);
        txn.batches = 0;
        if marker.epoch > self.epoch {
            (self.epoch, self.next) = (marker.epoch, 0);
            self.recent.clear();
        } else if marker.kind == Kind::Abort {
            self.recent.iter_mut().skip(before).for_each(|(_, fate)| *fate = Fate::Aborted);
        }
    }

    /// After a failure nothing is sent until everything in flight is answered.
    fn may_send(&mut self) -> bool {
        if self.in_flight.iter().any(|flight| flight.purpose == Purpose::End) {
            return false;
        }
        if !self.failed.is_empty() && self.in_flight.is_empty() {
            // One that failed a second time lies before those that still wait.
            self.failed.extend(self.again.drain(..));
            let next = sequence(self.next);
            self.failed.sort_by_key(|spec| std::cmp::Reverse(next.steps_from(sequence(spec.first))));
            self.again.extend(self.failed.drain(..));
        }
        self.failed.is_empty()
    }

    /// The next batch: one to be sent again, or a new one.
    fn data(&mut self, count: u8) -> (Purpose, Spec) {
        if let Some(spec) = self.again.pop_front() {
            return (Purpose::Again, spec);
        }
        let kind = self.kind();
        if let Some(txn) = &mut self.txn {
            txn.batches += 1;
        }
        let spec = Spec { producer: self.id, epoch: self.epoch, first: self.next, count, kind };
        self.next = spec.next();
        self.recent.push_back((spec, Fate::Sent));
        if self.recent.len() > IN_FLIGHT {
            self.recent.pop_front();
        }
        (Purpose::Fresh, spec)
    }

    /// A retry, a gap, an old epoch; or the begin of a new epoch, whose first batch is nothing odd.
    fn odd(&mut self, random: &mut fastrand::Rng, repeat_percent: u8) -> Option<(Purpose, Spec)> {
        let here = Spec {
            producer: self.id,
            epoch: self.epoch,
            first: self.next,
            count: random.u8(1..=4),
            kind: self.kind(),
        };
        if self.recent.iter().any(|(_, fate)| *fate == Fate::Aborted) && random.u8(..3) == 0 {
            return self.repeat(random, Fate::Aborted).map(|(_, spec)| (Purpose::Aborted, spec));
        }
        let repeat = random.u8(..100) < repeat_percent;
        let begun = self.recent.iter().any(|(_, fate)| *fate != Fate::Sent);
        match random.u8(..10) {
            // A real producer repeats what it has no answer to; a broker sees it before or after the answer was lost.
            _ if repeat => self.repeat(random, Fate::Sent),
            0..4 => self.repeat(random, Fate::Stored),
            4..7 => {
                let first = sequence(self.next).wrapping_add(random.u32(1..=20)).value();
                // Nothing is missing before a batch of which none is known to be stored.
                begun.then_some((Purpose::Gap, Spec { first, ..here }))
            }
            7..9 => (self.epoch > 0 && begun)
                .then_some((Purpose::OldEpoch, Spec { epoch: self.epoch - 1, ..here })),
            _ => {
                // One of transactions gets its epochs from its coordinator's markers.
                if self.in_flight.is_empty() && begun && self.txn.is_none() {
                    self.epoch = self.epoch.saturating_add(1);
                    self.next = 0;
                    self.recent.clear();
                }
                None
            }
        }
    }

    fn repeat(&self, random: &mut fastrand::Rng, fate: Fate) -> Option<(Purpose, Spec)> {
        let fitting: Vec<Spec> =
            self.recent.iter().filter(|(_, now)| *now == fate).map(|(spec, _)| *spec).collect();
        random.choice(fitting).map(|spec| (Purpose::Repeat, spec))
    }

    fn take_answer(&mut self, answered: &Answered) {
        let Some(place) = self.in_flight.iter().position(|flight| flight.id == answered.id) else { return };
        let flight = self.in_flight.swap_remove(place);
        if flight.purpose == Purpose::End && answered.stored {
            self.ended(&flight.spec);
        }
        let data = matches!(flight.purpose, Purpose::Fresh | Purpose::Again);
        if data && !answered.stored {
            self.failed.push(flight.spec);
        } else if data {
            for (_, fate) in self.recent.iter_mut().filter(|(spec, _)| *spec == flight.spec) {
                *fate = Fate::Stored;
            }
        }
    }
}
