//! Truncation under a root: what was fetched before is void, and the root's files never say more than the log has.

use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog::format::checkpoint_file::parse_partition_offsets;
use oncelog::format::names::{self, FileName};
use oncelog::storage::{Fault, Image, MemoryStorage, OperationKind};
use oncelog::{Error, Isolation, Log, Offset, Salvage};

use crate::world::{
    ROOT, append, config, content_of, environment, filled, image_text, log_config, name, open, open_with,
    text, write,
};

const POINTS: &str = names::RECOVERY_POINTS;

#[test]
fn what_was_fetched_before_a_rest_is_void_after_the_cut_behind_it() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[12]);
    let partition = dir.get(&name("t", 0)).unwrap();
    let fetched = partition.log().unwrap().fetch(Offset(8), 1 << 20, Isolation::LogEnd).unwrap();
    dir.rest();
    assert_eq!(dir.descriptors().0, 0);
    drop(partition.log().unwrap());
    fetched.check_not_truncated().unwrap();
    dir.rest();
    partition.log().unwrap().truncate_to(Offset(6)).unwrap();
    append(&partition.log().unwrap(), 1, 6..12);
    assert!(matches!(fetched.check_not_truncated(), Err(Error::Truncated)));
    assert!(matches!(fetched.bytes(), Err(Error::Truncated)));
}

#[test]
fn what_was_fetched_from_a_log_that_is_closed_for_good_is_void_but_not_from_one_that_was_deleted() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3, 3]);
    let fetch = |partition: i32| {
        let log = dir.get(&name("t", partition)).unwrap().log().unwrap();
        log.fetch(Offset(0), 1 << 20, Isolation::LogEnd).unwrap()
    };
    let (kept, deleted) = (fetch(0), fetch(1));
    dir.delete(&name("t", 1)).unwrap();
    dir.close().unwrap();
    assert!(matches!(kept.check_not_truncated(), Err(Error::Truncated)), "another process may cut it now");
    deleted.check_not_truncated().unwrap();
    let alone = Log::open_with("/data/t-0", log_config(), environment(&disk)).unwrap().0;
    let fetched = alone.fetch(Offset(0), 1 << 20, Isolation::LogEnd).unwrap();
    alone.close().unwrap();
    assert!(matches!(fetched.bytes(), Err(Error::Truncated)));
}

#[test]
fn what_was_fetched_from_a_log_whose_close_failed_is_void_when_it_is_recovered() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[12]);
    let partition = dir.get(&name("t", 0)).unwrap();
    let fetched = partition.log().unwrap().fetch(Offset(8), 1 << 20, Isolation::LogEnd).unwrap();
    disk.fail(Fault::on(OperationKind::Write).named(".snapshot"));
    dir.rest();
    disk.clear_faults();
    partition.log().unwrap();
    assert!(matches!(fetched.check_not_truncated(), Err(Error::Truncated)));
}

/// Line of `t-0` in a file of the root, and where its log ends.
fn line_and_end(image: &Image, file: &str) -> (Option<Offset>, Offset) {
    let lines = parse_partition_offsets(image_text(image, file).unwrap_or_default().as_bytes());
    let line = lines.unwrap_or_default().into_iter().find(|line| line.partition == name("t", 0));
    let (dir, report) = open(&MemoryStorage::from_image(image));
    assert_eq!(report.failed().count(), 0);
    let end = dir.get(&name("t", 0)).unwrap().log().unwrap().log_end_offset();
    (line.map(|line| line.offset), end)
}

#[test]
fn no_line_of_the_root_is_above_the_log_after_a_crash_at_any_operation_of_a_truncation() {
    let cuts: [fn(&Log) -> Offset; 3] = [
        |log| log.truncate_to(Offset(9)).unwrap(),
        |log| log.truncate_to(Offset(3)).unwrap(),
        |log| log.truncate_fully_and_start_at(Offset(2)).unwrap(),
    ];
    for (which, cut) in cuts.into_iter().enumerate() {
        let disk = MemoryStorage::new();
        let dir = filled(&disk, &[12, 4]);
        let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
        log.delete_records_before(Offset(3)).unwrap();
        dir.write_offsets().unwrap();
        assert_eq!(text(&disk, POINTS).unwrap(), "0\n2\nt 0 10\nt 1 0\n");
        let images = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&images);
        disk.on_operation(move |_, disk| {
            taken.lock().unwrap().extend([disk.power_cut(), disk.kill()]);
        });
        let left = cut(&log);
        disk.forget_observer();
        let images = std::mem::take(&mut *images.lock().unwrap());
        assert!(images.len() > 20, "{}", images.len());
        for (at, image) in images.iter().enumerate() {
            for file in [POINTS, names::HIGH_WATERMARKS, names::LOG_START_OFFSETS] {
                let (line, end) = line_and_end(image, file);
                assert!(
                    line.is_none_or(|line| line <= end),
                    "cut {which}, image {at}: {file} {line:?} > {end}"
                );
            }
        }
        dir.write_offsets().unwrap();
        let (line, end) = line_and_end(&disk.power_cut(), POINTS);
        assert_eq!(end, left, "cut {which}");
        assert!(line.is_some_and(|line| line <= left), "cut {which}: {line:?}");
        assert!(text(&disk, POINTS).unwrap().contains("t 1 0\n"));
    }
}

