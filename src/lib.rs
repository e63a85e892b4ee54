#![doc = include_str!("../README.md")]
//!
//! # The modules
//!
//! What an embedder needs stands at the top of the crate. The modules below are public for tools that look at a
//! directory without opening it as a log (the command `oncelog` is written on them alone); they may change from one
//! minor version to the next, while the names at the top follow semantic versioning.

pub mod error;
pub mod testing;
pub mod types;

pub mod format;
pub mod storage;

pub mod leader_epoch;
pub mod producer;

pub mod checkpoint;
pub mod index;

pub mod segment;

pub mod compaction;
pub mod recovery;
pub mod retention;

mod log;

mod log_dir;
mod producer_ids;

mod producer_names;

pub use compaction::{Cleanup, CompactionConfig, Removed};
pub use error::{Corruption, Error, Malformed, Rejection};
pub use format::batch::{BatchHeader, RawBatch, TimestampType};
pub use format::batch_builder::BatchBuilder;
pub use format::compression::Codec;
pub use format::identity::{Id, RootIdentity};
pub use format::index_entry::AbortedTxn;
pub use format::names::PartitionName;
pub use leader_epoch::{Continuation, Divergence, EpochEnd, LeaderEpochs};
pub use log::{
    Appended, Background, Batches, Compacted, Completion, EndTransaction, Environment, ExportedFile,
    ExportedSegment, Fetched, FetchedBatch, HighWatermark, ImportedState, Inspection, Intended, Isolation,
    Log, LogConfig, Outcome, OwnedRecord, Producers, ProgressCallback, ReadLocks, Sealed, SegmentFile,
};
pub use log_dir::{
    ConfigOf, FoundPartition, LogDir, LogDirConfig, LogDirProgress, LogDirReport, OnLogDirProgress,
    Partition, PartitionState, PinnedLog,
};
pub use producer::{EndTxn, OpenTxn, TransactionVersion, UnknownProducerPolicy, VerificationGuard};
pub use producer_ids::{FoundIds, ProducerIds};
pub use producer_names::{Claim, LastWritten, ProducerNames};
pub use recovery::{RecoveryReport, Salvage};
pub use retention::Retention;
pub use types::{
    CoordinatorEpoch, Durability, EngineTime, LeaderEpoch, LogPoint, Offset, Origin, Position, ProducerEpoch,
    ProducerId, Sequence,
};
