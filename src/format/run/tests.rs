use proptest::prelude::*;

use super::*;
use crate::types::{
    CoordinatorEpoch, EngineTime, Fingerprint, LeaderEpoch, LogPoint, Offset, Position, ProducerEpoch,
    ProducerId, Sequence,
};

fn sequence(value: i32) -> Sequence {
    Sequence::new(value).unwrap()
}

fn batch(first: i32, count: u32, offset: i64) -> RunBatch {
    RunBatch {
        first_sequence: sequence(first),
        last_sequence: sequence(first).wrapping_add(count - 1),
        first_offset: Offset(offset),
        last_offset: Offset(offset + i64::from(count) - 1),
        max_timestamp: 1_700_000_000_000 + offset,
        aborted: false,
    }
}

/// A producer as they are: large numbers, batches of 100 records that lie some thousand offsets apart.
fn typical(batches: i32) -> RunEntry {
    let mut entry = RunEntry::new(ProducerEpoch(12), CoordinatorEpoch(40));
    entry.proven = 1_000_000;
    entry.last_seen = EngineTime(31_536_000_000);
    entry.open_txn = Some(Offset(1_000_000_000_000));
    for nth in 0..batches {
        assert!(entry.push(batch(2_000_000_000 + nth * 100, 100, 1_000_000_000_000 + i64::from(nth) * 5000)));
    }
    entry
}

fn header() -> RunHeader {
    let fingerprint = Fingerprint {
        last_offset: Offset(99),
        leader_epoch: LeaderEpoch(2),
        record_count: 5,
        crc: 0x1234_5678,
    };
    RunHeader {
        number: 17,
        kind: RunKind::Delta,
        from: Offset(40),
        to: LogPoint {
            segment: Offset(0),
            position: Position(9000),
            offset: Offset(100),
            last_batch: Some((Position(8000), fingerprint)),
        },
        engine_time: EngineTime(5),
        entry_count: 3,
        block_count: 2,
        producers: Some((ProducerId(1), ProducerId(9))),
        index_crc: 0xabcd_ef01,
        leader_epochs: vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(2), Offset(50))],
        open_txns: vec![(ProducerId(1), Offset(70))],
        completed_txns: vec![CompletedTxn {
            producer: ProducerId(9),
            first_offset: Offset(60),
            marker_offset: Offset(80),
        }],
    }
}

fn block_of(entries: &[(i64, RunEntry)]) -> (Vec<u8>, BlockRef) {
    let mut builder = BlockBuilder::default();
    for (id, entry) in entries {
        assert!(builder.push(ProducerId(*id), entry));
    }
    let mut bytes = Vec::new();
    let block = builder.finish(&mut bytes);
    assert_eq!(bytes.len(), BLOCK_SIZE);
    (bytes, block)
}

#[test]
fn an_entry_of_one_batch_takes_at_most_80_bytes_and_one_of_five_at_most_240() {
    for (batches, limit) in [(1, 80), (5, 240)] {
        let mut bytes = Vec::new();
        typical(batches).encode(&mut bytes);
        assert!(bytes.len() <= limit, "{} bytes for {batches} batches", bytes.len());
    }
}

#[test]
fn an_entry_takes_no_sixth_batch() {
    let mut entry = typical(5);
    let before = entry;
    assert!(!entry.push(batch(0, 1, 0)));
    assert_eq!(entry, before);
}

#[test]
fn an_entry_with_six_batches_or_an_unknown_flag_is_refused() {
    for flags in [6, 7, 0x40, 0x80] {
        let error = RunEntry::decode(&mut crate::format::cursor::Cursor::new(&[flags; 60])).unwrap_err();
        assert_eq!((error.field, error.at), ("entry flags", 0), "{flags:#x}");
    }
}

