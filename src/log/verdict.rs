//! What a request is held to, and what its batch changes once it is written.
//!
//! Invariant: a verdict changes nothing, and what a batch changes is kept apart, as an overlay of entries and a list of
//! [`Effect`]s, until the unit that holds it is on disk. A failed write leaves producers, transactions and
//! verifications as they were.

use super::completion::{Appended, Outcome};
use super::queue::{Kind, Marker};
use super::shared::{Shared, Tail};
use super::unit::Turn;
use crate::error::Rejection;
use crate::format::batch::BatchHeader;
use crate::producer::{
    self, BatchFacts, CachedBatch, EndTxn, Entry, MarkerFacts, OffsetSpan, OpenTxn, Policy, Verdict,
    VerificationGuard,
};
use crate::testing::{Break, broken};
use crate::types::{EngineTime, Offset, Origin, ProducerId};

/// What the rules look at in a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Facts {
    /// It names no producer: no rule applies.
    Anonymous,
    Data(BatchFacts),
    End(MarkerFacts),
}

impl Facts {
    pub(super) fn of(kind: &Kind, header: &BatchHeader) -> Self {
        match kind {
            Kind::Append { .. } => BatchFacts::of(header).map_or(Self::Anonymous, Self::Data),
            Kind::Marker(marker) => Self::End(marker.facts),
            Kind::Follow(follow) => follow.facts,
        }
    }

    pub(super) fn producer(&self) -> Option<ProducerId> {
        match self {
            Self::Anonymous => None,
            Self::Data(facts) => Some(facts.producer),
            Self::End(facts) => Some(facts.producer),
        }
    }
}

/// What a batch changes beside its producer's entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// A transactional batch was written.
    Wrote(OpenTxn),
    /// A marker was.
    Ended { producer: ProducerId, outcome: EndTxn, marker: Offset },
}

impl Effect {
    /// Whether a marker was written.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    fn producer(&self) -> ProducerId {
        match self {
            Self::Wrote(txn) => txn.producer,
            Self::Ended { producer, .. } => *producer,
        }
    }
}

impl Shared {
    pub(super) fn verdict(
        &self,
        tail: &Tail,
        turn: &Turn,
        entry: Option<&Entry>,
        facts: &Facts,
        kind: &Kind,
    ) -> Result<Verdict, Rejection> {
        match (facts, kind) {
            (Facts::Data(facts), Kind::Append { origin, guard }) => {
                let verdict = self.check_data(tail, entry, facts, *origin);
                self.check_verified(tail, turn, entry, facts, (*origin, *guard), verdict)
            }
            (Facts::End(_), Kind::Marker(marker)) => {
                check_expected(entry, marker)?;
                producer::check_marker(entry, &marker.facts, marker.version).map(|()| Verdict::Append)
            }
            // What a leader has accepted is not judged again.
            (_, Kind::Follow(_))
            | (Facts::Anonymous, _)
            | (Facts::Data(_), Kind::Marker(_))
            | (Facts::End(_), Kind::Append { .. }) => Ok(Verdict::Append),
        }
    }

    fn check_data(
        &self,
        tail: &Tail,
        entry: Option<&Entry>,
        facts: &BatchFacts,
        origin: Origin,
    ) -> Result<Verdict, Rejection> {
        let policy = Policy {
            unknown: self.config.unknown_producer,
            log_start_offset: tail.log_start_offset,
            ever_written: tail.ever_written,
            history: tail.history,
        };
        match producer::check(entry, facts, origin, &policy) {
            Err(Rejection::OutOfOrder { .. }) if broken(Break::AcceptGap) => Ok(Verdict::Append),
            Err(Rejection::Fenced { .. }) if broken(Break::ForgetFence) => Ok(Verdict::Append),
            Err(Rejection::AbortedRetry { found, .. }) if broken(Break::DuplicateAborted) => {
                let batches = entry.map(Entry::batches).unwrap_or_default();
                let original = batches.iter().find(|batch| batch.first_sequence == found);
                original.map_or(Ok(Verdict::Append), |original| Ok(Verdict::Duplicate(*original)))
            }
            other => other,
        }
    }

