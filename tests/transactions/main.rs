//! Transactions inside one partition, through the public API, on a simulated disk.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

mod naive;
mod world;

mod aborted;
mod crash;
mod failures;
mod index_file;
mod markers;
mod retries;
mod stable;
mod truncation;
mod verification;
