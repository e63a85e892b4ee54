//! The state that the parts of one log share, and the order of its locks.
//!
//! Locks are taken in this order and no callback runs under any of them:
//!
//! | lock | guards | held across I/O? |
//! |---|---|---|
//! | `combiner` | the right to drain the queue, and the scratch of a turn | yes: run look-ups, the first manifest after a clean open |
//! | `tail` (the append lock) | active segment, producer maps, present chain | positional writes; rename at a roll; after a failed write set-length and sync |
//! | `syncer` | the right to sync the log's files; the watermark slots | yes: that is its purpose |
//! | `manifest` | the manifest as it stands on disk | yes: its replacement |
//!
//! `written`, `waiters`, `transactions`, `view` and the queue's own lock are leaves: nothing is taken and no I/O done under them.
//! The chosen kind is a plain mutex everywhere: each critical section is short or belongs to one thread by design.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::answers::{Call, Quiet};
use super::completion::{Appended, Reply};
use super::config::LogConfig;
use super::export::IndexesDurable;
use super::generation::Generation;
use super::hosted::LowerLines;
use super::meters::Meters;
use super::pool::Membership;
use super::queue::Queue;
use super::retain::Doomed;
use super::root_mark::RootMark;
use super::transactions::UndecidedAt;
use super::unit::Turn;
use super::worker::{Duty, Task};
use crate::checkpoint::{Chain, WatermarkFile};
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::leader_epoch::LeaderEpochs;
use crate::producer::{Entry, EverWritten, ProducerTable, Transactions, Verifications};
use crate::segment::active::ActiveSegment;
use crate::segment::indexes::IndexTail;
use crate::segment::sealed::SealedSegment;
use crate::segment::set::SegmentSet;
use crate::storage::{Clock, File, Storage};
use crate::testing::AppendLockMark;
use crate::types::{EngineTime, History, LeaderEpoch, LogPoint, Offset, ProducerId};

/// What the append lock guards.
pub(super) struct Tail {
    pub(super) active: ActiveSegment,
    pub(super) producers: ProducerTable,
    /// Where the frozen map was frozen, while there is one.
    pub(super) frozen_at: Option<LogPoint>,
    /// What was undecided there.
    pub(super) frozen_txns: UndecidedAt,
    pub(super) verifications: Verifications,
    pub(super) chain: Arc<Chain>,
    /// The next segment's file under its temporary name, once it is made.
    pub(super) next_segment: Option<Arc<dyn File>>,
    pub(super) leader_epoch: LeaderEpoch,
    /// First offset of each leader epoch in the log.
    pub(super) leader_epochs: LeaderEpochs,
    /// Where the segment before the active one ends, if it was rolled since the open.
    pub(super) sealed_end: Option<LogPoint>,
    pub(super) ever_written: EverWritten,
    pub(super) history: History,
    pub(super) log_start_offset: Offset,
    /// Log bytes written since the newest freeze.
    pub(super) bytes_since_checkpoint: u64,
}

impl Tail {
    /// The log end, named by the batch that ends there: at the beginning of a segment, by the last one before it.
    pub(super) fn end(&self) -> LogPoint {
        let end = self.active.point();
        self.sealed_end
            .filter(|sealed| end.last_batch.is_none() && sealed.offset == end.offset)
            .unwrap_or(end)
    }
}

/// The append lock, held. In a build for tests the thread is marked as its holder.
pub(super) struct TailGuard<'a> {
    tail: MutexGuard<'a, Tail>,
    _mark: AppendLockMark,
}

impl Deref for TailGuard<'_> {
    type Target = Tail;

    fn deref(&self) -> &Tail {
        &self.tail
    }
}

impl DerefMut for TailGuard<'_> {
    fn deref_mut(&mut self) -> &mut Tail {
        &mut self.tail
    }
}

/// The written end of the log, which is ahead of the durable one.
pub(super) struct Written {
    pub(super) end: LogPoint,
    pub(super) file: Arc<dyn File>,
    /// A roll whose old segment is not known durable yet.
    pub(super) unfinished_roll: Option<UnfinishedRoll>,
    pub(super) unsynced_since: Option<Duration>,
}

#[derive(Clone)]
pub(super) struct UnfinishedRoll {
    pub(super) old_end: LogPoint,
    pub(super) old_file: Arc<dyn File>,
}

