//! What the next open would do.

use oncelog::error::Error;
use oncelog::recovery::{CutReport, Rejected};
use oncelog::{Intended, ReadLocks};
use serde::Serialize;

use super::{Damage, LogPoint, damage_in};

/// What the next open would find and do, or why it would refuse.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::inspect) enum Recovery {
    Planned(Box<Planned>),
    Refused {
        refused: bool,
        why: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        damage: Option<Damage>,
    },
}

/// A recovery that would go on.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Planned {
    refused: bool,
    found: String,
    /// Nothing would be written.
    clean: bool,
    watermark: LogPoint,
    chain: Option<ChainInUse>,
    snapshot: Option<String>,
    rejected: Vec<RejectedFile>,
    cuts: Vec<Cut>,
    deletes: Vec<String>,
    rewrite_from: Option<LogPoint>,
    rewritten_bytes: u64,
    indexes_rebuilt: u64,
    replayed_batches: u64,
    replayed_bytes: u64,
    unverified_bytes: u64,
    scanned_bytes: u64,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ChainInUse {
    runs: Vec<u64>,
    end: i64,
    previous: bool,
}

#[derive(Debug, Serialize)]
struct RejectedFile {
    file: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Cut {
    file: String,
    bytes: [u64; 2],
    offset: i64,
    valid_batches: u64,
    keepsake: Option<String>,
    reason: String,
    suspicious: bool,
}

impl Recovery {
    pub(in crate::inspect) fn of(plan: Result<&Intended, Error>) -> Self {
        match plan {
            Ok(intended) => Self::Planned(Box::new(Planned::of(intended))),
            Err(refusal) => Self::Refused {
                refused: true,
                why: refusal.to_string(),
                damage: damage_in(&refusal).map(Damage::from),
            },
        }
    }
}

impl Planned {
    fn of(intended: &Intended) -> Self {
        let report = &intended.log.report;
        Self {
            refused: false,
            found: report.kind.to_string(),
            clean: intended.log.clean,
            watermark: (&report.watermark).into(),
            chain: report.chain.as_ref().map(|chain| ChainInUse {
                runs: chain.runs.clone(),
                end: chain.end.0,
                previous: chain.previous,
            }),
            snapshot: report.snapshot.clone(),
            rejected: report.rejected.iter().map(RejectedFile::from).collect(),
            cuts: report.cuts.iter().map(Cut::from).collect(),
            deletes: intended.deletes.clone(),
            rewrite_from: intended.rewrite_from.as_ref().map(LogPoint::from),
            rewritten_bytes: report.rewritten_bytes,
            indexes_rebuilt: report.indexes_rebuilt,
            replayed_batches: report.replayed_batches,
            replayed_bytes: report.replayed_bytes,
            unverified_bytes: report.unverified_bytes,
            scanned_bytes: report.scanned_bytes,
            notes: report.notes.clone(),
        }
    }
}

impl From<&Rejected> for RejectedFile {
    fn from(rejected: &Rejected) -> Self {
        Self { file: rejected.file.clone(), reason: rejected.reason.clone() }
    }
}

impl From<&CutReport> for Cut {
    fn from(cut: &CutReport) -> Self {
        Self {
            file: cut.file.clone(),
            bytes: [cut.bytes.start, cut.bytes.end],
            offset: cut.offset.0,
            valid_batches: cut.valid_batches,
            keepsake: cut.keepsake.clone(),
            reason: cut.reason.clone(),
            suspicious: cut.suspicious,
        }
    }
}

/// Which lock files keep writers out for as long as the command runs, and which do not exist.
#[derive(Debug, Serialize)]
pub(in crate::inspect) struct Locks {
    held: Vec<String>,
    missing: Vec<String>,
}

impl From<&ReadLocks> for Locks {
    fn from(locks: &ReadLocks) -> Self {
        Self {
            held: locks.held().map(|path| path.display().to_string()).collect(),
            missing: locks.missing().iter().map(|path| path.display().to_string()).collect(),
        }
    }
}
