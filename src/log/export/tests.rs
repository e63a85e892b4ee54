use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::format::names;
use crate::log::{Background, EndTransaction, Environment, Log, LogConfig};
use crate::producer::{EndTxn, TransactionVersion};
use crate::recovery::RecoveryReport;
use crate::storage::{Fault, ManualClock, MemoryStorage, OpenMode, OperationKind, Storage};
use crate::types::{CoordinatorEpoch, Durability, ProducerEpoch, ProducerId, Sequence};

/// A log of several segments whose index files are not written yet.
fn rolled() -> (MemoryStorage, Log) {
    let disk = MemoryStorage::new();
    let (log, _) = open(&disk);
    fill(&log, 12);
    (disk, log)
}

fn open(disk: &MemoryStorage) -> (Log, RecoveryReport) {
    let config = LogConfig {
        background: Background::Caller,
        segment_bytes: 300,
        index_interval_bytes: 0,
        preallocate_bytes: 0,
        verify_transactions: false,
        ..LogConfig::default()
    };
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        ..Environment::default()
    };
    Log::open_with(Path::new("/data/t-0"), config, environment).unwrap()
}

fn fill(log: &Log, batches: usize) {
    for _ in 0..batches {
        let batch = BatchBuilder::new().record_at(1, None, Some(&[7; 40])).build().unwrap();
        log.append(RawBatch(batch), Durability::Buffered).unwrap();
    }
}

fn abort_a_transaction(log: &Log) {
    let (producer, epoch) = (ProducerId(1), ProducerEpoch(0));
    let batch = BatchBuilder::new().producer(producer, epoch, Sequence::ZERO).transactional();
    let batch = batch.record_at(1, None, Some(b"aborted")).build().unwrap();
    log.append(RawBatch(batch), Durability::Buffered).unwrap();
    let end = EndTransaction {
        producer,
        epoch,
        coordinator_epoch: CoordinatorEpoch(0),
        outcome: EndTxn::Abort,
        version: TransactionVersion::One,
    };
    log.end_transaction(end, Durability::Buffered).unwrap();
}

#[test]
fn a_segment_counts_as_unwritten_until_its_index_files_are_there() {
    let (disk, log) = rolled();
    let unwritten = log.shared.sealed_unwritten.lock().len();
    assert!(unwritten > 2, "{unwritten}");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, shared) = (Arc::clone(&seen), Arc::clone(&log.shared));
    disk.on_operation(move |operation, _| {
        if operation.kind == OperationKind::Write && operation.name().ends_with(".index") {
            let listed: Vec<_> =
                shared.sealed_unwritten.lock().iter().map(|(segment, _)| segment.base()).collect();
            told.lock().unwrap().push((operation.name().to_owned(), listed));
        }
    });
    log.checkpoint().unwrap();
    disk.forget_observer();
    assert!(log.shared.sealed_unwritten.lock().is_empty());
    let seen = seen.lock().unwrap();
    let sealed = seen.iter().take(unwritten);
    for (name, listed) in sealed {
        let base = listed.iter().find(|base| crate::format::names::index_name(**base) == *name);
        assert!(base.is_some(), "{name} is being written, and {listed:?} are listed");
    }
    assert!(seen.len() >= unwritten, "{seen:?}");
}

#[test]
fn index_files_that_cannot_be_written_are_written_by_the_next_checkpoint() {
    let (disk, log) = rolled();
    let before: Vec<_> =
        log.shared.sealed_unwritten.lock().iter().map(|(segment, _)| segment.base()).collect();
    disk.fail(Fault::on(OperationKind::Write).named(".index"));
    assert!(log.checkpoint().is_err());
    disk.clear_faults();
    let after: Vec<_> =
        log.shared.sealed_unwritten.lock().iter().map(|(segment, _)| segment.base()).collect();
    assert_eq!(after, before);
    log.checkpoint().unwrap();
    assert!(log.shared.sealed_unwritten.lock().is_empty());
}

