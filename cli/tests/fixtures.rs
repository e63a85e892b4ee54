//! Partition directories that Apache Kafka 4.3.1 wrote, looked at with `oncelog describe`, `dump`, `retries` and
//! `verify`, and compared with what Kafka's own tools and a running broker say about them (`*.expected.json`).
//!
//! The words of `--json` are those of the expectations, so most of this is a comparison of two JSON trees: everything
//! that Kafka says must stand in ours with the same value; ours may say more.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that unpacks files and fails where something is not as expected"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value};

/// Complaints of Kafka's tools, in their own words: the damage is compared by `valid_bytes` and `isvalid`.
const WORDS_OF_KAFKA: &[&str] =
    &["dump_note", "read_error", "records_error", "index_sanity", "timeindex_sanity"];

/// A fixture, unpacked under a root of its own.
struct Fixture {
    root: tempfile::TempDir,
    dir: PathBuf,
    expected: Value,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/kafka-4.3.1")
}

impl Fixture {
    fn unpack(name: &str) -> Self {
        let expected = fs::read(fixtures().join(format!("{name}.expected.json"))).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let root = tempfile::tempdir().unwrap();
        let archive = File::open(fixtures().join(format!("{name}.tar.gz"))).unwrap();
        tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(root.path()).unwrap();
        let dir = root.path().join(expected["partition_dir"].as_str().unwrap());
        let fixture = Self { root, dir, expected };
        fixture.write_root_checkpoints();
        fixture
    }

    fn write_root_checkpoints(&self) {
        let (topic, partition) = self.expected["partition_dir"].as_str().unwrap().rsplit_once('-').unwrap();
        for (name, value) in self.expected["root_checkpoints"].as_object().unwrap() {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                offset => format!("0\n1\n{topic} {partition} {offset}\n"),
            };
            fs::write(self.root.path().join(name), text).unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let (command, options) = arguments.split_first().unwrap();
        oncelog(&[&[*command, self.dir.to_str().unwrap()], options].concat())
    }

    /// Runs a command that prints JSON and must succeed.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The last thing that Kafka was seen to make of the directory.
    fn reopened(&self) -> &Value {
        &self.expected["kafka_after_reopen"]
    }
}

fn oncelog(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oncelog")).args(arguments).output().unwrap()
}

