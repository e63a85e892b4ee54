//! What the directory above the partition says: the files that a Kafka broker keeps for all its partitions.
//!
//! Invariant: reads only, and believes little. A file that is missing or does not parse says nothing, with a note; the
//! consequence is always more work, never less.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::plan::Context;
use crate::error::Error;
use crate::format::checkpoint_file::parse_partition_offsets;
use crate::format::names::{CLEAN_SHUTDOWN, LOG_START_OFFSETS, PartitionName, RECOVERY_POINTS};
use crate::storage::{OpenMode, Storage, read_all};
use crate::types::Offset;

/// No broker has a checkpoint file as large as this: some 500 000 partitions.
const MAX_CHECKPOINT_SIZE: u64 = 32 << 20;

/// What stood in a root before anything under it was opened or written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootFiles {
    /// Whether `.kafka_cleanshutdown` was there.
    pub clean_shutdown: bool,
    /// `recovery-point-offset-checkpoint`: below it all is on the medium.
    pub recovery_points: BTreeMap<PartitionName, Offset>,
    /// `log-start-offset-checkpoint`: first readable offsets.
    pub log_start_offsets: BTreeMap<PartitionName, Offset>,
    /// What could not be read.
    pub notes: Vec<String>,
}

impl RootFiles {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file is there and cannot be read. What does not parse is a note.
    pub fn read(storage: &Arc<dyn Storage>, root: &Path) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let clean_shutdown = exists(storage, &root.join(CLEAN_SHUTDOWN))?;
        let recovery_points = offsets_in(storage, root, RECOVERY_POINTS, &mut notes)?;
        let log_start_offsets = offsets_in(storage, root, LOG_START_OFFSETS, &mut notes)?;
        Ok(Self { clean_shutdown, recovery_points, log_start_offsets, notes })
    }
}

/// The root of a partition that is opened beside others, as whoever opens them all knows it.
#[derive(Clone)]
pub struct UnderRoot {
    /// What stood in the root before the first of them was opened.
    pub files: Arc<RootFiles>,
    /// Takes `.kafka_cleanshutdown` away, durably. Called before the first write of a recovery.
    pub leave_clean: Arc<dyn Fn() -> Result<(), Error> + Send + Sync>,
}

/// What the root says of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KafkaRoot {
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
    /// What stands above the directory, unless the caller knows.
    pub(super) fn read(context: &Context<'_>) -> Result<Self, Error> {
        let read;
        let files = match (&context.options.root, context.dir.parent()) {
            (Some(under), _) => &*under.files,
            (None, Some(root)) => {
                read = RootFiles::read(context.storage, root)?;
                &read
            }
            (None, None) => return Ok(Self::default()),
        };
        let name = context.dir.file_name().and_then(|name| name.to_str());
        let partition = name.and_then(|name| PartitionName::parse(name).ok());
        let of = |offsets: &BTreeMap<_, _>| offsets.get(partition.as_ref()?).copied();
        Ok(Self {
            clean_shutdown: files.clean_shutdown,
            recovery_point: of(&files.recovery_points),
            log_start_offset: of(&files.log_start_offsets),
            notes: files.notes.clone(),
        })
    }
}

/// The lines of one of the files; none if it is missing or does not parse.
pub fn offsets_in(
    storage: &Arc<dyn Storage>,
    root: &Path,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<PartitionName, Offset>, Error> {
    let path = root.join(name);
    let mut offsets = BTreeMap::new();
    let bytes = match read_all(&**storage, &path, MAX_CHECKPOINT_SIZE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(offsets),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            notes.push(format!("{name} is not used: {e}"));
            return Ok(offsets);
        }
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    match parse_partition_offsets(&bytes) {
        Ok(lines) => {
            for line in lines {
                // A partition that stands there twice: the lower number claims less.
                let offset = offsets.entry(line.partition).or_insert(line.offset);
                *offset = line.offset.min(*offset);
            }
        }
        Err(malformed) => notes.push(format!("{name} is not used: {malformed}")),
    }
    Ok(offsets)
}

/// Whether there is such a file.
pub(super) fn exists(storage: &Arc<dyn Storage>, path: &Path) -> Result<bool, Error> {
    match storage.open(path, OpenMode::Read) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("open", path, e)),
    }
}
