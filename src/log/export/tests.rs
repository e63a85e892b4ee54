use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::log::{Background, Environment, Log, LogConfig};
use crate::storage::{Fault, ManualClock, MemoryStorage, OperationKind};
use crate::types::Durability;

/// A log of several segments whose index files are not written yet.
fn rolled() -> (MemoryStorage, Log) {
    let disk = MemoryStorage::new();
    let config = LogConfig {
        background: Background::Caller,
        segment_bytes: 300,
        index_interval_bytes: 0,
        preallocate_bytes: 0,
        ..LogConfig::default()
    };
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        ..Environment::default()
    };
    let (log, _) = Log::open_with(Path::new("/data/t-0"), config, environment).unwrap();
    for _ in 0..12 {
        let batch = BatchBuilder::new().record_at(1, None, Some(&[7; 40])).build().unwrap();
        log.append(RawBatch(batch), Durability::Buffered).unwrap();
    }
    (disk, log)
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
