//! What a tier of remote storage needs of a log: sealed segments with the state at their end, and logs that begin at such
//! a state (KIP-405).
//!
//! Invariant: what is exported can never change: it is durable, replicated, decided and sealed. The state that goes with
//! it holds every producer's whole window, where Kafka ships one batch of each.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::config::LogConfig;
use super::handle::Log;
use super::open::{self, Environment};
use super::shared::Shared;
use crate::checkpoint::{self, BaseInputs, Run, RunDraft};
use crate::error::Error;
use crate::format::names;
use crate::format::run::RunKind;
use crate::leader_epoch::LeaderEpochs;
use crate::recovery::{self, RecoveryReport};
use crate::segment::sealed::SealedSegment;
use crate::storage::{File, OpenMode, Storage, unlink_if_there};
use crate::types::{History, LogPoint, Offset, Position};

/// A segment that no batch will be appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset behind its last one.
    pub end_offset: Offset,
    /// Length of its `.log` file in bytes.
    pub bytes: u64,
}

/// A file as it was when it was exported. It stays readable when the log deletes it.
#[derive(Clone, Debug)]
pub struct ExportedFile {
    /// For reading only.
    pub file: Arc<dyn File>,
    /// How many bytes of it, from its first one on.
    pub len: u64,
}

impl ExportedFile {
    /// All of its bytes.
    ///
    /// # Errors
    ///
    /// What the system says; `UnexpectedEof` if the file has become shorter.
    pub fn read(&self) -> std::io::Result<Bytes> {
        let too_long = |_| std::io::Error::from(std::io::ErrorKind::FileTooLarge);
        let mut bytes = vec![0; usize::try_from(self.len).map_err(too_long)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    }
}

/// A sealed segment with everything that goes with it to another tier.
#[derive(Clone, Debug)]
pub struct ExportedSegment {
    /// Which one.
    pub segment: Sealed,
    /// `.log`: the batches.
    pub log: ExportedFile,
    /// `.index` (`OFFSET`).
    pub offset_index: ExportedFile,
    /// `.timeindex` (`TIMESTAMP`).
    pub time_index: ExportedFile,
    /// `.txnindex` (`TRANSACTION`), if a transaction was aborted in the segment.
    pub txn_index: Option<ExportedFile>,
    /// Where each leader epoch begins, up to the end of the segment (`LEADER_EPOCH`).
    pub leader_epochs: LeaderEpochs,
    /// Every producer at the end of the segment, with its whole window (in the place of `PRODUCER_SNAPSHOT`).
    pub state: ExportedFile,
    /// Whether the log had lost anything when the state was exported: goes with it.
    pub history: History,
}

/// A state from which a log can begin: what [`ExportedSegment::state`] and [`ExportedSegment::history`] hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedState {
    /// The bytes, as they were exported.
    pub bytes: Bytes,
    /// As it was exported.
    pub history: History,
}

impl Log {
    /// Segments that may be exported, the oldest first: sealed, and wholly below the last stable offset, so that nothing
    /// of them can change any more (Kafka: `RemoteLogManager.candidateLogSegments`).
    #[must_use]
    pub fn sealed_segments(&self) -> Vec<Sealed> {
        let stable = self.shared.last_stable_offset().min(self.shared.durable_offset());
        let view = self.shared.view.read().clone();
        let sealed = view.sealed().iter().map(|segment| facts(segment));
        sealed.take_while(|segment| segment.end_offset <= stable).collect()
    }

    /// The segment that begins at `base` with its indexes, its leader epochs and the state at its end.
    ///
    /// The state is made for the export, in a file that has no name when this returns; it costs a reading of the runs.
    /// Segments are best exported in their order and before the retention deletes what lies before them: the state at
    /// the end of one that lies below all bases follows from a log that has its beginning alone.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if no segment of [`Self::sealed_segments`] begins there, [`Error::Corrupt`] if the state at its
    /// end can no longer be told; [`Error::Io`]; [`Error::Unavailable`] or [`Error::Truncated`] if the log is being cut.
    pub fn export(&self, base: Offset) -> Result<ExportedSegment, Error> {
        let ticket = self.shared.generation.ticket()?;
        // Whoever lets go of the directory waits for it: its files stand under names that may be another log's then.
        let _exporting = self.shared.exporting.read();
        self.shared.still_here()?;
        let known = self.sealed_segments().into_iter().find(|segment| segment.base_offset == base);
        let Some(segment) = known else {
            return Err(Error::Misuse(format!("no segment that can be exported begins at offset {base}")));
        };
        let exported = self.shared.export_segment(segment);
        ticket.check()?;
        exported
    }

