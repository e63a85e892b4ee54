//! What oncelog says of the directory that Kafka left.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oncelog::{Durability, Isolation, Log, Offset, Outcome, RawBatch, RecoveryReport};

use crate::ledger::Ledger;
use crate::plan::PRODUCERS;
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
            // Bytes that a leader may change: base offset and leader epoch.
            let (sent, stored) = (&placed.batch.bytes, &batch.bytes);
            ensure!(
                sent.get(8..12) == stored.get(8..12) && sent.get(16..) == stored.get(16..),
                "the batch at {at} is not the one that was sent"
            );
            let records = batch.records()?;
            ensure!(records.len() == placed.batch.records.len(), "{} records at {at}", records.len());
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
            at = placed.next_offset();
            batches += 1;
        }
    }
    Ok(format!("{batches} batches, {} records", ledger.end()))
}

fn windows(log: &Log, ledger: &Ledger) -> Result<String> {
    let mut retried = 0;
    for id in PRODUCERS {
        let newest = ledger.newest(id, WINDOW);
        ensure!(!newest.is_empty(), "producer {id} has written nothing");
        for placed in newest {
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
