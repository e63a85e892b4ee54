//! What a follower's log takes from its leader's, and what it refuses (UnifiedLogTest).

use std::io::ErrorKind;

use bytes::{Bytes, BytesMut};
use oncelog::format::control::{ControlKind, EndTxnMarker};
use oncelog::storage::{Fault, OperationKind};
use oncelog::{
    Appended, Durability, Error, Isolation, LogConfig, Outcome, ProducerEpoch, ProducerId, RawBatch,
    Rejection, Sequence,
};

use crate::world::{World, batches, epoch, of, offset, small};

/// `batch` as a leader of `leader_epoch` stores it at `base`.
fn stored(batch: &Bytes, base: i64, leader_epoch: i32) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes.freeze()
}

fn follow(world: &World, bytes: impl Into<Bytes>) -> Result<Appended, Error> {
    world.log().append_as_follower(RawBatch(bytes.into()), Durability::Durable)
}

/// All of a leader's batches from `from` on in one buffer.
fn fetched(world: &World, from: i64) -> Bytes {
    let mut all = BytesMut::new();
    for batch in batches(world.log()).into_iter().filter(|batch| batch.header.base_offset.0 >= from) {
        all.extend_from_slice(&batch.bytes);
    }
    all.freeze()
}

fn content(world: &World) -> Vec<Bytes> {
    batches(world.log()).into_iter().map(|batch| batch.bytes).collect()
}

/// Found by the crash test: the batches before a roll that was due could not be written and were refused, and the next
/// segment began behind them nevertheless. No later open would have taken a log with such a gap.
#[test]
fn a_write_that_fails_just_before_a_roll_leaves_no_gap() {
    let leader = World::new();
    for sequence in 0..30 {
        leader.add(of(1, sequence, 1));
        leader.log().maintain().unwrap();
    }
    let mut follower = World::new();
    let batch = fetched(&leader, 29).len();
    follow(&follower, fetched(&leader, 0).slice(..batch * 3)).unwrap();
    // The next segment is made: nothing keeps the log from rolling in the middle of what comes.
    follower.log().maintain().unwrap();
    let write = Fault::on(OperationKind::Write).named(".log").with(ErrorKind::StorageFull);
    follower.disk.fail(write);
    assert!(matches!(follow(&follower, fetched(&leader, 3)), Err(Error::Unavailable { .. })));
    assert_eq!(follower.disk.faults_struck(), 1);
    assert_eq!((follower.end(), follower.segments()), (3, vec![0]));
    while follower.end() < 30 {
        follow(&follower, fetched(&leader, follower.end())).unwrap();
        follower.log().maintain().unwrap();
    }
    follower.kill();
    follower.open().unwrap();
    assert_eq!(content(&follower), content(&leader));
}

/// Kafka: `UnifiedLogTest.testDuplicateAppendToFollower`, `testMultipleProducerIdsPerMemoryRecord`,
/// `followerShouldSaveEpochInformationFromReplicatedMessagesToTheEpochCache`.
#[test]
fn a_follower_has_the_leaders_bytes_epochs_and_windows() {
    let leader = World::new();
    for round in 0..12 {
        leader.log().begin_leader_epoch(epoch(round / 4)).unwrap();
        for producer in 1..=3 {
            leader.add(of(producer, round * 2, 2));
            leader.log().maintain().unwrap();
        }
    }
    let mut follower = World::new();
    // Two fetches, the first of which ends inside a batch.
    let all = fetched(&leader, 0);
    let answer = follow(&follower, all.slice(..all.len() / 2)).unwrap();
    assert_eq!((answer.outcome, answer.base_offset), (Outcome::Appended, Some(offset(0))));
    let end = answer.last_offset.0 + 1;
    assert_eq!(follower.end(), end);
    let answer = follow(&follower, fetched(&leader, end)).unwrap();
    assert_eq!((answer.base_offset, answer.last_offset), (Some(offset(end)), offset(71)));
    for opened in 0..3 {
        assert_eq!(content(&follower), content(&leader));
        assert_eq!(follower.epochs(), leader.epochs());
        for producer in (1..=3).map(ProducerId) {
            let mut theirs = leader.log().producer(producer).unwrap();
            let ours = follower.log().producer(producer).unwrap();
            // When they were seen is each replica's own.
            theirs.as_mut().unwrap().last_seen = ours.unwrap().last_seen;
            assert_eq!(ours, theirs);
        }
        match opened {
            0 => drop(follower.reopen()),
            _ => {
                follower.kill();
                follower.open().unwrap();
            }
        }
    }
    // It leads now: a retry of what the old leader stored is known.
    let retry = follower.append(of(2, 22, 2)).unwrap();
    assert_eq!((retry.outcome, retry.base_offset), (Outcome::Duplicate, Some(offset(68))));
    assert_eq!(follower.add(of(2, 24, 1)), 72);
    assert_eq!(
        batches(follower.log()).last().unwrap().header.leader_epoch,
        epoch(2),
        "never below the log's"
    );
}

