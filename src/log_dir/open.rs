//! Opening a root: lock, look, then every partition, a few at a time.
//!
//! Invariant: what the root's files say is read once, before anything under it is opened, because the first partition that
//! is recovered takes the mark of a clean stop away. A partition that cannot be opened stops no other: it is listed with
//! its error and stays closed. A root in which everything is clean is opened without a write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::config::LogDirConfig;
use super::half_moved::{self, Found, Standing};
use super::inner::{Inner, restore_high_watermark};
use super::offsets::OffsetFiles;
use super::report::{FoundPartition, LogDirProgress, LogDirReport};
use super::slot::{Life, Slot};
use super::together::{ByteBudget, for_each};
use crate::checkpoint::{ManifestState, read_manifest};
use crate::error::Error;
use crate::format::identity::RootIdentity;
use crate::format::names::{DirName, FileName, META_PROPERTIES, PartitionName};
use crate::log::{Background, Cuts, Environment, Host, LogConfig, Pool, RootMark, lock_root_alone};
use crate::recovery::{RootFiles, Salvage, UnderRoot};
use crate::storage::{self, EntryKind, Storage, descriptor_limit};

/// Kafka keeps its own metadata beside the partitions; its log is not a broker's to open.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// No properties file is as large as this.
const MAX_PROPERTIES_SIZE: u64 = 1 << 20;

/// The fewest descriptors that logs are given where the system says nothing.
const FEW_DESCRIPTORS: usize = 512;

pub(super) fn open(
    root: &Path,
    config: LogDirConfig,
    environment: Environment,
) -> Result<(Inner, LogDirReport), Error> {
    config.validate()?;
    let storage = environment.storage;
    let lock = lock_root_alone(&storage, root)?;
    let found = Arc::new(RootFiles::read(&storage, root)?);
    let mark = Arc::new(RootMark::above(&storage, &root.join("x")));
    let listed = Listed::of(&*storage, root, &mark)?;
    check_identity(&*storage, root, config.identity.as_ref(), &mark)?;
    let pool = match config.log.background {
        Background::Caller => None,
        Background::Threads => Some(
            Pool::start(config.sync_threads, config.checkpoint_threads, 1)
                .map_err(|error| Error::io("start a thread for", root, error))?,
        ),
    };
    let leave = Arc::clone(&mark);
    let host = Host {
        lanes: pool.as_ref().map(|pool| Arc::clone(pool.lanes())),
        mark,
        root: Some(UnderRoot { files: Arc::clone(&found), leave_clean: Arc::new(move || leave.leave()) }),
        cuts: Cuts::default(),
        lower_lines: None,
    };
    let offsets = OffsetFiles::read(&storage, root, &found, environment.clock.monotonic())?;
    let half = || descriptor_limit().map_or(FEW_DESCRIPTORS, |limit| limit / 2);
    let inner = Inner {
        root: root.to_path_buf(),
        storage,
        clock: environment.clock,
        log_config: Arc::new(config.log.clone()),
        budget: config.descriptors.unwrap_or_else(half),
        config,
        host,
        pool,
        found,
        slots: RwLock::default(),
        reserved: Mutex::default(),
        open: Mutex::default(),
        charged: AtomicUsize::new(0),
        offsets: Arc::new(Mutex::new(offsets)),
        deleting: Mutex::new(listed.deleting.iter().map(|name| root.join(name)).collect()),
        closing: AtomicBool::new(false),
        lock: Mutex::new(Some(lock)),
    };
    let mut partitions = inner.open_all(listed.partitions, environment.salvage);
    for (name, error) in listed.closed {
        let slot = Slot::new(name.clone(), inner.config_for(&name), Life::Failed(error.clone()));
        inner.slots.write().insert(name.clone(), slot);
        partitions.insert(name, Err(error));
    }
    inner.lower_lines_that_exceed()?;
    let report = LogDirReport {
        clean_shutdown: inner.found.clean_shutdown,
        partitions,
        deleting: listed.deleting,
        left_alone: listed.left_alone,
        notes: inner.found.notes.clone(),
    };
    Ok((inner, report))
}

/// The directories in a root.
#[derive(Default)]
struct Listed {
    partitions: Vec<PartitionName>,
    deleting: Vec<String>,
    left_alone: Vec<String>,
    /// Partitions that nobody knows to be here.
    closed: Vec<(PartitionName, Error)>,
}

