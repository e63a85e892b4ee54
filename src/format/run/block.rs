//! One block of a run: 4096 bytes that are read, checked and searched together.
//!
//! ```text
//! byte  size  field
//!    0     4  CRC-32           of bytes 4 to 4095
//!    4     2  number of entries, at least 1
//!    6     2  bytes used by the entries
//!    8        entries, each: v producer id minus the one before (the first: as it is), v length, entry
//!             zeros
//! ```
//!
//! Invariant: ids ascend strictly; a block is searched only after its CRC was compared with its bytes and with the
//! index, and the length in front of each entry lets a search step over the others without decoding them.

use super::entry::RunEntry;
use super::index::BlockRef;
use crate::error::Malformed;
use crate::format::cursor::{Cursor, put_varlong};
use crate::types::ProducerId;

/// Size of a block in bytes.
pub const BLOCK_SIZE: usize = 4096;

const HEAD_SIZE: usize = 4 + 2 + 2;
const CAPACITY: usize = BLOCK_SIZE - HEAD_SIZE;

/// Collects the entries of one block after the other.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    entries: Vec<u8>,
    scratch: Vec<u8>,
    count: u16,
    first_id: i64,
    last_id: i64,
}

impl BlockBuilder {
    /// Adds an entry. `false`, without effect, if the block has no room for it; an empty block has room for any.
    #[must_use]
    pub fn push(&mut self, id: ProducerId, entry: &RunEntry) -> bool {
        self.scratch.clear();
        entry.encode(&mut self.scratch);
        let before = self.entries.len();
        put_varlong(&mut self.entries, id.0.wrapping_sub(self.last_id));
        put_varlong(&mut self.entries, i64::try_from(self.scratch.len()).unwrap_or(i64::MAX));
        self.entries.extend_from_slice(&self.scratch);
        if self.entries.len() > CAPACITY {
            self.entries.truncate(before);
            return false;
        }
        if self.count == 0 {
            self.first_id = id.0;
        }
        self.last_id = id.0;
        self.count += 1;
        true
    }

    /// Whether nothing was added since the last block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends the block to `out` and begins the next one.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> BlockRef {
        let mut body = crc32fast::Hasher::new();
        let used = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        let [count_high, count_low] = self.count.to_be_bytes();
        let [used_high, used_low] = used.to_be_bytes();
        let head = [count_high, count_low, used_high, used_low];
        self.entries.resize(CAPACITY, 0);
        body.update(&head);
        body.update(&self.entries);
        let crc = body.finalize();
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.entries);
        let block = BlockRef { first_id: ProducerId(self.first_id), crc };
        self.entries.clear();
        self.count = 0;
        self.last_id = 0;
        block
    }
}

/// A block whose CRC was checked.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    entries: &'a [u8],
    count: u16,
}

impl<'a> Block<'a> {
    /// Checks that `bytes` are the block that the index names.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not [`BLOCK_SIZE`], are damaged, or are a block of another place.
    pub fn check(bytes: &'a [u8], expected: BlockRef) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let stored = cursor.u32("block CRC")?;
        let covered = cursor.take(BLOCK_SIZE - 4, "block")?;
        cursor.finish("end of the block")?;
        let found = crc32fast::hash(covered);
        if found != stored || found != expected.crc {
            let wanted = format!("{:08x} by the index", expected.crc);
            return Err(Malformed::new(
                "block CRC",
                0,
                wanted,
                format!("{stored:08x} over bytes of {found:08x}"),
            ));
        }
        let mut cursor = Cursor::new(covered);
        let count = cursor.u16("number of entries")?;
        let used = cursor.u16("bytes of entries")?;
        let block = Self { entries: cursor.take(usize::from(used), "entries")?, count };
        match block.entries().next() {
            Some(first) if first.as_ref().is_ok_and(|(id, _)| *id != expected.first_id) => {
                let found = first.map_or(-1, |(id, _)| id.0);
                Err(Malformed::new("first id of the block", HEAD_SIZE as u64, expected.first_id, found))
            }
            Some(first) => first.map(|_| block),
            None => Err(Malformed::new("number of entries", 4, "at least 1", 0)),
        }
    }

    /// The entry of `id`, if it is in this block.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the entries do not parse, which a CRC that fits makes a fault of the writer.
    pub fn find(&self, id: ProducerId) -> Result<Option<RunEntry>, Malformed> {
        let mut entries = self.entries();
        while entries.left > 0 {
            let (found, body) = entries.step()?;
            if found == id {
                return entries.decode(body).map(Some);
            }
            if found > id {
                break;
            }
        }
        Ok(None)
    }

    /// All entries in ascending order of id.
    #[must_use]
    pub fn entries(&self) -> BlockEntries<'a> {
        BlockEntries { cursor: Cursor::new(self.entries), left: self.count, last_id: None }
    }
}

/// Iterator over the entries of a block; ends after the first error.
#[derive(Clone, Debug)]
pub struct BlockEntries<'a> {
    cursor: Cursor<'a>,
    left: u16,
    last_id: Option<i64>,
}

impl<'a> BlockEntries<'a> {
    fn step(&mut self) -> Result<(ProducerId, &'a [u8]), Malformed> {
        let start = self.at();
        let id = self.cursor.varlong("producer id")?.wrapping_add(self.last_id.unwrap_or(0));
        if self.last_id.is_some_and(|last| last >= id) {
            let expected = format!("more than {}", self.last_id.unwrap_or(0));
            return Err(Malformed::new("producer id", start, expected, id));
        }
        let length = self.cursor.varlong("entry length")?;
        let length = usize::try_from(length)
            .map_err(|_| Malformed::new("entry length", start, "a length that is not negative", length))?;
        let body = self.cursor.take(length, "entry")?;
        self.last_id = Some(id);
        self.left -= 1;
        Ok((ProducerId(id), body))
    }

    fn decode(&self, body: &[u8]) -> Result<RunEntry, Malformed> {
        let base = self.at().saturating_sub(body.len() as u64);
        let mut cursor = Cursor::new(body);
        let moved = |malformed: Malformed| Malformed { at: base.saturating_add(malformed.at), ..malformed };
        let entry = RunEntry::decode(&mut cursor).map_err(moved)?;
        cursor.finish("end of the entry").map_err(moved)?;
        Ok(entry)
    }

    /// Byte within the block.
    fn at(&self) -> u64 {
        (HEAD_SIZE + self.cursor.position()) as u64
    }

    fn next_entry(&mut self) -> Result<Option<(ProducerId, RunEntry)>, Malformed> {
        if self.left > 0 {
            let (id, body) = self.step()?;
            return Ok(Some((id, self.decode(body)?)));
        }
        match self.cursor.remaining() {
            0 => Ok(None),
            left => {
                Err(Malformed::new("end of the entries", self.at(), "the end", format!("{left} more bytes")))
            }
        }
    }
}

impl Iterator for BlockEntries<'_> {
    type Item = Result<(ProducerId, RunEntry), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_entry().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.cursor = Cursor::new(&[]);
            self.left = 0;
        }
        next
    }
}
