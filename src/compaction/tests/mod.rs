//! The rules, batch by batch, without a log.

mod filter;
mod map;
mod select;
mod transactions;

use bytes::Bytes;

use super::*;
use crate::error::Error;
use crate::format::batch::{Attributes, BatchHeader, HEADER_SIZE};
use crate::format::batch_builder::BatchBuilder;
use crate::format::compression::{Codec, decompress};
use crate::format::control::{ControlKind, EndTxnMarker};
use crate::format::index_entry::AbortedTxn;
use crate::format::record::Records;
use crate::types::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

const NOW: i64 = 1_000_000;
const RETENTION: u64 = 1_000;

/// Nobody is known.
fn nobody(_: ProducerId) -> Result<Option<LastWritten>, Error> {
    Ok(None)
}

fn header(batch: &[u8]) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

/// A batch at `offset` of records with these keys, those of an upper-case key without a value.
fn batch(offset: i64, keys: &str) -> Bytes {
    builder(offset, keys).build().unwrap()
}

fn builder(offset: i64, keys: &str) -> BatchBuilder {
    keys.bytes().fold(BatchBuilder::new().base_offset(Offset(offset)), |builder, key| {
        let value = key.is_ascii_lowercase().then_some(&b"value"[..]);
        builder.record_at(500 + i64::from(key), Some(&[key.to_ascii_lowercase()]), value)
    })
}

fn txn(offset: i64, producer: i64, keys: &str) -> Bytes {
    let producer = ProducerId(producer);
    builder(offset, keys)
        .producer(producer, ProducerEpoch(0), Sequence::ZERO)
        .transactional()
        .build()
        .unwrap()
}

fn marker(offset: i64, producer: i64, kind: ControlKind) -> Bytes {
    let marker = EndTxnMarker {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(0),
        kind,
        coordinator_epoch: CoordinatorEpoch(1),
        timestamp: 400,
    };
    let bytes = marker.to_batch();
    let header = BatchHeader { base_offset: Offset(offset), ..header(&bytes) };
    crate::format::batch::seal(header, &bytes[HEADER_SIZE..])
}

fn aborted(producer: i64, first: i64, last: i64) -> AbortedTxn {
    AbortedTxn {
        producer: ProducerId(producer),
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(last + 1),
    }
}

/// A map of what these batches hold.
fn map_of(batches: &[Bytes], aborted: &[AbortedTxn]) -> OffsetMap {
    let map = OffsetMap::with_budget(1 << 20, 1000);
    let mut survey = Survey::new(map, Transactions::new(aborted.to_vec()), Offset::ZERO);
    for batch in batches {
        assert!(survey.take(&header(batch), batch).unwrap().is_continue());
    }
    survey.into_map()
}

/// A round over these batches at `now_ms`; a batch that goes is left out, one that stays is taken into the next round.
fn round(batches: &[Bytes], aborted: &[AbortedTxn], now_ms: i64) -> Vec<Bytes> {
    round_with(batches, aborted, now_ms, &nobody)
}

fn round_with(batches: &[Bytes], aborted: &[AbortedTxn], now_ms: i64, last: &LookUp<'_>) -> Vec<Bytes> {
    let map = map_of(batches, aborted);
    let transactions = Transactions::new(aborted.to_vec());
    let mut filter = Filter::new(&map, Offset(i64::MAX), transactions, now_ms, RETENTION, last);
    let mut left = Vec::new();
    for batch in batches {
        match filter.take(&header(batch), batch, false).unwrap() {
            Kept::Nothing => {}
            Kept::AsItIs => left.push(batch.clone()),
            Kept::Anew(bytes) => {
                left.push(crate::format::batch::RawBatch(bytes).check().unwrap().into_bytes())
            }
        }
    }
    left
}

/// Offset, key and timestamp of every data record.
fn records(batches: &[Bytes]) -> Vec<(i64, u8, i64)> {
    let mut found = Vec::new();
    for batch in batches {
        let header = header(batch);
        if header.attributes.is_control() || header.record_count == 0 {
            continue;
        }
        let codec = Codec::from_id(header.attributes.codec()).unwrap();
        let payload = decompress(codec, &batch[HEADER_SIZE..], 1 << 20).unwrap();
        found.extend(Records::new(&payload, header.record_count).map(|record| {
            let record = record.unwrap();
            (record.offset(&header).0, record.key.unwrap()[0], record.timestamp(&header))
        }));
    }
    found
}