/// Everything in `expected` stands in `found` with the same value; lists have the same length.
fn assert_says(expected: &Value, found: &Value, at: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected.iter().filter(|(key, _)| !WORDS_OF_KAFKA.contains(&key.as_str())) {
                // What Kafka does not know it leaves out or calls null.
                let found = found.get(key).unwrap_or(&Value::Null);
                assert_says(value, found, &format!("{at}.{key}"));
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            assert_eq!(expected.len(), found.len(), "{at}: number of items");
            for (nth, (expected, found)) in expected.iter().zip(found).enumerate() {
                assert_says(expected, found, &format!("{at}[{nth}]"));
            }
        }
        (expected, found) => assert_eq!(expected, found, "{at}"),
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// What names a batch of a producer.
fn batch_key(value: &Value) -> (i64, i64, i64) {
    let number = |key: &str| value[key].as_i64().unwrap();
    (number("producerId"), number("producerEpoch"), number("baseSequence"))
}

/// `dump` says of every batch, record, index entry, snapshot and checkpoint what Kafka's tools say.
fn assert_dumps_as_kafka_does(fixture: &Fixture) {
    let dump = fixture.json(&["dump", "--records"]);
    let expected = fixture.expected.as_object().unwrap();
    let said_of_files = [
        "segments",
        "snapshots",
        "aborted_txns",
        "leader_epochs",
        "topic_id",
        "root_checkpoints",
        "partition_dir",
    ];
    for key in said_of_files {
        assert_says(&expected[key], &dump[key], key);
    }
    for (name, file) in expected["files"].as_object().unwrap() {
        assert_eq!(file["size"], dump["files"][name]["size"], "{name}");
    }
}

/// `describe` gives the offsets and producers that Kafka has once it has opened the directory.
fn assert_describes_what_kafka_opens(fixture: &Fixture) {
    let description = fixture.json(&["describe"]);
    assert_eq!(description["recovery"]["refused"], false, "{}", description["recovery"]);
    let expected = fixture.reopened();
    for key in ["log_start_offset", "log_end_offset", "last_stable_offset", "topic_id"] {
        assert_eq!(expected[key], description[key], "{key}");
    }
    let kept: Vec<_> = list(&description, "segments")
        .iter()
        .filter(|segment| !segment["kept_bytes"].is_null())
        .map(|segment| (&segment["base_offset"], &segment["kept_bytes"]))
        .collect();
    let kept_by_kafka: Vec<_> = list(&expected["dir_after_clean_stop"], "segments")
        .iter()
        .map(|segment| (&segment["base_offset"], &segment["size"]))
        .collect();
    assert_eq!(kept, kept_by_kafka);
    assert_eq!(list(expected, "producers").len(), list(&description, "producers").len());
    for (expected, found) in list(expected, "producers").iter().zip(list(&description, "producers")) {
        let mut expected = expected.as_object().unwrap().clone();
        // Kafka moves it on with every marker; here it belongs to the batch of which a retry is answered.
        if found["window"].as_array().unwrap().is_empty() || expected["coordinatorEpoch"] != -1 {
            expected.remove("lastTimestamp");
        }
        assert_says(&Value::Object(expected), found, "producers");
    }
}

/// A window holds the newest five batches of the epoch that the log has, or all if there are fewer.
fn assert_windows_are_full(fixture: &Fixture) {
    let dump = fixture.json(&["dump"]);
    let description = fixture.json(&["describe"]);
    let end = description["log_end_offset"].as_i64().unwrap();
    for producer in list(&description, "producers") {
        let (id, epoch) = (&producer["producerId"], &producer["producerEpoch"]);
        let stored: Vec<&Value> = list(&dump, "segments")
            .iter()
            .flat_map(|segment| list(segment, "batches"))
            .filter(|batch| batch["producerId"] == *id && batch["producerEpoch"] == *epoch)
            .filter(|batch| batch["isControl"] == false && batch["baseOffset"].as_i64().unwrap() < end)
            .collect();
        // Compaction may have taken a batch between two others: a window has no gap.
        let gap = |pair: &[&Value]| {
            pair[1]["baseSequence"].as_i64() != pair[0]["lastSequence"].as_i64().map(|n| n + 1)
        };
        let after_gap = stored.windows(2).rposition(gap).map_or(0, |pair| pair + 1);
        let newest: Vec<i64> = stored[after_gap.max(stored.len().saturating_sub(5))..]
            .iter()
            .map(|batch| batch["baseOffset"].as_i64().unwrap())
            .collect();
        let window = list(producer, "window").iter().map(|batch| batch["baseOffset"].as_i64().unwrap());
        let window: Vec<i64> = window.collect();
        if stored.is_empty() {
            assert!(window.len() <= 1, "producer {id}: only a .snapshot can know it");
        } else {
            assert_eq!(window, newest, "producer {id}, epoch {epoch}");
        }
    }
}

/// Every retry that a broker answered with the first offset is answered so here, and so are all of the newest five
/// batches of an epoch, on which Kafka gives up after a restart. What is older is never called out of order.
fn assert_retries_are_answered(fixture: &Fixture) {
    let answers = fixture.json(&["retries", "--last", "7"]);
    let found: BTreeMap<_, _> =
        list(&answers, "retries").iter().map(|retry| (batch_key(retry), retry)).collect();
    let description = fixture.json(&["describe"]);
    let mut compared = 0;
    for (when, expected) in ["live", "kafka_after_reopen"]
        .iter()
        .flat_map(|when| list(&fixture.expected[when], "retries").iter().map(move |retry| (when, retry)))
    {
        let retry =
            found.get(&batch_key(expected)).unwrap_or_else(|| panic!("{when}: no answer to {expected}"));
        assert_eq!(expected["original_base_offset"], retry["original_base_offset"], "{when}");
        assert_eq!(expected["lastSequence"], retry["lastSequence"], "{when}");
        compared += 1;
        let producer = list(&description, "producers")
            .iter()
            .find(|producer| producer["producerId"] == retry["producerId"])
            .unwrap();
        let in_window =
            list(producer, "window").iter().any(|batch| batch["baseOffset"] == retry["original_base_offset"]);
        if expected["answer"] == "NONE" {
            assert!(in_window, "{when}: Kafka knew {expected}");
        }
        let answer = (retry["verdict"].as_str().unwrap(), retry["code"].as_i64().unwrap());
        if retry["producerEpoch"] != producer["producerEpoch"] {
            assert_eq!(answer, ("Fenced", 47), "{when}: {retry}");
            assert_eq!(retry["answer"], expected["answer"], "{when}");
        } else if in_window {
            assert_eq!(answer, ("Duplicate", 0), "{when}: {retry}");
            assert_eq!(retry["answer"], "NONE");
            assert_eq!(retry["answer_base_offset"], retry["original_base_offset"], "{when}");
        } else {
            let fit = [("DuplicateBeyondWindow", 46), ("SequenceUnknown", 87)];
            assert!(fit.contains(&answer), "{when}: {retry}");
            assert_eq!(retry["answer_base_offset"], -1);
        }
        assert!(!retry["rule"].as_str().unwrap().is_empty());
    }
    let expected =
        list(fixture.reopened(), "retries").len() + list(&fixture.expected["live"], "retries").len();
    assert_eq!(compared, expected);
}

/// What `verify` finds, and that its exit code says so.
fn findings(fixture: &Fixture) -> Vec<Map<String, Value>> {
    let output = fixture.run(&["verify", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings: Vec<_> =
        list(&report, "findings").iter().map(|finding| finding.as_object().unwrap().clone()).collect();
    assert_eq!(output.status.code(), Some(i32::from(!findings.is_empty())), "{findings:?}");
    findings
}

fn files_before_and_after(fixture: &Fixture, look: impl Fn()) {
    let listing = || {
        let mut names: Vec<_> = fs::read_dir(&fixture.dir)
            .unwrap()
            .chain(fs::read_dir(fixture.root.path()).unwrap())
            .map(|entry| (entry.as_ref().unwrap().file_name(), entry.unwrap().metadata().unwrap()))
            .map(|(name, metadata)| (name, metadata.len(), metadata.modified().unwrap()))
            .collect();
        names.sort();
        names
    };
    let before = listing();
    look();
    assert_eq!(before, listing(), "a read-only command changed the directory");
}

/// All of the above for a directory that Kafka opens without a loss.
fn assert_agrees_with_kafka(name: &str) {
    let fixture = Fixture::unpack(name);
    files_before_and_after(&fixture, || {
        assert_dumps_as_kafka_does(&fixture);
        assert_describes_what_kafka_opens(&fixture);
        assert_windows_are_full(&fixture);
        assert_retries_are_answered(&fixture);
        assert_eq!(findings(&fixture), Vec::new());
    });
}

/// The same for a damaged one, with the file and byte of the first finding.
fn assert_shows_the_damage(name: &str, file: &str, byte: u64) {
    let fixture = Fixture::unpack(name);
    files_before_and_after(&fixture, || {
        assert_dumps_as_kafka_does(&fixture);
        assert_describes_what_kafka_opens(&fixture);
        assert_windows_are_full(&fixture);
        let findings = findings(&fixture);
        let found = findings.iter().find(|finding| finding["file"] == file);
        let found = found.unwrap_or_else(|| panic!("no finding in {file}: {findings:?}"));
        assert_eq!(found["bytes"][0], byte, "{found:?}");
    });
}

#[test]
fn a_log_without_producers_agrees_with_kafka() {
    assert_agrees_with_kafka("plain-clean");
}

#[test]
fn a_log_of_interleaved_producers_agrees_with_kafka() {
    assert_agrees_with_kafka("idempotent-clean");
}

#[test]
fn a_log_of_a_killed_broker_agrees_with_kafka() {
    assert_agrees_with_kafka("idempotent-kill9");
}

#[test]
fn a_compacted_log_agrees_with_kafka() {
    assert_agrees_with_kafka("compacted");
}

#[test]
fn a_log_without_its_beginning_agrees_with_kafka() {
    assert_agrees_with_kafka("deleted-prefix");
}

/// The broker-restart duplicate window: Kafka answers four of the five with out of order.
#[test]
fn all_five_batches_of_a_window_are_answered_with_their_first_offsets() {
    let fixture = Fixture::unpack("five-window");
    let lost = list(fixture.reopened(), "retries").iter().filter(|retry| retry["answer"] != "NONE").count();
    assert_eq!(lost, 4);
    let answers = fixture.json(&["retries"]);
    let verdicts: Vec<_> =
        list(&answers, "retries").iter().map(|retry| retry["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["Duplicate"; 5]);
    assert_agrees_with_kafka("five-window");
}

#[test]
fn a_log_of_transactions_is_dumped_as_kafka_dumps_it() {
    let fixture = Fixture::unpack("txn-mixed");
    assert_dumps_as_kafka_does(&fixture);
    assert_describes_what_kafka_opens(&fixture);
    assert_eq!(findings(&fixture), Vec::new());
}

#[test]
fn a_tail_that_ends_inside_a_batch_length_is_shown_and_cut_where_kafka_cuts() {
    assert_shows_the_damage("torn-in-length", "00000000000000000153.log", 5402);
}

#[test]
fn a_tail_that_ends_inside_records_is_shown_and_cut_where_kafka_cuts() {
    assert_shows_the_damage("torn-in-payload", "00000000000000000153.log", 5410);
}

/// Nothing in the partition tells that a batch is gone; the root's high watermark does.
#[test]
fn a_lost_last_batch_is_found_by_the_high_watermark() {
    assert_shows_the_damage("torn-at-boundary", "replication-offset-checkpoint", 4);
}

#[test]
fn zeros_behind_the_last_batch_are_shown_and_cut_where_kafka_cuts() {
    assert_shows_the_damage("tail-zeros", "00000000000000000153.log", 5593);
}

#[test]
fn a_flipped_bit_in_the_last_batch_is_shown_and_cut_where_kafka_cuts() {
    assert_shows_the_damage("flip-tail", "00000000000000000153.log", 5419);
}

#[test]
fn a_flipped_bit_in_the_first_segment_is_shown_and_cut_where_kafka_cuts() {
    assert_shows_the_damage("flip-sealed", "00000000000000000000.log", 4388);
}
