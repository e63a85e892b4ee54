//! Segments that leave for another tier, and logs that begin where they end: every producer's window goes along.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oncelog::storage::{Image, ManualClock, MemoryStorage, OpenMode, Storage};
use oncelog::types::History;
use oncelog::{
    Appended, Background, BatchBuilder, Durability, Environment, Error, ImportedState, Isolation,
    LeaderEpoch, LeaderEpochs, Log, LogConfig, LogDir, LogDirConfig, Offset, Outcome, PartitionName,
    ProducerEpoch, ProducerId, RawBatch, Sequence,
};

const FROM: &str = "/logs/orders-0";
const TO: &str = "/logs/orders-1";
const NOW: i64 = 1_700_000_000_000;
const PRODUCERS: i64 = 3;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 150,
        preallocate_bytes: 0,
        background: Background::Caller,
        ..LogConfig::default()
    }
}

fn environment(disk: &MemoryStorage) -> Environment {
    let (storage, clock) = (Arc::new(disk.clone()), Arc::new(ManualClock::new(NOW)));
    Environment { storage, clock, ..Environment::default() }
}

fn open(disk: &MemoryStorage, dir: &str) -> Result<Log, Error> {
    Log::open_with(dir, config(), environment(disk)).map(|(log, _)| log)
}

fn start_from(disk: &MemoryStorage, state: &ImportedState) -> Result<Log, Error> {
    Log::start_from(TO, config(), environment(disk), state).map(|(log, _)| log)
}

fn batch(producer: i64, sequence: i32, transactional: bool) -> RawBatch {
    let sequence = Sequence::new(sequence).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence).record_at(
        NOW,
        None,
        Some(&[7; 20]),
    );
    let builder = if transactional { builder.transactional() } else { builder };
    RawBatch(builder.build().unwrap())
}

fn append(log: &Log, producer: i64, sequence: i32) -> Result<Appended, Error> {
    log.append(batch(producer, sequence, false), Durability::Durable)
}

/// `rounds` batches of one record by each producer in turn, so that offset o has sequence o / 3 of producer o % 3.
fn fill(log: &Log, rounds: std::ops::Range<i32>) {
    for sequence in rounds {
        for producer in 0..PRODUCERS {
            append(log, producer, sequence).unwrap();
        }
    }
}

