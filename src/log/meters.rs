//! What an operator can watch, through the facade crate `metrics`.
//!
//! Invariant: nothing is reported with a lock of the log held, because a recorder is the embedder's code. What a turn
//! has seen is counted in its [`Tally`] and reported once, after it. The handles are taken when the log is opened: a
//! recorder that is installed later hears nothing, and without one each report is a look at a `None`.
//!
//! `docs/METRICS.md` lists every name; `tests/metrics.rs` compares the two.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label};

use super::compact::Compacted;
use super::completion::{Appended, Outcome};
use super::shared::Shared;
use crate::error::{Error, Rejection};
use crate::recovery::RecoveryReport;

/// The handles of one log, each labelled with its `partition`: the name of the directory.
pub(super) struct Meters {
    appended_batches: Counter,
    appended_bytes: Counter,
    duplicates: Counter,
    duplicates_beyond_window: Counter,
    rejected: [Counter; RULES.len()],
    write_batches: Histogram,
    pub(super) sync_seconds: Histogram,
    pub(super) latches: Counter,
    pub(super) rolls: Counter,
    pub(super) checkpoint_seconds: Histogram,
    pub(super) checkpoint_age_seconds: Gauge,
    pub(super) expired_producers: Counter,
    pub(super) deleted_segments: Counter,
    compaction_seconds: Histogram,
    compaction_freed_bytes: Counter,
    pub(super) last_stable_offset_lag: Gauge,
    pub(super) open_transactions: Gauge,
    recovery_seconds: Histogram,
    recovery_scanned_bytes: Counter,
    recovery_cut_bytes: Counter,
}

/// The label `rule` of `oncelog_rejected_total`.
const RULES: [&str; 8] = [
    "out-of-order",
    "aborted-retry",
    "overlap",
    "sequence-unknown",
    "fenced",
    "unknown-producer",
    "transaction-state",
    "other",
];

/// Writes of a turn whose sizes are told one by one; those of a longer turn are added to the last.
const WRITES: usize = 4;

/// What one turn has seen. It is small, because it is moved once a turn.
#[derive(Debug, Default)]
pub(super) struct Tally {
    batches: u64,
    bytes: u64,
    writes: [u32; WRITES],
    written: usize,
    /// Nothing, in a turn where every batch was new.
    not_new: Option<Box<NotNew>>,
}

/// Batches that were not appended.
#[derive(Debug, Default)]
struct NotNew {
    duplicates: u64,
    beyond_window: u64,
    rejected: [u64; RULES.len()],
}

impl Tally {
    /// A write of so many batches has succeeded.
    pub(super) fn wrote(&mut self, batches: u32, bytes: u64) {
        self.batches += u64::from(batches);
        self.bytes += bytes;
        if let Some(size) = self.writes.get_mut(self.written.min(WRITES - 1)) {
            *size += batches;
        }
        self.written += 1;
    }

    /// A request that wrote nothing was answered.
    pub(super) fn answered(&mut self, answer: &Result<Appended, Error>) {
        let not_new = self.not_new.get_or_insert_default();
        match answer {
            Ok(appended) => match appended.outcome {
                Outcome::Appended => {}
                Outcome::Duplicate => not_new.duplicates += 1,
                Outcome::DuplicateBeyondWindow => not_new.beyond_window += 1,
            },
            Err(Error::Rejected(rejection)) => {
                if let Some(count) = not_new.rejected.get_mut(rule(rejection)) {
                    *count += 1;
                }
            }
            Err(_) => {}
        }
    }
}

fn rule(rejection: &Rejection) -> usize {
    match rejection {
        Rejection::OutOfOrder { .. } => 0,
        Rejection::AbortedRetry { .. } => 1,
        Rejection::SequenceOverlap { .. } => 2,
        Rejection::SequenceUnknown { .. } => 3,
        Rejection::Fenced { .. } | Rejection::CoordinatorFenced { .. } => 4,
        Rejection::UnknownProducer { .. } => 5,
        Rejection::InvalidTxnState(_) => 6,
        _ => 7,
    }
}

