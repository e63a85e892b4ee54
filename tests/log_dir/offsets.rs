//! The files of offsets, as Kafka would read them.

use std::sync::Arc;

use oncelog::storage::{ManualClock, MemoryStorage};
use oncelog::{Durability, Environment, LogDir, Offset};

use crate::world::{append, batch, config, filled, image_text, name, open, open_with, text, write};

const POINTS: &str = "recovery-point-offset-checkpoint";
const STARTS: &str = "log-start-offset-checkpoint";
const MARKS: &str = "replication-offset-checkpoint";

/// A root with a clock that stands still until it is told otherwise.
fn open_with_clock(disk: &MemoryStorage) -> (LogDir, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(crate::world::NOW));
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::<ManualClock>::clone(&clock),
        ..Environment::default()
    };
    (LogDir::open(crate::world::ROOT, config(), environment).unwrap().0, clock)
}

#[test]
fn they_say_where_each_log_ends_and_begins_and_keep_the_lines_of_others() {
    let disk = MemoryStorage::new();
    drop(filled(&disk, &[]));
    write(&disk, POINTS, b"0\n2\nt 0 999\nelsewhere 3 17\n");
    let dir = filled(&disk, &[12, 2]);
    dir.get(&name("t", 0)).unwrap().log().unwrap().delete_records_before(Offset(5)).unwrap();
    dir.close().unwrap();
    assert_eq!(text(&disk, POINTS).unwrap(), "0\n3\nelsewhere 3 17\nt 0 12\nt 1 2\n");
    assert_eq!(text(&disk, MARKS).unwrap(), "0\n2\nt 0 12\nt 1 2\n");
    assert_eq!(text(&disk, STARTS).unwrap(), "0\n0\n", "the first segment begins there");
    let (dir, _) = open(&disk);
    dir.get(&name("t", 0)).unwrap().log().unwrap().delete_records_before(Offset(6)).unwrap();
    dir.write_offsets().unwrap();
    assert_eq!(image_text(&disk.power_cut(), STARTS).unwrap(), "0\n1\nt 0 6\n");
}

#[test]
fn a_recovery_point_is_durable_and_not_above_what_is_synced() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3]);
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    log.append(batch(1, 3), Durability::Buffered).unwrap();
    dir.write_offsets().unwrap();
    assert_eq!(image_text(&disk.power_cut(), POINTS).unwrap(), "0\n1\nt 0 3\n");
    assert_eq!(image_text(&disk.power_cut(), MARKS).unwrap(), "0\n1\nt 0 3\n");
}

/// Found by the crash test: the recovery point was the log end, the next batch began a segment there, and the one before
/// lay below it with index files that no sync had covered.
#[test]
fn a_recovery_point_at_the_log_end_stays_in_the_segment_that_is_appended_to() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3]);
    dir.write_offsets().unwrap();
    assert_eq!(text(&disk, POINTS).unwrap(), "0\n1\nt 0 0\n");
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    let segments =
        || disk.kill().files().iter().filter(|path| path.extension().is_some_and(|e| e == "log")).count();
    for sequence in 3.. {
        dir.write_offsets().unwrap();
        let point = text(&disk, POINTS).unwrap();
        append(&log, 1, [sequence]);
        if segments() == 2 {
            assert_eq!(point, "0\n1\nt 0 0\n");
            break;
        }
    }
    dir.write_offsets().unwrap();
    assert_ne!(text(&disk, POINTS).unwrap(), "0\n1\nt 0 0\n", "now its index files are durable");
}

/// Found by the crash test: the line was the durable end; a power cut took what was only buffered behind it, and a segment
/// began right there.
#[test]
fn a_recovery_point_at_which_a_log_ends_after_a_power_cut_goes_back() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[3]);
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    log.append(batch(1, 3), Durability::Buffered).unwrap();
    dir.write_offsets().unwrap();
    assert_eq!(text(&disk, POINTS).unwrap(), "0\n1\nt 0 3\n");
    let disk = MemoryStorage::from_image(&disk.power_cut());
    let (dir, _) = open(&disk);
    assert_eq!(dir.get(&name("t", 0)).unwrap().log().unwrap().log_end_offset(), Offset(3));
    assert_eq!(text(&disk, POINTS).unwrap(), "0\n1\nt 0 0\n");
}