impl Listed {
    fn of(storage: &dyn Storage, root: &Path, mark: &RootMark) -> Result<Self, Error> {
        let mut listed = Self::default();
        for entry in storage.list(root).map_err(|error| Error::io("list", root, error))? {
            if entry.kind != EntryKind::Directory {
                continue;
            }
            match DirName::parse(&entry.name) {
                DirName::Partition(name) if name.topic() != METADATA_TOPIC => {
                    match half_moved::settle(storage, root, &name, mark)? {
                        Found::Partition => listed.partitions.push(name),
                        Found::Deleting(to) => listed.deleting.push(to),
                        Found::Closed(error) => listed.closed.push((name, error)),
                    }
                }
                DirName::Deleting(_) => listed.deleting.push(entry.name),
                _ => match half_moved::settle_copy(storage, root, &entry.name, mark)? {
                    Some(to) => listed.deleting.push(to),
                    None => listed.left_alone.push(entry.name),
                },
            }
        }
        listed.partitions.sort_unstable();
        listed.deleting.sort_unstable();
        listed.left_alone.sort_unstable();
        Ok(listed)
    }
}

/// Compares the root's identity with the one that is asked for, or gives it that one.
fn check_identity(
    storage: &dyn Storage,
    root: &Path,
    asked: Option<&RootIdentity>,
    mark: &RootMark,
) -> Result<(), Error> {
    let Some(asked) = asked else { return Ok(()) };
    let path: PathBuf = root.join(META_PROPERTIES);
    let bytes = storage::read_all(storage, &path, MAX_PROPERTIES_SIZE);
    let Some(bytes) = bytes.map_err(|error| Error::io("read", &path, error))? else {
        mark.leave()?;
        return storage::replace(storage, root, META_PROPERTIES, asked.to_string().as_bytes())
            .map_err(|error| Error::io("write", &path, error));
    };
    let advice = "restore the file, or open the root without an identity";
    let found = RootIdentity::parse(&bytes).map_err(|malformed| {
        Error::Corrupt(Box::new(malformed.in_file(&path, 0, bytes.len() as u64, advice)))
    })?;
    let same_directory = asked.directory_id.is_none() || asked.directory_id == found.directory_id;
    if found.cluster_id == asked.cluster_id && found.node_id == asked.node_id && same_directory {
        return Ok(());
    }
    Err(Error::Misuse(format!(
        "{} belongs to node {} of cluster {}; asked for is node {} of cluster {}{}",
        root.display(),
        found.node_id,
        found.cluster_id,
        asked.node_id,
        asked.cluster_id,
        if same_directory { "" } else { ", with another directory id" },
    )))
}

impl Inner {
    fn open_all(
        &self,
        names: Vec<PartitionName>,
        salvage: Salvage,
    ) -> BTreeMap<PartitionName, FoundPartition> {
        let total = names.len();
        let bytes = ByteBudget::new(self.config.recovery_bytes);
        let (done, read) = (AtomicUsize::new(0), AtomicU64::new(0));
        let found = Mutex::new(BTreeMap::new());
        for_each(&names, self.config.open_threads, |name| {
            let (slot, report) = {
                let _under_way = bytes.take(self.bytes_to_recover(name));
                self.open_found(name, salvage)
            };
            if let Ok(report) = &report {
                let replayed = report.replayed_bytes.saturating_sub(report.unverified_bytes);
                read.fetch_add(report.scanned_bytes.max(replayed), Ordering::Relaxed);
            }
            self.slots.write().insert(name.clone(), slot);
            found.lock().insert(name.clone(), report);
            let progress = LogDirProgress {
                partitions_done: done.fetch_add(1, Ordering::Relaxed) + 1,
                partitions_total: total,
                bytes_read: read.load(Ordering::Relaxed),
            };
            if let Some(tell) = &self.config.progress {
                tell(progress);
            }
        });
        found.into_inner()
    }

    fn open_found(&self, name: &PartitionName, salvage: Salvage) -> (Arc<Slot>, FoundPartition) {
        let config = self.config_for(name);
        let slot = Slot::new(name.clone(), Arc::clone(&config), Life::Gone);
        let (life, report) = self.first_life(&slot, &config, salvage);
        *slot.lock() = life;
        (slot, report)
    }

