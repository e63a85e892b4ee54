//! The simulated disk.
//!
//! Invariant: one mutex guards the whole disk, and the observer is called with it free, right after the operation it is
//! told of, by the thread that asked for the operation.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::fault::{Fault, Faults, Operation, OperationKind};
use super::file::{Access, MemoryFile};
use super::image::{Image, Pending};
use super::tree::{Inode, Tree};
use crate::storage::{DirEntry, File, LockGuard, LockKind, OpenMode, Storage};

/// A file system in memory that keeps apart what its cache shows and what its medium has, and that can be cut off,
/// killed, filled and made to fail at any operation.
///
/// A clone is another handle of the same disk. Paths are taken from one root: `/a` and `a` are the same file.
///
/// # Fault model
///
/// - A **power cut** keeps any subset of these, whatever their order was: each unsynced sector of 512 bytes (with the
///   newest bytes, or those of the last sync; never a mix); each unsynced length; each name that was changed since its
///   directory was synced. So an unsynced rename may show the old name, the new one, both or none, and a removed file
///   may come back. A sector that is kept behind the old end of its file brings the length along; a length that is kept
///   without its sectors shows zeros, or what stood there before an unsynced cut.
/// - A **kill** loses nothing, and what was unsynced stays so.
/// - A **failed sync of a file** answers its error once and marks the bytes as clean: the cache shows them, later syncs
///   answer `Ok` and do not write them, until they are written again. The length is written by the next sync.
/// - A **failed sync of a directory** makes nothing durable; its names stay unsynced.
/// - Any operation can be made to fail or fall short ([`Fault`]), and the disk can be full
///   ([`MemoryStorage::set_capacity`]).
///
/// Not modelled: bytes that were written and written over between two syncs, and, after a sync, rot, lost and
/// misdirected writes.
#[derive(Clone)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

struct Shared {
    /// Tells this disk from every other one of the process.
    id: u64,
    /// How often the power came back, and one.
    boot: u64,
    state: Mutex<State>,
    observer: Mutex<Option<Arc<Observer>>>,
}

type Observer = dyn Fn(&Operation, &MemoryStorage) + Send + Sync;

/// Everything that the mutex guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) faults: Faults,
    /// Whether a sync makes anything durable.
    pub(super) syncs: bool,
    operations: u64,
    capacity: Option<u64>,
    locks: HashMap<Inode, Held>,
}