#[test]
fn a_cut_at_the_recovery_point_takes_it_back_into_the_segment_that_is_appended_to() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[12]);
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    dir.write_offsets().unwrap();
    let line = || text(&disk, POINTS).unwrap().split(' ').next_back().unwrap().trim().parse::<i64>().unwrap();
    let point = line();
    assert!(point > 0, "the second segment or a later one is appended to");
    log.truncate_to(Offset(point)).unwrap();
    assert!(line() < point, "{}", line());
}

#[test]
fn they_are_written_when_their_time_has_come_and_only_if_they_changed() {
    let disk = MemoryStorage::new();
    let (dir, clock) = open_with_clock(&disk);
    append(&dir.create(&name("t", 0), crate::world::log_config()).unwrap().log().unwrap(), 1, 0..3);
    dir.maintain().unwrap();
    assert_eq!((text(&disk, POINTS), text(&disk, MARKS)), (None, None));
    clock.advance(std::time::Duration::from_secs(5));
    dir.maintain().unwrap();
    assert_eq!((text(&disk, POINTS), text(&disk, MARKS)), (None, Some("0\n1\nt 0 3\n".to_owned())));
    clock.advance(std::time::Duration::from_secs(55));
    dir.maintain().unwrap();
    assert_eq!(text(&disk, POINTS), Some("0\n1\nt 0 0\n".to_owned()));
    dir.maintain().unwrap();
    let before = disk.operations();
    clock.advance(std::time::Duration::from_secs(60));
    dir.maintain().unwrap();
    assert_eq!(disk.operations(), before);
}

#[test]
fn what_is_too_old_is_deleted_although_its_log_rests() {
    let disk = MemoryStorage::new();
    let (dir, clock) = open_with_clock(&disk);
    let retention = oncelog::Retention { max_age_ms: Some(600_000), max_bytes: None };
    let kept = oncelog::LogConfig { retention, ..crate::world::log_config() };
    let partition = dir.create(&name("t", 0), kept).unwrap();
    append(&partition.log().unwrap(), 1, 0..12);
    dir.rest();
    clock.advance(std::time::Duration::from_secs(600));
    dir.maintain().unwrap();
    assert_eq!(partition.log().unwrap().log_start_offset(), Offset(0));
    dir.rest();
    clock.advance(std::time::Duration::from_secs(61));
    dir.maintain().unwrap();
    assert_eq!(partition.log().unwrap().log_start_offset(), Offset(12));
}

#[test]
fn a_high_watermark_that_the_embedder_sets_outlives_rest_and_restart() {
    let disk = MemoryStorage::new();
    let kept =
        oncelog::LogConfig { high_watermark: oncelog::HighWatermark::External, ..crate::world::log_config() };
    let config = oncelog::LogDirConfig { log: kept.clone(), ..config() };
    let (dir, _) = open_with(&disk, config.clone());
    let partition = dir.create(&name("t", 0), kept).unwrap();
    append(&partition.log().unwrap(), 1, 0..6);
    partition.log().unwrap().set_high_watermark(Offset(4)).unwrap();
    dir.rest();
    assert_eq!(partition.log().unwrap().high_watermark(), Offset(4));
    dir.close().unwrap();
    assert_eq!(text(&disk, MARKS).unwrap(), "0\n1\nt 0 4\n");
    let (dir, _) = open_with(&disk, config);
    assert_eq!(dir.get(&name("t", 0)).unwrap().log().unwrap().high_watermark(), Offset(4));
}

#[test]
fn a_log_start_found_there_is_not_given_to_a_new_partition_of_that_name() {
    let disk = MemoryStorage::new();
    drop(filled(&disk, &[]));
    write(&disk, STARTS, b"0\n2\nt 0 50\nother 0 5\n");
    write(&disk, POINTS, b"0\n1\nt 0 60\n");
    let (dir, _) = open_with(&disk, config());
    let made = dir.create(&name("t", 0), crate::world::log_config()).unwrap();
    assert_eq!(made.log().unwrap().log_start_offset(), Offset(0));
    assert_eq!(image_text(&disk.power_cut(), STARTS).unwrap(), "0\n1\nother 0 5\n");
    assert_eq!(image_text(&disk.power_cut(), POINTS).unwrap(), "0\n0\n");
}

