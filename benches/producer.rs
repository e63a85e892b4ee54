//! What the producers' state costs an append: the verdict and the state after it, a look into memory, a look into runs.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use oncelog::checkpoint::{Chain, RunDraft, RunWriter};
use oncelog::format::run::RunKind;
use oncelog::producer::{
    BatchFacts, Entry, EverWritten, OffsetSpan, Policy, ProducerTable, UnknownProducerPolicy, apply_data,
    check,
};
use oncelog::storage::{OsStorage, Storage};
use oncelog::types::History;
use oncelog::{EngineTime, LogPoint, Offset, Origin, ProducerEpoch, ProducerId, Sequence};

const POLICY: Policy = Policy {
    unknown: UnknownProducerPolicy::Reject,
    log_start_offset: Offset::ZERO,
    ever_written: EverWritten::Yes,
    history: History::Complete,
};

/// A batch of sixteen records, the `number`th of its producer.
fn facts(producer: u64, number: u32) -> BatchFacts {
    let first = Sequence::ZERO.wrapping_add(number * 16);
    BatchFacts {
        producer: ProducerId(i64::try_from(producer).unwrap()),
        epoch: ProducerEpoch(0),
        first_sequence: Some(first),
        last_sequence: Some(first.wrapping_add(15)),
        max_timestamp: 1_700_000_000_000,
        transactional: false,
    }
}

fn span(number: u32) -> OffsetSpan {
    let first = Offset(i64::from(number) * 16);
    OffsetSpan { first, last: first.saturating_add(15) }
}

/// A producer that has written five batches.
fn five_deep(producer: u64) -> Entry {
    let entry = (0..5).fold(None, |entry: Option<Entry>, number| {
        Some(apply_data(entry.as_ref(), &facts(producer, number), span(number), EngineTime(1)))
    });
    entry.unwrap()
}

fn verdicts(c: &mut Criterion) {
    let entry = five_deep(1);
    let mut group = c.benchmark_group("producer");
    group.bench_function("check and apply the next batch", |b| {
        let next = facts(1, 5);
        b.iter(|| {
            let entry = black_box(&entry);
            let verdict = check(Some(entry), black_box(&next), Origin::Client, &POLICY);
            (verdict, apply_data(Some(entry), &next, span(5), EngineTime(2)))
        });
    });
    group.bench_function("check a retry of the oldest of five", |b| {
        let retry = facts(1, 0);
        b.iter(|| check(Some(black_box(&entry)), black_box(&retry), Origin::Client, &POLICY));
    });
    for producers in [1000, 1_000_000] {
        let mut table = ProducerTable::new();
        for producer in 0..producers {
            table.insert(ProducerId(i64::try_from(producer).unwrap()), five_deep(producer));
        }
        let mut turn = 0;
        group.bench_function(format!("get and replace one of {producers} in memory"), |b| {
            b.iter(|| {
                turn = (turn + 7919) % producers;
                let id = ProducerId(i64::try_from(turn).unwrap());
                let entry = *table.get(id).unwrap();
                table.insert(id, entry);
            });
        });
    }
    group.finish();
}

fn freeze(c: &mut Criterion) {
    c.bench_function("producer/freeze 10000 producers", |b| {
        let full = || {
            let mut table = ProducerTable::new();
            for producer in 0..10_000 {
                table.insert(ProducerId(producer), five_deep(1));
            }
            table
        };
        b.iter_batched_ref(full, |table| table.freeze().map(|frozen| frozen.len()), BatchSize::LargeInput);
    });
}

fn run_lookup(c: &mut Criterion) {
    const PRODUCERS: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("run");
    let chain = chain(dir.path(), PRODUCERS, 8);
    let mut turn = 0;
    group.bench_function("look up one of 100000 in a base behind eight deltas", |b| {
        b.iter(|| {
            turn = (turn + 7919) % PRODUCERS;
            chain.get(ProducerId(i64::try_from(turn * 2).unwrap())).unwrap().unwrap()
        });
    });
    group.bench_function("look up an id that no run holds", |b| {
        b.iter(|| {
            turn = (turn + 7919) % PRODUCERS;
            chain.get(ProducerId(i64::try_from(turn * 2 + 1).unwrap())).unwrap()
        });
    });
    group.finish();
}

/// A base of the even ids, and deltas that hold the first and the last of them, so that no key range rules them out.
fn chain(dir: &Path, producers: u64, deltas: u64) -> Chain {
    let storage: Arc<dyn Storage> = Arc::new(OsStorage::new());
    let id = |producer: u64| ProducerId(i64::try_from(producer * 2).unwrap());
    let point = |offset| LogPoint::segment_start(Offset(offset));
    let mut draft = RunDraft::new(RunKind::Base, Offset(0), point(1), EngineTime(1));
    let mut writer = RunWriter::create(&storage, dir, 0, draft).unwrap();
    for producer in 0..producers {
        writer.push(id(producer), &five_deep(producer)).unwrap();
    }
    let mut chain = Chain::empty().with(writer.finish().unwrap()).unwrap();
    for number in 1..=deltas {
        let from = i64::try_from(number).unwrap();
        draft = RunDraft::new(RunKind::Delta, Offset(from), point(from + 1), EngineTime(1));
        let mut writer = RunWriter::create(&storage, dir, number, draft).unwrap();
        writer.push(id(0), &five_deep(0)).unwrap();
        writer.push(id(producers - 1), &five_deep(0)).unwrap();
        chain = chain.with(writer.finish().unwrap()).unwrap();
    }
    chain
}

criterion_group!(benches, verdicts, freeze, run_lookup);
criterion_main!(benches);
