//! Producer ids, in blocks that are durable before any of their ids is given out.
//!
//! Invariant: no id is given out twice under one root, whatever crashes. The file says which ids no block has taken; it
//! is replaced, durably, before the first id of a block leaves, and what a crash leaves of a block is never used.
//!
//! Kafka's controller gives its brokers blocks of the same size (KIP-730, `ProducerIdControlManager`,
//! `RPCProducerIdManager`). An allocator that keeps its next id in memory alone begins again at 0 after a restart: then
//! two producers share an id, and the second one's batches are taken for retries of the first one's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Corruption, Error, Malformed};
use crate::format::names::{PRODUCER_IDS, PRODUCER_IDS_LOCK};
use crate::format::producer_ids::{PRODUCER_IDS_SIZE, ProducerIdsFile, VERSION_FIELD};
use crate::storage::{self, LockGuard, LockKind, Storage};
use crate::testing::{Break, Point, broken, cross};
use crate::types::ProducerId;

#[cfg(test)]
mod tests;

/// What stood in the root when an allocator was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundIds {
    /// The file: the allocator goes on behind the last block.
    Kept,
    /// No file: the root is new, or the file was lost. The allocator begins above the floor.
    Absent,
    /// A file that cannot be believed: the allocator begins above the floor, and its first block replaces the file.
    Damaged(Box<Corruption>),
}

/// Gives out producer ids, each once.
///
/// All methods take `&self` and may be called from many threads. One thousand ids cost one replacement of a small file;
/// all others come from memory.
///
/// A broker with several roots keeps one allocator for all of them: a partition that moves to another root knows ids of the
/// root it comes from, and those must mean the same producers there.
#[derive(Debug)]
pub struct ProducerIds {
    root: PathBuf,
    storage: Arc<dyn Storage>,
    found: FoundIds,
    /// Held while a block is taken, I/O included: who asks meanwhile needs that block too.
    block: Mutex<Block>,
    _lock: LockGuard,
}

#[derive(Debug)]
struct Block {
    /// The next id to be given out.
    next: i64,
    /// The end (exclusive) of what may be given out: it is durable that no other block begins below it.
    end: i64,
    /// Why no further block can be taken.
    latched: Option<String>,
}

impl ProducerIds {
    /// Ids in a block. Kafka: `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`.
    pub const BLOCK_SIZE: i64 = 1000;

    /// Ids that are left out behind the highest one known when the file is lost: an id that was given out and has not
    /// written anything yet stands in no partition.
    pub const LOST_MARGIN: i64 = 1000 * Self::BLOCK_SIZE;

    /// Opens the allocator of the root in `root`, which must be there (`LogDir::open` makes it).
    ///
    /// `floor` gives the highest id that any partition of the root knows, `None` if none knows any
    /// (`LogDir::highest_producer_id`). It is asked only if the file is missing or damaged; without it a lost file would
    /// mean that ids are given out again. The ids behind that one are left out as far as [`Self::LOST_MARGIN`] says.
    ///
    /// Nothing is written before the first id is asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another allocator, in this process or another, has the root; [`Error::Corrupt`] if the file is
    /// of a later version; [`Error::Io`] if it is there and cannot be read: it is not taken for a lost one; what `floor`
    /// answers.
    pub fn open(
        root: impl AsRef<Path>,
        storage: Arc<dyn Storage>,
        floor: impl FnOnce() -> Result<Option<ProducerId>, Error>,
    ) -> Result<Self, Error> {
        let root = root.as_ref().to_path_buf();
        let lock = lock(&*storage, &root.join(PRODUCER_IDS_LOCK))?;
        let (next, found) = match read(&*storage, &root.join(PRODUCER_IDS))? {
            Read::File(file) => (file.next, FoundIds::Kept),
            Read::Absent => (above(floor()?), FoundIds::Absent),
            Read::Damaged(corruption) => {
                tracing::warn!(%corruption, "producer ids go on above the highest one known");
                (above(floor()?), FoundIds::Damaged(corruption))
            }
        };
        let block = Mutex::new(Block { next, end: next, latched: None });
        Ok(Self { root, storage, found, block, _lock: lock })
    }

