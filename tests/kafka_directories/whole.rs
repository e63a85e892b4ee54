//! One directory from its first open on: all of what Kafka says of it, through a kill and two closes.

use oncelog::recovery::RecoveryKind;
use oncelog::{Durability, Error, Log, Offset, Outcome, RawBatch, Rejection};

use crate::fixture::{Fixture, int};
use crate::producers::{batch_of, check_producers, check_retries, check_snapshot_names};
use crate::reading::check_batches;

/// Batches, producers and retries of an open log.
pub(crate) fn check_all(fixture: &Fixture, log: &Log) {
    assert_eq!(log.log_start_offset(), Offset(fixture.log_start()));
    check_batches(fixture, log, 1);
    check_batches(fixture, log, 1 << 20);
    check_producers(fixture, log);
    check_retries(fixture, log);
}

/// Opens a fixture, compares all of it, kills the log, opens, appends, closes, opens again.
pub(crate) fn check_fixture(name: &str, kind: RecoveryKind) {
    const NEWCOMER: i64 = 9_000_000;
    let fixture = Fixture::unpack(name);
    let (log, report) = fixture.open();
    assert_eq!(report.kind, kind, "{report}");
    assert_eq!(report.log_end_offset, Offset(fixture.log_end()), "{report}");
    assert_eq!(report.log_start_offset, Offset(fixture.log_start()), "{report}");
    assert_eq!(log.log_end_offset(), Offset(fixture.log_end()));
    assert_eq!(log.high_watermark(), log.log_end_offset());
    check_all(&fixture, &log);
    drop(log);

    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Unclean, "{report}");
    assert_eq!(report.cuts, [], "what is cut is cut once");
    assert_eq!(log.log_end_offset(), Offset(fixture.log_end()));
    check_all(&fixture, &log);
    log.close().unwrap();
    check_snapshot_names(&fixture, Offset(fixture.log_end()), &[]);

    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
    check_all(&fixture, &log);
    let end = fixture.log_end();
    let first = batch_of(NEWCOMER, 0, 0, 3);
    let appended = log.append(RawBatch(first.clone()), Durability::Durable).unwrap();
    assert_eq!((appended.outcome, appended.base_offset), (Outcome::Appended, Some(Offset(end))));
    log.close().unwrap();
    check_snapshot_names(&fixture, Offset(end + 3), &[NEWCOMER]);

    let (log, report) = fixture.open();
    assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
    assert_eq!(log.log_end_offset(), Offset(end + 3));
    check_producers(&fixture, &log);
    check_retries(&fixture, &log);
    let again = log.append(RawBatch(first), Durability::Durable).unwrap();
    assert_eq!((again.outcome, again.base_offset), (Outcome::Duplicate, Some(Offset(end))));
    check_every_producer_goes_on(&fixture, &log);
}

/// The next sequence of every known producer is appended, one further on is a gap.
fn check_every_producer_goes_on(fixture: &Fixture, log: &Log) {
    for known in fixture.kafka()["producers"].as_array().unwrap() {
        let (id, last) = (int(known, "producerId"), i32::try_from(int(known, "lastSequence")).unwrap());
        let epoch = i16::try_from(int(known, "producerEpoch")).unwrap();
        let gap = log.append(RawBatch(batch_of(id, epoch, last + 2, 1)), Durability::Buffered);
        match gap.unwrap_err() {
            Error::Rejected(Rejection::OutOfOrder { expected, found, .. }) => {
                assert_eq!((expected.value(), found.value()), (last + 1, last + 2));
            }
            other => panic!("a gap of {known} was answered {other}"),
        }
        let next = log.append(RawBatch(batch_of(id, epoch, last + 1, 2)), Durability::Buffered).unwrap();
        assert_eq!(next.outcome, Outcome::Appended, "{known}");
        assert_eq!(next.last_offset.0 + 1, log.log_end_offset().0);
    }
}
