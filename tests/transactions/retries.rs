//! Retries of batches whose transaction has ended.

use oncelog::{EndTxn, Outcome, ProducerId, Rejection, Sequence};

use crate::world::{End, World, txn};

fn sequence(value: i32) -> Sequence {
    Sequence::new(value).unwrap()
}

/// Every way from the abort to the retry: in the same life, and through each end of it, with and without a checkpoint.
fn through_every_end(mut prepare: impl FnMut(&World), mut ask: impl FnMut(&World, &str)) {
    let world = World::new();
    prepare(&world);
    ask(&world, "same life");
    for end in End::ALL {
        for checkpoint in [false, true] {
            let mut world = World::new();
            prepare(&world);
            if checkpoint {
                world.log().checkpoint().unwrap();
            }
            for _ in 0..2 {
                world.restart(end);
                ask(&world, &format!("{end:?}, checkpoint: {checkpoint}"));
            }
        }
    }
}

#[test]
fn a_retry_of_an_aborted_batch_is_never_answered_a_success() {
    through_every_end(
        |world| {
            for first in 0..7 {
                world.add(txn(1, 0, first, 1));
            }
            world.end(1, 0, EndTxn::Abort);
        },
        |world, how| {
            for first in 2..7 {
                let expected = Rejection::AbortedRetry {
                    producer: ProducerId(1),
                    expected: sequence(7),
                    found: sequence(first),
                };
                assert_eq!(world.rejection(txn(1, 0, first, 1)), expected, "{how}");
            }
            for first in 0..2 {
                let expected = Rejection::SequenceUnknown {
                    producer: ProducerId(1),
                    expected: sequence(7),
                    found: sequence(first),
                };
                assert_eq!(world.rejection(txn(1, 0, first, 1)), expected, "older than the window, {how}");
            }
        },
    );
}

#[test]
fn a_retry_of_a_committed_or_open_batch_is_a_duplicate_with_its_first_offset() {
    through_every_end(
        |world| {
            world.add(txn(1, 0, 0, 2));
            world.end(1, 0, EndTxn::Abort);
            world.add(txn(1, 0, 2, 2));
            world.end(1, 0, EndTxn::Commit);
            world.add(txn(1, 0, 4, 2));
        },
        |world, how| {
            for (first, offset) in [(2, 3), (4, 6)] {
                let answer = world.append(txn(1, 0, first, 2)).unwrap();
                assert_eq!(answer.outcome, Outcome::Duplicate, "{how}");
                assert_eq!(answer.base_offset.map(|base| base.0), Some(offset), "{how}");
            }
            assert_eq!(world.rejection(txn(1, 0, 0, 2)).kafka_code(), 45, "{how}");
            assert_eq!(world.open_txns(), [(1, 6)], "a retry begins nothing, {how}");
        },
    );
}

#[test]
fn what_was_aborted_is_not_proven_by_what_is_committed_behind_it() {
    through_every_end(
        |world| {
            world.add(txn(1, 0, 0, 1));
            world.end(1, 0, EndTxn::Abort);
            for first in 1..8 {
                world.add(txn(1, 0, first, 1));
            }
            world.end(1, 0, EndTxn::Commit);
        },
        |world, how| {
            for first in 1..3 {
                let answer = world.append(txn(1, 0, first, 1)).unwrap();
                assert_eq!(answer.outcome, Outcome::DuplicateBeyondWindow, "{how}");
            }
            let aborted = world.rejection(txn(1, 0, 0, 1));
            let (expected, found) = (sequence(8), sequence(0));
            assert_eq!(
                aborted,
                Rejection::SequenceUnknown { producer: ProducerId(1), expected, found },
                "{how}"
            );
        },
    );
}
