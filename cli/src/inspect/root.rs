//! `oncelog describe ROOT`: the partitions under a root, one line each, and the producers' files of the root.
//!
//! Invariant: nothing that cannot be read hides anything else: its line says why.

use std::io::Write;
use std::path::Path;

use oncelog::Inspection;
use oncelog::error::Malformed;
use oncelog::format::names::{self, DirName, FileName, PartitionName};
use oncelog::format::producer_ids::{PRODUCER_IDS_SIZE, ProducerIdsFile};
use oncelog::format::producer_names::{MAX_NAMES_SIZE, decode_names};
use oncelog::storage::{EntryKind, read_all};
use serde::Serialize;

use super::Failure;
use super::json;
use super::source::Source;
use super::text::{maybe_number, table};

#[derive(Debug, Serialize)]
struct Root {
    root: String,
    clean_shutdown: bool,
    partitions: Vec<Partition>,
    /// `oncelog.producer-ids`, if it is there.
    producer_ids: Option<ProducerIds>,
    /// `oncelog.producer-names`, if it is there.
    producer_names: Option<ProducerNames>,
}

#[derive(Debug, Serialize)]
struct ProducerIds {
    /// No id from here on was ever given out.
    next_block: Option<i64>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct ProducerNames {
    names: Vec<Name>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Name {
    name: String,
    producer: i64,
    epoch: i16,
    /// The id before, whose epochs were used up.
    retired: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: String,
    log_start_offset: Option<i64>,
    log_end_offset: Option<i64>,
    /// In what state the next open would find it.
    state: Option<String>,
    /// Why it cannot be opened or read.
    error: Option<String>,
}

/// The partitions that stand in a directory which is none itself.
pub(super) fn partitions_in(source: &Source) -> Vec<PartitionName> {
    // Whoever looks at it as a partition says what is wrong with it.
    let Ok(entries) = source.storage.list(&source.dir) else { return Vec::new() };
    let is_segment = |name: &str| matches!(FileName::parse(name), FileName::Log(_) | FileName::Manifest);
    if entries.iter().any(|entry| entry.kind == EntryKind::File && is_segment(&entry.name)) {
        return Vec::new();
    }
    let directories = entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory);
    let mut partitions: Vec<_> = directories
        .filter_map(|entry| match DirName::parse(&entry.name) {
            DirName::Partition(name) => Some(name),
            _ => None,
        })
        .collect();
    partitions.sort_unstable();
    partitions
}

/// Describes the root in `source`.
pub(super) fn describe(
    source: &Source,
    partitions: &[PartitionName],
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mark = source.path(names::CLEAN_SHUTDOWN);
    let root = Root {
        root: source.dir.display().to_string(),
        clean_shutdown: source.storage.identity(&mark).is_ok(),
        partitions: partitions.iter().map(|name| line(&source.dir, name)).collect(),
        producer_ids: producer_ids(source),
        producer_names: producer_names(source),
    };
    if as_json {
        return json::print(out, &root);
    }
    let stop = if root.clean_shutdown { "a clean stop" } else { "no mark of a clean stop" };
    writeln!(out, "{}: {} partitions, {stop}", root.root, root.partitions.len())?;
    let mut lines = table(["partition", "log start", "log end", "state"]);
    for partition in &root.partitions {
        let state = partition.error.as_ref().or(partition.state.as_ref());
        lines.add_row([
            comfy_table::Cell::new(&partition.partition),
            maybe_number(partition.log_start_offset),
            maybe_number(partition.log_end_offset),
            comfy_table::Cell::new(state.map_or("", String::as_str)),
        ]);
    }
    writeln!(out, "{lines}")?;
    match &root.producer_ids {
        Some(ProducerIds { next_block: Some(next), .. }) => {
            writeln!(out, "producer ids: below {next} are given out, or may be")?;
        }
        Some(ProducerIds { error: Some(error), .. }) => writeln!(out, "producer ids: {error}")?,
        _ => {}
    }
    let Some(producers) = &root.producer_names else { return Ok(()) };
    if let Some(error) = &producers.error {
        return Ok(writeln!(out, "producer names: {error}")?);
    }
    writeln!(out, "producer names: {}", producers.names.len())?;
    let mut lines = table(["name", "producer", "epoch", "retired id"]);
    for name in &producers.names {
        lines.add_row([
            comfy_table::Cell::new(&name.name),
            maybe_number(Some(name.producer)),
            maybe_number(Some(name.epoch)),
            maybe_number(name.retired),
        ]);
    }
    Ok(writeln!(out, "{lines}")?)
}

/// A file of the root as a whole: what it says, or why it says nothing. `None` if it is not there.
fn read<T>(
    source: &Source,
    name: &str,
    limit: u64,
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Option<Result<T, String>> {
    match read_all(&*source.storage, &source.path(name), limit) {
        Ok(None) => None,
        Ok(Some(bytes)) => Some(decode(&bytes).map_err(|malformed| malformed.to_string())),
        Err(error) => Some(Err(error.to_string())),
    }
}

fn producer_ids(source: &Source) -> Option<ProducerIds> {
    let read = read(source, names::PRODUCER_IDS, PRODUCER_IDS_SIZE as u64, ProducerIdsFile::decode)?;
    Some(match read {
        Ok(file) => ProducerIds { next_block: Some(file.next), error: None },
        Err(error) => ProducerIds { next_block: None, error: Some(error) },
    })
}

fn producer_names(source: &Source) -> Option<ProducerNames> {
    let read = read(source, names::PRODUCER_NAMES, MAX_NAMES_SIZE, decode_names)?;
    Some(match read {
        Err(error) => ProducerNames { names: Vec::new(), error: Some(error) },
        Ok(found) => {
            let names = found.into_iter().map(|(name, named)| Name {
                name,
                producer: named.producer.0,
                epoch: named.epoch.0,
                retired: named.retired.map(|id| id.0),
            });
            ProducerNames { names: names.collect(), error: None }
        }
    })
}

fn line(root: &Path, name: &PartitionName) -> Partition {
    let opened = Inspection::open(root.join(name.to_string()));
    let found = opened.as_ref().map_err(ToString::to_string).and_then(|inspection| {
        let plan = inspection.plan();
        plan.as_ref().map(|intended| intended.log.report.clone()).map_err(|error| error.to_string())
    });
    let (report, error) = match found {
        Ok(report) => (Some(report), None),
        Err(error) => (None, Some(error)),
    };
    Partition {
        partition: name.to_string(),
        log_start_offset: report.as_ref().map(|report| report.log_start_offset.0),
        log_end_offset: report.as_ref().map(|report| report.log_end_offset.0),
        state: report.map(|report| format!("{:?}", report.kind)),
        error,
    }
}
