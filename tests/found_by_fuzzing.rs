//! What the fuzzer found, told as plain tests. The inputs themselves are kept in `fuzz/regressions`.

use std::path::Path;
use std::sync::Arc;

use oncelog::format::names::{CLEAN_SHUTDOWN, index_name, log_name};
use oncelog::storage::{ManualClock, MemoryStorage, OpenMode, Storage};
use oncelog::{
    Background, BatchBuilder, Durability, Environment, Error, Log, LogConfig, Offset, RawBatch,
    RecoveryReport, Salvage,
};

const ROOT: &str = "/root";
const DIR: &str = "/root/t-0";

fn disk() -> MemoryStorage {
    let disk = MemoryStorage::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for dir in ["/", ROOT] {
        disk.sync_dir(Path::new(dir)).unwrap();
    }
    disk
}

fn put(disk: &MemoryStorage, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Create).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(path.parent().unwrap()).unwrap();
}

fn put_segment(disk: &MemoryStorage, base: i64, batches: &[Vec<u8>]) {
    put(disk, &Path::new(DIR).join(log_name(Offset(base))), &batches.concat());
}

fn batch_at(offset: i64) -> Vec<u8> {
    BatchBuilder::new().base_offset(Offset(offset)).record(None, Some(b"value")).build().unwrap().to_vec()
}

fn open(disk: &MemoryStorage) -> (Log, RecoveryReport) {
    try_open(disk, Salvage::Refuse).unwrap()
}

fn try_open(disk: &MemoryStorage, salvage: Salvage) -> Result<(Log, RecoveryReport), Error> {
    let config = LogConfig { background: Background::Caller, preallocate_bytes: 0, ..LogConfig::default() };
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000)),
        salvage,
        progress: None,
    };
    Log::open_with(DIR, config, environment)
}

/// Compaction had emptied the end of a log and its last segment was new. The first opening went on at the last
/// segment, but noted the end of the last batch as durable end; the next one found a gap behind it, cut the empty
/// segment off and gave the offsets in between out again.
#[test]
fn a_log_that_ends_with_an_empty_segment_behind_a_gap_keeps_its_end_after_a_crash() {
    let disk = disk();
    put_segment(&disk, 0, &[batch_at(0)]);
    put_segment(&disk, 189, &[]);
    put(&disk, &Path::new(ROOT).join(CLEAN_SHUTDOWN), b"{\"version\":0}");
    let (log, report) = open(&disk);
    assert_eq!((report.log_end_offset, log.log_end_offset()), (Offset(189), Offset(189)));
    let after = MemoryStorage::from_image(&disk.power_cut());
    drop(log);
    for disk in [disk, after] {
        let (log, report) = open(&disk);
        assert_eq!(log.log_end_offset(), Offset(189), "{report}");
        assert_eq!(report.cuts, []);
    }
}

/// A compacted log without idempotent producers was adopted without a run, because its headers say that there is no
/// state. The next opening had nothing but the whole log to start from, met the first gap, and refused.
#[test]
fn an_adopted_log_with_gaps_and_without_producers_opens_again() {
    let disk = disk();
    put_segment(&disk, 0, &[batch_at(0), batch_at(7), batch_at(8)]);
    put(&disk, &Path::new(ROOT).join(CLEAN_SHUTDOWN), b"{\"version\":0}");
    let (log, _) = open(&disk);
    log.close().unwrap();
    let (log, _) = open(&disk);
    assert_eq!(log.log_end_offset(), Offset(9));
    drop(log);
    let (log, _) = open(&disk);
    assert_eq!(log.log_end_offset(), Offset(9));
}

/// Behind a checkpoint recovery reads nothing, but the indexes of the last segment have to be read from its headers
/// where their files are missing. That was done last: damage met there refused the opening after recovery had written,
/// and salvage did not help.
#[test]
fn damage_that_only_a_missing_index_shows_is_refused_before_anything_is_changed_and_can_be_salvaged() {
    let first = disk();
    let (log, _) = open(&first);
    for _ in 0..3 {
        log.append(RawBatch(batch_at(0).into()), Durability::Durable).unwrap();
    }
    log.checkpoint().unwrap();
    let disk = MemoryStorage::from_image(&first.kill());
    drop(log);
    let _ = disk.unlink(&Path::new(DIR).join(index_name(Offset(0))));
    let segment = disk.open(&Path::new(DIR).join(log_name(Offset(0))), OpenMode::Write).unwrap();
    segment.write_all_at(&[0x7f], 57).unwrap();

    let before = disk.kill();
    let Error::Corrupt(corruption) = try_open(&disk, Salvage::Refuse).unwrap_err() else {
        panic!("not a corruption");
    };
    assert_eq!((corruption.what.as_str(), corruption.bytes), ("record count", 57..61));
    let after = disk.kill();
    assert_eq!(before.files(), after.files());
    for path in before.files() {
        assert_eq!(before.read(&path), after.read(&path), "{}", path.display());
    }
    let (log, _) = try_open(&disk, Salvage::Cut).unwrap();
    assert_eq!(log.log_end_offset(), Offset(3));
    let appended = log.append(RawBatch(batch_at(0).into()), Durability::Durable).unwrap();
    assert_eq!(appended.base_offset, Some(Offset(3)));
}
