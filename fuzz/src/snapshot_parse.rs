//! Kafka's `.snapshot`.
//!
//! Invariant under test: a snapshot is accepted exactly if a plain reading of the format accepts it; written again, it
//! is the same bytes but for fields that mean nothing; and the test against the offset in its name is that of a loop.

use std::collections::BTreeSet;

use oncelog::format::snapshot::{
    ENTRY_SIZE, HEADER_SIZE, SnapshotBatch, SnapshotEntry, encode, parse, validate_at,
};
use oncelog::types::CoordinatorEpoch;
use oncelog::{Offset, ProducerEpoch, ProducerId, Sequence};

use super::input::{Input, mutate};
use super::naive::{self, array};

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.below(4);
    let mut bytes = match mode {
        0 | 1 => input.rest().to_vec(),
        _ => built(&mut input),
    };
    if mode >= 2 {
        mutate(&mut input, &mut bytes, 6);
    }
    if mode % 2 == 1 {
        repair(&mut bytes);
    }
    judge(&bytes);
}

fn built(input: &mut Input<'_>) -> Vec<u8> {
    let count = input.below(24);
    let mut entries: Vec<SnapshotEntry> = Vec::new();
    for _ in 0..count {
        let producer = ProducerId(i64::from(input.number::<u16>()));
        if entries.iter().any(|entry| entry.producer == producer) {
            continue;
        }
        let flags: u8 = input.number();
        let last_offset = i64::from(input.number::<u32>());
        let delta = i32::from(input.number::<u16>());
        entries.push(SnapshotEntry {
            producer,
            epoch: ProducerEpoch(input.number::<i16>() & i16::MAX),
            last_batch: (flags & 1 == 1).then(|| SnapshotBatch {
                last_sequence: Sequence::new(input.number()),
                last_offset: Offset(last_offset + i64::from(delta)),
                offset_delta: delta,
            }),
            timestamp: input.number(),
            coordinator_epoch: CoordinatorEpoch(input.number::<i32>().max(-1)),
            txn_first_offset: (flags & 2 == 2).then(|| Offset(i64::from(input.number::<u32>()))),
        });
    }
    let bytes = encode(&entries);
    let Ok(bytes) = bytes else { unreachable!("few entries are not encoded: {bytes:?}") };
    assert_eq!(parse(&bytes).as_deref(), Ok(entries.as_slice()));
    bytes
}

fn repair(bytes: &mut [u8]) {
    if bytes.len() >= 6 {
        let crc = naive::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    }
}

fn judge(bytes: &[u8]) {
    let expected = reference(bytes);
    let parsed = parse(bytes);
    assert_eq!(parsed.as_ref().ok(), expected.as_ref(), "{parsed:?}");
    let Ok(entries) = parsed else { return };
    let again = encode(&entries);
    assert_eq!(again, Ok(without_meaningless(bytes)));

    let ends = entries.iter().flat_map(|entry| {
        [entry.last_batch.map(|batch| batch.last_offset), entry.txn_first_offset].into_iter().flatten()
    });
    let greatest = ends.max();
    for end in [Some(Offset(0)), greatest, greatest.and_then(|end| end.checked_add(1))].into_iter().flatten()
    {
        let fits = greatest.is_none_or(|greatest| greatest < end);
        assert_eq!(validate_at(&entries, end).is_ok(), fits, "against {end}");
    }
}

/// The format, field by field at its place.
fn reference(bytes: &[u8]) -> Option<Vec<SnapshotEntry>> {
    let version = i16::from_be_bytes(array(bytes, 0)?);
    let crc = u32::from_be_bytes(array(bytes, 2)?);
    let count = i32::from_be_bytes(array(bytes, 6)?);
    let entries = bytes.get(10..)?;
    if version != 1 || crc != naive::crc32c(&bytes[6..]) || entries.len() % ENTRY_SIZE != 0 {
        return None;
    }
    if usize::try_from(count).ok()? != entries.len() / ENTRY_SIZE {
        return None;
    }
    let entries: Option<Vec<_>> = entries.chunks(ENTRY_SIZE).map(reference_entry).collect();
    let entries = entries?;
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry.producer).collect();
    (ids.len() == entries.len()).then_some(entries)
}

fn reference_entry(bytes: &[u8]) -> Option<SnapshotEntry> {
    let producer = i64::from_be_bytes(array(bytes, 0)?);
    let epoch = i16::from_be_bytes(array(bytes, 8)?);
    let last_sequence = i32::from_be_bytes(array(bytes, 10)?);
    let last_offset = i64::from_be_bytes(array(bytes, 14)?);
    let offset_delta = i32::from_be_bytes(array(bytes, 22)?);
    let coordinator = i32::from_be_bytes(array(bytes, 34)?);
    let txn = i64::from_be_bytes(array(bytes, 38)?);
    let negative = producer < 0 || epoch < 0 || offset_delta < 0;
    let too_small = last_sequence < -1 || last_offset < -1 || coordinator < -1 || txn < -1;
    if negative || too_small || (last_offset >= 0 && i64::from(offset_delta) > last_offset) {
        return None;
    }
    Some(SnapshotEntry {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(epoch),
        last_batch: (last_offset >= 0).then(|| SnapshotBatch {
            last_sequence: Sequence::new(last_sequence),
            last_offset: Offset(last_offset),
            offset_delta,
        }),
        timestamp: i64::from_be_bytes(array(bytes, 26)?),
        coordinator_epoch: CoordinatorEpoch(coordinator),
        txn_first_offset: (txn >= 0).then_some(Offset(txn)),
    })
}

/// The same snapshot with sequence and delta of entries without a batch as a writer leaves them.
fn without_meaningless(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for entry in bytes[HEADER_SIZE..].chunks_mut(ENTRY_SIZE) {
        if array(entry, 14) == Some((-1i64).to_be_bytes()) {
            entry[10..14].copy_from_slice(&(-1i32).to_be_bytes());
            entry[22..26].copy_from_slice(&0i32.to_be_bytes());
        }
    }
    repair(&mut bytes);
    bytes
}
