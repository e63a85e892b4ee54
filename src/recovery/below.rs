//! Which segments an interrupted deletion has left behind.
//!
//! Invariant: a segment is dropped only if it lies wholly below the log start and no producer's state needs it. Behind a
//! deletion of all records the next segment begins at the log start, and the newest run may end in the one before it.

use super::plan::Context;
use crate::checkpoint::{Chain, LongestChain};
use crate::error::Error;
use crate::format::manifest::Manifest;

/// How many of the oldest segments are there no more.
pub(super) fn dropped(context: &Context<'_>, manifest: &Manifest) -> Result<usize, Error> {
    let inventory = &context.inventory;
    let mut below = inventory.segments_below(manifest.log_start_offset);
    if below == 0 {
        return Ok(0);
    }
    let mut reached = None;
    for named in [&manifest.chain, &manifest.previous_chain] {
        let LongestChain { chain, .. } = Chain::open_longest(&**context.storage, context.dir, named)?;
        reached = reached.max(chain.end().map(|end| end.offset));
    }
    // Without any run, only the whole log can say who the producers are.
    let is_out_of_reach = |first: usize| inventory.segments.get(first).map(|s| s.base) > reached;
    while below > 0 && is_out_of_reach(below) {
        below -= 1;
    }
    Ok(below)
}