    /// Opens a partition that was found, and leaves it open if there is room.
    fn first_life(&self, slot: &Arc<Slot>, config: &LogConfig, salvage: Salvage) -> (Life, FoundPartition) {
        let name = &slot.name;
        let opened = config.validate().and_then(|()| self.open_log(slot, config.clone(), salvage)).and_then(
            |(log, report)| {
                if let Some(high_watermark) = self.offsets.lock().high_watermark(name) {
                    restore_high_watermark(&log, config, high_watermark)?;
                }
                Ok((log.heads()?, log, report))
            },
        );
        let (heads, log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(partition = %name, %error, "the partition stays closed");
                return (Life::Failed(error.clone()), Err(error));
            }
        };
        // Half of the budget is for those that are used first.
        if self.charged.load(Ordering::Acquire) + log.descriptors() <= self.budget / 2 {
            let log = Arc::new(log);
            slot.used(self.clock.monotonic());
            self.charge(slot, &log);
            return (Life::Open(log), Ok(report));
        }
        let due = log.due();
        let clean = log.close_in_place();
        if let Err(error) = &clean {
            tracing::warn!(partition = %name, %error, "a log could not be closed in order");
        }
        let heads = if clean.is_ok() { log.heads().unwrap_or(heads) } else { heads };
        (Life::Resting { heads, clean: clean.is_ok(), due }, Ok(report))
    }

    /// Tries a partition again that could not be opened.
    pub(super) fn open_failed(
        &self,
        name: &PartitionName,
        salvage: Salvage,
    ) -> Result<crate::recovery::RecoveryReport, Error> {
        self.still_open()?;
        let slot = self.slot(name).ok_or_else(|| Error::Misuse(format!("there is no partition {name}")))?;
        let high_watermark = self.offsets.lock().high_watermark(name);
        let mut state = slot.lock();
        if !matches!(&*state, Life::Failed(_)) {
            return Err(Error::Misuse(format!("partition {name} has not failed")));
        }
        match half_moved::standing(&*self.storage, &self.root, name) {
            Standing::Here | Standing::HereAgain | Standing::HereBeside(_) => {}
            Standing::Unknown(error) => return Err(error),
            Standing::Elsewhere(moved) => {
                let to = moved.to.display();
                return Err(Error::Misuse(format!(
                    "partition {name} is in {to} by now; open this root again"
                )));
            }
        }
        self.make_room(1);
        let (log, report) = self.open_log(&slot, slot.config.as_ref().clone(), salvage)?;
        slot.cuts.raise();
        if let Some(high_watermark) = high_watermark {
            restore_high_watermark(&log, &slot.config, high_watermark)?;
        }
        let log = Arc::new(log);
        slot.used(self.clock.monotonic());
        *state = Life::Open(Arc::clone(&log));
        self.charge(&slot, &log);
        drop(state);
        self.lower_lines_that_exceed()?;
        Ok(report)
    }

    /// A log whose end went back, by salvage or because another program had cut it, is shorter than its recovery point
    /// says. Kafka would not look at what is written there later. One that ends right there may have lost the segment that
    /// began there, and will begin another. A high watermark above the end, which a power cut can leave, would show what is
    /// written there later before it is replicated.
    fn lower_lines_that_exceed(&self) -> Result<(), Error> {
        let ends_of = |slot: &Slot| match &*slot.lock() {
            Life::Open(log) => Some((log.highest_line(), log.log_end_offset())),
            Life::Resting { heads, .. } | Life::Moving(heads) => {
                Some((heads.log_end_offset, heads.log_end_offset))
            }
            Life::Failed(_) | Life::Gone => None,
        };
        let ends: Vec<_> =
            self.all_slots().iter().filter_map(|slot| Some((slot.name.clone(), ends_of(slot)?))).collect();
        let (points, marks) = {
            let files = self.offsets.lock();
            let points = ends.iter().any(|(name, (highest, _))| files.exceed(name, *highest));
            let above = |name, end| files.high_watermark(name).is_some_and(|mark| mark > end);
            (points, ends.iter().any(|(name, (_, end))| above(name, *end)))
        };
        if points {
            self.write_offsets()?;
        }
        if marks { self.write_high_watermarks() } else { Ok(()) }
    }

    /// The most that a recovery may have to read: nothing after a clean close, else what the newest segment has. More only
    /// where the chain is lost.
    fn bytes_to_recover(&self, name: &PartitionName) -> u64 {
        let dir = self.dir_of(name);
        match read_manifest(&*self.storage, &dir) {
            Ok(ManifestState::Present(manifest)) if manifest.clean_close.is_some() => return 0,
            _ => {}
        }
        let Ok(entries) = self.storage.list(&dir) else { return 0 };
        let newest = entries
            .into_iter()
            .filter_map(|entry| match FileName::parse(&entry.name) {
                FileName::Log(base) => Some((base, entry.len)),
                _ => None,
            })
            .max();
        newest.map_or(0, |(_, len)| len)
    }
}
