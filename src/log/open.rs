//! Open and close: from a directory to a log and back.
//!
//! Invariant: the locks come first, then `recovery::plan` decides and a refusal changes nothing; only what recovery
//! returns becomes a log. A clean directory is opened without a write. Close leaves the clean-close mark last, after
//! everything it vouches for is durable; a latched log leaves none.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::config::{Background, LogConfig};
use super::export::IndexesDurable;
use super::generation::{Cuts, Generation};
use super::hosted::{self, Host};
use super::meters::Meters;
use super::pool::Pool;
use super::queue::Queue;
use super::root_mark::RootMark;
use super::segments::{LoadedIndexes, index_limits, segments_of};
use super::shared::{Shared, Syncer, Tail, Waiters, Written};
use super::tier::ImportedState;
use super::transactions::UndecidedAt;
use super::unit::Turn;
use crate::checkpoint::WatermarkFile;
use crate::error::Error;
use crate::format::names;
use crate::producer::{EverWritten, ProducerTable, Transactions, Verifications};
use crate::recovery::{self, Recovered, RecoveryOptions, RecoveryReport, Salvage};
use crate::segment::indexes::SegmentIndexes;
use crate::segment::set::SegmentSet;
use crate::storage::{self, Clock, LockGuard, LockKind, OsStorage, RootLock, Storage, SystemClock};
use crate::testing::{Break, broken};
use crate::types::{Gaps, LeaderEpoch, LogPoint};

/// Told how far a recovery has come.
pub type ProgressCallback = Arc<dyn Fn(recovery::RecoveryProgress) + Send + Sync>;

/// What a log stands on: disk, clock, and how it may be opened.
#[derive(Clone)]
pub struct Environment {
    /// The file system. Default: the operating system's.
    pub storage: Arc<dyn Storage>,
    /// The clocks. Default: the system's.
    pub clock: Arc<dyn Clock>,
    /// What to do about damage below what is known durable. Default: refuse.
    pub salvage: Salvage,
    /// Called during a recovery, on the opening thread.
    pub progress: Option<ProgressCallback>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            storage: Arc::new(OsStorage::new()),
            clock: Arc::new(SystemClock::new()),
            salvage: Salvage::Refuse,
            progress: None,
        }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// The locks of an open log; dropping them lets others in. None where the lock of the whole root stands for them.
#[derive(Default)]
pub(super) struct Locks {
    log: Option<LockGuard>,
    _root: Option<RootLock>,
}

impl Locks {
    /// Whether others may have the directory as soon as they are dropped.
    pub(super) fn are_its_own(&self) -> bool {
        self.log.is_some()
    }
}

/// An open log with its threads and locks.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    /// Its own threads.
    pub(super) pool: Option<Pool>,
    pub(super) locks: Locks,
    pub(super) report: RecoveryReport,
}

pub(super) fn open(
    dir: &Path,
    config: LogConfig,
    environment: Environment,
    state: Option<&ImportedState>,
) -> Result<Opened, Error> {
    config.validate()?;
    let storage = &environment.storage;
    let dir = below_a_root(dir);
    let locks = take_locks(storage, &dir)?;
    if is_missing(&**storage, &dir.join(names::MANIFEST))? {
        sync_names_above(&**storage, &dir)?;
    }
    let mark = Arc::new(RootMark::above(storage, &dir));
    if let Some(state) = state {
        mark.leave()?;
        state.write_log(storage, &dir)?;
    }
    let pool = match config.background {
        Background::Caller => None,
        Background::Threads => Some(
            Pool::start(1, 1, usize::from(config.cleanup.compacts()))
                .map_err(|error| Error::io("start a thread for", &dir, error))?,
        ),
    };
    let host = Host {
        lanes: pool.as_ref().map(|pool| Arc::clone(pool.lanes())),
        mark,
        root: None,
        cuts: Cuts::default(),
        lower_lines: None,
    };
    let (shared, report) = open_under(&dir, config, environment, &host)?;
    Ok(Opened { shared, pool, locks, report })
}

