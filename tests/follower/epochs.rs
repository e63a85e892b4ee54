//! Leader epochs of a log and the file that Kafka reads them from.

use oncelog::{EpochEnd, Error};

use crate::world::{World, epoch, of, offset};

const FILE: &str = "leader-epoch-checkpoint";

/// Epoch 0 from offset 0, epoch 3 from offset 2.
fn two_epochs() -> World {
    let world = World::new();
    world.add(of(1, 0, 2));
    world.log().begin_leader_epoch(epoch(3)).unwrap();
    world.add(of(1, 2, 1));
    world
}

/// Kafka: `UnifiedLogTest.shouldApplyEpochToMessageOnAppendIfLeader`, `LeaderEpochFileCacheTest`.
#[test]
fn batches_carry_the_epoch_that_was_begun_and_the_log_says_where_each_ends() {
    let world = two_epochs();
    assert_eq!(world.epochs(), [(0, 0), (3, 2)]);
    let end = |asked| world.log().end_offset_for_leader_epoch(epoch(asked));
    assert_eq!(end(0), Some(EpochEnd { epoch: epoch(0), end_offset: offset(2) }));
    assert_eq!(end(3), Some(EpochEnd { epoch: epoch(3), end_offset: offset(3) }));
    assert_eq!(end(4), None);
}

#[test]
fn an_epoch_never_goes_back() {
    let world = two_epochs();
    let refused = world.log().begin_leader_epoch(epoch(2)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "misuse: leader epoch 2 begins behind epoch 3; accepted is 3 to 2147483647"
    );
    assert!(matches!(refused, Error::Misuse(_)));
}

#[test]
fn a_clean_close_leaves_kafka_the_epochs_and_a_clean_open_knows_them() {
    let mut world = two_epochs();
    let report = world.reopen();
    assert_eq!(world.text(FILE), "0\n2\n0 0\n3 2\n");
    assert_eq!(report.replayed_batches, 0);
    assert_eq!(world.epochs(), [(0, 0), (3, 2)]);
}

/// Kafka: `LogLoaderTest.testLogRecoversForLeaderEpoch`.
#[test]
fn a_recovery_knows_the_epochs_from_the_batches_and_mends_the_file() {
    let mut world = two_epochs();
    world.log().checkpoint().unwrap();
    world.log().begin_leader_epoch(epoch(5)).unwrap();
    world.add(of(1, 3, 1));
    assert_eq!(world.text(FILE), "0\n2\n0 0\n3 2\n", "the file follows at checkpoints");
    world.kill();
    let report = world.open().unwrap();
    assert_eq!(world.epochs(), [(0, 0), (3, 2), (5, 3)]);
    assert_eq!(world.text(FILE), "0\n3\n0 0\n3 2\n5 3\n");
    assert_eq!(report.rejected, []);
}

#[test]
fn a_damaged_file_is_named_in_the_report_and_written_again() {
    let mut world = two_epochs();
    world.log().checkpoint().unwrap();
    world.write(FILE, b"0\n2\n0 0\n3");
    world.kill();
    let report = world.open().unwrap();
    let [rejected] = &report.rejected[..] else { panic!("{:?}", report.rejected) };
    assert_eq!(rejected.file, FILE);
    assert_eq!(
        rejected.reason,
        "entry at byte 8: expected a line with its end, found \"3\"; put together from the batches"
    );
    assert_eq!(world.text(FILE), "0\n2\n0 0\n3 2\n");
}

#[test]
fn an_epoch_that_no_batch_has_is_forgotten_by_a_crash() {
    let mut world = two_epochs();
    world.log().begin_leader_epoch(epoch(9)).unwrap();
    assert_eq!(world.epochs(), [(0, 0), (3, 2), (9, 3)]);
    world.kill();
    world.open().unwrap();
    assert_eq!(world.epochs(), [(0, 0), (3, 2)]);
}

#[test]
fn a_directory_of_kafka_is_adopted_with_the_epochs_of_its_file_unless_a_batch_contradicts_them() {
    // A compacted log: the first batch of epoch 3 stands behind the place where the epoch began.
    for (said, kept, refused) in [
        ("0\n2\n0 0\n3 1\n", vec![(0, 0), (3, 1)], 0),
        ("0\n3\n0 0\n3 2\n4 3\n", vec![(0, 0), (3, 2)], 0),
        ("0\n2\n0 0\n3 3\n", vec![(0, 0), (3, 2)], 1),
        ("0\n1\n7 0\n", vec![(0, 0), (3, 2)], 1),
    ] {
        let mut world = two_epochs();
        world.close();
        for name in world.names("") {
            if name.contains("oncelog") || name.starts_with("producers") {
                oncelog::storage::Storage::unlink(&world.disk, &crate::world::path(&name)).unwrap();
            }
        }
        world.write(FILE, said.as_bytes());
        let report = world.open().unwrap();
        assert_eq!(world.epochs(), kept, "{said:?}");
        let named = report.rejected.iter().filter(|rejected| rejected.file == FILE).count();
        assert_eq!(named, refused, "{:?}", report.rejected);
    }
}
