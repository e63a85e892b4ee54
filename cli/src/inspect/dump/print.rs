//! The same for people.

use std::io::Write;

use super::content::{Content, FileDump};
use crate::inspect::Failure;
use crate::inspect::json::{Batch, Damage, Producer, Record, Segment};
use crate::inspect::text::{maybe_number, number, or_dash, span, table};

/// Prints a file under its name.
pub(super) fn file(out: &mut impl Write, dump: &FileDump) -> Result<(), Failure> {
    writeln!(out, "{}: {} bytes", dump.file, dump.size)?;
    content(out, &dump.content)?;
    if let Some(found) = &dump.damage {
        damage(out, found)?;
    }
    writeln!(out)?;
    Ok(())
}

fn content(out: &mut impl Write, content: &Content) -> Result<(), Failure> {
    match content {
        Content::Log { segment } => self::segment(out, segment),
        Content::Index { index, zero_bytes, .. } => {
            let mut rows = table(["last offset", "position"]);
            rows.add_rows(index.iter().map(|(offset, position)| [number(offset), number(position)]));
            writeln!(out, "{rows}")?;
            padding(out, *zero_bytes)
        }
        Content::TimeIndex { timeindex, zero_bytes, .. } => {
            let mut rows = table(["timestamp", "last offset"]);
            rows.add_rows(timeindex.iter().map(|(timestamp, offset)| [number(timestamp), number(offset)]));
            writeln!(out, "{rows}")?;
            padding(out, *zero_bytes)
        }
        Content::TxnIndex { aborted_txns } => {
            let mut rows = table(["producer", "first offset", "last offset", "last stable offset"]);
            for txn in aborted_txns {
                let numbers = [txn.producer_id, txn.first_offset, txn.last_offset, txn.last_stable_offset];
                rows.add_row(numbers.map(number));
            }
            writeln!(out, "{rows}")?;
            Ok(())
        }
        Content::Snapshot { snapshot } => self::snapshot(out, snapshot),
        Content::Run { run } => run.as_deref().map_or(Ok(()), |run| self::run(out, run)),
        Content::LeaderEpochs { leader_epochs } => {
            let mut rows = table(["leader epoch", "first offset"]);
            rows.add_rows(
                leader_epochs.iter().map(|start| [number(start.epoch), number(start.start_offset)]),
            );
            writeln!(out, "{rows}")?;
            Ok(())
        }
        Content::Topic { topic_id } => Ok(writeln!(out, "topic id {}", or_dash(topic_id.as_ref()))?),
        Content::Text { text } => Ok(writeln!(out, "{}", text.trim_end())?),
        // Names and values say all: no table is plainer.
        Content::Manifest { manifest } => manifest.as_ref().map_or(Ok(()), |manifest| plain(out, manifest)),
        Content::Watermark { watermark } => plain(out, watermark),
        Content::RootCheckpoint { partitions } => plain(out, partitions),
    }
}

