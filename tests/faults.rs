//! Everything that can be made to fail is made to fail here, and every kind of bad input is handed in: the answer must
//! be the true one of `Rejected`, `Unavailable` and `Indeterminate`, the state must be that of before, nothing that was
//! acknowledged may be lost, and what can go on must go on.

#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

#[path = "faults/appends.rs"]
mod appends;
#[path = "faults/bad_input.rs"]
mod bad_input;
#[path = "faults/completions.rs"]
mod completions;
#[path = "faults/damage.rs"]
mod damage;
#[path = "faults/every_operation.rs"]
mod every_operation;
#[path = "faults/latch.rs"]
mod latch;
#[path = "faults/opening.rs"]
mod opening;
#[path = "faults/space.rs"]
mod space;
#[path = "faults/stand.rs"]
mod stand;
