//! The engine against a naive model (`model.rs`): random histories of appends, retries, gaps, overlaps, fenced
//! and unknown producers, transactions, deletions, truncations, compactions, failing disks, reads, checkpoints, clean and unclean restarts and power
//! cuts. Every answer, every fetched
//! byte and the whole producer state are the model's, before and after every restart.
//!
//! Segments, indexes and checkpoints are tiny, so that a history of some dozen operations rolls, writes deltas and
//! merges them. One thread, simulated disk and clock: a failing history fails again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

mod checks;
mod cuts;
mod failures;
mod model;
mod operation;
mod readers;
mod rules;
mod world;

use oncelog::{Cleanup, Durability, EndTxn, TransactionVersion, UnknownProducerPolicy};
use proptest::prelude::*;

use Durability::{Buffered, Durable};
use operation::{Operation, cleanup, operation, policy};
use world::World;

/// Plays a history, and at its end a clean close, a kill and a power cut.
fn play(policy: UnknownProducerPolicy, operations: &[Operation]) {
    play_on(World::new(policy, Cleanup::Delete), operations);
}

fn play_on(mut world: World, operations: &[Operation]) {
    for operation in operations {
        world.run(*operation);
    }
    for last in [Operation::Crash, Operation::Reopen, Operation::PowerCut { seed: 0 }] {
        world.run(last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 400,
        max_shrink_iters: 4096,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_answer_is_the_models_before_and_after_every_restart(
        policy in policy(),
        cleanup in cleanup(),
        operations in prop::collection::vec(operation(), 1..90),
    ) {
        play_on(World::new(policy, cleanup), &operations);
    }
}

// Histories that went wrong once.

const fn next(records: u8) -> Operation {
    Operation::Next { producer: 0, records, durability: Buffered, wait: false }
}

/// A base judged a producer by its entry in the runs, although it had written since: after a kill, all that was known
/// of it began behind the new base.
#[test]
fn a_producer_that_wrote_since_is_not_expired_by_its_older_entry() {
    let other = Operation::Next { producer: 1, records: 1, durability: Buffered, wait: false };
    let mut history = vec![next(3), Operation::Checkpoint, Operation::ClockAdvance { minutes: 59 }];
    // Enough for a roll, which freezes the other's entry; the producer's own batch comes behind it.
    history.extend([other; 7]);
    history.extend([next(1), Operation::ClockAdvance { minutes: 1 }, Operation::Maintain]);
    play(UnknownProducerPolicy::Reject, &history);
}

/// A power cut left a batch right behind the durable end whose first bytes were those of an older sector. They stand
/// outside of the CRC, so its header parsed, and the log was refused.
#[test]
fn a_batch_with_a_torn_base_offset_right_behind_the_watermark_is_cut() {
    let plain = |records| Operation::Plain { records, durability: Buffered };
    let history = [
        plain(4),
        next(4),
        Operation::Maintain,
        plain(1),
        Operation::Crash,
        next(1),
        next(1),
        Operation::PowerCut { seed: 3_898_783_868_963_910_522 },
    ];
    play(UnknownProducerPolicy::Reject, &history);
}

/// A checkpoint wrote what the last roll had frozen, and nothing of what was appended since.
#[test]
fn a_checkpoint_that_is_asked_for_after_a_roll_reaches_the_log_end() {
    let mut history = vec![next(1); 13];
    history.push(Operation::Checkpoint);
    play(UnknownProducerPolicy::Reject, &history);
}

/// A close wrote what the last roll had frozen; batches without a producer behind it were read by the next open.
#[test]
fn a_clean_open_reads_no_batch_even_if_only_plain_ones_follow_a_roll() {
    let mut history = vec![next(1); 5];
    history.extend([Operation::Plain { records: 3, durability: Buffered }; 2]);
    history.push(Operation::Reopen);
    play(UnknownProducerPolicy::Reject, &history);
}

const fn of(producer: u8, records: u8) -> Operation {
    Operation::Next { producer, records, durability: Buffered, wait: false }
}

const fn transactional(producer: u8, records: u8) -> Operation {
    Operation::Transactional { producer, records, durability: Buffered }
}

/// A cut at the beginning of a segment, where a checkpoint ended, made the segment before it the last one again without
/// its aborted transactions: readers of committed records saw what had been aborted.
#[test]
fn the_aborted_transactions_of_a_segment_that_is_the_last_again_are_still_told() {
    let mut history = vec![transactional(0, 2), transactional(0, 3), end(0, Buffered)];
    history.extend([of(1, 1); 3]);
    history.extend([Operation::Checkpoint, of(1, 1), of(1, 1), Operation::Maintain]);
    for back in 0..6 {
        let mut history = history.clone();
        history.push(Operation::Truncate { back });
        play(UnknownProducerPolicy::Reject, &history);
    }
}

/// After a cut down to offset 0 the answer to an unknown producer was another one before the next restart than behind it.
#[test]
fn a_log_that_was_cut_down_to_nothing_was_never_written() {
    let history = [
        transactional(0, 2),
        Operation::Truncate { back: 1 },
        Operation::Gap { producer: 0, by: 1, records: 1 },
    ];
    play(UnknownProducerPolicy::ZeroOnNeverWritten, &history);
}

const fn end(producer: u8, durability: Durability) -> Operation {
    Operation::End {
        producer,
        outcome: EndTxn::Abort,
        version: TransactionVersion::One,
        epoch_by: 0,
        coordinator_by: 0,
        durability,
    }
}

/// A chain that ended where compaction had ended was not taken for one of this log, because the batch before it had been
/// written anew: a truncation above it was refused as damage.
#[test]
fn a_log_is_cut_above_the_end_of_a_chain_and_of_a_compaction() {
    let history = [
        end(0, Buffered),
        transactional(1, 1),
        of(2, 3),
        of(2, 4),
        transactional(1, 3),
        end(2, Buffered),
        end(0, Buffered),
        Operation::EpochBump { producer: 0, by: 1, first: 0 },
        Operation::Retry { back: 0, durability: Buffered },
        of(2, 1),
        end(0, Buffered),
        end(1, Buffered),
        of(0, 4),
        of(0, 2),
        end(0, Durable),
        end(0, Buffered),
        Operation::Compact,
        of(0, 3),
        Operation::Plain { records: 3, durability: Durable },
        Operation::Compact,
        Operation::Truncate { back: 1 },
    ];
    play_on(World::new(UnknownProducerPolicy::Reject, Cleanup::Compact), &history);
}

/// A run that was made at the beginning of a segment names no batch. Once a cut had taken the segment away, nobody knew
/// where the run ended: it was dropped, and a log without its beginning would have been refused.
#[test]
fn a_run_that_ends_at_a_segment_that_was_cut_away_is_used_by_the_next_open() {
    let bump = Operation::EpochBump { producer: 0, by: 1, first: 0 };
    let plain = Operation::Plain { records: 1, durability: Buffered };
    let history = [
        bump,
        of(0, 1),
        plain,
        end(0, Buffered),
        bump,
        plain,
        bump,
        Operation::Truncate { back: 1 },
        of(0, 4),
        transactional(0, 3),
        Operation::Truncate { back: 4 },
        Operation::Maintain,
        of(0, 2),
        of(0, 1),
        transactional(0, 2),
        Operation::Truncate { back: 5 },
        Operation::Checkpoint,
    ];
    play(UnknownProducerPolicy::Reject, &history);
}
