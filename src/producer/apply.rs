//! What a stored batch or marker changes in an entry: one fold for append, follower append and recovery.
//!
//! Invariant: nothing is refused here, because what is applied is in the log already. The epoch never decreases, the
//! window stays without a gap, `proven` counts nothing that was not seen. Applying again what an entry already covers
//! changes nothing.

use super::entry::{CachedBatch, Entry, MAX_PROVEN};
use super::facts::{BatchFacts, EndTxn, MarkerFacts, OffsetSpan};
use crate::types::{EngineTime, Offset, ProducerEpoch};

/// The entry after a data batch that is stored at `offsets`. `seen` is when, in engine time.
///
/// - A higher epoch empties the window and starts `proven` anew; batches of an older one, which only a follower can
///   meet, are not remembered.
/// - A batch that continues the newest one joins the window and adds its length to `proven`. One that does not (a
///   follower, a compacted log, an accepted unknown start) empties the window: `proven` is its own length.
/// - A batch at or below the newest offset is a replay: it changes nothing but, where it directly precedes what is
///   known, window and `proven` (see [`fill_older`]). If it is transactional not even that, because its outcome is not
///   known here.
/// - A transactional batch opens a transaction if none is open. A batch without sequence leaves the window alone.
#[inline]
#[must_use]
pub fn apply_data(entry: Option<&Entry>, facts: &BatchFacts, offsets: OffsetSpan, seen: EngineTime) -> Entry {
    let mut next = entry.copied().unwrap_or_else(|| Entry::new(facts.epoch, seen));
    next.last_seen = next.last_seen.max(seen);
    raise_epoch(&mut next, facts.epoch);

    let batch = facts.sequences().map(|(first_sequence, last_sequence)| CachedBatch {
        first_sequence,
        last_sequence,
        first_offset: offsets.first,
        last_offset: offsets.last,
        max_timestamp: facts.max_timestamp,
        aborted: false,
    });
    if is_replay(&next, offsets.last) {
        if let Some(batch) = batch.filter(|_| !facts.transactional) {
            fill_older(&mut next, facts.epoch, batch);
        }
        return next;
    }
    if let Some(batch) = batch.filter(|_| facts.epoch == next.epoch) {
        if !next.newest().is_some_and(|newest| newest.is_followed_by(&batch)) {
            next.clear_window();
        }
        next.push(batch);
        add_proven(&mut next, &batch);
    }
    if facts.transactional {
        next.txn_first_offset.get_or_insert(offsets.first);
    }
    next
}

/// The entry after an end-of-transaction marker that is stored at `offset` (`appendEndTxnMarker` in Kafka).
///
/// A higher epoch is taken over and empties the window; so is a higher coordinator epoch. The open transaction ends;
/// if it was aborted, its batches are flagged and nothing counts as proven any more. A marker below the first offset
/// of the open transaction ended an earlier one, and one below the newest batch is a replay whose flags are set.
#[must_use]
pub fn apply_marker(entry: Option<&Entry>, facts: &MarkerFacts, offset: Offset, seen: EngineTime) -> Entry {
    let mut next = entry.copied().unwrap_or_else(|| Entry::new(facts.epoch, seen));
    next.last_seen = next.last_seen.max(seen);
    next.coordinator_epoch = next.coordinator_epoch.max(facts.coordinator_epoch);
    raise_epoch(&mut next, facts.epoch);

    if let Some(first) = next.txn_first_offset.filter(|first| *first <= offset) {
        next.txn_first_offset = None;
        if facts.commit == EndTxn::Abort && !is_replay(&next, offset) {
            next.flag_aborted_from(first);
            next.proven = 0;
        }
    }
    next
}

/// Adds a batch that is older than all that `entry` knows, for a search backwards through the log: call it with the
/// newest batch first, and with the truth about `aborted`.
///
/// The batch joins the window if there is room and it directly precedes the oldest one, and `proven` if it directly
/// precedes the first proven sequence. Anything else is left out: another epoch, a gap, a batch that is known.
pub fn fill_older(entry: &mut Entry, epoch: ProducerEpoch, batch: CachedBatch) {
    if epoch != entry.epoch {
        return;
    }
    let (Some(oldest), Some(newest)) = (entry.oldest().copied(), entry.newest().copied()) else {
        entry.push(batch);
        if !batch.aborted {
            add_proven(entry, &batch);
        }
        return;
    };
    if batch.last_offset >= oldest.first_offset {
        return;
    }
    let touches_proven = entry.proven > 0
        && newest.last_sequence.next().steps_from(batch.last_sequence.next()) == entry.proven;
    if touches_proven && !batch.aborted {
        add_proven(entry, &batch);
    }
    if batch.is_followed_by(&oldest) {
        entry.push_oldest(batch);
    }
}

/// Whether the entry already covers what stands at `offset`.
#[inline]
fn is_replay(entry: &Entry, offset: Offset) -> bool {
    entry.newest().is_some_and(|newest| offset <= newest.last_offset)
}

#[inline]
fn raise_epoch(entry: &mut Entry, epoch: ProducerEpoch) {
    if epoch > entry.epoch {
        entry.epoch = epoch;
        entry.clear_window();
    }
}

#[inline]
fn add_proven(entry: &mut Entry, batch: &CachedBatch) {
    entry.proven = entry.proven.saturating_add(batch.length()).min(MAX_PROVEN);
}
