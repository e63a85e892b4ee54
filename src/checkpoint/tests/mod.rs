//! Runs, chains and the two small files on a simulated disk, which can be damaged at any byte and cut at any operation.

mod adopt;
mod chain;
mod crash;
mod files;
mod merge;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::{Corruption, Error};
use crate::format::run::RunKind;
use crate::producer::{CachedBatch, Entry, WINDOW};
use crate::storage::{MemoryStorage, OpenMode, Storage};
use crate::types::{
    CoordinatorEpoch, EngineTime, Fingerprint, LeaderEpoch, LogPoint, Offset, Position, ProducerEpoch,
    ProducerId, Sequence,
};

type Entries = BTreeMap<ProducerId, Entry>;

/// An empty directory on a new disk.
struct Disk {
    memory: MemoryStorage,
    storage: Arc<dyn Storage>,
    dir: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let memory = MemoryStorage::new();
        let dir = PathBuf::from("/topic-0");
        memory.create_dir_all(&dir).unwrap();
        memory.sync_dir(Path::new("/")).unwrap();
        Self { storage: Arc::new(memory.clone()), memory, dir }
    }

    fn place(&self, number: u64) -> RunPlace<'_> {
        RunPlace { storage: &self.storage, dir: &self.dir, number }
    }

    /// A run of `entries` that covers `from` to `to`.
    fn run(&self, number: u64, kind: RunKind, from: i64, to: i64, entries: &Entries) -> Arc<Run> {
        let draft = RunDraft::new(kind, Offset(from), point(to), EngineTime(7));
        let mut writer = RunWriter::create(&self.storage, &self.dir, number, draft).unwrap();
        for (id, entry) in entries {
            writer.push(*id, entry).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        crate::storage::read_all(&self.memory, &self.dir.join(name), u64::MAX).unwrap().unwrap()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let file = self.memory.open(&self.dir.join(name), OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.memory.list(&self.dir).unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }
}

fn point(offset: i64) -> LogPoint {
    if offset == 0 {
        return LogPoint::segment_start(Offset(0));
    }
    let last_offset = Offset(offset - 1);
    let fingerprint =
        Fingerprint { last_offset, leader_epoch: LeaderEpoch(1), record_count: 1, crc: 0xc0ff_ee00 };
    let position = Position(offset.unsigned_abs() * 100);
    let last_batch = Some((Position(position.0 - 50), fingerprint));
    LogPoint { segment: Offset(0), position, offset: Offset(offset), last_batch }
}

/// An entry that tells by its epoch who it is.
fn entry(epoch: i16) -> Entry {
    Entry::new(ProducerEpoch(epoch), EngineTime(100))
}

fn entries<const N: usize>(list: [(i64, i16); N]) -> Entries {
    list.into_iter().map(|(id, epoch)| (ProducerId(id), entry(epoch))).collect()
}

/// `count` producers with full windows.
fn many(count: i64) -> Entries {
    (0..count)
        .map(|id| {
            let window: Vec<_> =
                (0..5).map(|nth| batch(nth * 10, 10, id * 1_000_007 + i64::from(nth) * 2000)).collect();
            (ProducerId(id * 3), entry(1).with_window(&window).unwrap())
        })
        .collect()
}

fn batch(first: i32, count: u32, offset: i64) -> CachedBatch {
    let first_sequence = Sequence::new(first).unwrap();
    CachedBatch {
        first_sequence,
        last_sequence: first_sequence.wrapping_add(count - 1),
        first_offset: Offset(offset),
        last_offset: Offset(offset + i64::from(count) - 1),
        max_timestamp: offset * 7,
        aborted: false,
    }
}

fn collect(entries: impl Iterator<Item = Result<(ProducerId, Entry), Error>>) -> Entries {
    let list: Vec<_> = entries.collect::<Result<_, _>>().unwrap();
    assert!(list.windows(2).all(|pair| pair[0].0 < pair[1].0), "ids ascend");
    list.into_iter().collect()
}

fn borrowed(entries: &Entries) -> Vec<(ProducerId, &Entry)> {
    entries.iter().map(|(id, entry)| (*id, entry)).collect()
}

#[track_caller]
fn corruption<T: std::fmt::Debug>(result: Result<T, Error>) -> Corruption {
    match result {
        Err(Error::Corrupt(corruption)) => *corruption,
        other => panic!("expected damage, got {other:?}"),
    }
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let batches = proptest::collection::vec(
        (0..100_000_u32, 0..1_000_000_i64, any::<i64>(), any::<bool>()),
        0..=WINDOW,
    );
    let start = prop_oneof![Just(0), Just(i32::MAX), 0..=i32::MAX];
    let fields = (any::<i16>(), any::<i32>(), any::<u32>(), any::<u64>(), any::<Option<i64>>());
    (fields, start, batches).prop_map(|((epoch, coordinator, proven, seen, txn), start, batches)| {
        let mut sequence = Sequence::new(start).unwrap();
        let mut offset = 0;
        let window: Vec<_> = batches
            .into_iter()
            .map(|(steps, gap, max_timestamp, aborted)| {
                let first_offset = offset + gap;
                offset = first_offset + i64::from(steps) + 1;
                let first_sequence = sequence;
                let last_sequence = first_sequence.wrapping_add(steps);
                sequence = last_sequence.next();
                CachedBatch {
                    first_sequence,
                    last_sequence,
                    first_offset: Offset(first_offset),
                    last_offset: Offset(offset - 1),
                    max_timestamp,
                    aborted,
                }
            })
            .collect();
        let mut entry = Entry::new(ProducerEpoch(epoch), EngineTime(seen)).with_window(&window).unwrap();
        entry.coordinator_epoch = CoordinatorEpoch(coordinator);
        entry.proven = proven;
        entry.txn_first_offset = txn.map(Offset);
        entry
    })
}

/// Entries of few enough ids that runs meet.
fn any_entries() -> impl Strategy<Value = Entries> {
    proptest::collection::btree_map((0..60_i64).prop_map(ProducerId), any_entry(), 0..50)
}
