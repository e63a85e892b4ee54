//! A log as one of many under a root: what its directory lends it, and what it tells its directory.
//!
//! Invariant: whoever opens a log here holds the lock of the whole root. A log that is closed or retired in place touches
//! no path any more, however long somebody keeps a handle: its directory may be another's by then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::LogConfig;
use super::generation::Cuts;
use super::handle::Log;
use super::open::{self, Environment, Locks};
use super::pool::Lanes;
use super::root_mark::RootMark;
use super::shared::Shared;
use crate::error::Error;
use crate::format::names::{self, PartitionName};
use crate::recovery::{Recovered, RecoveryReport, UnderRoot};
use crate::segment::active::ActiveSegment;
use crate::storage::{self, RootLock, Storage};
use crate::types::{LeaderEpoch, Offset};

/// Descriptors that a log opens for a moment: a checkpoint's run and temporary file, index files.
const PASSING: usize = 2;

/// Takes what the root's files say of a log down to where it is about to be cut, durably.
pub(crate) type LowerLines = Arc<dyn Fn(Lowered) -> Result<(), Error> + Send + Sync>;

/// Down to where the root's files may speak of a log that is about to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lowered {
    /// The log will not end below it.
    pub(crate) recovery_point: Offset,
    /// The log will not end above it, nor begin.
    pub(crate) end: Offset,
}

/// What a log does not have for itself.
#[derive(Clone)]
pub(crate) struct Host {
    /// The threads that work for it; `None`: only callers do.
    pub(crate) lanes: Option<Arc<Lanes>>,
    pub(crate) mark: Arc<RootMark>,
    /// What the root's owner has read there; `None`: recovery reads it.
    pub(crate) root: Option<UnderRoot>,
    /// The partition's, for as long as anybody may hold what was fetched from it.
    pub(crate) cuts: Cuts,
    /// Told before a log is cut; `None`: nobody keeps the root's files.
    pub(crate) lower_lines: Option<LowerLines>,
}

/// Makes the root if it is missing, takes its lock for a single holder, and makes its name durable.
pub(crate) fn lock_root_alone(storage: &Arc<dyn Storage>, root: &Path) -> Result<RootLock, Error> {
    storage.create_dir_all(root).map_err(|error| Error::io("create", root, error))?;
    let path = root.join(names::ROOT_LOCK);
    let holder = "a Kafka broker, another process, or a log of this process is open under this root";
    let lock =
        storage::lock_whole_root(storage, &path).map_err(|error| open::locked(error, &path, holder))?;
    // Of directories that were just made, the root's own included, and of partitions that a dead process has made.
    open::sync_names_above(&**storage, &root.join("x"))?;
    Ok(lock)
}

/// What is known of a log without having it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Base offset of the first segment.
    pub(crate) first_base: Offset,
    pub(crate) log_start_offset: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end_offset: Offset,
    /// Kafka need not look at what lies below.
    pub(crate) recovery_point: Offset,
    /// What the next batch is stamped with.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// When a log that rests is to be woken, in milliseconds of the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Its first segment is not to be kept then: too old, or too much already.
    pub(crate) retention_at: Option<i64>,
    /// A round of compaction is due then.
    pub(crate) compaction_at: Option<i64>,
}

/// The segment below which the index files are known to be complete: all of them after a clean close; else those that
/// the recovery point of the root has passed.
pub(super) fn indexes_durable_at_open(
    dir: &Path,
    recovered: &Recovered,
    active: &ActiveSegment,
    host: &Host,
) -> Offset {
    if recovered.clean {
        return active.base();
    }
    let name =
        dir.file_name().and_then(|name| name.to_str()).and_then(|name| PartitionName::parse(name).ok());
    let point =
        host.root.as_ref().zip(name).and_then(|(root, name)| root.files.recovery_points.get(&name).copied());
    // A line above the end was true of another log: of this one before it was cut.
    let point = point.filter(|point| *point <= recovered.end.offset);
    let bases = recovered.segments.iter().map(|segment| segment.base);
    bases.take_while(|base| point.is_some_and(|point| *base <= point)).last().unwrap_or(Offset::ZERO)
}

