//! One failure at every operation of a workload, of several kinds: whatever fails, clients that send again what was not
//! acknowledged end with every batch once in the log.

use oncelog::storage::{Fault, MemoryStorage, OperationKind};
use oncelog::{Durability, Error, Log, Outcome, RecoveryReport};

use super::stand::{EIO, ENOSPC, Stand};
use crate::common::check;
use crate::common::ledger::{Issued, SharedLedger};

const PRODUCERS: i64 = 4;
const ROUNDS: i32 = 6;
/// Batches in flight.
const WINDOW: i32 = 3;
/// A client gives up after so many tries: a log that does not come back is a failure of its own.
const TRIES: usize = 12;

/// The clients of a log that may fail at any moment.
struct Clients {
    disk: MemoryStorage,
    log: Option<Log>,
    ledger: SharedLedger,
    reports: Vec<RecoveryReport>,
    /// Whether clean pages are forgotten before an opening: bytes of a failed sync are gone then.
    forget_pages: bool,
}

impl Clients {
    fn new(disk: &MemoryStorage, forget_pages: bool) -> Self {
        let ledger = SharedLedger::default();
        Self { disk: disk.clone(), log: None, ledger, reports: Vec::new(), forget_pages }
    }

    fn reopen(&mut self) {
        drop(self.log.take());
        for _ in 0..TRIES {
            if self.forget_pages {
                self.disk.drop_clean_pages();
            }
            match check::open(&self.disk) {
                Ok((log, report)) => {
                    self.log = Some(log);
                    self.reports.push(report);
                    return;
                }
                Err(error @ Error::Io { .. }) => {
                    assert!(error.to_string().contains(" /"), "no path in: {error}");
                    // The next one is tried on a disk that works.
                    self.disk.clear_faults();
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the log cannot be opened any more");
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open between two sends")
    }

    fn run(&mut self) {
        self.reopen();
        for round in 0..ROUNDS {
            for producer in 0..PRODUCERS {
                self.send_window(producer, round * WINDOW);
            }
            // What the background does may fail too; it is tried again.
            let _checkpoint = self.log().checkpoint();
            if round == 1 {
                let log = self.log.take().expect("open between two sends");
                let _close = log.close();
                self.reopen();
            }
        }
        let log = self.log.take().expect("open between two sends");
        let _close = log.close();
    }

    /// Has a few batches in flight, sends again what failed, and opens the log again if that does not help.
    fn send_window(&mut self, producer: i64, first: i32) {
        let mut pending: Vec<Pending> = (first..first + WINDOW)
            .map(|sequence| {
                let batch = Issued::new(producer, 0, sequence, 1);
                Pending { batch: batch.clone(), place: self.ledger.issue(batch), absent: true }
            })
            .collect();
        for attempt in 0..TRIES {
            let sent: Vec<_> = pending
                .drain(..)
                .map(|pending| {
                    let completion = self.log().submit(pending.batch.raw(), Durability::Durable);
                    (pending, completion)
                })
                .collect();
            for (mut batch, completion) in sent {
                let answer = completion.and_then(oncelog::Completion::wait);
                match &answer {
                    Ok(appended) => {
                        let new = appended.outcome == Outcome::Appended;
                        assert!(new || !batch.absent, "{:?} was certainly absent: {appended:?}", batch.batch);
                        self.ledger.answered(batch.place, Durability::Durable, answer);
                        continue;
                    }
                    Err(Error::Unavailable { .. }) => {}
                    Err(Error::Indeterminate { .. }) => batch.absent = false,
                    // One before it failed: it leaves a gap, or is a new producer's second.
                    Err(Error::Rejected(gap))
                        if matches!(gap.kafka_code(), 45 | 59) && !pending.is_empty() => {}
                    Err(error) => panic!("{:?}: {error}", batch.batch),
                }
                pending.push(batch);
            }
            if pending.is_empty() {
                return;
            }
            if attempt > 0 {
                drop(self.log.take());
                self.disk.clear_faults();
                self.reopen();
            }
        }
        panic!("{} batches are not acknowledged after {TRIES} tries", pending.len());
    }
}

struct Pending {
    batch: Issued,
    place: usize,
    /// No answer so far allows it to be in the log.
    absent: bool,
}

/// Runs the workload with a failure of operation `number` of those that `fault` fits; returns whether it was reached.
fn fail_operation(fault: Fault, number: u64) -> bool {
    let disk = MemoryStorage::new();
    disk.fail(fault.nth(number));
    let mut clients = Clients::new(&disk, number.is_multiple_of(2));
    clients.run();
    let struck = disk.faults_struck() > 0;
    disk.clear_faults();
    clients.reopen();
    let log = clients.log.take().expect("just opened");
    let expected = PRODUCERS * i64::from(ROUNDS * WINDOW);
    assert_eq!(log.log_end_offset().0, expected, "a batch is missing or there twice");
    let stand = Stand { disk, log, ledger: clients.ledger };
    stand.check(&stand.disk.power_cut());
    struck
}

/// Lets one operation after the other fail, until the workload ends before the failure. Returns how many there were.
fn fail_each(name: &str, fault: &Fault) -> u64 {
    let mut number = 1;
    loop {
        let run = std::panic::catch_unwind(|| fail_operation(fault.clone(), number));
        if !run.unwrap_or_else(|_| panic!("{name} at operation {number}; see above")) {
            println!("{name}: {} operations failed in turn", number - 1);
            return number - 1;
        }
        number += 1;
    }
}

#[test]
fn an_input_output_error_at_any_operation_breaks_no_promise() {
    let failed = fail_each("EIO", &Fault::on_any_mutation().with_errno(EIO));
    assert!(failed >= 150, "the workload has only {failed} operations");
}

#[test]
fn a_full_disk_at_any_operation_breaks_no_promise() {
    let failed = fail_each("ENOSPC", &Fault::on_any_mutation().with_errno(ENOSPC));
    assert!(failed >= 150, "the workload has only {failed} operations");
}

#[test]
fn a_disk_that_dies_at_any_operation_and_is_repaired_breaks_no_promise() {
    let failed = fail_each("EIO until reopened", &Fault::on_any_mutation().with_errno(EIO).from_then_on());
    assert!(failed >= 150, "the workload has only {failed} operations");
}

#[test]
fn a_disk_that_is_full_from_any_operation_on_until_space_is_made_breaks_no_promise() {
    let full = Fault::on_any_mutation().with_errno(ENOSPC).from_then_on();
    let failed = fail_each("ENOSPC until reopened", &full);
    assert!(failed >= 150, "the workload has only {failed} operations");
}

#[test]
fn a_write_that_fails_half_way_breaks_no_promise() {
    let torn = Fault::on(OperationKind::Write).with_errno(EIO).after_bytes(30);
    let failed = fail_each("EIO after 30 bytes", &torn);
    assert!(failed >= 50, "the workload has only {failed} writes");
}

#[test]
fn a_failure_of_anything_that_only_reads_breaks_no_promise() {
    let kinds = [OperationKind::Read, OperationKind::Open, OperationKind::List, OperationKind::Lock];
    let failed: u64 = kinds
        .map(|kind| fail_each(&format!("EIO on {kind:?}"), &Fault::on(kind).with_errno(EIO)))
        .iter()
        .sum();
    assert!(failed >= 50, "the workload has only {failed} operations that read");
}
