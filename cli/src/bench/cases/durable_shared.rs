//! `durable-shared`: how many Durable appends share a sync, beside one caller of the same log.

use anyhow::Result;
use oncelog::Durability;

use super::{Bench, Case, batch, producers, record, rounds};
use crate::bench::batches::Pool;
use crate::bench::engine;
use crate::bench::raw::RawLog;
use crate::bench::report::{Row, Target};
use crate::bench::rounds::Sample;
use crate::bench::settings::Setting;
use crate::bench::threads::{self, Crew, Style};

pub(super) const CASE: Case = Case {
    name: "durable-shared",
    what: "Durable appends that share syncs; limit: one blocking caller of the log",
    settings: &[
        batch(1 << 10),
        record(1 << 10),
        producers(1000),
        Setting::new("outstanding", "submits under way, and blocking callers", 64, 1..=1024),
        Setting::new(
            "count",
            "batches of the one caller in a round; the many write 16 times as many",
            500,
            10..=1_000_000,
        ),
        rounds(7),
    ],
    run,
};

/// How many times as many batches the many write.
const TIMES: u64 = 16;

struct Pools {
    one: Vec<Pool>,
    many: Vec<Pool>,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let outstanding = bench.settings.count("outstanding");
    let mut pools = Pools {
        one: threads::pools(bench.shape(), bench.producers(), 1)?,
        many: threads::pools(bench.shape(), bench.producers(), outstanding)?,
    };
    let crew = |style| Crew { style, durability: Durability::Durable };
    let count = bench.settings.value("count");
    let mut raw = |pools: &mut Pools| write_raw(bench, &mut pools.one, count);
    let mut alone = |pools: &mut Pools| append(bench, &mut pools.one, crew(Style::Blocking), count);
    let mut submits =
        |pools: &mut Pools| append(bench, &mut pools.one, crew(Style::Submits(outstanding)), count * TIMES);
    let mut callers =
        |pools: &mut Pools| append(bench, &mut pools.many, crew(Style::Blocking), count * TIMES);
    let figures = bench.interleaved(&mut pools, &mut [&mut raw, &mut alone, &mut submits, &mut callers])?;
    let of = |contender: usize| Sample::new(figures.get(contender).cloned().unwrap_or_default());
    let one = || ("one caller", of(1));
    let rate = |limit, engine| Row::ratio("rate", "batches/s", limit, engine);
    Ok(vec![
        rate(one(), of(2)).of("submits").must_be(Target::AtLeast(20.0)),
        rate(one(), of(3)).of("blocking").must_be(Target::AtLeast(12.0)),
        rate(("pwrite + fdatasync", of(0)), of(1)).of("one caller"),
    ])
}

fn write_raw(bench: &Bench, pools: &mut [Pool], count: u64) -> Result<f64> {
    let scratch = bench.scratch()?;
    let segment = u64::from(engine::SEGMENT);
    let mut raw = RawLog::create(scratch.path(), count * bench.settings.value("batch"), segment, 0)?;
    let batches = pools.iter().flat_map(|pool| &pool.batches).cycle();
    let from = std::time::Instant::now();
    for (_, batch) in (0..count).zip(batches) {
        raw.append(batch)?;
        raw.sync()?;
    }
    let took = from.elapsed();
    drop(raw);
    scratch.remove()?;
    Ok(count as f64 / took.as_secs_f64())
}

fn append(bench: &Bench, pools: &mut [Pool], crew: Crew, count: u64) -> Result<f64> {
    let scratch = bench.scratch()?;
    let log = engine::open(&scratch.log_dir(), engine::config())?;
    let batch = bench.settings.value("batch");
    let (bytes, took) = threads::append(&log, pools, crew, count * batch)?;
    drop(log);
    scratch.remove()?;
    Ok((bytes / batch) as f64 / took.as_secs_f64())
}
