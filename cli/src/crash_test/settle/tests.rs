use oncelog::types::{LeaderEpoch, Offset};

use super::super::batch::Kind;
use super::super::protocol::{Answer, Place};
use super::*;

const SEED: u64 = 42;

fn spec(producer: i64, first: i32) -> Spec {
    Spec { producer, epoch: 0, first, count: 2, kind: Kind::Plain }
}

fn place(spec: Spec, base: i64) -> Place {
    Place { base, last: spec.last_offset(base), timestamp: spec.timestamp(SEED) }
}

/// The batch as it stands in the log.
fn stored(spec: Spec, base: i64) -> Bytes {
    spec.stamped(SEED, Offset(base), LeaderEpoch(0)).unwrap()
}

/// A book in which these were sent by one thread, with the answers that came.
fn sent(attempts: &[(Spec, Durability, Option<Answer>)]) -> Ledger {
    let mut ledger = Ledger::new(SEED, [1, 2]);
    for (spec, durability, answer) in attempts {
        ledger.announce(Attempt {
            spec: *spec,
            lane: 0,
            durability: *durability,
            expected: Expected::Appended,
            answer: answer.clone(),
        });
    }
    ledger
}

fn appended(spec: Spec, base: i64) -> (Spec, Durability, Option<Answer>) {
    (spec, Durability::Durable, Some(Answer::Appended(place(spec, base))))
}

fn unanswered(spec: Spec) -> (Spec, Durability, Option<Answer>) {
    (spec, Durability::Buffered, None)
}

fn violations(ledger: &mut Ledger, batches: &[Bytes], loss: Loss) -> Vec<&'static str> {
    match settle(ledger, batches, loss) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(|violation| violation.what).collect(),
    }
}

fn judged(attempts: &[(Spec, Durability, Option<Answer>)], batches: &[Bytes]) -> Vec<&'static str> {
    violations(&mut sent(attempts), batches, Loss::default())
}

#[test]
fn what_was_acknowledged_and_is_there_is_taken_into_the_book() {
    let (a, b) = (spec(1, 0), spec(2, 0));
    let mut ledger = sent(&[appended(a, 0), appended(b, 2)]);
    let settled = settle(&mut ledger, &[stored(a, 0), stored(b, 2)], Loss::default()).unwrap();
    assert_eq!(settled, Settled::default());
    assert_eq!((ledger.end, ledger.log.len(), ledger.attempts.len()), (4, 2, 0));
    assert_eq!(ledger.producers[&2].newest().unwrap().base, 2);
}

#[test]
fn an_acknowledged_batch_that_is_missing_is_a_violation() {
    let a = spec(1, 0);
    assert_eq!(judged(&[appended(a, 0)], &[]), ["an acknowledged batch is missing"]);
}

#[test]
fn an_acknowledged_batch_elsewhere_is_a_violation() {
    let (a, b) = (spec(1, 0), spec(2, 0));
    let sent = [appended(b, 0), appended(a, 2)];
    assert_eq!(judged(&sent, &[stored(a, 0)]), ["a batch is not at its acknowledged offset"]);
}

#[test]
fn what_was_never_answered_may_be_there_or_not_and_is_owed_if_not() {
    let (a, b) = (spec(1, 0), spec(1, 2));
    let mut ledger = sent(&[unanswered(a), unanswered(b)]);
    let settled = settle(&mut ledger, &[stored(a, 0)], Loss::default()).unwrap();
    assert_eq!(settled.found_unanswered, 1);
    assert_eq!(ledger.producers[&1].owed, [b]);
    assert_eq!(ledger.producers[&1].next, 2);
}

#[test]
fn a_batch_twice_is_a_violation() {
    let a = spec(1, 0);
    assert_eq!(judged(&[appended(a, 0)], &[stored(a, 0), stored(a, 2)]), ["a batch is in the log twice"]);
}

#[test]
fn a_hole_in_the_offsets_is_a_violation() {
    let a = spec(1, 0);
    assert_eq!(judged(&[unanswered(a)], &[stored(a, 1)]), ["offsets are not dense"]);
}

#[test]
fn a_batch_that_nobody_sent_or_that_was_refused_is_a_violation() {
    let a = spec(1, 0);
    assert_eq!(judged(&[], &[stored(a, 0)]), ["a batch is in the log that nobody sent"]);
    let refused = (a, Durability::Durable, Some(Answer::OutOfOrder { expected: 5 }));
    assert_eq!(judged(&[refused], &[stored(a, 0)]), ["a refused batch is in the log"]);
}