/// Kafka: `UnifiedLogTest.testMultipleProducersWithDuplicatesInSingleAppend`.
#[test]
fn a_follower_judges_no_producer() {
    let world = World::new();
    let twice = stored(&of(1, 0, 2), 0, 0);
    follow(&world, twice).unwrap();
    assert_eq!(follow(&world, stored(&of(1, 0, 2), 2, 0)).unwrap().outcome, Outcome::Appended);
    assert_eq!(follow(&world, stored(&of(1, 9, 1), 4, 0)).unwrap().outcome, Outcome::Appended, "a gap");
    assert_eq!(follow(&world, stored(&of(5, 77, 1), 5, 0)).unwrap().outcome, Outcome::Appended, "unknown");
    assert_eq!(world.end(), 6);
    let expected = Sequence::new(10).unwrap();
    let refused = world.append(of(1, 2, 1)).unwrap_err();
    assert!(
        matches!(&refused, Error::Rejected(Rejection::SequenceUnknown { .. } | Rejection::OutOfOrder { .. })),
        "{refused:?}, next is {expected}"
    );
    assert_eq!(world.add(of(1, 10, 1)), 6);
}

/// Kafka: `UnifiedLogTest.testAppendBelowExpectedOffsetThrowsException`,
/// `testAppendWithOutOfOrderOffsetsThrowsException`.
#[test]
fn offsets_below_the_log_end_are_refused_with_the_first_and_the_last() {
    let world = World::new();
    follow(&world, stored(&of(1, 0, 5), 0, 0)).unwrap();
    let mut two = BytesMut::from(&stored(&of(1, 5, 2), 3, 0)[..]);
    two.extend_from_slice(&stored(&of(1, 7, 2), 5, 0));
    let mut falling = BytesMut::from(&stored(&of(1, 5, 2), 5, 0)[..]);
    falling.extend_from_slice(&stored(&of(1, 7, 2), 6, 0));
    for (buffer, expected) in [(two, (3, 6, 5)), (falling, (6, 7, 7))] {
        let refused = follow(&world, buffer.freeze()).unwrap_err();
        let Error::UnexpectedAppendOffset { first, last, log_end_offset } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!((first.0, last.0, log_end_offset.0), expected);
        assert_eq!(refused.kafka_code(), 1);
        assert_eq!(world.end(), 5);
    }
}

/// Kafka: `UnifiedLogTest.testAppendEmptyLogBelowLogStartOffsetThrowsException`.
#[test]
fn an_empty_log_takes_nothing_from_below_its_start() {
    let world = World::new();
    world.log().truncate_fully_and_start_at(offset(7)).unwrap();
    let refused = follow(&world, stored(&of(1, 0, 2), 4, 0)).unwrap_err();
    assert!(matches!(refused, Error::UnexpectedAppendOffset { .. }), "{refused:?}");
    follow(&world, stored(&of(1, 0, 2), 7, 0)).unwrap();
    assert_eq!(world.end(), 9);
}

