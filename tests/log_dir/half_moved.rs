//! What a crash or a failure leaves of a move, and who may take it away.

use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog::format::names;
use oncelog::storage::{Fault, MemoryStorage, OpenMode, OperationKind, Storage};
use oncelog::{Error, Salvage};

use crate::moving::{FROM, TO, open_at, two_roots};
use crate::world::{append, content_of, log_config, name};

/// Crashed after the copy got its name, and before the original lost it.
fn with_two() -> MemoryStorage {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let image = Arc::new(Mutex::new(None));
    let taken = Arc::clone(&image);
    disk.on_operation(move |operation, disk| {
        if operation.kind == OperationKind::Rename && operation.name().ends_with("-future") {
            *taken.lock().unwrap() = Some(disk.kill());
        }
    });
    from.move_to(&name("t", 0), &to).unwrap();
    disk.forget_observer();
    let image = image.lock().unwrap().take().unwrap();
    MemoryStorage::from_image(&image)
}

#[test]
fn where_the_other_root_cannot_be_looked_at_the_original_stays_closed() {
    let disk = with_two();
    let other = |root: &str| root.replace('/', "/elsewhere-");
    disk.rename(Path::new(TO), Path::new(&other(TO))).unwrap();
    // As an empty mount point.
    disk.create_dir_all(Path::new(TO)).unwrap();
    let (dir, report) = open_at(&disk, FROM);
    let failed: Vec<_> = report.failed().map(|(name, error)| (name.to_string(), error.clone())).collect();
    assert!(matches!(&failed[..], [(name, Error::Unavailable { .. })] if name == "t-0"), "{failed:?}");
    assert!(matches!(dir.open_failed(&name("t", 0), Salvage::Cut), Err(Error::Unavailable { .. })));
    assert!(matches!(dir.get(&name("t", 0)).unwrap().log(), Err(Error::Unavailable { .. })));
    drop(dir);
    disk.remove_dir(Path::new(TO)).unwrap();
    disk.rename(Path::new(&other(TO)), Path::new(TO)).unwrap();
    assert!(open_at(&disk, FROM).0.get(&name("t", 0)).is_none());
    assert_eq!(content_of(&open_at(&disk, TO).0, &name("t", 0)).len(), 12);
}

#[test]
fn a_moved_partition_is_not_deleted_before_its_original_is() {
    let disk = with_two();
    let to = open_at(&disk, TO).0;
    for refused in
        [to.delete(&name("t", 0)), to.move_to(&name("t", 0), &open_at(&disk, "/third").0).map(drop)]
    {
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    }
    append(&to.get(&name("t", 0)).unwrap().log().unwrap(), 1, [16]);
    let from = open_at(&disk, FROM).0;
    assert!(from.get(&name("t", 0)).is_none());
    to.delete(&name("t", 0)).unwrap();
    drop((from, to));
    assert!(open_at(&disk, FROM).0.get(&name("t", 0)).is_none());
    assert!(open_at(&disk, TO).0.get(&name("t", 0)).is_none());
}

#[test]
fn when_nobody_knows_whether_the_copy_has_its_name_neither_root_has_the_partition_before_the_next_open() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let failing = disk.clone();
    disk.on_operation(move |operation, _| {
        if operation.kind == OperationKind::Rename && operation.name().ends_with("-future") {
            failing.fail(Fault::on(OperationKind::SyncDir).named("more"));
        }
    });
    assert!(matches!(from.move_to(&name("t", 0), &to), Err(Error::Io { .. })));
    disk.forget_observer();
    disk.clear_faults();
    assert!(matches!(from.get(&name("t", 0)).unwrap().log(), Err(Error::Unavailable { .. })));
    assert!(matches!(to.create(&name("t", 0), log_config()), Err(Error::Misuse(_))));
    assert!(from.close().is_err());
    drop(to);
    let (from, to) = (open_at(&disk, FROM).0, open_at(&disk, TO).0);
    assert!(from.get(&name("t", 0)).is_none());
    assert_eq!(content_of(&to, &name("t", 0)).len(), 12);
}

