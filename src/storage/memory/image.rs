//! States of a simulated disk that a crash leaves.
//!
//! Invariant: an image never changes, and shares its pages with the disk it was taken from; taking one copies no byte
//! of a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Part;
use super::tree::Tree;

/// One change that is in the cache and not on the medium, so that a power cut may or may not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The bytes of one sector of 512 bytes.
    Sector {
        /// The file.
        path: Arc<Path>,
        /// Number of the sector: its first byte is 512 times that.
        index: u64,
    },
    /// The length of a file.
    Length {
        /// The file.
        path: Arc<Path>,
        /// The length on the medium, in bytes.
        durable: u64,
        /// The length in the cache, in bytes.
        cached: u64,
    },
    /// One name of a directory. A rename changes two: each is asked for alone, so that a crash may show the file under
    /// the old name, the new one, both or none.
    Name {
        /// The directory.
        dir: Arc<Path>,
        /// The name.
        name: String,
        /// The inode that the medium has under the name.
        durable: Option<u64>,
        /// The inode that the cache shows under the name.
        cached: Option<u64>,
    },
}

impl Pending {
    pub(super) fn of_file(path: Arc<Path>, part: Part) -> Self {
        match part {
            Part::Sector(index) => Self::Sector { path, index },
            Part::Length { durable, cached } => Self::Length { path, durable, cached },
        }
    }
}

/// What a crash left on a simulated disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) tree: Arc<Tree>,
    pub(super) boot: u64,
}

impl Image {
    pub(super) fn new(tree: Tree, boot: u64) -> Self {
        Self { tree: Arc::new(tree), boot }
    }

    /// The bytes of a file as a process would read them, or `None` if there is no such file.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.tree.resolve(path).ok()?;
        let content = self.tree.file(inode).ok()?.cached();
        let mut bytes = Vec::new();
        content.visit(0, usize::MAX, |piece| bytes.extend_from_slice(piece));
        Some(bytes)
    }

    /// Paths of all regular files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.tree.files().into_keys().collect()
    }
}
