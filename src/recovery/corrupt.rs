//! The refusals, in words that say what was found and what can be done.

use std::path::Path;

use super::log_files::LogFiles;
use super::report::Rejected;
use super::walk::Damage;
use crate::error::{Corruption, Error, Malformed};
use crate::format::names::{MANIFEST, log_name};
use crate::types::{LogPoint, Offset};

const ADVICE: &str = "either bytes were lost or damaged after they had been synced, or another program cut the log \
                      back; restore the files from a copy or a replica, or open with Salvage::Cut to keep what is valid";

/// The log ends or is damaged below what is known durable.
pub(super) fn below_watermark(
    files: &LogFiles<'_>,
    damage: &Damage,
    watermark: &LogPoint,
    valid_to: Offset,
) -> Error {
    let segment = files.get(damage.segment);
    let same = segment.is_some_and(|segment| segment.base == watermark.segment);
    let len = segment.map_or(0, |segment| segment.len);
    let end = if same { watermark.position.0 } else { len }.max(damage.position.0);
    let Malformed { field, expected, found, .. } = &damage.malformed;
    Error::Corrupt(Box::new(Corruption {
        path: files.path(damage.segment),
        bytes: damage.position.0..end,
        offsets: Some(valid_to..watermark.offset.max(valid_to)),
        what: format!("{field}, below offset {} which is known to be durable", watermark.offset),
        expected: expected.clone(),
        found: found.clone(),
        advice: ADVICE.to_owned(),
    }))
}

/// The segment that should hold the watermark is not there.
pub(super) fn no_segment(dir: &Path, files: &LogFiles<'_>, watermark: &LogPoint) -> Error {
    let found = match (files.first(), files.last()) {
        (Some(first), Some(last)) => {
            format!("segments from offset {first} to the one that begins at {}", last.base)
        }
        _ => "no segment".to_owned(),
    };
    Error::Corrupt(Box::new(Corruption {
        path: dir.join(log_name(watermark.segment)),
        bytes: 0..watermark.position.0,
        offsets: Some(
            files.last().map_or(Offset::ZERO, |last| last.base).min(watermark.offset)..watermark.offset,
        ),
        what: "segment, part of what is known to be durable".to_owned(),
        expected: format!("the file, with the batch that ends at offset {}", watermark.offset),
        found,
        advice: ADVICE.to_owned(),
    }))
}

/// The producers cannot be accounted for.
pub(super) fn no_chain(dir: &Path, files: &LogFiles<'_>, rejected: &[Rejected]) -> Error {
    let reasons: Vec<String> = rejected.iter().map(|r| format!("{}: {}", r.file, r.reason)).collect();
    let found = if reasons.is_empty() { "no run".to_owned() } else { reasons.join("; ") };
    Error::Corrupt(Box::new(Corruption {
        path: dir.join(MANIFEST),
        bytes: 0..0,
        offsets: None,
        what: "producer state".to_owned(),
        expected: format!(
            "a chain of runs that ends in the log, which begins at offset {}",
            files.first().unwrap_or(Offset::ZERO)
        ),
        found,
        advice: "without one, retries of producers could be written twice; restore the producers.*.run files from a \
                 copy, or open with Salvage::Cut to go on with what the log still shows"
            .to_owned(),
    }))
}
