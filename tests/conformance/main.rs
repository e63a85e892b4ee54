//! Kafka's own unit tests, as far as they bind this log, asked through the public API: each test here names the test
//! of Kafka whose rule it pins. `docs/CONFORMANCE.md` has the whole list, with where each rule is kept or why it does
//! not apply.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

mod world;

mod append;
mod deletion;
mod producers;
mod read;
mod recovery;
mod roll;
mod snapshots;
mod validator;