#[test]
fn a_block_gives_back_its_entries_finds_each_and_nothing_between() {
    let entries: Vec<_> = [-3, 0, 7, 1 << 40].into_iter().zip([0, 1, 5, 3].map(typical)).collect();
    let (bytes, reference) = block_of(&entries);
    let block = Block::check(&bytes, reference).unwrap();
    let found: Vec<_> =
        block.entries().map(|entry| entry.map(|(id, entry)| (id.0, entry)).unwrap()).collect();
    assert_eq!(found, entries);
    for (id, entry) in &entries {
        assert_eq!(block.find(ProducerId(*id)), Ok(Some(*entry)));
    }
    for missing in [i64::MIN, -4, -2, 1, 8, (1 << 40) + 1, i64::MAX] {
        assert_eq!(block.find(ProducerId(missing)), Ok(None));
    }
}

#[test]
fn a_full_block_takes_no_more_and_the_next_one_begins_empty() {
    let mut builder = BlockBuilder::default();
    let mut id = 0;
    while builder.push(ProducerId(id), &typical(5)) {
        id += 1;
    }
    assert!(id > 4096 / 240, "{id} entries");
    let mut bytes = Vec::new();
    let first = builder.finish(&mut bytes);
    assert!(builder.is_empty());
    assert!(builder.push(ProducerId(id), &typical(5)));
    let second = builder.finish(&mut bytes);
    assert_eq!(second.first_id, ProducerId(id));
    let (one, two) = bytes.split_at(BLOCK_SIZE);
    let last = Block::check(one, first).unwrap().entries().last().unwrap();
    assert_eq!(last.unwrap().0, ProducerId(id - 1));
    assert_eq!(Block::check(two, second).unwrap().entries().count(), 1);
}

#[test]
fn every_flipped_bit_of_a_block_is_refused() {
    let (good, reference) = block_of(&[(5, typical(5)), (6, typical(1))]);
    for bit in 0..BLOCK_SIZE * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Block::check(&bad, reference).unwrap_err().field, "block CRC", "bit {bit}");
    }
}

#[test]
fn a_whole_block_of_another_place_is_refused() {
    let (_, reference) = block_of(&[(5, typical(5))]);
    let (other, _) = block_of(&[(5, typical(4))]);
    assert_eq!(Block::check(&other, reference).unwrap_err().field, "block CRC");
}

#[test]
fn a_block_that_begins_with_another_id_than_the_index_says_is_refused() {
    let (bytes, reference) = block_of(&[(5, typical(5))]);
    let other = BlockRef { first_id: ProducerId(4), ..reference };
    assert_eq!(Block::check(&bytes, other).unwrap_err().field, "first id of the block");
}

#[test]
fn a_block_whose_ids_do_not_ascend_ends_with_an_error() {
    let (bytes, reference) = block_of(&[(5, typical(1)), (5, typical(2))]);
    let block = Block::check(&bytes, reference).unwrap();
    let read: Vec<_> = block.entries().collect();
    assert_eq!(read.len(), 2);
    assert_eq!(read[1].as_ref().unwrap_err().field, "producer id");
}

#[test]
fn the_index_survives_the_round_trip_and_locates_the_only_block_that_can_hold_an_id() {
    let mut index = RunIndex::default();
    for (first, crc) in [(10, 1), (20, 2), (30, 3)] {
        index.push(BlockRef { first_id: ProducerId(first), crc });
    }
    let bytes = index.encode();
    assert_eq!(bytes.len(), 3 * INDEX_ENTRY_SIZE);
    assert_eq!(RunIndex::decode(&bytes, crc32fast::hash(&bytes)), Ok(index.clone()));
    let located = [9, 10, 19, 20, 29, 30, i64::MAX].map(|id| index.locate(ProducerId(id)));
    assert_eq!(located, [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)]);
}

#[test]
fn an_index_that_is_damaged_cut_or_out_of_order_is_refused() {
    let mut index = RunIndex::default();
    index.push(BlockRef { first_id: ProducerId(10), crc: 1 });
    index.push(BlockRef { first_id: ProducerId(10), crc: 2 });
    let bytes = index.encode();
    let crc = crc32fast::hash(&bytes);
    assert_eq!(RunIndex::decode(&bytes, crc).unwrap_err().field, "first id of a block");
    assert_eq!(RunIndex::decode(&bytes, crc + 1).unwrap_err().field, "index CRC");
    assert_eq!(
        RunIndex::decode(&bytes[..13], crc32fast::hash(&bytes[..13])).unwrap_err().field,
        "end of the index"
    );
}

