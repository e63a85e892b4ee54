//! Runs of producer entries.
//!
//! Invariant under test: what was written is read back, entry by entry and id by id; a file that differs from what was
//! written in any byte is never read to its end without an error; and whoever forges all checksums can make a run say
//! something else, but not make a look-up and a walk say different things.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use oncelog::checkpoint::{Run, RunDraft, RunWriter};
use oncelog::format::manifest::RunRef;
use oncelog::format::names::run_name;
use oncelog::format::run::{BLOCK_SIZE, CompletedTxn, INDEX_ENTRY_SIZE, RunKind};
use oncelog::producer::{CachedBatch, Entry};
use oncelog::storage::Storage;
use oncelog::types::{CoordinatorEpoch, Fingerprint};
use oncelog::{EngineTime, LeaderEpoch, LogPoint, Offset, Position, ProducerEpoch, ProducerId, Sequence};

use super::disk::{disk, put};
use super::input::{Input, mutate};
use super::naive;

const DIR: &str = "/t-0";
const NUMBER: u64 = 3;
const ENTRY_COUNT_AT: usize = 94;
const BLOCK_COUNT_AT: usize = 102;
const LEAST_ID_AT: usize = 106;
const GREATEST_ID_AT: usize = 114;
const INDEX_CRC_AT: usize = 122;

type Model = BTreeMap<i64, Entry>;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.below(5);
    // In front, so that a few entries leave enough of the input to forge with.
    let forgery = if mode == 4 { input.bytes(7) } else { &[] };
    let (model, mut bytes, named) = match mode {
        0 => (Model::new(), input.rest().to_vec(), None),
        1 => {
            let mut bytes = input.rest().to_vec();
            repair(&mut bytes);
            (Model::new(), bytes, None)
        }
        _ => {
            let (model, bytes, named) = written(&mut input);
            (model, bytes, Some(named))
        }
    };
    let original = bytes.clone();
    if mode < 4 {
        mutate(&mut input, &mut bytes, 4);
    }
    forge(&mut Input::new(forgery), &mut bytes);
    if mode >= 3 {
        repair(&mut bytes);
    }
    let (_, storage) = disk(Path::new(DIR));
    put(&*storage, &Path::new(DIR).join(run_name(NUMBER)), &bytes);
    if let Some(named) = named {
        judge_named(&storage, named, &model, bytes == original);
    }
    let unnamed = Run::open_unnamed(&*storage, Path::new(DIR), NUMBER);
    assert!(named.is_none() || bytes != original || unnamed.is_ok(), "{unnamed:?}");
    if let Ok(run) = unnamed {
        judge_by_itself(&storage, &run);
    }
}

/// A run as a checkpoint writes it, with what it holds and how a manifest names it.
fn written(input: &mut Input<'_>) -> (Model, Vec<u8>, RunRef) {
    let mut model = Model::new();
    // Ids that lie close together and ids that lie far apart, so that blocks are of all sizes.
    let mut id = i64::from(input.number::<i16>());
    for _ in 0..input.below(96) {
        model.insert(id, entry(input));
        let step = i64::from(input.number::<u8>());
        id += 1 + (step & 0x3f) * [1, 1, 1 << 16, 1 << 40][usize::from(input.number::<u8>() & 3)];
    }
    let (disk, storage) = disk(Path::new(DIR));
    let writer = RunWriter::create(&storage, Path::new(DIR), NUMBER, draft(input));
    let Ok(mut writer) = writer else { unreachable!("{writer:?}") };
    for (id, entry) in &model {
        let pushed = writer.push(ProducerId(*id), entry);
        assert!(pushed.is_ok(), "{pushed:?}");
    }
    let run = writer.finish();
    let Ok(run) = run else { unreachable!("{run:?}") };
    let bytes = disk.kill().read(run.path()).unwrap_or_default();
    (model, bytes, run.reference())
}