#[test]
fn other_bytes_than_were_sent_are_a_violation() {
    let a = spec(1, 0);
    let other = a.stamped(SEED + 1, Offset(0), LeaderEpoch(0)).unwrap();
    assert_eq!(judged(&[unanswered(a)], &[other]), ["a batch has other bytes than were sent"]);
    let mut flipped = stored(a, 0).to_vec();
    flipped[70] ^= 1;
    assert_eq!(judged(&[unanswered(a)], &[flipped.into()]), ["a batch in the log is damaged"]);
}

#[test]
fn a_sequence_left_out_is_a_violation() {
    let (a, c) = (spec(1, 0), spec(1, 4));
    let sent = [unanswered(a), unanswered(spec(1, 2)), unanswered(c)];
    assert_eq!(judged(&sent, &[stored(a, 0), stored(c, 2)]), ["sequences are not in order"]);
}

#[test]
fn an_old_epoch_behind_a_new_one_is_a_violation() {
    let (new, old) = (Spec { epoch: 1, ..spec(1, 0) }, spec(1, 0));
    let sent = [unanswered(new), unanswered(old)];
    assert_eq!(judged(&sent, &[stored(new, 0), stored(old, 2)]), ["an old epoch is in the log"]);
}

#[test]
fn the_log_of_one_thread_is_a_prefix_of_what_it_sent() {
    let (a, b) = (spec(1, 0), spec(2, 0));
    let hole = judged(&[unanswered(a), unanswered(b)], &[stored(b, 0)]);
    assert_eq!(hole, ["the log is not a prefix of what was sent"]);
    let swapped = judged(&[unanswered(a), unanswered(b)], &[stored(b, 0), stored(a, 2)]);
    assert_eq!(swapped, ["the log is not in the order of sending"]);
}

#[test]
fn where_writes_were_made_to_fail_a_batch_can_be_missing_before_another() {
    let (a, b) = (spec(1, 0), spec(2, 0));
    let loss = Loss { failures: true, ..Loss::default() };
    assert!(violations(&mut sent(&[unanswered(a), unanswered(b)]), &[stored(b, 0)], loss).is_empty());
}

#[test]
fn a_power_cut_may_take_what_was_buffered_and_nothing_that_was_durable() {
    let (a, b) = (spec(1, 0), spec(1, 2));
    let loss = Loss { power: true, ..Loss::default() };
    let buffered = (b, Durability::Buffered, Some(Answer::Appended(place(b, 2))));
    let mut ledger = sent(&[appended(a, 0), buffered]);
    let settled = settle(&mut ledger, &[stored(a, 0)], loss).unwrap();
    assert_eq!(settled.lost_buffered, 1);
    assert_eq!(ledger.producers[&1].owed, [b], "its producer sends it again");
    let durable = violations(&mut sent(&[appended(a, 0)]), &[], loss);
    assert_eq!(durable, ["an acknowledged batch is missing"]);
}

#[test]
fn a_duplicate_that_was_acknowledged_as_durable_must_survive_like_its_original() {
    let a = spec(1, 0);
    let mut ledger = sent(&[(a, Durability::Buffered, Some(Answer::Appended(place(a, 0))))]);
    ledger.announce(Attempt {
        spec: a,
        lane: 0,
        durability: Durability::Durable,
        expected: Expected::Duplicate(None),
        answer: Some(Answer::Duplicate(place(a, 0))),
    });
    let loss = Loss { power: true, ..Loss::default() };
    assert_eq!(violations(&mut ledger, &[], loss), ["an acknowledged batch is missing"]);
}

#[test]
fn what_another_program_cut_is_forgiven_and_owed_and_what_it_wrote_must_be_there() {
    let (a, b, theirs) = (spec(1, 0), spec(1, 2), spec(7, 0));
    let loss = Loss { cut: Some(2), ..Loss::default() };
    let book = || {
        let mut ledger = sent(&[appended(a, 0), appended(b, 2)]);
        ledger.announce(Attempt {
            spec: theirs,
            lane: FOREIGN_LANE,
            durability: Durability::Durable,
            expected: Expected::Appended,
            answer: Some(Answer::Appended(place(theirs, 2))),
        });
        ledger
    };
    let mut ledger = book();
    assert!(violations(&mut ledger, &[stored(a, 0), stored(theirs, 2)], loss).is_empty());
    assert_eq!(ledger.producers[&1].owed, [b]);
    let lost = violations(&mut book(), &[stored(a, 0)], loss);
    assert_eq!(lost, ["an acknowledged batch is missing"]);
}
