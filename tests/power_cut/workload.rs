//! The canonical workload: everything that a log does, in a few hundred operations and always in the same order.
//!
//! Invariant: one thread, one clock that stands still unless it is moved here, no chance: two runs are equal operation
//! by operation.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use oncelog::storage::{ManualClock, MemoryStorage};
use oncelog::{Durability, Error, Log, RecoveryReport, Rejection, Sequence};

use crate::common::check::{DIR, environment_with_clock, small_config};
use crate::common::ledger::{Issued, NOW_MS, SharedLedger};

/// How many producers write.
const PRODUCERS: i64 = 10;
/// How many batches each may have in flight.
const IN_FLIGHT: usize = 5;

/// What a producer will send next.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    epoch: i16,
    next: i32,
}

/// The clients of one log, and the log.
struct Clients {
    disk: MemoryStorage,
    clock: Arc<ManualClock>,
    ledger: SharedLedger,
    log: Log,
    turns: Vec<Turn>,
}

/// Runs the workload on an empty disk. What was sent and promised stands in `ledger` at any moment.
pub(crate) fn run(disk: &MemoryStorage, ledger: &SharedLedger) -> Result<(), Error> {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let (log, _) = open(disk, &clock)?;
    let turns = vec![Turn::default(); usize::try_from(PRODUCERS).expect("a few")];
    let mut clients = Clients { disk: disk.clone(), clock, ledger: ledger.clone(), log, turns };
    for producer in 0..PRODUCERS {
        clients.five_in_flight(producer)?;
    }
    for round in 0..8_i64 {
        // Two producers a round, so that a checkpoint holds few of all.
        let (one, other) = ((2 * round) % PRODUCERS, (2 * round + 1) % PRODUCERS);
        clients.five_in_flight(one)?;
        clients.five_in_flight(other)?;
        clients.retry_a_batch_in_flight(one)?;
        clients.leave_a_gap(other)?;
        clients.append_buffered(other)?;
        match round {
            2 => clients.bump_epoch(one)?,
            3 | 6 => clients = clients.close_and_open()?,
            4 => clients.bump_epoch(other)?,
            _ => {}
        }
    }
    clients.log.close()
}

fn open(disk: &MemoryStorage, clock: &Arc<ManualClock>) -> Result<(Log, RecoveryReport), Error> {
    Log::open_with(Path::new(DIR), small_config(), environment_with_clock(disk, Arc::clone(clock)))
}

impl Clients {
    fn next_batch(&mut self, producer: i64, records: u32) -> Issued {
        let turn = &mut self.turns[usize::try_from(producer).expect("counted from 0")];
        let batch = Issued::new(producer, turn.epoch, turn.next, records);
        turn.next = batch.next().value();
        batch
    }

    /// Sends `batch` without waiting; returns its place in the ledger.
    fn submit(&self, batch: Issued, level: Durability) -> Result<usize, Error> {
        let raw = batch.raw();
        let place = self.ledger.issue(batch);
        let completion = self.log.submit(raw, level)?;
        self.ledger.expect_answer(place, level, completion);
        Ok(place)
    }

    fn five_in_flight(&mut self, producer: i64) -> Result<(), Error> {
        for number in 0..IN_FLIGHT {
            let batch = self.next_batch(producer, 1 + u32::try_from(number).expect("small") % 3);
            self.submit(batch, Durability::Durable)?;
        }
        self.log.maintain()
    }

    /// Sends two batches, and the first of them once more before anything is durable.
    fn retry_a_batch_in_flight(&mut self, producer: i64) -> Result<(), Error> {
        let (first, second) = (self.next_batch(producer, 2), self.next_batch(producer, 1));
        let again = first.raw();
        let place = self.submit(first, Durability::Durable)?;
        self.submit(second, Durability::Durable)?;
        let retry = self.log.submit(again, Durability::Durable)?;
        self.ledger.expect_answer(place, Durability::Durable, retry);
        self.log.maintain()
    }

    fn leave_a_gap(&mut self, producer: i64) -> Result<(), Error> {
        let turn = self.turns[usize::try_from(producer).expect("counted from 0")];
        let early = Issued::new(producer, turn.epoch, turn.next + 1, 1);
        let answer = self.log.append(early.raw(), Durability::Durable);
        let expected = Sequence::new(turn.next).expect("counted from 0");
        let gap = Rejection::OutOfOrder { producer: early.producer, expected, found: early.first };
        assert!(matches!(&answer, Err(Error::Rejected(rejection)) if *rejection == gap), "{answer:?}");
        Ok(())
    }

    /// Appends without a sync, then lets the time come at which the background syncs, and that of the slots.
    fn append_buffered(&mut self, producer: i64) -> Result<(), Error> {
        let batch = self.next_batch(producer, 3);
        self.submit(batch, Durability::Buffered)?;
        self.log.maintain()?;
        self.clock.advance(Duration::from_secs(1));
        self.log.maintain()?;
        self.clock.advance(Duration::from_secs(1));
        self.log.maintain()
    }

    fn bump_epoch(&mut self, producer: i64) -> Result<(), Error> {
        let turn = &mut self.turns[usize::try_from(producer).expect("counted from 0")];
        *turn = Turn { epoch: turn.epoch + 1, next: 0 };
        self.five_in_flight(producer)
    }

    fn close_and_open(self) -> Result<Self, Error> {
        let Self { disk, clock, ledger, log, turns } = self;
        log.close()?;
        let (log, _) = open(&disk, &clock)?;
        Ok(Self { disk, clock, ledger, log, turns })
    }
}
