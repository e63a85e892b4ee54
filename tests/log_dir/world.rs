//! Roots on a simulated disk, and what is read from them.

use std::path::Path;
use std::sync::Arc;

use oncelog::storage::{Image, ManualClock, MemoryStorage, OpenMode, Storage};
use oncelog::{
    Background, BatchBuilder, Durability, Environment, Isolation, Log, LogConfig, LogDir, LogDirConfig,
    LogDirReport, PartitionName, ProducerEpoch, ProducerId, RawBatch, Sequence,
};

pub(crate) const ROOT: &str = "/data";
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Small segments, and nobody works in the background.
pub(crate) fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 0,
        preallocate_bytes: 0,
        background: Background::Caller,
        ..LogConfig::default()
    }
}

pub(crate) fn config() -> LogDirConfig {
    LogDirConfig { log: log_config(), open_threads: 1, descriptors: Some(1000), ..LogDirConfig::default() }
}

pub(crate) fn environment(disk: &MemoryStorage) -> Environment {
    let (storage, clock) = (Arc::new(disk.clone()), Arc::new(ManualClock::new(NOW)));
    Environment { storage, clock, ..Environment::default() }
}

pub(crate) fn open_with(disk: &MemoryStorage, config: LogDirConfig) -> (LogDir, LogDirReport) {
    LogDir::open(ROOT, config, environment(disk)).unwrap()
}

pub(crate) fn open(disk: &MemoryStorage) -> (LogDir, LogDirReport) {
    open_with(disk, config())
}

pub(crate) fn name(topic: &str, partition: i32) -> PartitionName {
    PartitionName::new(topic, partition).unwrap()
}

pub(crate) fn batch(producer: i64, sequence: i32) -> RawBatch {
    let sequence = Sequence::new(sequence).unwrap();
    let batch = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(0), sequence)
        .record_at(NOW, None, Some(&[7; 40]))
        .build();
    RawBatch(batch.unwrap())
}

pub(crate) fn append(log: &Log, producer: i64, sequences: impl IntoIterator<Item = i32>) {
    for sequence in sequences {
        log.append(batch(producer, sequence), Durability::Durable).unwrap();
    }
}

/// A root with the partitions `t-0`, `t-1`, ... of so many batches each, which is open.
pub(crate) fn filled(disk: &MemoryStorage, batches: &[i32]) -> LogDir {
    let (dir, _) = open(disk);
    for (partition, count) in (0..).zip(batches) {
        let made = dir.create(&name("t", partition), log_config()).unwrap();
        append(&made.log().unwrap(), 1, 0..*count);
    }
    dir
}

/// Sequence of each batch of the log, in its order; fails at the first offset that does not follow.
pub(crate) fn content(log: &Log) -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        for batch in log.fetch(next, 1 << 20, Isolation::LogEnd).unwrap().batches().unwrap() {
            let header = batch.unwrap().header;
            assert_eq!(header.base_offset, next);
            next = header.next_offset();
            found.push(header.base_sequence);
        }
    }
    found
}

pub(crate) fn content_of(dir: &LogDir, partition: &PartitionName) -> Vec<i32> {
    content(&dir.get(partition).unwrap().log().unwrap())
}

/// The bytes of a file in the root, as text.
pub(crate) fn text(disk: &MemoryStorage, file: &str) -> Option<String> {
    image_text(&disk.kill(), file)
}

pub(crate) fn image_text(image: &Image, file: &str) -> Option<String> {
    image.read(&Path::new(ROOT).join(file)).map(|bytes| String::from_utf8(bytes).unwrap())
}

pub(crate) fn write(disk: &MemoryStorage, file: &str, bytes: &[u8]) {
    let file = disk.open(&Path::new(ROOT).join(file), OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(ROOT)).unwrap();
}

pub(crate) fn names(disk: &MemoryStorage) -> Vec<String> {
    let mut names: Vec<String> =
        disk.list(Path::new(ROOT)).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

pub(crate) fn is_marked(disk: &MemoryStorage) -> bool {
    text(disk, ".kafka_cleanshutdown").is_some()
}
