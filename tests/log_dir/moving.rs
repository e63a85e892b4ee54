//! Moving a partition into another root: in one piece, and in exactly one root after a crash at any operation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use oncelog::format::names;
use oncelog::storage::{Fault, Image, MemoryStorage, OperationKind, Storage};
use oncelog::{
    Durability, Error, HighWatermark, Id, Isolation, LogConfig, LogDir, LogDirConfig, LogDirReport, Offset,
    Outcome, PartitionState,
};

use crate::world::{append, batch, config, content, content_of, environment, log_config, name};

pub(crate) const FROM: &str = "/data";
pub(crate) const TO: &str = "/more";

pub(crate) fn open_at(disk: &MemoryStorage, root: &str) -> (LogDir, LogDirReport) {
    LogDir::open(root, config(), environment(disk)).unwrap()
}

/// Two roots; the first one has `t-0` with offsets 4 to 15, of which the newest segment has some, and `t-1`.
pub(crate) fn two_roots(disk: &MemoryStorage) -> (LogDir, LogDir) {
    let (from, to) = (open_at(disk, FROM).0, open_at(disk, TO).0);
    for (partition, count) in [(0, 16), (1, 2)] {
        let made = from.create(&name("t", partition), log_config()).unwrap();
        append(&made.log().unwrap(), 1, 0..count);
    }
    from.get(&name("t", 0)).unwrap().log().unwrap().delete_records_before(Offset(4)).unwrap();
    from.write_offsets().unwrap();
    (from, to)
}

/// Every file of a directory.
fn files(image: &Image, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let below = |path: &Path| path.parent() == Some(Path::new(dir));
    let paths = image.files().into_iter().filter(|path| below(path));
    paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), image.read(&path).unwrap()))
        .collect()
}

fn line(image: &Image, root: &str, file: &str) -> Option<String> {
    let text = String::from_utf8(image.read(&Path::new(root).join(file))?).unwrap();
    text.lines().find(|line| line.starts_with("t 0 ")).map(str::to_owned)
}

#[test]
fn a_moved_partition_is_the_same_byte_for_byte_and_in_the_new_root_alone() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let held = from.get(&name("t", 0)).unwrap().log().unwrap();
    let fetched = held.fetch(Offset(4), 1 << 20, Isolation::LogEnd).unwrap();
    let bytes = fetched.bytes().unwrap();
    drop(held);
    from.rest();
    let before = files(&disk.kill(), "/data/t-0");
    let moved = from.move_to(&name("t", 0), &to).unwrap();
    let after = files(&disk.kill(), "/more/t-0");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (file, bytes) in &before {
        assert!(after[file] == *bytes, "{file}");
        assert!(disk.power_cut().read(&Path::new("/more/t-0").join(file)).unwrap() == *bytes, "{file}");
    }
    assert!(from.get(&name("t", 0)).is_none());
    assert_eq!(line(&disk.power_cut(), FROM, names::RECOVERY_POINTS), None);
    assert_eq!(line(&disk.power_cut(), TO, names::RECOVERY_POINTS).unwrap(), "t 0 16");
    assert_eq!(line(&disk.power_cut(), TO, names::HIGH_WATERMARKS).unwrap(), "t 0 16");
    assert_eq!(fetched.bytes().unwrap(), bytes);
    from.maintain().unwrap();
    let left: Vec<_> = disk.list(Path::new(FROM)).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(!left.iter().any(|name| name.starts_with("t-0")), "{left:?}");
    let log = moved.log().unwrap();
    assert_eq!(log.log_start_offset(), Offset(4));
    let retry = log.append(batch(1, 12), Durability::Durable).unwrap();
    assert_eq!((retry.outcome, retry.base_offset), (Outcome::Duplicate, Some(Offset(12))));
    append(&log, 1, [16]);
    drop(log);
    from.create(&name("t", 0), log_config()).unwrap();
    assert_eq!(content_of(&from, &name("t", 0)), []);
    from.close().unwrap();
    to.close().unwrap();
    let (to, report) = open_at(&disk, TO);
    assert!(report.clean_shutdown);
    assert_eq!(content_of(&to, &name("t", 0)).len(), 13);
}

