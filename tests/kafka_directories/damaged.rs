//! Directories that were damaged on purpose: where the log ends, and what is kept aside.

use oncelog::recovery::RecoveryKind;
use oncelog::{Durability, Offset, Outcome, RawBatch};

use crate::fixture::{Fixture, as_sent};
use crate::reading::fetch_all;
use crate::whole::check_fixture;

/// What is cut: file, bytes, offset at which the log ends, valid batches among the bytes, whether they are kept aside.
type Cut = (&'static str, std::ops::Range<u64>, i64, u64, bool);

/// Checks the cuts of a damaged fixture, that the cut bytes are kept, and then all that is checked of sound ones.
fn check_damaged(name: &str, expected: &[Cut]) {
    let fixture = Fixture::unpack(name);
    let files: Vec<Vec<u8>> = expected.iter().map(|cut| fixture.read(cut.0)).collect();
    let (log, report) = fixture.open();
    assert_eq!(report.cuts.len(), expected.len(), "{report}");
    for ((found, cut), file) in report.cuts.iter().zip(expected).zip(files) {
        let (name, bytes, offset, valid_batches, kept) = cut.clone();
        assert_eq!((found.file.as_str(), &found.bytes), (name, &bytes), "{found}");
        assert_eq!((found.offset, found.valid_batches), (Offset(offset), valid_batches), "{found}");
        assert_eq!(found.keepsake.is_some(), kept, "{found}");
        if let Some(keepsake) = &found.keepsake {
            let range = usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap();
            assert_eq!(fixture.read(keepsake), file[range], "{found}");
        }
    }
    log.close().unwrap();
    check_fixture(name, RecoveryKind::KafkaUnclean);
}

const LAST: &str = "00000000000000000153.log";

#[test]
fn a_log_torn_in_the_length_of_its_last_batch_ends_before_it() {
    check_damaged("torn-in-length", &[(LAST, 5402..5413, 198, 0, true)]);
}

#[test]
fn a_log_torn_in_the_records_of_its_last_batch_ends_before_it() {
    check_damaged("torn-in-payload", &[(LAST, 5402..5520, 198, 0, true)]);
}

#[test]
fn a_log_that_lost_its_last_batch_as_a_whole_ends_there() {
    check_damaged("torn-at-boundary", &[]);
}

#[test]
fn zeros_behind_the_last_batch_are_cut_and_not_kept() {
    check_damaged("tail-zeros", &[(LAST, 5577..9673, 199, 0, false)]);
}

#[test]
fn a_last_batch_with_a_flipped_bit_is_cut_and_kept_aside() {
    check_damaged("flip-tail", &[(LAST, 5402..5577, 198, 0, true)]);
}

#[test]
fn damage_in_the_first_segment_cuts_there_and_keeps_what_kafka_deletes() {
    check_damaged(
        "flip-sealed",
        &[
            ("00000000000000000000.log", 4371..8140, 42, 14, true),
            ("00000000000000000077.log", 0..8047, 77, 28, true),
            (LAST, 0..5577, 153, 20, true),
        ],
    );
}

#[test]
fn a_batch_that_was_torn_off_is_appended_when_it_is_sent_again() {
    let sound = Fixture::unpack("idempotent-kill9");
    let (log, _) = sound.open();
    let lost = fetch_all(&log, 1 << 20).pop().unwrap();
    for name in ["torn-in-length", "torn-in-payload", "torn-at-boundary", "flip-tail"] {
        let fixture = Fixture::unpack(name);
        let (log, _) = fixture.open();
        let again = log.append(RawBatch(as_sent(&lost.bytes)), Durability::Durable).unwrap();
        assert_eq!((again.outcome, again.base_offset), (Outcome::Appended, Some(Offset(198))), "{name}");
        let stored = fetch_all(&log, 1 << 20).pop().unwrap();
        assert_eq!(stored.bytes, lost.bytes, "{name}");
    }
}