#[test]
fn a_header_survives_the_round_trip_and_is_as_long_as_announced() {
    let mut long = header();
    long.open_txns = (0..1000).map(|id| (ProducerId(id), Offset(id))).collect();
    let empty = RunHeader { entry_count: 0, block_count: 0, producers: None, ..header() };
    for (header, length) in [(header(), 4096), (long, 4 * 4096), (empty, 4096)] {
        assert_eq!(header.encoded_len(), length);
        let (bytes, crc) = header.encode();
        assert_eq!(bytes.len(), length);
        assert_eq!(RunHeader::peek_len(&bytes[..4096], u64::MAX), Ok(length));
        assert_eq!(RunHeader::decode(&bytes), Ok((header, crc)));
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    let (good, _) = header().encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(RunHeader::decode(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn a_header_longer_than_the_file_is_refused_before_memory_is_taken() {
    let (mut bytes, _) = header().encode();
    bytes[12..16].copy_from_slice(&0xffff_f000_u32.to_be_bytes());
    assert_eq!(RunHeader::peek_len(&bytes, 1 << 20).unwrap_err().field, "length of the run header");
    bytes[12..16].copy_from_slice(&0_u32.to_be_bytes());
    assert_eq!(RunHeader::peek_len(&bytes, 1 << 20).unwrap_err().field, "length of the run header");
}

#[test]
fn counts_that_do_not_fit_each_other_or_the_header_are_refused_even_with_a_right_crc() {
    let no_block = RunHeader { block_count: 0, ..header() };
    let more_blocks = RunHeader { block_count: 4, ..header() };
    let swapped = RunHeader { producers: Some((ProducerId(9), ProducerId(1))), ..header() };
    let backwards = RunHeader { from: Offset(101), ..header() };
    for bad in [no_block, more_blocks, swapped, backwards] {
        assert_eq!(RunHeader::decode(&bad.encode().0).unwrap_err().field, "number of entries");
    }
    let (mut bytes, _) = header().encode();
    let epochs_at = 8 + 4 + 4 + 8 + 1 + 8 + 53 + 8 + 8 + 4 + 8 + 8 + 4;
    bytes[epochs_at..epochs_at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    let crc = crc32fast::hash(&bytes[..4092]);
    bytes[4092..].copy_from_slice(&crc.to_be_bytes());
    let error = RunHeader::decode(&bytes).unwrap_err();
    assert_eq!((error.field, error.at), ("leader epochs", epochs_at as u64));
}

proptest! {
    #[test]
    fn any_entry_survives_the_round_trip(entry in any_run_entry()) {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        let mut cursor = crate::format::cursor::Cursor::new(&bytes);
        prop_assert_eq!(RunEntry::decode(&mut cursor), Ok(entry));
        prop_assert_eq!(cursor.finish("entry"), Ok(()));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let reference = BlockRef { first_id: ProducerId(0), crc: 0 };
        let _ = RunEntry::decode(&mut crate::format::cursor::Cursor::new(&bytes));
        let _ = Block::check(&bytes, reference);
        let _ = RunHeader::decode(&bytes);
        let _ = RunIndex::decode(&bytes, crc32fast::hash(&bytes));
    }

    #[test]
    fn no_entries_behind_a_right_crc_make_a_search_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), BLOCK_SIZE), id in any::<i64>(),
    ) {
        let crc = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_be_bytes());
        bytes[6] &= 0x07;
        let mut cursor = crate::format::cursor::Cursor::new(&bytes[8..]);
        let first_id = ProducerId(cursor.varlong("first").unwrap_or(0));
        if let Ok(block) = Block::check(&bytes, BlockRef { first_id, crc }) {
            let _ = block.find(ProducerId(id));
            let _ = block.entries().count();
        }
    }
}
