//! Guards: one for each transaction, used once.

use super::super::{VerificationGuard, Verifications};
use super::*;

const EPOCH: ProducerEpoch = ProducerEpoch(3);

fn begin(verifications: &mut Verifications, epoch: i16, sequence: i32) -> VerificationGuard {
    verifications.begin(PRODUCER, ProducerEpoch(epoch), seq(sequence), SEEN)
}

/// Kafka: `VerificationGuardTest.testEqualsAndHashCode`, `testVerify`.
#[test]
fn guards_differ_and_no_guard_verifies_nothing() {
    let mut verifications = Verifications::default();
    let one = begin(&mut verifications, 3, 0);
    let other = verifications.begin(ProducerId(8), EPOCH, seq(0), SEEN);
    assert!(one != other && one.verifies(one) && !one.verifies(other));
    assert!(!VerificationGuard::NONE.verifies(VerificationGuard::NONE));
    assert!(VerificationGuard::NONE.is_none() && !one.is_none());
    assert!(verifications.is_verified(PRODUCER, one));
    assert!(!verifications.is_verified(PRODUCER, other));
    assert!(!verifications.is_verified(ProducerId(9), VerificationGuard::NONE));
}

/// Kafka: `ProducerStateManagerTest.testEntryForVerification`.
#[test]
fn a_guard_is_the_same_until_it_is_used_up() {
    let mut verifications = Verifications::default();
    let guard = begin(&mut verifications, 3, 0);
    assert_eq!(begin(&mut verifications, 3, 0), guard);
    verifications.end(PRODUCER);
    assert!(!verifications.is_verified(PRODUCER, guard));
    assert!(begin(&mut verifications, 3, 0) != guard);
}

/// Kafka: `ProducerStateManagerTest.testSequenceAndEpochInVerificationEntry`.
#[test]
fn the_lowest_sequence_of_the_highest_epoch_is_kept() {
    let mut verifications = Verifications::default();
    let waits = |verifications: &Verifications| verifications.waits_before(PRODUCER, seq(1_000));
    begin(&mut verifications, 3, 5);
    assert_eq!(waits(&verifications), Some(seq(5)));
    begin(&mut verifications, 3, 2);
    begin(&mut verifications, 3, 7);
    assert_eq!(waits(&verifications), Some(seq(2)));
    begin(&mut verifications, 4, 9);
    assert_eq!(waits(&verifications), Some(seq(9)), "of the later epoch");
    begin(&mut verifications, 3, 0);
    assert_eq!(waits(&verifications), Some(seq(9)));
}

#[test]
fn the_lowest_sequence_itself_and_what_lies_before_it_need_not_wait() {
    let mut verifications = Verifications::default();
    begin(&mut verifications, 3, i32::MAX);
    for (sequence, expected) in [(i32::MAX - 1, None), (i32::MAX, None), (0, Some(seq(i32::MAX)))] {
        assert_eq!(verifications.waits_before(PRODUCER, seq(sequence)), expected, "{sequence}");
    }
    assert_eq!(verifications.waits_before(ProducerId(8), seq(0)), None);
}

/// Kafka: `ProducerStateManagerTest.testVerificationStateEntryExpiration`.
#[test]
fn a_verification_expires_by_its_beginning_however_often_it_was_asked_for() {
    let mut verifications = Verifications::default();
    let at = |ms: u64| EngineTime(SEEN.0 + ms);
    let guard = begin(&mut verifications, 3, 0);
    verifications.begin(PRODUCER, EPOCH, seq(0), at(900));
    verifications.expire(at(999), 1_000);
    assert!(verifications.is_verified(PRODUCER, guard));
    verifications.expire(at(1_000), 1_000);
    assert!(verifications.is_empty());
}

#[test]
fn a_verification_outlives_the_expiry_of_one_that_was_used_up() {
    let mut verifications = Verifications::default();
    let other = ProducerId(8);
    verifications.begin(other, EPOCH, seq(0), SEEN);
    begin(&mut verifications, 3, 0);
    verifications.end(PRODUCER);
    let late = EngineTime(SEEN.0 + 900);
    let guard = verifications.begin(PRODUCER, EPOCH, seq(0), late);
    verifications.expire(EngineTime(SEEN.0 + 1_000), 1_000);
    assert!(verifications.is_verified(PRODUCER, guard), "it was begun anew");
}

/// Found by reading: as long as any verification was pending, and under load one always is, each transaction of a day left
/// a name behind.
#[test]
fn what_is_used_up_is_forgotten_although_others_are_pending() {
    let mut verifications = Verifications::default();
    let begin = |verifications: &mut Verifications, id, now| {
        verifications.begin(ProducerId(id), ProducerEpoch(0), Sequence::ZERO, EngineTime(now))
    };
    let waiting: Vec<_> = (0..100).map(|id| begin(&mut verifications, id, 1)).collect();
    for id in 1_000..100_000 {
        begin(&mut verifications, id, 2);
        verifications.end(ProducerId(id));
        assert!(verifications.remembered() <= 400, "{} at {id}", verifications.remembered());
    }
    for (id, guard) in (0..).zip(waiting) {
        assert!(verifications.is_verified(ProducerId(id), guard));
    }
    verifications.expire(EngineTime(101), 100);
    assert!(verifications.is_empty());
    assert_eq!(verifications.remembered(), 0);
}
