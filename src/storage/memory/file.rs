//! An open file of a simulated disk.
//!
//! Invariant: no method holds the disk's mutex when the observer is called.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::disk::{MemoryStorage, State};
use super::fault::{Effect, Operation, OperationKind};
use super::tree::Inode;
use crate::storage::File;
use crate::storage::map::{Mapping, checked_len};

/// The longest file, as on Linux.
const MAX_LEN: u64 = i64::MAX.unsigned_abs();

/// A handle; the file lives as long as it.
#[derive(Debug)]
pub(super) struct MemoryFile {
    storage: MemoryStorage,
    inode: Inode,
    path: Arc<Path>,
    access: Access,
}

/// What a handle may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    ReadWrite,
}

impl MemoryFile {
    /// A handle of a node for which the tree already counts one.
    pub(super) fn new(storage: MemoryStorage, inode: Inode, path: Arc<Path>, access: Access) -> Self {
        Self { storage, inode, path, access }
    }

    fn read(&self, len: usize, position: u64, take: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut state = self.storage.state();
        let len = match state.faults.meet(OperationKind::Read, &self.path, None) {
            Some(Effect::Fail(cause) | Effect::Tear(_, cause)) => return Err(cause.error()),
            Some(Effect::Short(bytes)) => len.min(bytes),
            None => len,
        };
        Ok(state.tree.file(self.inode)?.cached().visit(position, len, take))
    }

    fn mutate<T>(
        &self,
        kind: OperationKind,
        position: u64,
        len: u64,
        work: impl FnOnce(&mut State, &mut Operation) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut operation = Operation::new(kind, Arc::clone(&self.path));
        (operation.position, operation.len) = (position, len);
        self.storage.mutate(operation, work)
    }

    fn writable(&self) -> io::Result<()> {
        if self.access == Access::Read { Err(Errno::BADF.into()) } else { Ok(()) }
    }

    fn sync(&self, kind: OperationKind) -> io::Result<()> {
        self.mutate(kind, 0, 0, |state, operation| {
            match state.faults.fail(kind, &self.path, None) {
                Err(failure) => {
                    state.tree.file_mut(self.inode)?.fail_sync();
                    return Err(operation.failed(failure));
                }
                Ok(()) if state.syncs => state.tree.file_mut(self.inode)?.sync(),
                Ok(()) => {}
            }
            Ok(())
        })
    }
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let len = buf.len();
        let mut rest = buf;
        self.read(len, position, |piece| {
            if let Some((now, later)) = std::mem::take(&mut rest).split_at_mut_checked(piece.len()) {
                now.copy_from_slice(piece);
                rest = later;
            }
        })
    }

    fn read_to(&self, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        let mut done = 0;
        // Goes on after short reads: less than asked for means the end of the file.
        while done < len {
            match self.read(len - done, position.saturating_add(done as u64), |piece| {
                buf.extend_from_slice(piece)
            })? {
                0 => break,
                now => done += now,
            }
        }
        Ok(done)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.writable()?;
        let asked: usize = bufs.iter().map(|buf| buf.len()).sum();
        self.mutate(OperationKind::Write, position, 0, |state, operation| {
            let (fitting, failure) = match state.faults.meet(OperationKind::Write, &self.path, None) {
                Some(Effect::Fail(cause)) => (0, Some(cause.error())),
                Some(Effect::Short(bytes)) => (bytes, None),
                Some(Effect::Tear(bytes, cause)) => (bytes, Some(cause.error())),
                None => (asked, None),
            };
            let mut left = fitting.min(asked);
            if left > 0 {
                left = state.room(self.inode, position, left).map_err(|full| operation.failed(full))?;
            }
            let file = state.tree.file_mut(self.inode)?;
            let written = left;
            let mut at = position;
            for buf in bufs {
                let now = buf.get(..left).unwrap_or(buf);
                file.write(at, now);
                at += now.len() as u64;
                left -= now.len();
            }
            operation.len = written as u64;
            match failure {
                Some(failure) => Err(operation.failed(failure)),
                None => Ok(written),
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(OperationKind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(OperationKind::SyncAll)
    }

    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        if len == 0 {
            return Ok(());
        }
        let end = position.checked_add(len).filter(|end| *end <= MAX_LEN).ok_or(Errno::FBIG)?;
        self.mutate(OperationKind::Allocate, position, len, |state, operation| {
            let free = state.faults.fail(OperationKind::Allocate, &self.path, None);
            free.and_then(|()| state.grow_to(self.inode, end))
                .map_err(|failure| operation.failed(failure))?;
            state.tree.file_mut(self.inode)?.reserve(end);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        if len > MAX_LEN {
            return Err(Errno::FBIG.into());
        }
        self.mutate(OperationKind::SetLen, 0, len, |state, operation| {
            let free = state.faults.fail(OperationKind::SetLen, &self.path, None);
            free.and_then(|()| state.grow_to(self.inode, len))
                .map_err(|failure| operation.failed(failure))?;
            state.tree.file_mut(self.inode)?.set_len(len);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.storage.state().tree.file(self.inode)?.cached().len())
    }

    fn map(&self, len: u64) -> io::Result<Mapping> {
        let mut state = self.storage.state();
        state.faults.fail(OperationKind::Map, &self.path, None)?;
        let content = state.tree.file(self.inode)?.cached();
        let len = checked_len(len, content.len())?;
        let mut bytes = Vec::with_capacity(len);
        content.visit(0, len, |piece| bytes.extend_from_slice(piece));
        Ok(Mapping::in_memory(Arc::from(bytes)))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.storage.state().tree.release(self.inode);
    }
}
