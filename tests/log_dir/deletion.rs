//! Deletion: one durable rename, and nobody reads or writes another's directory.

use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;

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
    assert_eq!(text(&disk, "recovery-point-offset-checkpoint").unwrap(), "0\n1\nt 1 0\n");
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

#[test]
fn a_name_is_not_given_again_before_the_lines_of_its_old_partition_are_gone() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[20]);
    dir.write_offsets().unwrap();
    let (entered, hangs) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    disk.on_operation(move |operation, _| {
        let writes =
            operation.kind == OperationKind::Create && operation.name().starts_with("recovery-point");
        let waits = if writes { released.lock().unwrap().take() } else { None };
        if let Some(released) = waits {
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
    });
    thread::scope(|scope| {
        let deleter = scope.spawn(|| dir.delete(&name("t", 0)));
        hangs.recv().unwrap();
        // The old partition's directory has left its name already.
        let made = dir.create(&name("t", 0), log_config());
        release.send(()).unwrap();
        deleter.join().unwrap().unwrap();
        assert!(matches!(made, Err(Error::Misuse(_))));
    });
    disk.forget_observer();
    dir.create(&name("t", 0), log_config()).unwrap();
    assert_eq!(image_text(&disk.power_cut(), "recovery-point-offset-checkpoint").unwrap(), "0\n0\n");
}

#[test]
fn a_line_that_could_not_be_dropped_is_dropped_before_the_name_is_given_again() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[20]);
    dir.write_offsets().unwrap();
    disk.fail(Fault::on(OperationKind::Rename).named("recovery-point"));
    dir.delete(&name("t", 0)).unwrap();
    assert!(matches!(dir.create(&name("t", 0), log_config()), Ok(_) | Err(Error::Io { .. })));
    disk.clear_faults();
    if dir.get(&name("t", 0)).is_none() {
        dir.create(&name("t", 0), log_config()).unwrap();
    }
    assert_eq!(image_text(&disk.power_cut(), "recovery-point-offset-checkpoint").unwrap(), "0\n0\n");
}

#[test]
fn a_mark_whose_removal_is_not_proven_lets_nothing_be_written_under_the_root() {
    let disk = MemoryStorage::new();
    filled(&disk, &[2]).close().unwrap();
    let (dir, _) = open(&disk);
    disk.fail(Fault::on(OperationKind::SyncDir).named("data"));
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    for _ in 0..2 {
        assert!(matches!(log.append(batch(1, 2), Durability::Durable), Err(Error::Unavailable { .. })));
    }
    disk.clear_faults();
    assert!(matches!(log.append(batch(1, 2), Durability::Durable), Err(Error::Unavailable { .. })));
    let before = disk.operations();
    assert!(matches!(dir.write_offsets(), Err(Error::Unavailable { .. })));
    assert_eq!(disk.operations(), before);
    drop((log, dir));
    append(&open(&disk).0.get(&name("t", 0)).unwrap().log().unwrap(), 1, [2]);
}

#[test]
fn a_deletion_whose_sync_fails_can_be_repeated() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3, 1]);
    dir.rest();
    disk.fail(Fault::on(OperationKind::SyncDir).named("data"));
    assert!(matches!(dir.delete(&name("t", 0)), Err(Error::Io { .. })));
    disk.clear_faults();
    dir.delete(&name("t", 0)).unwrap();
    let disk = MemoryStorage::from_image(&disk.power_cut());
    drop(dir);
    assert_eq!(open(&disk).1.partitions.len(), 1);
}

#[test]
fn a_partition_whose_deletion_has_failed_is_there_with_all_that_it_had_if_it_is_opened_again() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3, 1]);
    disk.fail(Fault::on(OperationKind::SyncDir).named("data"));
    assert!(matches!(dir.delete(&name("t", 0)), Err(Error::Io { .. })));
    disk.clear_faults();
    dir.open_failed(&name("t", 0), oncelog::Salvage::Refuse).unwrap();
    assert_eq!(crate::world::content_of(&dir, &name("t", 0)), [0, 1, 2]);
}
