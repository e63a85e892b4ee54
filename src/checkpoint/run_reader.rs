//! Reads a run: one id at a time, or all entries in order.
//!
//! Invariant: a [`Run`] exists only if header and index were proven and the file is as long as the header says; a block
//! is proven whenever it is read. Damage is an error that names file and bytes; it never looks like a missing id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::convert::from_run_entry;
use crate::error::{Error, Malformed};
use crate::format::manifest::RunRef;
use crate::format::names::run_name;
use crate::format::run::{BLOCK_SIZE, Block, HEADER_UNIT, RunHeader, RunIndex};
use crate::producer::Entry;
use crate::storage::{File, OpenMode, Storage};
use crate::types::{LogPoint, ProducerId};

/// Blocks that one read of a stream fetches: 256 KiB.
const STREAM_BLOCKS: usize = 64;
const ADVICE: &str = "the run is rebuilt from the previous chain or from the log; check the medium";

/// An open run. Immutable, read by many threads at once.
#[derive(Debug)]
pub struct Run {
    header: RunHeader,
    header_crc: u32,
    path: PathBuf,
    file: Arc<dyn File>,
    index: RunIndex,
}

impl Run {
    /// Opens the run that a manifest names: reads header and index, nothing else.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if header, index or length of the file are not as they must be, or if it is another run than
    /// the one named; [`Error::Io`] if it cannot be read, `NotFound` if there is none.
    pub fn open(storage: &dyn Storage, dir: &Path, named: RunRef) -> Result<Arc<Self>, Error> {
        let run = Self::open_unnamed(storage, dir, named.number)?;
        if run.header_crc == named.header_crc {
            return Ok(run);
        }
        let at = run.blocks_at().saturating_sub(4);
        let expected = format!("{:08x} by the manifest", named.header_crc);
        Err(run.corrupt(
            Malformed::new("header CRC", at, expected, format!("{:08x}", run.header_crc)),
            0,
            at + 4,
        ))
    }

    /// Opens the run with this number, whichever it is: for a directory whose manifest is lost.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_unnamed(storage: &dyn Storage, dir: &Path, number: u64) -> Result<Arc<Self>, Error> {
        let path = dir.join(run_name(number));
        let file = storage.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
        let file_len = file.len().map_err(|e| Error::io("ask the length of", &path, e))?;
        let damaged = |malformed: Malformed| corrupt(&path, malformed, 0, file_len);

        let mut bytes = vec![0; HEADER_UNIT];
        read(&path, &file, &mut bytes, 0)?;
        let header_len = RunHeader::peek_len(&bytes, file_len).map_err(damaged)?;
        bytes.resize(header_len, 0);
        if let Some(rest) = bytes.get_mut(HEADER_UNIT..) {
            read(&path, &file, rest, HEADER_UNIT as u64)?;
        }
        let (header, header_crc) = RunHeader::decode(&bytes).map_err(damaged)?;
        if header.number != number {
            return Err(damaged(Malformed::new("run number", 16, number, header.number)));
        }
        if header.file_len() != file_len {
            return Err(damaged(Malformed::new("length of the run", 0, header.file_len(), file_len)));
        }
        let index_at = header_len as u64 + u64::from(header.block_count) * BLOCK_SIZE as u64;
        let index_len = usize::try_from(file_len - index_at).map_err(|_| {
            damaged(Malformed::new("index", index_at, "an index that fits into memory", file_len))
        })?;
        let mut bytes = vec![0; index_len];
        read(&path, &file, &mut bytes, index_at)?;
        let index = RunIndex::decode(&bytes, header.index_crc)
            .map_err(|malformed| corrupt(&path, malformed, index_at, index_len as u64))?;
        // Below the least id a look-up reads nothing and answers that there is no such producer.
        let (least, first) =
            (header.producers.map(|(least, _)| least), index.block(0).map(|block| block.first_id));
        if least != first {
            let found = first.map_or_else(|| "no block".to_owned(), |first| first.to_string());
            let expected = least.map_or_else(|| "no block".to_owned(), |least| least.to_string());
            return Err(corrupt(
                &path,
                Malformed::new("first id of the first block", 0, expected, found),
                index_at,
                index_len as u64,
            ));
        }
        Ok(Arc::new(Self { header, header_crc, path, file, index }))
    }

    /// A run whose bytes were written and synced by this process.
    pub(super) fn written(
        header: RunHeader,
        header_crc: u32,
        path: PathBuf,
        file: Arc<dyn File>,
        index: RunIndex,
    ) -> Self {
        Self { header, header_crc, path, file, index }
    }

    /// What the run says beside its entries.
    #[must_use]
    pub fn header(&self) -> &RunHeader {
        &self.header
    }

    /// The place behind the last batch that the run covers.
    #[must_use]
    pub fn to(&self) -> &LogPoint {
        &self.header.to
    }

    /// The file, for reading.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Where the run is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How a manifest names the run.
    #[must_use]
    pub fn reference(&self) -> RunRef {
        RunRef { number: self.header.number, header_crc: self.header_crc }
    }

    /// The entry of `id`; at most one read of 4096 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the block that would hold it is damaged, [`Error::Io`] if it cannot be read: nothing is
    /// known of the id then.
    pub fn get(&self, id: ProducerId) -> Result<Option<Entry>, Error> {
        if self.header.producers.is_none_or(|(least, greatest)| id < least || greatest < id) {
            return Ok(None);
        }
        let Some((nth, expected)) = self.index.locate(id).and_then(|nth| Some((nth, self.index.block(nth)?)))
        else {
            return Ok(None);
        };
        let at = self.block_at(nth);
        let mut bytes = [0; BLOCK_SIZE];
        read(&self.path, &self.file, &mut bytes, at)?;
        Block::check(&bytes, expected)
            .and_then(|block| block.find(id))
            .and_then(|found| found.map(|entry| from_run_entry(&entry)).transpose())
            .map_err(|malformed| self.corrupt(malformed, at, BLOCK_SIZE as u64))
    }

    /// All entries by ascending id, read 256 KiB at a time.
    #[must_use]
    pub fn entries(self: &Arc<Self>) -> RunEntries {
        RunEntries {
            run: Arc::clone(self),
            buffer: Vec::new(),
            unread: 0,
            next_block: 0,
            decoded: Vec::new(),
            given: 0,
            last_id: None,
            seen: 0,
            ended: false,
        }
    }

    /// Reads and checks every byte of the run.
    ///
    /// # Errors
    ///
    /// The first damage, as [`Error::Corrupt`], or what kept it from being read.
    pub fn verify(self: &Arc<Self>) -> Result<(), Error> {
        self.entries().try_for_each(|entry| entry.map(|_| ()))
    }

    fn blocks_at(&self) -> u64 {
        self.header.encoded_len() as u64
    }

    fn block_at(&self, nth: usize) -> u64 {
        self.blocks_at() + (nth * BLOCK_SIZE) as u64
    }

    fn corrupt(&self, malformed: Malformed, base: u64, len: u64) -> Error {
        corrupt(&self.path, malformed, base, len)
    }
}

