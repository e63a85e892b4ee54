//! What a child does to a root, as parent and child say it.
//!
//! Invariant: everything that a deed needs to be known by is in it, so that the parent can tell from the directory alone
//! whether it was done.

use serde::{Deserialize, Serialize};

use super::super::batch::Spec;
use super::super::protocol::Answer;

/// Descriptors that are enough for all partitions.
const ROOM_FOR_ALL: usize = 500;

/// How a root is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct RootSettings {
    pub(in super::super) descriptors: usize,
    pub(in super::super) segment_bytes: u32,
    pub(in super::super) checkpoint_bytes: u64,
    pub(in super::super) delete_delay_ms: u64,
    /// Memory for keys of a round of compaction.
    pub(in super::super) map_bytes: usize,
    /// How long tombstones stay.
    pub(in super::super) delete_retention_ms: u64,
}

impl RootSettings {
    /// Whether partitions are put to rest, closed in order, to save descriptors.
    pub(in super::super) fn is_tight(self) -> bool {
        self.descriptors < ROOM_FOR_ALL
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Deed {
    /// Append a batch or a marker.
    Append {
        partition: String,
        spec: Spec,
        durable: bool,
    },
    Create(String),
    Delete(String),
    /// Close all partitions down to their heads.
    Rest,
    /// Write recovery points, log start offsets and high watermarks.
    WriteOffsets,
    /// Have a producer id given out.
    Allocate,
    /// Take a name over.
    Claim(String),
    /// Make a round of compaction in this partition.
    Compact(String),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Outcome {
    Answered(Answer),
    Done,
    Allocated(i64),
    Claimed {
        producer: i64,
        epoch: i16,
        /// Partition and the sequence and offset of the last record there, of those that knew the producer.
        written: Vec<(String, Option<(i32, i64)>)>,
    },
    /// Whether there was anything to do.
    Compacted(bool),
    Failed(String),
}

/// The deed to do often in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Favour {
    Create,
    Delete,
    Rest,
    WriteOffsets,
    Allocate,
    Claim,
    Compact,
}

/// What a child has to know to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Crew {
    pub(in super::super) partitions: Vec<Known>,
    /// Each name with the id and the epoch of its holder, if that is certain.
    pub(in super::super) names: Vec<(String, Option<(i64, i16)>)>,
    pub(in super::super) durable_percent: u8,
    pub(in super::super) favour: Option<Favour>,
}

/// A partition, as the parent knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Known {
    pub(in super::super) name: String,
    pub(in super::super) exists: bool,
    pub(in super::super) batches: usize,
    pub(in super::super) producers: Vec<Writer>,
}

/// A producer in one partition, as the parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Writer {
    pub(in super::super) id: i64,
    pub(in super::super) epoch: i16,
    pub(in super::super) next: i32,
    /// Whether it has a transaction open.
    pub(in super::super) in_txn: bool,
    /// The coordinator's epoch for its next marker.
    pub(in super::super) coordinator: i32,
}

/// A question about a batch that is in the log, or must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Asked {
    pub(in super::super) partition: String,
    pub(in super::super) spec: Spec,
    pub(in super::super) durable: bool,
}

/// What a partition looks like, beside its batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Seen {
    pub(in super::super) name: String,
    /// How it was opened, in the words of the library's `Debug`.
    pub(in super::super) kind: String,
    pub(in super::super) start: i64,
    pub(in super::super) end: i64,
    pub(in super::super) last_stable: i64,
    /// The offsets of all records that a reader of committed records sees.
    pub(in super::super) committed: Vec<i64>,
}