#[test]
fn what_is_too_much_is_deleted_although_its_log_rests() {
    let disk = MemoryStorage::new();
    let (dir, clock) = open_with_clock(&disk);
    let retention = oncelog::Retention { max_age_ms: None, max_bytes: Some(700) };
    let kept = oncelog::LogConfig { retention, ..crate::world::log_config() };
    let partition = dir.create(&name("t", 0), kept).unwrap();
    append(&partition.log().unwrap(), 1, 0..30);
    dir.rest();
    for _ in 0..12 {
        clock.advance(std::time::Duration::from_secs(60));
        dir.maintain().unwrap();
    }
    let oncelog::PartitionState::Resting { log_start_offset, .. } = partition.state() else {
        panic!("{:?}", partition.state());
    };
    assert!(log_start_offset > Offset(10), "{log_start_offset}");
}

#[test]
fn a_high_watermark_that_the_embedder_sets_outlives_a_close_in_order_behind_one_that_failed() {
    let disk = MemoryStorage::new();
    let kept =
        oncelog::LogConfig { high_watermark: oncelog::HighWatermark::External, ..crate::world::log_config() };
    let config = oncelog::LogDirConfig { log: kept.clone(), ..config() };
    let (dir, _) = open_with(&disk, config.clone());
    let partition = dir.create(&name("t", 0), kept).unwrap();
    append(&partition.log().unwrap(), 1, 0..6);
    partition.log().unwrap().set_high_watermark(Offset(4)).unwrap();
    disk.fail(oncelog::storage::Fault::on(oncelog::storage::OperationKind::Write).named(".snapshot"));
    dir.rest();
    disk.clear_faults();
    dir.close().unwrap();
    assert_eq!(text(&disk, MARKS).unwrap(), "0\n1\nt 0 4\n");
}

#[test]
fn a_high_watermark_is_written_although_nothing_else_is() {
    let disk = MemoryStorage::new();
    let kept =
        oncelog::LogConfig { high_watermark: oncelog::HighWatermark::External, ..crate::world::log_config() };
    let config = oncelog::LogDirConfig { log: kept.clone(), ..config() };
    let (dir, _) = open_with(&disk, config.clone());
    append(&dir.create(&name("t", 0), kept).unwrap().log().unwrap(), 1, 0..6);
    dir.close().unwrap();
    let (dir, report) = open_with(&disk, config.clone());
    assert!(report.clean_shutdown);
    dir.get(&name("t", 0)).unwrap().log().unwrap().set_high_watermark(Offset(4)).unwrap();
    dir.write_offsets().unwrap();
    assert_eq!(text(&disk, MARKS).unwrap(), "0\n1\nt 0 4\n");
    dir.close().unwrap();
    assert_eq!(
        open_with(&disk, config).0.get(&name("t", 0)).unwrap().log().unwrap().high_watermark(),
        Offset(4)
    );
}

#[test]
fn a_high_watermark_above_the_log_end_that_is_found_is_put_right_before_other_batches_come_there() {
    let disk = MemoryStorage::new();
    let kept =
        oncelog::LogConfig { high_watermark: oncelog::HighWatermark::External, ..crate::world::log_config() };
    let config = oncelog::LogDirConfig { log: kept.clone(), ..config() };
    let (dir, _) = open_with(&disk, config.clone());
    let log = dir.create(&name("t", 0), kept).unwrap().log().unwrap();
    append(&log, 1, 0..2);
    for sequence in 2..6 {
        log.append(batch(1, sequence), Durability::Buffered).unwrap();
    }
    log.set_high_watermark(Offset(6)).unwrap();
    dir.write_offsets().unwrap();
    assert_eq!(text(&disk, MARKS).unwrap(), "0\n1\nt 0 2\n", "a power cut can leave no more");
    // As an older release, or Kafka, may have left it.
    write(&disk, MARKS, b"0\n1\nt 0 6\n");
    let mut disk = MemoryStorage::from_image(&disk.power_cut());
    for _ in 0..2 {
        let (dir, _) = open_with(&disk, config.clone());
        let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
        assert_eq!(log.high_watermark(), Offset(2));
        assert_eq!(text(&disk, MARKS).unwrap(), "0\n1\nt 0 2\n");
        append(&log, 2, log.producer(oncelog::ProducerId(2)).unwrap().map_or(0..3, |_| 3..3));
        disk = MemoryStorage::from_image(&disk.power_cut());
    }
}
