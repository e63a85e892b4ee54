//! What a run of the test has seen, as a table for people and as JSON for programs.
//!
//! Invariant: a number here counts something that was checked; what was planned and did not happen is not in it.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle, presets};
use serde::Serialize;

use super::args::Profile;
use super::judge::Judged;
use super::ledger::{Attempt, CHECK_LANE, Expected};
use super::partitions::Outcome;
use super::points::planned_points;
use super::protocol::{Answer, Opened};
use super::shares;

/// A line above, below the header, and below.
const STYLE: TableStyle = presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none());
/// How many violations are shown in full.
const SHOWN: usize = 20;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Violation {
    /// Its name.
    #[serde(rename = "violation")]
    pub(super) what: &'static str,
    pub(super) detail: String,
    /// The kill before it was seen.
    pub(super) kill: u64,
}

impl Violation {
    pub(super) fn new(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, detail: detail.into(), kill: 0 }
    }
}

/// All that was counted.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Tally {
    pub(super) seed: u64,
    pub(super) profile: &'static str,
    #[serde(rename = "break")]
    pub(super) broken: Option<&'static str>,
    pub(super) kills: u64,
    /// By the armed point's name; `timer` and `verification` are the parent's.
    pub(super) kills_by_point: BTreeMap<&'static str, u64>,
    /// By the operation that the armed point is inside of; set at the end.
    pub(super) kills_inside: BTreeMap<&'static str, u64>,
    /// Operations that less than 2 % of the kills were inside of: a run of 500 kills with any is no pass.
    pub(super) not_shown: Vec<&'static str>,
    pub(super) clean_closes: u64,
    /// Batches acknowledged as new.
    pub(super) acked_batches: u64,
    /// Batches found in the log although their acknowledgement was never sent.
    pub(super) unanswered_found: u64,
    /// Buffered acknowledgements that power cuts took, as they may.
    pub(super) buffered_lost: u64,
    /// Retries of the last five batches of each producer after an open.
    pub(super) window_retries: u64,
    /// Retries of the last five while appending, in flight ones included.
    pub(super) live_retries: u64,
    /// Retries of batches older than that.
    pub(super) older_retries: u64,
    /// Retries of batches that a crash took.
    pub(super) absent_retries: u64,
    pub(super) gaps: u64,
    pub(super) old_epochs: u64,
    pub(super) overlaps: u64,
    pub(super) unknown_producers: u64,
    /// Appends that a made-up lack of space refused.
    pub(super) failed_writes: u64,
    /// Batches read back and compared.
    pub(super) batches_compared: u64,
    /// Fetches at any offset, through the indexes.
    pub(super) fetches: u64,
    /// Opens of a directory that a child had open.
    pub(super) second_openers: u64,
    pub(super) transactions: Transactions,
    pub(super) upkeep: Upkeep,
    pub(super) partitions: Partitions,
    pub(super) recoveries: Recoveries,
    pub(super) tampered: BTreeMap<&'static str, u64>,
    pub(super) violations: u64,
    pub(super) violation_list: Vec<Violation>,
    pub(super) seconds: f64,
    pub(super) verdict: &'static str,
    /// The command that makes the same choices.
    pub(super) replay: String,
    /// Where everything was kept, after a violation or with `--dir`.
    pub(super) dir: Option<String>,
}

/// What was seen of transactions; all 0 in the core profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Transactions {
    /// Markers acknowledged.
    pub(super) markers: u64,
    /// Transactions found open, with their first offsets, after an open.
    pub(super) open_compared: u64,
    /// Reads of committed records that were compared with the log.
    pub(super) committed_reads: u64,
    /// Retries of batches of aborted transactions.
    pub(super) aborted_retries: u64,
    /// Markers of coordinators that are over.
    pub(super) old_coordinators: u64,
}

