//! Directories that Apache Kafka 4.3.1 wrote, opened as logs: every offset, batch, record and producer is what Kafka
//! says it is, every retry of a stored batch is recognised, also where Kafka itself has forgotten it, and the log goes
//! on from there.
//!
//! What Kafka says stands in `tests/fixtures/kafka-4.3.1/*.expected.json`; nothing in it was computed by this crate.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

#[path = "../support/fixture.rs"]
mod fixture;

mod producers;
mod reading;
mod whole;

mod damaged;
mod foreign;
mod sound;
mod transactions;
