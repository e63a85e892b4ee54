//! When compaction runs, and what the policy means elsewhere.

use std::sync::Arc;
use std::time::Duration;

use oncelog::storage::{ManualClock, MemoryStorage};
use oncelog::{
    BatchBuilder, Cleanup, Durability, Environment, Error, Isolation, LogConfig, LogDir, LogDirConfig,
    Offset, PartitionName, RawBatch, Rejection, Retention,
};

use crate::world::{NOW, World, puts, small};

#[test]
fn a_log_that_is_not_compacted_says_so() {
    let world = World::with(LogConfig { cleanup: Cleanup::Delete, ..small() });
    let Err(Error::Misuse(message)) = world.log().compact() else { panic!("it was compacted") };
    assert!(message.contains("cleanup"), "{message}");
}

/// Kafka: `UnifiedLogTest.testCompactedTopicConstraints`.
#[test]
fn a_record_without_a_key_is_refused_where_records_are_compacted() {
    let batch = || {
        let builder = BatchBuilder::new().record_at(NOW, Some(b"k"), Some(b"v"));
        builder.record_at(NOW, None, Some(b"v")).build().unwrap()
    };
    for cleanup in [Cleanup::Compact, Cleanup::CompactAndDelete] {
        let world = World::with(LogConfig { cleanup, ..small() });
        let Err(Error::Rejected(Rejection::InvalidRecord(malformed))) = world.append(batch()) else {
            panic!("it was appended")
        };
        assert_eq!(malformed.field, "record key");
        assert_eq!(malformed.found, "none in the record with offset delta 1");
        assert_eq!(world.log().log_end_offset(), Offset(0));
    }
    World::with(LogConfig { cleanup: Cleanup::Delete, ..small() }).append(batch()).unwrap();
}

/// Kafka: `LogCleanerManagerTest.testCleanableOffsetsForTime`.
#[test]
fn a_segment_with_a_young_record_is_left_alone() {
    let mut config = small();
    config.compaction.min_lag_ms = 10_000;
    let world = World::with(config);
    world.put("a", "1");
    world.put("a", "2");
    world.fill("one");
    assert_eq!(world.log().compact().unwrap(), None);
    world.advance(9_999);
    assert_eq!(world.log().compact().unwrap(), None);
    world.advance(1);
    assert_eq!(world.compact().removed.records, 1);
}

/// Kafka: `LogCleanerManagerTest.testLogsWithSegmentsToDeleteShouldConsiderCleanupPolicyCompactDeleteLogs` and its kin.
#[test]
fn the_background_compacts_once_enough_is_dirty() {
    let mut config = small();
    config.compaction.min_dirty_ratio = 0.6;
    let world = World::with(config);
    for n in 0..20 {
        world.put("a", &n.to_string());
    }
    world.fill("one");
    world.advance(15_000);
    world.log().maintain().unwrap();
    assert_eq!(world.of_key("a").len(), 1);
    // Little is dirty now beside what was compacted.
    world.put("a", "more");
    world.fill("two");
    world.advance(15_000);
    world.log().maintain().unwrap();
    assert_eq!(world.of_key("a").len(), 2);
}

/// An empty root that is worked by nobody but the test.
fn root() -> (LogDir, Arc<ManualClock>) {
    let (memory, clock) = (MemoryStorage::new(), Arc::new(ManualClock::new(NOW)));
    let environment = Environment {
        storage: Arc::new(memory),
        clock: Arc::<ManualClock>::clone(&clock),
        ..Environment::default()
    };
    let config = LogDirConfig { log: small(), open_threads: 1, ..LogDirConfig::default() };
    let (dir, _) = LogDir::open("/data", config, environment).unwrap();
    (dir, clock)
}

#[test]
fn the_logs_of_a_root_are_compacted_by_its_background_those_that_are_to_be() {
    let (dir, clock) = root();
    let made = [Cleanup::Compact, Cleanup::Delete].map(|cleanup| {
        let name = PartitionName::new(if cleanup.compacts() { "compact" } else { "delete" }, 0).unwrap();
        let log = dir.create(&name, LogConfig { cleanup, ..small() }).unwrap().log().unwrap();
        for n in 0..20 {
            log.append(RawBatch(puts(&[("a", Some(&n.to_string()))])), Durability::Durable).unwrap();
        }
        log
    });
    clock.advance(Duration::from_secs(15));
    dir.maintain().unwrap();
    let [compacted, deleted] = made.map(|log| {
        let fetched = log.fetch(Offset(0), 1 << 20, Isolation::LogEnd).unwrap();
        fetched.batches().unwrap().next().unwrap().unwrap().header.base_offset.0
    });
    assert!(compacted > 3, "{compacted}");
    assert_eq!(deleted, 0);
}

/// Neither by their ratio nor by their age are records forgotten because nobody uses the log.
#[test]
fn a_log_that_rests_is_woken_for_the_round_that_is_due() {
    for (ratio, max_lag_ms, is_compacted) in
        [(0.5, None, true), (1.0, Some(3_600_000), true), (1.0, None, false)]
    {
        let (dir, clock) = root();
        let mut config = LogConfig { cleanup: Cleanup::Compact, ..small() };
        config.compaction.min_dirty_ratio = ratio;
        config.compaction.max_lag_ms = max_lag_ms;
        let partition = dir.create(&PartitionName::new("compact", 0).unwrap(), config).unwrap();
        for n in 0..20 {
            let batch = RawBatch(puts(&[("a", Some(&n.to_string()))]));
            partition.log().unwrap().append(batch, Durability::Durable).unwrap();
        }
        let first = || {
            let fetched = partition.log().unwrap().fetch(Offset(0), 1 << 20, Isolation::LogEnd).unwrap();
            fetched.batches().unwrap().next().unwrap().unwrap().header.base_offset.0
        };
        dir.rest();
        clock.advance(Duration::from_secs(60));
        dir.maintain().unwrap();
        dir.rest();
        assert_eq!(first(), 0, "it is not woken at once");
        dir.rest();
        clock.advance(Duration::from_secs(3_700));
        dir.maintain().unwrap();
        assert_eq!(first() > 3, is_compacted, "{ratio} {max_lag_ms:?}: {}", first());
    }
}

/// Kafka: `UnifiedLogTest.shouldDeleteSegmentsReadyToBeDeletedWhenCleanupPolicyIsCompactAndDelete`,
/// `shouldNotDeleteSegmentsWhenPolicyDoesNotIncludeDelete`.
#[test]
fn segments_go_by_age_only_where_the_policy_says_delete() {
    for (cleanup, kept) in [(Cleanup::Compact, true), (Cleanup::CompactAndDelete, false)] {
        let retention = Retention { max_age_ms: Some(1_000), max_bytes: None };
        let world = World::with(LogConfig { cleanup, retention, ..small() });
        for n in 0..10 {
            world.add(puts(&[("a", Some(&n.to_string())), ("b", Some("v"))]));
        }
        world.advance(5_000);
        world.log().apply_retention().unwrap();
        assert_eq!(world.log().log_start_offset() == Offset(0), kept, "{cleanup:?}");
    }
}
