//! What a round takes out and what it leaves.

use oncelog::{Durability, EndTxn, Error, Isolation, LogConfig, Offset, RawBatch};

use crate::world::{End, RETENTION, World, of, puts, small, txn};

fn offsets(world: &World, key: &str) -> Vec<i64> {
    world.of_key(key).into_iter().map(|(offset, _)| offset).collect()
}

/// Kafka: `LogCleanerTest.testCleanSegmentsRetainingLastEmptyBatch`, `AbstractLogCleanerIntegrationTest`.
#[test]
fn of_the_records_with_one_key_the_newest_stays_at_its_offset() {
    let mut world = World::new();
    for round in 0..10 {
        for key in ["a", "b", "c"] {
            world.put(key, &format!("{key}{round}"));
        }
    }
    let last = world.put("b", "newest");
    world.fill("end");
    let (before, end) = (world.table(), world.log().log_end_offset());
    let done = world.compact();
    assert_eq!((done.from, done.removed.records), (Offset(0), 28), "{done:?}");
    assert!(
        done.bytes_after < done.bytes_before / 3 && done.segments_after <= done.segments_before,
        "{done:?}"
    );
    for end_of_life in [End::Close, End::Kill, End::PowerCut] {
        assert_eq!(world.table(), before);
        assert_eq!(world.log().log_end_offset(), end);
        assert_eq!(offsets(&world, "a"), [27]);
        assert_eq!(offsets(&world, "b"), [last]);
        world.restart(end_of_life);
    }
    for unfinished in [".cleaned", ".swap", ".deleted"] {
        assert_eq!(world.names(unfinished), Vec::<String>::new());
    }
}

/// Found by the engine's model: the map had room for the records behind the log start, and the keys of the deleted ones
/// in the same batch filled it.
#[test]
fn a_log_that_starts_inside_of_a_batch_is_compacted_from_there_on() {
    let world = World::with(LogConfig { segment_bytes: 520, ..small() });
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
    world.add(puts(&keys.map(|key| (key, Some("a value of some length, so that it fills")))));
    world.put("a", "in the next segment");
    world.log().delete_records_before(Offset(7)).unwrap();
    let before = world.table();
    let done = world.compact();
    assert_eq!((done.from, done.to), (Offset(7), Offset(8)));
    assert_eq!(world.table(), before);
}

/// A follower's segment may end in a gap: what stands before the gap is all there is.
#[test]
fn a_segment_that_ends_in_a_gap_is_done_once_its_batches_are() {
    let mut world = World::with(LogConfig { segment_bytes: 200, ..small() });
    for base in [0_i64, 1, 2, 50, 51, 90, 91, 200] {
        let mut bytes =
            bytes::BytesMut::from(&puts(&[("a", Some("a value of some length, so that it fills"))])[..]);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
        world.log().append_as_follower(RawBatch(bytes.freeze()), Durability::Durable).unwrap();
    }
    // An open takes the beginning of the next segment for the end of this one.
    world.restart(End::Close);
    let mut rounds = 0;
    while world.log().compact().unwrap().is_some() {
        rounds += 1;
        assert!(rounds < 4, "it comes to an end");
    }
    assert!(rounds > 0);
    assert_eq!(world.log().compact().unwrap(), None);
    assert_eq!(world.of_key("a").last().unwrap().0, 200);
}

#[test]
fn a_second_round_has_nothing_to_do_until_more_is_written() {
    let mut world = World::new();
    for n in 0..10 {
        world.put("a", &n.to_string());
    }
    world.fill("one");
    let first = world.compact();
    assert_eq!(world.log().compact().unwrap(), None);
    world.restart(End::Close);
    assert_eq!(world.log().compact().unwrap(), None, "how far it came is known after an open");
    let newest = world.put("a", "newest");
    world.fill("two");
    let second = world.compact();
    assert_eq!(second.from, first.to);
    assert_eq!(offsets(&world, "a"), [newest]);
}

/// Kafka: `LogCleanerTest.testCleaningWithDeletes`, `testPartialSegmentClean`.
#[test]
fn a_tombstone_stays_until_its_horizon_has_passed() {
    let mut world = World::new();
    world.put("gone", "value");
    let tombstone = world.remove("gone");
    world.fill("one");
    world.compact();
    assert_eq!(world.of_key("gone"), [(tombstone, None)], "what it removes is removed, itself is not");
    world.restart(End::Kill);
    world.advance(RETENTION - 1);
    world.fill("two");
    world.compact();
    assert_eq!(world.of_key("gone"), [(tombstone, None)]);
    world.advance(1);
    world.fill("three");
    world.compact();
    assert_eq!(world.of_key("gone"), []);
}

