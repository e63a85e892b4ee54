//! A failed sync latches: what was not proven durable is not counted on, neither now nor after opening again in the
//! same boot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oncelog::storage::{Fault, MemoryStorage, OperationKind};
use oncelog::{Completion, Durability, Error, Outcome};

use super::stand::{Stand, indeterminate, outcome, unavailable};
use crate::common::check::{self, content_of};
use crate::common::ledger::Issued;

/// Batches in flight, written and not synced; two of the producer's window are durable.
fn three_in_flight(stand: &Stand) -> Vec<Completion> {
    (7..10)
        .map(|sequence| {
            let batch = Issued::new(1, 0, sequence, 1);
            let raw = batch.raw();
            stand.ledger.issue(batch);
            stand.log.submit(raw, Durability::Durable).unwrap()
        })
        .collect()
}

fn fail_next_sync(disk: &MemoryStorage) {
    disk.fail(Fault::on(OperationKind::SyncData).named(".log"));
}

#[test]
fn a_failed_sync_answers_everybody_indeterminate_and_is_never_tried_again() {
    let stand = Stand::with_history();
    let before = stand.before();
    let waiting = three_in_flight(&stand);
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    stand.disk.on_operation(move |operation, _| {
        let sync = matches!(operation.kind, OperationKind::SyncData | OperationKind::SyncAll);
        if sync && operation.name().ends_with(".log") {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    fail_next_sync(&stand.disk);
    let flushed = stand.log.flush();
    let message = indeterminate(flushed);
    assert!(message.contains("a sync of segment 0 failed"), "{message}");
    for completion in waiting {
        indeterminate(completion.wait());
    }
    assert_eq!(stand.log.high_watermark(), before.high_watermark);

    unavailable(stand.append(2, 7));
    indeterminate(stand.retry(1, 9));
    assert_eq!(outcome(stand.retry(1, 6)), (Outcome::Duplicate, Some(18)));
    indeterminate(stand.log.flush());
    unavailable(stand.log.checkpoint());
    stand
        .log
        .maintain()
        .unwrap_or_else(|error| assert!(matches!(error, Error::Unavailable { .. }), "{error}"));
    assert_eq!(syncs.load(Ordering::Relaxed), 1, "a sync was tried again");

    // Readers of what is durable go on; closing in order is refused, because nothing could vouch for the end.
    let durable = stand.log.fetch(oncelog::Offset(0), 1 << 20, oncelog::Isolation::HighWatermark).unwrap();
    assert_eq!(durable.bytes().unwrap(), before.content);
    unavailable(stand.log.close());
    assert_eq!(syncs.load(Ordering::Relaxed), 1, "closing tried the sync again");
}

#[test]
fn after_a_failed_sync_whose_pages_are_gone_the_log_ends_at_the_watermark() {
    let stand = Stand::with_history();
    let before = stand.before();
    let waiting = three_in_flight(&stand);
    fail_next_sync(&stand.disk);
    indeterminate(stand.log.flush());
    drop(waiting);
    stand.disk.drop_clean_pages();
    let stand = stand.reopen();
    assert_eq!(stand.log.log_end_offset(), before.end);
    assert_eq!(content_of(&stand.log).unwrap(), before.content);
    assert_eq!(outcome(stand.append(1, 7)), (Outcome::Appended, Some(before.end.0)));
    stand.check(&stand.disk.power_cut());
}

#[test]
fn after_a_failed_sync_whose_pages_are_still_cached_they_are_written_again_before_they_count() {
    let stand = Stand::with_history();
    let end = stand.log.log_end_offset().0;
    let waiting = three_in_flight(&stand);
    fail_next_sync(&stand.disk);
    indeterminate(stand.log.flush());
    drop(waiting);
    let Stand { disk, log, ledger } = stand;
    drop(log);
    let (log, report) = check::open(&disk).unwrap();
    assert!(report.rewritten_bytes > 0, "{report}");
    assert!(report.notes.iter().any(|note| note.contains("a sync failed")), "{report}");
    let stand = Stand { disk, log, ledger };
    // Later syncs answer Ok without writing pages that a failed one has marked clean: only a new write helps.
    assert_eq!(outcome(stand.append(1, 9)), (Outcome::Duplicate, Some(end + 2)));
    stand.check(&stand.disk.power_cut());
}

#[test]
fn a_second_failure_while_the_tail_is_written_again_refuses_to_open() {
    let stand = Stand::with_history();
    let waiting = three_in_flight(&stand);
    fail_next_sync(&stand.disk);
    indeterminate(stand.log.flush());
    drop(waiting);
    let Stand { disk, log, ledger } = stand;
    drop(log);
    for fault in [
        Fault::on(OperationKind::SyncAll).named(".log"),
        Fault::on(OperationKind::Write).named(".log"),
        Fault::on(OperationKind::SyncDir),
    ] {
        disk.fail(fault);
        let error = check::open(&disk).unwrap_err();
        assert!(matches!(&error, Error::Io { .. }), "{error}");
        assert!(error.to_string().contains("/logs/orders-0"), "{error}");
    }
    let (log, _) = check::open(&disk).unwrap();
    let stand = Stand { disk, log, ledger };
    stand.check(&stand.disk.power_cut());
}

#[test]
fn a_failed_directory_sync_at_a_roll_latches() {
    let stand = Stand::with_history();
    let durable = stand.log.high_watermark();
    let mut waiting = Vec::new();
    for sequence in 7.. {
        if super::stand::names(&stand.disk, |name| name.ends_with(".log")).len() > 1 {
            break;
        }
        waiting.push(stand.log.submit(Issued::new(1, 0, sequence, 1).raw(), Durability::Durable).unwrap());
    }
    stand.disk.fail(Fault::on(OperationKind::SyncDir));
    indeterminate(stand.log.flush());
    for completion in waiting {
        indeterminate(completion.wait());
    }
    assert_eq!(stand.log.high_watermark(), durable);
    unavailable(stand.append(2, 7));
    assert_eq!(outcome(stand.retry(2, 6)), (Outcome::Duplicate, Some(19)));
    let stand = stand.reopen();
    assert_eq!(outcome(stand.append(2, 7)).0, Outcome::Appended);
}

#[test]
fn a_failed_directory_sync_at_a_checkpoint_latches_because_nobody_knows_which_manifest_stands() {
    let steps = [
        ("sync /logs/orders-0", "a sync of the directory failed"),
        ("oncelog.manifest", "the manifest could not be"),
    ];
    for (nth, (file, why)) in (1..).zip(steps) {
        let stand = Stand::with_history();
        stand.disk.fail(Fault::on(OperationKind::SyncDir).nth(nth));
        let error = stand.log.checkpoint().unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
        let message = unavailable(stand.append(1, 7));
        assert!(message.contains(why), "{message}");
        let (cut, killed) = (stand.disk.power_cut(), stand.disk.kill());
        stand.check(&cut);
        stand.check(&killed);
    }
}
