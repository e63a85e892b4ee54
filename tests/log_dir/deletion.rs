//! Deletion: one durable rename, and nobody reads or writes another's directory.

use std::path::Path;

use oncelog::storage::{Fault, MemoryStorage, OperationKind};
use oncelog::{Durability, Error, Isolation, Offset, PartitionState};

use crate::world::{append, batch, content_of, filled, image_text, log_config, name, names, open, text};

#[test]
fn a_deleted_partition_is_gone_after_a_power_cut_and_what_was_fetched_stays_readable() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[20, 1]);
    dir.write_offsets().unwrap();
    let partition = dir.get(&name("t", 0)).unwrap();
    let log = partition.log().unwrap();
    let fetched = log.fetch(Offset(2), 1 << 20, Isolation::LogEnd).unwrap();
    let before = fetched.bytes().unwrap();
    dir.delete(&name("t", 0)).unwrap();
    assert_eq!(image_text(&disk.power_cut(), "t-0/oncelog.manifest"), None);
    assert!(dir.get(&name("t", 0)).is_none());
    assert!(matches!(partition.state(), PartitionState::Gone));
    assert!(matches!(log.fetch(Offset(0), 100, Isolation::LogEnd), Err(Error::Closed)));
    assert!(matches!(log.append(batch(1, 20), Durability::Durable), Err(Error::Closed)));
    assert_eq!(text(&disk, "recovery-point-offset-checkpoint").unwrap(), "0\n1\nt 1 1\n");
    assert!(names(&disk).iter().any(|name| name.starts_with("t-0.") && name.ends_with("-delete")));
    dir.maintain().unwrap();
    assert!(!names(&disk).iter().any(|name| name.starts_with("t-0")), "{:?}", names(&disk));
    assert_eq!(fetched.bytes().unwrap(), before);
    assert!(dir.delete(&name("t", 0)).is_err(), "there is none");
}

#[test]
fn a_partition_that_takes_a_deleted_one_s_name_begins_anew_and_is_left_alone_by_those_who_hold_the_old_one() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[20]);
    let old = dir.get(&name("t", 0)).unwrap().log().unwrap();
    drop(old.submit(batch(1, 20), Durability::Buffered).unwrap());
    dir.delete(&name("t", 0)).unwrap();
    dir.create(&name("t", 0), log_config()).unwrap();
    append(&dir.get(&name("t", 0)).unwrap().log().unwrap(), 9, 0..3);
    let before = disk.operations();
    assert!(old.checkpoint().is_err() && old.flush().is_err());
    old.maintain().ok();
    drop(old);
    assert_eq!(disk.operations(), before);
    assert_eq!(content_of(&dir, &name("t", 0)), [0, 1, 2]);
    dir.close().unwrap();
    let (dir, _) = open(&disk);
    assert_eq!(content_of(&dir, &name("t", 0)), [0, 1, 2]);
}

#[test]
fn a_deletion_that_fails_leaves_the_partition_closed_and_can_be_repeated() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3]);
    disk.fail(Fault::on(OperationKind::Rename).named("t-0"));
    assert!(matches!(dir.delete(&name("t", 0)), Err(Error::Io { .. })));
    let partition = dir.get(&name("t", 0)).unwrap();
    assert!(matches!(partition.log(), Err(Error::Unavailable { .. })));
    dir.delete(&name("t", 0)).unwrap();
    dir.maintain().unwrap();
    assert_eq!(disk.kill().read(Path::new("/data/t-0/oncelog.manifest")), None);
}

#[test]
fn a_partition_that_rests_is_deleted_too() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3, 1]);
    dir.rest();
    dir.delete(&name("t", 0)).unwrap();
    dir.maintain().unwrap();
    assert_eq!(disk.kill().read(Path::new("/data/t-0/oncelog.manifest")), None);
    dir.close().unwrap();
    assert_eq!(open(&disk).1.partitions.len(), 1);
}
