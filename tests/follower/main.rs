//! A log as one of several replicas: leader epochs, truncation, appends of a follower, the high watermark of others.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod world;

mod append;
mod epochs;
mod every_operation;
mod gaps;
mod high_watermark;
mod transactions;
mod truncation;
