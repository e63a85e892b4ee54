//! The trait's promises, kept by the operating system.

use std::io::{ErrorKind, IoSlice};

use super::*;

fn scratch() -> (tempfile::TempDir, OsStorage) {
    (tempfile::tempdir().unwrap(), OsStorage::new())
}

#[test]
fn writes_go_to_their_position_and_leave_zeros_before_it() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    assert_eq!(file.write_vectored_at(&[IoSlice::new(b"con"), IoSlice::new(b"tent")], 3).unwrap(), 7);
    file.write_all_at(b"CON", 3).unwrap();
    assert_eq!(file.len().unwrap(), 10);
    let mut all = [9; 10];
    file.read_exact_at(&mut all, 0).unwrap();
    assert_eq!(&all, b"\0\0\0CONtent");
    assert_eq!(file.read_at(&mut all, 10).unwrap(), 0);
    assert_eq!(file.read_exact_at(&mut all, 1).unwrap_err().kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn read_to_appends_what_was_asked_for_whatever_room_the_buffer_has() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    file.write_all_at(&bytes, 0).unwrap();
    for capacity in [0, 10, 1_010, 4_000, 1_000_000] {
        let mut buf = Vec::with_capacity(capacity);
        buf.extend_from_slice(b"before");
        assert_eq!(file.read_to(&mut buf, 1_000, 500).unwrap(), 1_000);
        assert_eq!(buf.get(..6).unwrap(), b"before");
        assert_eq!(buf.get(6..).unwrap(), bytes.get(500..1_500).unwrap());
    }
}

#[test]
fn read_to_returns_less_only_at_the_end_of_the_file() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&[7; 5_000], 0).unwrap();
    let mut buf = Vec::new();
    assert_eq!(file.read_to(&mut buf, 10_000, 4_000).unwrap(), 1_000);
    assert_eq!(buf, [7; 1_000]);
    assert_eq!(file.read_to(&mut buf, 10_000, 5_000).unwrap(), 0);
    assert_eq!(file.read_to(&mut buf, 0, 0).unwrap(), 0);
    assert_eq!(buf.len(), 1_000);
}

#[test]
fn more_buffers_than_one_call_takes_are_all_written() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000).collect();
    let mut bufs: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    assert_eq!(file.write_vectored_at(&bufs, 0).unwrap(), 1_024);
    file.write_all_vectored_at(&mut bufs, 0).unwrap();
    let mut back = Vec::new();
    file.read_to(&mut back, 4_000, 0).unwrap();
    assert_eq!(back, bytes);
}

#[test]
fn each_open_mode_finds_or_makes_its_file() {
    let (dir, storage) = scratch();
    let path = dir.path().join("a");
    assert_eq!(storage.open(&path, OpenMode::Read).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.open(&path, OpenMode::Write).unwrap_err().kind(), ErrorKind::NotFound);
    storage.open(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(storage.open(&path, OpenMode::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    storage.open(&path, OpenMode::Create).unwrap().write_all_at(b"kept", 0).unwrap();
    assert_eq!(storage.open(&path, OpenMode::Create).unwrap().len().unwrap(), 4);
    let read_only = storage.open(&path, OpenMode::Read).unwrap();
    assert_eq!(read_only.write_all_at(b"x", 0).unwrap_err().raw_os_error(), Some(Errno::BADF.raw_os_error()));
}

#[test]
fn allocating_leaves_the_length_alone() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    file.allocate(5, 0).unwrap();
    assert_eq!(file.len().unwrap(), 3);
    assert!(!file.is_empty().unwrap());
}

#[test]
fn cutting_and_extending_leaves_zeros() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"abcdef", 0).unwrap();
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    let mut back = Vec::new();
    file.read_to(&mut back, 10, 0).unwrap();
    assert_eq!(back, b"ab\0\0");
}

#[test]
fn names_are_listed_with_length_and_kind() {
    let (dir, storage) = scratch();
    storage.create_dir_all(&dir.path().join("sub/deeper")).unwrap();
    let file = storage.open(&dir.path().join("old"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    storage.rename(&dir.path().join("old"), &dir.path().join("new")).unwrap();
    let mut entries = storage.list(dir.path()).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let expected = [
        DirEntry { name: "new".into(), len: 3, kind: EntryKind::File },
        DirEntry { name: "sub".into(), len: 0, kind: EntryKind::Directory },
    ];
    assert_eq!(entries, expected);
    storage.unlink(&dir.path().join("new")).unwrap();
    assert_eq!(storage.unlink(&dir.path().join("new")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn files_and_directories_can_be_synced() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    storage.sync_dir(dir.path()).unwrap();
    assert_eq!(storage.sync_dir(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(storage.sync_dir(&dir.path().join("a")).unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn descriptors_are_closed_on_exec() {
    let (dir, storage) = scratch();
    let file = storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    let flags = rustix::io::fcntl_getfd(file.descriptor().unwrap()).unwrap();
    assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
}

#[test]
fn the_boot_id_is_the_one_of_this_machine() {
    let storage = OsStorage::new();
    assert_eq!(storage.boot_id(), storage.boot_id());
    let text = "00112233-4455-6677-8899-aabbccddeeff\n";
    let id = [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    assert_eq!(parse_boot_id(text), Some(id));
    assert_eq!(parse_boot_id(""), None);
    assert_eq!(parse_boot_id("00112233-4455"), None);
    assert_eq!(parse_boot_id("00112233-4455-6677-8899-aabbccddeefg"), None);
}

#[test]
fn two_names_of_one_file_have_one_identity() {
    let (dir, storage) = scratch();
    storage.open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    storage.open(&dir.path().join("b"), OpenMode::CreateNew).unwrap();
    let a = storage.identity(&dir.path().join("a")).unwrap();
    assert_eq!(storage.identity(&dir.path().join("./a")).unwrap(), a);
    assert_ne!(storage.identity(&dir.path().join("b")).unwrap(), a);
    assert_eq!(storage.identity(&dir.path().join("c")).unwrap_err().kind(), ErrorKind::NotFound);
}
