use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::compaction::{Cleanup, CompactionConfig};
use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::log::{Background, EndTransaction, Environment, Log, LogConfig};
use crate::producer::{EndTxn, TransactionVersion};
use crate::storage::{ManualClock, MemoryStorage};
use crate::types::{CoordinatorEpoch, Durability, ProducerEpoch, ProducerId, Sequence};

const PRODUCER: (ProducerId, ProducerEpoch) = (ProducerId(1), ProducerEpoch(0));

struct World {
    clock: Arc<ManualClock>,
    log: Log,
}

/// A log whose first segment has an aborted transaction, and whose later ones have other keys.
fn world() -> World {
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let config = LogConfig {
        background: Background::Caller,
        segment_bytes: 400,
        preallocate_bytes: 0,
        verify_transactions: false,
        cleanup: Cleanup::Compact,
        compaction: CompactionConfig { delete_retention_ms: 0, ..CompactionConfig::default() },
        ..LogConfig::default()
    };
    let environment = Environment {
        storage: Arc::new(MemoryStorage::new()),
        clock: Arc::<ManualClock>::clone(&clock),
        ..Environment::default()
    };
    let log = Log::open_with(Path::new("/data/t-0"), config, environment).unwrap().0;
    let world = World { clock, log };
    world.append(batch(0, "k").transactional());
    let end = EndTransaction {
        producer: PRODUCER.0,
        epoch: PRODUCER.1,
        coordinator_epoch: CoordinatorEpoch(5),
        outcome: EndTxn::Abort,
        version: TransactionVersion::One,
    };
    world.log.end_transaction(end, Durability::Durable).unwrap();
    for n in 1..12 {
        world.append(batch(n, &format!("key {n}")));
    }
    world
}

fn batch(sequence: i32, key: &str) -> BatchBuilder {
    BatchBuilder::new().producer(PRODUCER.0, PRODUCER.1, Sequence::new(sequence).unwrap()).record_at(
        1_700_000_000_000,
        Some(key.as_bytes()),
        Some(&[7; 60]),
    )
}

impl World {
    fn append(&self, batch: BatchBuilder) {
        self.log.append(RawBatch(batch.build().unwrap()), Durability::Durable).unwrap();
    }

    /// The place of the batch at the log start, as a fetch finds it.
    fn first_place(&self) -> Place {
        let shared = &self.log.shared;
        let bound = shared.bound(Isolation::ReadCommitted).unwrap();
        let view = shared.view.read().clone();
        shared.place(&view, shared.log_start_offset(), &bound, 1).unwrap()
    }

    fn aborted_in(&self, place: &Place) -> Option<usize> {
        let listed = self.log.shared.aborted_in(place, Offset(0)).unwrap();
        listed.map(|listed| listed.len())
    }
}

#[test]
fn a_file_of_before_a_round_of_compaction_is_not_read_with_the_list_of_after_it() {
    let world = world();
    let place = world.first_place();
    assert_eq!(place.first.unwrap().record_count, 1, "the aborted record");
    assert_eq!(world.aborted_in(&place), Some(1));
    // The first round takes the record; a later one the marker, and with it the entry of the list.
    for round in 0..4 {
        world.log.compact().unwrap().unwrap();
        for n in 0..5 {
            world.append(batch(12 + round * 5 + n, &format!("key {round} {n}")));
        }
        world.clock.advance(Duration::from_millis(10));
    }
    let of_now = world.log.shared.collect_aborted(place.segment, Offset(0), place.end).unwrap();
    assert_eq!(of_now, [], "by the list of now the old file's record would be shown");
    assert_eq!(world.aborted_in(&place), None);
    let fetched = world.log.fetch(Offset(0), 1, Isolation::ReadCommitted).unwrap();
    let offsets: Vec<_> = fetched.records().unwrap().iter().map(|record| record.offset).collect();
    assert!(!offsets.contains(&Offset(0)), "{offsets:?}");
}

#[test]
fn a_segment_that_was_released_is_found_anew_and_answers_the_same() {
    let world = world();
    let place = world.first_place();
    world.log.checkpoint().unwrap();
    world.log.release_sealed();
    assert_eq!(world.aborted_in(&place), None, "nobody knows whether it is the same file");
    assert_eq!(world.aborted_in(&world.first_place()), Some(1));
}

/// The place of a bound is one in the file that stood there. In the one that compaction has put in its place another batch
/// begins there, or none: a reader that was stopped in between was told that the log is damaged.
#[test]
fn a_bound_whose_segment_was_compacted_since_is_taken_anew() {
    let world = world();
    let shared = &world.log.shared;
    for isolation in [Isolation::LogEnd, Isolation::HighWatermark, Isolation::ReadCommitted] {
        let end = shared.log_end_offset();
        let next = i32::try_from(end.0).unwrap() - 1;
        world.append(batch(next, "key"));
        let (bound, view) = shared.shown(isolation).unwrap();
        assert_eq!(bound.offset, end.saturating_add(1));
        (1..12).for_each(|n| world.append(batch(next + n, "key")));
        assert!(shared.still_bounds(&bound, &view, isolation), "what was there then is there");
        world.log.compact().unwrap().unwrap();
        let view = shared.view.read().clone();
        let misread = shared.place(&view, end, &bound, 1);
        assert!(matches!(misread.map(drop), Err(Error::Corrupt(_))), "a sound log, by the bound of before");
        assert!(!shared.still_bounds(&bound, &view, isolation), "{isolation:?}");
    }
}

/// A list is opened by name when it is first asked for. Compaction pins the segments that the log has, not those that it
/// let go of before, which somebody may still ask: what was aborted was shown as committed, or a sound list called damaged.
#[test]
fn a_list_of_aborted_transactions_is_not_taken_from_a_segment_that_the_log_has_let_go_of() {
    let world = world();
    let shared = &world.log.shared;
    let release = || {
        world.log.checkpoint().unwrap();
        world.log.release_sealed();
    };
    release();
    let view = shared.view.read().clone();
    let listed = |view| shared.aborted_listed_in(view, Offset(0), Offset(0), Offset(2)).unwrap();
    // Opens the segments, but not their lists.
    world.log.fetch(Offset(0), 1, Isolation::LogEnd).unwrap();
    release();
    world.log.compact().unwrap().unwrap();
    assert_eq!(listed(&view), None, "its names mean other files");
    assert_eq!(listed(&shared.view.read().clone()).map(|listed| listed.len()), Some(1));
}
