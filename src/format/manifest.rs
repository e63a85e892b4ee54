//! `oncelog.manifest`: which runs are in use and what is known of the log, replaced as a whole.
//!
//! ```text
//! size  field
//!    8  magic = "ONCEMNFT"
//!    4  version = 1
//!    4  length of the file in bytes
//!    8  sequence                      rises with every manifest of this log
//!    8  next run number               greater than that of every run that was ever named
//!    8  truncation generation
//!    8  log start offset
//!    8  engine time, ms
//!   16  boot id
//!    1  history                       0 complete, 1 salvaged
//!    1  flags                         1 intent, 2 failed sync, 4 clean close; what is not flagged is left out
//!                                     8 the intent takes the whole log, 16 offsets may have gaps
//!                                     32 compaction, 64 replacement
//!   53  watermark                     a log point, as the three below
//!   12  intent: cut offset, leader epoch
//!   69  failed sync: durable end, boot id
//!   53  clean close: log end
//!   16  compaction: offset reached, end of what is clean
//!   53  replacement: end of the segment that takes the place of others
//!    4  number of runs in the chain,          then 12 bytes each: number, header CRC
//!    4  number of runs in the previous chain, then the same
//!    4  number of noted `.txnindex` files,    then 16 bytes each, see `txn_index_note`
//!    4  CRC-32                        of all bytes before
//! ```
//!
//! Invariant: a manifest that decodes is byte for byte one that was encoded; whoever reads it believes every field.

use super::cursor::Cursor;
use super::log_point::{put_log_point, read_log_point};
use super::txn_index_note::{TxnIndexNote, put_notes, read_notes};
use crate::error::Malformed;
use crate::types::{EngineTime, Gaps, History, LeaderEpoch, LogPoint, Offset};

/// A greater file is no manifest; the bound on what a reader allocates. Room for more than 40 000 runs.
pub const MAX_MANIFEST_SIZE: u64 = 1024 * 1024;

const MAGIC: [u8; 8] = *b"ONCEMNFT";
const VERSION: u32 = 1;
const LENGTH_AT: usize = 8 + 4;
const CRC_SIZE: usize = 4;
const RUN_REF_SIZE: usize = 8 + 4;
const HAS_INTENT: u8 = 1;
const HAS_FAILED_SYNC: u8 = 2;
const HAS_CLEAN_CLOSE: u8 = 4;
const WHOLE_LOG: u8 = 8;
const GAPS_POSSIBLE: u8 = 16;
const HAS_COMPACTION: u8 = 32;
const HAS_REPLACEMENT: u8 = 64;
const ALL_FLAGS: u8 = 127;

/// What a log remembers of itself beside its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Rises with every manifest of this log.
    pub sequence: u64,
    /// Runs of the present chain, base first. Empty: the whole log is the chain.
    pub chain: Vec<RunRef>,
    /// Runs of the chain that the present one was merged from, base first.
    pub previous_chain: Vec<RunRef>,
    /// Number of the next run; greater than that of every run that was ever named here.
    pub next_run_number: u64,
    /// The log was durable up to here when the manifest was written: a lower bound.
    pub watermark: LogPoint,
    /// Raised whenever the log end goes back: by truncation, by salvage, or because another program wrote here.
    pub truncation_generation: u64,
    /// First readable offset.
    pub log_start_offset: Offset,
    /// A truncation that was begun and perhaps not finished.
    pub intent: Option<TruncationIntent>,
    /// A sync that failed and was not yet made up for.
    pub failed_sync: Option<FailedSync>,
    /// Engine time when the manifest was written.
    pub engine_time: EngineTime,
    /// Boot of the machine that wrote the manifest.
    pub boot_id: [u8; 16],
    /// Whether damaged bytes were ever cut on the caller's word.
    pub history: History,
    /// Whether offsets may be missing between batches.
    pub gaps: Gaps,
    /// How far compaction has come.
    pub compaction: CompactionState,
    /// The log end, if the log was closed in order and nothing was written since.
    pub clean_close: Option<LogPoint>,
    /// What the `.txnindex` files below the last checkpoint begin with, by rising base. A file of a segment that is not
    /// listed was never noted, or is none.
    pub txn_indexes: Vec<TxnIndexNote>,
}

impl Manifest {
    /// The first one of a log that is durable up to `watermark` and can be read from `log_start_offset` on.
    #[must_use]
    pub fn first(watermark: LogPoint, log_start_offset: Offset) -> Self {
        Self {
            sequence: 0,
            chain: Vec::new(),
            previous_chain: Vec::new(),
            next_run_number: 0,
            watermark,
            truncation_generation: 0,
            log_start_offset,
            intent: None,
            failed_sync: None,
            engine_time: EngineTime(0),
            boot_id: [0; 16],
            history: History::Complete,
            gaps: Gaps::None,
            compaction: CompactionState::default(),
            clean_close: None,
            txn_indexes: Vec::new(),
        }
    }
}

