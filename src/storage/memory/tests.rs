//! The fault model of the simulated disk, rule by rule.

mod crash;
mod faults;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::storage::{DirEntry, EntryKind, File, LockKind, OpenMode, Storage};

/// A disk with the durable directory `/d`.
fn disk() -> MemoryStorage {
    let disk = MemoryStorage::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// A disk with the durable file `/d/a` of these bytes.
fn disk_with(bytes: &[u8]) -> (MemoryStorage, Arc<dyn File>) {
    let disk = disk();
    let file = create(&disk, "/d/a", bytes);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn create(disk: &MemoryStorage, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn bytes_of(file: &Arc<dyn File>) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.read_to(&mut bytes, usize::MAX, 0).unwrap();
    bytes
}

fn names(disk: &MemoryStorage, dir: &str) -> Vec<String> {
    disk.list(Path::new(dir)).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn writes_go_to_their_position_and_leave_zeros_before_it() {
    let file = create(&disk(), "/d/a", b"");
    file.write_all_at(&[1; 5_000], 6_000).unwrap();
    file.write_all_at(&[2; 2], 8_191).unwrap();
    let mut expected = vec![0; 6_000];
    expected.extend([1; 5_000]);
    expected.get_mut(8_191..8_193).unwrap().fill(2);
    assert_eq!(bytes_of(&file), expected);
    let mut part = [0; 4];
    assert_eq!(file.read_at(&mut part, 8_190).unwrap(), 4);
    assert_eq!(part, [1, 2, 2, 1]);
    assert_eq!(file.read_at(&mut part, 10_998).unwrap(), 2);
    assert_eq!(file.read_at(&mut part, 11_000).unwrap(), 0);
}

#[test]
fn cutting_and_extending_leaves_zeros() {
    let file = create(&disk(), "/d/a", &[1; 9_000]);
    file.set_len(4_000).unwrap();
    file.set_len(6_000).unwrap();
    let mut expected = vec![1; 4_000];
    expected.resize(6_000, 0);
    assert_eq!(bytes_of(&file), expected);
    assert_eq!(file.len().unwrap(), 6_000);
}

#[test]
fn each_open_mode_finds_or_makes_its_file() {
    let disk = disk();
    let path = Path::new("/d/a");
    assert_eq!(disk.open(path, OpenMode::Read).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open(path, OpenMode::Write).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(disk.open(Path::new("/none/a"), OpenMode::Create).unwrap_err().kind(), ErrorKind::NotFound);
    create(&disk, "/d/a", b"kept");
    assert_eq!(disk.open(path, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(disk.open(Path::new("/d"), OpenMode::Read).unwrap_err().kind(), ErrorKind::IsADirectory);
    assert_eq!(
        disk.open(Path::new("/d/a/b"), OpenMode::Create).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    assert_eq!(disk.open(path, OpenMode::Create).unwrap().len().unwrap(), 4);
    let read_only = disk.open(path, OpenMode::Read).unwrap();
    assert_eq!(read_only.write_all_at(b"x", 0).unwrap_err().raw_os_error(), Some(9));
}

#[test]
fn names_are_listed_with_length_and_kind() {
    let disk = disk();
    create(&disk, "/d/a", b"abc");
    disk.create_dir_all(Path::new("d/sub/deeper")).unwrap();
    let expected = [
        DirEntry { name: "a".into(), len: 3, kind: EntryKind::File },
        DirEntry { name: "sub".into(), len: 0, kind: EntryKind::Directory },
    ];
    assert_eq!(disk.list(Path::new("/d")).unwrap(), expected);
    assert_eq!(disk.list(Path::new("/d/a")).unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn a_rename_replaces_a_file_and_spares_a_directory_with_names() {
    let disk = disk();
    create(&disk, "/d/a", b"a");
    disk.rename(Path::new("/d/a"), Path::new("d/./a")).unwrap();
    let replaced = create(&disk, "/d/b", b"b");
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    assert_eq!(names(&disk, "/d"), ["b"]);
    assert_eq!(disk.kill().read(Path::new("/d/b")).unwrap(), b"a");
    assert_eq!(bytes_of(&replaced), b"b");
    disk.create_dir_all(Path::new("/e/f")).unwrap();
    let onto = |from: &str, to: &str| disk.rename(Path::new(from), Path::new(to)).unwrap_err().kind();
    assert_eq!(onto("/d", "/e"), ErrorKind::DirectoryNotEmpty);
    assert_eq!(onto("/d/b", "/e"), ErrorKind::IsADirectory);
    assert_eq!(onto("/none", "/e"), ErrorKind::NotFound);
    disk.rename(Path::new("/d"), Path::new("/e/f")).unwrap();
    assert_eq!(names(&disk, "/e/f"), ["b"]);
}

#[test]
fn a_file_goes_on_working_after_its_name_was_removed() {
    let disk = disk();
    let file = create(&disk, "/d/a", b"abc");
    disk.unlink(Path::new("/d/a")).unwrap();
    assert_eq!(disk.unlink(Path::new("/d/a")).unwrap_err().kind(), ErrorKind::NotFound);
    file.write_all_at(b"def", 3).unwrap();
    file.sync_data().unwrap();
    assert_eq!(bytes_of(&file), b"abcdef");
    assert_eq!(disk.kill().files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_lock_belongs_to_the_disk_and_not_to_its_image() {
    let disk = disk();
    let path = Path::new("/d/.lock");
    let _held = disk.lock(path, LockKind::Exclusive).unwrap();
    assert_eq!(disk.clone().lock(path, LockKind::Shared).unwrap_err().kind(), ErrorKind::WouldBlock);
    MemoryStorage::from_image(&disk.kill()).lock(path, LockKind::Exclusive).unwrap();
}

#[test]
fn the_boot_id_changes_with_the_power_and_not_with_the_process() {
    let disk = disk();
    let killed = MemoryStorage::from_image(&disk.kill());
    let cut = MemoryStorage::from_image(&killed.power_cut());
    assert_eq!(killed.boot_id(), disk.boot_id());
    assert_ne!(cut.boot_id(), disk.boot_id());
    assert_ne!(disk.boot_id(), [0; 16]);
}

#[test]
fn an_operation_says_what_it_did_to_what() {
    let disk = disk();
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.on_operation(move |operation, disk| {
        // The observer may use the disk.
        assert_eq!(disk.operations(), operation.number);
        log.lock().push((operation.kind, operation.name().to_owned(), operation.position, operation.len));
    });
    let file = create(&disk, "/d/a", b"abc");
    file.write_all_at(b"de", 3).unwrap();
    file.allocate(5, 100).unwrap();
    file.set_len(4).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    // What changes nothing is not told.
    disk.open(Path::new("/d/a"), OpenMode::Create).unwrap();
    disk.unlink(Path::new("/d/none")).unwrap_err();
    bytes_of(&file);
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    disk.unlink(Path::new("/d/b")).unwrap();
    disk.create_dir_all(Path::new("/d/sub")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.forget_observer();
    create(&disk, "/d/unseen", b"");

    let expected = [
        (OperationKind::Create, "a", 0, 0),
        (OperationKind::Write, "a", 0, 3),
        (OperationKind::Write, "a", 3, 2),
        (OperationKind::Allocate, "a", 5, 100),
        (OperationKind::SetLen, "a", 0, 4),
        (OperationKind::SyncData, "a", 0, 0),
        (OperationKind::SyncAll, "a", 0, 0),
        (OperationKind::Rename, "a", 0, 0),
        (OperationKind::Unlink, "b", 0, 0),
        (OperationKind::CreateDir, "sub", 0, 0),
        (OperationKind::SyncDir, "d", 0, 0),
    ];
    let expected: Vec<_> = expected.map(|(kind, name, at, len)| (kind, name.to_owned(), at, len)).into();
    assert_eq!(*seen.lock(), expected);
}
