//! What the fuzzer found, told as plain tests. The inputs themselves are kept in `fuzz/regressions`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where by a panic")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog::checkpoint::{Run, RunDraft, RunWriter};
use oncelog::format::names::{CLEAN_SHUTDOWN, index_name, log_name};
use oncelog::format::run::{RunHeader, RunKind};
use oncelog::producer::Entry;
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{ManualClock, MemoryStorage, OpenMode, Storage};
use oncelog::{
    Background, BatchBuilder, Durability, EngineTime, Environment, Error, LeaderEpoch, Log, LogConfig,
    LogPoint, Offset, ProducerEpoch, ProducerId, RawBatch, RecoveryReport, Salvage, Sequence,
};

const ROOT: &str = "/logs";
const DIR: &str = "/logs/t-0";

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

fn config() -> LogConfig {
    LogConfig { background: Background::Caller, preallocate_bytes: 0, ..LogConfig::default() }
}

fn try_open(disk: &MemoryStorage, salvage: Salvage) -> Result<(Log, RecoveryReport), Error> {
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000)),
        salvage,
        progress: None,
    };
    Log::open_with(DIR, config(), environment)
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

/// A run whose header gave a least id above its first entry, under checksums that fit, listed that entry and denied it
/// when it was asked for: a producer would have been forgotten without a word.
#[test]
fn a_run_that_begins_below_its_least_id_is_refused() {
    let disk = disk();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let to = LogPoint::segment_start(Offset(5));
    let draft = RunDraft::new(RunKind::Base, Offset(0), to, EngineTime(0));
    let mut writer = RunWriter::create(&storage, Path::new(DIR), 1, draft).unwrap();
    for id in [3, 9] {
        writer.push(ProducerId(id), &Entry::new(ProducerEpoch(0), EngineTime(0))).unwrap();
    }
    let run = writer.finish().unwrap();
    assert!(Run::open_unnamed(&*storage, Path::new(DIR), 1).is_ok());

    let header = RunHeader { producers: Some((ProducerId(4), ProducerId(9))), ..run.header().clone() };
    put(&disk, run.path(), &header.encode().0);
    let Error::Corrupt(corruption) = Run::open_unnamed(&*storage, Path::new(DIR), 1).unwrap_err() else {
        panic!("not a corruption");
    };
    assert_eq!((corruption.what.as_str(), corruption.found.as_str()), ("first id of the first block", "3"));
}

/// A log that begins anew at its start, because all that is left of it lies below, left an empty segment in its directory
/// that begins above: the next roll could have come to that very offset.
#[test]
fn a_short_log_begins_anew_without_the_empty_segments_above_its_start_whenever_the_opening_dies() {
    let begun_anew = |disk: &MemoryStorage| {
        let (log, report) = open(disk);
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(19), Offset(19)), "{report}");
        let above = [log_name(Offset(20)), index_name(Offset(20))].map(|name| Path::new(DIR).join(name));
        assert!(!disk.kill().files().iter().any(|path| above.contains(path)), "{report}");
    };
    let disk = disk();
    put_segment(&disk, 0, &[b"no batch begins with these bytes".to_vec()]);
    put_segment(&disk, 11, &[batch_at(11)]);
    put_segment(&disk, 20, &[]);
    put(&disk, &Path::new(DIR).join(index_name(Offset(20))), &[]);
    put(&disk, &Path::new(ROOT).join("log-start-offset-checkpoint"), b"0\n1\nt 0 19\n");
    let images = Arc::new(Mutex::new(vec![disk.kill()]));
    let taken = Arc::clone(&images);
    disk.on_operation(move |_, disk| taken.lock().unwrap().extend([disk.power_cut(), disk.kill()]));
    begun_anew(&disk);
    disk.forget_observer();
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 20);
    images.iter().for_each(|image| begun_anew(&MemoryStorage::from_image(image)));
}

/// Three segments of three batches of one producer, with a checkpoint behind the last batch but one; the process died.
fn three_segments() -> MemoryStorage {
    let disk = disk();
    let environment = Environment { storage: Arc::new(disk.clone()), ..Environment::default() };
    let config = LogConfig { segment_bytes: 250, ..config() };
    let (log, _) = Log::open_with(DIR, config, environment).unwrap();
    for sequence in 0..9 {
        let batch = BatchBuilder::new()
            .producer(ProducerId(1), ProducerEpoch(0), Sequence::new(sequence).unwrap())
            .record_at(1, None, Some(b"value"));
        log.append(RawBatch(batch.build().unwrap()), Durability::Durable).unwrap();
        if sequence == 7 {
            log.checkpoint().unwrap();
        }
    }
    assert_eq!(log.log_end_offset(), Offset(9));
    let image = disk.kill();
    drop(log);
    MemoryStorage::from_image(&image)
}

fn rot_first_offset(disk: &MemoryStorage) {
    let segment = disk.open(&Path::new(DIR).join(log_name(Offset(0))), OpenMode::Write).unwrap();
    segment.write_all_at(&(1i64 << 24).to_be_bytes(), 0).unwrap();
}

/// The last segment was lost and an offset in the first one rotten: it seemed to lie behind the durable end, so that the
/// log passed for another program's, and all that did not follow upon the rotten offset was cut.
#[test]
fn an_offset_that_rots_in_front_of_a_lost_segment_is_no_sign_of_another_program() {
    let disk = three_segments();
    rot_first_offset(&disk);
    for base in [3, 6] {
        disk.unlink(&Path::new(DIR).join(log_name(Offset(base)))).unwrap();
    }
    let before = disk.kill();
    let Error::Corrupt(_) = try_open(&disk, Salvage::Refuse).unwrap_err() else { panic!("not a corruption") };
    let after = disk.kill();
    for path in before.files() {
        assert_eq!(before.read(&path), after.read(&path), "{}", path.display());
    }
}

/// Where another program did write, a checkpoint was believed whose last batch stands behind a rotten offset, and so was
/// cut away with all that follows: the next opening found no batch that the checkpoint ends with, and refused the log.
#[test]
fn a_checkpoint_is_not_believed_if_the_log_is_cut_before_the_place_where_it_ends() {
    let disk = three_segments();
    rot_first_offset(&disk);
    // Its last batch is another program's.
    let segment = Path::new(DIR).join(log_name(Offset(6)));
    let file = disk.open(&segment, OpenMode::Write).unwrap();
    let last = file.len().unwrap() / 3 * 2;
    file.set_len(last).unwrap();
    let another = BatchBuilder::new().base_offset(Offset(8)).leader_epoch(LeaderEpoch(1));
    file.write_all_at(&another.record(None, Some(b"another")).build().unwrap(), last).unwrap();
    let (log, report) = open(&disk);
    assert_eq!(report.kind, RecoveryKind::AnotherProgramWrote, "{report}");
    assert!(report.rejected.iter().any(|rejected| rejected.reason.contains("before it ends")), "{report}");
    assert_eq!(log.producer(ProducerId(1)).unwrap().unwrap().batches().len(), 1, "{report}");
    let end = log.log_end_offset();
    drop(log);
    let (log, report) = open(&disk);
    assert_eq!(log.log_end_offset(), end, "{report}");
}