    /// Makes a log in `dir` that begins where `state` ends, knows its producers, and holds no batch yet; the next one it
    /// takes is the one behind the exported segment. A retry of what lies in that segment is answered as there.
    ///
    /// A fetch below its start is answered [`Error::OffsetOutOfRange`]: from the offset that was asked for up to
    /// `log_start_offset` is what another tier has.
    ///
    /// Its leader epochs begin at its start, too; those before stand in [`ExportedSegment::leader_epochs`].
    ///
    /// After a crash before it returns, the directory holds the whole state or none of it, and the call can be repeated:
    /// [`Error::Misuse`] says then that the log is there and is to be opened.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the directory holds a log already; [`Error::Corrupt`] if the state is damaged; else as
    /// [`Log::open_with`].
    pub fn start_from(
        dir: impl AsRef<Path>,
        config: LogConfig,
        environment: Environment,
        state: &ImportedState,
    ) -> Result<(Self, RecoveryReport), Error> {
        let opened = open::open(dir.as_ref(), config, environment, Some(state))?;
        let log = Self { shared: opened.shared, _pool: opened.pool, locks: opened.locks };
        Ok((log, opened.report))
    }
}

impl ImportedState {
    /// Makes the log in `dir`, whose lock or whose root's lock is held.
    pub(crate) fn write_log(&self, storage: &Arc<dyn Storage>, dir: &Path) -> Result<(), Error> {
        recovery::import(storage, dir, &self.bytes, self.history).map(drop)
    }
}

impl ExportedSegment {
    /// The state, read into memory, for [`Log::start_from`].
    ///
    /// # Errors
    ///
    /// As [`ExportedFile::read`].
    pub fn imported_state(&self) -> std::io::Result<ImportedState> {
        Ok(ImportedState { bytes: self.state.read()?, history: self.history })
    }
}

fn facts(segment: &SealedSegment) -> Sealed {
    Sealed { base_offset: segment.base(), end_offset: segment.next_offset(), bytes: segment.len().0 }
}

impl Shared {
    fn export_segment(&self, segment: Sealed) -> Result<ExportedSegment, Error> {
        let (log, offset_index, time_index, txn_index) = {
            // A checkpoint in the background writes the same files, and compaction gives their names to others.
            let _one_at_a_time = self.lock_background();
            self.write_sealed_indexes()?;
            self.write_lost_indexes()?;
            if !self.view.read().sealed().iter().any(|now| facts(now) == segment) {
                let why = "the segment was compacted or deleted meanwhile; ask for the sealed segments again";
                return Err(Error::Unavailable { why: why.to_owned() });
            }
            let base = segment.base_offset;
            let txn_index = match self.exported(&names::txn_index_name(base)) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
                other => Some(other?),
            };
            let log = ExportedFile { len: segment.bytes, ..self.exported(&names::log_name(base))? };
            let offset_index = self.exported(&names::index_name(base))?;
            (log, offset_index, self.exported(&names::time_index_name(base))?, txn_index)
        };
        let (leader_epochs, history) = {
            let tail = self.lock_tail();
            (tail.leader_epochs.below(segment.end_offset), tail.history)
        };
        let state = self.state_at_end_of(segment, &leader_epochs)?;
        Ok(ExportedSegment {
            segment,
            log,
            offset_index,
            time_index,
            txn_index,
            leader_epochs,
            state,
            history,
        })
    }

    fn exported(&self, name: &str) -> Result<ExportedFile, Error> {
        let path = self.dir.join(name);
        let opened = self.storage.open(&path, OpenMode::Read).and_then(|file| {
            let len = file.len()?;
            Ok(ExportedFile { file, len })
        });
        opened.map_err(|error| Error::io("open", &path, error))
    }

    /// The state as a base that begins and ends at the end of the segment, bound to no batch.
    fn state_at_end_of(&self, segment: Sealed, epochs: &LeaderEpochs) -> Result<ExportedFile, Error> {
        let chain = Arc::clone(&self.lock_tail().chain);
        let previous = self.manifest.lock().previous_chain.clone();
        let end = LogPoint {
            segment: segment.base_offset,
            position: Position(segment.bytes),
            offset: segment.end_offset,
            last_batch: None,
        };
        let state = recovery::state_at(&self.storage, &self.dir, &chain, &previous, &end)?;
        let entries = state.producers.sorted();
        let mut open_txns = Vec::new();
        for entry in checkpoint::MergedEntries::new(state.chain.runs(), &entries)? {
            let (producer, entry) = entry?;
            open_txns.extend(entry.txn_first_offset.map(|first| (producer, first)));
        }
        let start = LogPoint::segment_start(segment.end_offset);
        let draft = RunDraft {
            leader_epochs: epochs.pairs(),
            open_txns,
            ..RunDraft::new(RunKind::Base, start.offset, start, self.engine_time())
        };
        let inputs = BaseInputs { chain: &state.chain, frozen: &entries, expiry: None };
        let run = checkpoint::write_base(self.run_place(), inputs, draft)?;
        // The log has no use for it; whoever holds the file reads on. A checkpoint may have removed it already.
        unlink_if_there(&*self.storage, run.path())
            .map_err(|error| Error::io("unlink", run.path(), error))?;
        Ok(exported_run(&run))
    }
}

fn exported_run(run: &Run) -> ExportedFile {
    ExportedFile { file: Arc::clone(run.file()), len: run.header().file_len() }
}
