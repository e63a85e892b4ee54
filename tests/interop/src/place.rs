//! The directory that both engines use in turn.
//!
//! Invariant: at any time one process at most has the partition open. What belongs to many partitions (checkpoint files
//! of the root, the mark of a clean stop, topic ids) is not oncelog's yet: it is supplied here, as an embedder would.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oncelog::Offset;
use oncelog::format::batch::crc32c;
use oncelog::format::checkpoint_file::{PartitionOffset, format_partition_offsets};
use oncelog::format::names::{self, PartitionName};

pub(crate) const TOPIC: &str = "interop";
/// Any 16 bytes in Kafka's spelling of a topic id.
pub(crate) const TOPIC_ID: &str = "AQIDBAUGBwgJCgsMDQ4PEA";

/// A root with one partition directory.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) partition: PathBuf,
}

impl Place {
    pub(crate) fn make(root: &Path) -> Result<Self> {
        let partition = root.join(PartitionName::new(TOPIC, 0)?.to_string());
        fs::create_dir_all(&partition)?;
        fs::write(partition.join(names::PARTITION_METADATA), format!("version: 0\ntopic_id: {TOPIC_ID}\n"))?;
        Ok(Self { root: root.to_owned(), partition })
    }

    /// The partition's files once more, under another root.
    pub(crate) fn copy(&self, root: &Path) -> Result<Self> {
        let copy = Self::make(root)?;
        for entry in fs::read_dir(&self.partition)? {
            let entry = entry?;
            fs::copy(entry.path(), copy.partition.join(entry.file_name()))?;
        }
        Ok(copy)
    }

    /// Says in the root where the log starts, that everything below `end` is durable, and that the partition was closed
    /// in order.
    pub(crate) fn mark_clean(&self, start: i64, end: i64) -> Result<()> {
        for (file, offset) in
            [(names::RECOVERY_POINTS, end), (names::LOG_START_OFFSETS, start), (names::HIGH_WATERMARKS, end)]
        {
            let line = PartitionOffset { partition: PartitionName::new(TOPIC, 0)?, offset: Offset(offset) };
            fs::write(self.root.join(file), format_partition_offsets(&[line]))?;
        }
        fs::write(self.root.join(names::CLEAN_SHUTDOWN), "{\"version\":0,\"brokerEpoch\":-1}")?;
        Ok(())
    }

    /// Takes back the mark of a clean stop, which must not outlive the first write under the root.
    pub(crate) fn unmark_clean(&self) -> Result<()> {
        let mark = self.root.join(names::CLEAN_SHUTDOWN);
        if mark.exists() {
            fs::remove_file(&mark)?;
        }
        Ok(())
    }

    /// Paths of the partition's files with this ending, in the order of their names.
    pub(crate) fn files(&self, ending: &str) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.partition)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == ending) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Base offsets of the segments.
    pub(crate) fn segments(&self) -> Result<Vec<i64>> {
        self.files("log")?.iter().map(|path| number(path)).collect()
    }

    /// Length and CRC-32C of every file of Kafka's that belongs to a segment below the last. (A `.snapshot` that was
    /// written at an earlier close stands at no segment's base; Kafka deletes its own such files at the next start, too.)
    pub(crate) fn sealed_files(&self) -> Result<BTreeMap<PathBuf, (usize, u32)>> {
        let mut sealed = self.segments()?;
        sealed.pop();
        let mut sums = BTreeMap::new();
        for ending in ["log", "index", "timeindex", "txnindex", "snapshot"] {
            for path in self.files(ending)? {
                if sealed.contains(&number(&path)?) {
                    let bytes = fs::read(&path)?;
                    sums.insert(path, (bytes.len(), crc32c(&bytes)));
                }
            }
        }
        Ok(sums)
    }
}

/// The offset in the name of a file of Kafka's.
pub(crate) fn number(path: &Path) -> Result<i64> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).context("a file without a name")?;
    stem.parse().with_context(|| format!("{} has no offset in its name", path.display()))
}
