//! Compaction through the public API, on a simulated disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where by a panic")]

mod world;

mod crash;
mod faults;
mod hostile;
mod meanwhile;
mod policy;
mod properties;
mod rounds;
mod state;
