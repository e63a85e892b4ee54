//! What the parts of an open root share.
//!
//! Locks, in this order: `offsets`, then one slot's own (a second one only if it is free at once), then those of its log;
//! `slots`, `reserved`, `open` and `deleting` are leaves, but for a slot that is made: its own lock is taken before it is in `slots`.
//! A slot's lock and that of `offsets` are held across I/O: that is their purpose. A log that is about to be cut takes
//! `offsets`, too, before any lock of its own; whoever cuts it holds no slot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use super::config::LogDirConfig;
use super::offsets::OffsetFiles;
use super::relocate::being_moved;
use super::slot::{Life, PinnedLog, Slot};
use crate::error::Error;
use crate::format::names::PartitionName;
use crate::log::{Environment, Heads, HighWatermark, Host, Log, LogConfig, Pool};
use crate::recovery::{RecoveryReport, RootFiles, Salvage};
use crate::storage::{Clock, RootLock, Storage};
use crate::types::Offset;

/// Descriptors that a log is expected to need when it is opened.
const EXPECTED: usize = 6;

pub(super) struct Inner {
    pub(super) root: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: LogDirConfig,
    /// Settings of partitions that have none of their own.
    pub(super) log_config: Arc<LogConfig>,
    pub(super) host: Host,
    pub(super) pool: Option<Pool>,
    /// What stood in the root when it was opened.
    pub(super) found: Arc<RootFiles>,
    pub(super) slots: RwLock<BTreeMap<PartitionName, Arc<Slot>>>,
    /// Names of partitions that are being made. A leaf.
    pub(super) reserved: Mutex<BTreeSet<PartitionName>>,
    /// The slots whose log is open.
    pub(super) open: Mutex<Vec<Arc<Slot>>>,
    /// Descriptors that they are counted with, and how many there may be.
    pub(super) charged: AtomicUsize,
    pub(super) budget: usize,
    pub(super) offsets: Arc<Mutex<OffsetFiles>>,
    /// Directories that are to be removed.
    pub(super) deleting: Mutex<Vec<PathBuf>>,
    pub(super) closing: AtomicBool,
    /// Held until the root is closed.
    pub(super) lock: Mutex<Option<RootLock>>,
}

impl Inner {
    pub(super) fn dir_of(&self, name: &PartitionName) -> PathBuf {
        self.root.join(name.to_string())
    }

    /// Settings for a partition that was found, with the root's word on who works in the background.
    pub(super) fn config_for(&self, name: &PartitionName) -> Arc<LogConfig> {
        match &self.config.config_of {
            None => Arc::clone(&self.log_config),
            Some(config_of) => {
                Arc::new(LogConfig { background: self.config.log.background, ..config_of(name) })
            }
        }
    }

    pub(super) fn slot(&self, name: &PartitionName) -> Option<Arc<Slot>> {
        self.slots.read().get(name).map(Arc::clone)
    }

    /// All slots, in the order of their names.
    pub(super) fn all_slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().map(Arc::clone).collect()
    }

    pub(super) fn still_open(&self) -> Result<(), Error> {
        if self.closing.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// The log of a partition, opened if it rests.
    pub(super) fn pin(&self, slot: &Arc<Slot>) -> Result<PinnedLog, Error> {
        slot.used(self.clock.monotonic());
        let mut state = slot.lock();
        let (before, clean) = match &*state {
            Life::Open(log) => return Ok(PinnedLog { log: Arc::clone(log) }),
            Life::Failed(error) => return Err(error.clone()),
            Life::Gone => return Err(Error::Closed),
            Life::Moving(_) => return Err(being_moved()),
            Life::Resting { heads, clean, .. } => (*heads, *clean),
        };
        self.still_open()?;
        self.make_room(EXPECTED);
        let log = Arc::new(self.open_again(slot, &before, clean)?);
        *state = Life::Open(Arc::clone(&log));
        self.charge(slot, &log);
        Ok(PinnedLog { log })
    }

    /// Opens a log that rests, with all that it knew. Its slot is the caller's alone.
    pub(super) fn open_again(&self, slot: &Slot, before: &Heads, clean: bool) -> Result<Log, Error> {
        // The epoch that the log was given is in no file before the first batch of it.
        let config = LogConfig { leader_epoch: Some(before.leader_epoch), ..LogConfig::clone(&slot.config) };
        let (log, report) = self.open_log(slot, config, Salvage::Refuse)?;
        if !clean {
            // What was read of it may have been cut by the recovery.
            slot.cuts.raise();
            tracing::warn!(partition = %slot.name, ?report.kind, "recovered a log whose close had failed");
        }
        restore_high_watermark(&log, &slot.config, before.high_watermark)?;
        Ok(log)
    }

    /// Opens the log of a partition, whose slot is the caller's alone.
    pub(super) fn open_log(
        &self,
        slot: &Slot,
        config: LogConfig,
        salvage: Salvage,
    ) -> Result<(Log, RecoveryReport), Error> {
        let environment = Environment {
            storage: Arc::clone(&self.storage),
            clock: Arc::clone(&self.clock),
            salvage,
            progress: None,
        };
        let opened = Log::open_hosted(&self.dir_of(&slot.name), config, environment, &self.host_of(slot))?;
        slot.was_open.store(true, Ordering::Release);
        Ok(opened)
    }

    fn host_of(&self, slot: &Slot) -> Host {
        let mut host = Host { cuts: slot.cuts.clone(), ..self.host.clone() };
        if slot.was_open.load(Ordering::Acquire)
            && let Some(root) = &mut host.root
        {
            root.files = Arc::new(RootFiles::default());
        }
        let (files, name, mark) = (Arc::clone(&self.offsets), slot.name.clone(), Arc::clone(&host.mark));
        host.lower_lines = Some(Arc::new(move |to| {
            let mut files = files.lock();
            mark.leave()?;
            files.lower(&name, to)
        }));
        host
    }

    /// Counts the descriptors of a log that was opened, or that has grown or shrunk.
    pub(super) fn charge(&self, slot: &Arc<Slot>, log: &Log) {
        let now = log.descriptors();
        let before = slot.descriptors.swap(now, Ordering::AcqRel);
        if before == 0 {
            self.open.lock().push(Arc::clone(slot));
        }
        self.charged.fetch_add(now, Ordering::AcqRel);
        self.charged.fetch_sub(before, Ordering::AcqRel);
    }

    /// [`Self::charge`] for a log that may be closed meanwhile: then it is counted with nothing.
    pub(super) fn charge_open(&self, slot: &Arc<Slot>, log: &Log) {
        let state = slot.lock();
        if matches!(&*state, Life::Open(open) if std::ptr::eq(&**open, log)) {
            self.charge(slot, log);
        }
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.charged.load(Ordering::Acquire) > self.budget
    }

    /// The log of the slot is closed.
    pub(super) fn discharge(&self, slot: &Arc<Slot>) {
        let before = slot.descriptors.swap(0, Ordering::AcqRel);
        self.charged.fetch_sub(before, Ordering::AcqRel);
        let mut open = self.open.lock();
        if let Some(at) = open.iter().position(|other| Arc::ptr_eq(other, slot)) {
            open.swap_remove(at);
        }
    }
}

/// A high watermark that the embedder sets is in no file of the log: here it is what the root remembers.
pub(super) fn restore_high_watermark(log: &Log, config: &LogConfig, to: Offset) -> Result<(), Error> {
    match config.high_watermark {
        HighWatermark::Durable => Ok(()),
        HighWatermark::External => log.set_high_watermark(to).map(drop),
    }
}
