//! [`LogDir`] and [`Partition`], the handles that an embedder holds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::config::LogDirConfig;
use super::housekeeping::Housekeeper;
use super::inner::Inner;
use super::open;
use super::report::{LogDirReport, PartitionState};
use super::slot::{Life, PinnedLog, Slot};
use super::together::for_each;
use crate::error::Error;
use crate::format::identity::Id;
use crate::format::names::PartitionName;
use crate::log::{Background, Environment, ImportedState, LogConfig};
use crate::recovery::{RecoveryReport, Salvage};
use crate::types::ProducerId;

/// A directory of partitions, as a Kafka broker has it: `<topic>-<partition>` directories and the files about all of them.
///
/// All methods take `&self` and may be called from many threads. Dropping it without [`LogDir::close`] writes, syncs and
/// answers what was submitted, and leaves the rest as a crash of the process would.
pub struct LogDir {
    inner: Arc<Inner>,
    housekeeper: Mutex<Option<Housekeeper>>,
}

/// One partition of a root. It costs no descriptor to hold one: [`Partition::log`] gives the log.
#[derive(Clone)]
pub struct Partition {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
}

impl LogDir {
    /// Opens the root in `root`, which is created if it is missing, and every partition that it has.
    ///
    /// A partition that cannot be opened stays closed and stops no other: the report lists it. Nothing is written under a
    /// root in which everything was closed in order.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if anybody, in this process or another, has the root or a log under it; [`Error::Misuse`] for a
    /// setting out of range, or if the root is another node's; [`Error::Io`] for what the system refuses.
    pub fn open(
        root: impl AsRef<Path>,
        config: LogDirConfig,
        environment: Environment,
    ) -> Result<(Self, LogDirReport), Error> {
        let (inner, report) = open::open(root.as_ref(), config, environment)?;
        let inner = Arc::new(inner);
        let housekeeper = match inner.config.log.background {
            Background::Caller => None,
            Background::Threads => Some(Housekeeper::start(&inner)?),
        };
        Ok((Self { inner, housekeeper: Mutex::new(housekeeper) }, report))
    }

    /// Makes a new, empty partition.
    ///
    /// Durability: when it returns, the partition is there after any crash.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if it is there already or a setting is out of range.
    pub fn create(&self, name: &PartitionName, config: LogConfig) -> Result<Partition, Error> {
        Ok(self.partition(self.inner.create(name, config, None, None)?))
    }

    /// Makes many new, empty partitions, several at a time: they share the waiting for syncs. Answers in the order of `names`.
    ///
    /// Durability and errors: each as [`Self::create`]; one that cannot be made stops no other.
    pub fn create_all(&self, names: &[PartitionName], config: &LogConfig) -> Vec<Result<Partition, Error>> {
        let made = Mutex::new(Vec::with_capacity(names.len()));
        let numbered: Vec<_> = names.iter().enumerate().collect();
        for_each(&numbered, self.inner.closing_threads(), |(place, name)| {
            let slot = self.inner.create(name, config.clone(), None, None);
            made.lock().push((*place, slot));
        });
        let mut made = made.into_inner();
        made.sort_unstable_by_key(|(place, _)| *place);
        made.into_iter().map(|(_, slot)| slot.map(|slot| self.partition(slot))).collect()
    }

    /// [`Self::create`] for a partition of the topic with this id, which is written to `partition.metadata`.
    ///
    /// # Errors
    ///
    /// As [`Self::create`].
    pub fn create_of_topic(
        &self,
        name: &PartitionName,
        config: LogConfig,
        topic_id: Id,
    ) -> Result<Partition, Error> {
        Ok(self.partition(self.inner.create(name, config, Some(topic_id), None)?))
    }

    /// [`Self::create`] for a partition that begins where an exported state ends, as [`crate::Log::start_from`] makes it.
    ///
    /// # Errors
    ///
    /// As [`Self::create`]; [`Error::Corrupt`] if the state is damaged. The call can be repeated.
    pub fn create_from(
        &self,
        name: &PartitionName,
        config: LogConfig,
        topic_id: Option<Id>,
        state: &ImportedState,
    ) -> Result<Partition, Error> {
        Ok(self.partition(self.inner.create(name, config, topic_id, Some(state))?))
    }

    /// The partition of that name, if there is one; also one that could not be opened.
    #[must_use]
    pub fn get(&self, name: &PartitionName) -> Option<Partition> {
        self.inner.slot(name).map(|slot| self.partition(slot))
    }

    /// All partitions, in the order of topic and number.
    #[must_use]
    pub fn partitions(&self) -> Vec<Partition> {
        self.inner.all_slots().into_iter().map(|slot| self.partition(slot)).collect()
    }

    /// Deletes a partition: its directory is renamed to `<name>.<id>-delete` and removed by the background.
    ///
    /// Durability: when it returns, the partition is gone after any crash. What was fetched stays readable; whoever holds
    /// its log is answered [`Error::Closed`].
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if there is no such partition; [`Error::Io`] if the directory cannot be renamed: the partition
    /// stays closed then, and the call can be repeated.
    pub fn delete(&self, name: &PartitionName) -> Result<(), Error> {
        let deleted = self.inner.delete(name);
        if let Some(housekeeper) = &*self.housekeeper.lock() {
            housekeeper.wake();
        }
        deleted
    }

