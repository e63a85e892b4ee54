//! What the directory above the partition says: the files that a Kafka broker keeps for all its partitions.
//!
//! Invariant: reads only, and believes little. A file that is missing or does not parse says nothing, with a note; the
//! consequence is always more work, never less.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::format::checkpoint_file::parse_partition_offsets;
use crate::format::names::{CLEAN_SHUTDOWN, LOG_START_OFFSETS, PartitionName, RECOVERY_POINTS};
use crate::storage::{OpenMode, Storage, read_all};
use crate::types::Offset;

/// No broker has a checkpoint file as large as this: some 500 000 partitions.
const MAX_CHECKPOINT_SIZE: u64 = 32 << 20;

/// What the root says of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KafkaRoot {
    /// The root, if the partition directory has a parent.
    pub(super) root: Option<PathBuf>,
    /// Whether `.kafka_cleanshutdown` is there.
    pub(super) clean_shutdown: bool,
    /// All below is on the medium (`recovery-point-offset-checkpoint`).
    pub(super) recovery_point: Option<Offset>,
    /// First readable offset (`log-start-offset-checkpoint`).
    pub(super) log_start_offset: Option<Offset>,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

impl KafkaRoot {
    /// Reads what stands above `dir`.
    pub(super) fn read(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Self, Error> {
        let Some(root) = dir.parent() else { return Ok(Self::default()) };
        let mut found = Self { root: Some(root.to_path_buf()), ..Self::default() };
        found.clean_shutdown = exists(storage, &root.join(CLEAN_SHUTDOWN))?;
        let name =
            dir.file_name().and_then(|name| name.to_str()).and_then(|name| PartitionName::parse(name).ok());
        if let Some(partition) = name {
            found.recovery_point = found.line(storage, root, RECOVERY_POINTS, &partition)?;
            found.log_start_offset = found.line(storage, root, LOG_START_OFFSETS, &partition)?;
        }
        Ok(found)
    }

    fn line(
        &mut self,
        storage: &Arc<dyn Storage>,
        root: &Path,
        name: &str,
        partition: &PartitionName,
    ) -> Result<Option<Offset>, Error> {
        let path = root.join(name);
        let bytes = match read_all(&**storage, &path, MAX_CHECKPOINT_SIZE) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                self.notes.push(format!("{name} is not used: {e}"));
                return Ok(None);
            }
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        match parse_partition_offsets(&bytes) {
            // A partition that stands there twice: the lower number claims less.
            Ok(lines) => {
                Ok(lines.iter().filter(|line| line.partition == *partition).map(|line| line.offset).min())
            }
            Err(malformed) => {
                self.notes.push(format!("{name} is not used: {malformed}"));
                Ok(None)
            }
        }
    }
}

/// Whether there is such a file.
pub(super) fn exists(storage: &Arc<dyn Storage>, path: &Path) -> Result<bool, Error> {
    match storage.open(path, OpenMode::Read) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("open", path, e)),
    }
}
