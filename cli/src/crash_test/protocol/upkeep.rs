//! What parent and child say of transactions, deletion and truncation: the frames of the full profile.
//!
//! Invariant: the parent hears of every deletion before it begins, so a child that dies inside of one leaves no doubt
//! about what it was asked.

use serde::{Deserialize, Serialize};

/// What is kept, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Deletions {
    /// The oldest segments go while the others hold so many bytes, when that is asked for.
    pub(in super::super) keep_bytes: u64,
    /// How long deleted files stay under another name.
    pub(in super::super) delay_ms: u64,
}

/// Work on a log that nobody appends to at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Upkeep {
    /// Cut the log at this offset, or before the batch that holds it.
    Truncate(i64),
    /// Take everything out and begin anew here.
    BeginAnew(i64),
    /// Delete the records before this offset.
    Delete(i64),
    /// Delete what need not be kept.
    Retain,
}

/// What the log says of transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Decided {
    /// Producer, epoch and first offset of each open transaction, the oldest first.
    pub(in super::super) open: Vec<(i64, i16, i64)>,
    pub(in super::super) last_stable: i64,
    pub(in super::super) first_unstable: Option<i64>,
}
