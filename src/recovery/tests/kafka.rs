//! Directories that Apache Kafka 4.3.1 wrote: each must open to what Kafka itself said of it, with wider windows.
//!
//! The fixtures and what the running broker and Kafka's tools say about them are in `tests/fixtures/kafka-4.3.1`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::world::{Entries, everything, put_at, state};
use crate::error::Error;
use crate::recovery::{Plan, Recovered, RecoveryKind, RecoveryOptions, Salvage, execute, plan};
use crate::storage::{MemoryStorage, Storage};
use crate::types::{Offset, ProducerId};

/// A fixture on a simulated disk.
struct Fixture {
    memory: MemoryStorage,
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    expected: Value,
}

const ROOT_FILES: [&str; 4] = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
];

fn fixture_bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kafka-4.3.1").join(name);
    crate::storage::read_all(&crate::storage::OsStorage::new(), &path, u64::MAX).unwrap().unwrap()
}

impl Fixture {
    fn open(name: &str) -> Self {
        let expected: Value =
            serde_json::from_slice(&fixture_bytes(&format!("{name}.expected.json"))).unwrap();
        let partition = expected["partition_dir"].as_str().unwrap().to_owned();
        let memory = MemoryStorage::new();
        let dir = Path::new("/logs").join(&partition);
        memory.create_dir_all(&dir).unwrap();
        memory.sync_dir(Path::new("/")).unwrap();
        memory.sync_dir(Path::new("/logs")).unwrap();
        let packed = fixture_bytes(&format!("{name}.tar.gz"));
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        for file in archive.entries().unwrap() {
            let mut file = file.unwrap();
            let path = Path::new("/logs").join(file.path().unwrap());
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            if file.header().entry_type().is_file() {
                put_at(&memory, &path, &bytes);
            }
        }
        let (topic, number) = partition.rsplit_once('-').unwrap();
        for file in ROOT_FILES {
            if let Some(offset) = expected["root_checkpoints"][file].as_i64() {
                let text = format!("0\n1\n{topic} {number} {offset}\n");
                put_at(&memory, &Path::new("/logs").join(file), text.as_bytes());
            }
        }
        if let Some(text) = expected["root_checkpoints"][".kafka_cleanshutdown"].as_str() {
            put_at(&memory, Path::new("/logs/.kafka_cleanshutdown"), text.as_bytes());
        }
        Self { storage: Arc::new(memory.clone()), memory, dir, expected }
    }

    fn plan(&self) -> Result<Plan, Error> {
        plan(&self.storage, &self.dir, &RecoveryOptions::default())
    }

    fn recover(&self) -> Recovered {
        let made = self.plan().unwrap();
        execute(&self.storage, &self.dir, made, &RecoveryOptions::default()).unwrap()
    }

    /// What Kafka said after it opened the directory again.
    fn broker(&self) -> &Value {
        &self.expected["kafka_after_reopen"]
    }

    fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        everything(&self.memory.kill())
    }
}

/// (producer, epoch, last sequence or -1, coordinator epoch, first offset of the open transaction or -1)
type Told = BTreeSet<(i64, i64, i64, i64, i64)>;

fn told_by_broker(producers: &Value) -> Told {
    let field = |producer: &Value, name: &str| producer[name].as_i64().unwrap_or(-1);
    let all = producers.as_array().unwrap().iter();
    all.map(|p| {
        (
            field(p, "producerId"),
            field(p, "producerEpoch"),
            field(p, "lastSequence"),
            field(p, "coordinatorEpoch"),
            field(p, "currentTxnFirstOffset"),
        )
    })
    .collect()
}

fn told_by_us(entries: &Entries) -> Told {
    entries
        .iter()
        .map(|(id, entry)| {
            let last = entry.newest().map_or(-1, |batch| i64::from(batch.last_sequence.value()));
            let open = entry.txn_first_offset.map_or(-1, |first| first.0);
            (id.0, i64::from(entry.epoch.0), last, i64::from(entry.coordinator_epoch.0), open)
        })
        .collect()
}

const ALL: [&str; 13] = [
    "compacted",
    "deleted-prefix",
    "five-window",
    "flip-sealed",
    "flip-tail",
    "idempotent-clean",
    "idempotent-kill9",
    "plain-clean",
    "tail-zeros",
    "torn-at-boundary",
    "torn-in-length",
    "torn-in-payload",
    "txn-mixed",
];

