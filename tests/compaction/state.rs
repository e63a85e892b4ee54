//! Producer state and recovery of a log that was compacted.

use std::path::Path;

use oncelog::storage::Storage;
use oncelog::{Durability, Error, HighWatermark, Isolation, LogConfig, Offset, Outcome, RawBatch, Rejection};

use crate::world::{DIR, End, World, of, small};

/// Producers 1 to 3 write one key each, again and again: most of their batches go.
fn filled(world: &World) {
    for round in 0..9 {
        for producer in 1..=3 {
            world.add(of(producer, round, &format!("key-{producer}"), &round.to_string()));
        }
    }
    world.fill("end");
}

fn assert_windows(world: &World) {
    for producer in 1..=3_i64 {
        for round in 4..9_i32 {
            let answer = world.append(of(producer, round, &format!("key-{producer}"), &round.to_string()));
            let answer = answer.unwrap();
            assert_eq!(answer.outcome, Outcome::Duplicate, "{producer} {round}");
            assert_eq!(answer.base_offset, Some(Offset(i64::from(round) * 3 + producer - 1)));
        }
        let older = world.append(of(producer, 2, &format!("key-{producer}"), "2")).unwrap();
        assert_eq!(older.outcome, Outcome::DuplicateBeyondWindow, "{producer}");
    }
}

/// Kafka keeps one batch of each: `LogCleanerTest.testDuplicateCheckAfterCleaning`.
#[test]
fn every_producers_whole_window_outlives_its_records_after_every_end() {
    for end in [End::Close, End::Kill, End::PowerCut] {
        let mut world = World::new();
        filled(&world);
        assert!(world.compact().removed.records > 15);
        assert_windows(&world);
        world.restart(end);
        assert_windows(&world);
        world.fill("more");
        world.compact();
        world.restart(end);
        assert_windows(&world);
    }
}

#[test]
fn it_does_so_even_if_the_newest_run_is_lost() {
    let mut world = World::new();
    filled(&world);
    world.compact();
    world.close();
    let newest = world.names(".run").pop().unwrap();
    world.memory.unlink(&Path::new(DIR).join(newest)).unwrap();
    let report = world.open().unwrap();
    assert!(!report.rejected.is_empty());
    assert_windows(&world);
}

/// Kafka: `LogCleanerTest.testBasicTransactionAwareCleaning`, the rule of the active producers.
#[test]
fn the_last_batch_of_each_producer_keeps_its_header() {
    let world = World::new();
    let last = world.add(of(1, 0, "a", "1"));
    world.put("a", "2");
    world.fill("one");
    world.compact();
    let header = world.batch_at(last).unwrap();
    assert_eq!((header.record_count, header.producer_id, header.base_sequence), (0, 1, 0));
    assert_eq!((header.base_timestamp, header.size()), (-1, 61));
    // It goes when the producer has written again.
    world.add(of(1, 1, "b", "1"));
    world.fill("two");
    world.compact();
    assert_eq!(world.batch_at(last), None);
}

/// Found by the crash test: what a producer had written since, only buffered, made its batch before that look like an old
/// one. A power cut took the former, and compaction had taken the latter.
#[test]
fn the_last_durable_batch_of_a_producer_stays_although_it_has_written_since() {
    let mut world = World::new();
    let last = world.add(of(1, 0, "key", "old"));
    world.put("key", "new");
    world.fill("end");
    // Two chains of runs reach far enough already: the round has none to make, which would make all durable.
    for chain in ["one", "other"] {
        world.put(chain, "");
        world.log().checkpoint().unwrap();
    }
    world.log().append(RawBatch(of(1, 1, "other", "late")), Durability::Buffered).unwrap();
    world.compact();
    world.restart(End::PowerCut);
    assert_eq!(world.batch_at(last).map(|header| (header.producer_id, header.base_sequence)), Some((1, 0)));
    assert_eq!(world.append(of(1, 0, "key", "old")).unwrap().outcome, Outcome::Duplicate);
    assert_eq!(world.append(of(1, 1, "other", "late")).unwrap().outcome, Outcome::Appended);
}

#[test]
fn a_log_without_any_run_is_refused_because_its_batches_no_longer_tell_all() {
    let mut world = World::new();
    filled(&world);
    world.compact();
    world.close();
    for run in world.names(".run") {
        world.memory.unlink(&Path::new(DIR).join(run)).unwrap();
    }
    let Err(Error::Corrupt(corruption)) = world.open() else { panic!("it was opened") };
    let reason = "the whole log: compaction has gone through it up to offset";
    assert!(corruption.found.contains(reason), "{}", corruption.found);
}

