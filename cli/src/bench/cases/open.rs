//! `open`: a log that was closed with many producers, beside the same log without any: time, heap, first appends.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use bytes::Bytes;
use oncelog::recovery::RecoveryKind;
use oncelog::{Durability, RawBatch};

use super::{Bench, Case, batch, millis, record, rounds};
use crate::bench::batches::Producers;
use crate::bench::engine;
use crate::bench::heap::Count;
use crate::bench::idle::{self, Idle};
use crate::bench::report::{Row, Target};
use crate::bench::rounds::{Sample, quantile};
use crate::bench::settings::Setting;

pub(super) const CASE: Case = Case {
    name: "open",
    what: "a log that was closed with many producers is opened; limit: the same log with none",
    settings: &[
        Setting::new("producers", "producers that the log knows", 1_000_000, 1000..=10_000_000),
        Setting::new("appends", "appends of random idle producers after each open", 1000, 100..=100_000),
        batch(1 << 10),
        record(1 << 10),
        rounds(5),
    ],
    run,
};

/// What one opening took.
struct Opening {
    millis: f64,
    /// Growth of the heap, MiB.
    live: f64,
    peak: f64,
    /// Times of the appends after it, sorted, in nanoseconds.
    appends: Vec<u64>,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.settings.value("producers");
    let appends = bench.settings.value("appends");
    let enough = appends * (bench.settings.value("rounds") + 1) <= count;
    ensure!(
        enough,
        "appends={appends}: accepted is at most producers / (rounds + 1), so that all of them are idle"
    );
    let scratch = bench.scratch()?;
    bench.progress.set_message("making a log without producers");
    let nobody = scratch.path().join("nobody").join("bench-0");
    idle::build(&nobody, Producers { first: 1, count: 0 }, count)?;
    bench.progress.set_message("making a log with producers");
    let many = scratch.path().join("many").join("bench-0");
    idle::build(&many, Producers { first: 1, count: bench.settings.count("producers") }, count)?;
    let mut producers = Idle::new(bench.shape(), bench.settings.count("producers"))?;
    let mut places = 0..;
    let mut limit = |producers: &mut Idle| {
        let batches = (0..appends).map(|_| producers.anonymous()).collect();
        open(&nobody, batches)
    };
    let mut engine = |producers: &mut Idle| {
        let batches = places
            .by_ref()
            .zip(0..appends)
            .map(|(place, _)| producers.batch(place))
            .collect::<Result<_>>()?;
        open(&many, batches)
    };
    let figures = bench.interleaved(&mut producers, &mut [&mut limit, &mut engine])?;
    scratch.remove()?;
    let of = |contender: usize, figure: fn(&Opening) -> f64| {
        Sample::new(figures.get(contender).into_iter().flatten().map(figure).collect())
    };
    let none = |figure| ("no producers", of(0, figure));
    let time: fn(&Opening) -> f64 = |opening| opening.millis;
    let p99 = |opening: &Opening| quantile(&opening.appends, 990) as f64 / 1e6;
    Ok(vec![
        Row::difference("time", "ms", none(time), of(1, time)).must_be(Target::AtMost(20.0)),
        Row::alone("heap_growth", "MiB", of(1, |opening| opening.live)).must_be(Target::AtMost(32.0)),
        Row::alone("heap_peak", "MiB", of(1, |opening| opening.peak)),
        Row::alone("p99", "ms", of(1, p99)).of("appends after it").must_be(Target::AtMost(1.0)),
        Row::alone("max", "ms", of(1, |opening| quantile(&opening.appends, 1000) as f64 / 1e6))
            .of("appends after it"),
    ])
}

/// Opens, appends, closes.
fn open(dir: &Path, batches: Vec<Bytes>) -> Result<Opening> {
    let heap = Count::begin();
    let from = Instant::now();
    let (log, report) = oncelog::Log::open(dir, engine::config())?;
    let took = from.elapsed();
    let growth = heap.end();
    ensure!(report.kind == RecoveryKind::Clean, "the log was not closed in order:\n{report}");
    let mut appends = Vec::with_capacity(batches.len());
    for batch in batches {
        let from = Instant::now();
        log.append(RawBatch(batch), Durability::Buffered)?;
        appends.push(u64::try_from(from.elapsed().as_nanos())?);
    }
    log.close()?;
    appends.sort_unstable();
    let mib = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    Ok(Opening { millis: millis(took), live: mib(growth.live), peak: mib(growth.peak), appends })
}
