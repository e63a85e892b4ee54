use proptest::prelude::*;

use super::*;
use crate::types::{Fingerprint, Gaps, Position};

fn point(offset: i64) -> LogPoint {
    let fingerprint = Fingerprint {
        last_offset: Offset(offset - 1),
        leader_epoch: LeaderEpoch(4),
        record_count: 1,
        crc: 0x0102_0304,
    };
    LogPoint {
        segment: Offset(0),
        position: Position(500),
        offset: Offset(offset),
        last_batch: Some((Position(400), fingerprint)),
    }
}

fn full() -> Manifest {
    Manifest {
        sequence: 12,
        chain: vec![
            RunRef { number: 3, header_crc: 0xaaaa_0003 },
            RunRef { number: 7, header_crc: 0xaaaa_0007 },
        ],
        previous_chain: vec![RunRef { number: 1, header_crc: 0xaaaa_0001 }],
        next_run_number: 8,
        watermark: point(90),
        truncation_generation: 2,
        log_start_offset: Offset(10),
        intent: Some(TruncationIntent {
            cut: Offset(70),
            extent: Extent::Above,
            leader_epoch: LeaderEpoch(6),
        }),
        failed_sync: Some(FailedSync { durable: point(80), boot_id: [9; 16] }),
        engine_time: EngineTime(123_456),
        boot_id: [5; 16],
        history: History::Salvaged,
        gaps: Gaps::None,
        compaction: CompactionState {
            reached: Offset(60),
            clean_to: Offset(50),
            replacement: Some(point(40)),
        },
        clean_close: Some(point(95)),
        txn_indexes: vec![
            TxnIndexNote { base: Offset(10), entries: 2, crc: 0xbbbb_0001 },
            TxnIndexNote { base: Offset(40), entries: 1, crc: 0xbbbb_0002 },
        ],
    }
}

fn least() -> Manifest {
    Manifest::first(LogPoint::segment_start(Offset(0)), Offset(0))
}

/// A manifest whose CRC is right though its bytes are not.
fn with_right_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 4);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn the_fullest_and_the_emptiest_manifest_survive_the_round_trip() {
    for manifest in [full(), least()] {
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }
}

#[test]
fn a_manifest_of_a_log_without_runs_takes_143_bytes() {
    assert_eq!(least().encode().len(), 143);
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = full().encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn every_shorter_file_and_every_trailing_byte_is_refused() {
    let mut bytes = full().encode();
    for len in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    bytes.push(0);
    assert_eq!(Manifest::decode(&bytes).unwrap_err().field, "manifest length");
}

#[test]
fn a_count_of_runs_that_the_file_cannot_hold_is_refused_before_memory_is_taken() {
    let mut bytes = least().encode();
    let at = bytes.len() - 16;
    bytes[at..at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    let error = Manifest::decode(&with_right_crc(bytes)).unwrap_err();
    assert_eq!((error.field, error.at), ("number of runs", at as u64));
}

#[test]
fn bytes_between_the_last_field_and_the_crc_are_refused() {
    let mut bytes = least().encode();
    bytes.push(0);
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(Manifest::decode(&with_right_crc(bytes)).unwrap_err().field, "end of the manifest");
}

#[test]
fn an_unknown_flag_history_or_version_is_refused_even_with_a_right_crc() {
    let good = least().encode();
    for (at, value, field) in [(73, 8, "manifest flags"), (72, 2, "history"), (11, 2, "manifest version")] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Manifest::decode(&with_right_crc(bad)).unwrap_err().field, field);
    }
}

#[test]
fn a_run_whose_number_could_be_given_again_is_refused() {
    let manifest = Manifest { next_run_number: 7, ..full() };
    assert_eq!(Manifest::decode(&manifest.encode()).unwrap_err().field, "run number");
}

proptest! {
    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut manifest = full().encode();
        for (to, from) in manifest.iter_mut().skip(16).zip(&bytes) {
            *to ^= *from;
        }
        let manifest = with_right_crc(manifest);
        if let Ok(decoded) = Manifest::decode(&manifest) {
            prop_assert_eq!(decoded.encode(), manifest);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&bytes);
    }
}
