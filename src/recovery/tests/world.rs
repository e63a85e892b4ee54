//! A log made by hand, with what its producers must be at every offset.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{
    BaseInputs, Chain, RunDraft, RunPlace, WatermarkFile, write_base, write_delta, write_manifest,
};
use crate::error::{Corruption, Error};
use crate::format::batch::BatchHeader;
use crate::format::batch_builder::BatchBuilder;
use crate::format::control::{ControlKind, EndTxnMarker};
use crate::format::manifest::{CompactionState, Manifest, RunRef};
use crate::format::names::log_name;
use crate::format::run::RunKind;
use crate::producer::{
    BatchFacts, EndTxn, Entry, MarkerFacts, OffsetSpan, ProducerMap, apply_data, apply_marker,
};
use crate::recovery::{Plan, Recovered, RecoveryOptions, Salvage, execute, plan};
use crate::storage::{Image, MemoryStorage, OpenMode, Storage};
use crate::types::{
    CoordinatorEpoch, EngineTime, Gaps, History, LeaderEpoch, LogPoint, Offset, Position, ProducerEpoch,
    ProducerId, Sequence,
};

pub(super) const DIR: &str = "/logs/orders-0";

pub(super) type Entries = BTreeMap<ProducerId, Entry>;

/// One batch of the log.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) segment: usize,
    pub(super) position: usize,
    pub(super) header: BatchHeader,
    pub(super) commit: Option<EndTxn>,
}

/// A log in the making and the disk it is put on.
#[derive(Debug)]
pub(super) struct World {
    pub(super) memory: MemoryStorage,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) segments: Vec<(i64, Vec<u8>)>,
    pub(super) batches: Vec<Placed>,
    pub(super) leader_epoch: i32,
    next_sequences: BTreeMap<i64, i32>,
}

impl World {
    pub(super) fn new() -> Self {
        Self::starting_at(0)
    }

    pub(super) fn starting_at(base: i64) -> Self {
        let memory = MemoryStorage::new();
        memory.create_dir_all(Path::new(DIR)).unwrap();
        memory.sync_dir(Path::new("/")).unwrap();
        memory.sync_dir(Path::new("/logs")).unwrap();
        Self {
            storage: Arc::new(memory.clone()),
            memory,
            segments: vec![(base, Vec::new())],
            batches: Vec::new(),
            leader_epoch: 3,
            next_sequences: BTreeMap::new(),
        }
    }

    /// The log end.
    pub(super) fn end(&self) -> i64 {
        self.batches.last().map_or(self.segments[0].0, |batch| batch.header.next_offset().0)
    }

    /// Appends the next batch of a producer.
    pub(super) fn append(&mut self, producer: i64, records: i32) {
        self.push(producer, records, false, self.end());
    }

    /// [`Self::append`] behind a gap.
    pub(super) fn append_at(&mut self, producer: i64, records: i32, base: i64) {
        self.push(producer, records, false, base);
    }

    pub(super) fn append_in_txn(&mut self, producer: i64, records: i32) {
        self.push(producer, records, true, self.end());
    }

    fn push(&mut self, producer: i64, records: i32, transactional: bool, base: i64) {
        let sequence = self.next_sequences.entry(producer).or_default();
        let mut builder = BatchBuilder::new()
            .base_offset(Offset(base))
            .leader_epoch(LeaderEpoch(self.leader_epoch))
            .producer(ProducerId(producer), ProducerEpoch(0), Sequence::new(*sequence).unwrap());
        *sequence += records;
        if transactional {
            builder = builder.transactional();
        }
        for n in 0..records {
            let value = format!("value {producer} {n} {}", self.batches.len());
            builder = builder.record_at(1_000 + self.end(), Some(b"key"), Some(value.as_bytes()));
        }
        let bytes = builder.build().unwrap();
        self.place(&bytes, None);
    }