    /// An id that nobody was given before.
    ///
    /// Durability: when it returns, no crash can give the id to another producer.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a new block cannot be made durable. After any failure but a full disk the blocks end until the
    /// allocator is opened again ([`Error::Unavailable`]). [`Error::Misuse`] if all ids below 2^63 - 1 were given out.
    pub fn allocate(&self) -> Result<ProducerId, Error> {
        let mut block = self.block.lock();
        if block.next >= block.end {
            self.take_block(&mut block)?;
        }
        let id = ProducerId(block.next);
        block.next += 1;
        Ok(id)
    }

    /// What stood in the root when the allocator was opened.
    #[must_use]
    pub fn found(&self) -> &FoundIds {
        &self.found
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn take_block(&self, block: &mut Block) -> Result<(), Error> {
        let path = self.root.join(PRODUCER_IDS);
        if let Some(why) = &block.latched {
            let why = format!("producer ids are given out no more since {why}; open the allocator again");
            return Err(Error::Unavailable { why });
        }
        // The last block is a short one.
        let end = block.next.saturating_add(Self::BLOCK_SIZE);
        if end <= block.next {
            return Err(Error::Misuse(format!(
                "{}: no producer id below {} is left; a floor that high is a mistake: look for the partition that knows it",
                path.display(),
                i64::MAX
            )));
        }
        if broken(Break::IdsWithoutFile) {
            block.end = end;
            return Ok(());
        }
        let bytes = ProducerIdsFile { next: end }.encode();
        storage::replace(&*self.storage, &self.root, PRODUCER_IDS, &bytes).map_err(|error| {
            // A full disk left the old file. After anything else it is not known which file a crash will leave.
            if error.kind() != io::ErrorKind::StorageFull {
                block.latched = Some(format!("{} could not be replaced: {error}", path.display()));
            }
            Error::io("write", &path, error)
        })?;
        cross(Point::IdsTaken);
        block.end = end;
        Ok(())
    }
}

/// The first id that may be given out without a file.
fn above(highest: Option<ProducerId>) -> i64 {
    highest.map_or(0, |highest| highest.0.saturating_add(1).saturating_add(ProducerIds::LOST_MARGIN))
}

enum Read {
    File(ProducerIdsFile),
    Absent,
    Damaged(Box<Corruption>),
}

fn read(storage: &dyn Storage, path: &Path) -> Result<Read, Error> {
    let damaged = |malformed: Malformed, len: usize| {
        let advice = "nothing is to be done as long as every partition of the root can be opened";
        Read::Damaged(Box::new(malformed.in_file(path, 0, len as u64, advice)))
    };
    let bytes = match storage::read_all(storage, path, PRODUCER_IDS_SIZE as u64) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Read::Absent),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let expected = format!("{PRODUCER_IDS_SIZE} bytes");
            return Ok(damaged(Malformed::new("producer ids file", 0, expected, error), 0));
        }
        Err(error) => return Err(Error::io("read", path, error)),
    };
    match ProducerIdsFile::decode(&bytes) {
        Ok(file) => Ok(Read::File(file)),
        Err(malformed) if malformed.field == VERSION_FIELD && bytes.len() >= PRODUCER_IDS_SIZE => {
            let advice = "use the release of oncelog that wrote it, or remove the file: ids then go on above the highest \
                          one that a partition knows";
            Err(Error::Corrupt(Box::new(malformed.in_file(path, 0, bytes.len() as u64, advice))))
        }
        Err(malformed) => Ok(damaged(malformed, bytes.len())),
    }
}

fn lock(storage: &dyn Storage, path: &Path) -> Result<LockGuard, Error> {
    storage.lock(path, LockKind::Exclusive).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => {
            let holder = "another allocator of producer ids has this root, in this process or another";
            Error::Locked { path: path.to_path_buf(), holder: holder.to_owned() }
        }
        _ => Error::io("lock", path, error),
    })
}
