//! What a recovery found, did and kept aside, for people and for the embedder's logs.
//!
//! Invariant: nothing that was in the directory is dropped without a line here.

use std::fmt;
use std::ops::Range;

use crate::types::{LogPoint, Offset};

/// In what state the directory was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoveryKind {
    /// There was no log.
    NewLog,
    /// Closed in order, and nothing written since: nothing was scanned.
    Clean,
    /// Not closed in order.
    Unclean,
    /// A program that does not keep our files (Kafka) wrote here after we did.
    AnotherProgramWrote,
    /// Our manifest was lost or damaged; what it said was put together from the runs.
    ManifestLost,
    /// Written by Kafka, which stopped in order.
    KafkaClean,
    /// Written by Kafka, which did not stop in order.
    KafkaUnclean,
}

/// A file that was read and not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Name of the file in the partition directory.
    pub file: String,
    /// Why it was not used.
    pub reason: String,
}

/// Bytes that are taken out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutReport {
    /// Name of the `.log` file.
    pub file: String,
    /// The bytes, end exclusive. From 0 to the length where the whole file goes.
    pub bytes: Range<u64>,
    /// The offset at which the log ends because of this, or the base offset of a file that goes as a whole.
    pub offset: Offset,
    /// Whole batches with a right CRC among these bytes; at least so many where there are megabytes of damage.
    pub valid_batches: u64,
    /// Name of the file that keeps the bytes; `None` if they are all zero or were to be deleted anyway.
    pub keepsake: Option<String>,
    /// The rule that the first of these bytes break.
    pub reason: String,
    /// Whether this is more than a crash explains: the machine did not restart, and the file does not simply end
    /// inside its last batch.
    pub suspicious: bool,
}

/// Runs that the producer state was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Numbers of the runs, base first.
    pub runs: Vec<u64>,
    /// The state covers everything below this offset.
    pub end: Offset,
    /// Whether this is the chain that the present one had been merged from.
    pub previous: bool,
}

/// What a recovery found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryReport {
    /// In what state the directory was found.
    pub kind: RecoveryKind,
    /// The runs in use; `None`: the state was put together from batches (and a `.snapshot` of Kafka) alone.
    pub chain: Option<ChainReport>,
    /// Name of the `.snapshot` of Kafka that the state was put together from.
    pub snapshot: Option<String>,
    /// Files that were read and not believed.
    pub rejected: Vec<Rejected>,
    /// The log was known to be durable up to here when it was found.
    pub watermark: LogPoint,
    /// First readable offset.
    pub log_start_offset: Offset,
    /// The offset that the next batch gets.
    pub log_end_offset: Offset,
    /// Bytes of batches that were read with their CRC.
    pub scanned_bytes: u64,
    /// Bytes of batches whose producers were applied to the state.
    pub replayed_bytes: u64,
    /// Bytes of those of which only the headers were read: their CRC is unproven.
    pub unverified_bytes: u64,
    /// Number of batches applied to the state.
    pub replayed_batches: u64,
    /// Producers whose state is newer than the runs and waits for a checkpoint.
    pub dirty_producers: u64,
    /// What is taken out of the log, in the order of the log.
    pub cuts: Vec<CutReport>,
    /// Names of other files that are deleted: segments below the log start, leftovers of ours.
    pub deleted: Vec<String>,
    /// Bytes above the watermark that are written in place once more and synced.
    pub rewritten_bytes: u64,
    /// Segments whose index files were missing or wrong when the log was opened, so that every header was read for them.
    /// Filled in by the log, for the segment that it appends to; sealed ones are looked at when they are first read.
    pub indexes_rebuilt: u64,
    /// Whether damage below the watermark was cut on the caller's word in this recovery.
    pub salvaged: bool,
    /// Everything else worth knowing.
    pub notes: Vec<String>,
}

impl RecoveryReport {
    pub(super) fn new(kind: RecoveryKind) -> Self {
        Self {
            kind,
            chain: None,
            snapshot: None,
            rejected: Vec::new(),
            watermark: LogPoint::segment_start(Offset::ZERO),
            log_start_offset: Offset::ZERO,
            log_end_offset: Offset::ZERO,
            scanned_bytes: 0,
            replayed_bytes: 0,
            unverified_bytes: 0,
            replayed_batches: 0,
            dirty_producers: 0,
            cuts: Vec::new(),
            deleted: Vec::new(),
            rewritten_bytes: 0,
            indexes_rebuilt: 0,
            salvaged: false,
            notes: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(super) fn reject(&mut self, file: impl Into<String>, reason: impl ToString) {
        let rejected = Rejected { file: file.into(), reason: reason.to_string() };
        if !self.rejected.contains(&rejected) {
            self.rejected.push(rejected);
        }
    }

    /// The offset from which batches were applied to the state: the end of the checkpoint in force.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Offset> {
        self.chain.as_ref().map(|chain| chain.end)
    }
}

impl fmt::Display for RecoveryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewLog => "a new log",
            Self::Clean => "closed in order",
            Self::Unclean => "not closed in order",
            Self::AnotherProgramWrote => "another program wrote here",
            Self::ManifestLost => "the manifest was lost; its runs were adopted",
            Self::KafkaClean => "written by Kafka, which stopped in order",
            Self::KafkaUnclean => "written by Kafka, which did not stop in order",
        })
    }
}

impl fmt::Display for CutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cut {} bytes {}..{} at offset {}",
            self.file, self.bytes.start, self.bytes.end, self.offset
        )?;
        write!(f, " ({}; {} valid batches in it)", self.reason, self.valid_batches)?;
        match &self.keepsake {
            Some(name) => write!(f, ", kept in {name}")?,
            None => f.write_str(", nothing to keep")?,
        }
        if self.suspicious { f.write_str("; suspicious: the machine did not restart") } else { Ok(()) }
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "found: {}", self.kind)?;
        writeln!(f, "log: offsets {} to {} (exclusive)", self.log_start_offset, self.log_end_offset)?;
        writeln!(f, "durable when found: offset {}", self.watermark.offset)?;
        match &self.chain {
            Some(chain) => {
                let which = if chain.previous { "previous chain, runs" } else { "runs" };
                let runs: Vec<String> = chain.runs.iter().map(u64::to_string).collect();
                writeln!(f, "checkpoint: {which} {} up to offset {}", runs.join(", "), chain.end)?;
            }
            None => match &self.snapshot {
                Some(name) => writeln!(f, "checkpoint: Kafka's {name}, windows refilled from the log")?,
                None => writeln!(f, "checkpoint: none")?,
            },
        }
        writeln!(
            f,
            "replayed: {} batches, {} bytes ({} of them unverified); {} producers wait for a checkpoint",
            self.replayed_batches, self.replayed_bytes, self.unverified_bytes, self.dirty_producers
        )?;
        writeln!(f, "checked: {} bytes; written again: {} bytes", self.scanned_bytes, self.rewritten_bytes)?;
        for rejected in &self.rejected {
            writeln!(f, "not used: {}: {}", rejected.file, rejected.reason)?;
        }
        for cut in &self.cuts {
            writeln!(f, "{cut}")?;
        }
        for name in &self.deleted {
            writeln!(f, "deleted: {name}")?;
        }
        if self.salvaged {
            writeln!(f, "salvaged: damage below the watermark was cut as asked for")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
