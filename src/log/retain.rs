//! Deletion: the log start moves up, and the segments below it go.
//!
//! Invariant: producer state outlives the records. Before anything goes, two chains of runs end at or above the first
//! segment that stays, so that even a lost run costs no producer; then the manifest says where the log starts, durably;
//! only then readers are told and files are renamed to `.deleted`, which the next open removes if a crash leaves them.
//! Nothing above the high watermark goes, and no I/O happens under the append lock.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::handle::Log;
use super::shared::Shared;
use crate::checkpoint::{self, Chain, Merge};
use crate::error::Error;
use crate::format::names::{self, FileName};
use crate::retention::{self, Moment, Reason, Retention, SegmentUse};
use crate::segment::sealed::SealedSegment;
use crate::segment::set::SegmentSet;
use crate::storage::EntryKind;
use crate::testing::{Break, Point, broken, cross};
use crate::types::Offset;

/// Runs that are written at most before a deletion is given up: a checkpoint of a map that was frozen at a roll, one of
/// the rest, a higher base, and the same base again for the chain before.
const MOST_RUNS: usize = 6;

/// A file that is out of the log and not unlinked yet.
#[derive(Debug)]
pub(super) struct Doomed {
    pub(super) path: PathBuf,
    /// On the monotonic clock.
    pub(super) due: Duration,
}

impl Log {
    /// Deletes the records before `offset` (Kafka's `DeleteRecords`) and returns the first readable offset.
    ///
    /// When it returns, the new log start is durable. The segments wholly below it are out of the log; their files are
    /// unlinked [`crate::LogConfig::delete_delay_ms`] later. No producer is forgotten by it, and what
    /// [`Log::fetch`](Self::fetch) has given out stays readable. An offset at or below the log start changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] if `offset` is above the high watermark; [`Error::Unavailable`] if the producer state
    /// cannot be made to end there now (a log that follows an external high watermark may need to wait for it);
    /// [`Error::Io`] for what the system refuses. Nothing is deleted then.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Offset, Error> {
        self.shared.delete_records_before(offset)
    }

    /// Deletes the oldest segments that [`crate::LogConfig::retention`] no longer keeps, and returns how many. The log's
    /// own threads do it every [`crate::LogConfig::retention_check_ms`]; so does [`Log::maintain`](Self::maintain).
    ///
    /// If everything is too old, the log first goes on in a new segment.
    ///
    /// # Errors
    ///
    /// As [`Self::delete_records_before`].
    pub fn apply_retention(&self) -> Result<usize, Error> {
        self.shared.apply_retention()
    }
}

impl Shared {
    fn delete_records_before(&self, offset: Offset) -> Result<Offset, Error> {
        let _one_at_a_time = self.lock_background();
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        let (log_start_offset, high_watermark) = (self.log_start_offset(), self.high_watermark());
        if offset > high_watermark {
            let log_end_offset = high_watermark;
            return Err(Error::OffsetOutOfRange { asked: offset, log_start_offset, log_end_offset });
        }
        if offset > log_start_offset {
            self.start_at(offset)?;
        }
        Ok(self.log_start_offset())
    }

    fn apply_retention(&self) -> Result<usize, Error> {
        self.retention_checked.store(self.monotonic_ms(), Ordering::Release);
        let _one_at_a_time = self.lock_background();
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        let moment = self.moment();
        let segments = self.segment_uses();
        let (count, reason) = retention::expired(&segments, &moment, &self.retention());
        let (Some(reason), Some(last)) = (reason, count.checked_sub(1).and_then(|last| segments.get(last)))
        else {
            return Ok(0);
        };
        if count == segments.len() {
            self.roll_now()?;
        }
        self.log_deletion(count, reason, last.end);
        self.start_at(last.end.max(moment.log_start_offset))?;
        Ok(count)
    }

    fn log_deletion(&self, count: usize, reason: Reason, to: Offset) {
        tracing::info!(dir = %self.dir.display(), segments = count, ?reason, log_start = %to, "segments are deleted");
    }

    fn moment(&self) -> Moment {
        Moment {
            log_start_offset: self.log_start_offset(),
            high_watermark: self.high_watermark(),
            now_ms: self.clock.wall_ms(),
        }
    }

    /// What age and size may take away.
    fn retention(&self) -> Retention {
        if self.config.cleanup.deletes() { self.config.retention } else { Retention::default() }
    }

    /// Whether time alone makes a look at the retention due.
    pub(super) fn retention_is_due(&self) -> bool {
        let checked = self.retention_checked.load(Ordering::Acquire);
        !self.retention().keeps_everything()
            && self.monotonic_ms().saturating_sub(checked) >= self.config.retention_check_ms
    }

    /// When the first segment is not to be kept, by the wall clock in milliseconds, if nothing is written any more.
    pub(super) fn not_kept_at(&self) -> Option<i64> {
        let segments = self.segment_uses();
        let moment = self.moment();
        if retention::expired(&segments, &moment, &self.retention()).1.is_some() {
            return Some(moment.now_ms);
        }
        let age = i64::try_from(self.retention().max_age_ms?).unwrap_or(i64::MAX);
        let newest = segments.first()?.newest_timestamp?;
        Some(newest.saturating_add(age).saturating_add(1))
    }

    /// [`Self::apply_retention`] for the background, and the removal of what was deleted before.
    pub(super) fn retain(&self) -> Result<(), Error> {
        self.unlink_doomed(Some(self.clock.monotonic()));
        if self.retention_is_due() { self.apply_retention().map(drop) } else { Ok(()) }
    }