    /// The rules of KIP-890, in Kafka's place: behind those on retries and epochs, before those on sequences.
    fn check_verified(
        &self,
        tail: &Tail,
        turn: &Turn,
        entry: Option<&Entry>,
        facts: &BatchFacts,
        (origin, guard): (Origin, VerificationGuard),
        verdict: Result<Verdict, Rejection>,
    ) -> Result<Verdict, Rejection> {
        let on_its_way = matches!(
            verdict,
            Ok(Verdict::Append) | Err(Rejection::OutOfOrder { .. } | Rejection::UnknownProducer { .. })
        );
        if !on_its_way {
            return verdict;
        }
        // A batch of the unit before this one may have begun the transaction, or ended it.
        let used_up = || turn.effects.iter().any(|effect| effect.producer() == facts.producer);
        let verified = || tail.verifications.is_verified(facts.producer, guard) && !used_up();
        if self.config.verify_transactions && facts.transactional && !is_ongoing(entry, facts) && !verified()
        {
            return Err(Rejection::InvalidTxnState(format!(
                "{:?} would begin a transaction of epoch {} that was not verified: ask for a guard, ask the \
                 transaction coordinator, and send the batch again with the guard",
                facts.producer, facts.epoch
            )));
        }
        if origin == Origin::Client
            && verdict.is_ok()
            && let Some(found) = facts.first_sequence
            && let Some(expected) = tail.verifications.waits_before(facts.producer, found)
            && !used_up()
        {
            return Err(Rejection::OutOfOrder { producer: facts.producer, expected, found });
        }
        verdict
    }

    /// Notes what the newest batch of the unit changes.
    pub(super) fn remember(
        tail: &mut Tail,
        turn: &mut Turn,
        entry: Option<&Entry>,
        facts: &Facts,
        now: EngineTime,
    ) {
        let Some(header) = turn.newest().copied() else { return };
        let (producer, updated, effect) = match facts {
            Facts::Anonymous => return,
            Facts::Data(facts) => {
                let span = OffsetSpan { first: header.base_offset, last: header.last_offset() };
                let updated = producer::apply_data(entry, facts, span, now);
                let open = updated.txn_first_offset.filter(|_| facts.transactional);
                let effect = open.map(|first_offset| {
                    let (producer, epoch) = (facts.producer, updated.epoch);
                    Effect::Wrote(OpenTxn { producer, epoch, first_offset, started: now })
                });
                (facts.producer, updated, effect)
            }
            Facts::End(facts) => {
                let marker = header.base_offset;
                let updated = producer::apply_marker(entry, facts, marker, now);
                let (producer, outcome) = (facts.producer, facts.commit);
                (producer, updated, Some(Effect::Ended { producer, outcome, marker }))
            }
        };
        if broken(Break::ApplyBeforeWrite) {
            tail.producers.insert(producer, updated);
        }
        turn.overlay.insert(producer, updated);
        turn.effects.extend(effect);
    }
}

/// Whether the batch goes on with a transaction that its own epoch has begun.
fn is_ongoing(entry: Option<&Entry>, facts: &BatchFacts) -> bool {
    entry.is_some_and(|entry| entry.txn_first_offset.is_some() && entry.epoch == facts.epoch)
}

/// A marker that is meant for one transaction must not end another.
fn check_expected(entry: Option<&Entry>, marker: &Marker) -> Result<(), Rejection> {
    let open = entry.and_then(|entry| entry.txn_first_offset);
    match marker.only {
        Some(first) if open != Some(first) => Err(Rejection::InvalidTxnState(format!(
            "{:?} has no open transaction that began at offset {first}",
            marker.facts.producer
        ))),
        _ => Ok(()),
    }
}

pub(super) fn duplicate(original: &CachedBatch) -> Appended {
    Appended {
        outcome: Outcome::Duplicate,
        base_offset: Some(original.first_offset),
        last_offset: original.last_offset,
        timestamp: original.max_timestamp,
    }
}

pub(super) fn duplicate_beyond_window(oldest: &CachedBatch) -> Appended {
    Appended {
        outcome: Outcome::DuplicateBeyondWindow,
        base_offset: None,
        last_offset: oldest.last_offset,
        timestamp: -1,
    }
}
