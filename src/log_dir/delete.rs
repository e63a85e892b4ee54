//! Creating and deleting partitions.
//!
//! Invariant: a directory carries the name of a partition only as long as the partition is there. Deletion is one rename,
//! made durable; the files go later, and a crash in between leaves a name that says so. What the root's files said of a
//! deleted partition is gone before a new one of its name is made.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::half_moved;
use super::inner::Inner;
use super::relocate::being_moved;
use super::slot::{Life, Slot};
use crate::error::Error;
use crate::format::identity::{Id, parse_partition_metadata, partition_metadata};
use crate::format::names::{PARTITION_METADATA, PartitionName};
use crate::log::{ImportedState, LogConfig};
use crate::recovery::Salvage;
use crate::storage::{self, EntryKind, Storage};
use crate::testing::{Point, cross};

/// `partition.metadata` has two short lines.
const MAX_METADATA_SIZE: u64 = 4096;

impl Inner {
    /// Makes a new, empty partition.
    pub(super) fn create(
        &self,
        name: &PartitionName,
        config: LogConfig,
        topic_id: Option<Id>,
        from: Option<&ImportedState>,
    ) -> Result<Arc<Slot>, Error> {
        let config = Arc::new(LogConfig { background: self.config.log.background, ..config });
        config.validate()?;
        self.still_open()?;
        let _reserved = self.reserve(name)?;
        self.host.mark.leave()?;
        self.offsets.lock().drop_lines_of(name)?;
        let slot = Slot::new(name.clone(), Arc::clone(&config), Life::Gone);
        let mut state = slot.lock();
        {
            let mut slots = self.slots.write();
            self.still_open()?;
            slots.insert(name.clone(), Arc::clone(&slot));
        }
        // One that cannot be looked at may be there.
        let found = self.storage.identity(&self.dir_of(name));
        let is_new = found.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        match self.make(&slot, topic_id, from) {
            Ok(log) => {
                let log = Arc::new(log);
                slot.used(self.clock.monotonic());
                *state = Life::Open(Arc::clone(&log));
                self.charge(&slot, &log);
                drop(state);
                Ok(slot)
            }
            Err(error) => {
                if is_new {
                    self.unmake(name);
                }
                self.slots.write().remove(name);
                drop(state);
                Err(error)
            }
        }
    }

    /// Keeps a name for one who makes the partition, from before its old lines are dropped.
    pub(super) fn reserve<'a>(&'a self, name: &'a PartitionName) -> Result<Reserved<'a>, Error> {
        let there = || Error::Misuse(format!("partition {name} is there already"));
        if !self.reserved.lock().insert(name.clone()) {
            return Err(there());
        }
        let reserved = Reserved { inner: self, name, for_ever: false };
        if self.slot(name).is_some() { Err(there()) } else { Ok(reserved) }
    }

    fn make(
        &self,
        slot: &Slot,
        topic_id: Option<Id>,
        from: Option<&ImportedState>,
    ) -> Result<crate::log::Log, Error> {
        let name = &slot.name;
        self.make_room(1);
        let dir = self.dir_of(name);
        self.storage.create_dir_all(&dir).map_err(|error| Error::io("create", &dir, error))?;
        self.storage.sync_dir(&self.root).map_err(|error| Error::io("sync", &self.root, error))?;
        cross(Point::PartitionMade);
        if let Some(id) = topic_id {
            let text = partition_metadata(id);
            storage::replace(&*self.storage, &dir, PARTITION_METADATA, text.as_bytes())
                .map_err(|error| Error::io("write", &dir.join(PARTITION_METADATA), error))?;
        }
        if let Some(state) = from {
            state.write_log(&self.storage, &dir)?;
        }
        // What was found in the root at its opening is not about this partition.
        slot.was_open.store(true, Ordering::Release);
        let (log, _) = self.open_log(slot, slot.config.as_ref().clone(), Salvage::Refuse)?;
        Ok(log)
    }

    /// Takes away what there is of a partition that could not be made, as far as that is possible: the next one of its
    /// name is not to begin with it.
    fn unmake(&self, name: &PartitionName) {
        let to = self.root.join(name.deleting_name(random_id()));
        let renamed = self.storage.rename(&self.dir_of(name), &to);
        if renamed.and_then(|()| self.storage.sync_dir(&self.root)).is_ok() {
            self.deleting.lock().push(to);
        }
    }

