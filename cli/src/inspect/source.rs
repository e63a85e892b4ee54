//! Where the bytes come from: the files of one partition directory, and what its root says about it.
//!
//! Invariant: reads only, through the library's [`Storage`]; a missing file is `None` where its absence means something.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncelog::error::{Error, Malformed};
use oncelog::format::checkpoint_file::parse_partition_offsets;
use oncelog::format::names::{self, FileName, PartitionName};
use oncelog::storage::{EntryKind, File, OpenMode, OsStorage, Storage, read_all};
use oncelog::types::Offset;

/// No file that is read as a whole is as large: a snapshot of twenty million producers, an index of a full segment.
const MOST_BYTES: u64 = 1 << 30;

/// The checkpoint files of a root that speak about each partition.
pub(super) const ROOT_FILES: [&str; 4] =
    [names::RECOVERY_POINTS, names::LOG_START_OFFSETS, names::HIGH_WATERMARKS, names::CLEANER_OFFSETS];

/// A directory to read from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) storage: Arc<dyn Storage>,
    /// Absolute, so that its parent is the root.
    pub(super) dir: PathBuf,
}

/// A file with a name that says something.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) len: u64,
    pub(super) meaning: FileName,
}

impl Source {
    pub(super) fn new(dir: &Path) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).map_err(|e| Error::io("find", dir, e))?;
        Ok(Self { storage: Arc::new(OsStorage::new()), dir })
    }

    /// The name of the directory: topic and partition.
    pub(super) fn partition_dir(&self) -> String {
        self.dir
            .file_name()
            .map_or_else(|| self.dir.display().to_string(), |name| name.to_string_lossy().into())
    }

    /// Which partition the directory is, if its name says one.
    pub(super) fn partition(&self) -> Option<PartitionName> {
        PartitionName::parse(self.dir.file_name()?.to_str()?).ok()
    }

    /// All files, by name.
    pub(super) fn files(&self) -> Result<Vec<Named>, Error> {
        let entries = self.storage.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File);
        let mut files: Vec<Named> = files
            .map(|entry| Named { meaning: FileName::parse(&entry.name), name: entry.name, len: entry.len })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn open(&self, name: &str) -> Result<Arc<dyn File>, Error> {
        let path = self.path(name);
        self.storage.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))
    }

    /// All bytes of a file of the directory.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.read_path(&self.path(name))
    }

    /// All bytes of a file of the root.
    pub(super) fn read_in_root(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.dir.parent() {
            Some(root) => self.read_path(&root.join(name)),
            None => Ok(None),
        }
    }

    fn read_path(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        read_all(&*self.storage, path, MOST_BYTES).map_err(|e| Error::io("read", path, e))
    }

    /// This partition's number in a checkpoint file of the root; `Err` inside if that file does not parse.
    pub(super) fn root_offset(&self, name: &str) -> Result<Result<Option<Offset>, Malformed>, Error> {
        let (Some(partition), Some(bytes)) = (self.partition(), self.read_in_root(name)?) else {
            return Ok(Ok(None));
        };
        Ok(parse_partition_offsets(&bytes).map(|lines| {
            lines.iter().filter(|line| line.partition == partition).map(|line| line.offset).min()
        }))
    }

    /// The text of `.kafka_cleanshutdown`, if it is there.
    pub(super) fn clean_shutdown(&self) -> Result<Option<String>, Error> {
        let bytes = self.read_in_root(names::CLEAN_SHUTDOWN)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The topic id in `partition.metadata`, if there is one.
    pub(super) fn topic_id(&self) -> Result<Option<String>, Error> {
        let bytes = self.read(names::PARTITION_METADATA)?;
        Ok(bytes.and_then(|bytes| topic_id(&bytes)))
    }
}

/// The line `topic_id: …` of `partition.metadata`.
pub(super) fn topic_id(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines().find_map(|line| line.strip_prefix("topic_id: ")).map(|id| id.trim().to_owned())
}