impl Meters {
    /// The handles of the log in `dir`.
    pub(super) fn of(dir: &Path) -> Self {
        let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let partition = || vec![Label::new("partition", name.clone())];
        let counter = |metric: &'static str| metrics::counter!(metric, partition());
        let gauge = |metric: &'static str| metrics::gauge!(metric, partition());
        let histogram = |metric: &'static str| metrics::histogram!(metric, partition());
        Self {
            appended_batches: counter("oncelog_appended_batches_total"),
            appended_bytes: counter("oncelog_appended_bytes_total"),
            duplicates: counter("oncelog_duplicates_total"),
            duplicates_beyond_window: counter("oncelog_duplicates_beyond_window_total"),
            rejected: RULES.map(|rule| {
                let labels = vec![Label::new("partition", name.clone()), Label::new("rule", rule)];
                metrics::counter!("oncelog_rejected_total", labels)
            }),
            write_batches: histogram("oncelog_write_batches"),
            sync_seconds: histogram("oncelog_sync_seconds"),
            latches: counter("oncelog_latches_total"),
            rolls: counter("oncelog_rolls_total"),
            checkpoint_seconds: histogram("oncelog_checkpoint_seconds"),
            checkpoint_age_seconds: gauge("oncelog_checkpoint_age_seconds"),
            expired_producers: counter("oncelog_expired_producers_total"),
            deleted_segments: counter("oncelog_deleted_segments_total"),
            compaction_seconds: histogram("oncelog_compaction_seconds"),
            compaction_freed_bytes: counter("oncelog_compaction_freed_bytes_total"),
            last_stable_offset_lag: gauge("oncelog_last_stable_offset_lag"),
            open_transactions: gauge("oncelog_open_transactions"),
            recovery_seconds: histogram("oncelog_recovery_seconds"),
            recovery_scanned_bytes: counter("oncelog_recovery_scanned_bytes_total"),
            recovery_cut_bytes: counter("oncelog_recovery_cut_bytes_total"),
        }
    }

    /// Reports what a turn has seen. No lock may be held.
    #[inline]
    pub(super) fn report(&self, tally: &Tally) {
        if tally.batches > 0 {
            self.appended_batches.increment(tally.batches);
            self.appended_bytes.increment(tally.bytes);
            for size in tally.writes.iter().take(tally.written) {
                self.write_batches.record(f64::from(*size));
            }
        }
        if let Some(not_new) = &tally.not_new {
            self.report_not_new(not_new);
        }
    }

    #[cold]
    fn report_not_new(&self, not_new: &NotNew) {
        self.duplicates.increment(not_new.duplicates);
        self.duplicates_beyond_window.increment(not_new.beyond_window);
        for (counter, count) in self.rejected.iter().zip(not_new.rejected) {
            counter.increment(count);
        }
    }

    /// Reports a round of compaction that came to its end.
    pub(super) fn compacted(&self, done: &Compacted, took: Duration) {
        self.compaction_seconds.record(took.as_secs_f64());
        self.compaction_freed_bytes.increment(done.bytes_before.saturating_sub(done.bytes_after));
    }

    /// Reports a recovery.
    pub(super) fn recovered(&self, report: &RecoveryReport, took: Duration) {
        self.recovery_seconds.record(took.as_secs_f64());
        self.recovery_scanned_bytes.increment(report.scanned_bytes);
        self.recovery_cut_bytes
            .increment(report.cuts.iter().map(|cut| cut.bytes.end - cut.bytes.start).sum());
    }
}

impl Shared {
    /// What changes with time alone, or is asked of several places.
    pub(super) fn show_gauges(&self) {
        let age_ms = self.monotonic_ms().saturating_sub(self.checkpointed_ms.load(Ordering::Acquire));
        self.meters.checkpoint_age_seconds.set(to_float(age_ms) / 1000.0);
        let lag = self.high_watermark().distance_from(self.last_stable_offset());
        self.meters.last_stable_offset_lag.set(to_float(u64::try_from(lag).unwrap_or(0)));
        self.meters.open_transactions.set(to_float(self.open_transactions().len() as u64));
    }
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; what it shows is far below 2^53")]
fn to_float(value: u64) -> f64 {
    value as f64
}