#[test]
fn a_root_that_is_opened_alone_after_a_kill_does_not_end_a_move_that_a_power_cut_can_take_back() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&moments);
    disk.on_operation(move |operation, disk| {
        let after = format!("{}: {:?} {}", operation.number, operation.kind, operation.path.display());
        taken.lock().unwrap().push((after, disk.kill()));
    });
    from.move_to(&name("t", 0), &to).unwrap();
    from.maintain().unwrap();
    disk.forget_observer();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    for (after, image) in &moments {
        for first in [FROM, TO] {
            let disk = MemoryStorage::from_image(image);
            let (dir, _) = open_at(&disk, first);
            dir.maintain().unwrap();
            drop(dir);
            let disk = MemoryStorage::from_image(&disk.power_cut());
            let opened = [FROM, TO].map(|root| open_at(&disk, root));
            let having = opened.iter().filter(|(dir, _)| dir.get(&name("t", 0)).is_some()).count();
            assert_eq!(having, 1, "{first} was opened after {after}");
        }
    }
}

/// Without a note nobody would know the directory for ours, and it would stay for ever.
#[test]
fn a_copy_that_was_given_up_is_removed_whatever_a_crash_leaves_of_it() {
    for cut in 0..2 {
        let disk = MemoryStorage::new();
        let (from, to) = two_roots(&disk);
        disk.fail(Fault::on(OperationKind::Rename).named(names::HIGH_WATERMARKS));
        let images = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&images);
        disk.on_operation(move |operation, disk| {
            // Names in the root are lost, those below it are not.
            let torn =
                disk.power_cut_with(|pending| (cut == 0) ^ !format!("{pending:?}").contains("\"/more\""));
            taken.lock().unwrap().push((format!("{:?} {}", operation.kind, operation.path.display()), torn));
        });
        assert!(matches!(from.move_to(&name("t", 0), &to), Err(Error::Io { .. })));
        to.maintain().unwrap();
        disk.forget_observer();
        for (after, image) in std::mem::take(&mut *images.lock().unwrap()) {
            let disk = MemoryStorage::from_image(&image);
            let (to, report) = open_at(&disk, TO);
            assert_eq!(report.left_alone, Vec::<String>::new(), "{cut} {after}");
            to.maintain().unwrap();
        }
    }
}

#[test]
fn a_move_that_has_failed_leaves_no_need_of_the_other_root() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let made = disk.clone();
    disk.on_operation(move |operation, _| {
        if operation.kind == OperationKind::Rename
            && operation.path.starts_with("/data/t-0")
            && operation.to.as_ref().is_some_and(|to| to.ends_with(names::MOVE))
        {
            made.clear_faults();
            made.fail(Fault::on(OperationKind::SyncDir).named("t-0"));
        }
    });
    disk.clear_faults();
    assert!(matches!(from.move_to(&name("t", 0), &to), Err(Error::Io { .. })));
    disk.forget_observer();
    disk.clear_faults();
    from.close().unwrap();
    to.close().unwrap();
    disk.rename(Path::new(TO), Path::new("/elsewhere")).unwrap();
    let (from, report) = open_at(&disk, FROM);
    assert_eq!(report.failed().count(), 0);
    from.delete(&name("t", 0)).unwrap();
}

#[test]
fn a_directory_with_the_note_of_another_partition_is_not_removed_with_it() {
    let disk = with_two();
    for file in disk.list(Path::new("/data/t-0")).unwrap() {
        let bytes = disk.kill().read(&Path::new("/data/t-0").join(&file.name)).unwrap();
        disk.create_dir_all(Path::new("/data/saved-0")).unwrap();
        let copy = disk.open(&Path::new("/data/saved-0").join(&file.name), OpenMode::Create).unwrap();
        copy.write_all_at(&bytes, 0).unwrap();
    }
    let (from, report) = open_at(&disk, FROM);
    assert!(from.get(&name("t", 0)).is_none());
    let failed: Vec<_> = report.failed().map(|(name, error)| (name.to_string(), error.clone())).collect();
    assert!(matches!(&failed[..], [(name, Error::Misuse(_))] if name == "saved-0"), "{failed:?}");
    drop(from);
    disk.unlink(Path::new("/data/saved-0/oncelog.move")).unwrap();
    assert_eq!(content_of(&open_at(&disk, FROM).0, &name("saved", 0)).len(), 12);
}