    /// What `partition.metadata` says.
    pub(super) fn topic_id(&self, name: &PartitionName) -> Result<Option<Id>, Error> {
        let path = self.dir_of(name).join(PARTITION_METADATA);
        let bytes = storage::read_all(&*self.storage, &path, MAX_METADATA_SIZE);
        let Some(bytes) = bytes.map_err(|error| Error::io("read", &path, error))? else { return Ok(None) };
        let advice = "write the id of the topic into the file, or remove it";
        let id = parse_partition_metadata(&bytes)
            .map_err(|malformed| malformed.in_file(&path, 0, bytes.len() as u64, advice));
        Ok(Some(id.map_err(Box::new)?))
    }

    /// Takes a partition out of the root.
    pub(super) fn delete(&self, name: &PartitionName) -> Result<(), Error> {
        self.still_open()?;
        let gone = || Error::Misuse(format!("there is no partition {name}"));
        let slot = self.slot(name).ok_or_else(gone)?;
        half_moved::may_leave(&*self.storage, &self.root, name)?;
        let mut state = slot.lock();
        match &*state {
            Life::Gone => return Err(gone()),
            Life::Open(log) => log.retire("its partition was deleted"),
            Life::Moving(_) => return Err(being_moved()),
            Life::Resting { .. } | Life::Failed(_) => {}
        }
        *state = Life::Failed(Error::Unavailable { why: "its deletion was begun and has failed".to_owned() });
        self.discharge(&slot);
        self.host.mark.leave()?;
        let dir = self.dir_of(name);
        let to = self.root.join(name.deleting_name(random_id()));
        self.storage.rename(&dir, &to).map_err(|error| Error::io("rename", &dir, error))?;
        cross(Point::PartitionRenamed);
        if let Err(error) = self.storage.sync_dir(&self.root) {
            // Nobody knows which name it has. It is given back, so that the next try is a new rename with a sync of its own.
            let _given_back = self.storage.rename(&to, &dir);
            return Err(Error::io("sync", &self.root, error));
        }
        *state = Life::Gone;
        slot.deleted.store(true, Ordering::Release);
        drop(state);
        self.deleting.lock().push(to);
        self.forget(name);
        Ok(())
    }

    /// Lets another partition have the name of one that is not here any more.
    pub(super) fn forget(&self, name: &PartitionName) {
        // A crash before this leaves lines of a partition that is not there; `create` looks for them again.
        let dropped = self.offsets.lock().drop_lines_of(name);
        // Only now may another one have the name.
        self.slots.write().remove(name);
        if let Err(error) = dropped {
            tracing::warn!(partition = %name, %error, "the root's files still name a partition that is gone");
        }
    }

    /// Removes the directories of deleted partitions. What cannot be removed now is tried again later.
    pub(super) fn remove_deleted(&self) {
        let deleted = std::mem::take(&mut *self.deleting.lock());
        for dir in deleted {
            if let Err(error) = self.host.mark.leave().and_then(|()| remove_all(&*self.storage, &dir)) {
                tracing::warn!(dir = %dir.display(), %error, "a deleted partition could not be removed yet");
                self.deleting.lock().push(dir);
            }
        }
    }
}

/// A name that is kept for its maker.
pub(super) struct Reserved<'a> {
    inner: &'a Inner,
    name: &'a PartitionName,
    for_ever: bool,
}

impl Reserved<'_> {
    /// Keeps the name until the root is opened again: a directory waits for it.
    pub(super) fn keep(mut self) {
        self.for_ever = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.for_ever {
            self.inner.reserved.lock().remove(self.name);
        }
    }
}

/// Removes a directory and what is in it. A file that is read at the moment lives on until its reader is done.
fn remove_all(storage: &dyn Storage, dir: &Path) -> Result<(), Error> {
    let entries = match storage.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| Error::io("list", dir, error))?,
    };
    for entry in entries {
        let path = dir.join(&entry.name);
        match entry.kind {
            EntryKind::Directory => remove_all(storage, &path)?,
            EntryKind::File | EntryKind::Other => match storage.unlink(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.map_err(|error| Error::io("remove", &path, error))?,
            },
        }
    }
    cross(Point::PartitionEmptied);
    storage.remove_dir(dir).map_err(|error| Error::io("remove", dir, error))
}

/// A number that no two deletions share. It need not be secret: two hashers with keys of the system's randomness.
pub(super) fn random_id() -> u128 {
    let half = || u128::from(RandomState::new().build_hasher().finish());
    (half() << 64) | half()
}
