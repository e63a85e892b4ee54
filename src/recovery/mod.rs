//! From whatever a crash left to a log that can be appended to.
//!
//! Invariant: [`plan`] only reads and is the only place that refuses; [`execute`] does what the plan says, in the order
//! of the checked model, and hands the log out only when the log end is durable. What is known durable is never cut
//! without the caller's word, nothing is dropped without a line in the [`RecoveryReport`], and no producer is forgotten:
//! the state is a valid chain of runs and the batches behind it, or the directory is refused.

mod options;
mod outcome;
mod report;

mod inventory;
mod kafka_root;
mod log_files;
mod lost_manifest;

mod passes;
mod replay;
mod walk;

mod corrupt;
mod evidence;
mod state;

mod aborted;
mod assemble;
mod below;
mod cuts;
mod epoch_file;
mod kafka;
mod own;
mod short_log;
mod snapshot;
mod truncation;

mod execute;
mod import;
mod plan;

mod at;

#[cfg(test)]
mod tests;

pub use aborted::SegmentAborted;
pub use at::{StateAt, state_at};
pub use epoch_file::write_leader_epochs;
pub use execute::execute;
pub use import::import;
pub use kafka_root::{RootFiles, UnderRoot, offsets_in};
pub use options::{OnProgress, RecoveryOptions, RecoveryProgress, Salvage};
pub use outcome::{Recovered, SegmentFacts};
pub use plan::{Plan, plan};
pub use report::{ChainReport, CutReport, RecoveryKind, RecoveryReport, Rejected};
pub use truncation::{Truncation, plan_fresh_start, plan_truncation};
