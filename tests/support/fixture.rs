//! A directory that Apache Kafka wrote, unpacked, with what Kafka's tools and a running broker say of it
//! (`tests/fixtures/README.md`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use oncelog::storage::{OpenMode, OsStorage, Storage, read_all};
use oncelog::{Log, LogConfig, RecoveryReport};
use serde_json::Value;
use tempfile::TempDir;

/// The largest fixture is smaller than this.
const MOST: u64 = 64 << 20;

pub(crate) struct Fixture {
    pub(crate) expected: Value,
    pub(crate) dir: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    /// Expectations of the fixture that a damaged one was made from: they hold the records.
    original: Option<Value>,
    root: TempDir,
}

impl Fixture {
    pub(crate) fn unpack(name: &str) -> Self {
        let storage: Arc<dyn Storage> = Arc::new(OsStorage::new());
        let archive = read(&*storage, &format!("{name}.tar.gz"));
        let root = tempfile::tempdir().unwrap();
        tar::Archive::new(GzDecoder::new(archive.as_slice())).unpack(root.path()).unwrap();
        let expected = expectations(&*storage, name);
        let original = expected["from"].as_str().map(|from| expectations(&*storage, from));
        let partition = expected["partition_dir"].as_str().unwrap().to_owned();
        let fixture = Self { dir: root.path().join(&partition), expected, storage, original, root };
        fixture.write_root(&partition);
        fixture
    }

    /// Kafka's files above the partition directory, with this partition's line.
    fn write_root(&self, partition: &str) {
        let (topic, number) = partition.rsplit_once('-').unwrap();
        for (name, value) in self.expected["root_checkpoints"].as_object().unwrap() {
            match value {
                Value::Null => {}
                Value::String(text) => self.write_in_root(name, text.as_bytes()),
                offset => {
                    let text = format!("0\n1\n{topic} {number} {}\n", offset.as_i64().unwrap());
                    self.write_in_root(name, text.as_bytes());
                }
            }
        }
    }

    fn write_in_root(&self, name: &str, bytes: &[u8]) {
        self.write(&self.root.path().join(name), bytes);
    }

    /// What Kafka leaves in the root when it stops in order with this partition ending at `end`.
    pub(crate) fn stop_in_order(&self, end: i64) {
        let partition = self.expected["partition_dir"].as_str().unwrap();
        let (topic, number) = partition.rsplit_once('-').unwrap();
        let text = format!("0\n1\n{topic} {number} {end}\n");
        self.write_in_root("recovery-point-offset-checkpoint", text.as_bytes());
        self.write_in_root(".kafka_cleanshutdown", b"{\"version\":0,\"brokerEpoch\":117}");
    }

    pub(crate) fn open(&self) -> (Log, RecoveryReport) {
        Log::open(&self.dir, config()).unwrap()
    }

    /// What the broker said after it had started again on a copy of the directory.
    pub(crate) fn kafka(&self) -> &Value {
        &self.expected["kafka_after_reopen"]
    }

    pub(crate) fn log_start(&self) -> i64 {
        self.kafka()["log_start_offset"].as_i64().unwrap()
    }

    pub(crate) fn log_end(&self) -> i64 {
        self.kafka()["log_end_offset"].as_i64().unwrap()
    }

    /// All batches that Kafka keeps when it opens the directory, with the base offset of their segment.
    pub(crate) fn batches(&self) -> Vec<&Value> {
        let segments = self.expected["segments"].as_array().unwrap();
        let batches = segments.iter().flat_map(|segment| segment["batches"].as_array().unwrap());
        batches.filter(|batch| int(batch, "baseOffset") < self.log_end()).collect()
    }

    /// The records of a batch; those of damaged fixtures stand with the one they were made from.
    pub(crate) fn records_of<'a>(&'a self, batch: &'a Value) -> &'a [Value] {
        let found = match &self.original {
            None => batch,
            Some(original) => original["segments"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|segment| segment["batches"].as_array().unwrap())
                .find(|other| other["baseOffset"] == batch["baseOffset"])
                .unwrap(),
        };
        assert!(found.get("records_sampled").is_none(), "no batch of these fixtures has 500 records");
        found["records"].as_array().unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        read_all(&*self.storage, &self.dir.join(name), MOST).unwrap().unwrap()
    }

    pub(crate) fn overwrite(&self, name: &str, bytes: &[u8]) {
        self.write(&self.dir.join(name), bytes);
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        let file = self.storage.open(path, OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.storage.list(&self.dir).unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }
}

/// Small blocks ahead; timestamps are not judged by the clock of the machine that runs the test.
pub(crate) fn config() -> LogConfig {
    LogConfig { preallocate_bytes: 64 << 10, timestamp_after_max_ms: None, ..LogConfig::default() }
}

pub(crate) fn int(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("{key} of {value} is not a number"))
}

/// A stored batch as its producer sent it: offset and leader epoch are the leader's and outside of the CRC.
pub(crate) fn as_sent(stored: &Bytes) -> Bytes {
    let mut bytes = stored.to_vec();
    bytes[..8].copy_from_slice(&0_i64.to_be_bytes());
    bytes[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    bytes.into()
}

fn expectations(storage: &dyn Storage, name: &str) -> Value {
    serde_json::from_slice(&read(storage, &format!("{name}.expected.json"))).unwrap()
}

fn read(storage: &dyn Storage, name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/kafka-4.3.1").join(name);
    read_all(storage, &path, MOST).unwrap().unwrap_or_else(|| panic!("{} is missing", path.display()))
}
