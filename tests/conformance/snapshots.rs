//! The `.snapshot` files that Kafka reads, and those that it left (ProducerStateManagerTest, UnifiedLogTest,
//! LogLoaderTest).

use std::path::Path;

use oncelog::format::snapshot::{SnapshotEntry, parse};
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{OpenMode, Storage};
use oncelog::{LogConfig, Offset};

use crate::world::{World, of, plain, small};

const ROLL: &str = "00000000000000000008.snapshot";

fn entries(world: &World, name: &str) -> Vec<SnapshotEntry> {
    parse(&world.read(name)).unwrap()
}

/// Eight batches of producer 1 fill the first segment; then producer 2 begins the second.
fn rolled() -> World {
    let size = of(1, 0, 0, 1).len();
    let world = World::with(LogConfig { segment_bytes: u32::try_from(8 * size).unwrap(), ..small() });
    for n in 0..8 {
        world.add(of(1, 0, n, 1));
    }
    assert_eq!(world.segments(), [0]);
    world.add(of(2, 0, 0, 1));
    assert_eq!(world.segments(), [0, 8]);
    world
}

/// Kafka: `UnifiedLogTest.testProducerSnapshotAfterSegmentRollOnAppend`,
/// `testTakeSnapshotOnRollAndDeleteSnapshotOnRecoveryPointCheckpoint`, `ProducerStateManagerTest.testTakeSnapshot`.
#[test]
fn a_snapshot_at_a_roll_does_not_know_the_batch_that_rolled() {
    let world = rolled();
    world.log().maintain().unwrap();
    let found = entries(&world, ROLL);
    assert_eq!(found.len(), 1);
    let last = found[0].last_batch.unwrap();
    assert_eq!((found[0].producer.0, last.last_offset, last.offset_delta), (1, Offset(7), 0));
    assert_eq!(last.last_sequence.unwrap().value(), 7);
}

/// Kafka: `ProducerStateManagerTest.testSkipSnapshotIfOffsetUnchanged`.
#[test]
fn a_close_without_an_append_writes_no_further_snapshot() {
    let mut world = rolled();
    world.reopen();
    let before = world.names(".snapshot");
    assert!(before.contains(&"00000000000000000009.snapshot".to_owned()), "{before:?}");
    world.close();
    assert_eq!(world.names(".snapshot"), before);
}

/// Kafka: `ProducerStateManagerTest.testRecoverFromSnapshotFinishedTransaction`: Kafka's file knows one batch of a
/// producer, our own state knows five.
#[test]
fn the_snapshot_holds_one_batch_and_the_window_of_five_survives_without_it() {
    let mut world = World::new();
    for n in 0..6 {
        world.add(of(1, 0, n, 1));
    }
    world.close();
    let found = entries(&world, "00000000000000000006.snapshot");
    assert_eq!(found[0].last_batch.unwrap().last_offset, Offset(5));
    for name in world.names(".snapshot") {
        world.remove(&name);
    }
    world.open().unwrap();
    for n in 1..6 {
        assert_eq!(world.duplicate(of(1, 0, n, 1)), i64::from(n));
    }
}

/// Leaves the directory as Kafka would, stopped in order or not.
fn hand_to_kafka(world: &mut World, clean: bool) {
    world.close();
    world.make_it_kafkas();
    if clean {
        world.memory.open(Path::new("/logs/.kafka_cleanshutdown"), OpenMode::Create).unwrap();
    }
}

/// Kafka: `UnifiedLogTest.testInitializationOfProducerSnapshotsUpgradePath`. Kafka 4 begins with no producers in a
/// clean directory without snapshots; here their batches are read.
#[test]
fn producers_of_a_directory_without_snapshots_are_read_from_the_batches() {
    for clean in [true, false] {
        let mut world = rolled();
        hand_to_kafka(&mut world, clean);
        for name in world.names(".snapshot") {
            world.remove(&name);
        }
        let report = world.open().unwrap();
        let kind = if clean { RecoveryKind::KafkaClean } else { RecoveryKind::KafkaUnclean };
        assert_eq!((report.kind, report.snapshot), (kind, None));
        for n in 3..8 {
            assert_eq!(world.duplicate(of(1, 0, n, 1)), i64::from(n));
        }
        assert_eq!(world.duplicate(of(2, 0, 0, 1)), 8);
    }
}

/// Kafka: `ProducerStateManagerTest.testLoadFromEmptySnapshotFile`, `testLoadFromTruncatedSnapshotFile`,
/// `testLoadFromCorruptSnapshotFile`.
#[test]
fn a_snapshot_of_kafka_that_is_empty_cut_or_corrupt_is_not_believed_and_an_older_one_serves() {
    let damages: [fn(&mut Vec<u8>); 3] = [Vec::clear, |bytes| bytes.truncate(30), |bytes| bytes[20] ^= 1];
    for damage in damages {
        let mut world = rolled();
        world.log().maintain().unwrap();
        hand_to_kafka(&mut world, false);
        let newest = "00000000000000000009.snapshot";
        let mut bytes = world.read(newest);
        damage(&mut bytes);
        world.write(newest, &bytes);
        let report = world.open().unwrap();
        assert_eq!(report.snapshot.as_deref(), Some(ROLL), "{report}");
        assert_eq!(report.rejected[0].file, newest);
        assert_eq!(world.duplicate(of(1, 0, 3, 1)), 3);
        assert_eq!(world.duplicate(of(2, 0, 0, 1)), 8);
    }
}

/// Kafka: `UnifiedLogTest.testLoadingLogDeletesProducerStateSnapshotsPastLogEndOffset`,
/// `LogLoaderTest.testLoadingLogKeepsLargestStrayProducerStateSnapshot`.
#[test]
fn a_snapshot_above_the_log_end_is_not_believed_and_goes() {
    let mut world = rolled();
    hand_to_kafka(&mut world, false);
    let newest = world.read("00000000000000000009.snapshot");
    world.write("00000000000000000042.snapshot", &newest);
    let report = world.open().unwrap();
    assert_eq!(report.snapshot.as_deref(), Some("00000000000000000009.snapshot"), "{report}");
    assert_eq!(report.rejected[0].file, "00000000000000000042.snapshot");
    assert!(!world.names(".snapshot").contains(&"00000000000000000042.snapshot".to_owned()));
}

/// Kafka: `LogLoaderTest.testProducerSnapshotsRecoveryAfterUncleanShutdownCurrentMessageFormat`.
#[test]
fn after_an_unclean_stop_only_what_lies_behind_the_newest_checkpoint_is_replayed() {
    let mut world = rolled();
    world.log().checkpoint().unwrap();
    for n in 1..4 {
        world.add(of(2, 0, n, 1));
    }
    let report = world.crash();
    assert_eq!((report.checkpoint(), report.replayed_batches), (Some(Offset(9)), 3), "{report}");
    assert_eq!(report.unverified_bytes, 0, "what is replayed here is checked");
}

/// Kafka: `LogLoaderTest.testSkipLoadingIfEmptyProducerStateBeforeTruncation`: no scan for producers where none are.
#[test]
fn a_clean_log_without_producers_is_opened_without_reading_a_batch() {
    let mut world = World::new();
    for _ in 0..30 {
        world.add(plain(&["value"]));
    }
    let report = world.reopen();
    assert_eq!((report.kind, report.replayed_batches, report.scanned_bytes), (RecoveryKind::Clean, 0, 0));
}
