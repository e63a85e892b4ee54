//! The watermark as a file: two slots, written in turn.
//!
//! Invariant: a write never touches the newest valid slot, so a torn or failed one leaves the watermark where it was. A
//! slot says only what was durable before it was written: a stale one is a lower bound.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::format::names::WATERMARK;
use crate::format::watermark::{SLOT_COUNT, SLOT_SIZE, Slot};
use crate::storage::{File, OpenMode, Storage};
use crate::types::LogPoint;

/// `oncelog.watermark`, open for writing.
#[derive(Debug)]
pub struct WatermarkFile {
    path: PathBuf,
    file: Arc<dyn File>,
    /// Which slot is written next.
    next: usize,
    counter: u64,
    page: Box<[u8; SLOT_SIZE]>,
}

impl WatermarkFile {
    /// Opens the file of a partition's directory; creates it, with two empty slots, if it is missing. A new name is not
    /// synced: a file that vanishes takes only lower bounds with it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] with what failed.
    pub fn open_or_create(storage: &dyn Storage, dir: &Path) -> Result<Self, Error> {
        let path = dir.join(WATERMARK);
        let file = storage.open(&path, OpenMode::Create).map_err(|e| Error::io("open", &path, e))?;
        let len = file.len().map_err(|e| Error::io("ask the length of", &path, e))?;
        // What recovery has seen as no slot must not become one by growing: its last bytes are zeros.
        let whole = len / SLOT_SIZE as u64 * SLOT_SIZE as u64;
        // Written, not left sparse, so that no later sync has to write metadata.
        let missing = ((SLOT_COUNT * SLOT_SIZE) as u64).saturating_sub(whole);
        let zeros = vec![0; usize::try_from(missing).unwrap_or(0)];
        file.write_all_at(&zeros, whole).map_err(|e| Error::io("write", &path, e))?;
        let newest = slots_of(&path, &*file)?.into_iter().max_by_key(|(_, slot)| slot.counter);
        let (next, counter) = newest.map_or((0, 0), |(place, slot)| ((place + 1) % SLOT_COUNT, slot.counter));
        Ok(Self { path, file, next, counter, page: Box::new([0; SLOT_SIZE]) })
    }

    /// Says that the log is durable up to `point`, in the slot that is not the newest: one write, no read, no sync.
    /// Call it only after the sync that made it true.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the write fails; the newest slot is what it was, and the next write goes to the same slot.
    pub fn write(&mut self, point: &LogPoint, generation: u64) -> Result<(), Error> {
        let counter = self.counter.saturating_add(1);
        Slot { counter, generation, point: *point }.encode_into(&mut self.page);
        let at = (self.next * SLOT_SIZE) as u64;
        self.file.write_all_at(&self.page[..], at).map_err(|e| Error::io("write", &self.path, e))?;
        self.counter = counter;
        self.next = (self.next + 1) % SLOT_COUNT;
        Ok(())
    }

    /// Makes the slots durable.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the sync fails: either slot may be the old one or damaged after a crash.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|e| Error::io("sync", &self.path, e))
    }
}

/// The valid slots, newest first, of any generation; none if there is no file. Creates nothing.
///
/// # Errors
///
/// [`Error::Io`] if the file is there and cannot be read.
pub fn read_slots(storage: &dyn Storage, dir: &Path) -> Result<Vec<Slot>, Error> {
    let path = dir.join(WATERMARK);
    let file = match storage.open(&path, OpenMode::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|e| Error::io("open", &path, e))?,
    };
    let mut slots: Vec<Slot> = slots_of(&path, &*file)?.into_iter().map(|(_, slot)| slot).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.counter));
    Ok(slots)
}

/// The valid slots with their places. A damaged slot is as good as none: the other one, or the manifest, bounds.
fn slots_of(path: &Path, file: &dyn File) -> Result<Vec<(usize, Slot)>, Error> {
    let mut slots = Vec::with_capacity(SLOT_COUNT);
    let mut bytes = Vec::with_capacity(SLOT_SIZE);
    for place in 0..SLOT_COUNT {
        bytes.clear();
        let at = (place * SLOT_SIZE) as u64;
        file.read_to(&mut bytes, SLOT_SIZE, at).map_err(|e| Error::io("read", path, e))?;
        if let Ok(slot) = Slot::decode(&bytes) {
            slots.push((place, slot));
        }
    }
    Ok(slots)
}
