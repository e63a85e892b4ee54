//! Compaction: of the records with one key the newest stays, of those that no round has seen and all before.
//!
//! Invariant: producer state outlives the records. Before anything goes, two chains of runs end above all that a round
//! may touch, in segments that it leaves alone; then the manifest says how far records may be missing. A new segment is
//! complete and durable before the old ones go (`segment::replace` has the steps), so that a crash leaves the old
//! records or the new ones, and the newest record of every key in either case.
//!
//! A round holds `compacting`; `background`, which checkpoints and truncations need, only while it begins and while it
//! puts a segment in place. In between it reads complete segments, which nobody changes. If some are gone at the end of
//! that, or the log was cut, the round is given up and nothing of it is left.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::generation::Ticket;
use super::handle::Log;
use super::segments::index_limits;
use super::shared::Shared;
use crate::compaction::{
    self, BatchFailure, Cleanable, Filter, Kept, LastWritten, Moment, OffsetMap, Output, Removed,
    SegmentShape, Survey, Transactions,
};
use crate::error::Error;
use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::segment::scan::{Continuity, Density};
use crate::segment::sealed::SealedSegment;
use crate::testing::{Break, Point, broken, cross};
use crate::types::{LeaderEpoch, LogPoint, Offset, Position, ProducerId};

/// A log that rests is woken for compaction this often at most.
const WAKE_MS: u64 = 10 * 60_000;

/// What a round of compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// The first offset that no earlier round had seen.
    pub from: Offset,
    /// Where the round ended (exclusive): short of what could be compacted if there was no memory for more keys.
    pub to: Offset,
    /// Segments that were read, and their bytes.
    pub segments_before: usize,
    /// See [`Self::segments_before`].
    pub bytes_before: u64,
    /// Segments that are there in their place, and their bytes.
    pub segments_after: usize,
    /// See [`Self::segments_after`].
    pub bytes_after: u64,
    /// What went.
    pub removed: Removed,
}

/// When a round is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// If there is anything to do.
    Now,
    /// If there is enough to do.
    Due,
}

/// A round that was decided.
pub(super) struct Round {
    segments: Vec<Arc<SealedSegment>>,
    from: Offset,
    aborted: Vec<AbortedTxn>,
    pub(super) generation: Ticket,
}

impl Log {
    /// Makes one round of compaction now, however little there is to do; `None` if there is nothing.
    ///
    /// A round reads all complete segments that are decided (below the last stable offset), older than
    /// [`crate::CompactionConfig::min_lag_ms`] and below what recovery needs, and writes those anew in which a record is
    /// replaced by a later one. Offsets do not change. What [`Log::fetch`](Self::fetch) has given out stays readable.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if [`crate::LogConfig::cleanup`] does not compact, if a codec is not built in, or if there is no
    /// memory for the keys of one batch; [`Error::Corrupt`] if a batch is damaged: nothing is written anew then, because
    /// a new CRC would hide it; [`Error::Unavailable`] if the log is closed or cut meanwhile; [`Error::Io`] for what the
    /// system refuses.
    pub fn compact(&self) -> Result<Option<Compacted>, Error> {
        self.shared.compact(When::Now)
    }
}

impl Shared {
    /// Whether time alone makes a look at what there is to compact due.
    pub(super) fn compaction_may_be_due(&self) -> bool {
        let checked = self.compaction_checked.load(Ordering::Acquire);
        self.config.cleanup.compacts()
            && !self.latched.load(Ordering::Acquire)
            && self.monotonic_ms().saturating_sub(checked) >= self.config.compaction.check_ms
    }

    /// When a round is due, by the wall clock in milliseconds, if nothing is written any more. Not soon: a round that
    /// cannot get further now must not keep waking a log that rests.
    pub(super) fn compaction_due_at(&self) -> Option<i64> {
        let config = &self.config.compaction;
        if !self.config.cleanup.compacts() {
            return None;
        }
        let sealed = self.view.read().sealed().to_vec();
        // What cannot be read is told to whoever reads it, or makes the round.
        let found = self.cleanable(&self.shapes(&sealed).ok()?, self.decided_offset(), When::Now)?;
        let now_ms = self.clock.wall_ms();
        let age = config.max_lag_ms.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
        let too_old_at =
            found.oldest_timestamp.zip(age).map(|(oldest, age)| oldest.saturating_add(age).saturating_add(1));
        let soon = now_ms.saturating_add(i64::try_from(config.check_ms.max(WAKE_MS)).unwrap_or(i64::MAX));
        let at = if compaction::is_due(&found, now_ms, config) { Some(now_ms) } else { too_old_at };
        at.map(|at| at.max(soon))
    }

