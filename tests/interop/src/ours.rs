//! What oncelog says of the directory that Kafka left.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oncelog::{Durability, Isolation, Log, Offset, Outcome, RawBatch, RecoveryReport};

use crate::ledger::{Aborted, Ledger, Level};
use crate::plan::{PRODUCERS, TRANSACTIONAL};
use crate::verdicts::Verdicts;
use crate::writer;

/// The window that a broker keeps of each producer.
const WINDOW: usize = 5;

/// How oncelog leaves the directory afterwards.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Closed,
    AsAfterACrash,
}

/// Opens the log and compares everything in it with the ledger.
pub(crate) fn visit(partition: &Path, ledger: &Ledger, leave: Leave, verdicts: &mut Verdicts) -> Result<()> {
    let (log, report) = Log::open(partition, writer::config()).context("oncelog opens what Kafka left")?;
    verdicts.judge("oncelog opens it and cuts nothing", nothing_was_cut(&report));
    verdicts.judge("the log ends where it must", the_end(&log, ledger));
    verdicts.judge("every batch and record is there", all_records(&log, ledger));
    verdicts.judge("a reader of committed records gets those, and no other", committed(&log, ledger));
    verdicts.judge(
        "the last five batches of every producer are answered Duplicate with their first offsets",
        windows(&log, ledger),
    );
    verdicts.judge("these retries have written nothing", the_end(&log, ledger));
    if leave == Leave::Closed {
        log.close()?;
    }
    Ok(())
}

/// Opens the log after its writer was killed, which decides what was written.
pub(crate) fn settle(partition: &Path, ledger: &mut Ledger, verdicts: &mut Verdicts) -> Result<()> {
    let (log, _) = Log::open(partition, writer::config()).context("oncelog opens what it left itself")?;
    let end = log.log_end_offset().0;
    let settled = ledger.settle(end).map(|more| format!("offset {end}, {more} batches nobody was told of"));
    verdicts.judge("every acknowledged batch is there, up to the border of a batch", settled);
    Ok(())
}

fn nothing_was_cut(report: &RecoveryReport) -> Result<String> {
    // Temporary files and runs that no manifest names are none of the log.
    let segments = report.deleted.iter().filter(|name| name.ends_with(".log")).count();
    ensure!(report.cuts.is_empty() && segments == 0 && !report.salvaged, "{report}");
    Ok(format!("{:?}, {} bytes replayed", report.kind, report.replayed_bytes))
}

fn the_end(log: &Log, ledger: &Ledger) -> Result<String> {
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    ensure!((start, end) == (0, ledger.end()), "{start} to {end}, expected 0 to {}", ledger.end());
    Ok(format!("offset {end}"))
}

fn all_records(log: &Log, ledger: &Ledger) -> Result<String> {
    let mut expected = ledger.batches().iter();
    let mut at = 0;
    let mut batches = 0;
    while at < ledger.end() {
        let fetched = log.fetch(Offset(at), 1 << 20, Isolation::LogEnd)?;
        ensure!(!fetched.is_empty(), "nothing can be read at {at}");
        for batch in fetched.batches()? {
            let batch = batch?;
            let placed = expected.next().context("more batches than were written")?;
            ensure!(
                batch.header.base_offset.0 == placed.base_offset,
                "a batch begins at {}, expected {}",
                batch.header.base_offset,
                placed.base_offset
            );
            at = placed.next_offset();
            batches += 1;
            if let Some(marker) = placed.batch.marker {
                let record = batch.records()?.into_iter().next().context("a marker without a record")?;
                // Version 0, then 0 for an abort and 1 for a commit.
                let same = batch.header.attributes.is_control()
                    && batch.header.producer_id == marker.id
                    && batch.header.producer_epoch == marker.epoch
                    && record.key.as_deref() == Some(&[0, 0, 0, u8::from(marker.commits)]);
                ensure!(same, "the marker at {} is not the one that was ordered", placed.base_offset);
                continue;
            }
            // Bytes that a leader may change: base offset and leader epoch.
            let (sent, stored) = (&placed.batch.bytes, &batch.bytes);
            ensure!(
                sent.get(8..12) == stored.get(8..12) && sent.get(16..) == stored.get(16..),
                "the batch at {} is not the one that was sent",
                placed.base_offset
            );
            let records = batch.records()?;
            ensure!(
                records.len() == placed.batch.records.len(),
                "{} records at {}",
                records.len(),
                placed.base_offset
            );
            for (offset, (record, given)) in
                (placed.base_offset..).zip(records.iter().zip(&placed.batch.records))
            {
                let same = record.offset.0 == offset
                    && record.timestamp == given.timestamp
                    && record.key.as_deref() == given.key.as_deref()
                    && record.value.as_deref() == given.value.as_deref()
                    && record.headers.len() == usize::from(given.header.is_some());
                ensure!(same, "record {offset} is not the one that was sent");
            }
        }
    }
    Ok(format!("{batches} batches, {} records", ledger.end()))
}

fn committed(log: &Log, ledger: &Ledger) -> Result<String> {
    let (owed, end) = ledger.records(Level::Committed);
    ensure!(log.last_stable_offset().0 == end, "it ends at {}, expected {end}", log.last_stable_offset());
    let open: Vec<_> =
        log.open_transactions().iter().map(|txn| (txn.producer.0, txn.first_offset.0)).collect();
    let mut expected: Vec<_> =
        TRANSACTIONAL.iter().filter_map(|&id| Some((id, ledger.open_since(id)?))).collect();
    expected.sort_by_key(|(_, first_offset)| *first_offset);
    ensure!(open == expected, "open are {open:?}, expected {expected:?}");
    let mut owed = owed.into_iter();
    let (mut at, mut count) = (0, 0);
    while at < end {
        let fetched = log.fetch(Offset(at), 1 << 20, Isolation::ReadCommitted)?;
        for record in fetched.records()? {
            let (offset, given) = owed.next().context("more records than are owed")?;
            let same = record.offset.0 == offset && record.value.as_deref() == given.value.as_deref();
            ensure!(same, "record {} instead of {offset}", record.offset);
            count += 1;
        }
        let last = fetched.batches()?.last().with_context(|| format!("nothing can be read at {at}"))??;
        at = last.header.next_offset().0;
    }
    ensure!(owed.next().is_none(), "fewer records than are owed");
    Ok(format!("{count} records up to offset {end}, {} transactions open", open.len()))
}

fn windows(log: &Log, ledger: &Ledger) -> Result<String> {
    let mut retried = 0;
    let aborted = ledger.aborted();
    for id in PRODUCERS.into_iter().chain(TRANSACTIONAL) {
        let newest = ledger.newest(id, WINDOW);
        ensure!(!newest.is_empty(), "producer {id} has written nothing");
        for placed in newest {
            let within = |txn: &Aborted| (txn.first_offset..txn.last_offset).contains(&placed.base_offset);
            if aborted.iter().any(|txn| txn.id == id && within(txn)) {
                // Such a retry is refused: the records do not count.
                continue;
            }
            let batch = RawBatch(placed.batch.bytes.clone());
            match log.append(batch, Durability::Durable) {
                Ok(answer)
                    if answer.outcome == Outcome::Duplicate
                        && answer.base_offset == Some(Offset(placed.base_offset))
                        && answer.last_offset.0 + 1 == placed.next_offset() =>
                {
                    retried += 1;
                }
                Ok(answer) => bail!("producer {id}, batch at {}: {answer:?}", placed.base_offset),
                Err(error) => bail!("producer {id}, batch at {}: {error}", placed.base_offset),
            }
        }
    }
    Ok(format!("{retried} retries"))
}
