//! The facade: one log, many threads.
//!
//! Invariant: locks exist only here (their order stands in `shared.rs`), and every procedure below takes what it needs as
//! a value. Read `append.rs` for how a batch gets in, `sync.rs` for when it is acknowledged, `maintain.rs` for what
//! happens behind it, `open.rs` for how a directory becomes a log.

mod config;
mod shared;

mod answers;
mod append;
mod completion;
mod queue;
mod unit;
mod validate;
mod verdict;

mod compact;
mod epochs;
mod export;
mod maintain;
mod meters;
mod pool;
mod rebuild;
mod replace;
mod retain;
mod roll;
mod root_mark;
mod state_file;
mod sync;
mod worker;

mod transaction;
mod transactions;

mod batches;
mod committed;
mod fetch;
mod fetched;
mod follow;
mod generation;
mod handle;
mod high_watermark;
mod hosted;
mod inspect;
mod open;
mod records;
mod replica;
mod segments;
mod tier;
mod truncate;

pub(crate) use answers::{Kept, Quiet};
pub use batches::{Batches, FetchedBatch};
pub use compact::Compacted;
pub use completion::{Appended, Completion, Outcome};
pub use config::{Background, HighWatermark, LogConfig};
pub use fetched::{Fetched, Isolation};
pub(crate) use generation::Cuts;
pub use handle::Log;
pub(crate) use hosted::{Due, Heads, Host, Lowered, lock_root_alone};
pub use inspect::{Inspection, Intended, Producers, ReadLocks, SegmentFile};
pub use open::{Environment, ProgressCallback};
pub(crate) use pool::Pool;
pub use records::OwnedRecord;
pub(crate) use root_mark::RootMark;
pub use tier::{ExportedFile, ExportedSegment, ImportedState, Sealed};
pub use transaction::EndTransaction;