    /// What is known of each segment, the one that is appended to last.
    fn segment_uses(&self) -> Vec<SegmentUse> {
        let (view, active) = {
            let tail = self.lock_tail();
            let active = SegmentUse {
                base: tail.active.base(),
                end: tail.active.next_offset(),
                bytes: tail.active.len().0,
                newest_timestamp: tail.active.newest().map(|newest| newest.timestamp),
            };
            (self.view.read().clone(), active)
        };
        let ends = view.sealed().iter().skip(1).map(|next| next.base()).chain([active.base]);
        let mut uses: Vec<_> =
            view.sealed().iter().zip(ends).map(|(segment, end)| segment_use(segment, end)).collect();
        uses.push(active);
        uses
    }

    /// Moves the log start to `offset`, which is at or below the high watermark, and drops what lies below.
    fn start_at(&self, offset: Offset) -> Result<(), Error> {
        let kept = self.view.read().find(offset).map_or(offset, |segment| segment.base());
        if kept > self.view.read().first_base() && !broken(Break::DeleteBeforeBase) {
            self.let_two_chains_reach(kept)?;
            cross(Point::RetainReached);
        }
        self.leave_clean_state()?;
        if !broken(Break::ForgetLogStart) {
            self.write_manifest_or_latch(|manifest| {
                manifest.log_start_offset = offset;
                manifest.txn_indexes.retain(|note| note.base >= kept);
            })?;
        }
        cross(Point::RetainNamed);
        {
            let mut tail = self.lock_tail();
            tail.log_start_offset = offset;
            tail.leader_epochs.truncate_from_start(offset);
        }
        self.log_start.store(offset.0, Ordering::Release);
        self.drop_segments(kept);
        Ok(())
    }

    /// Makes the base, and the chain before it, end at or above `kept`, writing runs even when nothing has changed.
    pub(super) fn let_two_chains_reach(&self, kept: Offset) -> Result<(), Error> {
        for _ in 0..MOST_RUNS {
            let chain = Arc::clone(&self.lock_tail().chain);
            if chain.end().is_none_or(|end| end.offset < kept) {
                self.checkpoint_alone()?;
                continue;
            }
            let merge = if chain.base().is_some_and(|base| base.header().to.offset >= kept) {
                let named = self.manifest.lock().previous_chain.clone();
                let previous = Chain::open_longest(&*self.storage, &self.dir, &named)?.chain;
                if previous.end().is_some_and(|end| end.offset >= kept) {
                    return Ok(());
                }
                // The same base once more, under another name: what is the present chain now is then the one before.
                Merge::NewBase { runs: 1 }
            } else {
                let Some(higher) = checkpoint::plan_higher_base(&chain.shape(), self.high_watermark()) else {
                    break;
                };
                higher
            };
            self.merge_runs(&chain, merge).or_else(|failure| self.make_anew_after(failure))?;
        }
        Err(Error::Unavailable {
            why: format!(
                "no checkpoint of producers between offset {kept} and the high watermark yet; try again"
            ),
        })
    }

    /// Takes the segments below the one that begins at `kept` out of the log.
    fn drop_segments(&self, kept: Offset) {
        let gone = {
            let mut view = self.view.write();
            let count = view.sealed().partition_point(|segment| segment.base() < kept);
            let (left, gone) = SegmentSet::without_first(&view, count);
            *view = left;
            gone
        };
        if gone.is_empty() {
            return;
        }
        self.meters.deleted_segments.increment(gone.len() as u64);
        self.sealed_unwritten.lock().retain(|(segment, _)| segment.base() >= kept);
        let is_gone = |name: &str| match FileName::parse(name) {
            FileName::Log(base)
            | FileName::Index(base)
            | FileName::TimeIndex(base)
            | FileName::TxnIndex(base)
            | FileName::Snapshot(base) => base < kept,
            _ => false,
        };
        let entries = match self.storage.list(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "deleted segments stay until the next open");
                return;
            }
        };
        let due = self.clock.monotonic() + Duration::from_millis(self.config.delete_delay_ms);
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File && is_gone(&entry.name)) {
            let path = self.dir.join(names::deleted_name(&entry.name));
            match self.storage.rename(&self.dir.join(&entry.name), &path) {
                Ok(()) => self.doomed.lock().push(Doomed { path, due }),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a deleted file stays until the next open");
                }
            }
        }
        cross(Point::RetainRenamed);
        self.unlink_doomed(Some(self.clock.monotonic()));
    }

    /// Unlinks deleted files whose time has come; all of them if `now` is `None`.
    pub(super) fn unlink_doomed(&self, now: Option<Duration>) {
        let due: Vec<_> =
            self.doomed.lock().extract_if(.., |doomed| now.is_none_or(|now| doomed.due <= now)).collect();
        for doomed in due {
            match self.storage.unlink(&doomed.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %doomed.path.display(), %error, "a deleted file stays until the next open");
                }
                _ => {}
            }
        }
    }
}

fn segment_use(segment: &SealedSegment, end: Offset) -> SegmentUse {
    let newest = segment.newest().unwrap_or_else(|error| {
        // It does not go by age then; whoever reads it is told.
        tracing::warn!(path = %segment.path().display(), %error, "the age of a segment is not known");
        None
    });
    SegmentUse {
        base: segment.base(),
        end,
        bytes: segment.len().0,
        newest_timestamp: newest.map(|newest| newest.timestamp),
    }
}