impl Log {
    /// Opens the log in `dir`, whose root the caller has locked as a whole.
    pub(crate) fn open_hosted(
        dir: &Path,
        config: LogConfig,
        environment: Environment,
        host: &Host,
    ) -> Result<(Self, RecoveryReport), Error> {
        config.validate()?;
        let (shared, report) = open::open_under(dir, config, environment, host)?;
        Ok((Self { shared, _pool: None, locks: Locks::default() }, report))
    }

    /// [`Log::close`] for a log that others may hold: they are answered [`Error::Closed`] from now on.
    pub(crate) fn close_in_place(&self) -> Result<(), Error> {
        let closed = self.shared.close_cleanly();
        self.retire("closed");
        // Whoever still held the log may have cut or deleted meanwhile: then the mark is gone, and the root must not say
        // that all was left clean.
        if closed.is_ok() && !self.shared.marked_clean.load(Ordering::Acquire) {
            return Err(Error::Unavailable { why: "the log was changed while it was closed".to_owned() });
        }
        closed
    }

    /// Answers what was submitted, without making it durable, and lets go of the directory.
    pub(crate) fn retire(&self, why: &str) {
        self.shared.retire(why);
    }

    /// What dropping the last handle does, for a log that others may hold.
    pub(crate) fn abandon(&self) {
        self.shared.queue.close();
        self.shared.leave_background();
        self.shared.answer_everybody();
        self.retire("dropped");
    }

    /// Writes what was submitted before, and ends the rolls that stand before it.
    pub(crate) fn write_submitted(&self) {
        self.shared.write_submitted();
    }

    /// What to remember of it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if an index file cannot be made durable.
    pub(crate) fn heads(&self) -> Result<Heads, Error> {
        Ok(self.heads_at(self.shared.recovery_point()?))
    }

    /// The highest line in the root's file of recovery points that stays true whatever is appended: not the end of a segment
    /// whose index files are not durable, because the next one may begin there.
    pub(crate) fn highest_line(&self) -> Offset {
        let end = self.log_end_offset();
        let safe = self.shared.marked_clean.load(Ordering::Acquire)
            || self.shared.view.read().active().base() >= end;
        if safe { end } else { end.saturating_add(-1) }
    }

    /// [`Self::heads`] with a recovery point that is known already.
    pub(crate) fn heads_at(&self, recovery_point: Offset) -> Heads {
        let ceiling = Offset(self.shared.line_ceiling.load(Ordering::SeqCst));
        let leader_epoch = self.shared.lock_tail().leader_epoch;
        let first_base = self.shared.view.read().first_base();
        Heads {
            first_base,
            log_start_offset: self.log_start_offset().min(ceiling),
            high_watermark: self.high_watermark().min(self.shared.durable_offset()).min(ceiling),
            log_end_offset: self.log_end_offset(),
            recovery_point,
            leader_epoch,
        }
    }

    /// When there is something to do for it, if nothing is written any more.
    pub(crate) fn due(&self) -> Due {
        Due { retention_at: self.shared.not_kept_at(), compaction_at: self.shared.compaction_due_at() }
    }

    /// Makes a round of compaction if there is enough to do.
    ///
    /// # Errors
    ///
    /// As [`Log::compact`].
    pub(crate) fn compact_if_due(&self) -> Result<(), Error> {
        self.shared.compact_if_due()
    }

    /// Whether closing it loses nothing that only memory knows.
    pub(crate) fn may_rest(&self) -> bool {
        self.shared.queue.is_empty() && self.shared.lock_tail().verifications.is_empty()
    }

