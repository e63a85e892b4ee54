//! `log-dir-open`: a root of many partitions is opened, after a clean close and after none, within few descriptors.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use oncelog::recovery::RecoveryKind;
use oncelog::{Durability, Environment, Log, LogConfig, LogDir, LogDirConfig, PartitionName, RawBatch};

use super::{Bench, Case, batch, millis, record, rounds};
use crate::bench::batches::{Pool, Producers};
use crate::bench::engine;
use crate::bench::heap::Count;
use crate::bench::report::Row;
use crate::bench::rounds::Sample;
use crate::bench::settings::Setting;

pub(super) const CASE: Case = Case {
    name: "log-dir-open",
    what: "a root of many partitions is opened after a clean close and after none; memory of an idle partition",
    settings: &[
        Setting::new("partitions", "partitions of the root", 10_000, 1..=100_000),
        Setting::new("descriptors", "descriptors that open logs may use", 2048, 16..=1_000_000),
        batch(1 << 10),
        record(1 << 10),
        rounds(1),
    ],
    run,
};

/// Without blocks reserved ahead: a directory of so many logs would spend the case on that.
fn log_config() -> LogConfig {
    LogConfig { preallocate_bytes: 0, ..engine::config() }
}

/// Threads that leave partitions open, because that is waiting for syncs and not what is measured.
const WRITERS: usize = 8;

/// What one round found, in ms a partition.
struct Opening {
    make: f64,
    close: f64,
    clean: f64,
    unclean: f64,
    /// KiB of heap that a partition costs while it rests.
    idle: f64,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let pool = Pool::new(bench.shape(), Producers { first: 1, count: 0 })?;
    let rounds = bench.settings.count("rounds");
    // Without a round to warm up: it would take as long, and each round makes files of its own.
    let figures = (0..rounds).map(|_| round(bench, &pool)).collect::<Result<Vec<_>>>()?;
    let of = |figure: fn(&Opening) -> f64| Sample::new(figures.iter().map(figure).collect());
    Ok(vec![
        Row::alone("make", "ms a partition", of(|opening| opening.make)),
        Row::alone("close", "ms a partition", of(|opening| opening.close)).of("of one batch each"),
        Row::alone("open", "ms a partition", of(|opening| opening.clean)).of("closed in order"),
        Row::alone("open", "ms a partition", of(|opening| opening.unclean)).of("not closed"),
        Row::alone("idle", "KiB a partition", of(|opening| opening.idle)),
    ])
}

fn round(bench: &Bench, pool: &Pool) -> Result<Opening> {
    let scratch = bench.scratch()?;
    let count = bench.settings.count("partitions");
    let batch = pool.batches.first().cloned().unwrap_or_default();
    let config = LogDirConfig {
        log: log_config(),
        descriptors: Some(bench.settings.count("descriptors")),
        ..LogDirConfig::default()
    };
    let open = || LogDir::open(scratch.path(), config.clone(), Environment::default());
    let names = (0..i32::try_from(count)?)
        .map(|number| Ok(PartitionName::new("bench", number)?))
        .collect::<Result<Vec<_>>>()?;
    bench.progress.set_message("making partitions");
    let (root, _) = open()?;
    let from = Instant::now();
    for made in root.create_all(&names, &log_config()) {
        made?;
    }
    let make = from.elapsed();
    // They rest and are opened again where there are too few descriptors: closing them is counted from here on.
    let from = Instant::now();
    for name in &names {
        let partition = root.get(name).context("a partition that was made")?;
        partition.log()?.append(RawBatch(batch.clone()), Durability::Buffered)?;
    }
    root.close()?;
    let close = from.elapsed();
    bench.progress.set_message("opening them clean");
    let heap = Count::begin();
    let from = Instant::now();
    let (root, report) = open()?;
    let clean = from.elapsed();
    ensure!(report.clean_shutdown && report.failed().count() == 0, "the root was not closed in order");
    drop(report);
    root.rest();
    let idle = heap.end().live as f64 / 1024.0 / count as f64;
    root.close()?;
    bench.progress.set_message("leaving them open");
    let each = names.len().div_ceil(WRITERS).max(1);
    std::thread::scope(|scope| {
        let leave = |names: &[PartitionName]| {
            names.iter().try_for_each(|name| leave_open(&scratch.path().join(name.to_string()), &batch))
        };
        let writers: Vec<_> = names.chunks(each).map(|names| scope.spawn(move || leave(names))).collect();
        let ends = writers.into_iter().map(|writer| writer.join().unwrap_or(Ok(())));
        ends.collect::<Result<()>>()
    })?;
    let from = Instant::now();
    let (root, report) = open()?;
    let unclean = from.elapsed();
    let recovered =
        report.partitions.values().flatten().filter(|report| report.kind == RecoveryKind::Unclean);
    ensure!(recovered.count() == count, "partitions were closed in order that should not have been");
    drop(root);
    scratch.remove()?;
    let (make, close) = (millis(make) / count as f64, millis(close) / count as f64);
    Ok(Opening {
        make,
        close,
        clean: millis(clean) / count as f64,
        unclean: millis(unclean) / count as f64,
        idle,
    })
}

/// Appends to a partition and drops it, as the death of the process would.
fn leave_open(dir: &Path, batch: &Bytes) -> Result<()> {
    let (log, _) = Log::open(dir, log_config())?;
    log.append(RawBatch(batch.clone()), Durability::Buffered)?;
    Ok(())
}
