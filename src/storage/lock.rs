//! Locks that keep other processes, Kafka brokers and other logs of this process out.
//!
//! Invariant: a lock of the operating system is an open-file-description lock over the whole file. It conflicts with
//! the record lock that a Java process takes on the same file, with a second open in this process, and closing some
//! other descriptor of the file does not drop it. `flock` would not see the broker; a record lock would not see us.
//!
//! The registry of root locks is the only state that all logs of a process share. Its mutex is held while a root lock
//! is taken or given back, so that a release and a new lock of the same file never cross.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use parking_lot::Mutex;

use super::{LockKind, Storage};

/// A lock that is held until this value is dropped.
pub struct LockGuard {
    path: PathBuf,
    kind: LockKind,
    /// Dropping it gives the lock back: a descriptor, or whatever a simulated disk needs.
    _held: Box<dyn Any + Send + Sync>,
}

impl LockGuard {
    /// A guard of the lock that is given back when `held` is dropped. For implementors of [`Storage`].
    pub fn new(path: &Path, kind: LockKind, held: impl Any + Send + Sync) -> Self {
        Self { path: path.to_path_buf(), kind, _held: Box::new(held) }
    }

    /// The locked file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whom the lock keeps out.
    #[must_use]
    pub fn kind(&self) -> LockKind {
        self.kind
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockGuard({:?} {})", self.kind, self.path.display())
    }
}

/// Locks the whole file behind `descriptor`, which was opened for it alone, without waiting.
///
/// # Errors
///
/// `WouldBlock` if somebody holds a conflicting lock.
pub(super) fn lock_descriptor(descriptor: OwnedFd, path: &Path, kind: LockKind) -> io::Result<LockGuard> {
    let lock_type = match kind {
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Shared => libc::F_RDLCK,
    };
    let whole_file = libc::flock {
        l_type: short(lock_type)?,
        l_whence: short(libc::SEEK_SET)?,
        l_start: 0,
        // To the end, wherever that will be.
        l_len: 0,
        // Must be 0 for a lock of this kind.
        l_pid: 0,
    };
    match fcntl(&descriptor, FcntlArg::F_OFD_SETLK(&whole_file)) {
        Ok(_) => Ok(LockGuard::new(path, kind, descriptor)),
        // Both mean a conflict; which of them is left to the system.
        Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
        Err(other) => Err(other.into()),
    }
}

/// The width in which `fcntl` wants its constants.
fn short(constant: libc::c_int) -> io::Result<libc::c_short> {
    libc::c_short::try_from(constant).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A share in this process's lock on a root's `.lock`. The lock is given back when the last share is dropped.
pub struct RootLock {
    key: RootKey,
    path: PathBuf,
}

/// Device and inode of the lock file.
type RootKey = (u64, u64);

struct HeldRoot {
    guard: LockGuard,
    shares: usize,
    /// Whether one holder wants no other beside it, in this process either.
    alone: bool,
}

/// Whether others of this process may have a share too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Others,
    Nobody,
}

/// The root locks that this process holds.
static ROOTS: Mutex<Option<HashMap<RootKey, HeldRoot>>> = Mutex::new(None);

/// Takes a share in this process's exclusive lock on `path`, a root's `.lock`: the first share takes the lock, which
/// keeps Kafka brokers and other processes out; further ones, by whatever name they reach the file, join it.
///
/// # Errors
///
/// `WouldBlock` if somebody else holds a conflicting lock, or if this process holds only a shared one, taken by
/// [`lock_root_shared`], or one for a single holder, taken by [`lock_whole_root`].
pub fn lock_root(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<RootLock> {
    share(storage.as_ref(), path, LockKind::Exclusive, Beside::Others)
}

/// Takes this process's exclusive lock on `path` for one holder: as long as it has it, nobody else of this process gets a
/// share. It stands for the locks of all partitions under the root, so that an idle one needs no descriptor.
///
/// # Errors
///
/// `WouldBlock` if somebody else holds a lock on it, in this process or another.
pub fn lock_whole_root(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<RootLock> {
    share(storage.as_ref(), path, LockKind::Exclusive, Beside::Nobody)
}

/// Takes a share in whatever lock this process holds on `path`, for those who only read; if it holds none, a shared
/// lock, which keeps writers out and lets other readers in. Creates no file.
///
/// # Errors
///
/// `NotFound` if there is no such file, `WouldBlock` if somebody else holds an exclusive lock, or this process one for a
/// single holder.
pub fn lock_root_shared(storage: &Arc<dyn Storage>, path: &Path) -> io::Result<RootLock> {
    share(storage.as_ref(), path, LockKind::Shared, Beside::Others)
}

fn share(storage: &dyn Storage, path: &Path, kind: LockKind, beside: Beside) -> io::Result<RootLock> {
    let mut registry = ROOTS.lock();
    let roots = registry.get_or_insert_with(HashMap::new);
    match storage.identity(path) {
        Ok(key) => {
            if let Some(root) = roots.get_mut(&key) {
                let conflict = kind == LockKind::Exclusive && root.guard.kind() == LockKind::Shared;
                if conflict || root.alone || beside == Beside::Nobody {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                root.shares += 1;
                return Ok(RootLock { key, path: path.to_path_buf() });
            }
        }
        // Taking an exclusive lock creates the file, taking a shared one says that it is missing.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let guard = storage.lock(path, kind)?;
    let key = storage.identity(path)?;
    roots.insert(key, HeldRoot { guard, shares: 1, alone: beside == Beside::Nobody });
    Ok(RootLock { key, path: path.to_path_buf() })
}

impl RootLock {
    /// The locked file, by the name under which this share asked for it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RootLock {
    fn drop(&mut self) {
        let mut registry = ROOTS.lock();
        let Some(roots) = registry.as_mut() else { return };
        let Some(root) = roots.get_mut(&self.key) else { return };
        root.shares -= 1;
        if root.shares == 0 {
            // Dropped under the mutex: who comes next finds the file unlocked.
            roots.remove(&self.key);
        }
    }
}

impl fmt::Debug for RootLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootLock({})", self.path.display())
    }
}

#[cfg(test)]
mod tests;
