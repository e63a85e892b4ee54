//! Kafka's small text files: leader epochs of a partition, and offsets of all partitions under a root.
//!
//! ```text
//! 0                    version
//! 2                    number of entries
//! 0 0                  leader-epoch-checkpoint: epoch, first offset of that epoch
//! 3 92
//!
//! 0
//! 1
//! orders 7 1203        *-offset-checkpoint: topic, partition, offset
//! ```
//!
//! Invariant: what is parsed has exactly the stated number of entries and ends with a line end, so a file that was cut
//! is refused, even inside its last number. The files have no checksum: their readers check what they say against the
//! log. An empty file is an empty list. Kafka's class is `CheckpointFile`.

use std::fmt::{self, Write};

use super::names::PartitionName;
use crate::error::Malformed;
use crate::types::{LeaderEpoch, Offset};

#[cfg(test)]
mod tests;

const VERSION: &str = "0";

/// Where an epoch begins: a line of `leader-epoch-checkpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of its first record.
    pub start_offset: Offset,
}

impl fmt::Display for EpochStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.epoch.0, self.start_offset)
    }
}

/// An offset of a partition: a line of the `*-offset-checkpoint` files in the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionOffset {
    /// Which partition.
    pub partition: PartitionName,
    /// What the file is about: its recovery point, log start offset or high watermark.
    pub offset: Offset,
}

impl fmt::Display for PartitionOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.partition.topic(), self.partition.partition(), self.offset)
    }
}

/// Reads `leader-epoch-checkpoint`. The order of lines is kept; whether epochs and offsets rise is for the caller.
///
/// # Errors
///
/// [`Malformed`] at the first byte of the first line that breaks the format.
pub fn parse_leader_epochs(bytes: &[u8]) -> Result<Vec<EpochStart>, Malformed> {
    parse_lines(bytes, "<epoch> <start offset>", |line| {
        let [epoch, start_offset] = fields(line)?;
        Some(EpochStart { epoch: LeaderEpoch(number(epoch)?), start_offset: Offset(number(start_offset)?) })
    })
}

/// The text of `leader-epoch-checkpoint`.
#[must_use]
pub fn format_leader_epochs(entries: &[EpochStart]) -> String {
    format_lines(entries)
}

/// Reads one of the `*-offset-checkpoint` files. If a partition stands there twice, both lines are given.
///
/// # Errors
///
/// [`Malformed`] at the first byte of the first line that breaks the format.
pub fn parse_partition_offsets(bytes: &[u8]) -> Result<Vec<PartitionOffset>, Malformed> {
    parse_lines(bytes, "<topic> <partition> <offset>", |line| {
        let [topic, partition, offset] = fields(line)?;
        let partition = PartitionName::new(topic, number(partition)?).ok()?;
        Some(PartitionOffset { partition, offset: Offset(number(offset)?) })
    })
}

/// The text of one of the `*-offset-checkpoint` files.
#[must_use]
pub fn format_partition_offsets(entries: &[PartitionOffset]) -> String {
    format_lines(entries)
}

fn parse_lines<T>(
    bytes: &[u8],
    shape: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Malformed> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Malformed::new("checkpoint file", e.valid_up_to() as u64, "text", "other bytes"))?;
    let mut lines = Lines { text, at: 0 };
    let (at, version) = lines.next("version")?;
    if version != VERSION {
        return Err(Malformed::new("version", at, VERSION, format!("{version:?}")));
    }
    let (count_at, stated) = lines.next("number of entries")?;
    let Some(count) = number::<usize>(stated) else {
        return Err(Malformed::new("number of entries", count_at, "a number", format!("{stated:?}")));
    };
    // Not allocated by `count`: the file has no checksum, so the number may be anything.
    let mut entries = Vec::new();
    while lines.at < text.len() {
        let (at, line) = lines.next("entry")?;
        let entry = parse(line).ok_or_else(|| Malformed::new("entry", at, shape, format!("{line:?}")))?;
        entries.push(entry);
    }
    if entries.len() == count {
        Ok(entries)
    } else {
        Err(Malformed::new("number of entries", count_at, format!("{stated} lines"), entries.len()))
    }
}

struct Lines<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lines<'a> {
    /// The next line and its first byte. Java writes `\r\n` on Windows.
    fn next(&mut self, field: &'static str) -> Result<(u64, &'a str), Malformed> {
        let start = self.at;
        let rest = self.text.get(start..).unwrap_or_default();
        let Some((line, _)) = rest.split_once('\n') else {
            return Err(Malformed::new(field, start as u64, "a line with its end", format!("{rest:?}")));
        };
        self.at += line.len() + 1;
        Ok((start as u64, line.strip_suffix('\r').unwrap_or(line)))
    }
}

fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let mut words = line.split(' ');
    let mut fields = [""; N];
    for field in &mut fields {
        *field = words.next()?;
    }
    words.next().is_none().then_some(fields)
}

/// A number of digits alone: no sign, so never negative.
fn number<T: std::str::FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn format_lines(entries: &[impl fmt::Display]) -> String {
    let mut text = format!("{VERSION}\n{}\n", entries.len());
    for entry in entries {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{entry}");
    }
    text
}