/// All entries of a run by ascending id; ends after the first error.
#[derive(Debug)]
pub struct RunEntries {
    run: Arc<Run>,
    /// Blocks that were read, of which the last `unread` bytes wait to be decoded.
    buffer: Vec<u8>,
    unread: usize,
    /// The first block that is not decoded.
    next_block: usize,
    /// Entries of one block, of which those from `given` on were not handed out.
    decoded: Vec<(ProducerId, Entry)>,
    given: usize,
    last_id: Option<ProducerId>,
    seen: u64,
    ended: bool,
}

impl RunEntries {
    fn next_entry(&mut self) -> Result<Option<(ProducerId, Entry)>, Error> {
        loop {
            if let Some(entry) = self.decoded.get(self.given) {
                self.given += 1;
                return Ok(Some(*entry));
            }
            if self.next_block == self.run.index.len() {
                return self.check_counts().map(|()| None);
            }
            self.decode_block()?;
        }
    }

    fn decode_block(&mut self) -> Result<(), Error> {
        if self.unread == 0 {
            self.fill()?;
        }
        let run = &self.run;
        let at = run.block_at(self.next_block);
        let damaged = |malformed| run.corrupt(malformed, at, BLOCK_SIZE as u64);
        let start = self.buffer.len() - self.unread;
        let bytes = self.buffer.get(start..start + BLOCK_SIZE).unwrap_or(&[]);
        let expected = run
            .index
            .block(self.next_block)
            .ok_or_else(|| damaged(Malformed::new("block", 0, "a block in the index", self.next_block)))?;
        let block = Block::check(bytes, expected).map_err(damaged)?;
        self.decoded.clear();
        self.given = 0;
        for entry in block.entries() {
            let (id, entry) = entry.map_err(damaged)?;
            if let Some(last) = self.last_id.filter(|last| *last >= id) {
                return Err(damaged(Malformed::new("producer id", 0, format!("more than {last}"), id)));
            }
            self.last_id = Some(id);
            self.decoded.push((id, from_run_entry(&entry).map_err(damaged)?));
        }
        self.seen += self.decoded.len() as u64;
        self.unread -= BLOCK_SIZE;
        self.next_block += 1;
        Ok(())
    }

    fn fill(&mut self) -> Result<(), Error> {
        let blocks = (self.run.index.len() - self.next_block).min(STREAM_BLOCKS);
        self.buffer.resize(blocks * BLOCK_SIZE, 0);
        read(&self.run.path, &self.run.file, &mut self.buffer, self.run.block_at(self.next_block))?;
        self.unread = self.buffer.len();
        Ok(())
    }

    fn check_counts(&self) -> Result<(), Error> {
        let header = &self.run.header;
        let found = (self.seen, self.last_id);
        let expected = (header.entry_count, header.producers.map(|(_, greatest)| greatest));
        if found == expected {
            return Ok(());
        }
        let malformed = Malformed::new(
            "number of entries",
            0,
            format!("{expected:?} by the header"),
            format!("{found:?}"),
        );
        Err(self.run.corrupt(malformed, 0, header.file_len()))
    }
}

impl Iterator for RunEntries {
    type Item = Result<(ProducerId, Entry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.next_entry().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

fn read(path: &Path, file: &Arc<dyn File>, bytes: &mut [u8], at: u64) -> Result<(), Error> {
    let wanted = bytes.len();
    file.read_exact_at(bytes, at).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => {
            let malformed =
                Malformed::new("length of the run", 0, format!("{wanted} bytes"), "the end of the file");
            corrupt(path, malformed, at, wanted as u64)
        }
        _ => Error::io("read", path, e),
    })
}

fn corrupt(path: &Path, malformed: Malformed, base: u64, len: u64) -> Error {
    Error::Corrupt(Box::new(malformed.in_file(path, base, len, ADVICE)))
}
