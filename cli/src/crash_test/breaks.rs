//! The rules that can be switched off, and what of the test brings each to light soonest.
//!
//! Invariant: every rule of the library is here; a test counts.

use oncelog::testing::Break;

use super::args::Profile;
use super::partitions::Favour;

/// What a schedule does more of, so that one rule's absence shows within a few kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Focus {
    /// Everything in its share.
    #[default]
    Everything,
    /// Cut the log and append to it as another program would.
    AnotherProgram,
    /// Take away unsynced bytes.
    PowerLoss,
    /// Make writes fail.
    WriteFailures,
    /// Truncate.
    Truncation,
    /// Delete records.
    Deletion,
    /// Close in order, and go on.
    Closing,
    /// Compact.
    Compaction,
    /// Do this to the root.
    Often(Favour),
}

/// One line for people: what happens without the rule.
pub(super) fn describe(rule: Break) -> &'static str {
    match rule {
        Break::WindowOfOne => {
            "after a restart only one batch per producer is known, as from Kafka's .snapshot"
        }
        Break::ForgetRuns => "every run is forgotten at open: the state starts empty at the log's end",
        Break::IgnoreDelta => "one delta is left out of the chain at open",
        Break::RunAboveEnd => "a chain is used although it ends above the log or does not match it",
        Break::ApplyBeforeWrite => "a batch counts as stored before its write, also when the write fails",
        Break::DuplicateBeforeOriginal => "a duplicate is acknowledged before its original is durable",
        Break::AckBeforeSync => "Durable appends are acknowledged without a sync",
        Break::AcceptGap => "any sequence is appended",
        Break::ForgetFence => "a lower epoch may append",
        Break::ScanEverything => {
            "every recovery scans the log from its start, as if there were no checkpoint"
        }
        Break::ForgetOpenTransactions => "open transactions are forgotten at open",
        Break::DuplicateAborted => {
            "the retry of an aborted batch is answered as a duplicate, which is a success"
        }
        Break::LoseAbortedIndex => "below the checkpoint no aborted transaction is known after an open",
        Break::StableIgnoresOpen => "the last stable offset runs past open transactions",
        Break::ForgetLogStart => "records are deleted without the new log start in the manifest",
        Break::DeleteBeforeBase => {
            "segments are deleted although no checkpoint of their producers reaches beyond"
        }
        Break::TruncateWithoutIntent => "a truncation is begun without a note that would let an open end it",
        Break::TruncateKeepsState => "a truncation leaves the producers in memory as they were before it",
        Break::IdsWithoutFile => "producer ids are given out without noting which are taken",
        Break::RecoveryPointsAhead => "the root's recovery points are the log ends, synced or not",
        Break::KeepCleanMark => "the mark of a clean stop stays where it is while logs are written",
        Break::KeepDeletedLines => {
            "what the root's files say of a deleted partition is kept for the next of its name"
        }
        Break::ClaimWithoutFence => "a name goes to another holder and the one before is not fenced",
        Break::CompactionDropsLast => "compaction takes the last batch of a producer too",
        Break::CompactionWithoutIntent => {
            "a compacted segment takes the place of others without a note that would let an open end it"
        }
        Break::CompactionUnsynced => "a compacted segment takes the place of others before it is synced",
        Break::CompactionIgnoresOpen => "compaction goes beyond the last stable offset",
        _ => "a rule that this program does not know",
    }
}

/// Where the absence of the rule shows.
pub(super) fn focus(rule: Option<Break>) -> Focus {
    match rule {
        Some(Break::RunAboveEnd) => Focus::AnotherProgram,
        Some(Break::AckBeforeSync | Break::DuplicateBeforeOriginal) => Focus::PowerLoss,
        Some(Break::ApplyBeforeWrite) => Focus::WriteFailures,
        Some(Break::TruncateWithoutIntent | Break::TruncateKeepsState) => Focus::Truncation,
        Some(Break::ForgetLogStart | Break::DeleteBeforeBase) => Focus::Deletion,
        Some(Break::KeepCleanMark) => Focus::Closing,
        Some(Break::IdsWithoutFile) => Focus::Often(Favour::Allocate),
        Some(Break::RecoveryPointsAhead) => Focus::Often(Favour::WriteOffsets),
        Some(Break::KeepDeletedLines) => Focus::Often(Favour::Create),
        Some(Break::ClaimWithoutFence) => Focus::Often(Favour::Claim),
        Some(
            Break::CompactionDropsLast
            | Break::CompactionWithoutIntent
            | Break::CompactionUnsynced
            | Break::CompactionIgnoresOpen,
        ) => Focus::Compaction,
        _ => Focus::Everything,
    }
}

/// The smallest profile in which it can show.
pub(super) fn profile(rule: Break) -> Profile {
    match rule {
        Break::ForgetOpenTransactions
        | Break::DuplicateAborted
        | Break::LoseAbortedIndex
        | Break::StableIgnoresOpen
        | Break::ForgetLogStart
        | Break::DeleteBeforeBase
        | Break::TruncateWithoutIntent
        | Break::TruncateKeepsState
        | Break::IdsWithoutFile
        | Break::RecoveryPointsAhead
        | Break::KeepCleanMark
        | Break::KeepDeletedLines
        | Break::ClaimWithoutFence
        | Break::CompactionDropsLast
        | Break::CompactionWithoutIntent
        | Break::CompactionUnsynced
        | Break::CompactionIgnoresOpen => Profile::Full,
        _ => Profile::Core,
    }
}

/// All names with their descriptions, one a line.
pub(super) fn list() -> String {
    let line = |rule: &Break| format!("{:<26} {}\n", rule.name(), describe(*rule));
    Break::ALL.iter().map(line).collect()
}

/// The rule of this name, or what names there are.
pub(super) fn parse(name: &str) -> Result<Break, String> {
    Break::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Break::ALL.iter().map(|rule| rule.name()).collect();
        format!("there is no rule of this name; accepted are list, {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_library_is_described_in_the_list() {
        let list = list();
        assert_eq!(list.lines().count(), Break::ALL.len());
        for rule in Break::ALL {
            assert_ne!(describe(*rule), "a rule that this program does not know", "{}", rule.name());
            assert!(list.contains(rule.name()));
        }
    }

    #[test]
    fn an_unknown_rule_is_refused_with_the_names_that_there_are() {
        let error = parse("window-of-six").unwrap_err();
        assert!(error.contains("window-of-one, forget-runs"), "{error}");
        assert_eq!(parse("accept-gap"), Ok(Break::AcceptGap));
    }
}
