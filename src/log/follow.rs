//! Append as a follower: batches as the leader wrote them, at the offsets that the leader gave.
//!
//! Invariant: not a byte is changed and no producer is judged; what the leader has accepted is applied by the same
//! functions as at the leader. What is checked is what a recovery will ask of the log: frame, CRC, offsets that rise, and
//! leader epochs that do not fall. Source: Kafka's `UnifiedLog.appendAsFollower`.
//!
//! The batches of one buffer are requests of their own, written in their order. Each but the first must begin where
//! nothing came in between since the one before; when one fails all behind it fail with the same error.

use std::sync::{Arc, OnceLock};

use super::verdict::Facts;
use crate::error::{Error, Malformed, Rejection};
use crate::format::batch::{BatchHeader, CheckedBatch, LOG_OVERHEAD, RawBatch};
use crate::producer::{BatchFacts, Marker, marker_of};
use crate::types::{LeaderEpoch, Offset};

/// What a batch of a follower is held to.
#[derive(Clone, Debug)]
pub(super) struct Follow {
    pub(super) facts: Facts,
    /// Offset of the first record of the whole buffer.
    pub(super) first: Offset,
    /// Offset of the last one.
    pub(super) last: Offset,
    /// Where the batch before it in the buffer ends, if there is one.
    after: Option<Offset>,
    fate: Arc<OnceLock<Error>>,
}

impl Follow {
    /// Why the batch cannot be appended to a log that ends at `end` with a batch of `newest`.
    pub(super) fn refusal(&self, header: &BatchHeader, end: Offset, newest: LeaderEpoch) -> Option<Error> {
        if let Some(error) = self.fate.get() {
            return Some(error.clone());
        }
        // A roll in between moves the end to the far side of a gap.
        let next = |after| after == end || header.base_offset == end;
        let continues = self.after.map_or(header.base_offset >= end, next);
        if !continues {
            return Some(Error::UnexpectedAppendOffset {
                first: self.first,
                last: self.last,
                log_end_offset: end,
            });
        }
        stale(header.leader_epoch, newest)
    }

    /// The batch was not appended: those behind it are not either.
    pub(super) fn failed(&self, error: &Error) {
        // The first error counts.
        let _already_failed = self.fate.set(error.clone());
    }
}

/// Whether a batch leaves out offsets that a dense log would have.
pub(super) fn leaves_a_gap(header: &BatchHeader, end: Offset) -> bool {
    header.base_offset != end || i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1
}

fn stale(found: LeaderEpoch, newest: LeaderEpoch) -> Option<Error> {
    (found < newest).then_some(Error::FencedLeaderEpoch { newest, found })
}

/// A batch with what it is held to.
pub(super) type Followed = (CheckedBatch, Follow);

/// Takes a buffer of batches apart and proves each. A beginning of a batch at the end is left out, as a fetch of
/// limited size has it.
pub(super) fn split(buffer: &RawBatch) -> Result<(Vec<Followed>, Followed), Error> {
    let bytes = &buffer.0;
    let mut batches: Vec<CheckedBatch> = Vec::new();
    let mut at = 0;
    while let Some(size) = whole_batch(bytes.get(at..).unwrap_or_default())? {
        let batch = RawBatch(bytes.slice(at..at + size)).check().map_err(refused)?;
        if let Some(before) = batches.last().map(CheckedBatch::header) {
            continues(before, batch.header())?;
        }
        batches.push(batch);
        at += size;
    }
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        let malformed =
            Malformed::new("batches", 0, "at least one whole batch", format!("{} bytes", bytes.len()));
        return Err(Rejection::CorruptMessage(malformed).into());
    };
    let (first, last) = (first.header().base_offset, last.header().last_offset());
    let fate = Arc::new(OnceLock::new());
    let mut after = None;
    let mut followed: Vec<Followed> = batches
        .into_iter()
        .map(|batch| {
            let end = batch.header().next_offset();
            let facts = facts_of(&batch);
            (batch, Follow { facts, first, last, after: after.replace(end), fate: Arc::clone(&fate) })
        })
        .collect();
    followed.pop().map(|last_one| (followed, last_one)).ok_or(Error::Closed)
}

/// Size of the batch at the beginning of `bytes`; `None` if it is not whole.
fn whole_batch(bytes: &[u8]) -> Result<Option<usize>, Error> {
    if bytes.len() < LOG_OVERHEAD {
        return Ok(None);
    }
    match BatchHeader::parse(bytes) {
        Ok(header) => Ok(Some(header.size()).filter(|size| *size <= bytes.len())),
        Err(malformed) if malformed.field == "batch header" => Ok(None),
        Err(malformed) => Err(refused(malformed)),
    }
}

fn continues(before: &BatchHeader, header: &BatchHeader) -> Result<(), Error> {
    if header.base_offset < before.next_offset() {
        return Err(Error::UnexpectedAppendOffset {
            first: header.base_offset,
            last: header.last_offset(),
            log_end_offset: before.next_offset(),
        });
    }
    stale(header.leader_epoch, before.leader_epoch).map_or(Ok(()), Err)
}

fn facts_of(batch: &CheckedBatch) -> Facts {
    let header = batch.header();
    if !header.attributes.is_control() {
        return BatchFacts::of(header).map_or(Facts::Anonymous, Facts::Data);
    }
    match marker_of(header, batch.bytes()) {
        Marker::End(facts) => Facts::End(facts),
        Marker::Other | Marker::Unreadable => Facts::Anonymous,
    }
}

fn refused(malformed: Malformed) -> Error {
    if malformed.field == "magic" {
        Rejection::InvalidRecord(malformed).into()
    } else {
        Rejection::CorruptMessage(malformed).into()
    }
}
