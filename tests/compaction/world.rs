//! A compacted log on a simulated disk, worked by nobody but the test.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog::storage::{Image, ManualClock, MemoryStorage, Storage};
use oncelog::{
    Appended, Background, BatchBuilder, BatchHeader, Cleanup, Compacted, CompactionConfig, CoordinatorEpoch,
    Durability, EndTransaction, EndTxn, Environment, Error, Isolation, Log, LogConfig, Offset, OwnedRecord,
    ProducerEpoch, ProducerId, RawBatch, RecoveryReport, Salvage, Sequence, TransactionVersion,
};

pub(crate) const DIR: &str = "/logs/orders-0";
/// The wall clock of a new world, in milliseconds.
pub(crate) const NOW: i64 = 1_700_000_000_000;
/// How long a tombstone can be read in these tests, in milliseconds.
pub(crate) const RETENTION: u64 = 1_000;

pub(crate) struct World {
    pub(crate) memory: MemoryStorage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) config: LogConfig,
    log: Option<Log>,
}

/// Segments of a few batches.
pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 150,
        preallocate_bytes: 0,
        background: Background::Caller,
        verify_transactions: false,
        cleanup: Cleanup::Compact,
        compaction: CompactionConfig { delete_retention_ms: RETENTION, ..CompactionConfig::default() },
        delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

/// How a life of the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Kill,
    PowerCut,
}

/// The newest value of each key, as a consumer ends with: tombstones take keys away.
pub(crate) type Table = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

impl World {
    pub(crate) fn new() -> Self {
        Self::with(small())
    }

    pub(crate) fn with(config: LogConfig) -> Self {
        Self::on(MemoryStorage::new(), config)
    }

    pub(crate) fn on(memory: MemoryStorage, config: LogConfig) -> Self {
        Self::opened(memory, config).0
    }

