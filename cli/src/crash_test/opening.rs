//! Whether an open was what it had to be after what had happened to the directory.
//!
//! Invariant: what recovery may believe, reject and read follows from what the parent saw in the directory and did to it,
//! not from the report alone.

use super::inspect::Inspected;
use super::protocol::Opened;
use super::report::{Tally, Violation};
use super::tamper::Done;

/// Beside what lies behind the checkpoint in force, recovery reads the batch that ends there, and that which ends at the
/// watermark, to compare their fingerprints: two batches of this test at most.
pub(super) const BOUND_SLACK: u64 = 2048;

/// What has happened since the last open that succeeded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Since {
    pub(super) done: Vec<Done>,
    /// A child died while it opened the log: it may have repaired something.
    pub(super) died_opening: bool,
    /// The last session closed the log in order and nothing was sent to it since.
    pub(super) closed: bool,
    /// As `closed`, but batches were sent whose fate is unknown.
    pub(super) perhaps_closed: bool,
}

impl Since {
    fn damaged(&self, file: &str) -> bool {
        self.done
            .iter()
            .any(|done| matches!(done, Done::RunDamaged(number) if file == format!("producers.{number}.run")))
    }

    pub(super) fn another_program(&self) -> bool {
        self.done.iter().any(|done| matches!(done, Done::AnotherProgram(_)))
    }
}

/// Compares a report with what it had to be.
pub(super) fn check(opened: &Opened, before: &Inspected, since: &Since) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut violated = |what, detail: String| violations.push(Violation::new(what, detail));
    let clean = opened.kind == "Clean";
    if clean && !since.closed && !since.perhaps_closed {
        violated("a clean close was believed after an unclean end", opened.text.clone());
    }
    if since.closed && !clean {
        violated("a clean close was not believed", opened.text.clone());
    }
    let noticed = opened.kind == "AnotherProgramWrote";
    if since.another_program() && !noticed && !since.died_opening {
        violated("another program's writing was not noticed", opened.text.clone());
    }
    if noticed && !since.another_program() {
        violated("another program was seen where there was none", opened.text.clone());
    }
    if since.another_program() {
        // It voids watermark and chains: what is rejected and how much is read is up to it.
        return violations;
    }
    for (file, reason) in &opened.rejected {
        if !since.damaged(file) {
            violated("a file that nobody had damaged was rejected", format!("{file}: {reason}"));
        }
    }
    let allowed = before.bytes_behind(before.chain_ends(None).first());
    let read = opened.scanned_bytes.saturating_add(opened.unverified_bytes);
    if read.max(opened.replayed_bytes) > allowed.saturating_add(BOUND_SLACK) {
        let detail = format!(
            "{} bytes scanned, {} hopped over, {} replayed; {allowed} were written since the newest checkpoint in force",
            opened.scanned_bytes, opened.unverified_bytes, opened.replayed_bytes
        );
        violated("a recovery read more than was written since the checkpoint", detail);
    }
    violations
}

/// Counts what the open came after.
pub(super) fn count(tally: &mut Tally, opened: &Opened, since: &Since) {
    tally.opened(opened);
    let recoveries = &mut tally.recoveries;
    recoveries.killed_while_recovering += u64::from(since.died_opening);
    let happened = |wanted: fn(&Done) -> bool| u64::from(since.done.iter().any(wanted));
    let avoided = |done: &&Done| matches!(done, Done::RunDamaged(number) if !opened.runs.contains(number));
    recoveries.newest_run_damaged_first += u64::from(since.done.iter().any(|done| avoided(&done)));
    recoveries.prefix_removed_first += happened(|done| matches!(done, Done::PrefixRemoved(_)));
    recoveries.tail_torn_first += happened(|done| matches!(done, Done::TailTorn));
    recoveries.power_cut_first += happened(|done| matches!(done, Done::PowerCut(_)));
    recoveries.another_program_first += happened(|done| matches!(done, Done::AnotherProgram(_)));
}