#[test]
fn a_line_that_cannot_be_lowered_stops_the_truncation_before_it_begins() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[12]);
    dir.write_offsets().unwrap();
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    disk.fail(Fault::on(OperationKind::Rename).named(POINTS));
    assert!(matches!(log.truncate_to(Offset(6)), Err(Error::Io { .. })));
    disk.clear_faults();
    append(&log, 1, [12]);
    log.truncate_to(Offset(6)).unwrap();
    assert_eq!(log.log_end_offset(), Offset(6));
    let (line, end) = line_and_end(&disk.power_cut(), POINTS);
    assert!(line.unwrap() <= end);
}

#[test]
fn a_line_above_the_log_end_that_is_found_is_not_believed_and_put_right_at_once() {
    let disk = MemoryStorage::new();
    drop(filled(&disk, &[20]));
    write(&disk, POINTS, b"0\n1\nt 0 999\n");
    let (dir, _) = open_with(&disk, config());
    let image = disk.power_cut();
    let point = image_text(&image, POINTS).unwrap();
    assert_eq!(point, "0\n1\nt 0 15\n");
    let mut sealed: Vec<Offset> = (image.files().iter())
        .filter_map(|path| match FileName::parse(path.file_name()?.to_str()?) {
            FileName::Log(base) => Some(base),
            _ => None,
        })
        .collect();
    sealed.sort_unstable();
    sealed.pop();
    assert!(sealed.len() > 2, "{sealed:?}");
    for base in sealed {
        let index = image.read(&Path::new(ROOT).join("t-0").join(names::index_name(base)));
        assert!(index.is_some_and(|bytes| !bytes.is_empty()), "the index of {base} is not on the medium");
    }
    drop(dir);
}

#[test]
fn a_salvage_lowers_the_line_of_what_it_has_cut() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3]);
    dir.write_offsets().unwrap();
    drop(dir);
    let path = Path::new("/data/t-0/00000000000000000000.log");
    let file = oncelog::storage::Storage::open(&disk, path, oncelog::storage::OpenMode::Write).unwrap();
    file.write_all_at(&[0xff; 4], 8).unwrap();
    let (dir, report) = open(&disk);
    assert_eq!(report.failed().count(), 1);
    dir.open_failed(&name("t", 0), Salvage::Cut).unwrap();
    assert_eq!(content_of(&dir, &name("t", 0)), []);
    assert_eq!(text(&disk, POINTS).unwrap(), "0\n1\nt 0 0\n");
}

/// The background writes them when their time has come, whatever a log does at that moment.
#[test]
fn no_line_is_raised_again_while_its_log_is_cut() {
    let cuts: [fn(&Log) -> Offset; 2] = [
        |log| log.truncate_to(Offset(6)).unwrap(),
        |log| log.truncate_fully_and_start_at(Offset(2)).unwrap(),
    ];
    for (which, cut) in cuts.into_iter().enumerate() {
        let disk = MemoryStorage::new();
        let dir = Arc::new(filled(&disk, &[12, 4]));
        let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
        log.delete_records_before(Offset(3)).unwrap();
        dir.write_offsets().unwrap();
        let images = Arc::new(Mutex::new(Vec::new()));
        let (taken, background) = (Arc::clone(&images), Arc::clone(&dir));
        let state = Arc::new(Mutex::new(false));
        disk.on_operation(move |operation, disk| {
            if operation.path.starts_with("/data/t-0")
                && !std::mem::replace(&mut *state.lock().unwrap(), true)
            {
                background.write_offsets().unwrap();
                *state.lock().unwrap() = false;
            }
            taken.lock().unwrap().push(disk.power_cut());
        });
        cut(&log);
        disk.forget_observer();
        let images = std::mem::take(&mut *images.lock().unwrap());
        assert!(images.len() > 20, "{}", images.len());
        for (at, image) in images.iter().enumerate() {
            for file in [POINTS, names::HIGH_WATERMARKS, names::LOG_START_OFFSETS] {
                let (line, end) = line_and_end(image, file);
                let true_of_it = line.is_none_or(|line| line <= end);
                assert!(true_of_it, "cut {which}, image {at}: {file} {line:?} > {end}");
            }
        }
    }
}