fn draft(input: &mut Input<'_>) -> RunDraft {
    let end = Offset(1000 + i64::from(input.number::<u8>()));
    let fingerprint =
        Fingerprint { last_offset: Offset(end.0 - 1), leader_epoch: LeaderEpoch(1), record_count: 1, crc: 5 };
    let last_batch = Some((Position(70), fingerprint));
    let to = LogPoint { segment: Offset(900), position: Position(200), offset: end, last_batch };
    let kind = if input.below(2) == 0 { RunKind::Base } else { RunKind::Delta };
    let lists = i64::try_from(input.below(3)).unwrap_or(0) * 90;
    RunDraft {
        leader_epochs: (0..2).map(|n| (LeaderEpoch(n), Offset(i64::from(n) * 9))).collect(),
        open_txns: (0..lists).map(|n| (ProducerId(n), Offset(n))).collect(),
        completed_txns: (0..lists / 2)
            .map(|n| CompletedTxn {
                producer: ProducerId(n),
                first_offset: Offset(n),
                marker_offset: Offset(n),
            })
            .collect(),
        ..RunDraft::new(kind, Offset(i64::from(input.number::<u8>())), to, EngineTime(77))
    }
}

/// Any entry that keeps the rules of a window.
fn entry(input: &mut Input<'_>) -> Entry {
    let shape: u8 = input.number();
    let mut next = (i32::from(input.number::<u16>()), i64::from(input.number::<u16>()));
    if shape & 0x80 != 0 {
        next = (i32::MAX - next.0, i64::MAX / 2);
    }
    let mut batches = Vec::new();
    for nth in 0..shape % 6 {
        let length = 1 + u32::from(input.number::<u8>());
        let first_sequence = Sequence::new(next.0).unwrap_or_default();
        let last_sequence = first_sequence.wrapping_add(length - 1);
        let batch = CachedBatch {
            first_sequence,
            last_sequence,
            first_offset: Offset(next.1),
            last_offset: Offset(next.1 + i64::from(length) - 1),
            max_timestamp: i64::from(input.number::<i32>()),
            aborted: shape & 0x40 != 0 && nth % 2 == 1,
        };
        next = (last_sequence.next().value(), batch.last_offset.0 + 1 + i64::from(input.number::<u8>()));
        batches.push(batch);
    }
    let mut entry = Entry::new(ProducerEpoch(i16::from(shape)), EngineTime(input.number()));
    entry.proven = u32::from(input.number::<u8>()) << (shape % 24);
    if shape & 0x20 != 0 {
        entry.coordinator_epoch = CoordinatorEpoch(input.number());
        entry.txn_first_offset = Some(Offset(input.number()));
    }
    let windowed = entry.with_window(&batches);
    let Ok(entry) = windowed else {
        unreachable!("a window of batches that follow each other: {windowed:?}")
    };
    entry
}

/// Makes the header, or the index behind the blocks, say something a little different.
fn forge(input: &mut Input<'_>, bytes: &mut [u8]) {
    for _ in 0..input.below(3) {
        let entries = naive::array(bytes, BLOCK_COUNT_AT).map_or(0, u32::from_be_bytes) as usize;
        let index_at = bytes.len().saturating_sub(entries.saturating_mul(INDEX_ENTRY_SIZE));
        let at = match input.below(4) {
            0 => ENTRY_COUNT_AT,
            1 => LEAST_ID_AT,
            2 => GREATEST_ID_AT,
            _ => index_at + input.below(entries) * INDEX_ENTRY_SIZE,
        };
        let change = i64::from(input.number::<i8>());
        let Some(number) = naive::array(bytes, at).map(i64::from_be_bytes) else { return };
        bytes[at..at + 8].copy_from_slice(&number.wrapping_add(change).to_be_bytes());
    }
}

