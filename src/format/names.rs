//! Names of all files and directories: those that Kafka gives and those that are ours.
//!
//! Invariant: a name is ours or Kafka's by its spelling alone, and [`FileName::parse`] gives back exactly what the
//! functions here wrote; every other spelling (a number of fewer digits, say) is [`FileName::Unknown`] and is left
//! alone. No name that only we know begins with a digit or ends with a suffix that Kafka acts on, because Kafka loads,
//! deletes or fails on such files.
//!
//! ```text
//! <topic>-<partition>/                      the last '-' divides
//!   00000000000000000060.log .index .timeindex .txnindex     number: base offset of the segment
//!   00000000000000000060.snapshot           number: first offset that the snapshot does not cover
//!   leader-epoch-checkpoint, partition.metadata
//!   oncelog.manifest, oncelog.watermark, oncelog.lock, oncelog.next, oncelog.move
//!   producers.<number>.run
//!   salvage.<offset>.<number>.bin           bytes that were cut, kept for people
//!   <name>.tmp                              any of the above in the making
//! ```

mod partition_dir;
#[cfg(test)]
mod tests;

pub use partition_dir::{DirName, MAX_TOPIC_LENGTH, PartitionName};

use crate::types::Offset;

/// What a log holds: replaced as a whole.
pub const MANIFEST: &str = "oncelog.manifest";
/// Two slots that say how far the log is durable.
pub const WATERMARK: &str = "oncelog.watermark";
/// Where the partition is moved to, and from: in both directories of a move.
pub const MOVE: &str = "oncelog.move";
/// Held while a log is open, so that no second process opens it.
pub const LOG_LOCK: &str = "oncelog.lock";
/// The next segment, made ahead; a roll renames it.
pub const NEXT_SEGMENT: &str = "oncelog.next";
/// Where each leader epoch begins (Kafka's file, text).
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// Topic id (Kafka's file, text).
pub const PARTITION_METADATA: &str = "partition.metadata";

/// Locked by whoever uses the root, a Kafka broker included.
pub const ROOT_LOCK: &str = ".lock";
/// Present in the root if the last stop was clean.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// Recovery point of each partition under the root.
pub const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Log start offset of each partition under the root.
pub const LOG_START_OFFSETS: &str = "log-start-offset-checkpoint";
/// High watermark of each partition under the root.
pub const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// First offset that compaction has not passed, of each partition under the root.
pub const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
/// Identity of the broker and of the root (Kafka's file, Java properties).
pub const META_PROPERTIES: &str = "meta.properties";
/// Which producer ids were taken, in the root.
pub const PRODUCER_IDS: &str = "oncelog.producer-ids";
/// Which producer id and epoch each name has, in the root.
pub const PRODUCER_NAMES: &str = "oncelog.producer-names";
/// Held in the root while an allocator of producer ids is open.
pub const PRODUCER_IDS_LOCK: &str = "oncelog.producer-ids.lock";

const OFFSET_DIGITS: usize = 20;
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Record batches of the segment that begins at `base`.
#[must_use]
pub fn log_name(base: Offset) -> String {
    numbered(base, "log")
}

/// Sparse index from offsets to positions.
#[must_use]
pub fn index_name(base: Offset) -> String {
    numbered(base, "index")
}

/// Sparse index from timestamps to offsets.
#[must_use]
pub fn time_index_name(base: Offset) -> String {
    numbered(base, "timeindex")
}

/// Aborted transactions whose marker is in the segment.
#[must_use]
pub fn txn_index_name(base: Offset) -> String {
    numbered(base, "txnindex")
}

/// Producer state in Kafka's format; `end` is the first offset that it does not cover.
#[must_use]
pub fn snapshot_name(end: Offset) -> String {
    numbered(end, "snapshot")
}

/// An immutable sorted run of producer entries.
#[must_use]
pub fn run_name(number: u64) -> String {
    format!("producers.{number}.run")
}

/// The `number`th piece of what was cut from the log at `offset`.
#[must_use]
pub fn keepsake_name(offset: Offset, number: u32) -> String {
    format!("salvage.{}.{number}.bin", offset.0.max(0))
}

/// What `name` is called until it is complete, synced and renamed. Kafka uses the same suffix for its own.
#[must_use]
pub fn temporary_name(name: &str) -> String {
    format!("{name}{TEMPORARY_SUFFIX}")
}

/// What the file `name` of a segment is called once the segment is out of the log, until it is unlinked.
#[must_use]
pub fn deleted_name(name: &str) -> String {
    suffixed(name, LeftoverSuffix::Deleted)
}

/// What the file `name` of a segment is called while its life changes.
#[must_use]
pub fn suffixed(name: &str, suffix: LeftoverSuffix) -> String {
    format!("{name}{}", suffix.text())
}

fn numbered(offset: Offset, suffix: &str) -> String {
    // Kafka numbers files from 0; a negative offset would be one digit too long and is never a file's.
    format!("{:020}.{suffix}", offset.0.max(0))
}

