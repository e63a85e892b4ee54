//! What stands in the root while nobody has it open, and whether Kafka, which believes it, would be right.
//!
//! Invariant: what is on the medium is what the children told of their syncs, not what can be read from the page cache.

use std::path::Path;

use anyhow::{Context, Result};
use oncelog::format::checkpoint_file::parse_partition_offsets;
use oncelog::format::names::{self, FileName};
use oncelog::storage::{Storage, read_all};
use oncelog::types::Offset;

use super::super::foreign;
use super::super::medium::Medium;
use super::super::report::Violation;
use super::book::{Books, Mark};
use super::deed::Deed;

const MAX_FILE: u64 = 64 << 20;

/// A partition's directory as it is on the medium.
struct OnMedium {
    /// Base offset of each segment, oldest first.
    bases: Vec<i64>,
    /// Everything below is on the medium.
    durable: i64,
    /// Where the batches end.
    end: i64,
}

/// Compares the root's files with the partitions.
pub(in super::super) fn judge(
    storage: &dyn Storage,
    main: &Path,
    medium: &Medium,
    books: &Books,
) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    let root = main.parent().context("the log's directory is in none")?;
    let main_name = main.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let marked = read_all(storage, &root.join(names::CLEAN_SHUTDOWN), MAX_FILE)?.is_some();
    match (books.mark, marked) {
        (Mark::Stands, false) => {
            violations.push(Violation::new("a clean stop left no mark", "no .kafka_cleanshutdown"));
        }
        (Mark::Gone, true) => {
            let detail = ".kafka_cleanshutdown stands in a root that was written and not closed";
            violations.push(Violation::new("Kafka would believe a clean stop", detail));
        }
        _ => {}
    }
    let file = read_all(storage, &root.join(names::RECOVERY_POINTS), MAX_FILE)?.unwrap_or_default();
    let lines = if file.is_empty() {
        Vec::new()
    } else {
        parse_partition_offsets(&file).map_err(|error| anyhow::anyhow!("{error}"))?
    };
    for line in lines {
        let name = line.partition.to_string();
        let is_main = name == main_name;
        let in_doubt =
            matches!(&books.pending, Some(Deed::Create(doubt) | Deed::Delete(doubt)) if *doubt == name);
        let exists = is_main || books.partitions.get(&name).is_some_and(|book| book.exists);
        if in_doubt || !exists {
            continue;
        }
        let (dir, prefix) = if is_main {
            (main.to_path_buf(), String::new())
        } else {
            (root.join(&name), format!("{name}/"))
        };
        let there = OnMedium::read(storage, &dir, &prefix, medium)?;
        let point = line.offset.0;
        if point > there.durable {
            let detail =
                format!("{name}: recovery point {point}; on the medium is what lies below {}", there.durable);
            violations.push(Violation::new("Kafka would believe a recovery point that is too high", detail));
        }
        // Index files that were scrambled are made anew in their place.
        if !(is_main && books.scrambled) {
            violations.extend(there.indexes_below(point, storage, &dir, &prefix, medium)?);
        }
        if marked && violations.is_empty() {
            let snapshot = dir.join(names::snapshot_name(Offset(there.end)));
            if point != there.end || read_all(storage, &snapshot, MAX_FILE)?.is_none() {
                let detail = format!("{name} ends at {}; its recovery point is {point}", there.end);
                violations.push(Violation::new("a clean stop was not complete", detail));
            }
        }
    }
    Ok(violations)
}

impl OnMedium {
    fn read(storage: &dyn Storage, dir: &Path, prefix: &str, medium: &Medium) -> Result<Self> {
        let entries = storage.list(dir).with_context(|| format!("list {}", dir.display()))?;
        let log = |name: &str| match FileName::parse(name) {
            FileName::Log(base) => Some(base.0),
            _ => None,
        };
        let mut bases: Vec<i64> = entries.iter().filter_map(|entry| log(&entry.name)).collect();
        bases.sort_unstable();
        let first = bases.first().copied().unwrap_or(0);
        let (mut durable, mut end, mut all) = (first, first, true);
        for base in &bases {
            let name = names::log_name(Offset(*base));
            let bytes = read_all(storage, &dir.join(&name), MAX_FILE)?.unwrap_or_default();
            let synced = medium.synced(&format!("{prefix}{name}"));
            end = end.max(*base);
            durable = if all { durable.max(*base) } else { durable };
            for (at, header) in foreign::walk(&bytes) {
                end = header.next_offset().0;
                all &= at + header.size() as u64 <= synced;
                durable = if all { end } else { durable };
            }
        }
        Ok(Self { bases, durable, end })
    }

    /// The index files of segments below the recovery point must be on the medium as they are.
    fn indexes_below(
        &self,
        point: i64,
        storage: &dyn Storage,
        dir: &Path,
        prefix: &str,
        medium: &Medium,
    ) -> Result<Vec<Violation>> {
        let mut violations = Vec::new();
        let nexts = self.bases.iter().skip(1);
        for (base, _) in self.bases.iter().zip(nexts).filter(|(_, next)| **next <= point) {
            for name in [names::index_name(Offset(*base)), names::time_index_name(Offset(*base))] {
                let known = format!("{prefix}{name}");
                let len = read_all(storage, &dir.join(&name), MAX_FILE)?.map(|bytes| bytes.len() as u64);
                // Kafka makes one anew that is missing.
                if len.is_some_and(|len| len > medium.synced(&known)) {
                    let detail = format!(
                        "{known} has {len:?} bytes, {} of them on the medium; the recovery point is {point}",
                        medium.synced(&known)
                    );
                    violations
                        .push(Violation::new("an index that Kafka would believe is not durable", detail));
                }
            }
        }
        Ok(violations)
    }
}
