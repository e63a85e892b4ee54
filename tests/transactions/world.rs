//! A log on a simulated disk, worked by nobody but the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oncelog::storage::{Image, ManualClock, MemoryStorage, Storage, read_all};
use oncelog::{
    AbortedTxn, Appended, Background, BatchBuilder, CoordinatorEpoch, Durability, EndTransaction, EndTxn,
    Environment, Error, Isolation, Log, LogConfig, Offset, OwnedRecord, ProducerEpoch, ProducerId, RawBatch,
    RecoveryReport, Rejection, Sequence, TransactionVersion,
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

/// Segments of some six batches; nothing is verified unless a test asks for it.
pub(crate) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 150,
        preallocate_bytes: 0,
        background: Background::Caller,
        verify_transactions: false,
        ..LogConfig::default()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(small())
    }

    pub(crate) fn with(config: LogConfig) -> Self {
        Self::on(MemoryStorage::new(), config)
    }

    pub(crate) fn on(memory: MemoryStorage, config: LogConfig) -> Self {
        let mut world = Self { memory, clock: Arc::new(ManualClock::new(NOW)), config, log: None };
        world.open().unwrap();
        world
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

    /// Ends this life of the log in the way given, and opens the next one.
    pub(crate) fn restart(&mut self, end: End) -> RecoveryReport {
        match end {
            End::Close => self.close(),
            End::Kill => self.go_on_with(&self.memory.kill()),
            End::PowerCut => self.go_on_with(&self.memory.power_cut()),
        }
        self.open().unwrap()
    }

    fn go_on_with(&mut self, image: &Image) {
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

    pub(crate) fn rejection(&self, batch: Bytes) -> Rejection {
        let end = self.log().log_end_offset();
        let rejection = rejected(self.append(batch));
        assert_eq!(self.log().log_end_offset(), end, "nothing was written");
        rejection
    }

    /// Ends a transaction by version 1, and answers the marker's offset.
    pub(crate) fn end(&self, producer: i64, epoch: i16, outcome: EndTxn) -> i64 {
        self.log().end_transaction(end(producer, epoch, outcome), Durability::Durable).unwrap().last_offset.0
    }

    pub(crate) fn stable(&self) -> i64 {
        self.log().last_stable_offset().0
    }

    /// Producers of the open transactions with their first offsets.
    pub(crate) fn open_txns(&self) -> Vec<(i64, i64)> {
        let open = self.log().open_transactions();
        open.iter().map(|txn| (txn.producer.0, txn.first_offset.0)).collect()
    }

    /// All that `isolation` shows, by fetches of `max_bytes`; also all aborted transactions that were told.
    pub(crate) fn read(&self, isolation: Isolation, max_bytes: usize) -> (Vec<OwnedRecord>, Vec<AbortedTxn>) {
        let (mut records, mut aborted) = (Vec::new(), Vec::new());
        let mut next = self.log().log_start_offset();
        loop {
            let fetched = self.log().fetch(next, max_bytes, isolation).unwrap();
            if fetched.is_empty() {
                return (records, aborted);
            }
            records.extend(fetched.records().unwrap());
            for txn in fetched.aborted() {
                if !aborted.contains(txn) {
                    aborted.push(*txn);
                }
            }
            next = fetched.batches().unwrap().last().unwrap().unwrap().header.next_offset();
        }
    }

    /// The offsets of the committed records.
    pub(crate) fn committed(&self) -> Vec<i64> {
        let (records, _) = self.read(Isolation::ReadCommitted, 1);
        let offsets: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
        let (large, _) = self.read(Isolation::ReadCommitted, 1 << 20);
        assert_eq!(large, records, "fetches of another size show the same");
        offsets
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

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

    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        read_all(&self.memory, &Self::path(name), 1 << 20).unwrap()
    }
}

/// How a life of the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    Kill,
    PowerCut,
}

impl End {
    pub(crate) const ALL: [Self; 3] = [Self::Close, Self::Kill, Self::PowerCut];
}

pub(crate) fn rejected(answer: Result<Appended, Error>) -> Rejection {
    match answer {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("expected a rejection, found {other:?}"),
    }
}

fn builder(producer: i64, epoch: i16, first: i32, records: i32) -> BatchBuilder {
    let sequence = Sequence::new(first).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    (first..first + records).fold(builder, |builder, n| {
        builder.record_at(NOW + i64::from(first), Some(b"k"), Some(format!("{producer}/{n}").as_bytes()))
    })
}

/// A transactional batch.
pub(crate) fn txn(producer: i64, epoch: i16, first: i32, records: i32) -> Bytes {
    builder(producer, epoch, first, records).transactional().build().unwrap()
}

/// A batch of an idempotent producer outside of transactions.
pub(crate) fn idempotent(producer: i64, epoch: i16, first: i32, records: i32) -> Bytes {
    builder(producer, epoch, first, records).build().unwrap()
}

/// A batch without producer.
pub(crate) fn plain(value: &str) -> Bytes {
    BatchBuilder::new().record_at(NOW, None, Some(value.as_bytes())).build().unwrap()
}

/// The end of a transaction by version 1, ordered by coordinator epoch 5.
pub(crate) fn end(producer: i64, epoch: i16, outcome: EndTxn) -> EndTransaction {
    EndTransaction {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(epoch),
        coordinator_epoch: CoordinatorEpoch(5),
        outcome,
        version: TransactionVersion::One,
    }
}

pub(crate) fn aborted(producer: i64, first: i64, last: i64, stable: i64) -> AbortedTxn {
    AbortedTxn {
        producer: ProducerId(producer),
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
    }
}
