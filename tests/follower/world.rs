//! A log on a simulated disk, worked by nobody but the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use oncelog::storage::{ManualClock, MemoryStorage, OpenMode, Storage};
use oncelog::{
    Appended, Background, BatchBuilder, Durability, Environment, Error, FetchedBatch, Isolation, LeaderEpoch,
    Log, LogConfig, Offset, Outcome, ProducerEpoch, ProducerId, RawBatch, RecoveryReport, Sequence,
};

pub(crate) const DIR: &str = "/logs/orders-0";
/// The wall clock, in milliseconds.
pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) disk: MemoryStorage,
    pub(crate) config: LogConfig,
    pub(crate) log: Option<Log>,
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
        let mut world = Self { disk: MemoryStorage::new(), config, log: None };
        world.open().unwrap();
        world
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    pub(crate) fn open(&mut self) -> Result<RecoveryReport, Error> {
        let (log, report) = open(&self.disk, &self.config)?;
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
        let image = self.disk.kill();
        self.log = None;
        self.disk = MemoryStorage::from_image(&image);
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

    pub(crate) fn end(&self) -> i64 {
        self.log().log_end_offset().0
    }

    /// Epochs of the log with their starts.
    pub(crate) fn epochs(&self) -> Vec<(i32, i64)> {
        self.log()
            .leader_epochs()
            .starts()
            .iter()
            .map(|start| (start.epoch.0, start.start_offset.0))
            .collect()
    }

    pub(crate) fn names(&self, suffix: &str) -> Vec<String> {
        let listed = self.disk.list(Path::new(DIR)).unwrap();
        let mut names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
        names.retain(|name| name.ends_with(suffix));
        names.sort();
        names
    }

    /// Base offsets of the segments.
    pub(crate) fn segments(&self) -> Vec<i64> {
        self.names(".log").iter().map(|name| name.strip_suffix(".log").unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.disk.kill().read(&path(name)).unwrap()).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.disk.open(&path(name), OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }
}

pub(crate) fn open(disk: &MemoryStorage, config: &LogConfig) -> Result<(Log, RecoveryReport), Error> {
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(NOW)),
        ..Environment::default()
    };
    Log::open_with(DIR, config.clone(), environment)
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// All batches of a log.
pub(crate) fn batches(log: &Log) -> Vec<FetchedBatch> {
    let mut batches: Vec<FetchedBatch> = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        let fetched = log.fetch(next, 1 << 20, Isolation::LogEnd).unwrap();
        if fetched.is_empty() {
            break;
        }
        for batch in fetched.batches().unwrap() {
            let batch = batch.unwrap();
            next = batch.header.next_offset();
            batches.push(batch);
        }
    }
    batches
}

/// A batch of an idempotent producer.
pub(crate) fn of(producer: i64, first: i32, records: i32) -> Bytes {
    let sequence = Sequence::new(first).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence);
    let record = |builder: BatchBuilder, n| {
        builder.record_at(NOW + i64::from(n), Some(b"k"), Some(format!("{producer}/{n}").as_bytes()))
    };
    (first..first + records).fold(builder, record).build().unwrap()
}

pub(crate) fn epoch(epoch: i32) -> LeaderEpoch {
    LeaderEpoch(epoch)
}

pub(crate) fn offset(offset: i64) -> Offset {
    Offset(offset)
}