/// Names a run and binds it: another file under the same number has another header CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunRef {
    /// Number in the file's name.
    pub number: u64,
    /// CRC-32 in the run's header, which covers, over the run's index, every byte of the run.
    pub header_crc: u32,
}

/// A truncation in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TruncationIntent {
    /// This offset and all above it go; of a whole log everything, and it begins here anew.
    pub cut: Offset,
    /// Whether what lies below the cut goes too.
    pub extent: Extent,
    /// The last leader epoch of the log when the truncation began. A batch at or above the cut with a later one was
    /// written by another program since.
    pub leader_epoch: LeaderEpoch,
}

/// How much of a log a truncation takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// What lies at and above the cut.
    Above,
    /// Everything, producers included.
    Whole,
}

/// How far compaction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CompactionState {
    /// Below this offset records may be gone, so that no producer state can be made from batches there: a chain of runs
    /// that ends below it is of no use. Noted before the first of them goes.
    pub reached: Offset,
    /// Below this offset every round is complete: where the next one begins.
    pub clean_to: Offset,
    /// A segment that is about to take the place of others: its end, named by its last batch. Those that begin between its
    /// base and its end go.
    pub replacement: Option<LogPoint>,
}

impl CompactionState {
    fn is_begun(&self) -> bool {
        self.reached > Offset::ZERO || self.clean_to > Offset::ZERO
    }
}

/// Where the log stood when a sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedSync {
    /// Nothing behind this is known to be on the medium, whatever a read returns.
    pub durable: LogPoint,
    /// In which boot of the machine: in the same one, the page cache may hold bytes that the medium never got.
    pub boot_id: [u8; 16],
}

impl Manifest {
    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        for number in [self.sequence, self.next_run_number, self.truncation_generation] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.log_start_offset.0.to_be_bytes());
        out.extend_from_slice(&self.engine_time.0.to_be_bytes());
        out.extend_from_slice(&self.boot_id);
        out.push(match self.history {
            History::Complete => 0,
            History::Salvaged => 1,
        });
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        out.push(
            flag(self.intent.is_some(), HAS_INTENT)
                | flag(self.failed_sync.is_some(), HAS_FAILED_SYNC)
                | flag(self.clean_close.is_some(), HAS_CLEAN_CLOSE)
                | flag(self.intent.is_some_and(|intent| intent.extent == Extent::Whole), WHOLE_LOG)
                | flag(self.gaps == Gaps::Possible, GAPS_POSSIBLE)
                | flag(self.compaction.is_begun(), HAS_COMPACTION)
                | flag(self.compaction.replacement.is_some(), HAS_REPLACEMENT),
        );
        put_log_point(&mut out, &self.watermark);
        if let Some(intent) = &self.intent {
            out.extend_from_slice(&intent.cut.0.to_be_bytes());
            out.extend_from_slice(&intent.leader_epoch.0.to_be_bytes());
        }
        if let Some(failed) = &self.failed_sync {
            put_log_point(&mut out, &failed.durable);
            out.extend_from_slice(&failed.boot_id);
        }
        if let Some(end) = &self.clean_close {
            put_log_point(&mut out, end);
        }
        if self.compaction.is_begun() {
            out.extend_from_slice(&self.compaction.reached.0.to_be_bytes());
            out.extend_from_slice(&self.compaction.clean_to.0.to_be_bytes());
        }
        if let Some(end) = &self.compaction.replacement {
            put_log_point(&mut out, end);
        }
        put_runs(&mut out, &self.chain);
        put_runs(&mut out, &self.previous_chain);
        put_notes(&mut out, &self.txn_indexes);
        let length = u32::try_from(out.len() + CRC_SIZE).unwrap_or(u32::MAX);
        for (to, from) in out.iter_mut().skip(LENGTH_AT).zip(length.to_be_bytes()) {
            *to = from;
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with the first thing that is wrong, in this order: magic, version, length, CRC, fields.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(checked_body(bytes)?);
        cursor.take(LENGTH_AT + 4, "manifest head")?;
        let sequence = cursor.u64("manifest sequence")?;
        let next_run_number = cursor.u64("next run number")?;
        let truncation_generation = cursor.u64("truncation generation")?;
        let log_start_offset = Offset(cursor.i64("log start offset")?);
        let engine_time = EngineTime(cursor.u64("engine time")?);
        let boot_id = cursor.array("boot id")?;
        let history = match cursor.u8("history")? {
            0 => History::Complete,
            1 => History::Salvaged,
            other => return Err(Malformed::new("history", before(&cursor, 1), "0 or 1", other)),
        };
        let flags = cursor.u8("manifest flags")?;
        let unbound = flags & WHOLE_LOG != 0 && flags & HAS_INTENT == 0;
        if flags & !ALL_FLAGS != 0 || unbound {
            let found = format!("{flags:#010b}");
            let expected = "no flag above 64, and 8 only beside 1";
            return Err(Malformed::new("manifest flags", before(&cursor, 1), expected, found));
        }
        let extent = if flags & WHOLE_LOG == 0 { Extent::Above } else { Extent::Whole };
        let gaps = if flags & GAPS_POSSIBLE == 0 { Gaps::None } else { Gaps::Possible };
        let watermark = read_log_point(&mut cursor)?;
        let intent = (flags & HAS_INTENT != 0).then(|| read_intent(&mut cursor, extent)).transpose()?;
        let failed_sync =
            (flags & HAS_FAILED_SYNC != 0).then(|| read_failed_sync(&mut cursor)).transpose()?;
        let clean_close = (flags & HAS_CLEAN_CLOSE != 0).then(|| read_log_point(&mut cursor)).transpose()?;
        let (reached, clean_to) = if flags & HAS_COMPACTION == 0 {
            (Offset::ZERO, Offset::ZERO)
        } else {
            (Offset(cursor.i64("offset reached")?), Offset(cursor.i64("end of what is clean")?))
        };
        let replacement = (flags & HAS_REPLACEMENT != 0).then(|| read_log_point(&mut cursor)).transpose()?;
        let chain = read_runs(&mut cursor, next_run_number)?;
        let previous_chain = read_runs(&mut cursor, next_run_number)?;
        let txn_indexes = read_notes(&mut cursor)?;
        cursor.finish("end of the manifest")?;
        Ok(Self {
            sequence,
            chain,
            previous_chain,
            next_run_number,
            watermark,
            truncation_generation,
            log_start_offset,
            intent,
            failed_sync,
            engine_time,
            boot_id,
            history,
            gaps,
            compaction: CompactionState { reached, clean_to, replacement },
            clean_close,
            txn_indexes,
        })
    }
}

