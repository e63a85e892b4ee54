//! Compaction: of the records with one key, the newest stays.
//!
//! Invariant: no offset changes, no newest value of a key goes, no producer's last batch goes, and nothing above the end
//! of a round is touched; a batch that loses nothing is copied byte for byte. Everything here is a decision over
//! batches that were proven, or a file beside the log: `segment::replace` puts it in place, `log/compact.rs` says when.
//! Source: Kafka's `Cleaner`, `LogCleanerManager` and `MemoryRecords.filterTo`.

mod offset_map;
mod payload;
mod settings;
mod survey;

mod filter;
mod rewrite;
mod transactions;

mod output;
mod select;

#[cfg(test)]
mod tests;

pub use filter::{Filter, Kept, LastWritten, LookUp, Removed};
pub use offset_map::{MapFull, OffsetMap};
pub use output::Output;
pub use payload::BatchFailure;
pub use select::{Cleanable, Moment, SegmentShape, cleanable, groups, is_due};
pub use settings::{Cleanup, CompactionConfig};
pub use survey::Survey;
pub use transactions::Transactions;
