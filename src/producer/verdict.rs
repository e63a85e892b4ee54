//! The verdict: a function from what is known of a producer and what a batch says to what happens with the batch.
//!
//! Invariant: `Duplicate` and `DuplicateBeyondWindow` are given only when every record of the batch is stored;
//! `OutOfOrder`, `AbortedRetry` and `UnknownProducer`, on which clients write the batch again, only when none of it
//! is (or only as void records of an aborted transaction). What can be neither proven nor excluded is
//! `SequenceUnknown`. Nothing is changed here.
//!
//! The rules are those of Kafka's `ProducerAppendInfo` and `ProducerStateEntry.findDuplicateBatch`, with the one code
//! that Kafka gives to everything behind the newest batch divided by what is true.

use super::entry::{CachedBatch, Entry, MAX_PROVEN};
use super::facts::{BatchFacts, MarkerFacts, TransactionVersion};
use crate::error::{Malformed, Rejection};
use crate::types::{History, Offset, Origin, Sequence};

/// What happens with a batch that no rule refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new and is the next one: write it.
    Append,
    /// It is stored: answer as the first time, with these offsets and this timestamp, once this batch has the
    /// durability asked for.
    Duplicate(CachedBatch),
    /// All of it is stored, before the window (`DUPLICATE_SEQUENCE_NUMBER`, 46, which clients take as success). Its
    /// offsets are forgotten.
    DuplicateBeyondWindow {
        /// The oldest batch that is remembered. It lies behind the duplicate, so once it is durable, so is that one.
        oldest: CachedBatch,
    },
}

/// What is done with the first batch of a producer that nothing is known of, if it does not start at sequence 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum UnknownProducerPolicy {
    /// Refuse it (`UNKNOWN_PRODUCER_ID`, 59). The default.
    #[default]
    Reject,
    /// Refuse it only on a log that never held a record, where nothing can have been forgotten (the direction of
    /// KAFKA-19880); accept it elsewhere.
    ZeroOnNeverWritten,
    /// Accept it, as Kafka does since KAFKA-8710.
    Accept,
}

/// Whether the log ever held a record, be it deleted by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EverWritten {
    /// No: its end is at offset 0.
    No,
    /// Yes.
    Yes,
}

impl From<bool> for EverWritten {
    fn from(written: bool) -> Self {
        if written { Self::Yes } else { Self::No }
    }
}

/// The circumstances of the log that a verdict depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is done with producers that nothing is known of.
    pub unknown: UnknownProducerPolicy,
    /// First readable offset, for the reply to such producers.
    pub log_start_offset: Offset,
    /// Whether the log ever held a record.
    pub ever_written: EverWritten,
    /// Whether the state is complete.
    pub history: History,
}

/// Decides what happens with a data batch, given all that is known of its producer.
///
/// Batches of [`Origin::Coordinator`] have no sequences; for them only epoch and transaction are looked at.
///
/// # Errors
///
/// The rule that refuses the batch, with what it expected: `Fenced`, `OutOfOrder`, `AbortedRetry`, `SequenceOverlap`,
/// `SequenceUnknown`, `UnknownProducer`; `InvalidTxnState` for a batch outside of the producer's open transaction;
/// `InvalidRecord` for a client's batch without sequence. The state is as before.
#[inline]
pub fn check(
    entry: Option<&Entry>,
    facts: &BatchFacts,
    origin: Origin,
    policy: &Policy,
) -> Result<Verdict, Rejection> {
    if let Some(entry) = entry
        && facts.epoch < entry.epoch
    {
        return Err(fenced(entry, facts));
    }
    let verdict = match origin {
        Origin::Coordinator => Verdict::Append,
        Origin::Client => {
            let (first, last) = facts.sequences().ok_or_else(without_sequence)?;
            match entry {
                Some(entry) if facts.epoch == entry.epoch => {
                    same_epoch(entry, facts, Span { first, last }, policy)?
                }
                Some(_) => at_start(facts, first)?,
                None => unknown_producer(facts, first, policy)?,
            }
        }
    };
    // Last, because a retry of a stored batch is answered from what is stored, whatever has begun since.
    if verdict == Verdict::Append
        && !facts.transactional
        && let Some(open) = entry.and_then(|entry| entry.txn_first_offset)
    {
        return Err(outside_of_transaction(facts, open));
    }
    Ok(verdict)
}

/// Decides whether a marker may be written. One that is repeated may: it has no second effect (KAFKA-19999).
///
/// # Errors
///
/// `Fenced` if the producer's epoch is older than the known one, or, by version 2, not later while a transaction is
/// open; `CoordinatorFenced` if the coordinator's epoch is older than the known one.
pub fn check_marker(
    entry: Option<&Entry>,
    facts: &MarkerFacts,
    version: TransactionVersion,
) -> Result<(), Rejection> {
    let Some(entry) = entry else { return Ok(()) };
    let must_rise = version == TransactionVersion::Two && entry.txn_first_offset.is_some();
    if facts.epoch < entry.epoch || (must_rise && facts.epoch == entry.epoch) {
        return Err(Rejection::Fenced { producer: facts.producer, current: entry.epoch, found: facts.epoch });
    }
    if facts.coordinator_epoch < entry.coordinator_epoch {
        return Err(Rejection::CoordinatorFenced {
            producer: facts.producer,
            current: entry.coordinator_epoch,
            found: facts.coordinator_epoch,
        });
    }
    Ok(())
}