/// Opens a log whose locks are held.
pub(super) fn open_under(
    dir: &Path,
    config: LogConfig,
    environment: Environment,
    host: &Host,
) -> Result<(Arc<Shared>, RecoveryReport), Error> {
    let storage = environment.storage;
    let from = environment.clock.monotonic();
    let options = RecoveryOptions {
        salvage: environment.salvage,
        progress: environment.progress,
        root: host.root.clone(),
        ..RecoveryOptions::default()
    };
    let plan = recovery::plan(&storage, dir, &options)?;
    // Before anything is changed: where the index files are of no use this reads headers that the plan did not.
    let limits = index_limits(&config);
    let loaded = match plan.active_segment() {
        Some(facts) => Some(LoadedIndexes::of(facts, &storage, dir, limits, options.salvage)?),
        None => None,
    };
    let recovered = recovery::execute(&storage, dir, plan, &options)?;
    let mut report = recovered.report.clone();
    let loaded = match (loaded, recovered.segments.last()) {
        (Some(loaded), Some(facts)) if loaded.facts == *facts => Some(loaded),
        (_, Some(facts)) => Some(LoadedIndexes::of(*facts, &storage, dir, limits, options.salvage)?),
        (_, None) => None,
    };
    report.indexes_rebuilt = loaded.iter().filter(|loaded| loaded.rebuilt).count() as u64;
    let indexes = loaded.map(|loaded| loaded.indexes);
    let shared = build(dir.to_path_buf(), config, storage, environment.clock, recovered, indexes, host)?;
    shared.meters.recovered(&report, shared.clock.monotonic().saturating_sub(from));
    shared.checkpointed_ms.store(shared.monotonic_ms(), Ordering::Release);
    Ok((shared, report))
}

/// The same directory by a path whose parent can be opened: that of a bare name is empty.
fn below_a_root(dir: &Path) -> PathBuf {
    match dir.parent() {
        Some(root) if root.as_os_str().is_empty() => Path::new(".").join(dir),
        _ => dir.to_path_buf(),
    }
}

fn is_missing(storage: &dyn Storage, path: &Path) -> Result<bool, Error> {
    match storage.identity(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::io("look for", path, error)),
    }
}

/// Makes the names of `dir` and of the directories above it durable, before the first manifest: a directory that was
/// just made, by us or by a process that died before it came this far, is gone after a power cut, and the log with it.
pub(super) fn sync_names_above(storage: &dyn Storage, dir: &Path) -> Result<(), Error> {
    let above = dir.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
    for (height, above) in above.enumerate() {
        match storage.sync_dir(above) {
            // What may not be read was not made by us, nor has every file system up there a sync.
            Err(error)
                if height > 0
                    && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => {}
            other => other.map_err(|error| Error::io("sync", above, error))?,
        }
    }
    Ok(())
}

