//! Sparse indexes beside a segment: from offsets to positions, and from timestamps to offsets.
//!
//! Invariant: an index is a cache of what the batch headers say. Its file has no checksum, so what was read from one
//! is a claim: any bytes give some answer, quickly and without a panic, and the reader proves that answer against the
//! log before it is used. What was pushed in this process is known.

mod entry;
pub mod offset;
pub mod time;

pub use entry::{Claim, IndexSize, OffsetEntry, TimeClaim, TimeEntry, Trust, Unwritten};
pub use offset::{OffsetIndex, SealedOffsetIndex};
pub use time::{SealedTimeIndex, TimeIndex};