#[test]
fn a_leader_epoch_that_falls_is_refused() {
    let world = World::new();
    follow(&world, stored(&of(1, 0, 1), 0, 4)).unwrap();
    let refused = follow(&world, stored(&of(1, 1, 1), 1, 3)).unwrap_err();
    assert!(
        matches!(refused, Error::FencedLeaderEpoch { newest, found } if (newest.0, found.0) == (4, 3)),
        "{refused:?}"
    );
    assert_eq!(refused.kafka_code(), 74);
    assert_eq!(world.end(), 1);
}

/// Kafka: `UnifiedLogTest.testMessageSizeCheckInAppendAsFollower`.
#[test]
fn a_follower_takes_what_a_leader_of_other_settings_has_accepted() {
    let world = World::with(LogConfig { max_batch_bytes: 100, segment_bytes: 200, ..small() });
    let large = stored(&of(1, 0, 40), 0, 0);
    assert!(large.len() > 400);
    follow(&world, large.clone()).unwrap();
    assert_eq!(content(&world), [large]);
}

#[test]
fn damaged_bytes_are_refused_and_so_is_a_buffer_without_a_whole_batch() {
    let world = World::new();
    let good = stored(&of(1, 0, 2), 0, 0);
    let mut flipped = BytesMut::from(&good[..]);
    flipped[70] ^= 1;
    for bad in [flipped.freeze(), good.slice(..good.len() - 1), Bytes::new()] {
        let refused = follow(&world, bad).unwrap_err();
        assert!(matches!(refused, Error::Rejected(Rejection::CorruptMessage(_))), "{refused:?}");
    }
    assert_eq!(world.end(), 0);
}

/// Kafka: `UnifiedLogTest.testAppendAndReadWithNonSequentialOffsets`, `testReadAtLogGap`.
#[test]
fn gaps_of_a_compacted_leader_are_kept_and_survive_every_restart() {
    let mut world = World::new();
    let mut base = 3;
    let mut known = Vec::new();
    for round in 0..30 {
        let batch = stored(&of(1 + i64::from(round % 2), round / 2, 1), base, round / 10);
        follow(&world, batch.clone()).unwrap();
        world.log().maintain().unwrap();
        known.push(batch);
        base += 1 + i64::from(round % 4) * 7;
        match round {
            11 => drop(world.reopen()),
            5 | 17 | 23 => {
                world.disk = oncelog::storage::MemoryStorage::from_image(&world.disk.power_cut());
                world.log = None;
                let report = world.open().unwrap();
                assert_eq!(report.cuts, [], "round {round}");
            }
            20 => world.log().checkpoint().unwrap(),
            _ => {}
        }
        assert_eq!(content(&world), known, "round {round}");
    }
    let inside = world.log().fetch(offset(5), 1, Isolation::LogEnd).unwrap();
    assert!(inside.first_batch().unwrap().base_offset.0 > 5);
    let end = known.len() / 2;
    let cut = batches(world.log())[end].header.base_offset;
    let left = world.log().truncate_to(cut).unwrap();
    assert!(left <= cut);
    world.kill();
    world.open().unwrap();
    assert_eq!(content(&world), known[..end]);
}

/// Kafka: `LogSegmentTest.shouldTruncateEvenIfOffsetPointsToAGapInTheLog`.
#[test]
fn a_cut_in_a_gap_ends_the_log_before_the_gap() {
    let world = World::new();
    follow(&world, stored(&of(1, 0, 2), 0, 0)).unwrap();
    follow(&world, stored(&of(1, 2, 2), 12, 0)).unwrap();
    assert_eq!(world.log().truncate_to(offset(7)).unwrap(), offset(2));
    follow(&world, stored(&of(1, 2, 2), 12, 0)).unwrap();
    assert_eq!(world.end(), 14);
}

/// Kafka: `UnifiedLogTest.testBuildTimeIndexWhenNotAssigningOffsets`.
#[test]
fn a_timestamp_is_found_among_batches_that_came_with_their_offsets() {
    let mut world = World::new();
    for round in 0..20 {
        follow(&world, stored(&of(1, round * 2, 2), i64::from(round) * 3, 0)).unwrap();
        world.log().maintain().unwrap();
    }
    for _ in 0..2 {
        let found = world.log().offset_for_timestamp(crate::world::NOW + 21, Isolation::LogEnd).unwrap();
        assert_eq!(found, Some((offset(31), crate::world::NOW + 21)));
        world.reopen();
    }
}