/// Deletions and truncations that were carried out; all 0 in the core profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Upkeep {
    pub(super) truncations: u64,
    /// Below the oldest checkpoint of a log without its beginning.
    pub(super) truncations_refused: u64,
    /// Batches appended as a follower behind a truncation.
    pub(super) followed: u64,
    /// Those that moved the log start.
    pub(super) deletions: u64,
    /// For lack of space.
    pub(super) deletions_failed: u64,
}

/// What was seen of the partitions beside the log; all 0 in the core profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Partitions {
    /// Looks at one of them after an open.
    pub(super) surveyed: u64,
    pub(super) batches_compared: u64,
    /// Retries of the last five batches.
    pub(super) retries: u64,
    /// Batches of old epochs, of names that were claimed since among them.
    pub(super) fenced: u64,
    pub(super) acked_batches: u64,
    /// Creations, deletions, rests, writes of the root's files.
    pub(super) deeds: u64,
    pub(super) ids: u64,
    pub(super) claims: u64,
    /// Rounds that had something to do.
    pub(super) compactions: u64,
    /// Records that compaction has taken, as they were missed after an open.
    pub(super) records_compacted: u64,
}

impl Partitions {
    pub(super) fn count(&mut self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Answered(_) => &mut self.acked_batches,
            Outcome::Done => &mut self.deeds,
            Outcome::Allocated(_) => &mut self.ids,
            Outcome::Claimed { .. } => &mut self.claims,
            Outcome::Compacted(true) => &mut self.compactions,
            Outcome::Compacted(false) | Outcome::Failed(_) => return,
        };
        *counter += 1;
    }
}

/// Opens by what they started from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Recoveries {
    pub(super) all: u64,
    /// Nothing was read but a clean-close mark.
    pub(super) clean: u64,
    /// State from at least a base.
    pub(super) from_run: u64,
    /// State from a base with at least one delta.
    pub(super) from_delta_chain: u64,
    /// State from the chain that the present one was merged from.
    pub(super) from_previous_chain: u64,
    /// State from the log alone.
    pub(super) full_replay: u64,
    /// State from a `.snapshot` of Kafka's format.
    pub(super) from_snapshot: u64,
    pub(super) newest_run_damaged_first: u64,
    pub(super) prefix_removed_first: u64,
    pub(super) tail_torn_first: u64,
    pub(super) power_cut_first: u64,
    pub(super) another_program_first: u64,
    pub(super) killed_while_recovering: u64,
    pub(super) scanned_bytes: u64,
    pub(super) replayed_bytes: u64,
}

impl Tally {
    pub(super) fn new(seed: u64, profile: Profile, broken: Option<&'static str>, replay: String) -> Self {
        let points = planned_points(profile).map(|point| (point.name(), 0));
        let points = points.chain([("timer", 0), ("verification", 0)]);
        Self {
            seed,
            profile: profile.name(),
            broken,
            kills: 0,
            kills_by_point: points.collect(),
            kills_inside: BTreeMap::new(),
            not_shown: Vec::new(),
            clean_closes: 0,
            acked_batches: 0,
            unanswered_found: 0,
            buffered_lost: 0,
            window_retries: 0,
            live_retries: 0,
            older_retries: 0,
            absent_retries: 0,
            gaps: 0,
            old_epochs: 0,
            overlaps: 0,
            unknown_producers: 0,
            failed_writes: 0,
            batches_compared: 0,
            fetches: 0,
            second_openers: 0,
            transactions: Transactions::default(),
            upkeep: Upkeep::default(),
            partitions: Partitions::default(),
            recoveries: Recoveries::default(),
            tampered: BTreeMap::new(),
            violations: 0,
            violation_list: Vec::new(),
            seconds: 0.0,
            verdict: "pass",
            replay,
            dir: None,
        }
    }

    pub(super) fn killed(&mut self, at: &'static str) {
        self.kills += 1;
        *self.kills_by_point.entry(at).or_default() += 1;
    }

