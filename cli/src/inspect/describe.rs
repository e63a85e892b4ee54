//! `oncelog describe DIR`: what a partition directory holds, and what the next open would do with it.
//!
//! Invariant: offsets, producers and windows are those that the next open would give; where that would refuse, there
//! are none, and the refusal is shown with what can be said without it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use oncelog::format::checkpoint_file::parse_leader_epochs;
use oncelog::format::names;
use oncelog::producer::Entry;
use oncelog::types::{Offset, ProducerId};
use oncelog::{Inspection, Intended};
use serde::Serialize;

use super::json::{self, Epoch, Producer, Recovery, RootCheckpoints};
use super::root;
use super::source::{ROOT_FILES, Source};
use super::text::{maybe_number, number, point, span, table};
use super::{Done, Failure};

/// Producers in the table, unless more are asked for.
const SHOWN_PRODUCERS: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Partition directory, TOPIC-PARTITION, or a root of them
    dir: PathBuf,
    /// Producers to show (default: 20; with --json, all)
    #[arg(long, value_name = "N")]
    producers: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Description {
    partition_dir: String,
    topic_id: Option<String>,
    log_start_offset: Option<i64>,
    log_end_offset: Option<i64>,
    last_stable_offset: Option<i64>,
    open_transactions: Vec<OpenTransaction>,
    segments: Vec<SegmentLine>,
    producer_count: usize,
    producers: Vec<Producer>,
    leader_epochs: Vec<Epoch>,
    root_checkpoints: RootCheckpoints,
    manifest: Option<json::Manifest>,
    recovery: Recovery,
    locks: json::Locks,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OpenTransaction {
    producer_id: i64,
    producer_epoch: i16,
    first_offset: i64,
}

#[derive(Debug, Serialize)]
struct SegmentLine {
    base_offset: i64,
    log: String,
    size: u64,
    /// Bytes that stay after a recovery; `null` if it deletes the file, or if it would be refused.
    kept_bytes: Option<u64>,
    /// Where the next segment begins, or the log end.
    next_offset: Option<i64>,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Done {
    let source = Source::new(&arguments.dir)?;
    let partitions = root::partitions_in(&source);
    if !partitions.is_empty() {
        root::describe(&source, &partitions, arguments.json, out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let inspection = Inspection::open(&arguments.dir)?;
    let plan = inspection.plan();
    let most = arguments.producers.unwrap_or(if arguments.json { usize::MAX } else { SHOWN_PRODUCERS });
    let (producers, producer_count) = match &plan {
        Ok(_) => producers(&inspection, most)?,
        Err(_) => (Vec::new(), 0),
    };
    let intended = plan.as_ref().ok();
    let description = Description {
        partition_dir: source.partition_dir(),
        topic_id: source.topic_id()?,
        log_start_offset: intended.map(|intended| intended.log.report.log_start_offset.0),
        log_end_offset: intended.map(|intended| intended.log.report.log_end_offset.0),
        last_stable_offset: intended.map(|intended| intended.last_stable_offset().0),
        open_transactions: intended.map_or_else(Vec::new, |intended| open_transactions(intended)),
        segments: segments(&inspection, intended.copied()),
        producer_count,
        producers: producers.iter().map(|(id, entry)| Producer::of(*id, entry)).collect(),
        leader_epochs: leader_epochs(&source, intended.copied())?,
        root_checkpoints: root_checkpoints(&source)?,
        // A directory that Kafka wrote has none: the plan's is the one that would be written.
        manifest: source.read(names::MANIFEST)?.and(intended.map(|intended| (&intended.log.manifest).into())),
        recovery: Recovery::of(inspection.plan()),
        locks: inspection.locks().into(),
    };
    if arguments.json {
        json::print(out, &description)?;
    } else {
        print(out, &description, &inspection, &producers)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The oldest first.
fn open_transactions(intended: &Intended) -> Vec<OpenTransaction> {
    let open = intended.log.open_txns.iter();
    open.map(|txn| OpenTransaction {
        producer_id: txn.producer.0,
        producer_epoch: txn.epoch.0,
        first_offset: txn.first_offset.0,
    })
    .collect()
}

/// The first producers, and how many there are.
fn producers(inspection: &Inspection, most: usize) -> Result<(Vec<(ProducerId, Entry)>, usize), Failure> {
    let mut shown = Vec::new();
    let mut count = 0;
    for producer in inspection.producers()? {
        let producer = producer?;
        if count < most {
            shown.push(producer);
        }
        count += 1;
    }
    Ok((shown, count))
}

fn segments(inspection: &Inspection, intended: Option<&Intended>) -> Vec<SegmentLine> {
    let kept = |base: Offset| intended?.log.segments.iter().find(|segment| segment.base == base).copied();
    let lines = inspection.segments().iter().map(|segment| SegmentLine {
        base_offset: segment.base.0,
        log: names::log_name(segment.base),
        size: segment.len,
        kept_bytes: kept(segment.base).map(|kept| kept.len),
        next_offset: kept(segment.base).map(|kept| kept.next_offset.0),
    });
    lines.collect()
}

/// Those of the file, or of the runs where there is no file.
fn leader_epochs(source: &Source, intended: Option<&Intended>) -> Result<Vec<Epoch>, Failure> {
    let in_file = source.read(names::LEADER_EPOCHS)?.and_then(|bytes| parse_leader_epochs(&bytes).ok());
    Ok(match (in_file, intended) {
        (Some(starts), _) => starts.iter().map(Epoch::from).collect(),
        (None, Some(intended)) => json::epochs(&intended.log.leader_epochs.pairs()),
        (None, None) => Vec::new(),
    })
}

/// What the root says of this partition; a file that does not parse says nothing here, and something to `verify`.
pub(super) fn root_checkpoints(source: &Source) -> Result<RootCheckpoints, Failure> {
    let mut offsets = std::collections::BTreeMap::new();
    for name in ROOT_FILES {
        let offset = source.root_offset(name)?.unwrap_or_default();
        offsets.insert(name, offset.map(|offset| offset.0));
    }
    Ok(RootCheckpoints { offsets, clean_shutdown: source.clean_shutdown()? })
}

fn print(
    out: &mut impl Write,
    description: &Description,
    inspection: &Inspection,
    producers: &[(ProducerId, Entry)],
) -> Result<(), Failure> {
    writeln!(out, "{}", inspection.dir().display())?;
    if let Some(id) = &description.topic_id {
        writeln!(out, "topic id {id}")?;
    }
    for missing in inspection.locks().missing() {
        writeln!(out, "no lock file {}: a program that would use it is not kept out", missing.display())?;
    }
    match inspection.plan() {
        Err(refusal) => writeln!(out, "\na recovery would be REFUSED: {refusal}")?,
        Ok(intended) => print_plan(out, intended)?,
    }
    writeln!(out, "\nsegments")?;
    let mut rows = table(["base offset", "next offset", "bytes", "kept", "file"]);
    for segment in &description.segments {
        rows.add_row([
            number(segment.base_offset),
            maybe_number(segment.next_offset),
            number(segment.size),
            maybe_number(segment.kept_bytes),
            segment.log.as_str().into(),
        ]);
    }
    writeln!(out, "{rows}")?;
    if inspection.plan().is_ok() {
        print_producers(out, producers, description.producer_count)?;
    }
    Ok(())
}

fn print_plan(out: &mut impl Write, intended: &Intended) -> Result<(), Failure> {
    let report = &intended.log.report;
    writeln!(
        out,
        "offsets {} to {} (exclusive), last stable offset {}",
        report.log_start_offset,
        report.log_end_offset,
        intended.last_stable_offset()
    )?;
    for txn in open_transactions(intended) {
        let OpenTransaction { producer_id, producer_epoch, first_offset } = txn;
        writeln!(
            out,
            "open transaction of producer {producer_id}, epoch {producer_epoch}, from offset {first_offset} on"
        )?;
    }
    writeln!(out, "\nwhat the next open would find and do")?;
    for line in report.to_string().lines() {
        writeln!(out, "  {line}")?;
    }
    if let Some(from) = &intended.rewrite_from {
        writeln!(out, "  written again from {}", point(from))?;
    }
    let untold = intended.deletes.iter().filter(|name| !report.deleted.contains(name));
    for name in untold {
        writeln!(out, "  deleted: {name}")?;
    }
    if intended.log.clean {
        writeln!(out, "  nothing would be written")?;
    }
    Ok(())
}

fn print_producers(
    out: &mut impl Write,
    producers: &[(ProducerId, Entry)],
    count: usize,
) -> Result<(), Failure> {
    writeln!(out, "\nproducers: {count}")?;
    if producers.is_empty() {
        return Ok(());
    }
    let mut rows = table([
        "producer",
        "epoch",
        "proven",
        "open transaction",
        "window: sequences @ offsets, oldest first",
    ]);
    for (id, entry) in producers {
        let window = entry.batches().iter().map(|batch| {
            let sequences = span(batch.first_sequence, batch.last_sequence);
            let aborted = if batch.aborted { " aborted" } else { "" };
            format!("{sequences} @ {}{aborted}", span(batch.first_offset, batch.last_offset))
        });
        rows.add_row([
            number(id),
            number(entry.epoch),
            number(entry.proven),
            maybe_number(entry.txn_first_offset),
            window.collect::<Vec<_>>().join("\n").into(),
        ]);
    }
    writeln!(out, "{rows}")?;
    if producers.len() < count {
        writeln!(out, "{} more; --producers N or --json shows them", count - producers.len())?;
    }
    Ok(())
}