/// The locks on one file.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Exclusive,
    Shared(usize),
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl MemoryStorage {
    /// An empty disk: a root directory without a name in it.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Tree::new(), 1)
    }

    /// A disk that starts with what a crash left on another one. Nothing is armed, observed, locked or limited.
    #[must_use]
    pub fn from_image(image: &Image) -> Self {
        Self::with(image.tree.as_ref().clone(), image.boot)
    }

    fn with(tree: Tree, boot: u64) -> Self {
        let state = State {
            tree,
            faults: Faults::default(),
            syncs: true,
            operations: 0,
            capacity: None,
            locks: HashMap::new(),
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let shared = Shared { id, boot, state: Mutex::new(state), observer: Mutex::new(None) };
        Self { shared: Arc::new(shared) }
    }

    /// How many mutating operations there were on this disk, failed ones included. Operations that fail by themselves,
    /// such as removing a name that is not there, do not count.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Calls `observer` after each mutating operation from now on, in place of the one before. No lock of the disk is
    /// held then: the observer may take images, arm faults, and use files.
    pub fn on_operation(&self, observer: impl Fn(&Operation, &Self) + Send + Sync + 'static) {
        *self.shared.observer.lock() = Some(Arc::new(observer));
    }

    /// Calls no observer from now on.
    pub fn forget_observer(&self) {
        *self.shared.observer.lock() = None;
    }

    /// What a power cut leaves that takes every unsynced byte, length and name.
    #[must_use]
    pub fn power_cut(&self) -> Image {
        self.power_cut_with(|_| false)
    }

    /// What a power cut leaves that keeps those unsynced changes for which `keep` answers `true`: any subset is
    /// possible, whatever the order of the changes was. Changes come in an order that depends on nothing but the
    /// history of the disk, and are the same as those of [`MemoryStorage::pending`].
    #[must_use]
    pub fn power_cut_with(&self, keep: impl FnMut(&Pending) -> bool) -> Image {
        // `keep` is the caller's: it must not run under the mutex.
        let tree = self.state().tree.clone();
        Image::new(tree.after_power_cut(keep), self.shared.boot + 1)
    }

    /// The changes that a power cut would put at risk now.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        let mut pending = Vec::new();
        let _ = self.power_cut_with(|change| {
            pending.push(change.clone());
            false
        });
        pending
    }

    /// What the death of the process leaves: all that the cache shows, still unsynced where it was.
    #[must_use]
    pub fn kill(&self) -> Image {
        let tree = self.state().tree.clone();
        Image::new(tree.after_kill(), self.shared.boot)
    }

    /// Forgets clean pages, as memory pressure may at any time: bytes of a failed sync turn into what the medium has.
    pub fn drop_clean_pages(&self) {
        self.state().tree.drop_clean();
    }

    /// Switches syncs off, or on again: while off they answer `Ok` and make nothing durable. A test that passes so
    /// proves nothing.
    pub fn set_syncs(&self, on: bool) {
        self.state().syncs = on;
    }

    /// Limits the bytes that all files may have, allocated ones included. A write that does not fit writes what fits;
    /// if that is nothing, it fails with `StorageFull`, as growing and allocating do. `None` takes the limit away.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Arms a fault, beside those that are armed.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.arm(fault);
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// How many operations met a fault.
    #[must_use]
    pub fn faults_struck(&self) -> u64 {
        self.state().faults.struck()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Does `work` under the mutex, counts it if it changed something or was made to fail, and tells the observer.
    pub(super) fn mutate<T>(
        &self,
        mut operation: Operation,
        work: impl FnOnce(&mut State, &mut Operation) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        let result = work(&mut state, &mut operation);
        let happened = result.is_ok() || operation.error.is_some();
        if !(happened && operation.kind.is_mutation()) {
            return result;
        }
        state.operations += 1;
        operation.number = state.operations;
        drop(state);
        let observer = self.shared.observer.lock().clone();
        if let Some(observer) = observer {
            observer(&operation, self);
        }
        result
    }

    /// A mutation of names: it meets its faults first, then does `work`.
    fn mutate_names<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.mutate(operation, |state, operation| {
            let free = state.faults.fail(operation.kind, &operation.path, operation.to.as_deref());
            free.map_err(|failure| operation.failed(failure))?;
            work(state)
        })
    }
}

impl State {
    /// Finds the file, or makes it, as `mode` says, and counts a handle for it.
    fn find(&mut self, path: &Path, mode: OpenMode, operation: &mut Operation) -> io::Result<Inode> {
        let found = self.tree.resolve(path);
        let creates = match (mode, &found) {
            (OpenMode::CreateNew, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew | OpenMode::Create, Err(e)) => e.kind() == io::ErrorKind::NotFound,
            _ => false,
        };
        operation.kind = if creates { OperationKind::Create } else { OperationKind::Open };
        let free = self.faults.fail(operation.kind, path, None);
        free.map_err(|failure| operation.failed(failure))?;
        let inode = if creates { self.tree.create_file(path)? } else { found? };
        self.tree.file(inode)?;
        self.tree.hold(inode);
        Ok(inode)
    }

    /// How many of `len` bytes from `position` the disk has room for; at least one.
    pub(super) fn room(&self, inode: Inode, position: u64, len: usize) -> io::Result<usize> {
        let end =
            position.checked_add(len as u64).filter(|end| i64::try_from(*end).is_ok()).ok_or(Errno::FBIG)?;
        let Some(limit) = self.limit(inode)? else { return Ok(len) };
        if end <= limit {
            return Ok(len);
        }
        let room = usize::try_from(limit.saturating_sub(position)).unwrap_or(len);
        if room == 0 { Err(Errno::NOSPC.into()) } else { Ok(room) }
    }

