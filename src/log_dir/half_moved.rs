//! Moves that a crash has cut short, met at the opening of either root.
//!
//! Invariant: what decides is the name of the copy. As long as the copy does not have the partition's name, durably, the
//! original is the partition, and a copy that is found goes; once it has, the original goes, and nothing else may be made
//! of the copy before it has gone. Where the original's root cannot look at the other one, the partition stays closed.
//!
//! No directory need be renamed in one piece for that: until the copy has its name nothing of the original is touched. One
//! thing is relied on: no file system shows a directory under two names.

use std::path::Path;

use crate::error::Error;
use crate::format::names::{DirName, MOVE, PartitionName, ROOT_LOCK, temporary_name};
use crate::format::partition_move::{MAX_MOVE_SIZE, PartitionMove, Side};
use crate::log::RootMark;
use crate::storage::{self, Storage};

/// What became of the move that a partition's directory tells of.
pub(super) enum Standing {
    /// The directory is the partition, and there was no move.
    Here,
    /// It is the partition: the move has ended, or was given up, and its note is of no use any more.
    HereAgain,
    /// It is the partition, and its original is not gone yet, or may not be.
    HereBeside(PartitionMove),
    /// Its copy is the partition by now.
    Elsewhere(PartitionMove),
    /// That cannot be told.
    Unknown(Error),
}

/// Looks at the directory of a partition, and at the other root if there was a move.
pub(super) fn standing(storage: &dyn Storage, root: &Path, name: &PartitionName) -> Standing {
    let moved = match note(storage, root, &name.to_string()) {
        Ok(None) => return Standing::Here,
        Ok(Some(moved)) if moved.partition != *name => {
            return Standing::Unknown(not_its_own(root, name, &moved));
        }
        Ok(Some(moved)) => moved,
        Err(error) => return Standing::Unknown(error),
    };
    match moved.side {
        Side::From => match has_note(storage, &moved.to, &moved, Side::To) {
            Some(true) => Standing::Elsewhere(moved),
            Some(false) => Standing::HereAgain,
            None => Standing::Unknown(cannot_tell(&moved.to)),
        },
        Side::To => match has_note(storage, &moved.from, &moved, Side::From) {
            // That the original has lost its name may stand in the page cache alone.
            Some(false) if storage.sync_dir(&moved.from).is_ok() => Standing::HereAgain,
            Some(_) | None => Standing::HereBeside(moved),
        },
    }
}

/// Refuses to let a partition go that was moved here and whose original would come back then.
pub(super) fn may_leave(storage: &dyn Storage, root: &Path, name: &PartitionName) -> Result<(), Error> {
    match standing(storage, root, name) {
        Standing::HereBeside(moved) => Err(Error::Unavailable {
            why: format!("its move out of {} is not ended: open that root first", moved.from.display()),
        }),
        Standing::Unknown(error) => Err(error),
        Standing::Here | Standing::HereAgain | Standing::Elsewhere(_) => Ok(()),
    }
}

/// What is to become of a directory with a partition's name at the opening of its root.
pub(super) enum Found {
    Partition,
    /// It was renamed to this, and is to be removed.
    Deleting(String),
    Closed(Error),
}

/// Ends what can be ended of a move at the opening of a root.
pub(super) fn settle(
    storage: &dyn Storage,
    root: &Path,
    name: &PartitionName,
    mark: &RootMark,
) -> Result<Found, Error> {
    match standing(storage, root, name) {
        Standing::Here | Standing::HereBeside(_) => Ok(Found::Partition),
        Standing::HereAgain => {
            mark.leave()?;
            remove_note(storage, &root.join(name.to_string()));
            Ok(Found::Partition)
        }
        Standing::Unknown(error) => Ok(Found::Closed(error)),
        Standing::Elsewhere(moved) => {
            // The copy's name may be in the page cache alone.
            storage.sync_dir(&moved.to).map_err(|error| Error::io("sync", &moved.to, error))?;
            let to = moved.deleting_name();
            rename(storage, root, &name.to_string(), &to, mark)?;
            Ok(Found::Deleting(to))
        }
    }
}

/// Ends what stands in a directory that is no partition; the name under which it is to be removed, if it was a copy of
/// ours. One without our note may be Kafka's, unless nothing was put into it.
pub(super) fn settle_copy(
    storage: &dyn Storage,
    root: &Path,
    name: &str,
    mark: &RootMark,
) -> Result<Option<String>, Error> {
    let DirName::Future(_) = DirName::parse(name) else { return Ok(None) };
    let Some(front) = name.strip_suffix("-future") else { return Ok(None) };
    let is_ours = match note(storage, root, name) {
        Ok(Some(_)) => true,
        Ok(None) => {
            let dir = root.join(name);
            let entries = storage.list(&dir).map_err(|error| Error::io("list", &dir, error))?;
            entries.iter().all(|entry| entry.name == temporary_name(MOVE))
        }
        Err(_) => false,
    };
    if !is_ours {
        return Ok(None);
    }
    let to = format!("{front}-delete");
    rename(storage, root, name, &to, mark)?;
    Ok(Some(to))
}

/// Removes a note that is of no use any more, so that nobody needs the other root for it. Left over, it says what is true.
pub(super) fn remove_note(storage: &dyn Storage, dir: &Path) {
    let _left_over = storage.unlink(&dir.join(MOVE)).and_then(|()| storage.sync_dir(dir));
}

fn note(storage: &dyn Storage, root: &Path, dir: &str) -> Result<Option<PartitionMove>, Error> {
    let path = root.join(dir).join(MOVE);
    let bytes = storage::read_all(storage, &path, MAX_MOVE_SIZE);
    let Some(bytes) = bytes.map_err(|error| Error::io("read", &path, error))? else { return Ok(None) };
    let moved = PartitionMove::decode(&bytes).map_err(|malformed| {
        let advice =
            "see which of the two roots has the partition, remove the other's directory, then this file";
        Box::new(malformed.in_file(&path, 0, bytes.len() as u64, advice))
    })?;
    Ok(Some(moved))
}

/// Whether the partition's directory in the other root is of the same move; `None` if that root cannot be looked at.
fn has_note(storage: &dyn Storage, root: &Path, moved: &PartitionMove, side: Side) -> Option<bool> {
    // Where nothing is mounted there is no lock file either.
    storage.identity(&root.join(ROOT_LOCK)).ok()?;
    let other = note(storage, root, &moved.partition.to_string()).ok()?;
    Some(other.is_some_and(|other| (other.id, other.side) == (moved.id, side)))
}

fn cannot_tell(root: &Path) -> Error {
    let root = root.display();
    Error::Unavailable {
        why: format!(
            "its move to {root} was begun and that root cannot be looked at; make it readable there and try again"
        ),
    }
}

/// The directory was copied, or given another name: what became of that move says nothing of it.
fn not_its_own(root: &Path, name: &PartitionName, moved: &PartitionMove) -> Error {
    let path = root.join(name.to_string()).join(MOVE);
    Error::Misuse(format!(
        "{} is of a move of partition {}; remove it if {name} is a partition of its own, or the whole directory",
        path.display(),
        moved.partition
    ))
}

fn rename(storage: &dyn Storage, root: &Path, from: &str, to: &str, mark: &RootMark) -> Result<(), Error> {
    mark.leave()?;
    let path = root.join(from);
    storage.rename(&path, &root.join(to)).map_err(|error| Error::io("rename", &path, error))?;
    storage.sync_dir(root).map_err(|error| Error::io("sync", root, error))
}