/// Kafka: `LogCleanerTest.testAbortMarkerRemoval`, `testCommitMarkerRemoval`, `testAbortedTransactionSeparation`.
#[test]
fn aborted_records_go_and_their_markers_go_once_no_record_of_theirs_is_left() {
    let world = World::new();
    let kept = world.put("k", "committed");
    world.add(txn(1, 0, "k", Some("aborted")));
    let abort = world.end(1, EndTxn::Abort);
    world.add(txn(2, 0, "k2", Some("old")));
    let commit = world.end(2, EndTxn::Commit);
    world.add(of(1, 1, "p1", "later"));
    world.add(of(2, 1, "p2", "later"));
    world.put("k2", "new");
    world.fill("one");
    let count = |offset: i64| world.batch_at(offset).map(|header| header.record_count);
    let done = world.compact();
    assert_eq!((done.removed.aborted, done.removed.markers), (1, 0));
    assert_eq!(offsets(&world, "k"), [kept]);
    assert_eq!((count(abort), count(commit)), (Some(1), Some(1)), "this round still met their records");
    world.fill("two");
    world.compact();
    let horizon = |offset: i64| world.batch_at(offset).unwrap().attributes.has_delete_horizon();
    assert!(horizon(abort) && horizon(commit));
    world.advance(RETENTION);
    world.fill("three");
    world.compact();
    // The header alone may have to name the end of a segment.
    assert_eq!((count(abort).unwrap_or(0), count(commit).unwrap_or(0)), (0, 0));
}

/// Kafka: `LogCleanerTest.testCleanWithTransactionsSpanningSegments`, `testLargeMessage` aside.
#[test]
fn nothing_of_an_open_transaction_nor_behind_its_beginning_is_touched() {
    let world = World::new();
    world.put("a", "1");
    world.put("a", "2");
    world.fill("one");
    let open = world.add(txn(1, 0, "a", Some("3")));
    world.put("b", "1");
    world.put("b", "2");
    world.fill("two");
    let done = world.compact();
    assert!(done.to <= Offset(open), "{done:?}");
    assert_eq!(offsets(&world, "a"), [1]);
    world.end(1, EndTxn::Abort);
    world.fill("three");
    let before = world.table();
    world.compact();
    assert_eq!(world.table(), before);
    let kept: Vec<_> = world.records(Isolation::LogEnd).iter().map(|record| record.offset.0).collect();
    assert!(!kept.contains(&open), "aborted");
    assert_eq!(offsets(&world, "b").len(), 1);
}

/// Kafka: `LogCleanerTest.testSegmentGrouping`, `testCleanSegmentsWithConcurrentSegmentDeletion` aside.
#[test]
fn batches_that_lose_nothing_are_the_same_bytes_and_others_keep_their_offsets() {
    let world = World::new();
    world.add(puts(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
    world.add(puts(&[("b", Some("2")), ("d", Some("1"))]));
    world.fill("one");
    let before = world.batches();
    world.compact();
    let after = world.batches();
    assert_eq!(after[1..], before[1..]);
    let (old, new) = (&before[0].0, &after[0].0);
    assert_eq!((new.base_offset, new.last_offset()), (old.base_offset, old.last_offset()));
    assert_eq!(new.record_count, 2);
    assert_eq!(
        (offsets(&world, "a"), offsets(&world, "b"), offsets(&world, "c")),
        (vec![0], vec![3], vec![2])
    );
}

#[test]
fn with_little_memory_a_round_ends_early_and_the_next_goes_on_there() {
    let mut config = small();
    config.compaction.map_bytes = 1024;
    config.segment_bytes = 4000;
    let world = World::with(config);
    for n in 0..300 {
        world.put(&format!("key-{}", n % 100), &n.to_string());
    }
    let before = world.table();
    let first = world.compact();
    assert!(first.to < Offset(60), "{first:?}");
    let mut rounds = 1;
    let mut to = first.to;
    while let Some(done) = world.log().compact().unwrap() {
        assert_eq!(done.from, to);
        (to, rounds) = (done.to, rounds + 1);
        assert_eq!(world.table(), before);
    }
    assert!(rounds > 3, "{rounds}");
    assert!(world.records(Isolation::LogEnd).len() < 200);
}

#[test]
fn a_batch_with_more_keys_than_there_is_memory_for_is_named() {
    let mut config = LogConfig { segment_bytes: 4000, ..small() };
    config.compaction.map_bytes = 1024;
    let world = World::with(config);
    let keys: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let many: Vec<_> = keys.iter().map(|key| (key.as_str(), Some("v"))).collect();
    world.add(puts(&many));
    for _ in 0..3 {
        world.add(puts(&many));
    }
    (0..20).for_each(|_| world.fill("end"));
    let Err(Error::Misuse(message)) = world.log().compact() else { panic!("it has no room") };
    assert_eq!(message, "compaction.map_bytes is 1024: too little for the keys of the batch at offset 0");
}

/// Kafka: `UnifiedLogTest.testCompactionDeletesProducerStateSnapshots`.
#[test]
fn the_snapshots_of_segments_that_are_gone_go_with_them() {
    let mut world = World::with(LogConfig { segment_bytes: 1000, ..small() });
    for n in 0..20 {
        world.add(of(1, n, "a", &n.to_string()));
        if n % 5 == 4 {
            world.log().checkpoint().unwrap();
        }
    }
    (0..3).for_each(|_| world.fill("end"));
    assert!(!world.names(".snapshot").is_empty());
    world.compact();
    (0..3).for_each(|_| world.fill("more"));
    world.compact();
    let bases = |suffix: &str| -> Vec<String> {
        world.names(suffix).iter().map(|name| name.replace(suffix, "")).collect()
    };
    let (logs, snapshots) = (bases(".log"), bases(".snapshot"));
    assert!(snapshots.iter().all(|base| logs.contains(base)), "{snapshots:?} beside {logs:?}");
    world.restart(End::Close);
}
