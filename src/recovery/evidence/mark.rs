//! The clean-close mark: the one claim that lets a log be opened without a scan.

use super::super::log_files::{LogFiles, Standing};
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::types::LogPoint;

/// Whether the mark holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Mark {
    /// The log was not closed in order.
    None,
    /// The log is as the mark says: nothing was written since.
    Holds(LogPoint),
    /// Something was written or lost since, by another program: our own first write voids the mark before.
    Stale(String),
}

/// Compares the mark with the last segment: its name, its length, the header of its last batch.
pub(in super::super) fn examine(files: &LogFiles<'_>, manifest: &Manifest) -> Result<Mark, Error> {
    let Some(end) = manifest.clean_close else { return Ok(Mark::None) };
    if manifest.intent.is_some() || manifest.failed_sync.is_some() {
        return Ok(Mark::Stale(
            "the mark stands beside an unfinished truncation or a failed sync".to_owned(),
        ));
    }
    let Some(last) = files.last() else { return Ok(Mark::Stale("there is no segment".to_owned())) };
    if last.base != end.segment {
        let text = format!("the last segment begins at offset {}, not {}", last.base, end.segment);
        return Ok(Mark::Stale(text));
    }
    if last.len != end.position.0 {
        let text = format!("the last segment has {} bytes, not {}", last.len, end.position.0);
        return Ok(Mark::Stale(text));
    }
    Ok(match files.standing(&end)? {
        Standing::AsNamed => Mark::Holds(end),
        Standing::NoSegment | Standing::Short | Standing::Other => {
            Mark::Stale(format!("another batch stands before offset {}", end.offset))
        }
    })
}
