//! The rule at the heart: is this batch new, a duplicate, out of order or fenced?
//!
//! Invariant: nothing here does I/O, reads a clock, takes a lock or knows a file type. [`check`] looks and decides,
//! [`apply`] remembers; append, follower append and recovery use the same [`apply`], which never refuses.

mod apply;
mod entry;
mod table;
mod verdict;

#[cfg(test)]
mod tests;

pub use apply::{apply_data, apply_marker};
pub use entry::{BatchFacts, CachedBatch, Entry, MarkerFacts, MAX_PROVEN, WINDOW};
pub use table::{ProducerMap, ProducerTable};
pub use verdict::{check, Policy, UnknownProducerPolicy, Verdict};