#[test]
fn every_directory_opens_to_the_offsets_and_producers_that_kafka_itself_found() {
    for name in ALL {
        let fixture = Fixture::open(name);
        let recovered = fixture.recover();
        let broker = fixture.broker();
        assert_eq!(recovered.report.log_end_offset.0, broker["log_end_offset"].as_i64().unwrap(), "{name}");
        assert_eq!(recovered.log_start_offset.0, broker["log_start_offset"].as_i64().unwrap(), "{name}");
        let stable = recovered.open_txns.first().map_or(recovered.end.offset, |txn| txn.first_offset);
        assert_eq!(stable.0, broker["last_stable_offset"].as_i64().unwrap(), "{name}");
        assert_eq!(told_by_us(&state(&recovered)), told_by_broker(&broker["producers"]), "{name}");
        let clean = fixture.expected["shutdown"] == "clean";
        let kind = if clean { RecoveryKind::KafkaClean } else { RecoveryKind::KafkaUnclean };
        assert_eq!(recovered.report.kind, kind, "{name}");
    }
}

#[test]
fn every_batch_that_the_running_broker_recognised_is_in_the_window() {
    let mut looked_at = 0;
    for name in ALL {
        let fixture = Fixture::open(name);
        let Some(retries) = fixture.expected["live"]["retries"].as_array() else { continue };
        let entries = state(&fixture.recover());
        for retry in retries.iter().filter(|retry| retry["answer"] == "NONE") {
            let number = |field: &str| retry[field].as_i64().unwrap();
            if number("answer_base_offset") != number("original_base_offset") {
                continue;
            }
            let entry = &entries[&ProducerId(number("producerId"))];
            let batch = entry
                .batches()
                .iter()
                .find(|batch| i64::from(batch.first_sequence.value()) == number("baseSequence"))
                .unwrap_or_else(|| panic!("{name}: {retry} is not in {entry:?}"));
            assert_eq!(i64::from(batch.last_sequence.value()), number("lastSequence"));
            assert_eq!(batch.first_offset.0, number("original_base_offset"));
            looked_at += 1;
        }
    }
    assert!(looked_at > 40, "{looked_at}");
}

#[test]
fn five_batches_are_known_where_the_snapshot_knows_one() {
    let fixture = Fixture::open("five-window");
    let entries = state(&fixture.recover());
    let (_, entry) = entries.first_key_value().unwrap();
    assert_eq!(entry.batches().len(), 5);
    assert_eq!(entry.proven, 15);
}

#[test]
fn a_second_open_finds_the_same_log_as_ours() {
    for name in ALL {
        let fixture = Fixture::open(name);
        let first = fixture.recover();
        let second = fixture.recover();
        assert_eq!(second.report.kind, RecoveryKind::Unclean, "{name}");
        assert_eq!(second.end, first.end, "{name}");
        assert_eq!(state(&second), state(&first), "{name}");
        assert_eq!(second.report.cuts, [], "{name}");
        assert_eq!(second.open_txns, first.open_txns, "{name}");
    }
}

#[test]
fn aborted_transactions_are_those_of_the_index() {
    for without in [&[][..], &[".txnindex"], &[".txnindex", ".snapshot"]] {
        let fixture = Fixture::open("txn-mixed");
        for name in fixture.everything().into_keys() {
            if without.iter().any(|suffix| name.to_string_lossy().ends_with(suffix)) {
                fixture.memory.unlink(&name).unwrap();
            }
        }
        aborted_as_kafka_says(&fixture);
    }
}

