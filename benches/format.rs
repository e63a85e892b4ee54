//! What a batch costs before it enters the queue, and what finding one in a segment costs.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oncelog::format::batch::HEADER_SIZE;
use oncelog::format::record::validate_records;
use oncelog::index::{IndexSize, OffsetIndex};
use oncelog::{BatchBuilder, BatchHeader, Offset, Position, ProducerEpoch, ProducerId, RawBatch, Sequence};

/// A batch of this many records of about 1 KiB.
fn batch(records: u8) -> Bytes {
    let mut builder = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), Sequence::ZERO);
    for number in 0..records {
        builder = builder.record_at(1_700_000_000_000, None, Some(&[number; 1008]));
    }
    builder.build().unwrap()
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for records in [1, 16, 64] {
        let bytes = batch(records);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("check frame and CRC, {records} records"), |b| {
            b.iter(|| RawBatch(black_box(&bytes).clone()).check());
        });
        let count = BatchHeader::parse(&bytes).unwrap().record_count;
        group.bench_function(format!("validate {records} records"), |b| {
            b.iter(|| validate_records(black_box(bytes.get(HEADER_SIZE..).unwrap()), count));
        });
    }
    group.throughput(Throughput::Elements(1));
    let bytes = batch(1);
    group.bench_function("parse a header", |b| b.iter(|| BatchHeader::parse(black_box(&bytes))));
    group.finish();
}

fn index_floor(c: &mut Criterion) {
    let mut index = OffsetIndex::new(Offset::ZERO, IndexSize(10 << 20));
    for entry in 1..100_000_i64 {
        index.push(Offset(entry * 16), Position(u64::try_from(entry).unwrap() * 16384)).unwrap();
    }
    let mut offset = 0;
    c.bench_function("index/floor among 100000 entries", |b| {
        b.iter(|| {
            offset = (offset + 1_299_709) % 1_600_000;
            index.floor(Offset(offset))
        });
    });
}

criterion_group!(benches, batches, index_floor);
criterion_main!(benches);
