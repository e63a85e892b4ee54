//! `oncelog describe ROOT`: the partitions under a root, one line each.
//!
//! Invariant: one partition that cannot be read hides no other: its line says why.

use std::io::Write;
use std::path::Path;

use oncelog::Inspection;
use oncelog::format::names::{DirName, FileName, PartitionName};
use oncelog::storage::EntryKind;
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
    let mark = source.path(oncelog::format::names::CLEAN_SHUTDOWN);
    let root = Root {
        root: source.dir.display().to_string(),
        clean_shutdown: source.storage.identity(&mark).is_ok(),
        partitions: partitions.iter().map(|name| line(&source.dir, name)).collect(),
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
    Ok(writeln!(out, "{lines}")?)
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
