//! The operating system's file system.
//!
//! Invariant: this module and the two it hands descriptors to (`lock`, `map`) are the only ones that call the operating
//! system for a file. Every descriptor is closed on `exec`. A sync is called once and its error is handed on as it is:
//! Linux reports a failed write-back once, so a second call would answer `Ok` for bytes that are lost.
#![expect(clippy::disallowed_methods, reason = "this is the module that the ban of std::fs leads to")]

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::lock::{self, LockGuard};
use super::map::Mapping;
use super::{DirEntry, EntryKind, File, LockKind, OpenMode, Storage};

/// The most buffers that Linux takes in one call (`IOV_MAX`).
const MAX_BUFFERS: usize = 1024;

/// Where Linux tells one start of the machine from the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsStorage;

impl OsStorage {
    /// The file system that this process sees.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Storage for OsStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
        };
        Ok(Arc::new(OsFile { descriptor: open(path, flags)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A name can vanish between the listing and this look: then it is not there.
            let metadata = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let (kind, len) = if metadata.is_file() {
                (EntryKind::File, metadata.len())
            } else if metadata.is_dir() {
                (EntryKind::Directory, 0)
            } else {
                (EntryKind::Other, metadata.len())
            };
            entries.push(DirEntry { name, len, kind });
        }
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let descriptor = open(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::fsync(descriptor)?)
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<LockGuard> {
        let flags = match kind {
            LockKind::Exclusive => OFlags::RDWR | OFlags::CREATE,
            LockKind::Shared => OFlags::RDONLY,
        };
        lock::lock_descriptor(open(path, flags)?, path, kind)
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        let stat = retry_on_intr(|| rustix::fs::stat(path))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    fn boot_id(&self) -> [u8; 16] {
        fs::read_to_string(BOOT_ID).ok().and_then(|text| parse_boot_id(&text)).unwrap_or_default()
    }
}

/// How many descriptors this process may have open: the soft limit, if there is one.
#[must_use]
pub fn descriptor_limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|limit| usize::try_from(limit).ok())
}

/// Opens with the umask of the process deciding who else may read, as every other tool does.
fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)))?)
}

/// Reads the text form of an UUID: 32 hexadecimal digits with dashes anywhere.
fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let value = (digits.len() == 32).then(|| u128::from_str_radix(&digits, 16).ok())??;
    Some(value.to_be_bytes())
}

/// An open file of the operating system.
#[derive(Debug)]
struct OsFile {
    descriptor: OwnedFd,
}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(retry_on_intr(|| rustix::io::pread(&self.descriptor, &mut *buf, position))?)
    }

    fn read_to(&self, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        let start = buf.len();
        let spare = buf.capacity() - start;
        if spare > len.saturating_mul(2).saturating_add(4096) {
            // The safe call fills all spare capacity. Where that is much more than was asked for, a vector of the
            // right size and a copy cost less than reading bytes that nobody wants.
            let mut part = Vec::with_capacity(len);
            fill(&self.descriptor, &mut part, len, position)?;
            buf.extend_from_slice(&part);
        } else {
            buf.reserve_exact(len);
            let read = fill(&self.descriptor, buf, len, position);
            if read.is_err() {
                buf.truncate(start);
            }
            read?;
        }
        Ok(buf.len() - start)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let bufs = bufs.get(..MAX_BUFFERS).unwrap_or(bufs);
        Ok(retry_on_intr(|| rustix::io::pwritev(&self.descriptor, bufs, position))?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.descriptor)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.descriptor)?)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let kept = FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| rustix::fs::fallocate(&self.descriptor, kept, position, len)) {
            // Only a reservation: a file system that has none loses speed, not bytes.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| rustix::fs::ftruncate(&self.descriptor, len))?)
    }

    fn len(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.descriptor)?;
        u64::try_from(stat.st_size).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        Mapping::of_descriptor(self.descriptor.as_fd(), len, self.len()?)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.as_fd())
    }
}

/// Appends bytes from `position` until `len` are there or the file ends. Bytes behind the `len`-th, which a larger
/// spare capacity may have drawn in, are cut off again.
fn fill(descriptor: &OwnedFd, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<()> {
    let start = buf.len();
    while buf.len() - start < len {
        let at = position.saturating_add((buf.len() - start) as u64);
        if retry_on_intr(|| rustix::io::pread(descriptor, spare_capacity(buf), at))? == 0 {
            break;
        }
    }
    buf.truncate(start.saturating_add(len));
    Ok(())
}

#[cfg(test)]
mod tests;
