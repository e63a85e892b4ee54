//! A log on a simulated disk, worked by nobody but the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog::storage::{Clock, ManualClock, MemoryStorage, OpenMode, Storage, read_all};
use oncelog::{
    Appended, Background, BatchBuilder, Durability, Environment, Error, Isolation, Log, LogConfig, Offset,
    Outcome, OwnedRecord, ProducerEpoch, ProducerId, RawBatch, RecoveryReport, Rejection, Sequence,
};

pub(crate) const DIR: &str = "/logs/orders-0";
/// The wall clock of a new world, in milliseconds.
pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) memory: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: LogConfig,
    log: Option<Log>,
}

/// Segments of some eight batches, an index entry for every second one.
pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 800,
        index_interval_bytes: 150,
        preallocate_bytes: 0,
        background: Background::Caller,
        ..LogConfig::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(small())
    }

    pub(crate) fn with(config: LogConfig) -> Self {
        let mut world = Self::closed(config);
        world.open().unwrap();
        world
    }

    /// An empty disk with no log open.
    pub(crate) fn closed(config: LogConfig) -> Self {
        Self { memory: MemoryStorage::new(), clock: Arc::new(ManualClock::new(NOW)), config, log: None }
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    pub(crate) fn open(&mut self) -> Result<RecoveryReport, Error> {
        let environment = Environment {
            storage: Arc::new(self.memory.clone()),
            clock: Arc::<ManualClock>::clone(&self.clock),
            ..Environment::default()
        };
        let (log, report) = Log::open_with(DIR, self.config.clone(), environment)?;
        self.log = Some(log);
        Ok(report)
    }

    pub(crate) fn close(&mut self) {
        self.log.take().unwrap().close().unwrap();
    }

    pub(crate) fn reopen(&mut self) -> RecoveryReport {
        self.close();
        self.open().unwrap()
    }

    /// The process dies. The disk shows all that was written.
    pub(crate) fn kill(&mut self) {
        let image = self.memory.kill();
        self.log = None;
        self.memory = MemoryStorage::from_image(&image);
    }

    pub(crate) fn crash(&mut self) -> RecoveryReport {
        self.kill();
        self.open().unwrap()
    }

    pub(crate) fn append(&self, batch: Bytes) -> Result<Appended, Error> {
        self.log().append(RawBatch(batch), Durability::Durable)
    }

    /// Appends, and answers the base offset.
    pub(crate) fn add(&self, batch: Bytes) -> i64 {
        let appended = self.append(batch).unwrap();
        assert_eq!(appended.outcome, Outcome::Appended);
        appended.base_offset.unwrap().0
    }

    pub(crate) fn rejection(&self, batch: Bytes) -> Rejection {
        let end = self.log().log_end_offset();
        let rejection = match self.append(batch) {
            Err(Error::Rejected(rejection)) => rejection,
            other => panic!("expected a rejection, found {other:?}"),
        };
        assert_eq!(self.log().log_end_offset(), end, "nothing was written");
        rejection
    }

    /// Base offset of the batch that a retry was recognised as.
    pub(crate) fn duplicate(&self, batch: Bytes) -> i64 {
        let answer = self.append(batch).unwrap();
        assert_eq!(answer.outcome, Outcome::Duplicate);
        answer.base_offset.unwrap().0
    }

    /// All records from `from` on, batch by batch.
    pub(crate) fn records(&self, from: i64) -> Vec<OwnedRecord> {
        let mut records: Vec<OwnedRecord> = Vec::new();
        let mut next = Offset(from);
        loop {
            let fetched = self.log().fetch(next, 1, Isolation::LogEnd).unwrap();
            if fetched.is_empty() {
                return records;
            }
            records.extend(fetched.records().unwrap());
            next = fetched.batches().unwrap().last().unwrap().unwrap().header.next_offset();
        }
    }

    pub(crate) fn values(&self, from: i64) -> Vec<String> {
        let text = |value: Bytes| String::from_utf8(value.to_vec()).unwrap();
        self.records(from).into_iter().map(|record| record.value.map_or_else(String::new, text)).collect()
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    pub(crate) fn wall_ms(&self) -> i64 {
        self.clock.wall_ms()
    }

    // Files of the directory.

    pub(crate) fn path(name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    pub(crate) fn names(&self, suffix: &str) -> Vec<String> {
        let listed = self.memory.list(Path::new(DIR)).unwrap();
        let mut names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
        names.retain(|name| name.ends_with(suffix));
        names.sort();
        names
    }

    /// Base offsets of the segments.
    pub(crate) fn segments(&self) -> Vec<i64> {
        self.names(".log").iter().map(|name| name.strip_suffix(".log").unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        read_all(&self.memory, &Self::path(name), 1 << 20).unwrap().unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.memory.open(&Self::path(name), OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        self.memory.unlink(&Self::path(name)).unwrap();
    }

    /// Takes away every file of ours that Kafka does not know, so that the directory is as Kafka would leave it.
    pub(crate) fn make_it_kafkas(&self) {
        for name in
            self.names("").iter().filter(|name| name.contains("oncelog") || name.starts_with("producers"))
        {
            self.remove(name);
        }
    }
}

/// A batch without a producer id, its records stamped with the wall clock's start.
pub(crate) fn plain(values: &[&str]) -> Bytes {
    values
        .iter()
        .fold(BatchBuilder::new(), |builder, value| {
            builder.record_at(NOW, Some(b"k"), Some(value.as_bytes()))
        })
        .build()
        .unwrap()
}

/// A batch of an idempotent producer.
pub(crate) fn of(producer: i64, epoch: i16, first: i32, records: i32) -> Bytes {
    let sequence = Sequence::new(first).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    let record = |builder: BatchBuilder, n| {
        builder.record_at(NOW + i64::from(first), Some(b"k"), Some(format!("{producer}/{n}").as_bytes()))
    };
    (first..first + records).fold(builder, record).build().unwrap()
}

pub(crate) fn sequence(value: i32) -> Sequence {
    Sequence::new(value).unwrap()
}
