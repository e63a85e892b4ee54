//! `oncelog verify DIR`: every byte of a partition directory, held against every other byte that speaks of it.
//!
//! Invariant: a finding names file, byte, what was expected, what was found and what to do; damage ends the look at what
//! can no longer be told apart, never at the rest of the directory. Exit code 0 without, 1 with findings.

mod claims;
mod findings;
mod indexes;
mod log;
mod ours;
mod theirs;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::ContentArrangement;
use oncelog::error::{Corruption, Error};
use oncelog::format::names;
use oncelog::{Inspection, Offset};
use serde::Serialize;

use self::claims::Claims;
use self::findings::Findings;
use self::log::{Checked, LogCheck};
use super::json::{self, Damage, Recovery};
use super::source::Source;
use super::text::{number, table};
use super::{Done, FINDINGS, Failure};

/// Width of the table of findings, in which long texts are broken into lines.
const TABLE_WIDTH: u16 = 160;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Partition directory, TOPIC-PARTITION
    dir: PathBuf,
    /// Accept gaps in offsets, as compaction leaves them (known by itself where the log's manifest or the root's cleaner
    /// checkpoint says so)
    #[arg(long)]
    compacted: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    partition_dir: String,
    findings: Vec<Damage>,
    checked: Checked,
    recovery: Recovery,
    locks: json::Locks,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Done {
    let source = Source::new(&arguments.dir)?;
    let inspection = Inspection::open(&arguments.dir)?;
    let files = source.files()?;
    let mut findings = Findings::new(&source, inspection.plan().ok());

    let cleaned = matches!(source.root_offset(names::CLEANER_OFFSETS)?, Ok(Some(_)));
    let compacted = arguments.compacted || cleaned;
    let mut claims = Claims::default();
    let ends = {
        let mut ends = theirs::snapshots(&source, &files, &mut claims, &mut findings)?;
        ends.extend(ours::files(&source, &files, &mut claims, &mut findings)?);
        ends
    };
    claims.sort();
    let epochs = theirs::leader_epochs(&source, &mut findings)?;
    let reached = inspection.plan().map_or(Offset::ZERO, |intended| intended.log.manifest.compaction.reached);
    let mut check = LogCheck::new(&source, compacted, reached, epochs, claims);
    check.segments(&files, &mut findings)?;
    let (end, checked) = check.finish(&mut findings);
    for claimed in ends {
        claimed.hold_against(end, &mut findings);
    }
    theirs::root_checkpoints(&source, end, &mut findings)?;
    from_recovery(&inspection, &mut findings);

    let report = Report {
        partition_dir: source.partition_dir(),
        findings: findings.into_sorted(),
        checked,
        recovery: Recovery::of(inspection.plan()),
        locks: inspection.locks().into(),
    };
    if arguments.json {
        json::print(out, &report)?;
    } else {
        print(out, &report, &inspection)?;
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

/// What a recovery would refuse or not believe, where nothing was found so far.
fn from_recovery(inspection: &Inspection, findings: &mut Findings<'_>) {
    match inspection.plan() {
        Err(Error::Corrupt(refusal)) => findings.add_new(&refusal),
        Err(_) => {}
        Ok(intended) => {
            for rejected in &intended.log.report.rejected {
                findings.add_new(&Corruption {
                    path: inspection.dir().join(&rejected.file),
                    bytes: 0..0,
                    offsets: None,
                    what: "use by recovery".to_owned(),
                    expected: "a file that fits the log".to_owned(),
                    found: rejected.reason.clone(),
                    advice: "nothing: recovery goes on without it".to_owned(),
                });
            }
        }
    }
}

fn print(out: &mut impl Write, report: &Report, inspection: &Inspection) -> Result<(), Failure> {
    let checked = &report.checked;
    writeln!(
        out,
        "{}: {} segments, {} batches, {} records, {} bytes of log checked",
        report.partition_dir, checked.segments, checked.batches, checked.records, checked.bytes
    )?;
    writeln!(
        out,
        "{} index entries and {} claims of snapshots, runs, manifest and watermark held against them",
        checked.index_entries, checked.claims
    )?;
    for missing in inspection.locks().missing() {
        writeln!(out, "no lock file {}: a program that would use it is not kept out", missing.display())?;
    }
    if let Err(refusal) = inspection.plan() {
        writeln!(out, "a recovery would be REFUSED: {refusal}")?;
    }
    if report.findings.is_empty() {
        writeln!(out, "no finding")?;
        return Ok(());
    }
    let mut rows = table(["file", "bytes", "what", "expected", "found", "what to do"]);
    rows.set_content_arrangement(ContentArrangement::Dynamic).set_width(TABLE_WIDTH);
    for finding in &report.findings {
        rows.add_row([
            finding.file.as_str().into(),
            number(format!("{}..{}", finding.bytes[0], finding.bytes[1])),
            finding.what.as_str().into(),
            finding.expected.as_str().into(),
            finding.found.as_str().into(),
            finding.advice.as_str().into(),
        ]);
    }
    writeln!(out, "{rows}")?;
    let noun = if report.findings.len() == 1 { "finding" } else { "findings" };
    writeln!(out, "{} {noun}", report.findings.len())?;
    Ok(())
}