    /// Moves a partition into another root, with everything that it knows: producers, transactions, epochs, log start, high
    /// watermark. Kafka: `alterReplicaLogDirs`.
    ///
    /// Sealed segments are copied while the partition is in use; then its log is closed, the rest copied, and the copy
    /// takes its name. Meanwhile it answers [`Error::Unavailable`]; whoever holds its log is answered [`Error::Closed`], and
    /// goes on with the partition that this returns. What was fetched stays readable. It has the settings that it had.
    ///
    /// Durability: when it returns, the partition is in `target`, and only there, after any crash. A crash before leaves it
    /// here, or is ended by the next opening of `target`, to which this root's path must be known as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if there is no such partition, or one in `target`, or if `target` is this root; what stops the
    /// copy, after which the partition is here as before. [`Error::Io`] from the last steps: which root has it is told
    /// by opening both again.
    pub fn move_to(&self, name: &PartitionName, target: &Self) -> Result<Partition, Error> {
        let moved = self.inner.move_to(name, &target.inner).map(|slot| target.partition(slot));
        for dir in [self, target] {
            if let Some(housekeeper) = &*dir.housekeeper.lock() {
                housekeeper.wake();
            }
        }
        moved
    }

    /// Opens a partition that could not be opened before; with [`Salvage::Cut`], on the caller's word, without what is
    /// damaged.
    ///
    /// # Errors
    ///
    /// What keeps it closed; [`Error::Misuse`] if it has not failed.
    pub fn open_failed(&self, name: &PartitionName, salvage: Salvage) -> Result<RecoveryReport, Error> {
        self.inner.open_failed(name, salvage)
    }

    /// Writes the root's files of offsets now: recovery points, log start offsets, high watermarks.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if one cannot be written; the old one stands.
    pub fn write_offsets(&self) -> Result<(), Error> {
        self.inner.still_open()?;
        self.inner.write_offsets()?;
        self.inner.write_high_watermarks()
    }

    /// Closes the logs that nobody holds down to their heads, whenever they were last used.
    pub fn rest(&self) {
        self.inner.rest_idle(std::time::Duration::ZERO);
    }

    /// Descriptors that the open logs are counted with, and how many they may have.
    #[must_use]
    pub fn descriptors(&self) -> (usize, usize) {
        (self.inner.charged.load(std::sync::atomic::Ordering::Acquire), self.inner.budget)
    }

    /// Does the background work that is due, for [`Background::Caller`].
    ///
    /// # Errors
    ///
    /// The first that occurs; calling again tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        let logs = self.inner.maintain_logs();
        self.inner.keep_house().and(logs)
    }

    /// The greatest producer id that any partition knows: the floor of [`crate::ProducerIds::open`]. Opens those that
    /// rest.
    ///
    /// # Errors
    ///
    /// Why a partition cannot be opened: what it knows cannot be told then.
    pub fn highest_producer_id(&self) -> Result<Option<ProducerId>, Error> {
        let mut highest = None;
        for partition in self.partitions() {
            match partition.log() {
                Ok(log) => highest = highest.max(log.highest_producer_id()),
                // It was deleted meanwhile.
                Err(Error::Closed) if self.inner.still_open().is_ok() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(highest)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.inner.root.clone()
    }

    /// Closes every partition in order, then leaves the mark of a clean stop, which Kafka trusts too.
    ///
    /// # Errors
    ///
    /// The first that occurs, a partition that had failed before included. All that can be closed is closed; the mark is
    /// not left, and the next open recovers what was not.
    pub fn close(self) -> Result<(), Error> {
        self.stop_housekeeper();
        self.inner.close_cleanly()
    }

    fn stop_housekeeper(&self) {
        if let Some(mut housekeeper) = self.housekeeper.lock().take() {
            housekeeper.stop();
        }
    }

    fn partition(&self, slot: Arc<Slot>) -> Partition {
        Partition { inner: Arc::clone(&self.inner), slot }
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        self.stop_housekeeper();
        self.inner.abandon();
    }
}

impl fmt::Debug for LogDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDir")
            .field("root", &self.inner.root)
            .field("partitions", &self.inner.slots.read().len())
            .finish_non_exhaustive()
    }
}

impl Partition {
    /// Topic and number.
    #[must_use]
    pub fn name(&self) -> &PartitionName {
        &self.slot.name
    }

    /// The log, opened if it rests, and kept open for as long as the answer lives.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened; [`Error::Closed`] if the partition was deleted or the root closed.
    pub fn log(&self) -> Result<PinnedLog, Error> {
        self.inner.pin(&self.slot)
    }

    /// Whether it is gone because it was deleted, not moved nor closed with its root.
    pub(crate) fn was_deleted(&self) -> bool {
        self.slot.deleted.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The topic id in its `partition.metadata`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the file is there and does not parse; [`Error::Io`].
    pub fn topic_id(&self) -> Result<Option<Id>, Error> {
        self.inner.topic_id(&self.slot.name)
    }

    /// How the partition stands, without opening its log.
    #[must_use]
    pub fn state(&self) -> PartitionState {
        match &*self.slot.lock() {
            Life::Open(log) => PartitionState::Open {
                log_start_offset: log.log_start_offset(),
                log_end_offset: log.log_end_offset(),
            },
            Life::Resting { heads, .. } | Life::Moving(heads) => PartitionState::Resting {
                log_start_offset: heads.log_start_offset,
                log_end_offset: heads.log_end_offset,
            },
            Life::Failed(error) => PartitionState::Failed(error.clone()),
            Life::Gone => PartitionState::Gone,
        }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("name", &self.slot.name).field("state", &self.state()).finish()
    }
}
