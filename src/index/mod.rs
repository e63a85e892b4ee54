//! Sparse indexes beside a segment: from offsets to positions, and from timestamps to offsets; and the list of aborted
//! transactions.
//!
//! Invariant: a sparse index is a cache of what the batch headers say. Its file has no checksum, so what was read from
//! one is a claim: any bytes give some answer, quickly and without a panic, and the reader proves that answer against
//! the log before it is used. What was pushed in this process is known. The list is no cache of one segment's headers:
//! see [`transaction`].

mod entry;
pub mod offset;
pub mod time;
pub mod transaction;

pub use entry::{Claim, IndexSize, OffsetEntry, TimeClaim, TimeEntry, Trust, Unwritten};
pub use offset::{OffsetIndex, SealedOffsetIndex};
pub use time::{SealedTimeIndex, TimeIndex};
pub use transaction::{Collected, SealedTxnIndex, TxnIndex, read_txn_index};