#[test]
fn a_partition_is_used_while_its_sealed_segments_are_copied() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let (entered, hangs) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    disk.on_operation(move |operation, _| {
        let copies = operation.kind == OperationKind::SyncAll
            && operation.name().ends_with(".log")
            && operation.path.starts_with(TO);
        let waits = if copies { released.lock().unwrap().take() } else { None };
        if let Some(released) = waits {
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
    });
    let partition = from.get(&name("t", 0)).unwrap();
    let held = partition.log().unwrap();
    thread::scope(|scope| {
        let mover = scope.spawn(|| from.move_to(&name("t", 0), &to));
        hangs.recv().unwrap();
        // Everything that was copied is cut, and other batches come in its place.
        held.truncate_to(Offset(6)).unwrap();
        append(&held, 2, 0..9);
        held.delete_records_before(Offset(5)).unwrap();
        release.send(()).unwrap();
        mover.join().unwrap().unwrap();
    });
    disk.forget_observer();
    assert!(matches!(held.append(batch(2, 9), Durability::Durable), Err(Error::Closed)));
    assert!(matches!(partition.log(), Err(Error::Closed)));
    assert!(matches!(partition.state(), PartitionState::Gone));
    let log = to.get(&name("t", 0)).unwrap().log().unwrap();
    assert_eq!(content(&log), [5, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    append(&log, 2, [9]);
}

#[test]
fn what_the_embedder_has_set_goes_along() {
    let disk = MemoryStorage::new();
    let kept = LogConfig { high_watermark: HighWatermark::External, ..log_config() };
    let root = LogDirConfig { log: kept.clone(), ..config() };
    let open = |path| LogDir::open(path, root.clone(), environment(&disk)).unwrap().0;
    let (from, to) = (open(FROM), open(TO));
    let log = from.create_of_topic(&name("t", 0), kept.clone(), Id([3; 16])).unwrap().log().unwrap();
    append(&log, 1, 0..6);
    log.set_high_watermark(Offset(4)).unwrap();
    log.begin_leader_epoch(oncelog::LeaderEpoch(7)).unwrap();
    drop(log);
    let moved = from.move_to(&name("t", 0), &to).unwrap();
    assert_eq!(moved.topic_id().unwrap(), Some(Id([3; 16])));
    let log = moved.log().unwrap();
    assert_eq!(log.high_watermark(), Offset(4));
    append(&log, 1, [6]);
    let fetched = log.fetch(Offset(6), 1 << 20, Isolation::LogEnd).unwrap();
    assert_eq!(fetched.first_batch().unwrap().leader_epoch, oncelog::LeaderEpoch(7));
    // What is written from now on goes to the new place.
    log.begin_leader_epoch(oncelog::LeaderEpoch(9)).unwrap();
    append(&log, 1, [7]);
    log.checkpoint().unwrap();
    let epochs = disk.kill().read(Path::new("/more/t-0/leader-epoch-checkpoint")).unwrap();
    assert!(String::from_utf8(epochs).unwrap().ends_with("\n9 7\n"));
    assert!(!disk.kill().files().iter().any(|path| path.starts_with("/data/t-0")));
    drop((log, moved, to));
    assert_eq!(open(TO).get(&name("t", 0)).unwrap().log().unwrap().high_watermark(), Offset(4));
}

#[test]
fn a_partition_is_not_moved_onto_another_nor_into_its_own_root() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    to.create(&name("t", 0), log_config()).unwrap();
    for refused in [
        from.move_to(&name("t", 0), &to),
        from.move_to(&name("t", 0), &from),
        from.move_to(&name("u", 0), &to),
    ] {
        assert!(matches!(refused, Err(Error::Misuse(_))), "{refused:?}");
    }
    assert_eq!(content_of(&from, &name("t", 0)).len(), 12);
    from.move_to(&name("t", 1), &to).unwrap();
    to.move_to(&name("t", 1), &from).unwrap();
    append(&from.get(&name("t", 1)).unwrap().log().unwrap(), 1, [2]);
}

#[test]
fn a_copy_that_fails_leaves_the_partition_where_it_is() {
    for (kind, part) in [
        (OperationKind::CreateDir, "future"),
        (OperationKind::Write, ".log"),
        (OperationKind::SyncAll, ".log"),
        (OperationKind::Write, names::MANIFEST),
        (OperationKind::Rename, names::HIGH_WATERMARKS),
        (OperationKind::Rename, "t-0"),
    ] {
        let disk = MemoryStorage::new();
        let (from, to) = two_roots(&disk);
        from.rest();
        disk.fail(Fault::on(kind).named(part));
        let failed = from.move_to(&name("t", 0), &to);
        assert!(matches!(failed, Err(Error::Io { .. })), "{kind:?} {part}: {failed:?}");
        disk.clear_faults();
        append(&from.get(&name("t", 0)).unwrap().log().unwrap(), 1, [16]);
        to.maintain().unwrap();
        let left: Vec<_> = disk.list(Path::new(TO)).unwrap().into_iter().map(|entry| entry.name).collect();
        assert!(!left.iter().any(|name| name.starts_with("t-0")), "{kind:?} {part}: {left:?}");
        from.move_to(&name("t", 0), &to).unwrap();
        assert_eq!(content_of(&to, &name("t", 0)).len(), 13);
    }
}

#[test]
fn after_a_crash_at_any_operation_exactly_one_root_has_the_partition() {
    let disk = MemoryStorage::new();
    let (from, to) = two_roots(&disk);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&moments);
    let mut dice = 7_u64;
    let dice = Mutex::new(move || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice.is_multiple_of(2)
    });
    disk.on_operation(move |operation, disk| {
        let torn = disk.power_cut_with(|_| (dice.lock().unwrap())());
        let after = format!("{}: {:?} {}", operation.number, operation.kind, operation.path.display());
        taken.lock().unwrap().push((after, [disk.power_cut(), disk.kill(), torn]));
    });
    from.move_to(&name("t", 0), &to).unwrap();
    from.maintain().unwrap();
    disk.forget_observer();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 80, "{}", moments.len());
    let (mut stayed, mut went) = (0, 0);
    for (after, images) in &moments {
        for (which, image) in images.iter().enumerate() {
            let has = |part: &str| {
                image.files().iter().any(|path| path.to_str().is_some_and(|path| path.contains(part)))
            };
            if has("-future/") && has("/more/t-0/") {
                // No file system shows a directory under two names.
                continue;
            }
            for roots in [[FROM, TO], [TO, FROM]] {
                let at = format!("image {which} after {after}, {roots:?}");
                let disk = MemoryStorage::from_image(image);
                // Whichever is opened first may need the other one's next opening.
                let opened = roots.map(|root| open_at(&disk, root));
                for (dir, report) in &opened {
                    assert_eq!(report.failed().count(), 0, "{at}");
                    dir.maintain().unwrap();
                }
                let having: Vec<_> =
                    opened.iter().filter(|(dir, _)| dir.get(&name("t", 0)).is_some()).collect();
                assert_eq!(having.len(), 1, "{at}");
                let dir = &having[0].0;
                assert_eq!(content_of(dir, &name("t", 0)), (4..16).collect::<Vec<_>>(), "{at}");
                let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
                for sequence in 11..16 {
                    let retry = log.append(batch(1, sequence), Durability::Durable).unwrap();
                    assert_eq!(retry.outcome, Outcome::Duplicate, "{at}");
                }
                let root = dir.root();
                drop(log);
                let root = root.to_str().unwrap();
                if root == FROM {
                    stayed += 1
                } else {
                    went += 1
                }
                for (dir, _) in opened {
                    dir.close().unwrap();
                }
                // Opened once more, nothing of the move is left, and Kafka finds what it believes.
                for root in roots {
                    let (dir, report) = open_at(&disk, root);
                    assert!(report.clean_shutdown, "{at}");
                    dir.maintain().unwrap();
                    dir.close().unwrap();
                    let listed = disk.list(Path::new(root)).unwrap();
                    let left: Vec<_> = listed.iter().filter(|entry| entry.name.starts_with("t-0.")).collect();
                    assert!(left.is_empty(), "{at}: {left:?}");
                }
                let point = line(&disk.kill(), root, names::RECOVERY_POINTS);
                assert_eq!(point.as_deref(), Some("t 0 16"), "{at}");
            }
        }
    }
    assert!(stayed > 100 && went > 20, "{stayed} stayed, {went} went");
}