/// What is left is Kafka's: the last batch of each producer. All else is stored for all anybody knows.
#[test]
fn what_is_salvaged_without_any_run_calls_no_stored_batch_a_gap() {
    let mut world = World::new();
    filled(&world);
    world.compact();
    world.close();
    for run in world.names(".run") {
        world.memory.unlink(&Path::new(DIR).join(run)).unwrap();
    }
    world.salvage().unwrap();
    for producer in 1..=3_i64 {
        let retry =
            |round: i32| world.append(of(producer, round, &format!("key-{producer}"), &round.to_string()));
        let last = retry(8).unwrap();
        assert_eq!(
            (last.outcome, last.base_offset),
            (Outcome::Duplicate, Some(Offset(24 + producer - 1))),
            "{producer}"
        );
        for round in 0..8 {
            let answer = retry(round);
            assert!(
                matches!(answer, Err(Error::Rejected(Rejection::SequenceUnknown { .. }))),
                "{producer} {round}: {answer:?}"
            );
        }
        assert_eq!(retry(9).unwrap().outcome, Outcome::Appended);
    }
    assert!(matches!(
        world.append(of(77, 3, "k", "v")),
        Err(Error::Rejected(Rejection::SequenceUnknown { .. }))
    ));
}

#[test]
fn rot_stops_a_round_before_anything_is_written_anew() {
    // In the records, and in the base offset of the second batch, which no CRC covers.
    for (at, rule) in [(68, "CRC"), (70, "base offset")] {
        let mut world = World::new();
        for n in 0..10 {
            world.put("a", &n.to_string());
        }
        world.fill("end");
        let path = Path::new(DIR).join(world.names(".log").remove(0));
        let file = world.memory.open(&path, oncelog::storage::OpenMode::Write).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let before = world.names(".log");
        let answer = world.log().compact();
        let Err(Error::Corrupt(corruption)) = answer else { panic!("it was laundered: {answer:?}") };
        assert_eq!((corruption.path.as_path(), corruption.what.as_str()), (path.as_path(), rule));
        assert_eq!(world.names(".log"), before);
        assert_eq!(world.names(".cleaned"), Vec::<String>::new());
        world.restart(End::Kill);
    }
}

#[test]
fn a_reader_with_an_old_range_goes_on() {
    let world = World::new();
    for n in 0..10 {
        world.put("a", &n.to_string());
    }
    world.fill("end");
    let fetched = world.log().fetch(Offset(0), 1000, Isolation::HighWatermark).unwrap();
    world.compact();
    world.log().maintain().unwrap();
    let offsets: Vec<_> = fetched.records().unwrap().iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets[..3], [0, 1, 2]);
}

#[test]
fn a_truncation_below_what_was_compacted_is_refused_and_one_above_is_not() {
    let world = World::with(LogConfig { segment_bytes: 300, ..small() });
    filled(&world);
    let end = world.log().log_end_offset();
    let done = world.compact();
    let before = world.table();
    let refused = world.log().truncate_to(Offset(done.to.0 - 3));
    assert!(matches!(refused, Err(Error::TruncationTooLow { .. })), "{refused:?}");
    assert_eq!(world.log().log_end_offset(), end);
    assert_eq!(world.table(), before);
    world.put("more", "1");
    assert_eq!(world.log().truncate_to(end).unwrap(), end);
    assert_eq!(world.table(), before);
    assert_windows(&world);
}

/// A run counts only if the batch that ends where it does is at its place. Here both chains end where a segment does.
#[test]
fn the_segment_with_the_batch_that_binds_a_run_is_left_alone() {
    let mut world = World::with(LogConfig { high_watermark: HighWatermark::External, ..small() });
    let mut segments = 0;
    let mut sequence = 0;
    while segments < 5 {
        let end = world.log().log_end_offset();
        world.log().set_high_watermark(end).unwrap();
        world.log().checkpoint().unwrap();
        world.add(of(1, sequence, "a", &sequence.to_string()));
        segments = world.names(".log").len();
        sequence += 1;
    }
    let boundary = world.log().high_watermark();
    assert_eq!(boundary, Offset(i64::from(sequence) - 1));
    let done = world.compact();
    assert!(done.to > Offset(0) && done.to < boundary, "{done:?}");
    let report = world.restart(End::Kill);
    assert_eq!(report.rejected, []);
    for n in sequence - 5..sequence {
        let answer = world.append(of(1, n, "a", &n.to_string())).unwrap();
        assert_eq!((answer.outcome, answer.base_offset), (Outcome::Duplicate, Some(Offset(n.into()))));
    }
}