/// A reply that waits until the log is durable up to `end`.
pub(super) struct Waiting {
    pub(super) end: Offset,
    pub(super) reply: Arc<Reply>,
    pub(super) appended: Appended,
}

/// Who waits for durability, and how far it has come.
pub(super) struct Waiters {
    /// In ascending order of `end`.
    pub(super) appended: VecDeque<Waiting>,
    /// Duplicates, whose originals lie anywhere.
    pub(super) duplicates: Vec<Waiting>,
    pub(super) durable: LogPoint,
    /// Why the log is read-only, once a sync has failed.
    pub(super) latched: Option<Arc<str>>,
}

impl Waiters {
    pub(super) fn is_empty(&self) -> bool {
        self.appended.is_empty() && self.duplicates.is_empty()
    }
}

/// What the sync lock guards.
pub(super) struct Syncer {
    pub(super) slots: WatermarkFile,
}

/// A log, as its threads and callers share it.
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: LogConfig,
    pub(super) meters: Meters,
    pub(super) queue: Queue,
    pub(super) combiner: Mutex<Turn>,
    pub(super) tail: Mutex<Tail>,
    pub(super) syncer: Mutex<Syncer>,
    pub(super) manifest: Mutex<Manifest>,
    pub(super) written: Mutex<Written>,
    pub(super) waiters: Mutex<Waiters>,
    /// Written with the append lock held.
    pub(super) transactions: Mutex<Transactions>,
    /// The high watermark that the embedder has set. A leaf.
    pub(super) replicated: Mutex<LogPoint>,
    pub(super) view: RwLock<SegmentSet>,
    /// One checkpoint, merge or rebuild at a time; taken before every other lock. Held for long: its holder is quiet.
    pub(super) background: Mutex<()>,
    /// One round of compaction at a time; taken before `background`, which it holds only to begin and to end a step.
    pub(super) compacting: Mutex<()>,
    /// When the last look at what there is to compact was, in milliseconds of the monotonic clock.
    pub(super) compaction_checked: AtomicU64,
    /// One thread makes the next segment; taken before every other lock.
    pub(super) making_segment: Mutex<()>,
    /// Held for reading while a segment is exported, whose state is written without `background`; taken before that one.
    pub(super) exporting: RwLock<()>,
    /// What quiet threads have left to others to call. A leaf.
    pub(super) owed: Mutex<Vec<Call>>,
    /// Segments that were rolled away and whose index files are not written yet.
    pub(super) sealed_unwritten: Mutex<Vec<(Arc<SealedSegment>, Arc<IndexTail>)>>,
    /// What `leader-epoch-checkpoint` says, as far as that is known.
    pub(super) epoch_file: Mutex<Option<LeaderEpochs>>,
    /// Files of deleted segments that are not unlinked yet.
    pub(super) doomed: Mutex<Vec<Doomed>>,
    /// When the retention was looked at last, in milliseconds of the monotonic clock.
    pub(super) retention_checked: AtomicU64,
    /// Why the last try to go on in a new segment failed.
    pub(super) roll_error: Mutex<Option<Error>>,
    /// Somebody has undertaken to run a sync.
    pub(super) sync_on_duty: AtomicBool,
    /// Whether anybody waits for durability: a copy of what `waiters` says, for a look without its lock. Written with that
    /// lock held; whoever gives the duty up does it by a swap, which orders the look behind it.
    pub(super) outstanding: AtomicBool,
    /// The worker was asked to drain the queue soon, and has not begun.
    pub(super) drive_asked: AtomicBool,
    /// When the newest checkpoint was published, in milliseconds of the monotonic clock.
    pub(super) checkpointed_ms: AtomicU64,
    /// A checkpoint has been asked for and not begun.
    pub(super) checkpoint_asked: AtomicBool,
    /// A run was found damaged and is to be made anew.
    pub(super) rebuild_asked: AtomicBool,
    /// A roll has happened whose end nobody was asked for yet.
    pub(super) roll_begun: AtomicBool,
    /// The log was opened as it was closed.
    pub(super) opened_clean: bool,
    /// The manifest on disk carries the clean-close mark: nothing may be written before it is gone.
    pub(super) marked_clean: AtomicBool,
    /// The manifest on disk says that offsets may have gaps.
    pub(super) gaps_possible: AtomicBool,
    /// Kafka's mark of a clean stop above this log.
    pub(super) root_mark: Arc<RootMark>,
    pub(super) slots_dirty: AtomicBool,
    pub(super) latched: AtomicBool,
    /// Whether `transactions` has any: a look without its lock.
    pub(super) any_txns: AtomicBool,
    /// The directory is not this log's any more: closed for good, or about to be renamed.
    pub(super) retired: AtomicBool,
    /// Held while index files are made durable.
    pub(super) indexes_durable: Mutex<IndexesDurable>,
    /// The next open was left word of the failed sync.
    pub(super) latch_noted: AtomicBool,
    /// Bytes written since the last sync began.
    pub(super) unsynced_bytes: AtomicU64,
    pub(super) log_start: AtomicI64,
    pub(super) log_end: AtomicI64,
    pub(super) durable_end: AtomicI64,
    pub(super) generation: Generation,
    /// What the root's recovery point must not exceed while a truncation is under way.
    pub(super) recovery_ceiling: AtomicI64,
    /// The same for the root's other lines. Looked at before what they are to say: when it is lifted, that is lower.
    pub(super) line_ceiling: AtomicI64,
    /// Lowers what the root's files say of the log, durably, before a truncation to this offset begins.
    pub(super) lower_root_lines: Option<LowerLines>,
    pub(super) engine_time_at_open: EngineTime,
    pub(super) opened_at: Duration,
    /// The log's place among those that the background threads serve; `None` if only callers work.
    pub(super) membership: Option<Membership>,
}

