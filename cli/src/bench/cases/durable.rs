//! `durable`: one caller that waits for each batch to be on the medium, beside write and fdatasync.

use std::time::Instant;

use anyhow::Result;
use oncelog::{Durability, RawBatch};

use super::{Bench, Case, batch, producers, record, rounds};
use crate::bench::batches::Pool;
use crate::bench::engine::{self, SEGMENT};
use crate::bench::raw::RawLog;
use crate::bench::report::{Row, Target};
use crate::bench::rounds::{Sample, quantile};
use crate::bench::settings::Setting;

pub(super) const CASE: Case = Case {
    name: "durable",
    what: "one thread appends, Durable; limit: pwrite and fdatasync of the same bytes",
    settings: &[
        batch(1 << 10),
        record(1 << 10),
        producers(1000),
        Setting::new("count", "batches that each contender writes in a round", 1000, 10..=10_000_000),
        Setting::new("every", "one of this many batches is synced", 1, 1..=1_000_000),
        Setting::new("seconds", "most seconds of a contender in a round", 8, 1..=3600),
        rounds(7),
    ],
    run,
};

/// Times of the batches of one contender in one round, in nanoseconds.
type Times = Vec<u64>;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut pool = Pool::new(bench.shape(), bench.producers())?;
    let mut limit = |pool: &mut Pool| write_raw(bench, pool);
    let mut engine = |pool: &mut Pool| append(bench, pool);
    let mut figures = bench.interleaved(&mut pool, &mut [&mut limit, &mut engine])?;
    let mut of = |contender: usize, figure: &dyn Fn(&mut Times) -> f64| {
        Sample::new(figures.get_mut(contender).into_iter().flatten().map(figure).collect())
    };
    let mean = |times: &mut Times| times.iter().sum::<u64>() as f64 / 1e3 / times.len() as f64;
    let middle = |times: &mut Times| {
        times.sort_unstable();
        quantile(times, 500) as f64 / 1e3
    };
    let name = "pwrite + fdatasync";
    let time =
        Row::ratio("time", "us/batch", (name, of(0, &mean)), of(1, &mean)).must_be(Target::AtMost(1.15));
    let rate = |times: &mut Times| 1e6 / mean(times);
    Ok(vec![
        time,
        Row::ratio("p50", "us", (name, of(0, &middle)), of(1, &middle)),
        Row::ratio("rate", "batches/s", (name, of(0, &rate)), of(1, &rate)),
    ])
}

fn write_raw(bench: &Bench, pool: &mut Pool) -> Result<Times> {
    let scratch = bench.scratch()?;
    let bytes = bench.settings.value("count") * bench.settings.value("batch");
    let allocate = engine::config().preallocate_bytes;
    let mut raw = RawLog::create(scratch.path(), bytes, u64::from(SEGMENT), allocate)?;
    let times = timed(bench, pool, |batch, durability| {
        raw.append(&batch)?;
        match durability {
            Durability::Durable => raw.sync(),
            Durability::Buffered => Ok(()),
        }
    })?;
    drop(raw);
    scratch.remove()?;
    Ok(times)
}

fn append(bench: &Bench, pool: &mut Pool) -> Result<Times> {
    let scratch = bench.scratch()?;
    let log = engine::open(&scratch.log_dir(), engine::config())?;
    let times = timed(bench, pool, |batch, durability| {
        log.append(RawBatch(batch), durability)?;
        Ok(())
    })?;
    drop(log);
    scratch.remove()?;
    Ok(times)
}

/// Times each batch.
fn timed(
    bench: &Bench,
    pool: &mut Pool,
    mut write: impl FnMut(bytes::Bytes, Durability) -> Result<()>,
) -> Result<Times> {
    let count = bench.settings.count("count");
    let most = std::time::Duration::from_secs(bench.settings.value("seconds"));
    let mut times = Vec::with_capacity(count);
    let mut durabilities = (1..).map(|number| {
        if number % bench.settings.value("every") == 0 { Durability::Durable } else { Durability::Buffered }
    });
    let begun = Instant::now();
    pool.rewind()?;
    while times.len() < count && begun.elapsed() < most {
        for (batch, durability) in pool.batches.iter().zip(&mut durabilities).take(count - times.len()) {
            let from = Instant::now();
            write(batch.clone(), durability)?;
            times.push(u64::try_from(from.elapsed().as_nanos())?);
            if begun.elapsed() >= most {
                break;
            }
        }
        pool.restamp()?;
    }
    Ok(times)
}