    /// Makes a round if there is enough to do, and says that it was looked at.
    pub(super) fn compact_if_due(&self) -> Result<(), Error> {
        let outcome = self.compact(When::Due);
        self.compaction_checked.store(self.monotonic_ms(), Ordering::Release);
        match outcome {
            Ok(Some(done)) => {
                tracing::info!(dir = %self.dir.display(), from = %done.from, to = %done.to,
                    before = done.bytes_before, after = done.bytes_after, "compacted");
                Ok(())
            }
            Ok(None) => Ok(()),
            // It is asked again soon.
            Err(Error::Unavailable { why }) => {
                tracing::debug!(dir = %self.dir.display(), why, "a compaction was given up");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn compact(&self, when: When) -> Result<Option<Compacted>, Error> {
        let from = self.clock.monotonic();
        let done = self.make_round(when)?;
        if let Some(done) = &done {
            self.meters.compacted(done, self.clock.monotonic().saturating_sub(from));
        }
        Ok(done)
    }

    fn make_round(&self, when: When) -> Result<Option<Compacted>, Error> {
        if !self.config.cleanup.compacts() {
            let why = "the log is not compacted; set LogConfig::cleanup to Compact or CompactAndDelete";
            return Err(Error::Misuse(why.to_owned()));
        }
        let _one_at_a_time = self.compacting.lock();
        let Some(round) = self.begin_round(when)? else { return Ok(None) };
        let survey = self.survey(&round)?;
        let (to, map) = (survey.end(), survey.into_map());
        if to <= round.from {
            return Err(Error::Misuse(format!(
                "compaction.map_bytes is {}: too little for the keys of the batch at offset {}",
                self.config.compaction.map_bytes, round.from
            )));
        }
        let done = self.rewrite(&round, &map, to)?;
        let _background = self.lock_background();
        self.go_on(&round.generation)?;
        self.write_manifest_or_latch(|manifest| {
            manifest.compaction.clean_to = to;
            manifest.compaction.replacement = None;
        })?;
        Ok(Some(done))
    }

    /// Decides what a round takes, and makes the runs end above it.
    fn begin_round(&self, when: When) -> Result<Option<Round>, Error> {
        let _background = self.lock_background();
        self.refuse_if_closing()?;
        let generation = self.generation.ticket()?;
        self.write_sealed_indexes()?;
        let sealed = self.view.read().sealed().to_vec();
        let shapes = self.shapes(&sealed)?;
        let Some(wanted) = self.cleanable(&shapes, self.decided_offset(), when) else { return Ok(None) };
        let end = shapes.get(wanted.segments - 1).map_or(Offset::ZERO, |last| last.end);
        // One offset more: then the batch that a run is bound by lies in a segment that is left alone.
        self.let_two_chains_reach(end.saturating_add(1).min(self.high_watermark()))?;
        let limit = self.decided_offset().min(self.bound_from()?);
        let Some(taken) = self.cleanable(&shapes, limit, When::Now) else { return Ok(None) };
        self.leave_clean_state()?;
        let segments = sealed.into_iter().take(taken.segments).collect::<Vec<_>>();
        let first = segments.first().map_or(Offset::ZERO, |first| first.base());
        let end = segments.last().map_or(Offset::ZERO, |last| last.next_offset());
        let aborted = self.collect_aborted(first, first, end)?;
        Ok(Some(Round { segments, from: taken.from, aborted, generation }))
    }

    /// Below which every transaction has its marker.
    fn decided_offset(&self) -> Offset {
        if broken(Break::CompactionIgnoresOpen) { self.high_watermark() } else { self.last_stable_offset() }
    }

    fn cleanable(&self, shapes: &[SegmentShape], limit: Offset, when: When) -> Option<Cleanable> {
        let now_ms = self.clock.wall_ms();
        let clean_to = self.manifest.lock().compaction.clean_to;
        let moment = Moment { log_start_offset: self.log_start_offset(), clean_to, limit, now_ms };
        let config = &self.config.compaction;
        let found = compaction::cleanable(shapes, &moment, config)?;
        (when == When::Now || compaction::is_due(&found, now_ms, config)).then_some(found)
    }

    fn shapes(&self, sealed: &[Arc<SealedSegment>]) -> Result<Vec<SegmentShape>, Error> {
        let timed = self.config.compaction.max_lag_ms.is_some();
        let shape = |segment: &Arc<SealedSegment>| {
            Ok(SegmentShape {
                base: segment.base(),
                end: segment.next_offset(),
                bytes: segment.len().0,
                first_timestamp: if timed { first_timestamp(segment)? } else { None },
                newest_timestamp: match self.config.compaction.min_lag_ms {
                    0 => None,
                    _ => segment.newest()?.map(|newest| newest.timestamp),
                },
            })
        };
        sealed.iter().map(shape).collect()
    }

    fn survey(&self, round: &Round) -> Result<Survey, Error> {
        let config = &self.config.compaction;
        let end = round.segments.last().map_or(round.from, |last| last.next_offset());
        let records = u64::try_from(end.distance_from(round.from)).unwrap_or(0);
        let map = OffsetMap::with_budget(config.map_bytes, records);
        let transactions = Transactions::new(round.aborted.clone());
        let mut survey = Survey::new(map, transactions, round.from);
        for segment in round.segments.iter().filter(|segment| segment.next_offset() > round.from) {
            let mut full = false;
            self.walk(round, segment, |_, header, batch| {
                let flow = survey.take(header, batch)?;
                full = flow.is_break();
                Ok(flow)
            })?;
            if full {
                return Ok(survey);
            }
        }
        survey.all_seen(end);
        Ok(survey)
    }

    /// Shows every batch of a segment, proven, and stops for what stops a round.
    fn walk(
        &self,
        round: &Round,
        segment: &SealedSegment,
        mut visit: impl FnMut(Position, &BatchHeader, &[u8]) -> Result<ControlFlow<()>, BatchFailure>,
    ) -> Result<(), Error> {
        let mut failure = None;
        // Base offset and leader epoch stand outside of what a CRC covers.
        let start = Continuity::new(segment.base(), Density::Sparse, LeaderEpoch::NONE);
        let mut continuity = start.until(segment.next_offset());
        let scanned = segment.scan(|position, header, batch| {
            let step = self.go_on(&round.generation).and_then(|()| {
                let continues = continuity.check(header).map_err(BatchFailure::Malformed);
                let seen = continues.and_then(|()| visit(position, header, batch));
                seen.map_err(|failure| in_file(failure, segment, position, header))
            });
            step.unwrap_or_else(|error| {
                failure = Some(error);
                ControlFlow::Break(())
            })
        });
        if scanned.is_err() && !self.is_there(segment) {
            return Err(given_up("segments were deleted"));
        }
        scanned.and_then(|()| failure.map_or(Ok(()), Err))
    }

    fn rewrite(&self, round: &Round, map: &OffsetMap, to: Offset) -> Result<Compacted, Error> {
        // By the runs, which end above all that is touched and know only what is durable. What a producer has written since
        // may be lost to a power cut, and then its last batch before that is its last one.
        let chain = Arc::clone(&self.lock_tail().chain);
        let last_written = |id: ProducerId| {
            let known = chain.get(id).map_err(|error| {
                self.chain_is_damaged();
                Error::Unavailable { why: format!("the state of producer {id} cannot be read: {error}") }
            })?;
            Ok(known.map(|entry| LastWritten {
                epoch: entry.epoch,
                last_offset: entry.newest().map(|batch| batch.last_offset),
            }))
        };
        let config = &self.config.compaction;
        let transactions = Transactions::new(round.aborted.clone());
        let now_ms = self.clock.wall_ms();
        let mut filter =
            Filter::new(map, to, transactions, now_ms, config.delete_retention_ms, &last_written);
        // What was deleted since the round began is no reason to read all of the rest once more.
        let is_left = |segment: &&Arc<SealedSegment>| segment.base() < to && self.is_there(segment);
        let taken: Vec<_> = round.segments.iter().filter(is_left).cloned().collect();
        let shapes: Vec<_> = taken.iter().map(shape_of).collect();
        let mut done = Compacted {
            from: round.from,
            to,
            segments_before: taken.len(),
            bytes_before: shapes.iter().fold(0, |sum, shape| sum.saturating_add(shape.bytes)),
            segments_after: 0,
            bytes_after: 0,
            removed: Removed::default(),
        };
        for range in compaction::groups(&shapes, u64::from(self.config.segment_bytes)) {
            let group = taken.get(range).unwrap_or_default();
            match self.rewrite_group(round, group, &mut filter, to)? {
                Some(end) => {
                    done.segments_after += 1;
                    done.bytes_after += end.position.0;
                }
                None => {
                    done.segments_after += group.len();
                    done.bytes_after += group.iter().map(|segment| segment.len().0).sum::<u64>();
                }
            }
        }
        done.removed = filter.removed();
        Ok(done)
    }

    /// Writes a group of neighbours as one segment and puts it in their place; `None` if nothing changes.
    fn rewrite_group(
        &self,
        round: &Round,
        group: &[Arc<SealedSegment>],
        filter: &mut Filter<'_>,
        to: Offset,
    ) -> Result<Option<LogPoint>, Error> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(None) };
        let Some(last_filled) = group.iter().rfind(|segment| !segment.is_empty()) else { return Ok(None) };
        let limits = index_limits(&self.config);
        let mut output = Output::create(&*self.storage, &self.dir, first.base(), limits)?;
        let mut changed = group.len() > 1;
        let outcome = group.iter().try_for_each(|segment| {
            self.walk(round, segment, |position, header, batch| {
                let end = position.saturating_add(header.size() as u64);
                // The last batch names the new segment, and where the old ones ended.
                let named = segment.base() == last_filled.base() && end == segment.len();
                let kept = filter.take(header, batch, named)?;
                changed |= kept != Kept::AsItIs;
                let header = match kept {
                    Kept::Nothing => return Ok(ControlFlow::Continue(())),
                    Kept::AsItIs => {
                        output.push(header, batch)?;
                        *header
                    }
                    Kept::Anew(bytes) => {
                        let header = BatchHeader::parse(&bytes)?;
                        output.push(&header, &bytes)?;
                        header
                    }
                };
                if header.attributes.is_control() && header.record_count > 0 {
                    let ended = |txn: &&AbortedTxn| txn.last_offset == header.last_offset();
                    round.aborted.iter().filter(ended).for_each(|txn| output.push_aborted(*txn));
                }
                Ok(ControlFlow::Continue(()))
            })
        });
        let discard = || Output::discard(&*self.storage, &self.dir, first.base());
        if outcome.is_err() || !changed {
            discard();
            return outcome.map(|()| None);
        }
        let placed = output.finish(last.next_offset()).and_then(|(end, note)| {
            cross(Point::CompactionWritten);
            self.put_in_place(round, group, end, note, to).map(|()| Some(end))
        });
        // Behind the intent a failure latches the log, and nothing is touched any more.
        if placed.is_err() && self.latch_error().is_none() {
            discard();
        }
        placed
    }

    /// Whether the segment is in the log.
    fn is_there(&self, segment: &SealedSegment) -> bool {
        let view = self.view.read();
        view.sealed()
            .iter()
            .any(|now| now.base() == segment.base() && now.next_offset() == segment.next_offset())
    }

    /// Whether the log is still what the round was begun on.
    pub(super) fn go_on(&self, generation: &Ticket) -> Result<(), Error> {
        if generation.check().is_err() {
            return Err(given_up("the log was cut"));
        }
        self.refuse_if_closing()
    }

    fn refuse_if_closing(&self) -> Result<(), Error> {
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        if let Some(refusal) = self.generation.refusal() {
            return Err(refusal);
        }
        if self.queue.is_closed() { Err(given_up("the log is being closed")) } else { Ok(()) }
    }
}

/// Largest timestamp of the first batch, in milliseconds, if it has one.
fn first_timestamp(segment: &SealedSegment) -> Result<Option<i64>, Error> {
    let first = segment.locate(segment.base())?;
    Ok(first.map(|batch| batch.header().max_timestamp).filter(|timestamp| *timestamp >= 0))
}

fn shape_of(segment: &Arc<SealedSegment>) -> SegmentShape {
    SegmentShape {
        base: segment.base(),
        end: segment.next_offset(),
        bytes: segment.len().0,
        first_timestamp: None,
        newest_timestamp: None,
    }
}

pub(super) fn given_up(why: &str) -> Error {
    Error::Unavailable { why: format!("{why} during a compaction; what it had not finished is as before") }
}

fn in_file(
    failure: BatchFailure,
    segment: &SealedSegment,
    position: Position,
    header: &BatchHeader,
) -> Error {
    match failure {
        BatchFailure::Malformed(malformed) => {
            let advice = "nothing was changed; run `oncelog verify` and restore the file";
            let len = header.size() as u64;
            Error::Corrupt(Box::new(malformed.in_file(segment.path(), position.0, len, advice)))
        }
        BatchFailure::Codec(error) => {
            Error::Misuse(format!("batch at offset {}: {error}", header.base_offset))
        }
        BatchFailure::Other(error) => error,
    }
}

#[cfg(test)]
mod tests;
