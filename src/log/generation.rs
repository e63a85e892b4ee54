//! Whether the log is being cut, and how often it was.
//!
//! Invariant: the number rises before the first byte leaves the log and never while readers could still be given the
//! old bytes as the new log. So a reader whose number is still the present one after a read has read what is, or was,
//! in the log that it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::error::Error;

const OPEN: u8 = 0;
const TRUNCATING: u8 = 1;
const FAILED: u8 = 2;

/// How often readers of a partition were given bytes that are not its log any more. It outlives an open log: a
/// [`crate::LogDir`] lends the same one to every log that it opens for a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<AtomicU64>);

impl Cuts {
    /// How often that was, so far.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// From now on no range that was given out counts.
    pub(crate) fn raise(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The truncation generation of an open log. All orderings are sequentially consistent: it is looked at once a call.
#[derive(Debug)]
pub(super) struct Generation {
    number: AtomicU64,
    cuts: Cuts,
    state: AtomicU8,
}

/// The time at which a reader was given its range.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    seen: u64,
    cuts: Cuts,
}

impl Generation {
    pub(super) fn new(number: u64, cuts: Cuts) -> Self {
        Self { number: AtomicU64::new(number), cuts, state: AtomicU8::new(OPEN) }
    }

    /// The number that watermark slots carry.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// What is answered while the log is being cut, or since that failed; `None` if neither.
    pub(super) fn refusal(&self) -> Option<Error> {
        let why = match self.state.load(Ordering::SeqCst) {
            OPEN => return None,
            TRUNCATING => "the log is being truncated",
            _ => "a truncation has failed; close the log and open it again, which finishes it",
        };
        Some(Error::Unavailable { why: why.to_owned() })
    }

    /// For a reader, before it asks where anything is.
    pub(super) fn ticket(&self) -> Result<Ticket, Error> {
        let seen = self.cuts.count();
        // The state comes second: if it is open now, the log of the number seen is in place, or the number is an old one.
        self.refusal().map_or_else(|| Ok(Ticket { seen, cuts: self.cuts.clone() }), Err)
    }

    /// Undertakes a truncation; refused while there is another.
    pub(super) fn begin(&self) -> Result<(), Error> {
        let begun = self.state.compare_exchange(OPEN, TRUNCATING, Ordering::SeqCst, Ordering::SeqCst);
        begun.map(drop).map_err(|_| self.refusal().unwrap_or(Error::Truncated))
    }

    /// From now on no reader's range counts.
    pub(super) fn raise(&self, number: u64) {
        self.number.store(number, Ordering::SeqCst);
        self.cuts.raise();
    }

    /// The log is closed and nobody here will open it again: what becomes of its files cannot be told any more.
    pub(super) fn leave_readers(&self) {
        self.cuts.raise();
    }

    /// The log may be used: the truncation is over, or was given up before it changed anything.
    pub(super) fn reopen(&self) {
        self.state.store(OPEN, Ordering::SeqCst);
    }

    /// The truncation was begun and cannot be finished.
    pub(super) fn fail(&self) {
        self.state.store(FAILED, Ordering::SeqCst);
    }
}

impl Ticket {
    /// Whether the range still belongs to the log.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.cuts.count() == self.seen { Ok(()) } else { Err(Error::Truncated) }
    }
}
