//! A directory is looked at after a clean close, after a crash, while somebody has it, and where it is damaged.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::log::{Background, Environment, Log, LogConfig};
use crate::storage::{ManualClock, MemoryStorage, OpenMode};
use crate::types::{Durability, ProducerEpoch, Sequence};

const DIR: &str = "/logs/orders-0";

/// Three records of a producer, the `nth` such batch.
fn batch(producer: i64, nth: i32) -> RawBatch {
    let sequence = Sequence::new(nth * 3).unwrap();
    let mut builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    for record in 0..3 {
        builder = builder.record(None, Some(format!("{producer}/{nth}/{record}").as_bytes()));
    }
    RawBatch(builder.build().unwrap())
}

fn header(producer: i64, nth: i32) -> BatchHeader {
    *batch(producer, nth).check().unwrap().header()
}

fn open(disk: &MemoryStorage) -> Log {
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(0)),
        ..Environment::default()
    };
    let config = LogConfig { background: Background::Caller, ..LogConfig::default() };
    Log::open_with(DIR, config, environment).unwrap().0
}

fn append(log: &Log, producer: i64, batches: std::ops::Range<i32>) {
    for nth in batches {
        log.append(batch(producer, nth), Durability::Durable).unwrap();
    }
}

fn inspect(disk: &MemoryStorage) -> Result<Inspection, Error> {
    Inspection::open_with(Arc::new(disk.clone()), DIR)
}

/// All files with their bytes.
fn content(disk: &MemoryStorage) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let image = disk.kill();
    image.files().into_iter().map(|path| (path.clone(), image.read(&path))).collect()
}

#[test]
fn after_a_clean_close_nothing_would_be_written_and_every_retry_is_answered_from_the_window() {
    let disk = MemoryStorage::new();
    let log = open(&disk);
    append(&log, 7, 0..7);
    log.close().unwrap();

    let before = content(&disk);
    let inspection = inspect(&disk).unwrap();
    let plan = inspection.plan().unwrap();
    assert!(plan.log.clean);
    assert_eq!((plan.deletes.len(), plan.rewrite_from), (0, None));
    assert_eq!(plan.last_stable_offset(), Offset(21));
    assert_eq!(inspection.segments().len(), 1);
    for nth in 2..7 {
        let Ok(Verdict::Duplicate(found)) = inspection.judge(&header(7, nth)).unwrap() else {
            panic!("batch {nth} is in the window")
        };
        assert_eq!(found.first_offset, Offset(i64::from(nth) * 3));
    }
    for nth in 0..2 {
        let verdict = inspection.judge(&header(7, nth)).unwrap().unwrap();
        assert!(
            matches!(verdict, Verdict::DuplicateBeyondWindow { oldest } if oldest.first_offset == Offset(6))
        );
    }
    assert_eq!(inspection.judge(&header(7, 7)).unwrap(), Ok(Verdict::Append));
    assert!(matches!(inspection.judge(&header(7, 8)).unwrap(), Err(Rejection::OutOfOrder { .. })));
    assert!(matches!(inspection.judge(&header(8, 1)).unwrap(), Err(Rejection::UnknownProducer { .. })));
    drop(inspection);
    assert_eq!(content(&disk), before, "a look changed the directory");
}

#[test]
fn producers_of_runs_and_of_the_log_behind_them_come_once_each_in_the_order_of_ids() {
    let disk = MemoryStorage::new();
    let log = open(&disk);
    append(&log, 5, 0..1);
    append(&log, 7, 0..1);
    log.checkpoint().unwrap();
    append(&log, 7, 1..3);
    append(&log, 9, 0..1);
    append(&log, 1, 0..1);
    // No close: as the process leaves it when it dies.
    drop(log);

    let inspection = inspect(&disk).unwrap();
    assert_eq!(inspection.plan().unwrap().log.report.chain.as_ref().unwrap().end, Offset(6));
    let producers: Vec<_> = inspection.producers().unwrap().map(Result::unwrap).collect();
    let found: Vec<_> = producers.iter().map(|(id, entry)| (id.0, entry.batches().len())).collect();
    assert_eq!(found, [(1, 1), (5, 1), (7, 3), (9, 1)]);
    assert_eq!(inspection.entry(ProducerId(7)).unwrap().unwrap(), producers[2].1);
    assert_eq!(inspection.entry(ProducerId(6)).unwrap(), None);
}