/// The `background` lock, held by a quiet thread.
pub(super) struct BackgroundLock<'a> {
    _alone: MutexGuard<'a, ()>,
    // Behind the lock: it is let go first.
    _quiet: Quiet,
}

impl Shared {
    /// Waits until no other background job runs.
    pub(super) fn lock_background(&self) -> BackgroundLock<'_> {
        let quiet = Quiet::begin();
        BackgroundLock { _alone: self.background.lock(), _quiet: quiet }
    }

    /// [`Self::lock_background`] if no background job runs now.
    pub(super) fn try_lock_background(&self) -> Option<BackgroundLock<'_>> {
        let quiet = Quiet::begin();
        Some(BackgroundLock { _alone: self.background.try_lock()?, _quiet: quiet })
    }

    /// Takes the append lock.
    pub(super) fn lock_tail(&self) -> TailGuard<'_> {
        let tail = self.tail.lock();
        TailGuard { tail, _mark: AppendLockMark::new() }
    }

    pub(super) fn log_start_offset(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(super) fn log_end_offset(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// What is known of a producer; runs are read without a lock.
    pub(super) fn producer(&self, id: ProducerId) -> Result<Option<Entry>, Error> {
        if let Some(refusal) = self.generation.refusal() {
            return Err(refusal);
        }
        let chain = {
            let tail = self.lock_tail();
            if let Some(entry) = tail.producers.get(id) {
                return Ok(Some(*entry));
            }
            Arc::clone(&tail.chain)
        };
        chain.get(id).map_err(|error| {
            self.chain_is_damaged();
            Error::Unavailable { why: format!("the state of producer {id} cannot be read: {error}") }
        })
    }

    /// Time that the engine has lived through, now.
    pub(super) fn engine_time(&self) -> EngineTime {
        let open_for = self.clock.monotonic().saturating_sub(self.opened_at);
        let millis = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX);
        EngineTime(self.engine_time_at_open.0.saturating_add(millis))
    }

    /// The monotonic clock, in milliseconds.
    pub(super) fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks for a task of the lane that syncs and drains; `false` if there is nobody and the caller must do it.
    pub(super) fn ask(&self, task: Task) -> bool {
        self.membership.as_ref().is_some_and(|place| place.ask(Duty::Sync, task))
    }

    /// Asks for a checkpoint; `false` if there is nobody to make it.
    pub(super) fn ask_checkpoint(&self) -> bool {
        if self.checkpoint_asked.swap(true, Ordering::AcqRel) {
            return true;
        }
        self.membership.as_ref().is_some_and(|place| place.ask(Duty::Checkpoint, Task::Checkpoint))
    }

    /// What every append is answered once a sync has failed.
    pub(super) fn latch_error(&self) -> Option<Error> {
        if !self.latched.load(Ordering::Acquire) {
            return None;
        }
        let why = self.waiters.lock().latched.clone().unwrap_or_else(|| Arc::from("an earlier failure"));
        Some(Error::Unavailable {
            why: format!("the log is read-only since {why}; close it and open it again"),
        })
    }
}
