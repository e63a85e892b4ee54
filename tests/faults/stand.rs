//! A log on a simulated disk, with a ledger of what it was sent and what it answered.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use oncelog::storage::{File, Image, MemoryStorage, OpenMode, Storage};
use oncelog::{Appended, Durability, Error, Log, Offset, Outcome};

use crate::common::check::{self, Checked, DIR, Facts, Kept, check};
use crate::common::ledger::{Issued, SharedLedger};

/// Numbers of the operating system's errors.
pub(crate) const EIO: i32 = 5;
pub(crate) const EACCES: i32 = 13;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;

/// A log under test.
pub(crate) struct Stand {
    pub(crate) disk: MemoryStorage,
    pub(crate) log: Log,
    pub(crate) ledger: SharedLedger,
}

impl Stand {
    pub(crate) fn new() -> Self {
        let disk = MemoryStorage::new();
        let (log, _) = check::open(&disk).expect("an empty disk");
        Self { disk, log, ledger: SharedLedger::default() }
    }

    /// A log with batches of three producers, all durable: sequences 0 to 6 of each, one record a batch.
    pub(crate) fn with_history() -> Self {
        let stand = Self::new();
        for sequence in 0..7 {
            for producer in 1..=3 {
                stand.append(producer, sequence).expect("nothing fails yet");
            }
        }
        stand
    }

    /// Sends a batch of one record and waits for it to be durable.
    pub(crate) fn append(&self, producer: i64, sequence: i32) -> Result<Appended, Error> {
        self.send(Issued::new(producer, 0, sequence, 1), Durability::Durable)
    }

    pub(crate) fn send(&self, batch: Issued, level: Durability) -> Result<Appended, Error> {
        let raw = batch.raw();
        let place = self.ledger.issue(batch);
        let answer = self.log.append(raw, level);
        self.ledger.answered(place, level, answer.clone());
        answer
    }

    /// Sends a batch again that was sent before.
    pub(crate) fn retry(&self, producer: i64, sequence: i32) -> Result<Appended, Error> {
        self.log.append(Issued::new(producer, 0, sequence, 1).raw(), Durability::Durable)
    }

    pub(crate) fn before(&self) -> Before {
        Before {
            content: check::content_of(&self.log).expect("the log can be read"),
            end: self.log.log_end_offset(),
            high_watermark: self.log.high_watermark(),
            producers: (1..=3).map(|id| self.log.producer(oncelog::ProducerId(id)).expect("known")).collect(),
        }
    }

    /// Drops the log as a crash of the process would and opens it again: the page cache is what it was.
    pub(crate) fn reopen(self) -> Self {
        let Self { disk, log, ledger } = self;
        drop(log);
        disk.clear_faults();
        let (log, _) = check::open(&disk).unwrap_or_else(|error| panic!("{error}"));
        Self { disk, log, ledger }
    }

    /// Opens `image` and checks every acknowledgement and every answer.
    pub(crate) fn check(&self, image: &Image) -> Checked {
        let ledger = self.ledger.lock().clone();
        let durable: Vec<_> =
            ledger.acks.iter().copied().filter(|ack| ack.level == Durability::Durable).collect();
        let facts = Facts { issued: &ledger.issued, must_survive: &durable, in_order: per_producer };
        let checked = check(image, facts).unwrap_or_else(|violation| panic!("{violation}"));
        assert!(checked.retries >= durable.len().min(5), "only {} retries", checked.retries);
        checked
    }
}

/// What an append that certainly did nothing must leave as it was.
#[derive(Debug, PartialEq)]
pub(crate) struct Before {
    pub(crate) content: Vec<u8>,
    pub(crate) end: Offset,
    pub(crate) high_watermark: Offset,
    producers: Vec<Option<oncelog::producer::Entry>>,
}

/// Batches were sent again after errors: the log holds each producer's in their order and leaves none out.
pub(crate) fn per_producer(issued: &[Issued], kept: &[Kept]) -> bool {
    let mut newest = std::collections::BTreeMap::new();
    kept.iter().map(|(at, _)| &issued[*at]).all(|batch| match newest.insert(batch.producer, batch) {
        Some(before) if before.epoch == batch.epoch => before.next() == batch.first,
        Some(before) => batch.epoch > before.epoch && batch.first.value() == 0,
        None => batch.first.value() == 0,
    })
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// Opens a file of the log behind the log's back.
pub(crate) fn file(disk: &MemoryStorage, name: &str) -> std::sync::Arc<dyn File> {
    disk.open(&path(name), OpenMode::Write).expect("the file is there")
}

/// Turns the bits of one byte round, durably.
pub(crate) fn flip(disk: &MemoryStorage, name: &str, at: u64) {
    let file = file(disk, name);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("the byte is there");
    file.write_all_at(&[!byte[0]], at).expect("nothing fails");
    file.sync_data().expect("nothing fails");
}

pub(crate) fn remove(disk: &MemoryStorage, name: &str) {
    disk.unlink(&path(name)).expect("the file is there");
    disk.sync_dir(Path::new(DIR)).expect("nothing fails");
}

/// Names and bytes of all files.
pub(crate) fn all_files(disk: &MemoryStorage) -> Vec<(PathBuf, Vec<u8>)> {
    let image = disk.kill();
    image.files().into_iter().map(|path| (path.clone(), image.read(&path).expect("listed"))).collect()
}

/// Names in the log's directory that fit.
pub(crate) fn names(disk: &MemoryStorage, fit: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = disk
        .list(Path::new(DIR))
        .expect("it is there")
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| fit(name))
        .collect();
    names.sort();
    names
}

#[track_caller]
pub(crate) fn unavailable<T: Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(error @ Error::Unavailable { .. }) => {
            assert_eq!(error.kafka_code(), 56);
            error.to_string()
        }
        other => panic!("{other:?} is not Unavailable"),
    }
}

#[track_caller]
pub(crate) fn indeterminate<T: Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(error @ Error::Indeterminate { .. }) => {
            assert_eq!(error.kafka_code(), 56);
            error.to_string()
        }
        other => panic!("{other:?} is not Indeterminate"),
    }
}

#[track_caller]
pub(crate) fn outcome(answer: Result<Appended, Error>) -> (Outcome, Option<i64>) {
    let appended = answer.unwrap_or_else(|error| panic!("{error}"));
    (appended.outcome, appended.base_offset.map(|offset| offset.0))
}
