//! No space: what needs it fails, everything else goes on, and it works again when there is space.

use oncelog::format::manifest::Manifest;
use oncelog::format::names::MANIFEST;
use oncelog::storage::{Fault, OperationKind};
use oncelog::{Durability, Error, Outcome};

use super::stand::{ENOSPC, EROFS, Stand, indeterminate, names, outcome, path, unavailable};
use crate::common::check::content_of;
use crate::common::ledger::Issued;

#[test]
fn a_checkpoint_without_space_fails_no_append_and_is_made_later() {
    let full = [
        Fault::on(OperationKind::Create).named(".run"),
        Fault::on(OperationKind::Write).named(".run"),
        Fault::on(OperationKind::SyncData).named(".run"),
        Fault::on(OperationKind::SyncAll).named(".run"),
        Fault::on(OperationKind::Create).named("oncelog.manifest"),
        Fault::on(OperationKind::Write).named("oncelog.manifest"),
        Fault::on(OperationKind::SyncData).named("oncelog.manifest"),
        Fault::on(OperationKind::Rename).named("oncelog.manifest"),
        Fault::on(OperationKind::Write).named(".index"),
    ];
    let mut struck = 0;
    for (number, fault) in full.into_iter().enumerate() {
        let stand = Stand::with_history();
        stand.disk.fail(fault.with_errno(ENOSPC).from_then_on());
        let failed = stand.log.checkpoint();
        if stand.disk.faults_struck() == 0 {
            continue;
        }
        struck += 1;
        let error = failed.unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{number}: {error}");
        assert!(error.to_string().contains("os error 28"), "{number}: {error}");
        assert_eq!(outcome(stand.append(1, 7)).0, Outcome::Appended, "{number}");
        assert!(stand.log.checkpoint().is_err(), "{number}: there is still no space");
        assert_eq!(outcome(stand.append(1, 8)).0, Outcome::Appended, "{number}");
        assert_eq!(outcome(stand.retry(1, 4)), (Outcome::Duplicate, Some(12)), "{number}");
        stand.check(&stand.disk.power_cut());

        stand.disk.clear_faults();
        stand.log.checkpoint().unwrap();
        let manifest = Manifest::decode(&stand.disk.kill().read(&path(MANIFEST)).unwrap()).unwrap();
        let runs = names(&stand.disk, |name| name.ends_with(".run")).len();
        assert_eq!(
            runs,
            manifest.chain.len() + manifest.previous_chain.len(),
            "{number}: a run is left over"
        );
        stand.log.checkpoint().unwrap();
        let checked = stand.check(&stand.disk.power_cut());
        assert!(checked.report.chain.is_some(), "{number}: {}", checked.report);
    }
    assert!(struck >= 6, "only {struck} of the faults met anything");
}

#[test]
fn a_roll_without_a_next_segment_is_unavailable_until_there_is_space() {
    let stand = Stand::with_history();
    for kind in [OperationKind::Create, OperationKind::Allocate] {
        stand.disk.fail(Fault::on(kind).named("oncelog.next").with_errno(ENOSPC).from_then_on());
    }
    // One segment may have been made ahead already: the roll after the next cannot happen.
    let mut sequence = 7;
    let (message, before) = loop {
        let before = stand.before();
        match stand.append(1, sequence) {
            Ok(_) => sequence += 1,
            answer => break (unavailable(answer), before),
        }
        assert!(sequence < 200, "the log never rolled");
    };
    assert!(message.contains("the next segment cannot be begun"), "{message}");
    assert!(message.contains("os error 28"), "{message}");
    assert_eq!(stand.before(), before);
    unavailable(stand.append(1, sequence));
    assert_eq!(outcome(stand.retry(1, sequence - 1)).0, Outcome::Duplicate);
    stand.check(&stand.disk.power_cut());

    stand.disk.clear_faults();
    assert_eq!(outcome(stand.append(1, sequence)), (Outcome::Appended, Some(before.end.0)));
    stand.check(&stand.disk.power_cut());
}

#[test]
fn a_full_disk_loses_nothing_and_works_again_with_space() {
    let stand = Stand::with_history();
    stand.disk.set_capacity(Some(24_000));
    let mut sequence = 7;
    let answer = loop {
        match stand.append(1, sequence) {
            Ok(_) => sequence += 1,
            Err(error) => break error,
        }
        assert!(sequence < 1_000, "the disk is never full");
    };
    assert!(matches!(answer, Error::Unavailable { .. } | Error::Indeterminate { .. }), "{answer}");
    assert_eq!(outcome(stand.retry(1, sequence - 1)).0, Outcome::Duplicate);
    assert!(content_of(&stand.log).is_ok());
    stand.check(&stand.disk.power_cut());
    stand.disk.set_capacity(None);
    let first = outcome(stand.append(1, sequence)).0;
    let expected =
        if matches!(answer, Error::Unavailable { .. }) { Outcome::Appended } else { Outcome::Duplicate };
    assert_eq!(first, expected);
    stand.log.checkpoint().unwrap();
    stand.check(&stand.disk.power_cut());
}

#[test]
fn a_disk_that_turns_read_only_leaves_the_log_readable_and_loses_nothing() {
    let stand = Stand::with_history();
    let before = stand.before();
    stand.disk.fail(Fault::on_any_mutation().with_errno(EROFS).from_then_on());
    let message = indeterminate(stand.send(Issued::new(1, 0, 7, 1), Durability::Durable));
    assert!(message.contains("os error 30"), "{message}");
    unavailable(stand.append(2, 7));
    assert_eq!(stand.before(), before);
    assert_eq!(outcome(stand.retry(3, 6)), (Outcome::Duplicate, Some(20)));
    assert!(stand.log.checkpoint().is_err());
    let stand = stand.reopen();
    assert_eq!(outcome(stand.append(1, 7)), (Outcome::Appended, Some(before.end.0)));
    stand.check(&stand.disk.power_cut());
}