fn plain(out: &mut impl Write, value: &impl serde::Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

fn padding(out: &mut impl Write, zero_bytes: u64) -> Result<(), Failure> {
    if zero_bytes > 0 {
        writeln!(out, "{zero_bytes} bytes of zeros behind the entries")?;
    }
    Ok(())
}

fn damage(out: &mut impl Write, damage: &Damage) -> Result<(), Failure> {
    let Damage { file, bytes, what, expected, found, .. } = damage;
    writeln!(
        out,
        "DAMAGED: {file} bytes {}..{}: {what}: expected {expected}, found {found}",
        bytes[0], bytes[1]
    )?;
    Ok(())
}

fn segment(out: &mut impl Write, segment: &Segment) -> Result<(), Failure> {
    let mut rows = table([
        "offsets",
        "records",
        "position",
        "size",
        "producer",
        "epoch",
        "sequences",
        "leader",
        "codec",
        "kind",
        "max timestamp",
        "CRC",
    ]);
    for batch in &segment.batches {
        rows.add_row([
            number(span(batch.base_offset, batch.last_offset)),
            number(batch.count),
            number(batch.position),
            number(batch.size),
            maybe_number(Some(batch.producer_id).filter(|id| *id >= 0)),
            maybe_number(Some(batch.producer_epoch).filter(|epoch| *epoch >= 0)),
            maybe_number((batch.base_sequence >= 0).then(|| span(batch.base_sequence, batch.last_sequence))),
            number(batch.partition_leader_epoch),
            batch.compresscodec.into(),
            kind(batch).into(),
            number(batch.max_timestamp()),
            if batch.isvalid { format!("{:08x}", batch.crc) } else { format!("{:08x} WRONG", batch.crc) }
                .into(),
        ]);
    }
    writeln!(out, "{rows}")?;
    for batch in &segment.batches {
        if let Some(records) = &batch.records {
            self::records(out, batch, records)?;
        }
    }
    for found in &segment.damage {
        damage(out, found)?;
    }
    Ok(())
}

fn kind(batch: &Batch) -> String {
    let mut words = Vec::new();
    if batch.is_control {
        words.push("control");
    } else if batch.is_transactional {
        words.push("transactional");
    }
    if batch.delete_horizon_ms.is_some() {
        words.push("delete horizon");
    }
    if words.is_empty() { "data".to_owned() } else { words.join(", ") }
}

fn records(out: &mut impl Write, batch: &Batch, records: &[Record]) -> Result<(), Failure> {
    writeln!(out, "records of the batch at offset {}", batch.base_offset)?;
    let mut rows = table(["offset", "timestamp", "sequence", "size", "key", "value", "headers"]);
    for record in records {
        let control = record
            .control_type
            .as_ref()
            .map(|kind| format!("{kind} by coordinator epoch {}", or_dash(record.coordinator_epoch)));
        let key = bytes(record.key_len, record.key.as_deref(), record.key_crc32c);
        let value = bytes(record.value_len, record.value.as_deref(), record.value_crc32c);
        rows.add_row([
            number(record.offset),
            number(record.timestamp),
            number(record.sequence),
            number(record.size),
            control.unwrap_or(key).into(),
            value.into(),
            number(record.header_count),
        ]);
    }
    writeln!(out, "{rows}")?;
    if batch.records_sampled {
        writeln!(out, "{} of {} records shown", records.len(), batch.count)?;
    }
    if let Some(error) = &batch.records_error {
        writeln!(out, "the records end here: {error}")?;
    }
    Ok(())
}

fn bytes(len: i64, hex: Option<&str>, crc: Option<u32>) -> String {
    match (hex, crc) {
        (Some(hex), _) if len > 0 => hex.to_owned(),
        (_, Some(crc)) => format!("{len} bytes, CRC-32C {crc:08x}"),
        _ if len < 0 => "none".to_owned(),
        _ => "empty".to_owned(),
    }
}

fn snapshot(out: &mut impl Write, snapshot: &crate::inspect::json::Snapshot) -> Result<(), Failure> {
    if let Some(producers) = &snapshot.producers {
        let mut rows = table([
            "producer",
            "epoch",
            "coordinator",
            "sequences",
            "offsets",
            "timestamp",
            "open transaction",
        ]);
        for producer in producers {
            let batch = producer.batch.as_ref();
            let sequences = batch.map(|batch| span(batch.first_sequence, batch.last_sequence));
            let first = |last: i64, delta: i32| last.saturating_sub(i64::from(delta));
            let offsets =
                batch.map(|batch| span(first(batch.last_offset, batch.offset_delta), batch.last_offset));
            rows.add_row([
                number(producer.producer_id),
                number(producer.producer_epoch),
                number(producer.coordinator_epoch),
                maybe_number(sequences),
                maybe_number(offsets),
                number(producer.last_timestamp),
                maybe_number(producer.current_txn_first_offset),
            ]);
        }
        writeln!(out, "{rows}")?;
    }
    snapshot.damage.as_ref().map_or(Ok(()), |found| damage(out, found))
}

fn run(out: &mut impl Write, run: &crate::inspect::json::Run) -> Result<(), Failure> {
    writeln!(out, "{}", run.summary())?;
    let mut rows = table(["producer", "epoch", "proven", "last seen", "open transaction", "window"]);
    for producer in &run.producers {
        rows.add_row([
            number(producer.producer_id),
            number(producer.producer_epoch),
            number(producer.proven),
            number(producer.last_seen),
            maybe_number(producer.current_txn_first_offset),
            window(producer).into(),
        ]);
    }
    writeln!(out, "{rows}")?;
    run.damage.as_ref().map_or(Ok(()), |found| damage(out, found))
}

/// A line for each batch: sequences and offsets.
fn window(producer: &Producer) -> String {
    let batches = producer.window.iter().map(|batch| {
        let aborted = if batch.aborted { " aborted" } else { "" };
        let sequences = span(batch.base_sequence, batch.last_sequence);
        format!("{sequences} @ {}{aborted}", span(batch.base_offset, batch.last_offset))
    });
    batches.collect::<Vec<_>>().join("\n")
}
