//! Directories put together file by file: as Kafka leaves them, or as nobody would.
//!
//! Invariant: every file is of a kind that recovery looks at; its bytes are anything.

use std::path::{Path, PathBuf};

use oncelog::format::control::{ControlKind, EndTxnMarker};
use oncelog::format::names::{self, index_name, log_name, run_name, snapshot_name, time_index_name};
use oncelog::types::CoordinatorEpoch;
use oncelog::{BatchBuilder, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use super::super::disk::{disk, put};
use super::super::input::{Input, mutate};
use super::super::naive;
use super::{DIR, ROOT, Scene, config, in_dir};

/// Puts the files of the script on a disk.
pub(super) fn read(input: &mut Input<'_>) -> Scene {
    let (disk, _) = disk(Path::new(DIR));
    put(&disk, &in_dir(names::LOG_LOCK), b"");
    put(&disk, &PathBuf::from(ROOT).join(names::ROOT_LOCK), b"");
    // Where the next segment of sound batches begins.
    let mut next = Offset(i64::from(input.number::<u8>()));
    while !input.is_empty() {
        let (path, bytes) = file(input, &mut next);
        put(&disk, &path, &bytes);
    }
    Scene { disk, config: config(), damaged: true, foreign: true, written: Vec::new(), durable: Vec::new() }
}

fn file(input: &mut Input<'_>, next: &mut Offset) -> (PathBuf, Vec<u8>) {
    let root = Path::new(ROOT);
    let kind = input.below(16);
    let number = if kind < 2 { 0 } else { input.number::<u16>() };
    let offset = Offset(i64::from(number));
    match kind {
        0 | 1 => {
            let base = *next;
            let mut bytes = segment(input, next);
            if kind == 1 {
                mutate(input, &mut bytes, 2);
            }
            (in_dir(&log_name(base)), bytes)
        }
        2 => (in_dir(&log_name(offset)), raw(input)),
        3 => {
            let mut bytes = raw(input);
            repair_segment(&mut bytes);
            (in_dir(&log_name(offset)), bytes)
        }
        4 => (in_dir(&snapshot_name(offset)), raw(input)),
        5 => {
            let mut bytes = raw(input);
            if bytes.len() >= 6 {
                let crc = naive::crc32c(&bytes[6..]);
                bytes[2..6].copy_from_slice(&crc.to_be_bytes());
            }
            (in_dir(&snapshot_name(offset)), bytes)
        }
        6 => (in_dir(names::MANIFEST), raw(input)),
        7 => (in_dir(names::WATERMARK), raw(input)),
        8 => (in_dir(&index_name(offset)), raw(input)),
        9 => (in_dir(&time_index_name(offset)), raw(input)),
        10 => (in_dir(&run_name(u64::from(number))), raw(input)),
        11 => (in_dir(&format!("{}.swap", log_name(offset))), Vec::new()),
        12 => (root.join(names::CLEAN_SHUTDOWN), b"{\"version\":0}".to_vec()),
        13 => (root.join(names::RECOVERY_POINTS), checkpoint(offset)),
        14 => (root.join(names::LOG_START_OFFSETS), checkpoint(offset)),
        _ => (root.join(names::RECOVERY_POINTS), raw(input)),
    }
}

fn raw(input: &mut Input<'_>) -> Vec<u8> {
    let len = usize::from(input.number::<u16>());
    input.bytes(len).to_vec()
}

/// One line about the partition, as Kafka writes it.
fn checkpoint(offset: Offset) -> Vec<u8> {
    format!("0\n1\nt 0 {offset}\n").into_bytes()
}

/// Batches that follow each other: of producers with and without transactions, of none, and markers.
fn segment(input: &mut Input<'_>, next: &mut Offset) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..input.below(12) {
        let shape: u8 = input.number();
        let id = ProducerId(i64::from(shape & 3));
        let (sequence, epoch) = (input.number::<u8>(), ProducerEpoch(i16::from(shape >> 6)));
        let records = 1 + i64::from((shape >> 2) & 1);
        let batch = match (shape >> 3) & 7 {
            0 | 1 => marker(id, epoch, shape & 8 != 0, *next, i32::from(sequence & 3)),
            kind => {
                let mut builder = BatchBuilder::new()
                    .base_offset(*next)
                    .leader_epoch(LeaderEpoch(i32::from(sequence >> 6)));
                builder = match kind {
                    2 => builder,
                    3 => builder.producer_without_sequence(id, epoch),
                    _ => builder.producer(
                        id,
                        epoch,
                        Sequence::new(i32::from(sequence & 15)).unwrap_or_default(),
                    ),
                };
                if kind >= 6 {
                    builder = builder.transactional();
                }
                for n in 0..records {
                    builder = builder.record_at(n, None, Some(b"value"));
                }
                let built = builder.build();
                let Ok(built) = built else { unreachable!("{built:?}") };
                built.to_vec()
            }
        };
        *next = naive::header(&batch).map_or(*next, |header| header.next_offset());
        // Compaction leaves gaps.
        *next = next.saturating_add(i64::from(sequence >= 0xf0));
        bytes.extend_from_slice(&batch);
    }
    bytes
}

fn marker(id: ProducerId, epoch: ProducerEpoch, commit: bool, at: Offset, coordinator: i32) -> Vec<u8> {
    let kind = if commit { ControlKind::Commit } else { ControlKind::Abort };
    let coordinator_epoch = CoordinatorEpoch(coordinator);
    let marker = EndTxnMarker { producer: id, epoch, kind, coordinator_epoch, timestamp: 9 };
    let mut bytes = marker.to_batch().to_vec();
    bytes[..8].copy_from_slice(&at.0.to_be_bytes());
    bytes
}

/// Gives every batch the CRC that it asks for.
fn repair_segment(mut bytes: &mut [u8]) {
    while let Some(header) = naive::header(bytes) {
        let Some((batch, rest)) = bytes.split_at_mut_checked(header.size()) else { return };
        naive::repair_batch(batch);
        bytes = rest;
    }
}