#[test]
fn index_files_whose_sync_has_failed_are_written_once_more_before_they_count_as_durable() {
    for part in [".index", ".timeindex"] {
        let (disk, log) = rolled();
        abort_a_transaction(&log);
        fill(&log, 6);
        log.checkpoint().unwrap();
        let active = log.shared.view.read().active().base();
        disk.fail(Fault::on(OperationKind::SyncData).named(part).nth(2));
        let failed = log.shared.sync_sealed_indexes();
        assert!(matches!(failed, Err(Error::Io { operation: "sync", .. })), "{failed:?}");
        disk.clear_faults();
        assert!(log.shared.indexes_durable.lock().below < active);
        log.shared.sync_sealed_indexes().unwrap();
        assert_eq!(log.shared.indexes_durable.lock().below, active);
        let (shown, kept) = (disk.kill(), disk.power_cut());
        let indexes: Vec<_> =
            shown.files().into_iter().filter(|path| path.to_string_lossy().ends_with("index")).collect();
        let of_sealed = |path: &&PathBuf| {
            let stem = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            stem.is_some_and(|base: i64| base < active.0)
        };
        for path in indexes.iter().filter(of_sealed) {
            assert_eq!(kept.read(path), shown.read(path), "{}", path.display());
        }
        let aborted = indexes.iter().filter(|path| path.extension().is_some_and(|kind| kind == "txnindex"));
        assert_eq!((indexes.len() > 12, aborted.count()), (true, 1));
    }
}

/// Nobody knows which of the names a failed sync of their directory has lost, and the next one may say that all is well.
#[test]
fn index_files_whose_names_could_not_be_synced_are_made_anew_before_they_count_as_durable() {
    let (disk, log) = rolled();
    log.checkpoint().unwrap();
    disk.fail(Fault::on(OperationKind::SyncDir));
    let failed = log.shared.sync_sealed_indexes();
    assert!(matches!(failed, Err(Error::Io { operation: "sync", .. })), "{failed:?}");
    let made = Arc::new(Mutex::new(0));
    let count = Arc::clone(&made);
    disk.on_operation(move |operation, _| {
        let to = operation.to.as_ref().map(|to| to.to_string_lossy());
        *count.lock().unwrap() += usize::from(to.is_some_and(|to| to.ends_with("index")));
    });
    log.shared.sync_sealed_indexes().unwrap();
    disk.forget_observer();
    assert_eq!(*made.lock().unwrap(), 2 * log.shared.view.read().sealed().len());
}

/// Found by the crash test: the segment lay below the root's recovery point, and the process died between the write and
/// the sync of what was put in the place of its index files.
#[test]
fn index_files_that_are_made_anew_are_durable_before_they_have_their_names() {
    let (disk, log) = rolled();
    let image = disk.kill();
    drop(log);
    let disk = MemoryStorage::from_image(&image);
    let (log, _) = open(&disk);
    let bases: Vec<_> = log.shared.view.read().sealed().iter().map(|segment| segment.base()).collect();
    let names = bases.iter().flat_map(|base| [names::index_name(*base), names::time_index_name(*base)]);
    let paths: Vec<_> = names.map(|name| Path::new("/data/t-0").join(name)).collect();
    for path in &paths {
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_all_at(b"no entries", 0).unwrap();
        file.sync_all().unwrap();
    }
    disk.sync_dir(Path::new("/data/t-0")).unwrap();
    let found = Arc::new(Mutex::new(Vec::new()));
    let (seen, looked_at) = (Arc::clone(&found), paths.clone());
    disk.on_operation(move |_, disk| {
        for kept in 0..=disk.pending().len() {
            let mut nth = 0;
            let image = disk.power_cut_with(|_| {
                nth += 1;
                nth <= kept
            });
            seen.lock().unwrap().extend(looked_at.iter().map(|path| (path.clone(), image.read(path))));
        }
    });
    log.shared.write_lost_indexes().unwrap();
    disk.forget_observer();
    let made = disk.kill();
    for (path, bytes) in found.lock().unwrap().iter() {
        let (old, new) = (b"no entries".to_vec(), made.read(path).unwrap());
        assert!(bytes.as_ref().is_some_and(|bytes| *bytes == old || *bytes == new), "{path:?}: {bytes:?}");
        assert_ne!(old, new);
    }
    assert!(found.lock().unwrap().len() > 10 * paths.len());
}
