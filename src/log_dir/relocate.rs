//! Moving a partition into another root.
//!
//! Invariant: after any crash exactly one of the two directories is the partition, and either root can tell from the other
//! which one (`half_moved.rs`). The copy is complete and durable, with its lines in the new root's files, and both
//! directories say that they are of one move, before the copy gets the partition's name: that rename decides. Only when it
//! is durable the original loses its name.
//!
//! These are Kafka's directories and their order (`ReplicaAlterLogDirsThread`, `LogManager.replaceCurrentWithFutureLog`),
//! but for the notes: without them a crash between the two renames leaves two partitions, and Kafka refuses to start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copying::{Copying, Place};
use super::delete::random_id;
use super::half_moved;
use super::inner::Inner;
use super::slot::{Life, Slot};
use crate::error::Error;
use crate::format::names::{MOVE, PartitionName};
use crate::format::partition_move::{PartitionMove, Side};
use crate::log::{Due, Heads, LogConfig};
use crate::storage::{self, Storage};

/// What is known of a partition whose log is closed.
#[derive(Clone, Copy)]
struct Closed {
    heads: Heads,
    due: Due,
}

impl Closed {
    fn resting(self) -> Life {
        Life::Resting { heads: self.heads, clean: true, due: self.due }
    }
}

impl Inner {
    /// Moves a partition into `target`, which answers for it when this returns.
    pub(super) fn move_to(&self, name: &PartitionName, target: &Self) -> Result<Arc<Slot>, Error> {
        self.still_open()?;
        target.still_open()?;
        if std::ptr::eq(self, target) {
            return Err(Error::Misuse(format!("partition {name} is in {} already", self.root.display())));
        }
        let slot = self.slot(name).ok_or_else(|| Error::Misuse(format!("there is no partition {name}")))?;
        let reserved = target.reserve(name)?;
        half_moved::may_leave(&*self.storage, &self.root, name)?;
        let moved = PartitionMove {
            side: Side::To,
            partition: name.clone(),
            id: random_id(),
            from: absolute(&self.root)?,
            to: absolute(&target.root)?,
        };
        self.host.mark.leave()?;
        target.host.mark.leave()?;
        let closed = self.make_future(&slot, target, &moved).inspect_err(|_| target.discard(&moved))?;
        if let Err(error) = target.give_name(&moved) {
            if target.has_not(&moved) {
                target.discard(&moved);
                half_moved::remove_note(&*self.storage, &self.dir_of(name));
                *slot.lock() = closed.resting();
            } else {
                // The next opening of both roots tells. Until then nobody has the partition.
                reserved.keep();
            }
            return Err(error);
        }
        // The copy is the partition now, whatever fails from here on.
        self.let_original_go(&slot, target, &moved);
        let config = LogConfig { background: target.config.log.background, ..slot.config.as_ref().clone() };
        let made = Slot::new(name.clone(), Arc::new(config), closed.resting());
        target.slots.write().insert(name.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// Makes the copy. The log is closed when it returns `Ok`, and its partition is nobody's to open.
    fn make_future(&self, slot: &Arc<Slot>, target: &Self, moved: &PartitionMove) -> Result<Closed, Error> {
        let (from, to) = (self.dir_of(&slot.name), target.root.join(moved.future_name()));
        target.storage.create_dir_all(&to).map_err(|error| Error::io("create", &to, error))?;
        // Who finds the directory must be able to tell whose it is: the note comes first.
        write_note(&*target.storage, &to, moved)?;
        target.storage.sync_dir(&target.root).map_err(|error| Error::io("sync", &target.root, error))?;
        let mut copying = Copying::new(
            Place { storage: &*self.storage, dir: from.clone() },
            Place { storage: &*target.storage, dir: to },
        );
        let in_use = self.pin(slot)?;
        copying.ahead(&in_use, || slot.cuts.count())?;
        drop(in_use);
        let closed = self.close_for_move(slot)?;
        let copied = copying.rest(slot.cuts.count()).and_then(|()| {
            target.offsets.lock().put_lines_of(&slot.name, &closed.heads)?;
            write_note(&*self.storage, &from, &PartitionMove { side: Side::From, ..moved.clone() })
        });
        copied.inspect_err(|_| {
            // It may stand there although it could not be made durable.
            half_moved::remove_note(&*self.storage, &from);
            *slot.lock() = closed.resting();
        })?;
        Ok(closed)
    }

    /// Closes the log in order and keeps everybody else from opening it.
    fn close_for_move(&self, slot: &Arc<Slot>) -> Result<Closed, Error> {
        let mut life = slot.lock();
        let log = match &*life {
            Life::Open(log) => Arc::clone(log),
            Life::Resting { heads, clean: true, due } => {
                let closed = Closed { heads: *heads, due: *due };
                *life = Life::Moving(closed.heads);
                return Ok(closed);
            }
            Life::Resting { heads, clean: false, .. } => Arc::new(self.open_again(slot, heads, false)?),
            Life::Failed(error) => return Err(error.clone()),
            Life::Moving(_) => return Err(being_moved()),
            Life::Gone => return Err(Error::Closed),
        };
        let due = log.due();
        let closed = log.close_in_place();
        let heads = log.heads();
        self.discharge(slot);
        match (closed, heads) {
            (Ok(()), Ok(heads)) => {
                *life = Life::Moving(heads);
                Ok(Closed { heads, due })
            }
            (closed, Ok(heads)) => {
                *life = Life::Resting { heads, clean: false, due };
                Err(closed.err().unwrap_or(Error::Closed))
            }
            (_, Err(error)) => {
                *life = Life::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// The step that decides.
    fn give_name(&self, moved: &PartitionMove) -> Result<(), Error> {
        let (from, to) = (self.root.join(moved.future_name()), self.dir_of(&moved.partition));
        self.storage.rename(&from, &to).map_err(|error| Error::io("rename", &from, error))?;
        self.storage.sync_dir(&self.root).map_err(|error| Error::io("sync", &self.root, error))
    }

    /// Whether the copy is certainly not the partition: a rename that failed may stand all the same.
    fn has_not(&self, moved: &PartitionMove) -> bool {
        let is_there = |dir: &Path| self.storage.identity(dir).is_ok();
        is_there(&self.root.join(moved.future_name())) && !is_there(&self.dir_of(&moved.partition))
    }

    /// The old directory loses its name, and the background removes it.
    fn let_original_go(&self, slot: &Slot, target: &Self, moved: &PartitionMove) {
        *slot.lock() = Life::Gone;
        let (from, to) = (self.dir_of(&slot.name), self.root.join(moved.deleting_name()));
        let renamed = self.storage.rename(&from, &to).and_then(|()| self.storage.sync_dir(&self.root));
        match renamed {
            Ok(()) => {
                self.deleting.lock().push(to);
                half_moved::remove_note(&*target.storage, &target.dir_of(&slot.name));
            }
            Err(error) => {
                tracing::warn!(dir = %from.display(), %error, "a moved partition's old directory stays until the next open");
                self.reserved.lock().insert(slot.name.clone());
            }
        }
        self.forget(&slot.name);
    }

    /// Removes a copy that will not be needed, or leaves it to the next open.
    fn discard(&self, moved: &PartitionMove) {
        let (from, to) = (self.root.join(moved.future_name()), self.root.join(moved.deleting_name()));
        // Durably, before its note goes: nobody would know it for ours by its old name without that.
        if self.storage.rename(&from, &to).and_then(|()| self.storage.sync_dir(&self.root)).is_ok() {
            self.deleting.lock().push(to);
        }
    }
}

fn write_note(storage: &dyn Storage, dir: &Path, moved: &PartitionMove) -> Result<(), Error> {
    let text = moved.encode().ok_or_else(|| {
        Error::Misuse(
            "the paths of roots between which partitions are moved must be one line of UTF-8".to_owned(),
        )
    })?;
    storage::replace(storage, dir, MOVE, text.as_bytes())
        .map_err(|error| Error::io("write", &dir.join(MOVE), error))
}

/// Nobody's working directory may decide what a path means later.
fn absolute(root: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(root).map_err(|error| Error::io("look up", root, error))
}

/// What is answered while the last part of a partition is copied.
pub(super) fn being_moved() -> Error {
    Error::Unavailable { why: "the partition is being moved to another root".to_owned() }
}
