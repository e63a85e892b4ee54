//! Producer state on disk: runs of entries, the chain that they form, and the two small files beside them.
//!
//! Invariant: a run never changes once it is complete, and nothing here decides what a batch means. Whoever looks an id
//! up gets the newest entry that any run of the chain has, or an error that names the damage; never "unknown" because a
//! block could not be read. No function here takes a lock; all of them may wait for the disk.
//!
//! Durability: a run's bytes are synced before it is handed out; its name becomes durable with the directory sync that
//! ends the replacement of the manifest that names it.

mod convert;

mod run_reader;
mod run_writer;

mod chain;
mod merged;

mod adopt;
mod import;
mod merge;
mod plan;

mod manifest_file;
mod watermark_file;

#[cfg(test)]
mod tests;

pub use adopt::{Adoption, adopt_runs, number_behind};
pub use chain::{Chain, LongestChain};
pub use import::{check_exported, import_run};
pub use manifest_file::{ManifestState, read_manifest, write_manifest};
pub use merge::{
    BaseInputs, Expiry, RunPlace, merge_deltas, merge_into_base, write_base, write_delta, write_empty_base,
};
pub use merged::MergedEntries;
pub use plan::{
    ChainShape, CheckpointConfig, CheckpointKind, DeltaShape, Merge, plan_checkpoint, plan_higher_base,
    plan_merge,
};
pub use run_reader::{Run, RunEntries};
pub use run_writer::{RunDraft, RunWriter};
pub use watermark_file::{WatermarkFile, read_slots};
