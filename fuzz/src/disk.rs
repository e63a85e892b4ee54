//! Files of a simulated disk, in the few words that the targets need.
//!
//! Invariant: no fault is armed on these disks, so every failure of an operation is a failure of the target.

use std::path::Path;
use std::sync::Arc;

use oncelog::storage::{File, MemoryStorage, OpenMode, Storage};

/// A disk with an empty directory.
pub(crate) fn disk(dir: &Path) -> (MemoryStorage, Arc<dyn Storage>) {
    let disk = MemoryStorage::new();
    let made = disk.create_dir_all(dir);
    assert!(made.is_ok(), "{made:?}");
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    (disk, storage)
}

/// Makes or replaces a file.
pub(crate) fn put(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = storage.open(path, OpenMode::Create).and_then(|file| {
        file.set_len(0)?;
        file.write_all_at(bytes, 0)?;
        Ok(file)
    });
    match file {
        Ok(file) => file,
        Err(error) => unreachable!("{} on a disk without faults: {error}", path.display()),
    }
}

/// Makes everything durable that the disk shows.
pub(crate) fn sync_all(disk: &MemoryStorage) {
    for path in disk.kill().files() {
        let synced = disk.open(&path, OpenMode::Write).and_then(|file| file.sync_all());
        assert!(synced.is_ok(), "{synced:?}");
    }
    for dir in [Path::new("/"), Path::new("/logs"), Path::new("/logs/t-0")] {
        // A target may have no such directory.
        let _ = disk.sync_dir(dir);
    }
}
