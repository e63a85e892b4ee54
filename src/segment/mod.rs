//! One segment of a log: a file of batches and the two indexes beside it.
//!
//! Invariant: the batches in the `.log` file are the truth; indexes cost time when they are wrong and never change an
//! answer. Nothing here knows a producer or a lock: what changes takes `&mut self`, what is shared is immutable or is
//! filled in once.

pub mod scan;

pub mod read;

pub mod indexes;

pub mod active;
pub mod roll;

mod mapped;
pub mod replace;
pub mod sealed;
pub mod set;

#[cfg(test)]
pub(crate) mod test_log;
