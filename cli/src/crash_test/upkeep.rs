//! The child's part of the full profile: deletion, truncation, and what is known of transactions.
//!
//! Invariant: as everywhere in the child nothing is judged here, and before anything is deleted the parent hears of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::BytesMut;
use oncelog::types::{Durability, LeaderEpoch, Offset};
use oncelog::{Error, Isolation, RawBatch};

use super::child::Served;
use super::protocol::{Answer, Decided, Event, Place, Probe, Upkeep};

/// Bytes of one fetch by a reader of committed records.
const FETCH: usize = 32 << 10;
/// The longest pause between two deletions, in milliseconds.
const LONGEST_PAUSE: u64 = 8;

/// Does it and tells what came of it.
pub(super) fn serve(child: &Served, what: Upkeep) {
    let log = &child.log;
    match what {
        Upkeep::Truncate(offset) => child.emitter.send(&Event::Cut(spell(log.truncate_to(Offset(offset))))),
        Upkeep::BeginAnew(start) => {
            child.emitter.send(&Event::Cut(spell(log.truncate_fully_and_start_at(Offset(start)))));
        }
        Upkeep::Delete(to) => delete(child, to),
        Upkeep::Retain => {
            child.emitter.send(&Event::Deleting { to: log.high_watermark().0 });
            let retained = log.apply_retention().map(|_| log.log_start_offset());
            child.emitter.send(&Event::Deleted(spell(retained)));
        }
    }
}

fn delete(child: &Served, to: i64) {
    child.emitter.send(&Event::Deleting { to });
    child.emitter.send(&Event::Deleted(spell(child.log.delete_records_before(Offset(to)))));
}

/// Appends what a leader may have at the log end now. Every batch is answered, though the log answers for all at once.
pub(super) fn follow(child: &Served, batches: &[Probe]) -> Result<()> {
    let log = &child.log;
    let leader_epoch = log.leader_epochs().latest().map_or(LeaderEpoch(0), |newest| newest.epoch);
    let mut next = log.log_end_offset();
    let mut buffer = BytesMut::new();
    let mut places = Vec::new();
    for Probe { id, spec, .. } in batches {
        let place =
            Place { base: next.0, last: spec.last_offset(next.0), timestamp: spec.timestamp(child.seed) };
        buffer.extend_from_slice(&spec.stamped(child.seed, next, leader_epoch)?);
        places.push((*id, place));
        next = Offset(place.last + 1);
    }
    let durable = batches.iter().any(|batch| batch.durable);
    let durability = if durable { Durability::Durable } else { Durability::Buffered };
    let appended = log.append_as_follower(RawBatch(buffer.freeze()), durability);
    for (id, place) in places {
        let answer = match &appended {
            Ok(all) if all.last_offset.0 >= place.last => Answer::Appended(place),
            other => Answer::Failed(format!("{other:?}")),
        };
        child.emitter.send(&Event::Answer { id, answer });
    }
    child.emitter.send(&Event::ProbesDone);
    Ok(())
}

fn spell(outcome: Result<Offset, Error>) -> Result<i64, String> {
    match outcome {
        Ok(offset) => Ok(offset.0),
        Err(error @ Error::TruncationTooLow { .. }) => Err(format!("too low: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Deletes a little of what lies below `limit` again and again, while others append.
pub(super) fn delete_until(child: &Served, limit: i64, seed: u64, stop: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(!seed);
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(random.u64(..LONGEST_PAUSE)));
        let (start, end) = (child.log.log_start_offset().0, child.log.high_watermark().0.min(limit));
        if start < end {
            // A tenth of what is left at most, so that there is something left to delete.
            delete(child, start + 1 + random.i64(0..=(end - start) / 10));
        }
    }
}

/// Sends what the log says of transactions, and what a reader of committed records sees from `from` on.
pub(super) fn decide(child: &Served, from: i64) -> Result<()> {
    let log = &child.log;
    let open = log.open_transactions();
    child.emitter.send(&Event::Decided(Box::new(Decided {
        open: open.iter().map(|txn| (txn.producer.0, txn.epoch.0, txn.first_offset.0)).collect(),
        last_stable: log.last_stable_offset().0,
        first_unstable: log.first_unstable_offset().map(|offset| offset.0),
    })));
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    let mut next = from;
    while next < log.last_stable_offset().0 {
        let fetched = log.fetch(Offset(next), FETCH, Isolation::ReadCommitted)?;
        for record in fetched.records()? {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == record.offset.0 => *last = record.offset.0,
                _ => ranges.push((record.offset.0, record.offset.0)),
            }
        }
        let mut end = next;
        for batch in fetched.batches()? {
            end = batch?.header.next_offset().0;
        }
        if end <= next {
            bail!("a fetch of committed records at offset {next} shows nothing below the last stable offset");
        }
        next = end;
    }
    child.emitter.send(&Event::Committed(ranges));
    Ok(())
}
