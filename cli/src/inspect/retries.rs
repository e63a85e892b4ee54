//! `oncelog retries DIR`: how a retry of each producer's last batches would be answered, and by which rule.
//!
//! Invariant: the question is put to the rule that an append asks, over the state that the next open would have; nothing
//! is decided here.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use oncelog::error::{Error, Rejection};
use oncelog::format::batch::BatchHeader;
use oncelog::format::names;
use oncelog::producer::{Entry, Verdict};
use oncelog::segment::scan::scan_headers;
use oncelog::types::{Offset, Position, ProducerId};
use oncelog::{Inspection, Intended};
use serde::Serialize;

use super::json::{self, Retry};
use super::source::Source;
use super::text::{number, span, table};
use super::{Done, Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Partition directory, TOPIC-PARTITION
    dir: PathBuf,
    /// Batches of each producer, counted from its newest; those that compaction emptied come on top
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
    /// Only this producer id
    #[arg(long, value_name = "ID")]
    producer: Option<i64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Answers {
    partition_dir: String,
    log_start_offset: i64,
    log_end_offset: i64,
    retries: Vec<Retry>,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Done {
    let source = Source::new(&arguments.dir)?;
    let inspection = Inspection::open(&arguments.dir)?;
    let intended = inspection.plan()?;
    let last = usize::try_from(arguments.last).unwrap_or(usize::MAX);
    let newest = newest_batches(&source, intended, last, arguments.producer.map(ProducerId))?;
    let mut retries = Vec::new();
    for (id, batches) in &newest {
        let entry = inspection.entry(*id)?;
        for header in batches {
            retries.push(retry(header, entry.as_ref(), &inspection.judge(header)?, intended));
        }
    }
    let answers = Answers {
        partition_dir: source.partition_dir(),
        log_start_offset: intended.log.report.log_start_offset.0,
        log_end_offset: intended.log.report.log_end_offset.0,
        retries,
    };
    if arguments.json {
        json::print(out, &answers)?;
    } else {
        print(out, &answers)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest data batches of each producer that the log will hold once it is open, oldest first.
fn newest_batches(
    source: &Source,
    intended: &Intended,
    last: usize,
    only: Option<ProducerId>,
) -> Result<BTreeMap<ProducerId, VecDeque<BatchHeader>>, Failure> {
    let mut newest: BTreeMap<ProducerId, VecDeque<BatchHeader>> = BTreeMap::new();
    for segment in &intended.log.segments {
        let name = names::log_name(segment.base);
        let file = source.open(&name)?;
        let scanned = scan_headers(&*file, Position::ZERO, segment.len, |_, header| {
            let id = header.producer().map(|(id, _)| id);
            if let Some(id) = id.filter(|id| !header.attributes.is_control() && only.is_none_or(|o| o == *id))
            {
                let batches = newest.entry(id).or_default();
                batches.push_back(*header);
                forget_old(batches, last);
            }
            ControlFlow::Continue(())
        });
        scanned.map_err(|e| Error::io("read", &source.path(&name), e))?;
    }
    Ok(newest)
}

/// Keeps the newest `last` whole batches, and of compacted ones at most as many before them.
fn forget_old(batches: &mut VecDeque<BatchHeader>, last: usize) {
    let whole = batches.iter().filter(|header| !is_compacted(header)).count();
    let oldest_goes = |batches: &VecDeque<BatchHeader>| match batches.front() {
        Some(header) if is_compacted(header) => batches.len() > last,
        Some(_) => whole > last,
        None => false,
    };
    if oldest_goes(batches) {
        batches.pop_front();
    }
}

fn is_compacted(header: &BatchHeader) -> bool {
    i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1
}

fn retry(
    header: &BatchHeader,
    entry: Option<&Entry>,
    verdict: &Result<Verdict, Rejection>,
    intended: &Intended,
) -> Retry {
    let code = match verdict {
        Ok(Verdict::Append | Verdict::Duplicate(_)) => 0,
        Ok(Verdict::DuplicateBeyondWindow { .. }) => 46,
        Err(rejection) => rejection.kafka_code(),
    };
    let answer_base_offset = match verdict {
        Ok(Verdict::Append) => intended.log.report.log_end_offset,
        Ok(Verdict::Duplicate(batch)) => batch.first_offset,
        Ok(Verdict::DuplicateBeyondWindow { .. }) | Err(_) => Offset(-1),
    };
    Retry {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_sequence: header.sequences().map_or(-1, |(_, last)| last.value()),
        is_transactional: header.attributes.is_transactional(),
        compacted: is_compacted(header),
        original_base_offset: header.base_offset.0,
        answer: error_name(code),
        code,
        answer_base_offset: answer_base_offset.0,
        verdict: verdict_name(verdict),
        rule: rule(entry, verdict),
    }
}

/// The case of the rule, by the name of its variant.
fn verdict_name(verdict: &Result<Verdict, Rejection>) -> &'static str {
    match verdict {
        Ok(Verdict::Append) => "Append",
        Ok(Verdict::Duplicate(_)) => "Duplicate",
        Ok(Verdict::DuplicateBeyondWindow { .. }) => "DuplicateBeyondWindow",
        Err(Rejection::OutOfOrder { .. }) => "OutOfOrder",
        Err(Rejection::AbortedRetry { .. }) => "AbortedRetry",
        Err(Rejection::SequenceOverlap { .. }) => "SequenceOverlap",
        Err(Rejection::SequenceUnknown { .. }) => "SequenceUnknown",
        Err(Rejection::Fenced { .. }) => "Fenced",
        Err(Rejection::UnknownProducer { .. }) => "UnknownProducer",
        Err(Rejection::InvalidTxnState(_)) => "InvalidTxnState",
        Err(_) => "Rejected",
    }
}

/// Why the answer is what it is, with the numbers that decided.
fn rule(entry: Option<&Entry>, verdict: &Result<Verdict, Rejection>) -> String {
    match verdict {
        Ok(Verdict::Duplicate(found)) => {
            let window = entry.map_or(&[][..], Entry::batches);
            let place = window.iter().position(|batch| batch == found).map_or(0, |index| index + 1);
            format!(
                "equal to batch {place} of the {} remembered: answered with its offsets {}",
                window.len(),
                span(found.first_offset, found.last_offset)
            )
        }
        Ok(Verdict::DuplicateBeyondWindow { oldest }) => format!(
            "older than the window, which begins at sequence {}, but within the {} sequences proven to be stored",
            oldest.first_sequence,
            entry.map_or(0, |entry| entry.proven)
        ),
        Ok(Verdict::Append) => match entry {
            None => "nothing is known of the producer and the batch is its first: WRITTEN AGAIN".to_owned(),
            Some(entry) => format!(
                "the next batch of epoch {} would be one from sequence {}: WRITTEN AGAIN",
                entry.epoch,
                entry.expected_sequence()
            ),
        },
        Err(rejection) => rejection.to_string(),
    }
}

/// Kafka's name of an error code that a rule can give (`org.apache.kafka.common.protocol.Errors`).
fn error_name(code: i16) -> &'static str {
    match code {
        0 => "NONE",
        45 => "OUT_OF_ORDER_SEQUENCE_NUMBER",
        46 => "DUPLICATE_SEQUENCE_NUMBER",
        47 => "INVALID_PRODUCER_EPOCH",
        48 => "INVALID_TXN_STATE",
        59 => "UNKNOWN_PRODUCER_ID",
        87 => "INVALID_RECORD",
        _ => "UNKNOWN_SERVER_ERROR",
    }
}

fn print(out: &mut impl Write, answers: &Answers) -> Result<(), Failure> {
    if answers.retries.is_empty() {
        writeln!(
            out,
            "no batch of a producer in offsets {} to {}",
            answers.log_start_offset, answers.log_end_offset
        )?;
        return Ok(());
    }
    let mut rows =
        table(["producer", "epoch", "sequences", "stored at", "answer", "code", "with offset", "rule"]);
    for retry in &answers.retries {
        let offset = Some(retry.answer_base_offset).filter(|offset| *offset >= 0);
        rows.add_row([
            number(retry.producer_id),
            number(retry.producer_epoch),
            number(span(retry.base_sequence, retry.last_sequence)),
            number(retry.original_base_offset),
            retry.verdict.into(),
            number(retry.code),
            super::text::maybe_number(offset),
            retry.rule.as_str().into(),
        ]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}