/// Kafka: `LogLoaderTest.testOverCompactedLogRecovery`: an offset too far from the segment's base begins another.
#[test]
fn a_gap_wider_than_an_index_can_express_begins_a_segment_at_its_far_side() {
    let mut world = World::new();
    let far = i64::from(i32::MAX) * 2;
    for (round, base) in (0..).zip([0, far, far + 5, far * 3]) {
        world.log().maintain().unwrap();
        follow(&world, stored(&of(1, round, 1), base, 0)).unwrap();
    }
    assert_eq!(world.segments(), [0, far, far * 3]);
    world.kill();
    world.open().unwrap();
    assert_eq!(world.end(), far * 3 + 1);
    assert_eq!(content(&world).len(), 4);
}

/// Kafka: `UnifiedLogTest.testTransactionIndexUpdatedThroughReplication`.
#[test]
fn a_marker_of_the_leader_ends_the_transaction_at_the_follower() {
    let world = World::new();
    let (producer, producer_epoch) = (ProducerId(1), ProducerEpoch(0));
    let data = oncelog::BatchBuilder::new()
        .producer(producer, producer_epoch, Sequence::ZERO)
        .transactional()
        .record_at(crate::world::NOW, None, Some(b"v"))
        .build()
        .unwrap();
    follow(&world, stored(&data, 0, 0)).unwrap();
    let open = world.log().producer(producer).unwrap().unwrap();
    assert_eq!(open.txn_first_offset, Some(offset(0)));
    let marker = EndTxnMarker {
        producer,
        epoch: producer_epoch,
        kind: ControlKind::Abort,
        coordinator_epoch: oncelog::types::CoordinatorEpoch(3),
        timestamp: crate::world::NOW,
    };
    follow(&world, stored(&marker.to_batch(), 1, 0)).unwrap();
    let ended = world.log().producer(producer).unwrap().unwrap();
    assert_eq!((ended.txn_first_offset, ended.coordinator_epoch.0), (None, 3));
    assert!(ended.newest().unwrap().aborted);
}

/// What compaction leaves of a marker that must stay: a control batch without records.
fn emptied_marker(producer: i64, base: i64) -> Bytes {
    let marker = EndTxnMarker {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(0),
        kind: ControlKind::Abort,
        coordinator_epoch: oncelog::CoordinatorEpoch(3),
        timestamp: 1,
    };
    let whole = marker.to_batch();
    let mut bytes = BytesMut::from(&stored(&whole, base, 0)[..oncelog::format::batch::HEADER_SIZE]);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[57..61].copy_from_slice(&0_i32.to_be_bytes());
    let crc = oncelog::format::batch::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

/// Kafka: `ProducerStateManagerTest.testAppendEmptyControlBatch`.
#[test]
fn a_control_batch_without_records_takes_its_offset_and_decides_nothing() {
    let mut world = World::new();
    follow(&world, stored(&of(1, 0, 2), 0, 0)).unwrap();
    let before = world.log().producer(ProducerId(1)).unwrap();
    follow(&world, emptied_marker(1, 2)).unwrap();
    follow(&world, emptied_marker(9, 3)).unwrap();
    for restarted in [false, true] {
        if restarted {
            world.kill();
            world.open().unwrap();
        }
        assert_eq!(world.end(), 4);
        let mut after = world.log().producer(ProducerId(1)).unwrap();
        after.as_mut().unwrap().last_seen = before.unwrap().last_seen;
        assert_eq!(after, before, "neither its epoch nor its coordinator's nor its window has changed");
        assert_eq!(world.log().producer(ProducerId(9)).unwrap(), None);
    }
    assert_eq!(world.append(of(1, 0, 2)).unwrap().outcome, Outcome::Duplicate);
    assert_eq!(world.add(of(1, 2, 1)), 4);
}
