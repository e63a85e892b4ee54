//! Writes a run, front to back, in large pieces; the header comes last.
//!
//! Invariant: a file under a run's name has the magic of a run only if everything else was written before, and a
//! [`Run`] is handed out only after a sync of all its bytes. A writer that is dropped unfinished takes its file away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::convert::to_run_entry;
use super::run_reader::Run;
use crate::error::Error;
use crate::format::names::run_name;
use crate::format::run::{BLOCK_SIZE, BlockBuilder, CompletedTxn, RunHeader, RunIndex, RunKind};
use crate::producer::Entry;
use crate::storage::{File, OpenMode, Storage};
use crate::types::{EngineTime, LeaderEpoch, LogPoint, Offset, ProducerId};

/// Bytes of blocks that are collected for one write.
const WRITE_SIZE: usize = 256 * 1024;

/// What a run says beside its entries; known before the first of them is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDraft {
    /// Base or delta.
    pub kind: RunKind,
    /// First offset that the run covers.
    pub from: Offset,
    /// The place behind the last batch that it covers.
    pub to: LogPoint,
    /// When the entries were frozen.
    pub engine_time: EngineTime,
    /// All leader epochs up to the end, with the first offset of each.
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    /// All transactions open at the end, with the first offset of each.
    pub open_txns: Vec<(ProducerId, Offset)>,
    /// Ended transactions whose marker is at or above the high watermark.
    pub completed_txns: Vec<CompletedTxn>,
}

impl RunDraft {
    /// A draft for the stretch from `from` to `to`, without epochs and transactions.
    #[must_use]
    pub fn new(kind: RunKind, from: Offset, to: LogPoint, engine_time: EngineTime) -> Self {
        Self {
            kind,
            from,
            to,
            engine_time,
            leader_epochs: Vec::new(),
            open_txns: Vec::new(),
            completed_txns: Vec::new(),
        }
    }

    /// A draft for a run that takes the place of runs from `from` on, of which `newest` is the last: it ends where that
    /// one ends, so all that was true there is true at its end.
    #[must_use]
    pub fn ending_like(newest: &Run, kind: RunKind, from: Offset) -> Self {
        let header = newest.header();
        Self {
            kind,
            from,
            to: header.to,
            engine_time: header.engine_time,
            leader_epochs: header.leader_epochs.clone(),
            open_txns: header.open_txns.clone(),
            completed_txns: header.completed_txns.clone(),
        }
    }
}

/// A run in the making.
#[derive(Debug)]
pub struct RunWriter {
    header: RunHeader,
    index: RunIndex,
    block: BlockBuilder,
    buffer: Vec<u8>,
    /// Where `buffer` will be written.
    at: u64,
    output: Output,
}

/// The file, as long as nobody can rely on it.
#[derive(Debug)]
struct Output {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Arc<dyn File>,
    complete: bool,
}

impl RunWriter {
    /// Begins the run with this number, which must never have been used in `dir`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file exists or cannot be created; [`Error::Misuse`] if the draft ends before it begins.
    pub fn create(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        number: u64,
        draft: RunDraft,
    ) -> Result<Self, Error> {
        if draft.from > draft.to.offset {
            let (from, to) = (draft.from, draft.to.offset);
            return Err(Error::Misuse(format!(
                "run {number} from offset {from} to {to} ends before it begins"
            )));
        }
        let path = dir.join(run_name(number));
        let file = storage.open(&path, OpenMode::CreateNew).map_err(|e| Error::io("create", &path, e))?;
        let header = RunHeader {
            number,
            kind: draft.kind,
            from: draft.from,
            to: draft.to,
            engine_time: draft.engine_time,
            entry_count: 0,
            block_count: 0,
            producers: None,
            index_crc: 0,
            leader_epochs: draft.leader_epochs,
            open_txns: draft.open_txns,
            completed_txns: draft.completed_txns,
        };
        Ok(Self {
            at: header.encoded_len() as u64,
            header,
            index: RunIndex::default(),
            block: BlockBuilder::default(),
            buffer: Vec::with_capacity(WRITE_SIZE),
            output: Output { storage: Arc::clone(storage), path, file, complete: false },
        })
    }

    /// Adds an entry; ids must ascend.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if `id` is not greater than the one before; [`Error::Io`] if a write fails. The run is worth
    /// nothing then: drop the writer.
    pub fn push(&mut self, id: ProducerId, entry: &Entry) -> Result<(), Error> {
        if let Some((_, last)) = self.header.producers.filter(|(_, last)| *last >= id) {
            return Err(Error::Misuse(format!("{id:?} pushed into a run behind {last:?}: ids must ascend")));
        }
        let run_entry = to_run_entry(entry);
        if !self.block.push(id, &run_entry) {
            self.end_block()?;
            if !self.block.push(id, &run_entry) {
                return Err(Error::Misuse(format!("the entry of {id:?} is larger than a block")));
            }
        }
        let least = self.header.producers.map_or(id, |(least, _)| least);
        self.header.producers = Some((least, id));
        self.header.entry_count += 1;
        Ok(())
    }

    /// Ends the run: writes index and header, then syncs the file.
    ///
    /// The name is not durable yet: the replacement of the manifest that names the run ends with a directory sync, and
    /// nothing may rely on the run before that. A power cut in between may leave a manifest that names a missing run;
    /// the chain without it, or the one before, is then still whole. No directory sync is done here, because who meets
    /// the failure of one must latch, and a failed checkpoint fails no append.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a write or the sync fails; the file is taken away as far as possible, and the number is used up.
    pub fn finish(mut self) -> Result<Arc<Run>, Error> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let index = self.index.encode();
        self.header.index_crc = crc32fast::hash(&index);
        self.buffer.extend_from_slice(&index);
        self.flush()?;
        let (header, header_crc) = self.header.encode();
        self.output.write(&header, 0)?;
        self.output.file.sync_data().map_err(|e| Error::io("sync", &self.output.path, e))?;
        self.output.complete = true;
        let file = Arc::clone(&self.output.file);
        Ok(Arc::new(Run::written(self.header, header_crc, self.output.path.clone(), file, self.index)))
    }

    fn end_block(&mut self) -> Result<(), Error> {
        let block = self.block.finish(&mut self.buffer);
        self.index.push(block);
        self.header.block_count = self.header.block_count.checked_add(1).ok_or_else(|| {
            Error::Misuse(format!("run {} would have more than {} blocks", self.header.number, u32::MAX))
        })?;
        if self.buffer.len() + BLOCK_SIZE > WRITE_SIZE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.output.write(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Output {
    fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, at).map_err(|e| Error::io("write", &self.path, e))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.complete {
            // A disk that is full must not stay full of attempts. If this fails too, recovery takes the file away.
            let _ = self.storage.unlink(&self.path);
        }
    }
}
