//! Records that are deleted, on purpose or by age and size: what goes, what stays, and that no producer goes with them.

use std::sync::{Arc, Mutex};

use oncelog::storage::{Image, MemoryStorage};
use oncelog::{BatchBuilder, Error, Isolation, LeaderEpoch, LogConfig, Offset, Outcome, Retention};

use crate::world::{NOW, World, of, plain, small};

const HOUR: u64 = 3_600_000;

/// Producers 1 to 4 with eight batches of two records each, in turns: 64 offsets in several segments.
fn filled(world: &World) {
    for round in 0..8 {
        for producer in 1..=4 {
            world.add(of(producer, 0, round * 2, 2));
        }
    }
}

/// Each of the last five batches of each producer is recognised, and the next one appends.
fn assert_windows(world: &World) {
    for producer in 1..=4_i64 {
        for round in 3..8_i32 {
            let expected = i64::from(round) * 8 + (producer - 1) * 2;
            assert_eq!(world.duplicate(of(producer, 0, round * 2, 2)), expected, "{producer} {round}");
        }
        let older = world.append(of(producer, 0, 2, 2)).unwrap();
        assert_eq!(older.outcome, Outcome::DuplicateBeyondWindow, "{producer}");
    }
}

fn delete(world: &World, before: i64) -> i64 {
    world.log().delete_records_before(Offset(before)).unwrap().0
}

/// Found by the engine's model: the search met the deleted batch again and again, and never ended.
#[test]
fn a_timestamp_that_only_deleted_records_had_is_not_found() {
    let mut world = World::new();
    let at = |timestamp| BatchBuilder::new().record_at(timestamp, None, Some(b"v")).build().unwrap();
    for timestamp in [NOW + 100, NOW, NOW + 1, NOW + 60] {
        world.add(at(timestamp));
    }
    delete(&world, 1);
    for _ in 0..2 {
        let found = |asked| world.log().offset_for_timestamp(asked, Isolation::LogEnd).unwrap();
        assert_eq!(found(NOW + 50), Some((Offset(3), NOW + 60)));
        assert_eq!(found(NOW + 61), None);
        world.reopen();
    }
}

#[test]
fn records_are_not_deleted_above_the_high_watermark() {
    let world = World::new();
    filled(&world);
    let error = world.log().delete_records_before(Offset(65)).unwrap_err();
    let Error::OffsetOutOfRange { asked, log_start_offset, log_end_offset } = &error else {
        panic!("{error}");
    };
    assert_eq!((asked.0, log_start_offset.0, log_end_offset.0), (65, 0, 64));
    assert_eq!(error.kafka_code(), 1);
    assert_eq!(world.log().log_start_offset(), Offset(0));
}

/// Found by the crash test: such a log was refused, as if its beginning were gone.
#[test]
fn a_log_that_starts_inside_of_its_first_segment_needs_no_checkpoint_to_be_opened() {
    let mut world = World::new();
    for round in 0..3 {
        world.add(of(1, 0, round * 2, 2));
    }
    assert_eq!((delete(&world, 3), world.segments().len()), (3, 1));
    world.crash();
    assert_eq!(world.log().log_start_offset(), Offset(3));
    for round in 0..3 {
        assert_eq!(world.duplicate(of(1, 0, round * 2, 2)), i64::from(round) * 2);
    }
}

/// Found by the crash test: after a roll the old segment lies below the log start, and the log was refused because its
/// checkpoint ended in there.
#[test]
fn after_all_records_were_deleted_a_roll_does_not_take_the_checkpoint_away() {
    let mut rolled_at_the_start = 0;
    for count in 1..30 {
        let mut world = World::new();
        for nth in 0..count {
            world.add(of(1, 0, nth * 2, 2));
            if nth == 0 {
                world.log().checkpoint().unwrap();
            }
        }
        let end = i64::from(count) * 2;
        assert_eq!(delete(&world, end), end);
        world.add(of(1, 0, count * 2, 2));
        rolled_at_the_start += usize::from(world.segments().last() == Some(&end));
        world.crash();
        assert_eq!(world.log().log_start_offset(), Offset(end));
        for nth in (0..=count).rev().take(5) {
            assert_eq!(world.duplicate(of(1, 0, nth * 2, 2)), i64::from(nth) * 2, "{count}");
        }
    }
    assert!(rolled_at_the_start > 0, "one of these lengths fills a segment");
}