/// The bytes that the CRC covers, once head and CRC are proven.
fn checked_body(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor::new(bytes);
    let magic: [u8; 8] = cursor.array("manifest magic")?;
    if magic != MAGIC {
        return Err(Malformed::new("manifest magic", 0, "ONCEMNFT", magic.escape_ascii()));
    }
    let version = cursor.u32("manifest version")?;
    if version != VERSION {
        return Err(Malformed::new("manifest version", 8, VERSION, version));
    }
    let length = cursor.u32("manifest length")?;
    if usize::try_from(length).ok() != Some(bytes.len()) {
        return Err(Malformed::new("manifest length", LENGTH_AT as u64, bytes.len(), length));
    }
    let Some((body, stored)) = bytes.split_last_chunk::<CRC_SIZE>() else {
        return Err(Malformed::new("manifest CRC", 0, "4 bytes", bytes.len()));
    };
    let found = u32::from_be_bytes(*stored);
    let expected = crc32fast::hash(body);
    if found != expected {
        let at = body.len() as u64;
        return Err(Malformed::new("manifest CRC", at, format!("{expected:08x}"), format!("{found:08x}")));
    }
    Ok(body)
}

fn put_runs(out: &mut Vec<u8>, runs: &[RunRef]) {
    out.extend_from_slice(&u32::try_from(runs.len()).unwrap_or(u32::MAX).to_be_bytes());
    for run in runs {
        out.extend_from_slice(&run.number.to_be_bytes());
        out.extend_from_slice(&run.header_crc.to_be_bytes());
    }
}

fn read_runs(cursor: &mut Cursor<'_>, next_run_number: u64) -> Result<Vec<RunRef>, Malformed> {
    let count = cursor.u32("number of runs")?;
    let room = cursor.remaining() / RUN_REF_SIZE;
    let count = usize::try_from(count).ok().filter(|count| *count <= room).ok_or_else(|| {
        Malformed::new(
            "number of runs",
            before(cursor, 4),
            format!("at most {room}, as bytes are left"),
            count,
        )
    })?;
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        let run =
            RunRef { number: cursor.u64("run number")?, header_crc: cursor.u32("header CRC of a run")? };
        if run.number >= next_run_number {
            let expected = format!("less than the next run number {next_run_number}");
            return Err(Malformed::new("run number", before(cursor, RUN_REF_SIZE), expected, run.number));
        }
        runs.push(run);
    }
    Ok(runs)
}

fn read_intent(cursor: &mut Cursor<'_>, extent: Extent) -> Result<TruncationIntent, Malformed> {
    Ok(TruncationIntent {
        cut: Offset(cursor.i64("cut of the intent")?),
        extent,
        leader_epoch: LeaderEpoch(cursor.i32("leader epoch of the intent")?),
    })
}

fn read_failed_sync(cursor: &mut Cursor<'_>) -> Result<FailedSync, Malformed> {
    Ok(FailedSync { durable: read_log_point(cursor)?, boot_id: cursor.array("boot id of the failed sync")? })
}

fn before(cursor: &Cursor<'_>, size: usize) -> u64 {
    cursor.position().saturating_sub(size) as u64
}

#[cfg(test)]
mod tests;
