//! What a truncation leaves, and what it answers (UnifiedLogTest, LocalLogTest, ProducerStateManagerTest).

use oncelog::storage::{Fault, OperationKind, Storage};
use oncelog::{Durability, Error, Isolation, LogConfig, Outcome, ProducerId, RawBatch, Rejection};

use crate::world::{World, batches, epoch, of, offset, path, small};

/// Twenty batches of two records by two producers, in three segments or more; producer 1 has the even ones.
fn twenty() -> World {
    let world = World::with(LogConfig { segment_bytes: 700, ..small() });
    fill(&world, 0..20);
    world
}

fn batch(number: i32) -> bytes::Bytes {
    of(1 + i64::from(number % 2), number / 2 * 2, 2)
}

fn fill(world: &World, numbers: std::ops::Range<i32>) {
    for number in numbers {
        assert_eq!(world.add(batch(number)), i64::from(number) * 2);
        world.log().maintain().unwrap();
    }
}

/// Base offset of the batch that a retry is recognised as.
fn duplicate(world: &World, number: i32) -> i64 {
    let answer = world.append(batch(number)).unwrap();
    assert_eq!(answer.outcome, Outcome::Duplicate, "batch {number}");
    answer.base_offset.unwrap().0
}

/// The log holds batches 0 to `count` and answers for both producers as if there had never been more.
fn holds(world: &World, count: i32) {
    assert_eq!(world.end(), i64::from(count) * 2);
    assert_eq!(batches(world.log()).len(), usize::try_from(count).unwrap());
    for number in (0..count).rev().take(10) {
        assert_eq!(duplicate(world, number), i64::from(number) * 2);
    }
    if count + 2 < 20 {
        let gap = world.append(batch(count + 2)).unwrap_err();
        let known = count + 2 >= 4;
        match gap {
            Error::Rejected(Rejection::OutOfOrder { .. }) if known => {}
            Error::Rejected(Rejection::UnknownProducer { .. }) if !known => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Kafka: `UnifiedLogTest.testTruncateTo`, `LocalLogTest.testTruncateTo`.
#[test]
fn a_cut_takes_the_offset_and_all_behind_it_whatever_segment_it_lies_in() {
    for count in (0..20).rev() {
        let mut world = twenty();
        assert!(world.segments().len() >= 3, "{:?}", world.segments());
        let cut = i64::from(count) * 2;
        assert_eq!(world.log().truncate_to(offset(cut)).unwrap(), offset(cut));
        assert!(world.segments().iter().all(|base| *base <= cut), "{:?}", world.segments());
        holds(&world, count);
        fill(&world, count..20);
        holds(&world, 20);
        world.reopen();
        holds(&world, 20);
    }
}

#[test]
fn a_cut_inside_a_batch_takes_the_whole_batch() {
    let world = twenty();
    assert_eq!(world.log().truncate_to(offset(21)).unwrap(), offset(20));
    holds(&world, 10);
}

/// Kafka: `UnifiedLogTest.testTruncateToEndOffsetClearsEpochCache`.
#[test]
fn a_cut_at_the_log_end_takes_only_an_epoch_that_has_no_batch() {
    let world = twenty();
    world.log().begin_leader_epoch(epoch(4)).unwrap();
    assert_eq!(world.epochs(), [(0, 0), (4, 40)]);
    assert_eq!(world.log().truncate_to(offset(40)).unwrap(), offset(40));
    assert_eq!(world.epochs(), [(0, 0)]);
    holds(&world, 20);
}

#[test]
fn a_cut_outside_of_the_log_is_refused_and_changes_nothing() {
    let world = twenty();
    for asked in [-1, 41] {
        let refused = world.log().truncate_to(offset(asked)).unwrap_err();
        assert!(
            matches!(&refused, Error::OffsetOutOfRange { asked: at, log_end_offset, .. }
                if (at.0, log_end_offset.0) == (asked, 40)),
            "{refused:?}"
        );
        assert_eq!(refused.kafka_code(), 1);
    }
    holds(&world, 20);
}

/// Kafka: `UnifiedLogTest.shouldTruncateLeaderEpochCheckpointFileWhenTruncatingLog`.
#[test]
fn epochs_that_begin_above_the_cut_go_from_memory_and_file() {
    let world = World::new();
    for (number, begun) in [(0, 1), (1, 2), (2, 5)] {
        world.log().begin_leader_epoch(epoch(begun)).unwrap();
        world.add(batch(number));
    }
    world.log().checkpoint().unwrap();
    assert_eq!(world.text("leader-epoch-checkpoint"), "0\n3\n1 0\n2 2\n5 4\n");
    world.log().truncate_to(offset(4)).unwrap();
    assert_eq!(world.epochs(), [(1, 0), (2, 2)]);
    assert_eq!(world.text("leader-epoch-checkpoint"), "0\n2\n1 0\n2 2\n");
}

/// Kafka: `ProducerStateManagerTest.testTruncateAndReloadRemovesOutOfRangeSnapshots`,
/// `UnifiedLogTest.testProducerIdMapTruncateTo`.
#[test]
fn snapshots_and_runs_above_the_cut_are_deleted() {
    let world = twenty();
    world.log().checkpoint().unwrap();
    assert!(!world.names(".snapshot").is_empty());
    let cut = world.segments()[1];
    world.log().truncate_to(offset(cut)).unwrap();
    for name in world.names(".snapshot") {
        let end: i64 = name.strip_suffix(".snapshot").unwrap().parse().unwrap();
        assert!(end <= cut, "{name}");
    }
    holds(&world, i32::try_from(cut).unwrap() / 2);
}

/// Kafka: `UnifiedLogTest.testProducerIdMapTruncateToWithNoSnapshots`.
#[test]
fn a_log_from_offset_0_on_is_cut_below_all_its_checkpoints() {
    let mut world = twenty();
    for _ in 0..2 {
        world.log().checkpoint().unwrap();
        world.reopen();
    }
    world.log().truncate_to(offset(6)).unwrap();
    holds(&world, 3);
}

#[test]
fn a_cut_that_no_state_is_kept_below_is_refused_with_what_is_left_to_do() {
    let mut world = World::new();
    world.log().truncate_fully_and_start_at(offset(100)).unwrap();
    for number in 0..3 {
        world.add(batch(number));
        world.log().checkpoint().unwrap();
    }
    let refused = world.log().truncate_to(offset(102)).unwrap_err();
    assert!(
        matches!(&refused, Error::TruncationTooLow { asked, lowest } if (asked.0, lowest.0) == (102, 104)),
        "{refused:?}"
    );
    assert_eq!(refused.kafka_code(), 1);
    assert!(refused.to_string().contains("truncate_fully_and_start_at"), "{refused}");
    assert_eq!(world.end(), 106);
    assert_eq!(duplicate(&world, 2), 104);
    assert_eq!(
        world.log().truncate_to(offset(104)).unwrap(),
        offset(104),
        "the base that the last one came from"
    );
    world.reopen();
    assert_eq!(world.end(), 104);
    assert_eq!(duplicate(&world, 1), 102);
}

/// Found by the crash test: a base that ends below the first segment was taken for state to go on from, and the refusal
/// came as damage of the manifest.
#[test]
fn a_cut_below_which_only_runs_of_deleted_segments_end_is_refused_as_too_low() {
    let mut world = World::with(LogConfig { whole_base_producers: 0, ..small() });
    world.add(batch(0));
    world.log().checkpoint().unwrap();
    for number in 1..20 {
        world.add(batch(number));
    }
    world.log().checkpoint().unwrap();
    // Behind the roll before it, at which a checkpoint may end.
    let kept = world.segments()[2];
    world.log().delete_records_before(offset(kept)).unwrap();
    let newest = world.names(".run").pop().unwrap();
    world.kill();
    world.disk.unlink(&path(&newest)).unwrap();
    assert!(world.open().unwrap().chain.unwrap().previous);
    assert_eq!(world.log().log_start_offset(), offset(kept));
    let refused = world.log().truncate_to(offset(kept + 2)).unwrap_err();
    assert!(
        matches!(&refused, Error::TruncationTooLow { asked, lowest } if (asked.0, lowest.0) == (kept + 2, 40)),
        "{refused:?}"
    );
    assert_eq!(world.end(), 40);
    assert_eq!(world.log().truncate_to(offset(40)).unwrap(), offset(40));
}

/// Kafka: `UnifiedLogTest.testTruncateFullyAndStart`, `testProducerIdMapTruncateFullyAndStartAt`,
/// `ProducerStateManagerTest.testTruncateFullyAndStartAt`, `LocalLogTest.testTruncateFullyAndStartAt`.
#[test]
fn a_log_that_starts_fully_anew_is_empty_and_knows_no_producer_and_no_epoch() {
    for start in [0, 7, 20, 40, 1_000] {
        let mut world = twenty();
        world.log().checkpoint().unwrap();
        assert_eq!(world.log().truncate_fully_and_start_at(offset(start)).unwrap(), offset(start));
        for opened in 0..3 {
            match opened {
                1 => {
                    world.kill();
                    world.open().unwrap();
                }
                2 => drop(world.reopen()),
                _ => {}
            }
            assert_eq!((world.log().log_start_offset().0, world.end()), (start, start));
            assert_eq!(world.segments(), [start]);
            assert_eq!(world.log().producer(ProducerId(1)).unwrap(), None);
            assert_eq!(world.epochs(), []);
            assert_eq!(world.text("leader-epoch-checkpoint"), "0\n0\n");
            assert!(world.names(".snapshot").iter().all(|name| name.starts_with(&format!("{start:020}"))));
        }
        assert!(matches!(world.append(batch(18)), Err(Error::Rejected(Rejection::UnknownProducer { .. }))));
        assert_eq!(world.add(batch(0)), start);
        world.kill();
        world.open().unwrap();
        assert_eq!(duplicate(&world, 0), start);
    }
}

#[test]
fn a_log_cannot_start_below_0() {
    let world = twenty();
    assert!(matches!(world.log().truncate_fully_and_start_at(offset(-1)), Err(Error::Misuse(_))));
    holds(&world, 20);
}

#[test]
fn a_fetch_from_before_the_cut_is_void_wherever_it_points() {
    let world = twenty();
    let low = world.log().fetch(offset(0), 1, Isolation::LogEnd).unwrap();
    let high = world.log().fetch(offset(38), 1, Isolation::LogEnd).unwrap();
    assert!(low.check_not_truncated().is_ok());
    world.log().truncate_to(offset(30)).unwrap();
    fill(&world, 15..20);
    for fetched in [low, high] {
        assert!(matches!(fetched.check_not_truncated(), Err(Error::Truncated)));
        assert!(matches!(fetched.bytes(), Err(Error::Truncated)));
        let mut buffer = b"before".to_vec();
        assert!(matches!(fetched.read_into(&mut buffer), Err(Error::Truncated)));
        assert_eq!(buffer, b"before");
    }
    assert_eq!(batches(world.log()).len(), 20);
}

#[test]
fn who_waits_for_what_is_cut_is_told_that_its_fate_is_unknown_and_who_waits_below_is_served() {
    let world = World::new();
    let submit = |number| world.log().submit(RawBatch(batch(number)), Durability::Durable).unwrap();
    let (kept, cut) = (submit(0), submit(1));
    assert_eq!(world.end(), 4, "both are written, neither is durable");
    world.log().truncate_to(offset(2)).unwrap();
    assert_eq!(kept.wait().unwrap().base_offset, Some(offset(0)));
    assert!(
        matches!(cut.wait(), Err(Error::Indeterminate { why }) if why == "the log was truncated to offset 2")
    );
    assert_eq!(world.log().high_watermark(), offset(2));
}

#[test]
fn a_full_disk_stops_a_truncation_before_it_begins() {
    let world = twenty();
    let full =
        Fault::on(OperationKind::Write).named("oncelog.manifest").with(std::io::ErrorKind::StorageFull);
    world.disk.fail(full);
    let refused = world.log().truncate_to(offset(10)).unwrap_err();
    assert!(matches!(refused, Error::Io { .. }), "{refused:?}");
    assert_eq!(world.disk.faults_struck(), 1);
    world.disk.clear_faults();
    holds(&world, 20);
    world.log().truncate_to(offset(10)).unwrap();
    holds(&world, 5);
}

#[test]
fn a_truncation_that_fails_half_way_leaves_a_log_that_only_an_open_can_finish() {
    for (kind, part) in [
        (OperationKind::SetLen, ".log"),
        (OperationKind::Unlink, ".log"),
        (OperationKind::SyncAll, ".log"),
        (OperationKind::Rename, "oncelog.manifest"),
    ] {
        let mut world = twenty();
        let earlier = world.log().fetch(offset(0), 1, Isolation::LogEnd).unwrap();
        world.disk.fail(Fault::on(kind).named(part));
        let failed = world.log().truncate_to(offset(10)).unwrap_err();
        assert!(matches!(failed, Error::Io { .. }), "{kind:?}: {failed:?}");
        assert_eq!(world.disk.faults_struck(), 1, "{kind:?}");
        world.disk.clear_faults();
        assert!(matches!(world.append(batch(0)), Err(Error::Unavailable { .. })), "{kind:?}");
        assert!(matches!(world.log().truncate_to(offset(10)), Err(Error::Unavailable { .. })));
        assert!(matches!(world.log().fetch(offset(0), 1, Isolation::LogEnd), Err(Error::Unavailable { .. })));
        assert!(matches!(earlier.bytes(), Err(Error::Truncated)));
        assert!(world.log().flush().is_err(), "{kind:?}");
        world.kill();
        world.open().unwrap();
        // A rename that failed may stand or not: either log is whole.
        let count = if world.end() == 40 { 20 } else { 5 };
        assert_eq!(count == 20, kind == OperationKind::Rename, "{kind:?}");
        holds(&world, count);
    }
}

/// Kafka: `UnifiedLogTest.testIndexResizingAtTruncation`, `LogSegmentTest.testTruncate`.
#[test]
fn index_files_hold_nothing_from_above_the_cut_once_the_log_is_closed() {
    for cut in [24, 30, 34] {
        let mut world = twenty();
        world.log().checkpoint().unwrap();
        world.log().truncate_to(offset(cut)).unwrap();
        world.close();
        let disk = world.disk.kill();
        let read = |base: i64, suffix: &str| disk.read(&path(&format!("{base:020}.{suffix}"))).unwrap();
        for base in world.segments() {
            let end = read(base, "log").len();
            for entry in read(base, "index").chunks(8) {
                let [relative, position] =
                    [0, 4].map(|at| i64::from(i32::from_be_bytes(entry[at..at + 4].try_into().unwrap())));
                assert!(base + relative < cut, "cut at {cut}: offset {relative} behind {base}");
                assert!(usize::try_from(position).unwrap() < end, "cut at {cut}: byte {position} of {end}");
            }
            for entry in read(base, "timeindex").chunks(12) {
                let relative = i64::from(i32::from_be_bytes(entry[8..12].try_into().unwrap()));
                assert!(base + relative < cut, "cut at {cut}: offset {relative} behind {base}");
            }
        }
    }
}

/// Promise 11: after a truncation Kafka finds a directory that it understands.
#[test]
fn a_log_that_was_cut_and_closed_is_adopted_as_kafkas() {
    let mut world = twenty();
    world.log().checkpoint().unwrap();
    world.log().truncate_to(offset(24)).unwrap();
    world.close();
    for name in world.names("") {
        if name.contains("oncelog") || name.starts_with("producers") {
            world.disk.unlink(&path(&name)).unwrap();
        }
    }
    assert!(world.names(".snapshot").contains(&format!("{:020}.snapshot", 24)));
    let report = world.open().unwrap();
    assert_eq!(report.rejected, []);
    assert_eq!(report.snapshot, Some(format!("{:020}.snapshot", 24)));
    holds(&world, 12);
}
