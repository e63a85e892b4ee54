//! A storage that notes what is done to it by a thread that holds the append lock of a log.
//!
//! Invariant: every operation is looked at before it is passed on, and none is changed but the writes that a test wants
//! to fail.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oncelog::format::manifest::Manifest;
use oncelog::format::names::{self, FileName};
use oncelog::storage::{DirEntry, File, LockGuard, LockKind, Mapping, OpenMode, Storage, read_all};
use oncelog::testing::holds_append_lock;

/// What was done to the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) writes_under_the_lock: usize,
    pub(crate) rolls_under_the_lock: usize,
    pub(crate) writes_undone_under_the_lock: usize,
    pub(crate) runs: usize,
    /// How often the manifest came to name fewer runs than before.
    pub(crate) merges: usize,
    pub(crate) index_writes: usize,
    pub(crate) syncs: usize,
    /// Runs that the newest manifest names.
    chain: usize,
}

/// Something forbidden that the wrapper does itself, once, inside of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    Read,
    Sync,
    Cut,
    Open,
    List,
    SyncDir,
    Rename,
}

impl Sabotage {
    pub(crate) const ALL: [Self; 7] =
        [Self::Read, Self::Sync, Self::Cut, Self::Open, Self::List, Self::SyncDir, Self::Rename];

    /// How the violation begins.
    pub(crate) fn operation(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Sync => "sync data",
            Self::Cut => "set length",
            Self::Open => "open",
            Self::List => "list",
            Self::SyncDir => "sync dir",
            Self::Rename => "rename",
        }
    }
}

#[derive(Debug, Default)]
struct Notes {
    violations: Vec<String>,
    seen: Seen,
    sabotage: VecDeque<(Sabotage, PathBuf)>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    inner: Arc<dyn Storage>,
    notes: Arc<Mutex<Notes>>,
    /// Every so manieth write under the lock fails; 0: none.
    fail_every: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, notes: Arc::default(), fail_every: Arc::default(), writes: Arc::default() }
    }

    /// Lets every `n`th write of a holder of the lock write half of its bytes and then fail.
    pub(crate) fn fail_every_write_under_the_lock(&self, n: u64) {
        self.fail_every.store(n, Ordering::Relaxed);
    }

    pub(crate) fn sabotage(&self, sabotage: Sabotage, dir: &Path) {
        self.notes().sabotage.push_back((sabotage, dir.to_path_buf()));
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.notes().violations.clone()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.notes().seen
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation that the holder of the lock must not do.
    fn forbidden(&self, operation: &str, path: &Path) {
        if holds_append_lock() {
            self.notes().violations.push(format!("{operation} {}", path.display()));
        }
    }

    /// A change of the manifest: how many runs it names now.
    fn manifest_replaced(&self, path: &Path) {
        let Ok(Some(bytes)) = read_all(&*self.inner, path, 1 << 20) else { return };
        let Ok(manifest) = Manifest::decode(&bytes) else { return };
        let mut notes = self.notes();
        notes.seen.merges += usize::from(manifest.chain.len() < notes.seen.chain);
        notes.seen.chain = manifest.chain.len();
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

impl Storage for Watched {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.forbidden("open", path);
        let inner = self.inner.open(path, mode)?;
        if mode == OpenMode::CreateNew && matches!(FileName::parse(file_name(path)), FileName::Run(_)) {
            self.notes().seen.runs += 1;
        }
        Ok(Arc::new(WatchedFile {
            inner,
            path: path.to_path_buf(),
            storage: self.clone(),
            failed: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_roll = file_name(from) == names::NEXT_SEGMENT
            && matches!(FileName::parse(file_name(to)), FileName::Log(_));
        if !is_roll {
            self.forbidden("rename", from);
        } else if holds_append_lock() {
            self.notes().seen.rolls_under_the_lock += 1;
        }
        self.inner.rename(from, to)?;
        if file_name(to) == names::MANIFEST {
            self.manifest_replaced(to);
        }
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.forbidden("unlink", path);
        self.inner.unlink(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.forbidden("list", dir);
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.forbidden("create", dir);
        self.inner.create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.forbidden("remove", dir);
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.forbidden("sync dir", dir);
        self.notes().seen.syncs += 1;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<LockGuard> {
        self.forbidden("lock", path);
        self.inner.lock(path, kind)
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.forbidden("look for", path);
        self.inner.identity(path)
    }

    fn boot_id(&self) -> [u8; 16] {
        self.inner.boot_id()
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    storage: Watched,
    /// The last write failed and was not taken back yet: cutting and one sync are allowed.
    failed: AtomicBool,
}

impl WatchedFile {
    fn forbidden(&self, operation: &str) {
        self.storage.forbidden(operation, &self.path);
    }

    fn commit_sabotage(&self) -> io::Result<()> {
        let due = self.storage.notes().sabotage.pop_front();
        let Some((sabotage, dir)) = due else { return Ok(()) };
        match sabotage {
            Sabotage::Read => self.read_at(&mut [0; 8], 0).map(|_| ()),
            Sabotage::Sync => self.sync_data(),
            Sabotage::Cut => self.set_len(self.inner.len()?),
            Sabotage::Open => self.storage.open(&dir.join("stray"), OpenMode::Create).map(|_| ()),
            Sabotage::List => self.storage.list(&dir).map(|_| ()),
            Sabotage::SyncDir => self.storage.sync_dir(&dir),
            Sabotage::Rename => {
                self.storage.inner.open(&dir.join("stray"), OpenMode::Create)?;
                self.storage.rename(&dir.join("stray"), &dir.join("strayed"))
            }
        }
    }

    /// Half of what was to be written, and an error.
    fn fail_half_way(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Error {
        self.failed.store(true, Ordering::Relaxed);
        if let Some(first) = bufs.first() {
            let half = first.get(..first.len() / 2).unwrap_or_default();
            if let Err(error) = self.inner.write_all_at(half, position) {
                return error;
            }
        }
        io::Error::other("the test lets this write fail")
    }
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.forbidden("read");
        self.inner.read_at(buf, position)
    }

    fn read_to(&self, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        self.forbidden("read");
        self.inner.read_to(buf, len, position)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        if holds_append_lock() {
            self.commit_sabotage()?;
            let number = self.storage.writes.fetch_add(1, Ordering::Relaxed) + 1;
            let every = self.storage.fail_every.load(Ordering::Relaxed);
            if every > 0 && number.is_multiple_of(every) {
                return Err(self.fail_half_way(bufs, position));
            }
            self.storage.notes().seen.writes_under_the_lock += 1;
        } else if file_name(&self.path).ends_with("index") {
            self.storage.notes().seen.index_writes += 1;
        }
        self.inner.write_vectored_at(bufs, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Taking a failed write back ends with a sync.
        if !holds_append_lock() {
            self.storage.notes().seen.syncs += 1;
        } else if self.failed.swap(false, Ordering::Relaxed) {
            self.storage.notes().seen.writes_undone_under_the_lock += 1;
        } else {
            self.forbidden("sync data");
        }
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.forbidden("sync all");
        self.inner.sync_all()
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.forbidden("allocate");
        self.inner.allocate(position, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !self.failed.load(Ordering::Relaxed) {
            self.forbidden("set length");
        }
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.forbidden("length");
        self.inner.len()
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.forbidden("map");
        self.inner.map(len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }
}
