//! Every crash shows the old bytes or the new ones.

use std::io::ErrorKind;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::storage::{Fault, MemoryStorage, OpenMode, OperationKind, OsStorage};

const OLD: &[u8] = b"old";

/// A disk with durable old bytes under `/d/name`.
fn with_old_bytes() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_dir_all(Path::new("/d")).unwrap();
    storage.sync_dir(Path::new("/")).unwrap();
    replace(&storage, Path::new("/d"), "name", OLD).unwrap();
    storage
}

fn names(storage: &MemoryStorage) -> Vec<String> {
    storage.list(Path::new("/d")).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn what_was_replaced_is_read_back_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let storage = OsStorage::new();
    let path = dir.path().join("name");
    assert_eq!(read_all(&storage, &path, 10).unwrap(), None);
    replace(&storage, dir.path(), "name", b"first").unwrap();
    replace(&storage, dir.path(), "name", b"second").unwrap();
    assert_eq!(read_all(&storage, &path, 10).unwrap().unwrap(), b"second");
    assert_eq!(storage.list(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_file_longer_than_the_limit_is_refused() {
    let storage = with_old_bytes();
    assert_eq!(read_all(&storage, Path::new("/d/name"), 3).unwrap().unwrap(), OLD);
    let refused = read_all(&storage, Path::new("/d/name"), 2).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
    assert_eq!(refused.to_string(), "the file has 3 bytes; at most 2 are expected");
}

#[test]
fn the_leftover_of_a_crash_does_not_stand_in_the_way() {
    let storage = with_old_bytes();
    storage.open(Path::new("/d/name.tmp"), OpenMode::CreateNew).unwrap().write_all_at(&[1; 99], 0).unwrap();
    replace(&storage, Path::new("/d"), "name", b"new").unwrap();
    assert_eq!(read_all(&storage, Path::new("/d/name"), 10).unwrap().unwrap(), b"new");
    assert_eq!(names(&storage), ["name"]);
}

#[test]
fn a_power_cut_after_any_operation_shows_all_of_the_old_or_all_of_the_new() {
    let new = [0x5a; 2_000];
    let storage = with_old_bytes();
    let images = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&images);
    storage.on_operation(move |_, storage| {
        let changes = storage.pending().len();
        for choice in 0..1_u32 << changes {
            let mut bits = (0..changes).map(|bit| choice >> bit & 1 == 1);
            seen.lock().push(storage.power_cut_with(|_| bits.next().unwrap()));
        }
    });
    replace(&storage, Path::new("/d"), "name", &new).unwrap();
    storage.forget_observer();

    let found: Vec<Vec<u8>> =
        images.lock().iter().map(|image| image.read(Path::new("/d/name")).unwrap()).collect();
    assert_eq!(found.iter().find(|bytes| *bytes != OLD && *bytes != &new), None);
    assert!(found.iter().any(|bytes| bytes == OLD));
    assert!(found.iter().any(|bytes| bytes == &new));
    assert_eq!(storage.power_cut().read(Path::new("/d/name")).unwrap(), new);
}

#[test]
fn a_failure_before_the_rename_leaves_the_old_bytes_and_no_temporary_file() {
    use OperationKind::{Create, Rename, SyncData, Write};
    for kind in [Create, Write, SyncData, Rename] {
        let storage = with_old_bytes();
        storage.fail(Fault::on(kind).with(ErrorKind::StorageFull));
        let failure = replace(&storage, Path::new("/d"), "name", b"new").unwrap_err();
        assert_eq!(failure.kind(), ErrorKind::StorageFull);
        assert_eq!(read_all(&storage, Path::new("/d/name"), 10).unwrap().unwrap(), OLD);
        assert_eq!(names(&storage), ["name"]);
    }
}

#[test]
fn a_failed_directory_sync_is_told() {
    let storage = with_old_bytes();
    storage.fail(Fault::on(OperationKind::SyncDir));
    assert_eq!(replace(&storage, Path::new("/d"), "name", b"new").unwrap_err().raw_os_error(), Some(5));
    assert_eq!(storage.kill().read(Path::new("/d/name")).unwrap(), b"new");
    assert_eq!(storage.power_cut().read(Path::new("/d/name")).unwrap(), OLD);
}

#[test]
fn a_directory_sync_that_fails_is_never_taken_for_a_full_disk() {
    let disk = MemoryStorage::new();
    let dir = Path::new("/d");
    disk.create_dir_all(dir).unwrap();
    disk.fail(Fault::on(OperationKind::SyncDir).with(io::ErrorKind::StorageFull));
    let failed = replace(&disk, dir, "name", b"new").unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::Other);
    assert!(failed.to_string().starts_with("the directory could not be synced: "), "{failed}");
}
