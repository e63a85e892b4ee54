//! The disk as the engine sees it: one complete trait, so that a simulated disk can drop, tear, reorder and fail any
//! operation.
//!
//! Invariant: every byte the engine reads or writes goes through [`Storage`] and [`File`]; nothing else in the crate
//! calls the operating system for a file. Errors are plain [`std::io::Error`]; the caller, who knows the path and the
//! purpose, adds both.

mod atomic;
mod clock;
mod lock;
pub mod map;
mod memory;
mod os;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use atomic::{read_all, replace};
pub use clock::{Clock, ManualClock, SystemClock};
pub use lock::{LockGuard, RootLock, lock_root, lock_root_shared, lock_whole_root};
pub use map::Mapping;
pub use memory::{Fault, Image, MemoryStorage, Operation, OperationKind, Pending};
pub use os::{OsStorage, descriptor_limit};

/// How [`Storage::open`] finds the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet (`O_EXCL`), for reading and writing.
    CreateNew,
    /// An existing file, or a new empty one, for reading and writing.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// File name without the directory. Names that are not UTF-8 are left out of a listing: none of ours is.
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// What stands under the name.
    pub kind: EntryKind,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, socket or anything else: never ours.
    Other,
}

/// Which others a lock keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Everybody. Creates the lock file if it is missing.
    Exclusive,
    /// Holders of an exclusive lock. Never creates a file: a missing one is `NotFound`.
    Shared,
}

/// A file system.
///
/// Durability: a change of a file's bytes or length is durable after [`File::sync_data`] or [`File::sync_all`] on that
/// file returned; a change of a name (create, rename, unlink) after [`Storage::sync_dir`] on its directory returned.
/// Nothing else promises anything.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Gives the file `from` the name `to`, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory and its missing parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes a lock on the file `path` without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if somebody holds a conflicting one: another process, a Kafka broker, or this process itself.
    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<LockGuard>;
    /// Which file stands under `path`, as (device, inode): equal for two names of one file and for nothing else, also
    /// across two storages of this process.
    fn identity(&self, path: &Path) -> io::Result<(u64, u64)>;
    /// Identity of the running machine since its last start, or zeros where there is none. Equal ids say that the page
    /// cache was never lost; nothing is trusted because of that.
    fn boot_id(&self) -> [u8; 16];
}

/// An open file. All methods are positional and may be called by many threads.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to `buf.len()` bytes at `position`; 0 at or behind the end.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;
    /// Appends up to `len` bytes from `position` to `buf` without clearing them first; less at the end of the file.
    fn read_to(&self, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize>;
    /// Writes the buffers one after another at `position`; may write less than all.
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes bytes and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Makes bytes, length and all other attributes durable (`fsync`).
    fn sync_all(&self) -> io::Result<()>;
    /// Reserves blocks for `len` bytes from `position` without changing the length.
    fn allocate(&self, position: u64, len: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Maps the first `len` bytes for reading.
    fn map(&self, len: u64) -> io::Result<Mapping>;
    /// The descriptor, where there is one, for `sendfile`.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// Removes the name of a file, if there is such a file.
///
/// # Errors
///
/// That of the removal.
pub fn unlink_if_there(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl dyn File {
    /// Writes all of `bytes` at `position`.
    ///
    /// # Errors
    ///
    /// That of the failing write, `WriteZero` if the storage takes no more; a part may be written.
    pub fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_vectored_at(&[IoSlice::new(rest)], position + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all buffers at `position`, going on after short writes.
    ///
    /// # Errors
    ///
    /// That of the failing write, `WriteZero` if the storage takes no more; a part may be written.
    pub fn write_all_vectored_at(&self, bufs: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
        let mut rest = bufs;
        let mut at = position;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.write_vectored_at(rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Fills `buf` from `position`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the file ends before.
    pub fn read_exact_at(&self, buf: &mut [u8], position: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, position + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
