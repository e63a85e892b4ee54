//! The lives of one partition: open, resting, failed, gone.
//!
//! Invariant: the slot's lock is held while its log is opened or closed, so that nobody uses a log that is half one. A
//! log rests only while nobody else holds it, which its reference count proves under that lock. Its holder is quiet:
//! a callback may ask for the very partition that is being closed.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::format::names::PartitionName;
use crate::log::{Cuts, Due, Heads, Log, LogConfig, Quiet};

/// One partition of a root.
pub(super) struct Slot {
    pub(super) name: PartitionName,
    pub(super) config: Arc<LogConfig>,
    state: Mutex<Life>,
    /// Lent to each log that is opened for the partition.
    pub(super) cuts: Cuts,
    /// Its log was open since the root was: what was found in the root is not about it any more.
    pub(super) was_open: AtomicBool,
    /// It was deleted: nobody will find anywhere what was written to it.
    pub(super) deleted: AtomicBool,
    /// Descriptors that its open log is counted with.
    pub(super) descriptors: AtomicUsize,
    /// When it was last asked for, in milliseconds of the monotonic clock.
    used_ms: AtomicU64,
}

pub(super) enum Life {
    Open(Arc<Log>),
    /// Closed down to what is known without descriptors. Not `clean` after a close that failed: the next use recovers it.
    Resting {
        heads: Heads,
        clean: bool,
        due: Due,
    },
    /// Closed in order, while the last part of it is copied into another root.
    Moving(Heads),
    Failed(Error),
    Gone,
}

/// A slot's lock, held by a quiet thread.
pub(super) struct SlotLock<'a> {
    life: MutexGuard<'a, Life>,
    // Behind the lock: it is let go first.
    _quiet: Quiet,
}

impl Deref for SlotLock<'_> {
    type Target = Life;

    fn deref(&self) -> &Life {
        &self.life
    }
}

impl DerefMut for SlotLock<'_> {
    fn deref_mut(&mut self) -> &mut Life {
        &mut self.life
    }
}

impl Slot {
    pub(super) fn new(name: PartitionName, config: Arc<LogConfig>, life: Life) -> Arc<Self> {
        Arc::new(Self {
            name,
            config,
            state: Mutex::new(life),
            cuts: Cuts::default(),
            was_open: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            descriptors: AtomicUsize::new(0),
            used_ms: AtomicU64::new(0),
        })
    }

    pub(super) fn lock(&self) -> SlotLock<'_> {
        let quiet = Quiet::begin();
        SlotLock { life: self.state.lock(), _quiet: quiet }
    }

    pub(super) fn try_lock(&self) -> Option<SlotLock<'_>> {
        let quiet = Quiet::begin();
        Some(SlotLock { life: self.state.try_lock()?, _quiet: quiet })
    }

    pub(super) fn used(&self, now: Duration) {
        self.used_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn last_used(&self) -> Duration {
        Duration::from_millis(self.used_ms.load(Ordering::Relaxed))
    }

    /// The log, if it is open, and without opening it.
    pub(super) fn if_open(&self) -> Option<Arc<Log>> {
        match &*self.lock() {
            Life::Open(log) => Some(Arc::clone(log)),
            _ => None,
        }
    }
}

/// The log of a partition, kept open for as long as this value lives.
///
/// A log that nobody holds may be closed down to its heads, to give its descriptors to others. Hold one for a request or
/// a round of them, not for ever.
#[derive(Clone)]
pub struct PinnedLog {
    pub(super) log: Arc<Log>,
}

impl Deref for PinnedLog {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

impl std::fmt::Debug for PinnedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.log.fmt(f)
    }
}
