//! Opening: one partition that cannot be opened, several threads, what else stands in a root.

use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog::storage::{MemoryStorage, OpenMode, Storage};
use oncelog::{Error, LogDirConfig, LogDirProgress, PartitionState, Salvage};

use crate::world::{append, config, content_of, filled, is_marked, name, names, open, open_with};

/// Breaks the length of the first batch of a partition.
fn break_first_batch(disk: &MemoryStorage, partition: &str) {
    let path = Path::new("/data").join(partition).join("00000000000000000000.log");
    let file = disk.open(&path, OpenMode::Write).unwrap();
    file.write_all_at(&[0xff; 4], 8).unwrap();
    file.sync_data().unwrap();
}

#[test]
fn a_partition_that_cannot_be_opened_stops_no_other_and_leaves_the_root_unmarked() {
    let disk = MemoryStorage::new();
    drop(filled(&disk, &[2, 2, 2]));
    // It is durable, and no checkpoint covers it: the recovery reads it.
    break_first_batch(&disk, "t-1");
    let (dir, report) = open(&disk);
    let failed: Vec<_> = report.failed().map(|(name, _)| name.to_string()).collect();
    assert_eq!(failed, ["t-1"]);
    let broken = dir.get(&name("t", 1)).unwrap();
    assert!(matches!(broken.state(), PartitionState::Failed(Error::Corrupt(_))), "{:?}", broken.state());
    assert!(matches!(broken.log(), Err(Error::Corrupt(_))));
    assert_eq!(content_of(&dir, &name("t", 2)), [0, 1]);
    assert!(matches!(dir.close(), Err(Error::Corrupt(_))));
    assert!(!is_marked(&disk));
    let (dir, report) = open(&disk);
    assert_eq!(report.failed().count(), 1);
    dir.open_failed(&name("t", 1), Salvage::Cut).unwrap();
    assert_eq!(content_of(&dir, &name("t", 1)), []);
    assert!(dir.open_failed(&name("t", 0), Salvage::Cut).is_err(), "it has not failed");
    dir.close().unwrap();
    assert!(is_marked(&disk));
}

#[test]
fn many_threads_find_what_one_finds() {
    let disk = MemoryStorage::new();
    let sizes: Vec<i32> = (0..12).map(|at| at * 3).collect();
    let dir = filled(&disk, &sizes);
    dir.rest();
    for partition in [0, 5, 7] {
        let log = dir.get(&name("t", partition)).unwrap().log().unwrap();
        append(&log, 2, 0..4);
    }
    let image = disk.kill();
    let found = |threads: usize, descriptors: usize| {
        let disk = MemoryStorage::from_image(&image);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let config = LogDirConfig {
            open_threads: threads,
            descriptors: Some(descriptors),
            recovery_bytes: 1000,
            progress: Some(Arc::new(move |progress: LogDirProgress| tell.lock().unwrap().push(progress))),
            ..config()
        };
        let (dir, report) = open_with(&disk, config);
        let mut told = std::mem::take(&mut *told.lock().unwrap());
        told.sort_by_key(|progress| progress.partitions_done);
        let counted: Vec<_> = told.iter().map(|one| (one.partitions_done, one.partitions_total)).collect();
        assert_eq!(counted, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
        let contents: Vec<_> = (0..12).map(|at| content_of(&dir, &name("t", at))).collect();
        (format!("{:?}", report.partitions), contents)
    };
    let one = found(1, 1000);
    assert_eq!(one.1[5].len(), 15 + 4);
    assert_eq!(found(6, 1000), one);
    assert_eq!(found(6, 16), one, "most rest at once");
}

#[test]
fn what_is_no_partition_is_left_alone_and_what_was_being_deleted_is_deleted() {
    let disk = MemoryStorage::new();
    drop(filled(&disk, &[1]));
    let id = "0123456789abcdef0123456789abcdef";
    let others = [
        format!("t-3.{id}-future"),
        format!("t-4.{id}-stray"),
        "__cluster_metadata-0".to_owned(),
        "backup".to_owned(),
    ];
    let deleting = format!("t-5.{id}-delete");
    for dir in others.iter().chain([&deleting]) {
        disk.create_dir_all(&Path::new("/data").join(dir).join("inside")).unwrap();
        drop(
            disk.open(&Path::new("/data").join(dir).join("00000000000000000000.log"), OpenMode::Create)
                .unwrap(),
        );
    }
    let (dir, report) = open(&disk);
    let mut expected = others.to_vec();
    expected.sort();
    assert_eq!(report.left_alone, expected);
    assert_eq!(report.deleting, std::slice::from_ref(&deleting));
    assert_eq!(dir.partitions().len(), 1);
    dir.maintain().unwrap();
    let names = names(&disk);
    assert!(!names.contains(&deleting) && others.iter().all(|other| names.contains(other)), "{names:?}");
}
