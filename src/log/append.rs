//! Append: one combiner at a time turns the queue into vectored writes.
//!
//! Invariant: check, write, apply, publish, in that order. A verdict sees the state and an overlay of the batches
//! before it in the same unit; only when the unit's bytes are written (`unit.rs`) does the overlay become state, does
//! the end move, do replies go out.
//!
//! Whoever gets the combiner lock drains the queue in order; who does not leaves, because the holder looks at the queue
//! again after letting go. Look-ups in runs happen with only the combiner lock held.
//!
//! A submit whose answer nobody asks for yet does not drain at once: small batches wait until they make a worthwhile
//! write ([`GROUP`]), until somebody waits for one, polls it or leaves a callback, or until the worker comes by.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;

use super::completion::{Completion, Reply};
use super::config::Background;
use super::follow;
use super::queue::{Kind, Pending, Refused, Request};
use super::shared::{Shared, Tail, TailGuard};
use super::sync::Caller;
use super::unit::Turn;
use super::verdict::{Facts, duplicate, duplicate_beyond_window};
use super::worker::Task;
use crate::error::{Error, Malformed, Rejection};
use crate::format::batch::{BatchHeader, CheckedBatch};
use crate::producer::{Entry, Verdict};
use crate::segment::roll::{Incoming, next_base, roll_due};
use crate::types::{Durability, EngineTime, LeaderEpoch, Offset, ProducerId};

/// Most requests of one turn: a bound on how long others wait for the locks.
const TURN_REQUESTS: usize = 512;
/// Most bytes of one turn.
const TURN_BYTES: usize = 4 << 20;
/// So many requests are worth a write of their own: grouping more hardly makes it cheaper.
const GROUP: usize = 16;
/// So many bytes are too.
const GROUP_BYTES: usize = 64 << 10;
/// Most turns that one caller does for others before the worker goes on.
const MOST_TURNS: usize = 8;

/// How a turn ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TurnEnd {
    Drained,
    /// A roll is due and cannot happen yet; the requests stay with the combiner.
    RollBlocked,
}

enum Step {
    Finished(TurnEnd),
    /// Producers of the remaining requests must be looked up in the runs first.
    LookUp,
    /// This is the first write after a clean open: the mark of the clean close must go first.
    LeaveCleanState,
    /// The next batch leaves offsets out: the manifest must say first that there may be gaps.
    AllowGaps,
}

/// What is known of a producer at the moment of its verdict.
enum Found {
    Entry(Option<Entry>),
    /// Not in memory; the runs were not asked yet.
    Unread,
    /// The run that would know is damaged.
    Damaged(Error),
}

/// The clocks, read once a turn.
#[derive(Clone, Copy)]
struct Now {
    engine: EngineTime,
    wall_ms: i64,
}