#[test]
fn a_deletion_moves_the_log_start_and_takes_whole_segments_out() {
    let mut world = World::new();
    filled(&world);
    let before = world.segments();
    assert!(before.len() > 3, "{before:?}");
    let inside = before[2] + 1;
    assert_eq!(delete(&world, inside), inside);
    assert_eq!(world.segments(), before[2..]);
    let error = world.log().fetch(Offset(inside - 1), 1000, Isolation::LogEnd).unwrap_err();
    assert!(matches!(error, Error::OffsetOutOfRange { .. }), "{error}");
    assert_eq!(world.records(inside)[0].offset, Offset(inside));
    assert_eq!(delete(&world, inside - 1), inside, "the log start never goes back");
    world.crash();
    assert_eq!(world.log().log_start_offset(), Offset(inside));
    assert_eq!(world.segments(), before[2..]);
    assert_eq!(world.reopen().log_start_offset, Offset(inside));
    assert_windows(&world);
}

#[test]
fn no_producer_is_forgotten_when_all_its_records_are_deleted() {
    let mut world = World::new();
    filled(&world);
    assert_eq!(delete(&world, 64), 64);
    assert_eq!(world.records(64), Vec::new());
    assert_windows(&world);
    world.crash();
    assert_windows(&world);
    world.reopen();
    assert_windows(&world);
    assert_eq!(world.add(of(2, 0, 16, 1)), 64, "offsets go on");
}

#[test]
fn a_lost_run_after_a_deletion_costs_no_producer() {
    for lost in 0..3 {
        let mut world = World::new();
        filled(&world);
        delete(&world, 64);
        world.kill();
        let mut runs = world.names(".run");
        // The newest has the longest name and, among those, the greatest.
        runs.sort_by_key(|name| (name.len(), name.clone()));
        let Some(name) = runs.iter().rev().nth(lost) else { continue };
        world.remove(name);
        world.open().unwrap_or_else(|error| panic!("without {name}: {error}"));
        assert_windows(&world);
    }
}

#[test]
fn a_damaged_run_is_made_anew_after_a_deletion() {
    let mut world = World::new();
    filled(&world);
    delete(&world, 64);
    world.kill();
    let name = world.names(".run").remove(0);
    let mut bytes = world.read(&name);
    bytes[4096 + 1] ^= 0x40;
    world.write(&name, &bytes);
    world.open().unwrap();
    let answers: Vec<_> = (1..=4).map(|producer| world.append(of(producer, 0, 14, 2))).collect();
    assert!(
        answers.iter().all(|answer| matches!(answer, Err(Error::Unavailable { .. }) | Ok(_))),
        "never unknown: {answers:?}"
    );
    world.log().maintain().unwrap();
    assert_windows(&world);
}

#[test]
fn a_power_cut_after_any_operation_of_a_deletion_leaves_the_old_log_or_the_new_one() {
    let world = World::new();
    filled(&world);
    let images = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&images);
    world.memory.on_operation(move |operation, disk: &MemoryStorage| {
        let after = format!("{:?} {}", operation.kind, operation.name());
        taken.lock().unwrap().push((after.clone(), disk.power_cut()));
        taken.lock().unwrap().push((after, disk.kill()));
    });
    delete(&world, 41);
    world.memory.forget_observer();
    let images: Vec<(String, Image)> = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 20, "{}", images.len());
    let mut starts = Vec::new();
    for (after, image) in images {
        let mut world = World::closed(small());
        world.memory = MemoryStorage::from_image(&image);
        let report = world.open().unwrap_or_else(|error| panic!("after {after}: {error}"));
        assert!([0, 41].contains(&report.log_start_offset.0), "after {after}: {report}");
        assert_eq!(report.log_end_offset, Offset(64), "after {after}");
        starts.push(report.log_start_offset.0);
        let offsets: Vec<_> =
            world.records(report.log_start_offset.0).iter().map(|record| record.offset.0).collect();
        assert_eq!(offsets, (report.log_start_offset.0..64).collect::<Vec<_>>(), "after {after}");
        assert_windows(&world);
    }
    assert!(starts.contains(&0) && starts.contains(&41));
}

#[test]
fn what_was_fetched_stays_readable_after_its_segment_is_gone() {
    let world = World::with(LogConfig { delete_delay_ms: 0, ..small() });
    filled(&world);
    let fetched = world.log().fetch(Offset(0), 300, Isolation::LogEnd).unwrap();
    delete(&world, 64);
    assert_eq!(world.names(".deleted"), Vec::<String>::new());
    assert_eq!(fetched.records().unwrap()[0].offset, Offset(0));
}