    /// Appends the marker that ends a producer's transaction.
    pub(super) fn end_txn(&mut self, producer: i64, commit: EndTxn) {
        let kind = if commit == EndTxn::Commit { ControlKind::Commit } else { ControlKind::Abort };
        let marker = EndTxnMarker {
            producer: ProducerId(producer),
            epoch: ProducerEpoch(0),
            kind,
            coordinator_epoch: CoordinatorEpoch(7),
            timestamp: 5_000,
        };
        let mut bytes = marker.to_batch().to_vec();
        let end = self.end();
        bytes[..8].copy_from_slice(&end.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        self.place(&bytes, Some(commit));
    }

    fn place(&mut self, bytes: &[u8], commit: Option<EndTxn>) {
        let segment = self.segments.len() - 1;
        let header = BatchHeader::parse(bytes).unwrap();
        let log = &mut self.segments[segment].1;
        self.batches.push(Placed { segment, position: log.len(), header, commit });
        log.extend_from_slice(bytes);
    }

    /// Begins a new segment.
    pub(super) fn roll(&mut self) {
        let end = self.end();
        self.segments.push((end, Vec::new()));
    }

    /// Ten producers' batches over three segments, with a committed, an aborted and an open transaction.
    pub(super) fn mixed() -> Self {
        let mut world = Self::new();
        for n in 0..8 {
            world.append(n % 3, 2);
        }
        world.append_in_txn(20, 1);
        world.append_in_txn(21, 2);
        world.roll();
        world.append(4, 3);
        world.end_txn(20, EndTxn::Abort);
        for n in 0..6 {
            world.append(n % 2, 1);
        }
        world.end_txn(21, EndTxn::Commit);
        world.append_in_txn(22, 1);
        world.roll();
        for n in 0..6 {
            world.append(5 + n % 2, 1);
        }
        world
    }

    /// The place behind the batch that ends at `offset`.
    pub(super) fn point(&self, offset: i64) -> LogPoint {
        match self.batches.iter().find(|batch| batch.header.next_offset() == Offset(offset)) {
            None => {
                assert!(self.segments.iter().any(|(base, _)| *base == offset), "no batch ends at {offset}");
                LogPoint::segment_start(Offset(offset))
            }
            Some(batch) => LogPoint {
                segment: Offset(self.segments[batch.segment].0),
                position: Position((batch.position + batch.header.size()) as u64),
                offset: Offset(offset),
                last_batch: Some((Position(batch.position as u64), batch.header.fingerprint())),
            },
        }
    }

    pub(super) fn end_point(&self) -> LogPoint {
        self.point(self.end())
    }

    /// Offsets at which a batch ends, the start included.
    pub(super) fn borders(&self) -> Vec<i64> {
        let ends = self.batches.iter().map(|batch| batch.header.next_offset().0);
        std::iter::once(self.segments[0].0).chain(ends).collect()
    }

    /// What the producers must be: the batches from offset 0 to `end`, one after another.
    pub(super) fn fold(&self, end: i64) -> Entries {
        self.fold_from(0, end)
    }

    pub(super) fn fold_from(&self, from: i64, end: i64) -> Entries {
        let mut entries = Entries::new();
        let seen = EngineTime(0);
        for batch in &self.batches {
            let header = &batch.header;
            if header.base_offset.0 < from || header.next_offset().0 > end {
                continue;
            }
            let (producer, epoch) = header.producer().unwrap();
            let before = entries.get(&producer);
            let after = match batch.commit {
                Some(commit) => {
                    let facts = MarkerFacts {
                        producer,
                        epoch,
                        coordinator_epoch: CoordinatorEpoch(7),
                        commit,
                        timestamp: 5_000,
                    };
                    apply_marker(before, &facts, header.base_offset, seen)
                }
                None => {
                    let span = OffsetSpan { first: header.base_offset, last: header.last_offset() };
                    apply_data(before, &BatchFacts::of(header).unwrap(), span, seen)
                }
            };
            entries.insert(producer, after);
        }
        entries
    }

    /// Writes a run that covers `from` to `to`, a base if `from` is negative.
    pub(super) fn run(&self, number: u64, from: i64, to: i64) -> RunRef {
        let place = RunPlace { storage: &self.storage, dir: Path::new(DIR), number };
        let full = self.fold(to);
        let state: Entries = if from < 0 {
            full
        } else {
            let changed = |id: &ProducerId| {
                self.batches.iter().any(|batch| {
                    batch.header.producer_id == id.0
                        && batch.header.base_offset.0 >= from
                        && batch.header.next_offset().0 <= to
                })
            };
            full.into_iter().filter(|(id, _)| changed(id)).collect()
        };
        let kind = if from < 0 { RunKind::Base } else { RunKind::Delta };
        let mut draft = RunDraft::new(kind, Offset(from.max(0)), self.point(to), EngineTime(0));
        let folded = self.fold(to);
        draft.open_txns =
            folded.iter().filter_map(|(id, entry)| Some((*id, entry.txn_first_offset?))).collect();
        let entries: Vec<(ProducerId, &Entry)> = state.iter().map(|(id, entry)| (*id, entry)).collect();
        let run = match kind {
            RunKind::Base => {
                let inputs = BaseInputs { chain: &Chain::empty(), frozen: &entries, expiry: None };
                write_base(place, inputs, draft).unwrap()
            }
            RunKind::Delta => write_delta(place, &entries, draft).unwrap(),
        };
        run.reference()
    }

    /// A manifest of an open log that is durable up to `watermark`.
    pub(super) fn manifest(&self, watermark: i64) -> Manifest {
        Manifest {
            sequence: 5,
            chain: Vec::new(),
            previous_chain: Vec::new(),
            next_run_number: 100,
            watermark: self.point(watermark),
            truncation_generation: 2,
            log_start_offset: Offset(self.segments[0].0),
            intent: None,
            failed_sync: None,
            engine_time: EngineTime(0),
            boot_id: self.storage.boot_id(),
            history: History::Complete,
            gaps: Gaps::None,
            compaction: CompactionState::default(),
            clean_close: None,
            txn_indexes: Vec::new(),
        }
    }

    pub(super) fn put_manifest(&self, manifest: &Manifest) {
        write_manifest(&*self.storage, Path::new(DIR), manifest).unwrap();
    }

    pub(super) fn put_slot(&self, watermark: i64, generation: u64) {
        let mut file = WatermarkFile::open_or_create(&*self.storage, Path::new(DIR)).unwrap();
        file.write(&self.point(watermark), generation).unwrap();
        file.sync().unwrap();
    }

    /// Writes all segments, durably.
    pub(super) fn put_segments(&self) {
        for (base, bytes) in &self.segments {
            self.put(&log_name(Offset(*base)), bytes);
        }
    }

    /// Writes a file, durably.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        put_at(&self.memory, &self.path(name), bytes);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    pub(super) fn remove(&self, name: &str) {
        self.memory.unlink(&self.path(name)).unwrap();
        self.memory.sync_dir(Path::new(DIR)).unwrap();
    }