    /// Counts an open.
    pub(super) fn opened(&mut self, opened: &Opened) {
        let recoveries = &mut self.recoveries;
        recoveries.all += 1;
        recoveries.scanned_bytes += opened.scanned_bytes;
        recoveries.replayed_bytes += opened.replayed_bytes;
        if opened.kind == "Clean" {
            recoveries.clean += 1;
            return;
        }
        recoveries.from_run += u64::from(!opened.runs.is_empty());
        recoveries.from_delta_chain += u64::from(opened.runs.len() > 1);
        recoveries.from_previous_chain += u64::from(opened.previous_chain);
        recoveries.from_snapshot += u64::from(opened.snapshot.is_some());
        recoveries.full_replay += u64::from(opened.runs.is_empty() && opened.snapshot.is_none());
    }

    /// Counts an answer that was checked.
    pub(super) fn judged(&mut self, attempt: &Attempt, answer: &Answer, judged: Judged) {
        if judged == Judged::Stumbled {
            self.failed_writes += 1;
            return;
        }
        self.acked_batches += u64::from(matches!(answer, Answer::Appended(_)));
        self.transactions.markers +=
            u64::from(attempt.spec.is_marker() && matches!(answer, Answer::Appended(_)));
        let checking = attempt.lane == CHECK_LANE;
        let counter = match attempt.expected {
            Expected::Appended if checking => &mut self.absent_retries,
            Expected::Appended => return,
            Expected::Duplicate(_) | Expected::DuplicateOrUnknown(_) if checking => &mut self.window_retries,
            Expected::Duplicate(_) | Expected::DuplicateOrUnknown(_) => &mut self.live_retries,
            Expected::BeyondWindow(_) => &mut self.older_retries,
            Expected::OutOfOrder(_) => &mut self.gaps,
            Expected::Fenced(_) => &mut self.old_epochs,
            Expected::AbortedRetry | Expected::Void => &mut self.transactions.aborted_retries,
            Expected::CoordinatorFenced(_) => &mut self.transactions.old_coordinators,
            Expected::Overlap => &mut self.overlaps,
            Expected::UnknownProducer => &mut self.unknown_producers,
        };
        *counter += 1;
    }

    /// Counts violations and keeps the first.
    pub(super) fn violated(&mut self, violations: impl IntoIterator<Item = Violation>) {
        for violation in violations {
            self.violations += 1;
            self.verdict = "fail";
            if self.violation_list.len() < SHOWN {
                self.violation_list.push(Violation { kill: self.kills, ..violation });
            }
        }
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
    }

    /// Compares the kills inside of each operation with what a run has to show.
    pub(super) fn take_stock(&mut self, profile: Profile) {
        self.kills_inside = shares::by_operation(&self.kills_by_point);
        self.not_shown = shares::not_shown(profile, self.kills, &self.kills_inside);
        let had_time = self.kills >= shares::ENOUGH_KILLS && self.broken.is_none();
        if had_time && !self.not_shown.is_empty() && self.verdict == "pass" {
            self.verdict = "incomplete";
        }
    }