/// The sequences of a batch, both inclusive; they may straddle the wrap.
#[derive(Clone, Copy)]
struct Span {
    first: Sequence,
    last: Sequence,
}

#[inline]
fn same_epoch(entry: &Entry, facts: &BatchFacts, span: Span, policy: &Policy) -> Result<Verdict, Rejection> {
    let Some(newest) = entry.newest() else {
        // A marker raised the epoch. Where the log lost its beginning, batches of this epoch may have stood there.
        return match policy.history {
            History::Complete => at_start(facts, span.first),
            History::Salvaged => at_start(facts, span.first).map_err(|_| unknown_sequence(facts, span.first)),
        };
    };
    let expected = newest.last_sequence.next();
    let ahead = span.first.steps_from(expected);
    if ahead == 0 {
        Ok(Verdict::Append)
    } else if ahead < MAX_PROVEN {
        // Half of the sequence space lies ahead, the other half behind.
        Err(Rejection::OutOfOrder { producer: facts.producer, expected, found: span.first })
    } else {
        behind(entry, newest, facts, span)
    }
}

/// The batch starts at a sequence that was given out before. Distances are counted back from the next sequence: the
/// newest record lies 1 behind it.
#[cold]
fn behind(entry: &Entry, newest: &CachedBatch, facts: &BatchFacts, span: Span) -> Result<Verdict, Rejection> {
    let expected = newest.last_sequence.next();
    let oldest = entry.oldest().unwrap_or(newest);
    let first_behind = expected.steps_from(span.first);
    let overlap =
        Rejection::SequenceOverlap { producer: facts.producer, first: span.first, last: span.last, expected };
    if facts.length() > first_behind {
        return Err(overlap);
    }
    let last_behind = first_behind - (facts.length() - 1);
    if last_behind > expected.steps_from(oldest.first_sequence) {
        return if first_behind <= entry.proven {
            Ok(Verdict::DuplicateBeyondWindow { oldest: *oldest })
        } else {
            Err(Rejection::SequenceUnknown { producer: facts.producer, found: span.first, expected })
        };
    }
    let equal = |batch: &&CachedBatch| batch.first_sequence == span.first && batch.last_sequence == span.last;
    match entry.batches().iter().find(equal) {
        Some(batch) if batch.aborted => {
            Err(Rejection::AbortedRetry { producer: facts.producer, expected, found: span.first })
        }
        Some(batch) => Ok(Verdict::Duplicate(*batch)),
        None => Err(overlap),
    }
}

/// Nothing of this epoch is stored: it must begin.
fn at_start(facts: &BatchFacts, first: Sequence) -> Result<Verdict, Rejection> {
    if first == Sequence::ZERO {
        Ok(Verdict::Append)
    } else {
        Err(Rejection::OutOfOrder { producer: facts.producer, expected: Sequence::ZERO, found: first })
    }
}

fn unknown_producer(facts: &BatchFacts, first: Sequence, policy: &Policy) -> Result<Verdict, Rejection> {
    if first == Sequence::ZERO {
        return Ok(Verdict::Append);
    }
    if policy.history == History::Salvaged {
        return Err(unknown_sequence(facts, first));
    }
    match (policy.unknown, policy.ever_written) {
        (UnknownProducerPolicy::Accept, _)
        | (UnknownProducerPolicy::ZeroOnNeverWritten, EverWritten::Yes) => Ok(Verdict::Append),
        (UnknownProducerPolicy::Reject, _) | (UnknownProducerPolicy::ZeroOnNeverWritten, EverWritten::No) => {
            Err(Rejection::UnknownProducer {
                producer: facts.producer,
                found: first,
                log_start_offset: policy.log_start_offset,
            })
        }
    }
}

fn unknown_sequence(facts: &BatchFacts, found: Sequence) -> Rejection {
    Rejection::SequenceUnknown { producer: facts.producer, found, expected: Sequence::ZERO }
}

#[cold]
fn fenced(entry: &Entry, facts: &BatchFacts) -> Rejection {
    Rejection::Fenced { producer: facts.producer, current: entry.epoch, found: facts.epoch }
}

#[cold]
fn without_sequence() -> Rejection {
    Rejection::InvalidRecord(Malformed::new("base sequence", 53, "0 or more beside a producer id", -1))
}

#[cold]
fn outside_of_transaction(facts: &BatchFacts, open: Offset) -> Rejection {
    Rejection::InvalidTxnState(format!(
        "{:?} sent a batch without the transactional flag, but its transaction from offset {open} on is open; \
         end that first",
        facts.producer
    ))
}