    /// Checks that a file may take the bytes up to `end`.
    pub(super) fn grow_to(&self, inode: Inode, end: u64) -> io::Result<()> {
        match self.limit(inode)? {
            Some(limit) if end > limit => Err(Errno::NOSPC.into()),
            _ => Ok(()),
        }
    }

    /// The most bytes that a file can have beside all others.
    fn limit(&self, inode: Inode) -> io::Result<Option<u64>> {
        let own = self.tree.file(inode)?.occupied();
        // A file that is larger than a limit which came later keeps what it has.
        Ok(self.capacity.map(|all| own + all.saturating_sub(self.tree.occupied())))
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let access = if mode == OpenMode::Read { Access::Read } else { Access::ReadWrite };
        let path: Arc<Path> = Arc::from(path);
        let operation = Operation::new(OperationKind::Open, Arc::clone(&path));
        // Built under the mutex's result, so that its drop can give the handle back.
        let inode = self.mutate(operation, |state, operation| state.find(&path, mode, operation))?;
        Ok(Arc::new(MemoryFile::new(self.clone(), inode, path, access)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut operation = Operation::new(OperationKind::Rename, Arc::from(from));
        operation.to = Some(Arc::from(to));
        self.mutate_names(operation, |state| state.tree.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let operation = Operation::new(OperationKind::Unlink, Arc::from(path));
        self.mutate_names(operation, |state| state.tree.unlink(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.faults.fail(OperationKind::List, dir, None)?;
        state.tree.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let operation = Operation::new(OperationKind::CreateDir, Arc::from(dir));
        self.mutate_names(operation, |state| state.tree.create_dirs(dir).map(|_| ()))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let operation = Operation::new(OperationKind::RemoveDir, Arc::from(dir));
        self.mutate_names(operation, |state| state.tree.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let operation = Operation::new(OperationKind::SyncDir, Arc::from(dir));
        self.mutate_names(operation, |state| if state.syncs { state.tree.sync_dir(dir) } else { Ok(()) })
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<LockGuard> {
        self.state().faults.fail(OperationKind::Lock, path, None)?;
        let mode = match kind {
            LockKind::Exclusive => OpenMode::Create,
            LockKind::Shared => OpenMode::Read,
        };
        let operation = Operation::new(OperationKind::Open, Arc::from(path));
        let inode = self.mutate(operation, |state, operation| {
            let inode = state.find(path, mode, operation)?;
            let free = state.take_lock(inode, kind);
            if free.is_err() {
                state.tree.release(inode);
            }
            free.map(|()| inode)
        })?;
        Ok(LockGuard::new(path, kind, MemoryLock { storage: self.clone(), inode }))
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        // Devices of the system are numbered from below, simulated ones from above.
        Ok((u64::MAX - self.shared.id, self.state().tree.resolve(path)?))
    }

    fn boot_id(&self) -> [u8; 16] {
        u128::from(self.shared.boot).to_be_bytes()
    }
}

impl State {
    fn take_lock(&mut self, inode: Inode, kind: LockKind) -> io::Result<()> {
        match (self.locks.get_mut(&inode), kind) {
            (None, LockKind::Exclusive) => self.locks.insert(inode, Held::Exclusive),
            (None, LockKind::Shared) => self.locks.insert(inode, Held::Shared(1)),
            (Some(Held::Shared(holders)), LockKind::Shared) => {
                *holders += 1;
                None
            }
            (Some(_), _) => return Err(io::ErrorKind::WouldBlock.into()),
        };
        Ok(())
    }

    fn give_lock_back(&mut self, inode: Inode) {
        match self.locks.get_mut(&inode) {
            Some(Held::Shared(holders)) if *holders > 1 => *holders -= 1,
            _ => drop(self.locks.remove(&inode)),
        }
        self.tree.release(inode);
    }
}

/// A lock on a file of a simulated disk, and a handle of that file.
struct MemoryLock {
    storage: MemoryStorage,
    inode: Inode,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.storage.state().give_lock_back(self.inode);
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operations = self.shared.state.try_lock().map(|state| state.operations);
        f.debug_struct("MemoryStorage").field("id", &self.shared.id).field("operations", &operations).finish()
    }
}