    /// The table and the verdict.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for table in [self.kill_table(), self.share_table(), self.check_table(), self.recovery_table()] {
            text.push_str(&table.to_string());
            text.push_str("\n\n");
        }
        for violation in &self.violation_list {
            text.push_str(&format!(
                "after kill {}: {}: {}\n",
                violation.kill, violation.what, violation.detail
            ));
        }
        if let Some(more) = self.violations.checked_sub(SHOWN as u64).filter(|more| *more > 0) {
            text.push_str(&format!("and {more} more\n"));
        }
        text.push_str(&self.verdict_line());
        text
    }

    fn verdict_line(&self) -> String {
        let rate = if self.seconds > 0.0 { self.kills as f64 / self.seconds } else { 0.0 };
        let line = format!(
            "{}: {} wrong answers in {} kills ({rate:.0} a second), {} batches acknowledged, {} window retries, seed {}",
            self.verdict.to_uppercase(),
            self.violations,
            self.kills,
            self.acked_batches,
            self.window_retries,
            self.seed
        );
        let line = match self.not_shown.as_slice() {
            [] => line,
            few => format!("{line}\nless than 2 % of the kills were inside of: {}", few.join(", ")),
        };
        match &self.dir {
            Some(dir) => format!("{line}\nkept: {dir}; the same choices again: {}", self.replay),
            None => line,
        }
    }

    fn kill_table(&self) -> Table {
        let rows = self.kills_by_point.iter().map(|(point, kills)| (*point, *kills));
        table("killed at", "times", rows.chain([("closed in order instead", self.clean_closes)]))
    }

    fn share_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["killed inside of", "times", "of all"]);
        for (operation, kills) in &self.kills_inside {
            let percent = *kills as f64 * 100.0 / self.kills.max(1) as f64;
            table.add_row([(*operation).to_owned(), kills.to_string(), format!("{percent:.1} %")]);
        }
        table
    }

    fn check_table(&self) -> Table {
        let rows = [
            ("batches acknowledged as new", self.acked_batches),
            ("batches read back and compared", self.batches_compared),
            ("fetches at any offset", self.fetches),
            ("batches found whose acknowledgement was never sent", self.unanswered_found),
            ("buffered batches lost to power cuts, as they may be", self.buffered_lost),
            ("retries of the last five after an open", self.window_retries),
            ("retries of the last five while appending", self.live_retries),
            ("retries of older batches", self.older_retries),
            ("retries of batches that a crash took", self.absent_retries),
            ("gaps refused", self.gaps),
            ("old epochs fenced", self.old_epochs),
            ("overlaps refused", self.overlaps),
            ("unknown producers refused", self.unknown_producers),
            ("appends refused for lack of space", self.failed_writes),
            ("second openers refused", self.second_openers),
            ("wrong answers", self.violations),
        ];
        let (txn, upkeep, others) = (&self.transactions, &self.upkeep, &self.partitions);
        let of_full = [
            ("markers acknowledged", txn.markers),
            ("transactions found open", txn.open_compared),
            ("reads of committed records compared", txn.committed_reads),
            ("retries of aborted batches", txn.aborted_retries),
            ("old coordinators fenced", txn.old_coordinators),
            ("truncations", upkeep.truncations),
            ("truncations refused as too low", upkeep.truncations_refused),
            ("batches appended as a follower", upkeep.followed),
            ("deletions that moved the log start", upkeep.deletions),
            ("deletions refused for lack of space", upkeep.deletions_failed),
            ("looks at another partition of the root", others.surveyed),
            ("batches of other partitions compared", others.batches_compared),
            ("batches acknowledged there", others.acked_batches),
            ("retries of the last five there", others.retries),
            ("old epochs and old holders of names fenced there", others.fenced),
            ("creations, deletions, rests, files of offsets", others.deeds),
            ("producer ids given out", others.ids),
            ("names claimed", others.claims),
            ("rounds of compaction", others.compactions),
            ("records compacted away, seen to be missing", others.records_compacted),
        ];
        let of_full = of_full.into_iter().filter(|_| self.profile == "full");
        let rows = rows.into_iter().chain(of_full);
        table("checked", "times", rows)
    }

    fn recovery_table(&self) -> Table {
        let r = &self.recoveries;
        let rows = [
            ("a clean close", r.clean),
            ("a run", r.from_run),
            ("a chain with a delta", r.from_delta_chain),
            ("the previous chain", r.from_previous_chain),
            ("a Kafka snapshot", r.from_snapshot),
            ("the log alone", r.full_replay),
            ("(newest run damaged first)", r.newest_run_damaged_first),
            ("(prefix of the log removed first)", r.prefix_removed_first),
            ("(tail torn first)", r.tail_torn_first),
            ("(unsynced bytes lost first)", r.power_cut_first),
            ("(another program wrote first)", r.another_program_first),
            ("(killed while recovering)", r.killed_while_recovering),
        ];
        table("opened from", "times", rows)
    }
}

fn table(what: &str, count: &str, rows: impl IntoIterator<Item = (&'static str, u64)>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([what, count]);
    for (name, times) in rows {
        table.add_row([name.to_owned(), times.to_string()]);
    }
    table
}