    pub(crate) fn opened(memory: MemoryStorage, config: LogConfig) -> (Self, RecoveryReport) {
        let mut world = Self { memory, clock: Arc::new(ManualClock::new(NOW)), config, log: None };
        let report = world.open().unwrap();
        (world, report)
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    pub(crate) fn open(&mut self) -> Result<RecoveryReport, Error> {
        self.open_by(Salvage::Refuse)
    }

    pub(crate) fn salvage(&mut self) -> Result<RecoveryReport, Error> {
        self.open_by(Salvage::Cut)
    }

    fn open_by(&mut self, salvage: Salvage) -> Result<RecoveryReport, Error> {
        let environment = Environment {
            salvage,
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

    /// Ends this life of the log in the way given, and opens the next one.
    pub(crate) fn restart(&mut self, end: End) -> RecoveryReport {
        match end {
            End::Close => self.close(),
            End::Kill => self.go_on_with(&self.memory.kill()),
            End::PowerCut => self.go_on_with(&self.memory.power_cut()),
        }
        self.open().unwrap()
    }

    pub(crate) fn go_on_with(&mut self, image: &Image) {
        self.log = None;
        self.memory = MemoryStorage::from_image(image);
    }

    pub(crate) fn append(&self, batch: Bytes) -> Result<Appended, Error> {
        self.log().append(RawBatch(batch), Durability::Durable)
    }

    /// Appends, and answers the base offset.
    pub(crate) fn add(&self, batch: Bytes) -> i64 {
        self.append(batch).unwrap().base_offset.unwrap().0
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> i64 {
        self.add(put(key, Some(value)))
    }

    pub(crate) fn remove(&self, key: &str) -> i64 {
        self.add(put(key, None))
    }

    /// Batches of a key that nothing replaces, until the segment that is appended to is a new one with a batch: what was
    /// appended before can be compacted.
    pub(crate) fn fill(&self, name: &str) {
        for n in 0..4 {
            self.put(&format!("{name}-{n}"), &"x".repeat(60));
        }
    }

    /// Ends a transaction by version 1.
    pub(crate) fn end(&self, producer: i64, outcome: EndTxn) -> i64 {
        let end = EndTransaction {
            producer: ProducerId(producer),
            epoch: ProducerEpoch(0),
            coordinator_epoch: CoordinatorEpoch(5),
            outcome,
            version: TransactionVersion::One,
        };
        self.log().end_transaction(end, Durability::Durable).unwrap().last_offset.0
    }

    pub(crate) fn compact(&self) -> Compacted {
        self.log().compact().unwrap().unwrap()
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    /// All batches, as readers of everything see them.
    pub(crate) fn batches(&self) -> Vec<(BatchHeader, Bytes)> {
        let mut batches = Vec::new();
        let mut next = self.log().log_start_offset();
        loop {
            let fetched = self.log().fetch(next, 1000, Isolation::LogEnd).unwrap();
            if fetched.is_empty() {
                return batches;
            }
            for batch in fetched.batches().unwrap() {
                let batch = batch.unwrap();
                next = batch.header.next_offset();
                batches.push((batch.header, batch.bytes));
            }
        }
    }

    pub(crate) fn records(&self, isolation: Isolation) -> Vec<OwnedRecord> {
        let mut records = Vec::new();
        let mut next = self.log().log_start_offset();
        loop {
            let fetched = self.log().fetch(next, 1000, isolation).unwrap();
            if fetched.is_empty() {
                return records;
            }
            records.extend(fetched.records().unwrap());
            next = fetched.batches().unwrap().last().unwrap().unwrap().header.next_offset();
        }
    }

    /// Offsets and values of the committed records with `key`.
    pub(crate) fn of_key(&self, key: &str) -> Vec<(i64, Option<String>)> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        self.records(Isolation::ReadCommitted)
            .iter()
            .filter(|record| record.key.as_deref() == Some(key.as_bytes()))
            .map(|record| (record.offset.0, record.value.as_ref().map(text)))
            .collect()
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        for record in self.records(Isolation::ReadCommitted) {
            let key = record.key.unwrap().to_vec();
            match record.value {
                Some(value) => drop(table.insert(key, (record.offset.0, value.to_vec()))),
                None => drop(table.remove(&key)),
            }
        }
        table
    }

    pub(crate) fn names(&self, suffix: &str) -> Vec<String> {
        let listed = self.memory.list(Path::new(DIR)).unwrap();
        let mut names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
        names.retain(|name| name.ends_with(suffix));
        names.sort();
        names
    }

    /// Offset at which the record batch that holds `offset` begins, and its record count.
    pub(crate) fn batch_at(&self, offset: i64) -> Option<BatchHeader> {
        let holds = |header: &BatchHeader| {
            header.base_offset <= Offset(offset) && Offset(offset) < header.next_offset()
        };
        self.batches().into_iter().map(|(header, _)| header).find(holds)
    }
}

/// A record without producer.
pub(crate) fn put(key: &str, value: Option<&str>) -> Bytes {
    BatchBuilder::new().record_at(NOW, Some(key.as_bytes()), value.map(str::as_bytes)).build().unwrap()
}

/// A batch of several records without producer.
pub(crate) fn puts(records: &[(&str, Option<&str>)]) -> Bytes {
    let add = |builder: BatchBuilder, (key, value): &(&str, Option<&str>)| {
        builder.record_at(NOW, Some(key.as_bytes()), value.map(str::as_bytes))
    };
    records.iter().fold(BatchBuilder::new(), add).build().unwrap()
}

/// A record of an idempotent producer.
pub(crate) fn of(producer: i64, sequence: i32, key: &str, value: &str) -> Bytes {
    builder(producer, sequence).record_at(NOW, Some(key.as_bytes()), Some(value.as_bytes())).build().unwrap()
}

/// A record in a transaction.
pub(crate) fn txn(producer: i64, sequence: i32, key: &str, value: Option<&str>) -> Bytes {
    builder(producer, sequence)
        .transactional()
        .record_at(NOW, Some(key.as_bytes()), value.map(str::as_bytes))
        .build()
        .unwrap()
}

fn builder(producer: i64, sequence: i32) -> BatchBuilder {
    let sequence = Sequence::new(sequence).unwrap();
    BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(0), sequence)
}