/// Makes all checksums right again, as far as the bytes have the shape of a run.
fn repair(bytes: &mut [u8]) {
    let Some(length) = naive::array(bytes, 12).map(u32::from_be_bytes) else { return };
    let Ok(header_len) = usize::try_from(length) else { return };
    if header_len < 4096 || header_len > bytes.len() {
        return;
    }
    let (header, rest) = bytes.split_at_mut(header_len);
    let blocks = rest.len() / (BLOCK_SIZE + INDEX_ENTRY_SIZE);
    let (blocks, index) = rest.split_at_mut(blocks * BLOCK_SIZE);
    for (block, entry) in blocks.chunks_mut(BLOCK_SIZE).zip(index.chunks_mut(INDEX_ENTRY_SIZE)) {
        let crc = naive::crc32(&block[4..]).to_be_bytes();
        block[..4].copy_from_slice(&crc);
        entry[8..].copy_from_slice(&crc);
    }
    header[INDEX_CRC_AT..INDEX_CRC_AT + 4].copy_from_slice(&naive::crc32(index).to_be_bytes());
    let (covered, stored) = header.split_at_mut(header_len - 4);
    stored.copy_from_slice(&naive::crc32(covered).to_be_bytes());
}

/// A run that a manifest names is what was written, or an error.
fn judge_named(storage: &Arc<dyn Storage>, named: RunRef, model: &Model, whole: bool) {
    let run = match Run::open(&**storage, Path::new(DIR), named) {
        Ok(run) => run,
        Err(error) => {
            assert!(!whole, "what was written is refused: {error}");
            return;
        }
    };
    for (id, entry) in model {
        match run.get(ProducerId(*id)) {
            Ok(found) => assert_eq!(found.as_ref(), Some(entry), "producer {id}"),
            Err(error) => assert!(!whole, "{error}"),
        }
        for beside in [id - 1, id + 1].into_iter().filter(|beside| !model.contains_key(beside)) {
            match run.get(ProducerId(beside)) {
                Ok(found) => assert_eq!(found, None, "producer {beside}"),
                Err(error) => assert!(!whole, "{error}"),
            }
        }
    }
    let mut expected = model.iter();
    let mut failed = false;
    for item in run.entries() {
        assert!(!failed, "an item behind an error");
        match item {
            Ok((id, entry)) => assert_eq!(Some((&id.0, &entry)), expected.next()),
            Err(_) => failed = true,
        }
    }
    assert_eq!(failed, !whole, "an error exactly if a byte differs");
    assert!(failed || expected.next().is_none(), "entries are missing");
}

/// Whatever a run says, it says the same by id and in order, and again once it is copied.
fn judge_by_itself(storage: &Arc<dyn Storage>, run: &Arc<Run>) {
    let entries: Result<Vec<_>, _> = run.entries().collect();
    let Ok(entries) = entries else { return };
    assert!(entries.is_sorted_by(|(one, _), (other, _)| one < other), "ids do not rise");
    for (id, entry) in &entries {
        let found = run.get(*id);
        assert!(matches!(&found, Ok(Some(found)) if found == entry), "{id:?}: {found:?}, walked {entry:?}");
        for beside in [id.0.checked_sub(1), id.0.checked_add(1)].into_iter().flatten().map(ProducerId) {
            if entries.binary_search_by_key(&beside, |(id, _)| *id).is_err() {
                let found = run.get(beside);
                assert!(matches!(found, Ok(None)), "{beside:?}: {found:?}");
            }
        }
    }
    let draft = RunDraft::ending_like(run, run.header().kind, run.header().from);
    let writer = RunWriter::create(storage, Path::new(DIR), NUMBER + 1, draft);
    let Ok(mut writer) = writer else { unreachable!("{writer:?}") };
    for (id, entry) in &entries {
        let pushed = writer.push(*id, entry);
        assert!(pushed.is_ok(), "{pushed:?}");
    }
    let copied = writer.finish().and_then(|copy| copy.entries().collect::<Result<Vec<_>, _>>());
    assert!(copied.as_ref().is_ok_and(|copied| *copied == entries), "{copied:?}");
}
