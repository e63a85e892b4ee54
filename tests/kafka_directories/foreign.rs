//! Another program between two opens of ours.

use oncelog::format::names::snapshot_name;
use oncelog::recovery::RecoveryKind;
use oncelog::{
    BatchBuilder, Durability, Error, FetchedBatch, Log, Offset, Outcome, ProducerEpoch, ProducerId, RawBatch,
    Rejection, Sequence,
};

use crate::fixture::{self, Fixture, as_sent};
use crate::producers::{batch_of, retry_all};
use crate::reading::fetch_all;

/// How our log and the other program end their work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    InOrder,
    Killed,
}

/// A log of ours on `five-window` with four more batches of its producer, and the batches from the fourth on.
fn log_of_ours(end: End) -> (Fixture, Vec<FetchedBatch>) {
    let fixture = Fixture::unpack("five-window");
    let (log, _) = fixture.open();
    for n in 0..4 {
        log.append(RawBatch(batch_of(4045, 0, 15 + 2 * n, 2)), Durability::Durable).unwrap();
    }
    let batches = fetch_all(&log, 1 << 20);
    match end {
        End::InOrder => log.close().unwrap(),
        End::Killed => drop(log),
    }
    (fixture, batches)
}

/// Cuts the log at the seventh batch and writes others from there, as a Kafka follower of another leader does.
fn truncate_and_append(fixture: &Fixture, batches: &[FetchedBatch], end: End) -> i64 {
    const LOG: &str = "00000000000000000000.log";
    let cut = &batches[6];
    let mut bytes = fixture.read(LOG);
    bytes.truncate(usize::try_from(cut.position.0).unwrap());
    let mut offset = cut.header.base_offset;
    for n in 0..5 {
        let batch = BatchBuilder::new()
            .base_offset(offset)
            .leader_epoch(oncelog::LeaderEpoch(9))
            .producer(ProducerId(777), ProducerEpoch(0), Sequence::new(3 * n).unwrap())
            .record(None, Some(b"one of another leader"))
            .record(None, Some(b"two of another leader"))
            .record(None, Some(b"three of another leader"))
            .build()
            .unwrap();
        bytes.extend_from_slice(&batch);
        offset = Offset(offset.0 + 3);
    }
    fixture.overwrite(LOG, &bytes);
    for name in fixture.names() {
        if name.ends_with(".snapshot") && name > snapshot_name(cut.header.base_offset) {
            fixture.storage.unlink(&fixture.dir.join(name)).unwrap();
        }
    }
    if end == End::InOrder {
        fixture.stop_in_order(offset.0);
    }
    offset.0
}

#[test]
fn a_log_that_another_program_cut_and_wrote_on_is_noticed_and_read_anew() {
    for (ours, theirs) in [
        (End::InOrder, End::InOrder),
        (End::InOrder, End::Killed),
        (End::Killed, End::InOrder),
        (End::Killed, End::Killed),
    ] {
        let (fixture, batches) = log_of_ours(ours);
        let end = truncate_and_append(&fixture, &batches, theirs);
        let context = format!("ours ended {ours:?}, theirs {theirs:?}");
        let (log, report) = fixture.open();
        assert_eq!(report.kind, RecoveryKind::AnotherProgramWrote, "{context}: {report}");
        assert_eq!(log.log_end_offset(), Offset(end), "{context}");
        let now = fetch_all(&log, 1 << 20);
        assert_eq!(now.len(), 11, "{context}");
        assert_eq!(retry_all(&log, &now[1..6]), [3, 6, 9, 12, 15], "{context}");
        assert_eq!(retry_all(&log, &now[6..]), [17, 20, 23, 26, 29], "{context}");
        // What was cut away is not in the log: the second of it has a gap before it, the first is the next one.
        let gap = log.append(RawBatch(as_sent(&batches[7].bytes)), Durability::Durable);
        match gap.unwrap_err() {
            Error::Rejected(Rejection::OutOfOrder { expected, found, .. }) => {
                assert_eq!((expected.value(), found.value()), (17, 19), "{context}");
            }
            other => panic!("{context}: {other}"),
        }
        let again = log.append(RawBatch(as_sent(&batches[6].bytes)), Durability::Durable).unwrap();
        assert_eq!((again.outcome, again.base_offset), (Outcome::Appended, Some(Offset(end))), "{context}");
        log.close().unwrap();
        let (log, report) = fixture.open();
        assert_eq!(report.kind, RecoveryKind::Clean, "{context}");
        assert_eq!(retry_all(&log, &now[6..]), [17, 20, 23, 26, 29], "{context}");
    }
}

#[test]
fn a_log_that_was_only_cut_below_its_durable_end_is_refused_unchanged_and_both_causes_are_named() {
    for ours in [End::InOrder, End::Killed] {
        let (fixture, batches) = log_of_ours(ours);
        let log = "00000000000000000000.log";
        let mut bytes = fixture.read(log);
        bytes.truncate(usize::try_from(batches[6].position.0).unwrap());
        fixture.overwrite(log, &bytes);
        let before: Vec<(String, Vec<u8>)> =
            fixture.names().into_iter().map(|name| (name.clone(), fixture.read(&name))).collect();
        let refusal = match Log::open(&fixture.dir, fixture::config()).unwrap_err() {
            Error::Corrupt(corruption) => corruption,
            other => panic!("{ours:?}: {other}"),
        };
        assert_eq!(refusal.path, fixture.dir.join(log), "{ours:?}");
        assert_eq!(refusal.bytes.start, bytes.len() as u64, "{ours:?}: {refusal}");
        let text = refusal.to_string();
        assert!(text.contains("another program") && text.contains("lost"), "{ours:?}: {text}");
        let after: Vec<(String, Vec<u8>)> =
            fixture.names().into_iter().map(|name| (name.clone(), fixture.read(&name))).collect();
        assert_eq!(before, after, "{ours:?}: a refusal changes nothing");
    }
}
