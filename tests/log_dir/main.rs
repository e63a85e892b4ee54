//! Many partitions under one root: opening, closing, crashing, deleting, and the files that Kafka reads there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adoption;
mod callbacks;
mod crash;
mod cuts;
mod deletion;
mod descriptors;
mod faults;
mod half_moved;
mod holders;
mod ids;
mod lives;
mod moving;
mod offsets;
mod opening;
mod threads;
mod world;
