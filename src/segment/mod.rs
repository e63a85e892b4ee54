//! One segment of a log: a file of batches and the two indexes beside it.
//!
//! Invariant: the batches in the `.log` file are the truth; indexes and hints cost time when they are wrong and never
//! change an answer. Nothing here knows a producer or a lock: what changes takes `&mut self`, what is shared is
//! immutable.

pub mod scan;

#[cfg(test)]
pub(crate) mod test_log;