#[test]
fn deleted_files_are_unlinked_later_and_at_the_latest_by_the_next_open() {
    let mut world = World::new();
    filled(&world);
    delete(&world, 64);
    let deleted = world.names(".deleted");
    assert!(deleted.contains(&"00000000000000000000.log.deleted".to_owned()), "{deleted:?}");
    world.advance(59_999);
    world.log().maintain().unwrap();
    assert_eq!(world.names(".deleted"), deleted);
    // Somebody else was faster with one of them.
    world.remove(&deleted[0]);
    world.advance(1);
    world.log().maintain().unwrap();
    assert_eq!(world.names(".deleted"), Vec::<String>::new());

    world.add(of(1, 0, 16, 1));
    world.write("00000000000000000000.log.deleted", b"left behind by a crash");
    world.crash();
    assert_eq!(world.names(".deleted"), Vec::<String>::new());
}

#[test]
fn segments_go_when_their_newest_record_is_too_old() {
    let retention = Retention { max_age_ms: Some(24 * HOUR), max_bytes: None };
    let mut world = World::with(LogConfig { retention, retention_check_ms: 1000, ..small() });
    filled(&world);
    world.advance(24 * HOUR);
    world.log().maintain().unwrap();
    assert_eq!(world.log().log_start_offset(), Offset(0));
    world.advance(1000);
    world.log().maintain().unwrap();
    assert_eq!(world.log().log_start_offset(), Offset(64), "everything is too old");
    assert_eq!(world.segments(), [64], "the log goes on in a new segment");
    assert_windows(&world);
    world.crash();
    assert_windows(&world);
    assert_eq!(world.add(of(1, 0, 16, 1)), 64);
}

#[test]
fn segments_go_while_the_rest_is_large_enough() {
    let retention = Retention { max_age_ms: None, max_bytes: Some(1500) };
    let world = World::with(LogConfig { retention, ..small() });
    filled(&world);
    let sizes = |world: &World| -> Vec<usize> {
        world.names(".log").iter().map(|name| world.read(name).len()).collect()
    };
    let before = sizes(&world);
    let gone = world.log().apply_retention().unwrap();
    let after = sizes(&world);
    assert_eq!(after, before[gone..]);
    assert!(gone > 0 && after.iter().sum::<usize>() >= 1500);
    assert!(after[1..].iter().sum::<usize>() < 1500, "one less would be too few");
    assert_eq!(world.log().apply_retention().unwrap(), 0, "a second look changes nothing");
}

#[test]
fn the_snapshots_of_deleted_segments_go_with_them() {
    let world = World::new();
    for sequence in 0..40 {
        world.add(of(1, 0, sequence, 1));
        world.log().maintain().unwrap();
    }
    let (segments, before) = (world.segments(), world.names(".snapshot"));
    assert!(before.len() > 2 && segments.len() > 3, "{before:?} {segments:?}");
    delete(&world, segments[2]);
    let gone = |name: &String| name.strip_suffix(".snapshot").unwrap().parse::<i64>().unwrap() < segments[2];
    let expected: Vec<_> = before.iter().filter(|name| !gone(name)).cloned().collect();
    assert_eq!(world.names(".snapshot"), expected);
    assert!(expected.len() < before.len() && !expected.is_empty());
}

#[test]
fn the_leader_epochs_of_deleted_records_go_with_them() {
    let world = World::new();
    for epoch in 1..5 {
        world.log().begin_leader_epoch(LeaderEpoch(epoch)).unwrap();
        for _ in 0..10 {
            world.add(plain(&["value"]));
        }
    }
    delete(&world, 25);
    let starts: Vec<_> =
        world.log().leader_epochs().pairs().into_iter().map(|(epoch, first)| (epoch.0, first.0)).collect();
    assert_eq!(starts, [(3, 25), (4, 30)]);
}

#[test]
fn a_log_without_limits_keeps_everything() {
    let world = World::new();
    filled(&world);
    world.advance(10_000 * HOUR);
    world.log().maintain().unwrap();
    assert_eq!((world.log().apply_retention().unwrap(), world.log().log_start_offset()), (0, Offset(0)));
    assert_eq!(world.wall_ms() - NOW, 10_000 * 3_600_000);
}

#[test]
fn a_log_without_producers_can_be_deleted_too() {
    let mut world = World::new();
    for value in 0..40 {
        world.add(plain(&[&format!("value {value}")]));
    }
    assert_eq!(delete(&world, 33), 33);
    world.crash();
    assert_eq!(world.log().log_start_offset(), Offset(33));
    assert_eq!(world.values(33)[0], "value 33");
}
