//! Proof that the transaction coordinator knows of a transaction before its first batch is written (KIP-890).
//!
//! A broker asks for a guard, asks the coordinator whether the producer's transaction is ongoing, and hands the batch in
//! with the guard. A marker that is written in between takes the guard away, so a coordinator's answer that has become
//! stale opens no transaction that nobody will ever end.
//!
//! Invariant: a guard is given out once in the life of the process and is good for the first batch of one transaction.
//! Nothing of this is on disk: after a restart the broker asks again. Kafka's classes are `VerificationGuard` and
//! `VerificationStateEntry`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;

use super::entry::MAX_PROVEN;
use crate::types::{EngineTime, ProducerEpoch, ProducerId, Sequence};

/// So many that are used up are remembered, and as many more as are pending.
const MOST_USED_UP: usize = 64;

/// What a verified batch is handed in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerificationGuard(u64);

/// The next guard of this process. A guard of another log must not be good for this one, so all logs share it.
static NEXT_GUARD: AtomicU64 = AtomicU64::new(1);

impl VerificationGuard {
    /// No guard: it verifies nothing, not even where none was asked for.
    pub const NONE: Self = Self(0);

    fn fresh() -> Self {
        // The number alone matters; nothing is published by it.
        Self(NEXT_GUARD.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether this is no guard.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Whether this is a guard, and `other` is the same one.
    #[must_use]
    pub fn verifies(self, other: Self) -> bool {
        !self.is_none() && self == other
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    guard: VerificationGuard,
    epoch: ProducerEpoch,
    lowest_sequence: Sequence,
}

/// The verifications that were begun and not used up.
#[derive(Clone, Debug, Default)]
pub struct Verifications {
    pending: HashMap<ProducerId, Pending>,
    /// When each was begun, the oldest first; some of them are used up.
    begun: VecDeque<(EngineTime, ProducerId, VerificationGuard)>,
}

impl Verifications {
    /// Begins to verify the transaction of a batch, or goes on with what was begun for the same producer: the guard is
    /// the same then, and the lowest sequence of the highest epoch is kept.
    pub fn begin(
        &mut self,
        producer: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        now: EngineTime,
    ) -> VerificationGuard {
        if let Some(pending) = self.pending.get_mut(&producer) {
            if epoch > pending.epoch {
                pending.epoch = epoch;
                pending.lowest_sequence = sequence;
            } else if epoch == pending.epoch && is_behind(sequence, pending.lowest_sequence) {
                pending.lowest_sequence = sequence;
            }
            return pending.guard;
        }
        let guard = VerificationGuard::fresh();
        self.pending.insert(producer, Pending { guard, epoch, lowest_sequence: sequence });
        self.begun.push_back((now, producer, guard));
        guard
    }

    /// Whether `guard` is the one that was given out for the producer and not used up since.
    #[must_use]
    pub fn is_verified(&self, producer: ProducerId, guard: VerificationGuard) -> bool {
        self.pending.get(&producer).is_some_and(|pending| pending.guard.verifies(guard))
    }

    /// The lowest sequence that waits for its verification, if it is behind `sequence`: that batch must come first
    /// (KAFKA-14920).
    #[must_use]
    pub fn waits_before(&self, producer: ProducerId, sequence: Sequence) -> Option<Sequence> {
        let lowest = self.pending.get(&producer)?.lowest_sequence;
        is_behind(lowest, sequence).then_some(lowest)
    }

    /// Uses up what was begun for a producer: its transaction was begun, or ended.
    pub fn end(&mut self, producer: ProducerId) {
        self.pending.remove(&producer);
        // One that is pending for long must not keep the names of all that came and went meanwhile. Every look at them is
        // paid for by as many that were begun since the last one.
        if self.begun.len() > MOST_USED_UP.saturating_add(2 * self.pending.len()) {
            let Self { pending, begun } = self;
            begun.retain(|(_, producer, guard)| pending.get(producer).is_some_and(|it| it.guard == *guard));
        }
    }

    /// How many verifications are remembered, be they used up or not.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.begun.len()
    }

    /// Forgets what was begun `after_ms` milliseconds of engine time ago or more, however often it was asked for since.
    pub fn expire(&mut self, now: EngineTime, after_ms: u64) {
        while let Some((begun, producer, guard)) = self.begun.front().copied() {
            if now.0.saturating_sub(begun.0) < after_ms {
                return;
            }
            self.begun.pop_front();
            if self.is_verified(producer, guard) {
                self.pending.remove(&producer);
            }
        }
    }

    /// Whether none is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Whether `earlier` comes before `later`, in the half of the sequence space that counts as behind.
fn is_behind(earlier: Sequence, later: Sequence) -> bool {
    (1..MAX_PROVEN).contains(&later.steps_from(earlier))
}
