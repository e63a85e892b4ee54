//! Both kinds of mapping answer alike.

use std::io::ErrorKind;
use std::path::Path;

use super::*;
use crate::storage::{File, MemoryStorage, OpenMode, OsStorage, Storage};

/// A file of 1000 bytes on a real disk and one on a simulated one.
fn on_both(test: impl Fn(&Arc<dyn File>, &[u8])) {
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    let dir = tempfile::tempdir().unwrap();
    let files = [
        OsStorage::new().open(&dir.path().join("a"), OpenMode::CreateNew).unwrap(),
        MemoryStorage::new().open(Path::new("/a"), OpenMode::CreateNew).unwrap(),
    ];
    for file in files {
        file.write_all_at(&bytes, 0).unwrap();
        test(&file, &bytes);
    }
}

#[test]
fn whole_entries_are_copied_out() {
    on_both(|file, bytes| {
        let map = file.map(1_000).unwrap();
        assert_eq!((map.len(), map.is_empty()), (1_000, false));
        assert_eq!(map.read::<4>(8), Some([8, 9, 10, 11]));
        assert_eq!(map.read::<12>(988).unwrap().as_slice(), bytes.get(988..).unwrap());
        for (at, len) in [(0, 1_000), (1, 999), (3, 63), (3, 64), (3, 65), (900, 100), (1_000, 0)] {
            let mut out = vec![0; len];
            assert!(map.copy_to(at as u64, &mut out));
            assert_eq!(out, bytes.get(at..at + len).unwrap());
        }
    });
}

#[test]
fn nothing_beyond_the_mapped_length_is_read() {
    on_both(|file, _| {
        // The file has more bytes, the mapping has not.
        let map = file.map(100).unwrap();
        assert_eq!(map.read::<4>(96), Some([96, 97, 98, 99]));
        assert_eq!(map.read::<4>(97), None);
        assert_eq!(map.read::<4>(u64::MAX), None);
        let mut out = [9; 4];
        assert!(!map.copy_to(97, &mut out));
        assert!(!map.copy_to(u64::MAX - 1, &mut out));
        assert_eq!(out, [9; 4]);
    });
}

#[test]
fn mapping_more_than_the_file_has_is_refused() {
    on_both(|file, _| {
        let refused = file.map(1_001).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(refused.to_string(), "cannot map 1001 bytes of a file that has 1000");
    });
}

#[test]
fn an_empty_mapping_has_no_bytes() {
    on_both(|file, _| {
        let map = file.map(0).unwrap();
        assert!(map.is_empty());
        assert_eq!(map.read::<0>(0), Some([]));
        assert_eq!(map.read::<1>(0), None);
        assert!(map.copy_to(0, &mut []));
    });
}

#[test]
fn a_mapping_outlives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let storage = OsStorage::new();
    let path = dir.path().join("a");
    let file = storage.open(&path, OpenMode::CreateNew).unwrap();
    file.write_all_at(b"entries.", 0).unwrap();
    let map = file.map(8).unwrap();
    drop(file);
    storage.unlink(&path).unwrap();
    assert_eq!(map.read::<8>(0).as_ref(), Some(b"entries."));
}
