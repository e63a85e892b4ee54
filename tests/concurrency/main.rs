//! Many callers of one log at a time: who shares a sync, who waits for whom, and that nobody waits for ever.
//!
//! The disk is simulated and the clock stands still, so that nothing is done only because time has passed. What must
//! happen *while* something else is under way is arranged by a gate in the disk, never by a sleep.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

mod gate;
mod world;

mod completions;
mod crowd;
mod leaving;
mod rolling;
mod room;
mod sharing;
