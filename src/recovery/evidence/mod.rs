//! What is known of the log before anything is scanned, and whether it still speaks of this log.
//!
//! Invariant: reads only. A claim (clean-close mark, manifest, watermark slot) is believed only if the batch that it
//! names stands where it says; indexes, `.snapshot`s and the mere existence of a later segment prove nothing.

pub(super) mod mark;
pub(super) mod watermark;
