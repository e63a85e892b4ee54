//! A disk that tells the parent what is safe on the medium, and that can be made to refuse writes.
//!
//! Invariant: the parent hears of a sync before the engine does, so that after a kill it can take away every byte that
//! no sync covered, as a power cut would, and still be sure that nothing acknowledged as durable was among them. How
//! much of a file a sync covered is what the file held when the sync began.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oncelog::storage::{DirEntry, File, LockGuard, LockKind, Mapping, OpenMode, OsStorage, Storage};

use super::emitter::Emitter;
use super::protocol::{Disk, Event, Failures};

/// The operating system's files, watched.
#[derive(Debug)]
pub(super) struct WatchedStorage {
    inner: OsStorage,
    emitter: Arc<Emitter>,
    faults: Arc<Faults>,
    /// The present name of every file that was opened: a rename changes that of its handles too.
    names: Mutex<HashMap<PathBuf, Arc<Mutex<String>>>>,
    /// The log's directory: what is in it goes by its file name alone, everything else by its path from the root.
    home: PathBuf,
}

/// Which writes fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    log_every: AtomicU32,
    run_every: AtomicU32,
    log_writes: AtomicU32,
    run_writes: AtomicU32,
    /// The write before this one was cut short; this one finds no space.
    rest_fails: AtomicBool,
}

impl Faults {
    /// Makes writes fail from now on.
    pub(super) fn begin(&self, failures: Failures) {
        self.log_every.store(failures.log_every.unwrap_or(0), Ordering::Relaxed);
        self.run_every.store(failures.run_every.unwrap_or(0), Ordering::Relaxed);
    }

    fn judge(&self, name: &str) -> WriteFate {
        if name.ends_with(".log") {
            if self.rest_fails.swap(false, Ordering::Relaxed) {
                return WriteFate::Fail;
            }
            match nth(&self.log_writes, &self.log_every) {
                Some(n) if n % 3 == 0 => WriteFate::Fail,
                Some(_) => WriteFate::CutShort,
                None => WriteFate::Pass,
            }
        } else if name.rsplit('/').next().is_some_and(|name| name.starts_with("producers."))
            && nth(&self.run_writes, &self.run_every).is_some()
        {
            WriteFate::Fail
        } else {
            WriteFate::Pass
        }
    }
}

/// Counts, and says which failure this is if it is one.
fn nth(counter: &AtomicU32, every: &AtomicU32) -> Option<u32> {
    let every = every.load(Ordering::Relaxed);
    if every == 0 {
        return None;
    }
    let count = counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    count.is_multiple_of(every).then_some(count / every)
}

enum WriteFate {
    Pass,
    CutShort,
    Fail,
}

impl WatchedStorage {
    pub(super) fn new(emitter: Arc<Emitter>, faults: Arc<Faults>, home: &Path) -> Self {
        Self { inner: OsStorage::new(), emitter, faults, names: Mutex::default(), home: home.to_path_buf() }
    }

    fn name_of(&self, path: &Path) -> String {
        let root = self.home.parent().unwrap_or(&self.home);
        if path == root {
            return ".".to_owned();
        }
        let short = path.strip_prefix(&self.home).or_else(|_| path.strip_prefix(root)).unwrap_or(path);
        short.to_string_lossy().into_owned()
    }

    fn tell(&self, disk: Disk) {
        self.emitter.send(&Event::Disk(disk));
    }

    fn lock_names(&self) -> MutexGuard<'_, HashMap<PathBuf, Arc<Mutex<String>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for WatchedStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        let name = {
            let mut names = self.lock_names();
            let fresh = || Arc::new(Mutex::new(self.name_of(path)));
            if mode == OpenMode::CreateNew {
                // Another file had the name before, and its handles are not this one's.
                names.insert(path.to_path_buf(), fresh());
            }
            Arc::clone(names.entry(path.to_path_buf()).or_insert_with(fresh))
        };
        let (emitter, faults) = (Arc::clone(&self.emitter), Arc::clone(&self.faults));
        Ok(Arc::new(WatchedFile { inner, name, emitter, faults }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)?;
        {
            let mut names = self.lock_names();
            // A directory takes what is in it with it.
            let moved: Vec<PathBuf> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for old in moved {
                let Some(name) = names.remove(&old) else { continue };
                let new = match old.strip_prefix(from) {
                    Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
                    _ => to.to_path_buf(),
                };
                *name.lock().unwrap_or_else(PoisonError::into_inner) = self.name_of(&new);
                names.insert(new, name);
            }
        }
        self.tell(Disk::Renamed { from: self.name_of(from), to: self.name_of(to) });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)?;
        self.lock_names().remove(path);
        self.tell(Disk::Removed { name: self.name_of(path) });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)?;
        self.tell(Disk::DirSynced { name: self.name_of(dir) });
        Ok(())
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<LockGuard> {
        self.inner.lock(path, kind)
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.inner.identity(path)
    }

    fn boot_id(&self) -> [u8; 16] {
        self.inner.boot_id()
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn File>,
    name: Arc<Mutex<String>>,
    emitter: Arc<Emitter>,
    faults: Arc<Faults>,
}

impl WatchedFile {
    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell_synced(&self, len: u64) {
        self.emitter.send(&Event::Disk(Disk::Synced { name: self.name(), len }));
    }

    fn refuse(&self, name: String) -> io::Result<usize> {
        self.emitter.send(&Event::Disk(Disk::Failed { name }));
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Writes half of the first buffer.
    fn write_short(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
        let half = first.get(..first.len().div_ceil(2)).unwrap_or_default();
        self.inner.write_vectored_at(&[IoSlice::new(half)], position)
    }
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(buf, position)
    }

    fn read_to(&self, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        self.inner.read_to(buf, len, position)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let name = self.name();
        match self.faults.judge(&name) {
            WriteFate::Pass => self.inner.write_vectored_at(bufs, position),
            WriteFate::Fail => self.refuse(name),
            WriteFate::CutShort => {
                self.faults.rest_fails.store(true, Ordering::Relaxed);
                self.write_short(bufs, position)
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let len = self.inner.len()?;
        self.inner.sync_data()?;
        self.tell_synced(len);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        let len = self.inner.len()?;
        self.inner.sync_all()?;
        self.tell_synced(len);
        Ok(())
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.inner.allocate(position, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)?;
        self.emitter.send(&Event::Disk(Disk::Cut { name: self.name(), len }));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.inner.map(len)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.descriptor()
    }
}
