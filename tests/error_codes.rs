//! `docs/ERRORS.md` against the code: every variant has its row, with the number that the code answers and Kafka's name
//! of that number.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot read the page fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oncelog::types::CoordinatorEpoch;
use oncelog::{
    Corruption, Error, LeaderEpoch, Malformed, Offset, Outcome, ProducerEpoch, ProducerId, Rejection,
    Sequence,
};

/// `org.apache.kafka.common.protocol.Errors`, as far as this log answers them.
const NAMES: &[(i16, &str)] = &[
    (0, "NONE"),
    (1, "OFFSET_OUT_OF_RANGE"),
    (2, "CORRUPT_MESSAGE"),
    (10, "MESSAGE_TOO_LARGE"),
    (18, "RECORD_LIST_TOO_LARGE"),
    (32, "INVALID_TIMESTAMP"),
    (45, "OUT_OF_ORDER_SEQUENCE_NUMBER"),
    (46, "DUPLICATE_SEQUENCE_NUMBER"),
    (47, "INVALID_PRODUCER_EPOCH"),
    (48, "INVALID_TXN_STATE"),
    (52, "TRANSACTION_COORDINATOR_FENCED"),
    (56, "KAFKA_STORAGE_ERROR"),
    (59, "UNKNOWN_PRODUCER_ID"),
    (74, "FENCED_LEADER_EPOCH"),
    (76, "UNSUPPORTED_COMPRESSION_TYPE"),
    (87, "INVALID_RECORD"),
];

/// Code and Kafka's name by variant.
type Table = BTreeMap<String, (i16, String)>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The rows below the heading of `what`.
fn documented(what: &str) -> Table {
    let page = fs::read_to_string(root().join("docs/ERRORS.md")).unwrap();
    let heading = format!("| `{what}` | code |");
    let rows = page.lines().skip_while(|line| !line.starts_with(&heading)).skip(2);
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(cell).collect();
            (cells[1].clone(), (cells[2].parse().unwrap(), cells[3].clone()))
        })
        .collect()
}

/// The variants of `pub enum what`, as its source names them.
fn variants(file: &str, what: &str) -> Vec<String> {
    let source = fs::read_to_string(root().join(file)).unwrap();
    let body = source.split(&format!("pub enum {what} {{")).nth(1).unwrap().split("\n}").next().unwrap();
    let names = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let mut names: Vec<_> = names
        .map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn table<'a, T: std::fmt::Debug + 'a>(samples: &'a [T], code: impl Fn(&'a T) -> i16) -> Table {
    samples
        .iter()
        .map(|sample| {
            let shown = format!("{sample:?}");
            let name = shown.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_owned();
            let code = code(sample);
            let kafka = NAMES.iter().find(|(number, _)| *number == code).map(|(_, name)| *name);
            (name, (code, kafka.unwrap_or_else(|| panic!("{code} has no name")).to_owned()))
        })
        .collect()
}

fn malformed() -> Malformed {
    Malformed::new("record count", 57, "at least 1", "0")
}

fn rejections() -> Vec<Rejection> {
    let producer = ProducerId(7);
    let (expected, found) = (Sequence::ZERO, Sequence::new(5).unwrap());
    vec![
        Rejection::OutOfOrder { producer, expected, found },
        Rejection::AbortedRetry { producer, expected, found },
        Rejection::SequenceOverlap { producer, first: found, last: found, expected },
        Rejection::SequenceUnknown { producer, found, expected },
        Rejection::Fenced { producer, current: ProducerEpoch(2), found: ProducerEpoch(1) },
        Rejection::CoordinatorFenced { producer, current: CoordinatorEpoch(2), found: CoordinatorEpoch(1) },
        Rejection::UnknownProducer { producer, found, log_start_offset: Offset(0) },
        Rejection::CorruptMessage(malformed()),
        Rejection::InvalidRecord(malformed()),
        Rejection::InvalidTimestamp(malformed()),
        Rejection::BatchTooLarge { limit: 1, found: 2 },
        Rejection::SegmentTooSmall { limit: 1, found: 2 },
        Rejection::UnsupportedCompression { codec: 7, why: "unknown".to_owned() },
        Rejection::InvalidTxnState("no transaction".to_owned()),
    ]
}

fn errors() -> Vec<Error> {
    let corruption: Corruption = malformed().in_file(Path::new("/logs/t-0"), 0, 61, "look");
    let (asked, zero) = (Offset(9), Offset(0));
    vec![
        Error::Unavailable { why: "a roll".to_owned() },
        Error::Indeterminate { why: "a sync".to_owned() },
        Error::Corrupt(Box::new(corruption)),
        Error::io("open", Path::new("/logs/t-0"), io::ErrorKind::NotFound.into()),
        Error::Locked { path: PathBuf::from("/logs/.lock"), holder: "a broker".to_owned() },
        Error::OffsetOutOfRange { asked, log_start_offset: zero, log_end_offset: zero },
        Error::TruncationTooLow { asked, lowest: zero },
        Error::Truncated,
        Error::UnexpectedAppendOffset { first: asked, last: asked, log_end_offset: zero },
        Error::FencedLeaderEpoch { newest: LeaderEpoch(2), found: LeaderEpoch(1) },
        Error::Misuse("never".to_owned()),
        Error::Closed,
    ]
}

#[test]
fn the_page_gives_every_rejection_the_code_that_the_code_gives_it() {
    let expected = table(&rejections(), Rejection::kafka_code);
    assert_eq!(documented("Rejection"), expected);
    assert_eq!(expected.into_keys().collect::<Vec<_>>(), variants("src/error.rs", "Rejection"));
}

#[test]
fn the_page_gives_every_error_the_code_that_the_code_gives_it() {
    let expected = table(&errors(), Error::kafka_code);
    assert_eq!(documented("Error"), expected);
    let mut known: Vec<_> = expected.into_keys().collect();
    // A rejection is an error whose code is its own.
    known.push("Rejected".to_owned());
    known.sort();
    assert_eq!(known, variants("src/error.rs", "Error"));
    for rejection in rejections() {
        assert_eq!(Error::from(rejection.clone()).kafka_code(), rejection.kafka_code());
    }
}

#[test]
fn the_page_gives_every_outcome_the_code_that_the_code_gives_it() {
    let outcomes = [Outcome::Appended, Outcome::Duplicate, Outcome::DuplicateBeyondWindow];
    let expected = table(&outcomes, |outcome| outcome.kafka_code());
    assert_eq!(documented("Outcome"), expected);
    assert_eq!(expected.into_keys().collect::<Vec<_>>(), variants("src/log/completion.rs", "Outcome"));
}

#[test]
fn codes_that_make_clients_write_again_are_few() {
    let again: Vec<_> = rejections()
        .into_iter()
        .filter(|rejection| [45, 59].contains(&rejection.kafka_code()))
        .map(|rejection| format!("{rejection:?}").split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(again, ["OutOfOrder", "AbortedRetry", "UnknownProducer"]);
}
