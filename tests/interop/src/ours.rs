//! What oncelog says of the directory that Kafka left.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oncelog::{
    Durability, FetchedBatch, Isolation, Log, Offset, Outcome, OwnedRecord, RawBatch, RecoveryReport,
};

use crate::ledger::{Aborted, Ledger, Level, Placed};
use crate::plan::{PRODUCERS, Record, TRANSACTIONAL};
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

/// Takes the end of the log back, then deletes its beginning, and closes it.
pub(crate) fn cut(partition: &Path, ledger: &mut Ledger, verdicts: &mut Verdicts) -> Result<()> {
    let (log, _) = Log::open(partition, writer::config()).context("oncelog opens what it left itself")?;
    // A log without its beginning can be cut down to its older checkpoint at most; where that is, depends on the time that
    // the writer took.
    let back = if ledger.start() == 0 { 60 } else { 0 };
    let end = ledger.border_before(ledger.end() - back);
    let cut = log.truncate_to(Offset(end))?;
    ledger.cut(end);
    let start = ledger.last_stable_offset().min(ledger.end() / 3);
    let started = log.delete_records_before(Offset(start))?;
    ledger.delete(start);
    let same = (cut, started) == (Offset(end), Offset(start));
    let found = format!("{started} to {cut}");
    verdicts.judge(
        "oncelog cuts its log at both ends",
        if same { Ok(found) } else { Err(anyhow::anyhow!("{found}, expected {start} to {end}")) },
    );
    log.close()?;
    Ok(())
}

/// Compacts the log, and closes it.
pub(crate) fn compact(partition: &Path, ledger: &mut Ledger, verdicts: &mut Verdicts) -> Result<()> {
    let (log, _) = Log::open(partition, writer::compacting()).context("oncelog opens what it left itself")?;
    // What is to be compacted must lie below a checkpoint.
    log.checkpoint()?;
    let compacted = log.compact()?.context("nothing to compact")?;
    ledger.compact(compacted.to.0);
    let said = format!("{compacted:?}");
    let verdict =
        if compacted.bytes_after < compacted.bytes_before { Ok(said) } else { Err(anyhow::anyhow!(said)) };
    verdicts.judge("oncelog compacts its log", verdict);
    log.close()?;
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
    let expected = (ledger.start(), ledger.end());
    ensure!((start, end) == expected, "{start} to {end}, expected {expected:?}");
    Ok(format!("offset {end}"))
}

fn all_records(log: &Log, ledger: &Ledger) -> Result<String> {
    let mut read = Vec::new();
    let mut at = ledger.start();
    let mut batches = 0;
    while at < ledger.end() {
        let fetched = log.fetch(Offset(at), 1 << 20, Isolation::LogEnd)?;
        ensure!(!fetched.is_empty(), "nothing can be read at {at}");
        for batch in fetched.batches()? {
            let batch = batch?;
            let placed = ledger.at(batch.header.base_offset.0)?;
            same_batch(&batch, placed, ledger.compacted())?;
            let begins_at = if ledger.compacted() > 0 { at } else { placed.base_offset };
            ensure!(begins_at <= placed.base_offset, "a batch at {} instead of {at}", placed.base_offset);
            if at > ledger.start() && at >= ledger.compacted() {
                ensure!(placed.base_offset == at, "a batch at {} instead of {at}", placed.base_offset);
            }
            at = placed.next_offset();
            batches += 1;
            if placed.batch.marker.is_none() {
                read.extend(batch.records()?.into_iter().map(|record| (record.offset.0, told(&record))));
            }
        }
    }
    read.retain(|(offset, _)| *offset >= ledger.start());
    let missing = ledger.judge_read(Level::All, &read, |_, record| given(record))?;
    Ok(format!("{batches} batches, {} records, {missing} were compacted away", read.len()))
}

/// A record in words that both sides have.
type Told = (i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

fn told(record: &OwnedRecord) -> Told {
    let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    (record.timestamp, bytes(&record.key), bytes(&record.value), record.headers.len())
}

fn given(record: &Record) -> Told {
    (record.timestamp, record.key.clone(), record.value.clone(), usize::from(record.header.is_some()))
}

fn same_batch(batch: &FetchedBatch, placed: &Placed, compacted: i64) -> Result<()> {
    let at = placed.base_offset;
    let header = &batch.header;
    ensure!(header.next_offset().0 == placed.next_offset(), "the batch at {at} ends elsewhere");
    let emptied = header.record_count == 0 && at < compacted;
    if let Some(marker) = placed.batch.marker {
        let record = batch.records()?.into_iter().next();
        // Version 0, then 0 for an abort and 1 for a commit.
        let key = [0, 0, 0, u8::from(marker.commits)];
        let same = header.attributes.is_control()
            && header.producer_id == marker.id
            && header.producer_epoch == marker.epoch
            && (emptied || record.is_some_and(|record| record.key.as_deref() == Some(&key)));
        ensure!(same, "the marker at {at} is not the one that was ordered");
        return Ok(());
    }
    if at < compacted {
        // Records are compared one by one.
        return Ok(());
    }
    // Bytes that a leader may change: base offset and leader epoch.
    let (sent, stored) = (&placed.batch.bytes, &batch.bytes);
    ensure!(
        sent.get(8..12) == stored.get(8..12) && sent.get(16..) == stored.get(16..),
        "the batch at {at} is not the one that was sent"
    );
    Ok(())
}

fn committed(log: &Log, ledger: &Ledger) -> Result<String> {
    let end = ledger.last_stable_offset();
    ensure!(log.last_stable_offset().0 == end, "it ends at {}, expected {end}", log.last_stable_offset());
    let open: Vec<_> =
        log.open_transactions().iter().map(|txn| (txn.producer.0, txn.first_offset.0)).collect();
    let mut expected: Vec<_> =
        TRANSACTIONAL.iter().filter_map(|&id| Some((id, ledger.open_since(id)?))).collect();
    expected.sort_by_key(|(_, first_offset)| *first_offset);
    ensure!(open == expected, "open are {open:?}, expected {expected:?}");
    let mut read = Vec::new();
    let mut at = ledger.start();
    while at < end {
        let fetched = log.fetch(Offset(at), 1 << 20, Isolation::ReadCommitted)?;
        read.extend(fetched.records()?.into_iter().map(|record| (record.offset.0, told(&record))));
        let last = fetched.batches()?.last().with_context(|| format!("nothing can be read at {at}"))??;
        at = last.header.next_offset().0;
    }
    read.retain(|(offset, _)| *offset >= ledger.start());
    ledger.judge_read(Level::Committed, &read, |_, record| given(record))?;
    Ok(format!("{} records up to offset {end}, {} transactions open", read.len(), open.len()))
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