fn aborted_as_kafka_says(fixture: &Fixture) {
    let recovered = fixture.recover();
    let ours: Vec<[i64; 4]> = recovered
        .aborted
        .iter()
        .flat_map(|segment| &segment.entries)
        .map(|txn| [txn.producer.0, txn.first_offset.0, txn.last_offset.0, txn.last_stable_offset.0])
        .collect();
    let theirs: Vec<[i64; 4]> = fixture.expected["aborted_txns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|txn| {
            ["producerId", "firstOffset", "lastOffset", "lastStableOffset"]
                .map(|field| txn[field].as_i64().unwrap())
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn leader_epochs_begin_where_kafkas_file_says() {
    for name in ["txn-mixed", "idempotent-clean", "five-window", "plain-clean"] {
        let fixture = Fixture::open(name);
        let ours: Vec<(i64, i64)> = fixture
            .recover()
            .leader_epochs
            .starts()
            .iter()
            .map(|start| (i64::from(start.epoch.0), start.start_offset.0))
            .collect();
        let theirs = fixture.expected["leader_epochs"].as_array().unwrap();
        let number = |line: &Value, field: &str| line[field].as_i64().unwrap();
        let theirs: Vec<(i64, i64)> =
            theirs.iter().map(|line| (number(line, "epoch"), number(line, "start_offset"))).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn what_kafka_would_delete_behind_a_flipped_bit_is_kept_aside() {
    let fixture = Fixture::open("flip-sealed");
    let before = fixture.everything();
    let recovered = fixture.recover();
    assert_eq!(recovered.end.offset, Offset(42));
    let [first, second, third] = &recovered.report.cuts[..] else { panic!("{:?}", recovered.report.cuts) };
    assert!(first.valid_batches > 0);
    let after = fixture.everything();
    for cut in [first, second, third] {
        let kept = &after[&fixture.dir.join(cut.keepsake.as_ref().unwrap())];
        let was = &before[&fixture.dir.join(&cut.file)];
        assert_eq!(kept[..], was[usize::try_from(cut.bytes.start).unwrap()..], "{}", cut.file);
    }
    for (base, name) in [(77, &second.file), (153, &third.file)] {
        assert!(!after.contains_key(&fixture.dir.join(name)));
        assert!(!after.contains_key(&fixture.dir.join(crate::format::names::index_name(Offset(base)))));
        assert!(!after.contains_key(&fixture.dir.join(crate::format::names::snapshot_name(Offset(base)))));
    }
}

#[test]
fn damage_below_kafkas_recovery_point_is_refused() {
    let fixture = Fixture::open("flip-sealed");
    let topic = fixture.expected["partition_dir"].as_str().unwrap().rsplit_once('-').unwrap().0.to_owned();
    let put = |text: &str| {
        put_at(&fixture.memory, Path::new("/logs/recovery-point-offset-checkpoint"), text.as_bytes())
    };
    put(&format!("0\n1\n{topic} 0 500\n"));
    let before = fixture.everything();
    let Err(Error::Corrupt(found)) = fixture.plan() else {
        panic!("a log that ends below its recovery point")
    };
    assert_eq!(found.offsets.as_ref().unwrap().end, Offset(500));
    assert_eq!(fixture.everything(), before);
    let options = RecoveryOptions { salvage: Salvage::Cut, ..RecoveryOptions::default() };
    let made = plan(&fixture.storage, &fixture.dir, &options).unwrap();
    assert_eq!(made.log_end_offset(), Offset(42), "a salvage proves what it keeps");
    assert!(made.report().salvaged);
}

#[test]
fn the_mark_of_a_clean_stop_goes_before_anything_is_written() {
    let fixture = Fixture::open("idempotent-clean");
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let list = Arc::clone(&seen);
    fixture.memory.on_operation(move |operation, _| {
        list.lock().unwrap().push((operation.kind, operation.path.to_path_buf()))
    });
    fixture.recover();
    fixture.memory.forget_observer();
    let seen = seen.lock().unwrap();
    use crate::storage::OperationKind::{SyncDir, Unlink};
    assert_eq!(seen[0], (Unlink, PathBuf::from("/logs/.kafka_cleanshutdown")));
    assert_eq!(seen[1], (SyncDir, PathBuf::from("/logs")));
    assert!(seen.len() > 4);
}

#[test]
fn without_a_snapshot_the_headers_tell() {
    for name in ["idempotent-clean", "txn-mixed", "five-window"] {
        let fixture = Fixture::open(name);
        for entry in fixture.memory.list(&fixture.dir).unwrap() {
            if entry.name.ends_with(".snapshot") {
                fixture.memory.unlink(&fixture.dir.join(&entry.name)).unwrap();
            }
        }
        let recovered = fixture.recover();
        assert_eq!(recovered.report.snapshot, None);
        assert_eq!(told_by_us(&state(&recovered)), told_by_broker(&fixture.broker()["producers"]), "{name}");
    }
}

#[test]
fn a_producer_that_only_an_older_snapshot_knows_stays_known() {
    let fixture = Fixture::open("deleted-prefix");
    for end in [76, 111, 146, 216] {
        fixture.memory.unlink(&fixture.dir.join(crate::format::names::snapshot_name(Offset(end)))).unwrap();
    }
    let recovered = fixture.recover();
    assert_eq!(recovered.report.snapshot, Some(crate::format::names::snapshot_name(Offset(181))));
    assert_eq!(told_by_us(&state(&recovered)), told_by_broker(&fixture.broker()["producers"]));
}

#[test]
fn offsets_that_end_in_a_gap_are_not_given_out_again() {
    let fixture = Fixture::open("deleted-prefix");
    // The log ends with an empty segment at 216; what stood right before it is gone, as compaction leaves it.
    let name = fixture.dir.join(crate::format::names::log_name(Offset(181)));
    let whole = fixture.everything()[&name].clone();
    let file = fixture.memory.open(&name, crate::storage::OpenMode::Write).unwrap();
    let batches = fixture.expected["segments"][3]["batches"].as_array().unwrap();
    let last = usize::try_from(batches.last().unwrap()["position"].as_i64().unwrap()).unwrap();
    assert!(last < whole.len());
    file.set_len(last as u64).unwrap();
    file.sync_all().unwrap();
    for end in [76, 111, 146, 181, 216] {
        fixture.memory.unlink(&fixture.dir.join(crate::format::names::snapshot_name(Offset(end)))).unwrap();
    }
    assert_eq!(fixture.recover().report.log_end_offset, Offset(216));
    let again = fixture.recover();
    assert_eq!(again.report.log_end_offset, Offset(216));
    assert_eq!(again.report.watermark.offset, Offset(216));
}

#[test]
fn a_damaged_snapshot_means_the_one_before_it() {
    let fixture = Fixture::open("txn-mixed");
    let name = crate::format::names::snapshot_name(Offset(233));
    let mut bytes = fixture.everything()[&fixture.dir.join(&name)].clone();
    bytes[20] ^= 1;
    put_at(&fixture.memory, &fixture.dir.join(&name), &bytes);
    let recovered = fixture.recover();
    assert_eq!(recovered.report.snapshot, Some(crate::format::names::snapshot_name(Offset(189))));
    assert_eq!(recovered.report.rejected[0].file, name);
    assert_eq!(told_by_us(&state(&recovered)), told_by_broker(&fixture.broker()["producers"]));
}

#[test]
fn an_unfinished_compaction_of_kafka_is_left_to_kafka() {
    let fixture = Fixture::open("compacted");
    put_at(&fixture.memory, &fixture.dir.join("00000000000000000000.log.swap"), b"x");
    let before = fixture.everything();
    let Err(Error::Corrupt(found)) = fixture.plan() else { panic!("a .swap file") };
    assert_eq!(found.path, fixture.dir.join("00000000000000000000.log.swap"));
    assert_eq!(fixture.everything(), before);
}

#[test]
fn messages_of_a_format_before_2_are_refused_and_not_cut() {
    let fixture = Fixture::open("idempotent-kill9");
    // Offset, size, CRC, then magic, attributes, timestamp and an absent key and value.
    let mut body = vec![1, 0];
    body.extend_from_slice(&1_000_i64.to_be_bytes());
    body.extend_from_slice(&[0xff; 8]);
    let mut message = 199_i64.to_be_bytes().to_vec();
    message.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    message.extend_from_slice(&body);
    let name = fixture.dir.join(crate::format::names::log_name(Offset(153)));
    let mut bytes = fixture.everything()[&name].clone();
    let at = bytes.len() as u64;
    // Room for a header, so that not the length is what looks wrong.
    for _ in 0..4 {
        bytes.extend_from_slice(&message);
    }
    put_at(&fixture.memory, &name, &bytes);
    let before = fixture.everything();
    let Err(Error::Corrupt(found)) = fixture.plan() else { panic!("old messages") };
    assert_eq!((found.what.as_str(), found.bytes.start), ("message format", at));
    assert_eq!(fixture.everything(), before);
}

#[test]
fn a_clean_stop_does_not_vouch_for_the_bytes_of_the_last_batch() {
    let fixture = Fixture::open("five-window");
    let name = fixture.dir.join(crate::format::names::log_name(Offset(0)));
    let mut bytes = fixture.everything()[&name].clone();
    *bytes.last_mut().unwrap() ^= 1;
    put_at(&fixture.memory, &name, &bytes);
    let Err(Error::Corrupt(found)) = fixture.plan() else { panic!("a bad CRC in the last batch") };
    assert_eq!(found.bytes.end, bytes.len() as u64);
    let options = RecoveryOptions { salvage: Salvage::Cut, ..RecoveryOptions::default() };
    assert_eq!(plan(&fixture.storage, &fixture.dir, &options).unwrap().log_end_offset(), Offset(12));
}
