//! A write that fails leaves nothing behind, and the next one works.

use oncelog::storage::{Fault, OperationKind};
use oncelog::{Durability, Outcome};

use super::stand::{EIO, ENOSPC, Stand, indeterminate, outcome, path, unavailable};
use crate::common::ledger::Issued;

const LOG: &str = "00000000000000000000.log";

#[test]
fn a_failed_write_is_unavailable_and_leaves_state_end_and_bytes_as_they_were() {
    let write = || Fault::on(OperationKind::Write).named(".log");
    let faults = [
        ("nothing written", write().with_errno(EIO), "os error 5"),
        ("a part written", write().with_errno(EIO).after_bytes(40), "os error 5"),
        ("all written and yet an error", write().with_errno(EIO).after_bytes(1 << 20), "os error 5"),
        ("no space", write().with_errno(ENOSPC), "os error 28"),
        ("no space half way", write().with_errno(ENOSPC).after_bytes(40), "os error 28"),
        ("no bytes taken", write().short(0), "write zero"),
    ];
    for (name, fault, cause) in faults {
        let stand = Stand::with_history();
        let before = stand.before();
        let bytes = stand.disk.kill().read(&path(LOG));
        stand.disk.fail(fault);
        let message = unavailable(stand.append(1, 7));
        assert!(
            message.starts_with(&format!("unavailable: write /logs/orders-0/{LOG}: ")),
            "{name}: {message}"
        );
        assert!(message.contains(cause), "{name}: {message}");
        assert_eq!(stand.disk.faults_struck(), 1, "{name}");
        assert_eq!(stand.before(), before, "{name}");
        assert_eq!(stand.disk.kill().read(&path(LOG)), bytes, "{name}");
        assert_eq!(stand.disk.power_cut().read(&path(LOG)), bytes, "{name}: it could come back");
        assert_eq!(outcome(stand.append(2, 7)), (Outcome::Appended, Some(before.end.0)), "{name}");
        assert_eq!(outcome(stand.append(1, 7)), (Outcome::Appended, Some(before.end.0 + 1)), "{name}");
        stand.check(&stand.disk.power_cut());
    }
}

#[test]
fn a_short_write_goes_on_where_it_stopped() {
    let stand = Stand::with_history();
    let end = stand.log.log_end_offset().0;
    stand.disk.fail(Fault::on(OperationKind::Write).named(".log").short(17));
    assert_eq!(outcome(stand.append(1, 7)), (Outcome::Appended, Some(end)));
    assert_eq!(stand.disk.faults_struck(), 1);
    stand.check(&stand.disk.power_cut());
}

#[test]
fn the_batches_behind_a_failed_one_are_judged_anew() {
    let stand = Stand::with_history();
    let end = stand.log.log_end_offset().0;
    stand.disk.fail(Fault::on(OperationKind::Write).named(".log"));
    // Each submit is a turn of its own here: the first fails, so the second leaves a gap.
    let first = stand.log.submit(Issued::new(1, 0, 7, 1).raw(), Durability::Durable).unwrap();
    let second = stand.log.submit(Issued::new(1, 0, 8, 1).raw(), Durability::Durable).unwrap();
    unavailable(first.wait());
    let gap = second.wait().unwrap_err();
    assert_eq!(gap.kafka_code(), 45, "{gap}");
    assert_eq!(outcome(stand.append(1, 7)), (Outcome::Appended, Some(end)));
    assert_eq!(outcome(stand.append(1, 8)), (Outcome::Appended, Some(end + 1)));
}

/// What remains when neither the write nor taking it back works, and what a retry is told after opening again.
#[test]
fn a_failed_write_that_cannot_be_taken_back_latches_and_a_retry_after_reopening_tells() {
    let write = || Fault::on(OperationKind::Write).named(".log");
    let cases = [
        ("nothing written", write(), Fault::on(OperationKind::SetLen), Outcome::Appended),
        ("a part written", write().after_bytes(40), Fault::on(OperationKind::SetLen), Outcome::Appended),
        ("all written", write().after_bytes(1 << 20), Fault::on(OperationKind::SetLen), Outcome::Duplicate),
        (
            "the sync of the cut fails",
            write().after_bytes(40),
            Fault::on(OperationKind::SyncData).named(".log"),
            Outcome::Appended,
        ),
    ];
    for (name, first, second, after) in cases {
        let stand = Stand::with_history();
        let before = stand.before();
        stand.disk.fail(first);
        stand.disk.fail(second);
        let message = indeterminate(stand.append(1, 7));
        assert!(message.contains("then taking it back: "), "{name}: {message}");
        assert_eq!(stand.before(), before, "{name}");

        let message = unavailable(stand.append(2, 7));
        assert!(message.contains("read-only") && message.contains("open it again"), "{name}: {message}");
        let end = before.end.0;
        assert_eq!(outcome(stand.retry(2, 6)), (Outcome::Duplicate, Some(end - 2)), "{name}");
        let first_of_window = i64::from(2 * 3);
        assert_eq!(outcome(stand.retry(1, 2)), (Outcome::Duplicate, Some(first_of_window)), "{name}");
        assert_eq!(stand.retry(2, 0).unwrap().outcome, Outcome::DuplicateBeyondWindow, "{name}");

        let stand = stand.reopen();
        assert_eq!(outcome(stand.append(1, 7)), (after, Some(end)), "{name}");
        assert_eq!(outcome(stand.append(2, 7)), (Outcome::Appended, Some(end + 1)), "{name}");
        stand.check(&stand.disk.power_cut());
    }
}
