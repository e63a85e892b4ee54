//! Directories that this engine wrote, looked at with the read-only commands: whole, in use, and damaged in each kind of
//! file.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that damages files and fails where something is not as expected"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oncelog::format::index_entry::TimeIndexEntry;
use oncelog::format::snapshot;
use oncelog::{
    BatchBuilder, Cleanup, Durability, Log, LogConfig, Offset, ProducerEpoch, ProducerId, RawBatch, Sequence,
};
use serde_json::Value;

/// One test at a time: a child that is being started holds, for a moment, the locks of every log that is open in this
/// process, also of one that another test has just closed.
static ALONE: Mutex<()> = Mutex::new(());

/// A root with one partition.
struct Directory {
    root: tempfile::TempDir,
    dir: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// Small enough for three segments.
fn config() -> LogConfig {
    LogConfig { segment_bytes: 800, index_interval_bytes: 200, ..LogConfig::default() }
}

fn append(log: &Log, producer: i64, batches: std::ops::Range<i32>) {
    for nth in batches {
        let sequence = Sequence::new(nth * 2).unwrap();
        let batch = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
        let batch = batch.record(Some(b"key"), Some(&[7; 40])).record(None, None).build().unwrap();
        log.append(RawBatch(batch), Durability::Durable).unwrap();
    }
}

impl Directory {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("orders-0");
        Self { root, dir, _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn open(&self) -> Log {
        Log::open(&self.dir, config()).unwrap().0
    }

    /// Two producers, 7 batches each, a checkpoint between, closed in order.
    fn closed() -> Self {
        let directory = Self::new();
        let log = directory.open();
        append(&log, 11, 0..7);
        log.checkpoint().unwrap();
        append(&log, 12, 0..7);
        log.close().unwrap();
        directory
    }

    fn run(&self, command: &str, options: &[&str]) -> Output {
        oncelog(&[&[command, self.dir.to_str().unwrap()], options].concat())
    }

    fn json(&self, command: &str, options: &[&str]) -> Value {
        let output = self.run(command, &[options, &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    /// The names of files that end so.
    fn names(&self, end: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(end))
            .collect();
        names.sort();
        names
    }

    fn flip(&self, name: &str, byte: usize) {
        let path = self.dir.join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[byte] ^= 0x10;
        fs::write(&path, bytes).unwrap();
    }

    /// File, first byte and broken rule of each finding.
    fn findings(&self) -> Vec<(String, u64, String)> {
        let report = self.json("verify", &[]);
        let findings: Vec<_> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| {
                let text = |key: &str| finding[key].as_str().unwrap().to_owned();
                for key in ["expected", "found", "advice"] {
                    assert!(!text(key).is_empty(), "{finding}");
                }
                (text("file"), finding["bytes"][0].as_u64().unwrap(), text("what"))
            })
            .collect();
        let code = self.run("verify", &[]).status.code();
        assert_eq!(code, Some(i32::from(!findings.is_empty())), "{findings:?}");
        findings
    }
}

fn oncelog(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oncelog")).args(arguments).output().unwrap()
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_log_closed_in_order_has_no_finding_and_nothing_would_be_written() {
    let directory = Directory::closed();
    assert_eq!(directory.findings(), []);
    let description = directory.json("describe", &[]);
    assert_eq!(description["recovery"]["clean"], true);
    assert_eq!(description["log_end_offset"], 28);
    assert_eq!(description["segments"].as_array().unwrap().len(), 3);
    let producers = description["producers"].as_array().unwrap();
    assert_eq!(producers.len(), 2);
    assert!(producers.iter().all(|producer| producer["window"].as_array().unwrap().len() == 5));
    assert_eq!(description["locks"]["missing"].as_array().unwrap().len(), 0);
}

#[test]
fn a_log_that_was_never_closed_has_no_finding_and_its_windows() {
    let directory = Directory::new();
    let log = directory.open();
    append(&log, 11, 0..7);
    log.checkpoint().unwrap();
    append(&log, 11, 7..9);
    append(&log, 12, 0..3);
    drop(log);
    assert_eq!(directory.findings(), []);
    let retries = directory.json("retries", &["--last", "6"]);
    let answers: Vec<_> = retries["retries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|retry| (retry["producerId"].as_i64().unwrap(), retry["verdict"].as_str().unwrap().to_owned()))
        .collect();
    let expected = [("DuplicateBeyondWindow", 11, 1), ("Duplicate", 11, 5), ("Duplicate", 12, 3)];
    let expected: Vec<_> = expected
        .iter()
        .flat_map(|(verdict, id, times)| std::iter::repeat_n((*id, (*verdict).to_owned()), *times))
        .collect();
    assert_eq!(answers, expected);
}

#[test]
fn a_compacted_log_has_no_finding_whoever_wrote_its_gaps_and_is_shown_with_them() {
    let directory = Directory::new();
    let config = LogConfig { cleanup: Cleanup::Compact, ..config() };
    let log = Log::open(&directory.dir, config.clone()).unwrap().0;
    for nth in 0..40_i32 {
        let sequence = Sequence::new(nth / 3).unwrap();
        let batch = BatchBuilder::new()
            .producer(ProducerId(i64::from(nth % 3)), ProducerEpoch(0), sequence)
            .record(Some(if nth % 2 == 0 { b"even" } else { b"odd" }), Some(&[7; 40]));
        log.append(RawBatch(batch.build().unwrap()), Durability::Durable).unwrap();
    }
    assert!(log.compact().unwrap().unwrap().removed.records > 20);
    drop(log);
    for life in ["killed", "closed"] {
        assert_eq!(directory.findings(), [], "{life}");
        let description = directory.json("describe", &[]);
        assert_eq!(description["log_end_offset"], 40, "{life}");
        let producers = description["producers"].as_array().unwrap();
        assert!(producers.iter().all(|producer| producer["window"].as_array().unwrap().len() == 5), "{life}");
        let dump = directory.json("dump", &["--records"]);
        assert_eq!(dump["damage"], Value::Array(Vec::new()), "{life}");
        assert!(dump["manifest"]["compaction"]["reached"].as_i64().unwrap() > 20, "{life}");
        Log::open(&directory.dir, config.clone()).unwrap().0.close().unwrap();
    }
}

#[test]
fn a_dump_of_a_directory_shows_our_own_files_too() {
    let directory = Directory::closed();
    let dump = directory.json("dump", &["--records"]);
    assert_eq!(dump["damage"], Value::Array(Vec::new()));
    assert_eq!(dump["manifest"]["clean_close"]["offset"], 28);
    assert_eq!(dump["watermark"]["slots"].as_array().unwrap().len(), 2);
    let runs = dump["runs"].as_object().unwrap();
    assert!(runs.values().any(|run| run["kind"] == "base" && run["to"]["offset"] == 28), "{runs:?}");
    let batches: usize = dump["segments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|segment| segment["batches"].as_array().unwrap().len())
        .sum();
    assert_eq!(batches, 14);
    assert_eq!(dump["segments"][0]["batches"][0]["records"][1]["value_len"], -1);
}

#[test]
fn each_kind_of_file_can_be_dumped_by_itself_for_people_and_for_programs() {
    let directory = Directory::closed();
    for name in directory.names("") {
        if name == "oncelog.lock" {
            continue;
        }
        let path = directory.dir.join(&name);
        let path = path.to_str().unwrap();
        let people = oncelog(&["dump", path]);
        assert_eq!(people.status.code(), Some(0), "{name}: {people:?}");
        assert!(String::from_utf8_lossy(&people.stdout).starts_with(&name), "{name}");
        let programs: Value = serde_json::from_slice(&oncelog(&["dump", path, "--json"]).stdout).unwrap();
        assert_eq!(programs["file"], name.as_str());
        assert!(programs.get("damage").is_none(), "{programs}");
    }
}

#[test]
fn a_log_in_use_is_not_looked_at() {
    let directory = Directory::new();
    let log = directory.open();
    for command in ["describe", "dump", "verify", "retries"] {
        let error = error_of(&directory.run(command, &[]));
        assert!(error.contains("is locked"), "{command}: {error}");
    }
    log.close().unwrap();
    assert_eq!(directory.run("describe", &[]).status.code(), Some(0));
}

#[test]
fn of_a_root_the_partitions_are_listed() {
    let directory = Directory::closed();
    let root = directory.root.path().to_str().unwrap();
    let name = directory.dir.file_name().unwrap().to_str().unwrap();
    let described = oncelog(&["describe", root, "--json"]);
    assert_eq!(described.status.code(), Some(0), "{}", String::from_utf8_lossy(&described.stderr));
    let described: serde_json::Value = serde_json::from_slice(&described.stdout).unwrap();
    let end = directory.json("describe", &[])["log_end_offset"].clone();
    let partition = &described["partitions"][0];
    assert_eq!((partition["partition"].as_str(), partition["state"].as_str()), (Some(name), Some("Clean")));
    assert_eq!((&partition["log_end_offset"], &partition["error"]), (&end, &serde_json::Value::Null));
    let log = directory.open();
    let text = String::from_utf8(oncelog(&["describe", root]).stdout).unwrap();
    assert!(text.contains("no mark of a clean stop") && text.contains("is locked"), "{text}");
    drop(log);
}

#[test]
fn of_a_root_the_files_of_producers_are_listed_and_damage_hides_nothing() {
    let directory = Directory::closed();
    let root = directory.root.path();
    let describe = |arguments: &[&str]| {
        let described = oncelog(&[&["describe", root.to_str().unwrap()], arguments].concat());
        assert_eq!(described.status.code(), Some(0), "{}", String::from_utf8_lossy(&described.stderr));
        described.stdout
    };
    let json = || serde_json::from_slice::<Value>(&describe(&["--json"])).unwrap();
    assert_eq!((&json()["producer_ids"], &json()["producer_names"]), (&Value::Null, &Value::Null));
    let storage = std::sync::Arc::new(oncelog::storage::OsStorage::new());
    let ids = oncelog::ProducerIds::open(root, storage, || Ok(None)).unwrap();
    let names = oncelog::ProducerNames::open(ids).unwrap();
    for _ in 0..2 {
        names.claim("orders", &[]).unwrap();
    }
    drop(names);
    assert_eq!(json()["producer_ids"]["next_block"], 1000);
    let name = &json()["producer_names"]["names"][0];
    assert_eq!((&name["name"], &name["producer"], &name["epoch"]), (&"orders".into(), &0.into(), &1.into()));
    let text = String::from_utf8(describe(&[])).unwrap();
    assert!(text.contains("producer ids: below 1000") && text.contains("orders"), "{text}");
    fs::write(root.join("oncelog.producer-names"), b"ONCENAMX").unwrap();
    let damaged = json();
    assert!(damaged["producer_names"]["error"].as_str().unwrap().contains("magic"), "{damaged}");
    assert_eq!(damaged["partitions"][0]["state"], "Clean");
}

#[test]
fn what_is_no_partition_directory_is_called_so() {
    let directory = Directory::closed();
    for command in ["describe", "dump", "verify", "retries"] {
        let root = directory.root.path().to_str().unwrap();
        if command != "describe" {
            assert!(
                error_of(&oncelog(&[command, root])).contains("is not a partition directory"),
                "{command}"
            );
        }
        let missing = directory.dir.join("nowhere");
        assert!(
            error_of(&oncelog(&[command, missing.to_str().unwrap()])).contains("No such file"),
            "{command}"
        );
        assert!(error_of(&oncelog(&[command])).contains("Usage"), "{command}");
    }
    let file = directory.dir.join("oncelog.manifest");
    for command in ["describe", "verify", "retries"] {
        assert!(error_of(&oncelog(&[command, file.to_str().unwrap()])).contains("is a file"), "{command}");
    }
    assert!(error_of(&directory.run("retries", &["--last", "0"])).contains("1..=1000"));
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_found_at_its_batch() {
    let directory = Directory::closed();
    directory.flip("00000000000000000000.log", 100);
    let size = directory.json("dump", &[])["segments"][0]["batches"][0]["size"].as_u64().unwrap();
    assert!(size > 100);
    assert_eq!(directory.findings(), [("00000000000000000000.log".to_owned(), 17, "CRC".to_owned())]);
}

#[test]
fn a_flipped_bit_in_an_index_is_found_at_its_entry() {
    let directory = Directory::closed();
    // The lowest byte of the second entry's position.
    directory.flip("00000000000000000000.index", 15);
    let findings = directory.findings();
    assert_eq!(findings, [("00000000000000000000.index".to_owned(), 12, "index position".to_owned())]);
}

#[test]
fn a_flipped_bit_in_a_run_is_found_at_its_block() {
    let directory = Directory::closed();
    let run = directory.names(".run").pop().unwrap();
    directory.flip(&run, 4096 + 20);
    let findings = directory.findings();
    assert!(findings.contains(&(run.clone(), 4096, "block CRC".to_owned())), "{findings:?}");
    assert!(findings.iter().all(|(file, ..)| *file == run), "{findings:?}");
}

#[test]
fn a_flipped_bit_in_the_manifest_is_found() {
    let directory = Directory::closed();
    directory.flip("oncelog.manifest", 20);
    let findings = directory.findings();
    assert!(
        findings.iter().any(|(file, _, what)| file == "oncelog.manifest" && what == "manifest CRC"),
        "{findings:?}"
    );
}

#[test]
fn a_flipped_bit_in_a_watermark_slot_is_found_at_that_slot() {
    let directory = Directory::closed();
    directory.flip("oncelog.watermark", 4096 + 30);
    let findings = directory.findings();
    assert!(
        findings.contains(&("oncelog.watermark".to_owned(), 4096 + 81, "watermark CRC".to_owned())),
        "{findings:?}"
    );
}

#[test]
fn a_flipped_bit_in_a_snapshot_is_found() {
    let directory = Directory::closed();
    directory.flip("00000000000000000028.snapshot", 30);
    assert_eq!(directory.findings(), [("00000000000000000028.snapshot".to_owned(), 2, "CRC".to_owned())]);
}

/// Its CRC is right: only the log can tell.
#[test]
fn a_snapshot_that_contradicts_the_log_is_found_at_its_entry() {
    let directory = Directory::closed();
    let path = directory.dir.join("00000000000000000028.snapshot");
    let mut entries = snapshot::parse(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(entries.len(), 2);
    let batch = entries[1].last_batch.as_mut().unwrap();
    batch.last_sequence = Sequence::new(14);
    fs::write(&path, snapshot::encode(&entries).unwrap()).unwrap();
    let entry = (10 + 46, "producer's batch".to_owned());
    assert_eq!(directory.findings(), [("00000000000000000028.snapshot".to_owned(), entry.0, entry.1)]);
}

#[test]
fn a_time_index_entry_that_hides_a_later_timestamp_is_found() {
    let directory = Directory::closed();
    let name = "00000000000000000000.timeindex";
    let path = directory.dir.join(name);
    let first = fs::read(&path).unwrap()[..12].to_vec();
    let offset = i32::from_be_bytes(first[8..].try_into().unwrap());
    // Timestamps of these batches are 0: the entry now claims that all up to it are before the epoch.
    let entry = TimeIndexEntry::new(Offset(0), -5, Offset(i64::from(offset))).unwrap();
    fs::write(&path, entry.to_bytes()).unwrap();
    assert_eq!(directory.findings(), [(name.to_owned(), 0, "index timestamp".to_owned())]);
}

#[test]
fn a_leader_epoch_that_no_batch_has_is_found() {
    let directory = Directory::closed();
    fs::write(directory.dir.join("leader-epoch-checkpoint"), "0\n2\n0 0\n3 4\n").unwrap();
    let findings = directory.findings();
    assert_eq!(findings, [("leader-epoch-checkpoint".to_owned(), 0, "leader epoch".to_owned())]);
}

#[test]
fn a_run_that_the_manifest_names_and_nobody_has_is_found() {
    let directory = Directory::closed();
    let run = directory.names(".run").pop().unwrap();
    fs::remove_file(directory.dir.join(&run)).unwrap();
    let findings = directory.findings();
    assert!(findings.contains(&("oncelog.manifest".to_owned(), 0, "run".to_owned())), "{findings:?}");
}

#[test]
fn a_log_that_lost_its_end_contradicts_all_that_spoke_of_it() {
    let directory = Directory::closed();
    let last = directory.names(".log").pop().unwrap();
    let path = directory.dir.join(&last);
    let bytes = fs::read(&path).unwrap();
    let batches = directory.json("dump", &[])["segments"][2]["batches"].clone();
    let keep = batches.as_array().unwrap().last().unwrap()["position"].as_u64().unwrap();
    fs::write(&path, &bytes[..usize::try_from(keep).unwrap()]).unwrap();
    let findings = directory.findings();
    for file in ["oncelog.manifest", "oncelog.watermark", "00000000000000000028.snapshot"] {
        assert!(findings.iter().any(|(found, ..)| found == file), "{file} is not in {findings:?}");
    }
    let description = directory.json("describe", &[]);
    assert_eq!(description["recovery"]["refused"], true);
    assert!(error_of(&directory.run("retries", &[])).contains(&last));
}

#[test]
fn a_segment_that_is_missing_in_the_middle_is_found() {
    let directory = Directory::closed();
    let logs = directory.names(".log");
    fs::remove_file(directory.dir.join(&logs[1])).unwrap();
    let findings = directory.findings();
    let gap = (logs[2].clone(), 0, "base offset of the segment".to_owned());
    assert!(findings.contains(&gap), "{findings:?}");
}
