//! The rule at the heart: is this batch new, a duplicate, out of order or fenced?
//!
//! Invariant: nothing here does I/O, reads a clock, takes a lock or knows a file type. [`check`] looks and decides,
//! [`apply_data`] and [`apply_marker`] remember; append, follower append and recovery use the same two, which never
//! refuse. What is known of a producer is true of the log: a batch in an entry is stored, and what an entry counts as
//! proven is stored without a gap.

mod apply;
mod entry;
mod facts;
mod marker;
mod table;
mod transactions;
mod verdict;
mod verification;

#[cfg(test)]
mod tests;

pub use apply::{apply_data, apply_marker, fill_older};
pub use entry::{BadWindow, CachedBatch, Entry, MAX_PROVEN, WINDOW};
pub use facts::{BatchFacts, EndTxn, MarkerFacts, OffsetSpan, TransactionVersion};
pub use marker::{Marker, marker_of};
pub use table::{ProducerMap, ProducerTable};
pub use transactions::{OpenTxn, Transactions};
pub use verdict::{EverWritten, Policy, UnknownProducerPolicy, Verdict, check, check_marker};
pub use verification::{VerificationGuard, Verifications};
