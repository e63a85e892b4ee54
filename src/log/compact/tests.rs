use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::When;
use crate::compaction::Cleanup;
use crate::error::Error;
use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::log::{Background, Environment, Log, LogConfig};
use crate::segment::sealed::SealedSegment;
use crate::storage::{ManualClock, MemoryStorage, Operation, OperationKind};
use crate::types::{Durability, Offset};

/// A log of several segments with one key, opened again: no segment is open.
fn opened_again() -> (MemoryStorage, Log) {
    let disk = MemoryStorage::new();
    let open = || {
        let config = LogConfig {
            background: Background::Caller,
            segment_bytes: 300,
            preallocate_bytes: 0,
            cleanup: Cleanup::Compact,
            ..LogConfig::default()
        };
        let environment = Environment {
            storage: Arc::new(disk.clone()),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            ..Environment::default()
        };
        Log::open_with(Path::new("/data/t-0"), config, environment).unwrap().0
    };
    let log = open();
    for _ in 0..20 {
        let batch = BatchBuilder::new().record_at(1, Some(b"key"), Some(&[7; 40])).build().unwrap();
        log.append(RawBatch(batch), Durability::Durable).unwrap();
    }
    log.close().unwrap();
    (disk.clone(), open())
}

fn begins_segment(operation: &Operation) -> bool {
    operation.kind == OperationKind::Create && operation.name().ends_with(".log.cleaned")
}

fn batches(segment: &SealedSegment) -> i64 {
    let mut count = 0;
    let scan = segment.scan(|_, _, _| {
        count += 1;
        std::ops::ControlFlow::Continue(())
    });
    assert!(scan.is_ok(), "{scan:?}");
    count
}

/// Lets segments go at the first operation of a round that is `at`, and answers whether all segments that stood then are
/// read as they were.
fn assert_read_as_they_were_if_released(at: fn(&Operation) -> bool) {
    let (disk, log) = opened_again();
    let log = Arc::new(log);
    let seen = Arc::new(Mutex::new(None));
    let (keep, released) = (Arc::clone(&seen), Arc::clone(&log));
    disk.on_operation(move |operation, _| {
        if at(operation) && keep.lock().unwrap().is_none() {
            released.release_sealed();
            *keep.lock().unwrap() = Some(released.shared.view.read().clone());
        }
    });
    let done = log.compact().unwrap().unwrap();
    disk.forget_observer();
    assert!(done.removed.records > 5, "{done:?}");
    let view = seen.lock().unwrap().take().unwrap();
    for segment in view.sealed().iter().take(done.segments_before) {
        let stood = segment.next_offset().distance_from(segment.base());
        assert_eq!(batches(segment), stood, "{}", segment.base());
    }
}

/// A root that runs short of descriptors closes segments while a round reads them: a name means the new file later.
#[test]
fn a_reader_of_a_segment_that_was_released_in_a_round_reads_the_old_file() {
    assert_read_as_they_were_if_released(begins_segment);
}

#[test]
fn a_segment_whose_name_is_being_given_to_another_stays_open() {
    assert_read_as_they_were_if_released(|operation| {
        let to = operation.to.as_ref().map(|to| to.to_string_lossy());
        operation.kind == OperationKind::Rename && to.is_some_and(|to| to.ends_with(".log.swap"))
    });
}

/// Else a log whose oldest segment goes every few minutes would never be compacted to its end.
#[test]
fn a_round_goes_on_if_its_oldest_segments_are_deleted_before_they_are_written_anew() {
    let (_, log) = opened_again();
    let round = log.shared.begin_round(When::Now).unwrap().unwrap();
    let survey = log.shared.survey(&round).unwrap();
    log.delete_records_before(Offset(5)).unwrap();
    log.maintain().unwrap();
    let to = survey.end();
    let done = log.shared.rewrite(&round, &survey.into_map(), to).unwrap();
    assert_eq!((done.segments_before, round.segments.len()), (7, 9));
    assert_eq!((done.to, done.removed.records), (Offset(18), 13));
}

/// Its directory may be another log's as soon as it is let go of, and files under `.cleaned` names that log's.
#[test]
fn a_log_is_not_let_go_of_while_a_round_is_at_work() {
    let (disk, log) = opened_again();
    let (come, arrived) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let held = Mutex::new(Some((come, gone)));
    let let_go = Arc::new(AtomicBool::new(false));
    let early = Arc::clone(&let_go);
    disk.on_operation(move |operation, _| {
        if let Some((come, gone)) = begins_segment(operation).then(|| held.lock().unwrap().take()).flatten() {
            come.send(()).unwrap();
            // Nobody says so as long as it waits.
            let said = gone.recv_timeout(Duration::from_millis(200));
            early.store(said.is_ok(), Ordering::SeqCst);
        }
    });
    thread::scope(|scope| {
        let round = scope.spawn(|| log.compact());
        arrived.recv_timeout(Duration::from_secs(20)).unwrap();
        log.close_in_place().unwrap();
        let _round_is_over = go.send(());
        let answer = round.join().unwrap();
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    });
    disk.forget_observer();
    assert!(!let_go.load(Ordering::SeqCst), "it was let go of, and the round was at work");
}

#[test]
fn a_round_is_given_up_if_a_segment_is_deleted_that_it_has_not_read_yet() {
    let (_, log) = opened_again();
    let round = log.shared.begin_round(When::Now).unwrap().unwrap();
    log.delete_records_before(Offset(5)).unwrap();
    let answer = log.shared.survey(&round).map(|survey| survey.end());
    let given_up =
        matches!(&answer, Err(Error::Unavailable { why }) if why.contains("segments were deleted"));
    assert!(given_up, "{answer:?}");
}
