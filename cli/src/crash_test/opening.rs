//! Whether an open was what it had to be after what had happened to the directory.
//!
//! Invariant: what recovery may believe, reject and read follows from what the parent saw in the directory and did to it,
//! not from the report alone.

use std::collections::BTreeSet;

use oncelog::format::names;

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
    pub(super) fn another_program(&self) -> bool {
        self.done.iter().any(|done| matches!(done, Done::AnotherProgram(_)))
    }
}

/// Compares a report with what it had to be. A run that was once damaged may be named as the previous chain's for long.
pub(super) fn check(
    opened: &Opened,
    before: &Inspected,
    since: &Since,
    lost_runs: &BTreeSet<u64>,
) -> Vec<Violation> {
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
        // A recovery that was killed may have taken it away because a power cut had taken the markers that it lists; the
        // manifest of before still notes them.
        let taken_away = since.died_opening && file.ends_with(".txnindex");
        if !taken_away && !lost_runs.iter().any(|number| *file == names::run_name(*number)) {
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

#[cfg(test)]
mod tests {
    use oncelog::types::{LogPoint, Offset, Position};

    use super::super::inspect::Run;
    use super::*;

    /// Two segments of 1000 and 500 bytes, and a run that ends 400 bytes into the first.
    fn before() -> Inspected {
        let end =
            LogPoint { segment: Offset(0), position: Position(400), offset: Offset(40), last_batch: None };
        let run = Run { number: 3, end };
        let segments = vec![(0, 1000), (100, 500)];
        Inspected {
            segments,
            chain: vec![run],
            previous: Vec::new(),
            watermark: None,
            log_start: 0,
            snapshots: Vec::new(),
        }
    }

    fn opened(kind: &str, read: u64) -> Opened {
        Opened {
            kind: kind.to_owned(),
            runs: vec![3],
            previous_chain: false,
            snapshot: None,
            rejected: Vec::new(),
            scanned_bytes: read,
            unverified_bytes: 0,
            replayed_bytes: read,
            cuts: Vec::new(),
            text: String::new(),
        }
    }

    fn violations(opened: &Opened, since: &Since) -> Vec<&'static str> {
        check(opened, &before(), since, &BTreeSet::from([3])).iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn a_recovery_may_read_what_was_written_since_the_checkpoint_and_no_more() {
        let since = Since::default();
        assert!(violations(&opened("Unclean", 1100 + BOUND_SLACK), &since).is_empty());
        let too_much = violations(&opened("Unclean", 1101 + BOUND_SLACK), &since);
        assert_eq!(too_much, ["a recovery read more than was written since the checkpoint"]);
    }

    #[test]
    fn a_clean_close_is_believed_after_one_and_never_otherwise() {
        let clean = opened("Clean", 0);
        assert_eq!(
            violations(&clean, &Since::default()),
            ["a clean close was believed after an unclean end"]
        );
        let closed = Since { closed: true, ..Since::default() };
        assert!(violations(&clean, &closed).is_empty());
        assert_eq!(violations(&opened("Unclean", 0), &closed), ["a clean close was not believed"]);
        let perhaps = Since { perhaps_closed: true, ..Since::default() };
        assert!(violations(&clean, &perhaps).is_empty());
        assert!(violations(&opened("Unclean", 0), &perhaps).is_empty());
    }

    #[test]
    fn another_program_must_be_noticed_and_must_not_be_imagined() {
        let wrote = Since { done: vec![Done::AnotherProgram(5)], ..Since::default() };
        assert!(violations(&opened("AnotherProgramWrote", 9_999), &wrote).is_empty());
        assert_eq!(violations(&opened("Unclean", 0), &wrote), ["another program's writing was not noticed"]);
        let repaired = Since { died_opening: true, ..wrote };
        assert!(violations(&opened("Unclean", 0), &repaired).is_empty());
        let imagined = violations(&opened("AnotherProgramWrote", 0), &Since::default());
        assert_eq!(imagined, ["another program was seen where there was none"]);
    }

    #[test]
    fn only_the_run_that_was_damaged_may_be_rejected() {
        let mut opened = opened("Unclean", 0);
        let run = |number| vec![(names::run_name(number), "why".to_owned())];
        opened.rejected = run(3);
        assert!(violations(&opened, &Since::default()).is_empty());
        opened.rejected = run(4);
        assert_eq!(violations(&opened, &Since::default()), ["a file that nobody had damaged was rejected"]);
        opened.rejected = vec![(names::txn_index_name(Offset(0)), "why".to_owned())];
        assert_eq!(violations(&opened, &Since::default()), ["a file that nobody had damaged was rejected"]);
        let killed = Since { died_opening: true, ..Since::default() };
        assert!(violations(&opened, &killed).is_empty());
    }
}