/// How the last batches of each producer below `end` are answered on `log`, and what comes next.
fn assert_knows_all_below(log: &Log, end: Offset) {
    for producer in 0..PRODUCERS {
        let written = i32::try_from((end.0 - producer + PRODUCERS - 1) / PRODUCERS).unwrap();
        for back in 1..=written.min(7) {
            let sequence = written - back;
            let answer = append(log, producer, sequence).unwrap();
            if back <= 5 {
                let first = Offset(i64::from(sequence) * PRODUCERS + producer);
                assert_eq!((answer.outcome, answer.base_offset), (Outcome::Duplicate, Some(first)));
            } else {
                assert_eq!(answer.outcome, Outcome::DuplicateBeyondWindow);
            }
        }
        match append(log, producer, written + 1) {
            Err(Error::Rejected(oncelog::Rejection::OutOfOrder { expected, .. })) => {
                assert_eq!(expected, Sequence::new(written).unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a log that begins at `start` knows of these epochs: those before begin there, as after a deletion.
fn from(epochs: &LeaderEpochs, start: Offset) -> LeaderEpochs {
    let mut epochs = epochs.clone();
    epochs.truncate_from_start(start);
    epochs
}

fn runs(disk: &MemoryStorage) -> Vec<String> {
    let names = disk.list(Path::new(FROM)).unwrap().into_iter().map(|entry| entry.name);
    let mut runs: Vec<_> = names.filter(|name| name.ends_with(".run")).collect();
    runs.sort();
    runs
}

fn filled(disk: &MemoryStorage) -> Log {
    let log = open(disk, FROM).unwrap();
    log.begin_leader_epoch(LeaderEpoch(4)).unwrap();
    fill(&log, 0..6);
    log.begin_leader_epoch(LeaderEpoch(9)).unwrap();
    fill(&log, 6..14);
    log
}

#[test]
fn a_log_that_begins_at_the_end_of_any_segment_answers_every_retry_as_the_first_one_did() {
    let disk = MemoryStorage::new();
    let log = filled(&disk);
    let segments = log.sealed_segments();
    assert!(segments.len() >= 3, "{segments:?}");
    for checkpointed in [false, true] {
        if checkpointed {
            log.checkpoint().unwrap();
            log.maintain().unwrap();
        }
        let before = runs(&disk);
        for segment in &segments {
            let exported = log.export(segment.base_offset).unwrap();
            assert_eq!(exported.segment, *segment);
            let other = MemoryStorage::new();
            let began = start_from(&other, &exported.imported_state().unwrap()).unwrap();
            let end = segment.end_offset;
            assert_eq!((began.log_start_offset(), began.log_end_offset()), (end, end));
            assert_eq!(exported.leader_epochs, log.leader_epochs().below(end));
            assert_eq!(began.leader_epochs(), from(&exported.leader_epochs, end));
            assert_knows_all_below(&began, end);
            let next = i32::try_from(end.0 / PRODUCERS).unwrap();
            let appended = append(&began, end.0 % PRODUCERS, next).unwrap();
            assert_eq!((appended.outcome, appended.base_offset), (Outcome::Appended, Some(end)));
            assert_knows_all_below(&began, Offset(end.0 + 1));
            began.close().unwrap();
            assert_knows_all_below(&open(&other, TO).unwrap(), Offset(end.0 + 1));
        }
        assert_eq!(runs(&disk), before, "an export leaves nothing behind");
    }
}

#[test]
fn the_exported_files_are_those_of_the_log_and_outlive_their_deletion() {
    let disk = MemoryStorage::new();
    let log = filled(&disk);
    let segments = log.sealed_segments();
    let exported = log.export(segments[0].base_offset).unwrap();
    let mut expected = Vec::new();
    let mut next = Offset(0);
    while next < segments[0].end_offset {
        let fetched = log.fetch(next, 1 << 20, Isolation::LogEnd).unwrap();
        expected.extend_from_slice(&fetched.bytes().unwrap());
        next = fetched.batches().unwrap().last().unwrap().unwrap().header.next_offset();
    }
    let index = exported.offset_index.read().unwrap();
    let times = exported.time_index.read().unwrap();
    assert!(!index.is_empty() && index.len().is_multiple_of(8) && times.len().is_multiple_of(12));
    assert_eq!(exported.txn_index.as_ref().map(|file| file.len), None);
    log.delete_records_before(segments[1].end_offset).unwrap();
    log.maintain().unwrap();
    assert_eq!(exported.log.read().unwrap(), expected);
    assert_eq!(exported.offset_index.read().unwrap(), index);
    assert_knows_all_below(
        &start_from(&MemoryStorage::new(), &exported.imported_state().unwrap()).unwrap(),
        segments[0].end_offset,
    );
    assert!(matches!(log.export(segments[0].base_offset), Err(Error::Misuse(_))), "it is gone");
}

#[test]
fn a_replica_that_begins_at_an_export_follows_the_rest_and_answers_like_its_leader() {
    let disk = MemoryStorage::new();
    let leader = filled(&disk);
    let segment = leader.sealed_segments()[1];
    let state = leader.export(segment.base_offset).unwrap().imported_state().unwrap();
    let follower = start_from(&MemoryStorage::new(), &state).unwrap();
    while follower.log_end_offset() < leader.log_end_offset() {
        let fetched = leader.fetch(follower.log_end_offset(), 400, Isolation::LogEnd).unwrap();
        follower.append_as_follower(RawBatch(fetched.bytes().unwrap()), Durability::Durable).unwrap();
    }
    assert_knows_all_below(&follower, leader.log_end_offset());
    assert_eq!(follower.leader_epochs(), from(&leader.leader_epochs(), segment.end_offset));
}

#[test]
fn a_fetch_below_the_local_start_names_what_another_tier_has() {
    let disk = MemoryStorage::new();
    let log = filled(&disk);
    let segment = log.sealed_segments()[0];
    let state = log.export(segment.base_offset).unwrap().imported_state().unwrap();
    let began = start_from(&disk, &state).unwrap();
    match began.fetch(Offset(2), 100, Isolation::LogEnd) {
        Err(Error::OffsetOutOfRange { asked, log_start_offset, log_end_offset }) => {
            assert_eq!((asked, log_start_offset), (Offset(2), segment.end_offset));
            assert_eq!(log_end_offset, segment.end_offset);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_segment_with_an_open_transaction_is_no_candidate_and_its_state_keeps_the_transaction() {
    let disk = MemoryStorage::new();
    let log = Log::open_with(FROM, LogConfig { verify_transactions: false, ..config() }, environment(&disk))
        .unwrap()
        .0;
    log.append(batch(77, 0, true), Durability::Durable).unwrap();
    for sequence in 0..40 {
        append(&log, 1, sequence).unwrap();
    }
    assert_eq!(log.sealed_segments(), []);
    assert!(matches!(log.export(Offset(0)), Err(Error::Misuse(_))));
    let txn = log.open_transactions()[0];
    log.abort_transaction(&txn, oncelog::CoordinatorEpoch(0), Durability::Durable).unwrap();
    let segment = log.sealed_segments()[0];
    let state = log.export(segment.base_offset).unwrap().imported_state().unwrap();
    let began = start_from(&disk, &state).unwrap();
    let open = began.open_transactions();
    assert_eq!(
        open.iter().map(|txn| (txn.producer, txn.first_offset)).collect::<Vec<_>>(),
        [(ProducerId(77), Offset(0))]
    );
}

fn exported(disk: &MemoryStorage) -> (ImportedState, Offset) {
    let log = filled(disk);
    let segment = log.sealed_segments()[1];
    (log.export(segment.base_offset).unwrap().imported_state().unwrap(), segment.end_offset)
}

#[test]
fn a_crash_at_any_operation_of_an_import_leaves_the_whole_state_or_none_of_it() {
    let (state, end) = exported(&MemoryStorage::new());
    let disk = MemoryStorage::new();
    let images = Arc::new(Mutex::new(Vec::<(String, Vec<Image>)>::new()));
    let taken = Arc::clone(&images);
    disk.on_operation(move |operation, disk| {
        let mut all = vec![disk.power_cut(), disk.kill()];
        for kept in 0..3_usize {
            let mut nth = 0..;
            all.push(disk.power_cut_with(|_| nth.next().is_some_and(|nth: usize| nth % 3 == kept)));
        }
        taken.lock().unwrap().push((format!("{:?} {}", operation.kind, operation.name()), all));
    });
    drop(start_from(&disk, &state).unwrap());
    disk.forget_observer();
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 15, "{}", images.len());
    let (mut whole, mut none) = (0, 0);
    for (after, images) in &images {
        for (which, image) in images.iter().enumerate() {
            let at = format!("image {which} after {after}");
            let opened = MemoryStorage::from_image(image);
            match open(&opened, TO) {
                Ok(log) if log.log_end_offset() == end => {
                    whole += 1;
                    assert_knows_all_below(&log, end);
                }
                // Nothing of the import is there: the directory is a new one.
                Ok(log) => {
                    none += 1;
                    let found = (log.log_start_offset(), log.log_end_offset());
                    assert_eq!(found, (Offset(0), Offset(0)), "{at}");
                }
                Err(other) => panic!("{at}: {other}"),
            }
            let again = MemoryStorage::from_image(image);
            match start_from(&again, &state) {
                Ok(log) => assert_knows_all_below(&log, end),
                Err(Error::Misuse(_)) => assert_knows_all_below(&open(&again, TO).unwrap(), end),
                Err(other) => panic!("{at}: {other}"),
            }
        }
    }
    assert!(whole > 5 && none > 5, "{whole} whole, {none} new");
}

#[test]
fn a_damaged_state_is_refused_and_leaves_no_log() {
    let (state, _) = exported(&MemoryStorage::new());
    for at in (0..state.bytes.len()).step_by(11).chain([state.bytes.len() - 1]) {
        let mut bytes = state.bytes.to_vec();
        bytes[at] ^= 1;
        let damaged = ImportedState { bytes: Bytes::from(bytes), history: History::Complete };
        let disk = MemoryStorage::new();
        assert!(matches!(start_from(&disk, &damaged), Err(Error::Corrupt(_))), "byte {at}");
        let names = disk.list(Path::new(TO)).unwrap();
        assert!(names.iter().all(|entry| entry.name == "oncelog.lock"), "byte {at}: {names:?}");
    }
    for len in [0, 1, 4095, 4096, state.bytes.len() - 1] {
        let short = ImportedState { bytes: state.bytes.slice(..len), history: History::Complete };
        assert!(matches!(start_from(&MemoryStorage::new(), &short), Err(Error::Corrupt(_))), "{len} bytes");
    }
}

#[test]
fn a_state_is_imported_into_a_new_directory_only() {
    let disk = MemoryStorage::new();
    let (state, end) = exported(&disk);
    drop(open(&disk, TO).unwrap());
    assert!(matches!(start_from(&disk, &state), Err(Error::Misuse(_))));
    assert_eq!(open(&disk, TO).unwrap().log_end_offset(), Offset(0));
    // A run of a log in use is no exported state.
    let log = open(&disk, FROM).unwrap();
    log.close().unwrap();
    let name = disk.list(Path::new(FROM)).unwrap().into_iter().find(|entry| entry.name.ends_with(".run"));
    let file = disk.open(&Path::new(FROM).join(name.unwrap().name), OpenMode::Read).unwrap();
    let mut bytes = Vec::new();
    file.read_to(&mut bytes, usize::try_from(file.len().unwrap()).unwrap(), 0).unwrap();
    let run = ImportedState { bytes: bytes.into(), history: History::Complete };
    match start_from(&MemoryStorage::new(), &run) {
        Err(Error::Corrupt(told)) => assert_eq!(told.what, "range of the run"),
        other => panic!("{other:?} at {end}"),
    }
}

#[test]
fn what_was_lost_goes_along_with_the_state() {
    let (state, _) = exported(&MemoryStorage::new());
    let salvaged = ImportedState { history: History::Salvaged, ..state };
    let log = start_from(&MemoryStorage::new(), &salvaged).unwrap();
    let answer = append(&log, 500, 3);
    assert!(matches!(answer, Err(Error::Rejected(oncelog::Rejection::SequenceUnknown { .. }))), "{answer:?}");
}

#[test]
fn a_partition_of_a_root_begins_at_an_exported_state_and_is_there_after_a_power_cut() {
    let (state, end) = exported(&MemoryStorage::new());
    let disk = MemoryStorage::new();
    let open = |disk: &MemoryStorage| {
        let config = LogDirConfig { log: config(), open_threads: 1, ..LogDirConfig::default() };
        LogDir::open("/logs", config, environment(disk)).unwrap().0
    };
    let name = PartitionName::new("orders", 1).unwrap();
    let dir = open(&disk);
    let damaged = ImportedState { bytes: state.bytes.slice(1..), ..state.clone() };
    assert!(matches!(dir.create_from(&name, config(), None, &damaged), Err(Error::Corrupt(_))));
    let made = dir.create_from(&name, config(), None, &state).unwrap();
    assert_knows_all_below(&made.log().unwrap(), end);
    let cut = MemoryStorage::from_image(&disk.power_cut());
    assert_knows_all_below(&open(&cut).get(&name).unwrap().log().unwrap(), end);
    drop(made);
    dir.close().unwrap();
    assert_knows_all_below(&open(&disk).get(&name).unwrap().log().unwrap(), end);
}