#[test]
fn a_directory_that_a_log_has_open_is_locked() {
    let disk = MemoryStorage::new();
    let log = open(&disk);
    let error = inspect(&disk).unwrap_err();
    assert!(matches!(&error, Error::Locked { path, .. } if path.ends_with(names::LOG_LOCK)), "{error}");
    log.close().unwrap();
    assert!(inspect(&disk).is_ok());
}

#[test]
fn two_looks_at_a_time_do_not_disturb_each_other_but_keep_a_log_out() {
    let disk = MemoryStorage::new();
    open(&disk).close().unwrap();
    let first = inspect(&disk).unwrap();
    let second = inspect(&disk).unwrap();
    assert_eq!(second.locks().held().count(), 2);
    assert_eq!(second.locks().missing(), [] as [PathBuf; 0]);
    drop(first);
    let environment = Environment { storage: Arc::new(disk.clone()), ..Environment::default() };
    assert!(matches!(Log::open_with(DIR, LogConfig::default(), environment), Err(Error::Locked { .. })));
}

#[test]
fn without_lock_files_a_look_goes_on_creates_none_and_says_so() {
    let disk = MemoryStorage::new();
    let log = open(&disk);
    append(&log, 7, 0..2);
    log.close().unwrap();
    let [log_lock, root_lock] =
        [Path::new(DIR).join(names::LOG_LOCK), Path::new("/logs").join(names::ROOT_LOCK)];
    disk.unlink(&log_lock).unwrap();
    disk.unlink(&root_lock).unwrap();

    let inspection = inspect(&disk).unwrap();
    assert_eq!(inspection.locks().missing(), [root_lock.clone(), log_lock.clone()]);
    assert_eq!(inspection.locks().held().count(), 0);
    let files = disk.kill().files();
    assert!(!files.contains(&log_lock) && !files.contains(&root_lock));
}

#[test]
fn a_recovery_that_would_be_refused_is_told_and_no_producer_is_guessed() {
    let disk = MemoryStorage::new();
    let log = open(&disk);
    append(&log, 7, 0..3);
    drop(log);
    let path = Path::new(DIR).join(names::log_name(Offset::ZERO));
    let file = disk.open(&path, OpenMode::Write).unwrap();
    file.set_len(100).unwrap();

    let inspection = inspect(&disk).unwrap();
    let refusal = inspection.plan().unwrap_err();
    assert!(matches!(&refusal, Error::Corrupt(corruption) if corruption.path == path), "{refusal}");
    assert!(matches!(inspection.producers(), Err(Error::Corrupt(_))));
    assert!(matches!(inspection.entry(ProducerId(7)), Err(Error::Corrupt(_))));
    assert!(matches!(inspection.judge(&header(7, 0)), Err(Error::Corrupt(_))));
    assert_eq!(inspection.segments(), [SegmentFile { base: Offset::ZERO, len: 100 }]);
}

#[test]
fn a_root_is_told_from_a_partition_and_so_is_a_directory_of_anything_else() {
    let disk = MemoryStorage::new();
    open(&disk).close().unwrap();
    let at = |dir: &str| Inspection::open_with(Arc::new(disk.clone()), dir).unwrap_err().to_string();
    assert!(at("/logs").contains("it is a root of 1: name one of them, such as orders-0"), "{}", at("/logs"));
    disk.create_dir_all(Path::new("/logs/empty")).unwrap();
    assert!(at("/logs/empty").contains("no segment"), "{}", at("/logs/empty"));
    let missing = Inspection::open_with(Arc::new(disk.clone()), "/logs/nowhere").unwrap_err();
    assert!(
        matches!(&missing, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound),
        "{missing}"
    );
}