/// What a name in a partition directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileName {
    /// `.log` of the segment with this base offset.
    Log(Offset),
    /// `.index` of the segment with this base offset.
    Index(Offset),
    /// `.timeindex` of the segment with this base offset.
    TimeIndex(Offset),
    /// `.txnindex` of the segment with this base offset.
    TxnIndex(Offset),
    /// `.snapshot`; the first offset that it does not cover.
    Snapshot(Offset),
    /// `producers.<number>.run`.
    Run(u64),
    /// [`MANIFEST`].
    Manifest,
    /// [`WATERMARK`].
    Watermark,
    /// [`LOG_LOCK`].
    LogLock,
    /// [`NEXT_SEGMENT`].
    NextSegment,
    /// [`MOVE`].
    Move,
    /// `salvage.<offset>.<number>.bin`: never deleted by the engine.
    Keepsake {
        /// Where the log was cut.
        offset: Offset,
        /// Which piece of that cut.
        number: u32,
    },
    /// Made by [`temporary_name`] of a file that is written anew as a whole: of no meaning once its writer is gone.
    Temporary,
    /// [`LEADER_EPOCHS`].
    LeaderEpochs,
    /// [`PARTITION_METADATA`].
    PartitionMetadata,
    /// A file that Kafka was about to delete or to put in place.
    KafkaLeftover(LeftoverSuffix),
    /// Nobody's: left alone.
    Unknown,
}

/// What Kafka appends to a name while the file changes its life. [`LeftoverSuffix::stem`] gives the name before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeftoverSuffix {
    /// `.deleted`: out of the log, not yet unlinked.
    Deleted,
    /// `.cleaned`: result of a compaction or split, not yet complete.
    Cleaned,
    /// `.swap`: result of a compaction or split, complete, to take the place of the segments it covers.
    Swap,
}

impl LeftoverSuffix {
    const ALL: [Self; 3] = [Self::Deleted, Self::Cleaned, Self::Swap];

    /// The suffix with its dot.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Deleted => ".deleted",
            Self::Cleaned => ".cleaned",
            Self::Swap => ".swap",
        }
    }

    /// `name` without this suffix, as it was or will be called in the log; `None` if it has another.
    #[must_use]
    pub fn stem(self, name: &str) -> Option<&str> {
        name.strip_suffix(self.text())
    }
}

impl FileName {
    /// Reads a name; never fails, because a directory may hold anybody's files.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            MANIFEST => Self::Manifest,
            WATERMARK => Self::Watermark,
            LOG_LOCK => Self::LogLock,
            NEXT_SEGMENT => Self::NextSegment,
            MOVE => Self::Move,
            LEADER_EPOCHS => Self::LeaderEpochs,
            PARTITION_METADATA => Self::PartitionMetadata,
            _ => parse_run(name)
                .or_else(|| parse_keepsake(name))
                .or_else(|| parse_temporary(name))
                .or_else(|| parse_leftover(name))
                .or_else(|| parse_numbered(name))
                .unwrap_or(Self::Unknown),
        }
    }
}

fn parse_run(name: &str) -> Option<FileName> {
    canonical(name.strip_prefix("producers.")?.strip_suffix(".run")?).map(FileName::Run)
}

fn parse_keepsake(name: &str) -> Option<FileName> {
    let (offset, number) = name.strip_prefix("salvage.")?.strip_suffix(".bin")?.split_once('.')?;
    let offset = Offset(i64::try_from(canonical(offset)?).ok()?);
    Some(FileName::Keepsake { offset, number: u32::try_from(canonical(number)?).ok()? })
}

fn parse_temporary(name: &str) -> Option<FileName> {
    match FileName::parse(name.strip_suffix(TEMPORARY_SUFFIX)?) {
        FileName::Unknown | FileName::Temporary | FileName::Keepsake { .. } | FileName::KafkaLeftover(_) => {
            None
        }
        _ => Some(FileName::Temporary),
    }
}

fn parse_leftover(name: &str) -> Option<FileName> {
    LeftoverSuffix::ALL.into_iter().find(|suffix| suffix.stem(name).is_some()).map(FileName::KafkaLeftover)
}

fn parse_numbered(name: &str) -> Option<FileName> {
    let (digits, suffix) = name.split_once('.')?;
    if digits.len() != OFFSET_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let offset = Offset(digits.parse().ok()?);
    match suffix {
        "log" => Some(FileName::Log(offset)),
        "index" => Some(FileName::Index(offset)),
        "timeindex" => Some(FileName::TimeIndex(offset)),
        "txnindex" => Some(FileName::TxnIndex(offset)),
        "snapshot" => Some(FileName::Snapshot(offset)),
        _ => None,
    }
}

/// A decimal number spelled the one way that it is written: digits only, no leading zero.
fn canonical(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text == "0" || !text.starts_with('0'))).then(|| text.parse().ok())?
}