/// The root's lock comes first: under a root that somebody else has, not even the directory is made.
fn take_locks(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Locks, Error> {
    let make = |dir: &Path| storage.create_dir_all(dir).map_err(|error| Error::io("create", dir, error));
    let root = match dir.parent() {
        None => None,
        Some(root) => {
            make(root)?;
            let path = root.join(names::ROOT_LOCK);
            let holder = "a Kafka broker or another process has logs open under this root";
            Some(storage::lock_root(storage, &path).map_err(|error| locked(error, &path, holder))?)
        }
    };
    make(dir)?;
    let path = dir.join(names::LOG_LOCK);
    let log = storage.lock(&path, LockKind::Exclusive).map_err(|error| {
        locked(error, &path, "another log is open on this directory, in this process or another")
    })?;
    Ok(Locks { log: Some(log), _root: root })
}

pub(super) fn locked(error: std::io::Error, path: &Path, holder: &str) -> Error {
    if error.kind() == ErrorKind::WouldBlock {
        Error::Locked { path: path.to_path_buf(), holder: holder.to_owned() }
    } else {
        Error::io("lock", path, error)
    }
}

/// The epoch that appends are stamped with: never below what is in the log already.
fn leader_epoch(config: &LogConfig, newest: LeaderEpoch) -> Result<LeaderEpoch, Error> {
    let newest = newest.max(LeaderEpoch(0));
    match config.leader_epoch {
        None => Ok(newest),
        Some(asked) if asked >= newest => Ok(asked),
        Some(asked) => Err(Error::Misuse(format!(
            "leader_epoch is {}; the log holds batches of epoch {}, accepted is {1} to 2147483647",
            asked.0, newest.0
        ))),
    }
}

/// Makes a log of what recovery returned, and starts its threads.
fn build(
    dir: PathBuf,
    config: LogConfig,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    recovered: Recovered,
    indexes: Option<SegmentIndexes>,
    host: &Host,
) -> Result<Arc<Shared>, Error> {
    let leader_epoch = leader_epoch(&config, recovered.leader_epoch)?;
    let limits = index_limits(&config);
    let (sealed, active) = segments_of(&recovered, indexes, &storage, &dir, limits, clock.wall_ms())?;
    let indexes_durable = hosted::indexes_durable_at_open(&dir, &recovered, &active, host);
    let view = SegmentSet::new(sealed, active.view());
    let producers = ProducerTable::starting_with(recovered.producers);
    let end = active.point();
    let durable = LogPoint { ..recovered.end };
    let slots = WatermarkFile::open_or_create(&*storage, &dir)?;
    let open_txns = if broken(Break::ForgetOpenTransactions) { Vec::new() } else { recovered.open_txns };
    let transactions = Transactions::restored(open_txns, recovered.completed_txns);
    let opened_at = clock.monotonic();
    let gaps = recovered.manifest.gaps;
    let shared = Arc::new(Shared {
        meters: Meters::of(&dir),
        queue: Queue::new(config.queue_bytes),
        combiner: Mutex::new(Turn::default()),
        written: Mutex::new(Written {
            end,
            file: Arc::clone(active.file()),
            unfinished_roll: None,
            unsynced_since: None,
        }),
        tail: Mutex::new(Tail {
            active,
            producers,
            frozen_at: None,
            frozen_txns: UndecidedAt::default(),
            verifications: Verifications::default(),
            chain: Arc::new(recovered.chain),
            next_segment: None,
            leader_epoch,
            leader_epochs: recovered.leader_epochs.clone(),
            sealed_end: None,
            ever_written: EverWritten::from(recovered.ever_written),
            history: recovered.manifest.history,
            log_start_offset: recovered.log_start_offset,
            bytes_since_checkpoint: recovered.report.replayed_bytes,
        }),
        waiters: Mutex::new(Waiters {
            appended: std::collections::VecDeque::new(),
            duplicates: Vec::new(),
            durable,
            latched: None,
        }),
        syncer: Mutex::new(Syncer { slots }),
        generation: Generation::new(recovered.manifest.truncation_generation, host.cuts.clone()),
        engine_time_at_open: recovered.manifest.engine_time,
        manifest: Mutex::new(recovered.manifest),
        replicated: Mutex::new(LogPoint {
            offset: recovered.log_start_offset,
            ..LogPoint::segment_start(view.first_base())
        }),
        view: RwLock::new(view),
        background: Mutex::new(()),
        compacting: Mutex::new(()),
        compaction_checked: AtomicU64::new(0),
        making_segment: Mutex::new(()),
        owed: Mutex::new(Vec::new()),
        recovery_ceiling: AtomicI64::new(i64::MAX),
        line_ceiling: AtomicI64::new(i64::MAX),
        lower_root_lines: host.lower_lines.clone(),
        sealed_unwritten: Mutex::new(Vec::new()),
        // A recovery has settled what the file says; a clean open did not look.
        epoch_file: Mutex::new((!recovered.clean).then_some(recovered.leader_epochs)),
        doomed: Mutex::new(Vec::new()),
        retention_checked: AtomicU64::new(0),
        exporting: RwLock::default(),
        roll_error: Mutex::new(None),
        sync_on_duty: AtomicBool::new(false),
        outstanding: AtomicBool::new(false),
        drive_asked: AtomicBool::new(false),
        checkpointed_ms: AtomicU64::new(0),
        checkpoint_asked: AtomicBool::new(false),
        rebuild_asked: AtomicBool::new(false),
        // The first turn asks for the segment that the first roll will need. Where many logs share a disk most of them never
        // come to a roll: there the first roll waits for its segment.
        roll_begun: AtomicBool::new(host.root.is_none()),
        opened_clean: recovered.clean,
        marked_clean: AtomicBool::new(recovered.clean),
        gaps_possible: AtomicBool::new(gaps == Gaps::Possible),
        root_mark: Arc::clone(&host.mark),
        slots_dirty: AtomicBool::new(false),
        latched: AtomicBool::new(false),
        any_txns: AtomicBool::new(!transactions.is_empty()),
        transactions: Mutex::new(transactions),
        retired: AtomicBool::new(false),
        indexes_durable: Mutex::new(IndexesDurable { below: indexes_durable, sync_failed: false }),
        latch_noted: AtomicBool::new(false),
        unsynced_bytes: AtomicU64::new(0),
        log_start: AtomicI64::new(recovered.log_start_offset.0),
        log_end: AtomicI64::new(end.offset.0),
        durable_end: AtomicI64::new(durable.offset.0),
        opened_at,
        dir,
        storage,
        clock,
        config,
        membership: host.lanes.as_ref().map(|lanes| lanes.membership()),
    });
    if let Some(place) = &shared.membership {
        place.enter(&Arc::downgrade(&shared));
    }
    Ok(shared)
}

impl Shared {
    /// Goes on without the background threads. What they were asked to do is done when it returns.
    pub(super) fn leave_background(&self) {
        if let Some(place) = &self.membership {
            place.leave(self);
        }
    }

    /// Makes everything durable and leaves the mark that the next open trusts.
    pub(super) fn close_cleanly(&self) -> Result<(), Error> {
        self.queue.close();
        self.drain_for_close();
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        if self.marked_clean.load(Ordering::Acquire) {
            // Nothing was written since the clean open: the mark still holds.
            return Ok(());
        }
        self.flush_written()?;
        loop {
            self.checkpoint()?;
            if self.leave_mark()? {
                return Ok(());
            }
        }
    }

    /// Leaves the clean-close mark; `false` if another checkpoint is needed before. Whoever holds a log that is closed in
    /// place may cut it or delete from it meanwhile: before this, or after, when the mark goes again.
    fn leave_mark(&self) -> Result<bool, Error> {
        let _one_at_a_time = self.lock_background();
        if let Some(error) = self.latch_error() {
            return Err(error);
        }
        if self.checkpoint_is_pending() {
            return Ok(false);
        }
        self.write_last_indexes()?;
        let end = self.lock_tail().active.point();
        self.write_leader_epochs()?;
        self.discard_next_segment();
        self.unlink_doomed(None);
        // Its directory sync is for all the names that have come and gone before.
        self.export_snapshot(end.offset).or_else(|failure| {
            self.make_anew_after(failure)?;
            self.export_snapshot(end.offset)
        })?;
        self.write_manifest(|manifest| manifest.clean_close = Some(end))?;
        Ok(true)
    }

    /// Whether the newest checkpoint ends below the log end: then the next open would read what lies between.
    fn checkpoint_is_pending(&self) -> bool {
        let tail = self.lock_tail();
        let covered = tail.chain.end().map_or(tail.log_start_offset, |to| to.offset);
        tail.frozen_at.is_some() || tail.producers.dirty() > 0 || covered < tail.active.next_offset()
    }

    /// Writes, syncs and answers what was submitted, on the calling thread: the log's own threads have ended.
    pub(super) fn answer_everybody(&self) {
        self.drain_for_close();
        if self.written.lock().unfinished_roll.is_some() || self.durable_offset() < self.log_end_offset() {
            let mut done = Vec::new();
            if let Err(error) = self.sync_once(&mut done) {
                tracing::warn!(dir = %self.dir.display(), %error, "a background sync failed");
            }
            self.deliver(done);
        }
    }

    /// Writes what is still queued, ending rolls on the way.
    fn drain_for_close(&self) {
        while !self.latched.load(Ordering::Acquire) {
            self.drive();
            let blocked = self.combiner.lock().has_requests();
            if !blocked && self.queue.is_empty() {
                return;
            }
            // Ends the roll they wait for, or refuses them.
            self.finish_roll();
        }
        self.drive();
    }

    fn discard_next_segment(&self) {
        if self.lock_tail().next_segment.take().is_some() {
            // Left over, it costs disk space until the next open removes it.
            let _ = self.storage.unlink(&self.dir.join(names::NEXT_SEGMENT));
        }
    }
}
