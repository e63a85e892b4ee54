//! What `--json` prints.
//!
//! Invariant: what Kafka's tools and a running broker know too has the words of the fixtures under
//! `tests/fixtures/kafka-4.3.1` (`segments[].batches[]` with the field names of Kafka's `DumpLogSegments`, `snapshots`,
//! `producers[]`, `retries[]` and so on), so that a program can compare; only what Kafka does not know has words of ours.

mod files;
mod log;
mod recovery;
mod state;

use std::io::Write;

use oncelog::error::{Corruption, Error};
use serde::Serialize;

pub(super) use files::{
    AbortedTxn, Epoch, LogPoint, Manifest, PartitionLine, RootCheckpoints, Run, Slot, Watermark, epochs,
};
pub(super) use log::{Batch, Record, Segment};
pub(super) use recovery::{Locks, Recovery};
pub(super) use state::{Producer, Retry, Snapshot, SnapshotProducer};

use super::Failure;

/// Prints one object and a line end.
pub(super) fn print(out: &mut impl Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Damage, as every command shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Damage {
    pub(super) file: String,
    /// First byte and the byte behind the last one.
    pub(super) bytes: [u64; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offsets: Option<[i64; 2]>,
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) found: String,
    /// What can be done.
    pub(super) advice: String,
}

impl From<&Corruption> for Damage {
    fn from(corruption: &Corruption) -> Self {
        let name = corruption.path.file_name().unwrap_or(corruption.path.as_os_str());
        Self {
            file: name.to_string_lossy().into_owned(),
            bytes: [corruption.bytes.start, corruption.bytes.end],
            offsets: corruption.offsets.as_ref().map(|range| [range.start.0, range.end.0]),
            what: corruption.what.clone(),
            expected: corruption.expected.clone(),
            found: corruption.found.clone(),
            advice: corruption.advice.clone(),
        }
    }
}

/// Damage out of an error that is one; `None` for any other error.
pub(super) fn damage_in(error: &Error) -> Option<&Corruption> {
    match error {
        Error::Corrupt(corruption) => Some(corruption),
        _ => None,
    }
}

/// Lowercase hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