impl Shared {
    /// Puts a validated batch into the queue, waiting for room. It is drained by whoever is interested first.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        batch: CheckedBatch,
        kind: Kind,
        durability: Durability,
    ) -> Result<(Completion, Pending), Error> {
        let reply = Arc::new(Reply::default());
        let mut request = Request { batch, kind, durability, reply: Arc::clone(&reply) };
        loop {
            if let Some(refusal) = self.generation.refusal() {
                return Err(refusal);
            }
            match self.queue.try_push(request) {
                Ok(pending) => return Ok((Completion { reply, log: Arc::clone(self) }, pending)),
                Err(Refused::Closed) => return Err(Error::Closed),
                Err(Refused::Full(refused)) => {
                    let bytes = refused.bytes();
                    self.drive();
                    self.queue.wait_for_room(bytes);
                    request = *refused;
                }
            }
        }
    }

    /// As [`Self::enqueue`], but answers `None` instead of waiting for room.
    pub(super) fn try_enqueue(
        self: &Arc<Self>,
        batch: CheckedBatch,
        kind: Kind,
        durability: Durability,
    ) -> Result<Option<(Completion, Pending)>, Error> {
        let reply = Arc::new(Reply::default());
        let request = Request { batch, kind, durability, reply: Arc::clone(&reply) };
        if let Some(refusal) = self.generation.refusal() {
            return Err(refusal);
        }
        match self.queue.try_push(request) {
            Ok(pending) => Ok(Some((Completion { reply, log: Arc::clone(self) }, pending))),
            Err(Refused::Closed) => Err(Error::Closed),
            Err(Refused::Full(_)) => Ok(None),
        }
    }

    /// After a submit that nobody waits for: drains what is worth a write, and leaves less to the worker.
    pub(super) fn drive_later(&self, pending: Pending) {
        if self.config.background == Background::Caller
            || pending.requests >= GROUP
            || pending.bytes >= GROUP_BYTES
        {
            self.drive();
        } else if !self.drive_asked.swap(true, Ordering::AcqRel) && !self.ask(Task::DriveSoon) {
            self.drive_asked.store(false, Ordering::Release);
            self.drive();
        }
    }

    /// Returns when everything that is in the queue now has been judged, and ends the rolls that it waits for.
    pub(super) fn write_submitted(&self) {
        let (came, _) = self.queue.came_and_left();
        loop {
            self.drive();
            // Whoever took requests holds the combiner lock until they are judged, or left there because of a roll.
            let (left, blocked) = {
                let turn = self.combiner.lock();
                (self.queue.came_and_left().1, turn.requests.len() as u64)
            };
            if left.saturating_sub(blocked) >= came {
                break;
            }
            if blocked > 0 {
                self.finish_roll();
            }
        }
        self.look_at_queue();
        self.ensure_sync(Caller::Leaves);
    }

    /// Whoever has held the combiner lock for another reason than a turn calls it afterwards: who found the lock taken
    /// meanwhile has left its request to the holder.
    pub(super) fn look_at_queue(&self) {
        if !self.queue.is_empty() {
            self.drive();
        }
    }

    /// Drains the queue, unless somebody else does.
    pub(super) fn drive(&self) {
        let mut turns = 0;
        loop {
            let Some(mut turn) = self.combiner.try_lock() else { return };
            let end = self.turn(&mut turn);
            let (done, tally) = (turn.take_done(), turn.take_tally());
            drop(turn);
            self.meters.report(&tally);
            self.deliver(done);
            self.after_turn();
            turns += 1;
            match end {
                // With threads, theirs is the next look. Without, those who waited are refused; others may have come.
                TurnEnd::RollBlocked
                    if !self.unblock_roll()
                        && (self.config.background == Background::Threads || self.queue.is_empty()) =>
                {
                    return;
                }
                TurnEnd::Drained if self.queue.is_empty() => return,
                // Others' batches must not hold this caller for ever.
                TurnEnd::Drained if turns >= MOST_TURNS && self.ask(Task::Drive) => return,
                _ => {}
            }
        }
    }

    /// One turn, with the combiner lock held.
    fn turn(&self, turn: &mut Turn) -> TurnEnd {
        self.queue.drain_into(&mut turn.requests, TURN_REQUESTS, TURN_BYTES);
        if turn.requests.is_empty() {
            return TurnEnd::Drained;
        }
        if let Some(refusal) = self.generation.refusal() {
            turn.refuse_all(&refusal);
            return TurnEnd::Drained;
        }
        let now = Now { engine: self.engine_time(), wall_ms: self.clock.wall_ms() };
        let mut tail = self.lock_tail();
        tail.verifications.expire(now.engine, self.config.producer_expiry_ms);
        loop {
            match self.judge(&mut tail, turn, now) {
                Step::LookUp => tail = self.look_up(tail, turn),
                Step::LeaveCleanState => {
                    drop(tail);
                    if let Err(error) = self.leave_clean_state() {
                        let why = format!("the clean-close mark could not be removed: {error}");
                        turn.refuse_all(&Error::Unavailable { why });
                    }
                    tail = self.lock_tail_anew(turn);
                }
                Step::AllowGaps => {
                    drop(tail);
                    if let Err(error) = self.allow_gaps() {
                        let why = format!("the manifest could not be told of gaps: {error}");
                        turn.refuse_all(&Error::Unavailable { why });
                    }
                    tail = self.lock_tail_anew(turn);
                }
                Step::Finished(end) => {
                    turn.fetched.clear();
                    let due = self.checkpoint_is_due(&tail);
                    drop(tail);
                    if due {
                        self.ask_checkpoint();
                    }
                    return end;
                }
            }
        }
    }

    /// Judges requests in order and writes unit after unit.
    fn judge(&self, tail: &mut Tail, turn: &mut Turn, now: Now) -> Step {
        loop {
            turn.begin_unit(&tail.active);
            while let Some(request) = turn.requests.front() {
                let (header, bytes) = (*request.batch.header(), request.bytes());
                let kind = request.kind.clone();
                let facts = Facts::of(&kind, &header);
                if let Some(refusal) = follower_refusal(tail, turn, &kind, &header) {
                    turn.answer_front(Err(refusal));
                    continue;
                }
                let entry = match facts.producer().map(|id| self.entry_of(tail, turn, id)) {
                    None => None,
                    Some(Found::Entry(entry)) => entry,
                    Some(Found::Unread) => {
                        self.write_unit(tail, turn);
                        return Step::LookUp;
                    }
                    Some(Found::Damaged(error)) => {
                        turn.answer_front(Err(error));
                        continue;
                    }
                };
                match self.verdict(tail, turn, entry.as_ref(), &facts, &kind) {
                    Ok(Verdict::Append) => {}
                    Ok(Verdict::Duplicate(batch)) => {
                        turn.answer_front(Ok(duplicate(&batch)));
                        continue;
                    }
                    Ok(Verdict::DuplicateBeyondWindow { oldest }) => {
                        turn.answer_front(Ok(duplicate_beyond_window(&oldest)));
                        continue;
                    }
                    Err(rejection) => {
                        turn.answer_front(Err(rejection.into()));
                        continue;
                    }
                }
                if let Some(error) = self.latch_error() {
                    turn.answer_front(Err(error));
                    continue;
                }
                if self.marked_clean.load(Ordering::Acquire) {
                    self.write_unit(tail, turn);
                    return Step::LeaveCleanState;
                }
                let first = first_offset(turn, &kind, &header);
                if let Some(rejection) = beyond_the_last_offset(first, &header) {
                    turn.answer_front(Err(rejection.into()));
                    continue;
                }
                if !self.gaps_possible.load(Ordering::Acquire) && leaves_a_gap(turn, &kind, &header) {
                    self.write_unit(tail, turn);
                    return Step::AllowGaps;
                }
                if self.roll_is_due(tail, turn, first, &header, bytes, now) {
                    self.write_unit(tail, turn);
                    if !turn.is_written(&tail.active) {
                        // The log ends before what was refused, and so would not the next segment begin.
                        turn.begin_unit(&tail.active);
                        continue;
                    }
                    let last = first.saturating_add(i64::from(header.last_offset_delta));
                    if !self.roll(tail, next_base(turn.next_offset(), first, last)) {
                        return Step::Finished(TurnEnd::RollBlocked);
                    }
                    turn.begin_unit(&tail.active);
                    continue;
                }
                turn.take_front(tail.active.len(), tail.leader_epoch);
                Self::remember(tail, turn, entry.as_ref(), &facts, now.engine);
                if turn.unit_is_full() {
                    self.write_unit(tail, turn);
                    turn.begin_unit(&tail.active);
                }
            }
            self.write_unit(tail, turn);
            if turn.requests.is_empty() {
                return Step::Finished(TurnEnd::Drained);
            }
        }
    }

    fn entry_of(&self, tail: &Tail, turn: &Turn, id: ProducerId) -> Found {
        if let Some(entry) = turn.overlay.get(&id).or_else(|| tail.producers.get(id)) {
            return Found::Entry(Some(*entry));
        }
        if tail.chain.is_empty() {
            return Found::Entry(None);
        }
        match turn.fetched.get(&id) {
            None => Found::Unread,
            Some(Ok(entry)) => Found::Entry(*entry),
            Some(Err(error)) => Found::Damaged(error.clone()),
        }
    }

    /// The append lock once more. A checkpoint may have been published meanwhile: what the runs said is not relied on.
    fn lock_tail_anew(&self, turn: &mut Turn) -> TailGuard<'_> {
        turn.fetched.clear();
        self.lock_tail()
    }

    /// Looks the remaining requests' producers up in the runs, off the append lock, until the chain that was asked is
    /// the present one.
    fn look_up<'a>(&'a self, mut tail: TailGuard<'a>, turn: &mut Turn) -> TailGuard<'a> {
        loop {
            let chain = Arc::clone(&tail.chain);
            let missing: Vec<_> = turn
                .requests
                .iter()
                .filter_map(|request| request.batch.header().producer())
                .map(|(id, _)| id)
                .filter(|id| !turn.fetched.contains_key(id) && tail.producers.get(*id).is_none())
                .collect();
            drop(tail);
            for id in missing {
                turn.fetched.entry(id).or_insert_with(|| {
                    chain.get(id).map_err(|error| {
                        self.chain_is_damaged();
                        Error::Unavailable { why: format!("the state of {id:?} cannot be read: {error}") }
                    })
                });
            }
            tail = self.lock_tail();
            if Arc::ptr_eq(&chain, &tail.chain) {
                return tail;
            }
            // A checkpoint was published in between: what was not in the old chain may be in the new one.
            turn.fetched = HashMap::new();
        }
    }

    fn roll_is_due(
        &self,
        tail: &Tail,
        turn: &Turn,
        first: Offset,
        header: &BatchHeader,
        bytes: usize,
        now: Now,
    ) -> bool {
        let incoming = Incoming {
            bytes: bytes as u64,
            max_timestamp: header.max_timestamp,
            last_offset: first.saturating_add(i64::from(header.last_offset_delta)),
            now_ms: now.wall_ms,
        };
        roll_due(&turn.roll_state(&tail.active), &incoming, &self.roll_limits()).is_some()
    }
}