    /// About how many descriptors it needs now.
    pub(crate) fn descriptors(&self) -> usize {
        let (runs, next) = {
            let tail = self.shared.lock_tail();
            (tail.chain.len(), usize::from(tail.next_segment.is_some()))
        };
        let sealed = self.shared.view.read().sealed().iter().filter(|segment| segment.is_open()).count();
        // The active segment, the watermark, and what passes.
        2 + next + runs + sealed + PASSING
    }

    /// Closes the segments that were opened for readers; they are opened again when they are read. None while `background`
    /// is held: compaction keeps those open whose names it gives to another, until the set is without them.
    pub(crate) fn release_sealed(&self) {
        let Some(_background) = self.shared.try_lock_background() else { return };
        let view = self.shared.view.read().clone();
        let unwritten: Vec<_> =
            self.shared.sealed_unwritten.lock().iter().map(|(segment, _)| segment.base()).collect();
        for segment in view.sealed() {
            if segment.is_open() && !unwritten.contains(&segment.base()) && !segment.indexes_rebuilt() {
                let mut view = self.shared.view.write();
                *view = view.releasing(segment);
            }
        }
    }

    /// Whether it is read-only because of a failed sync.
    pub(crate) fn is_latched(&self) -> bool {
        self.shared.latched.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Refuses those who still hold a log whose directory is another's.
    pub(super) fn still_here(&self) -> Result<(), Error> {
        if self.retired.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn retire(&self, why: &str) {
        // No note of a failed sync either: there was none.
        self.latch_noted.store(true, Ordering::Release);
        self.queue.close();
        self.leave_background();
        // Whoever is at work has ended when these are held, and whoever comes later finds the log latched. A round of
        // compaction finds the queue closed, and gives up.
        let round = self.compacting.lock();
        let exports = self.exporting.write();
        let at_work =
            (self.background.lock(), self.making_segment.lock(), self.combiner.lock(), self.syncer.lock());
        let mut done = Vec::new();
        self.latch(why, &mut done);
        self.retired.store(true, Ordering::Release);
        self.slots_dirty.store(false, Ordering::Release);
        drop((at_work, exports, round));
        self.deliver(done);
        // What waited in the queue is refused.
        self.drive();
    }

    /// How far Kafka may trust the log: durable, and with index files that are complete, trimmed and synced in all
    /// segments but the one that the offset lies in, which Kafka reads as a whole after an unclean stop.
    fn recovery_point(&self) -> Result<Offset, Error> {
        if self.marked_clean.load(Ordering::Acquire) {
            return Ok(self.log_end_offset());
        }
        let background = self.try_lock_background();
        // Behind the lock, which a truncation holds from before its first write to after its last. While one has it, the
        // ceiling is the lower of the two.
        let durable = self.durable_offset().min(Offset(self.recovery_ceiling.load(Ordering::SeqCst)));
        // A checkpoint that runs now writes index files: the next time will do.
        if background.is_none() || self.latched.load(Ordering::Acquire) {
            return Ok(self.trusted_up_to(durable));
        }
        let active = self.view.read().active().base();
        if self.indexes_durable.lock().below < active {
            self.write_sealed_indexes()?;
            self.write_lost_indexes()?;
            self.sync_sealed_indexes()?;
        }
        // A segment that was rolled away since is not looked at yet.
        Ok(self.trusted_up_to(durable))
    }

    /// Of what lies below `durable`, how much Kafka may trust, now and after the next roll.
    ///
    /// That roll may begin a segment at the log end. The active one, whose index files are not durable, would then lie
    /// wholly below a recovery point that is there, so such a one is put at its beginning. To Kafka, which checks the whole
    /// segment that its recovery point is in, that says the same.
    fn trusted_up_to(&self, durable: Offset) -> Offset {
        // In this order: a roll in between shows in the segment.
        let end = self.log_end_offset();
        let active = self.view.read().active().base();
        let indexes = self.indexes_durable.lock().below;
        let durable = if durable < end { durable } else { durable.min(active) };
        if indexes >= active { durable } else { durable.min(indexes) }
    }
}
