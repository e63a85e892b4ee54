//! Idempotent producers at the facade (UnifiedLogTest, ProducerStateManagerTest).

use oncelog::storage::{Fault, OperationKind};
use oncelog::{
    Appended, Error, LogConfig, Offset, Outcome, ProducerEpoch, ProducerId, Rejection, UnknownProducerPolicy,
};

use crate::world::{NOW, World, of, plain, sequence, small};

/// Kafka: `UnifiedLogTest.testDuplicateAppends`. Where Kafka answers OUT_OF_ORDER to all that is behind and no exact
/// duplicate, the answers here are what is true.
#[test]
fn each_of_the_last_five_batches_is_recognised_and_others_behind_are_told_apart() {
    let mut world = World::new();
    for n in 0..7 {
        assert_eq!(world.add(of(1, 0, n * 3, 3)), i64::from(n) * 3);
    }
    for restart in [None, Some(World::reopen as fn(&mut World) -> _), Some(World::crash)] {
        if let Some(restart) = restart {
            restart(&mut world);
        }
        for n in 2..7 {
            let expected = Appended {
                outcome: Outcome::Duplicate,
                base_offset: Some(Offset(i64::from(n) * 3)),
                last_offset: Offset(i64::from(n) * 3 + 2),
                timestamp: NOW + i64::from(n) * 3,
            };
            assert_eq!(world.append(of(1, 0, n * 3, 3)).unwrap(), expected);
        }
        let older = world.append(of(1, 0, 3, 3)).unwrap();
        assert_eq!((older.outcome, older.base_offset), (Outcome::DuplicateBeyondWindow, None));
        match world.rejection(of(1, 0, 18, 2)) {
            Rejection::SequenceOverlap { first, last, expected, .. } => {
                assert_eq!((first, last, expected), (sequence(18), sequence(19), sequence(21)));
            }
            other => panic!("{other}"),
        }
    }
}

/// Kafka: `UnifiedLogTest.testOldProducerEpoch`.
#[test]
fn an_older_epoch_is_fenced_before_and_after_a_restart() {
    let mut world = World::new();
    world.add(of(1, 4, 0, 1));
    for _ in 0..2 {
        assert_eq!(
            world.rejection(of(1, 3, 0, 1)),
            Rejection::Fenced { producer: ProducerId(1), current: ProducerEpoch(4), found: ProducerEpoch(3) }
        );
        world.crash();
    }
}

/// Kafka: `UnifiedLogTest.testActiveProducers`.
#[test]
fn the_log_tells_what_it_knows_of_a_producer() {
    let world = World::new();
    assert_eq!(world.log().producer(ProducerId(1)).unwrap(), None);
    world.add(of(1, 2, 0, 3));
    let entry = world.log().producer(ProducerId(1)).unwrap().unwrap();
    assert_eq!((entry.epoch, entry.expected_sequence(), entry.proven), (ProducerEpoch(2), sequence(3), 3));
    assert_eq!(entry.newest().unwrap().first_offset, Offset(0));
}

/// Kafka: `UnifiedLogTest.testAllowNonZeroSequenceOnFirstAppendNonZeroEpoch`, which is the policy `Accept`.
#[test]
fn an_unknown_producer_may_start_anywhere_only_if_the_policy_says_so() {
    let world = World::new();
    world.add(plain(&["something"]));
    let unknown = Rejection::UnknownProducer {
        producer: ProducerId(1),
        found: sequence(5),
        log_start_offset: Offset(0),
    };
    assert_eq!(world.rejection(of(1, 3, 5, 1)), unknown);
    let accepting = LogConfig { unknown_producer: UnknownProducerPolicy::Accept, ..small() };
    let world = World::with(accepting);
    world.add(of(1, 3, 5, 1));
    world.add(of(1, 3, 6, 1));
}

/// Kafka: `UnifiedLogTest.testProducerIdMapOffsetUpdatedForNonIdempotentData`.
#[test]
fn a_checkpoint_covers_batches_without_a_producer_too() {
    let mut world = World::new();
    world.add(of(1, 0, 0, 1));
    world.add(plain(&["a", "b"]));
    world.log().checkpoint().unwrap();
    let report = world.crash();
    assert_eq!((report.checkpoint(), report.replayed_batches), (Some(Offset(3)), 0));
    assert_eq!(world.duplicate(of(1, 0, 0, 1)), 0);
}

/// Kafka: `UnifiedLogTest.testPeriodicProducerIdExpiration`, `ProducerStateManagerTest.testPidExpirationTimeout`. Here
/// only time that the log lived through counts.
#[test]
fn a_producer_that_was_silent_for_the_whole_time_is_forgotten_by_a_base() {
    let world = World::with(LogConfig { producer_expiry_ms: 1000, ..small() });
    world.add(of(1, 0, 0, 1));
    world.log().checkpoint().unwrap();
    world.advance(999);
    world.add(of(2, 0, 0, 1));
    world.log().checkpoint().unwrap();
    assert!(world.log().producer(ProducerId(1)).unwrap().is_some(), "one millisecond too early");
    world.advance(1);
    world.add(of(2, 0, 1, 1));
    world.log().checkpoint().unwrap();
    assert_eq!(world.log().producer(ProducerId(1)).unwrap(), None);
    assert!(world.log().producer(ProducerId(2)).unwrap().is_some());
}

/// Kafka: `ProducerStateManagerTest.testRemoveExpiredPidsOnReload`, `testLoadFromSnapshotRetainsNonExpiredProducers`. In
/// Kafka the time that the broker was down counts; here it does not.
#[test]
fn time_in_which_the_log_was_closed_makes_no_producer_forgotten() {
    let mut world = World::with(LogConfig { producer_expiry_ms: 1000, ..small() });
    world.add(of(1, 0, 0, 1));
    world.close();
    world.advance(1_000_000);
    world.open().unwrap();
    world.add(of(2, 0, 0, 1));
    world.log().checkpoint().unwrap();
    assert_eq!(world.duplicate(of(1, 0, 0, 1)), 0);
}

/// Kafka: `UnifiedLogTest.testRecoveryPointNotIncrementedOnProducerStateSnapshotFlushFailure`.
#[test]
fn a_checkpoint_that_fails_leaves_the_one_before_in_force_and_loses_no_producer() {
    let mut world = World::new();
    world.add(of(1, 0, 0, 1));
    world.log().checkpoint().unwrap();
    world.add(of(1, 0, 1, 1));
    world.memory.fail(Fault::on(OperationKind::SyncData).named(".run"));
    world.memory.fail(Fault::on(OperationKind::SyncAll).named(".run"));
    let failed = world.log().checkpoint().unwrap_err();
    assert!(matches!(&failed, Error::Io { .. }), "{failed}");
    world.memory.clear_faults();
    world.add(of(1, 0, 2, 1));
    let report = world.crash();
    assert_eq!((report.checkpoint(), report.replayed_batches), (Some(Offset(1)), 2));
    assert_eq!([world.duplicate(of(1, 0, 0, 1)), world.duplicate(of(1, 0, 1, 1))], [0, 1]);
}