/// Why a follower's batch cannot be the next one; `None` for any other.
fn follower_refusal(tail: &Tail, turn: &Turn, kind: &Kind, header: &BatchHeader) -> Option<Error> {
    let Kind::Follow(follow) = kind else { return None };
    let newest = turn.newest_epoch().unwrap_or_else(|| newest_epoch(tail));
    follow.refusal(header, turn.next_offset(), newest)
}

/// Leader epoch of the last batch of the log.
fn newest_epoch(tail: &Tail) -> LeaderEpoch {
    let last = Offset(tail.active.next_offset().0.saturating_sub(1));
    tail.leader_epochs.epoch_for(last).unwrap_or(LeaderEpoch::NONE)
}

/// The offset that the batch will have.
fn first_offset(turn: &Turn, kind: &Kind, header: &BatchHeader) -> Offset {
    if matches!(kind, Kind::Follow(_)) { header.base_offset } else { turn.next_offset() }
}

/// A batch for which no offsets are left: no reader would take its header for one.
fn beyond_the_last_offset(first: Offset, header: &BatchHeader) -> Option<Rejection> {
    let delta = i64::from(header.last_offset_delta);
    first.checked_add(delta).and_then(|last| last.checked_add(1)).is_none().then(|| {
        let room = format!("at most {} in a log that ends at offset {first}", i64::MAX - 1 - first.0.max(0));
        Rejection::InvalidRecord(Malformed::new("last offset delta", 23, room, delta))
    })
}

fn leaves_a_gap(turn: &Turn, kind: &Kind, header: &BatchHeader) -> bool {
    matches!(kind, Kind::Follow(_)) && follow::leaves_a_gap(header, turn.next_offset())
}
