//! A root that Kafka has left.

use std::path::Path;
use std::sync::Arc;

use oncelog::LogDirConfig;
use oncelog::format::names;
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{MemoryStorage, OpenMode, Storage};

use crate::world::{config, content_of, filled, name, open_with, write};

/// Takes what is ours out of a root that was closed in order: what stays is what Kafka would have left.
fn as_kafka(disk: &MemoryStorage) -> MemoryStorage {
    let image = disk.kill();
    let kafka = MemoryStorage::new();
    for path in image.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("oncelog.") || name.starts_with("producers.") {
            continue;
        }
        kafka.create_dir_all(path.parent().unwrap()).unwrap();
        let file = kafka.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&image.read(&path).unwrap(), 0).unwrap();
    }
    kafka
}

#[test]
fn the_mark_of_a_clean_stop_holds_for_every_partition_although_the_first_takes_it_away() {
    for threads in [1, 4] {
        let disk = MemoryStorage::new();
        filled(&disk, &[15, 3, 9, 1]).close().unwrap();
        let kafka = as_kafka(&disk);
        let (dir, report) = open_with(&kafka, LogDirConfig { open_threads: threads, ..config() });
        for found in report.partitions.values() {
            let found = found.as_ref().unwrap();
            assert_eq!((found.kind, found.rewritten_bytes), (RecoveryKind::KafkaClean, 0));
        }
        assert_eq!(kafka.kill().read(&Path::new("/data").join(names::CLEAN_SHUTDOWN)), None);
        assert_eq!(content_of(&dir, &name("t", 0)), (0..15).collect::<Vec<_>>());
        dir.close().unwrap();
    }
}

#[test]
fn without_the_mark_the_recovery_points_are_believed_and_kept_until_better_is_known() {
    let disk = MemoryStorage::new();
    filled(&disk, &[15, 3]).close().unwrap();
    let kafka = as_kafka(&disk);
    kafka.unlink(&Path::new("/data").join(names::CLEAN_SHUTDOWN)).unwrap();
    write(&kafka, names::RECOVERY_POINTS, b"0\n2\nt 0 10\nt 1 3\n");
    let (dir, report) = open_with(&kafka, config());
    assert_eq!(report.partitions[&name("t", 1)].as_ref().unwrap().rewritten_bytes, 0);
    let first = report.partitions[&name("t", 0)].as_ref().unwrap();
    assert_eq!(first.kind, RecoveryKind::KafkaUnclean);
    assert!(first.rewritten_bytes > 0, "what lies above the recovery point is written again");
    dir.write_offsets().unwrap();
    let text = crate::world::text(&kafka, names::RECOVERY_POINTS).unwrap();
    assert_eq!(text, "0\n2\nt 0 10\nt 1 0\n");
    drop(Arc::new(dir));
}