    pub(super) fn log(&self, segment: usize) -> String {
        log_name(Offset(self.segments[segment].0))
    }

    pub(super) fn bytes_of(&self, segment: usize) -> Vec<u8> {
        self.segments[segment].1.clone()
    }

    pub(super) fn plan(&self) -> Result<Plan, Error> {
        plan(&self.storage, Path::new(DIR), &RecoveryOptions::default())
    }

    pub(super) fn open(&self) -> Result<Recovered, Error> {
        open(&self.storage, Salvage::Refuse)
    }

    pub(super) fn salvage(&self) -> Result<Recovered, Error> {
        open(&self.storage, Salvage::Cut)
    }

    /// Every name and byte under the root, as a reader sees it now.
    pub(super) fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        everything(&self.memory.kill())
    }
}

pub(super) fn put_at(memory: &MemoryStorage, path: &Path, bytes: &[u8]) {
    let file = memory.open(path, OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    memory.sync_dir(path.parent().unwrap()).unwrap();
}

pub(super) fn everything(image: &Image) -> BTreeMap<PathBuf, Vec<u8>> {
    image.files().into_iter().map(|path| (path.clone(), image.read(&path).unwrap())).collect()
}

pub(super) fn open(storage: &Arc<dyn Storage>, salvage: Salvage) -> Result<Recovered, Error> {
    let options = RecoveryOptions { salvage, ..RecoveryOptions::default() };
    let made = plan(storage, Path::new(DIR), &options)?;
    execute(storage, Path::new(DIR), made, &options)
}

/// Every producer of a recovered log: its runs with the newer entries over them.
pub(super) fn state(recovered: &Recovered) -> Entries {
    let mut entries = Entries::new();
    for entry in recovered.chain.entries().unwrap() {
        let (id, entry) = entry.unwrap();
        entries.insert(id, entry);
    }
    add(&mut entries, &recovered.producers);
    entries
}

fn add(entries: &mut Entries, map: &ProducerMap) {
    entries.extend(map.iter().map(|(id, entry)| (id, *entry)));
}

/// A log with a base to the first roll and a delta behind it, durable up to the second roll.
pub(super) fn checkpointed() -> World {
    let world = World::mixed();
    world.put_segments();
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.chain = vec![world.run(1, -1, 16), world.run(2, 16, 22)];
    manifest.previous_chain = vec![world.run(0, -1, 8)];
    world.put_manifest(&manifest);
    world
}

pub(super) fn corrupt(error: Error) -> Corruption {
    match error {
        Error::Corrupt(corruption) => *corruption,
        other => panic!("expected corruption, got {other}"),
    }
}
