//! Many partitions under one root, as Kafka lays them out.
//!
//! Invariant: one lock on the root stands for all of its partitions; one pool of threads works for all of them; one mark
//! says whether all of them were closed in order. Read `handle.rs` for what an embedder can do, `slot.rs` for the lives
//! of a partition, `open.rs` and `close.rs` for the root's beginning and end, `offsets.rs` for the files in the root.

mod config;
mod report;

mod inner;
mod offsets;
mod slot;

mod close;
mod copying;
mod delete;
mod half_moved;
mod housekeeping;
mod open;
mod relocate;
mod rest;
mod together;

mod handle;

pub use config::{ConfigOf, LogDirConfig, OnLogDirProgress};
pub use handle::{LogDir, Partition};
pub use report::{FoundPartition, LogDirProgress, LogDirReport, PartitionState};
pub use slot::PinnedLog;
