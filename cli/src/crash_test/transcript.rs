//! The parent's book on disk: every intent, answer and event, for those who want to know what happened.
//!
//! Invariant: only ever appended to; what a session said is in the file before the next session begins. A long run keeps
//! the last two files.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use oncelog::storage::{File, OpenMode, Storage};

use super::protocol::Event;

/// A file that has grown beyond this is put aside.
const FILE_BYTES: u64 = 256 << 20;
/// Text that waits to be written.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes `ledger.txt`.
pub(super) struct Transcript {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    buffer: String,
    started: Instant,
}

impl Transcript {
    pub(super) fn create(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self> {
        let path = dir.join("ledger.txt");
        let file =
            storage.open(&path, OpenMode::CreateNew).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { storage, path, file, len: 0, buffer: String::new(), started: Instant::now() })
    }

    /// Notes something that the parent did or saw, with the time since the start.
    pub(super) fn note(&mut self, text: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.buffer, "# {:.4} {text}", self.started.elapsed().as_secs_f64());
    }

    /// Notes what a child said.
    pub(super) fn event(&mut self, event: &Event) -> Result<()> {
        let buffer = &mut self.buffer;
        // Writing to a string cannot fail.
        let _ = match event {
            Event::Intent(i) => {
                writeln!(buffer, "{} {:?} {:?} lane {}: {}", i.id, i.purpose, i.durability, i.lane, i.spec)
            }
            Event::Answer { id, answer } => writeln!(buffer, "{id} {answer:?}"),
            Event::Batch(_) => Ok(()),
            Event::Opened(opened) => writeln!(buffer, "Opened\n{}", opened.text),
            other => writeln!(buffer, "{other:?}"),
        };
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.len > FILE_BYTES {
            self.storage.rename(&self.path, &self.path.with_extension("older.txt"))?;
            self.file = self.storage.open(&self.path, OpenMode::CreateNew)?;
            self.len = 0;
        }
        let write = self.file.write_all_at(self.buffer.as_bytes(), self.len);
        write.with_context(|| format!("write {}", self.path.display()))?;
        self.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
