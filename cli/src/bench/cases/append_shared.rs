//! `append-shared`: many threads append small batches to one log, beside vectored writes of sixteen of them.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use anyhow::Result;
use oncelog::Durability;

use super::{Bench, Case, batch, producers, record, rounds, throughput, total};
use crate::bench::batches::Pool;
use crate::bench::engine::{self, SEGMENT};
use crate::bench::raw::RawLog;
use crate::bench::report::{Row, Target};
use crate::bench::rounds::Sample;
use crate::bench::settings::Setting;
use crate::bench::threads::{self, Crew, Style};

pub(super) const CASE: Case = Case {
    name: "append-shared",
    what: "many threads append to one log, Buffered; limit: one thread's pwritev of 16 batches",
    settings: &[
        batch(1 << 10),
        record(1 << 10),
        producers(1000),
        Setting::new("threads", "threads that append", 8, 1..=1024),
        Setting::new("outstanding", "submits that a thread has under way", 16, 1..=65_536),
        total(256 << 20),
        rounds(5),
    ],
    run,
};

/// Batches of one vectored write of the limit.
const TOGETHER: usize = 16;

struct Pools {
    whole: Pool,
    parts: Vec<Pool>,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let threads = bench.settings.count("threads");
    let mut pools = Pools {
        whole: Pool::new(bench.shape(), bench.producers())?,
        parts: threads::pools(bench.shape(), bench.producers(), threads)?,
    };
    let crew = |style| Crew { style, durability: Durability::Buffered };
    let submits = crew(Style::Submits(bench.settings.count("outstanding")));
    let mut limit = |pools: &mut Pools| write_raw(bench, &mut pools.whole);
    let mut submitting = |pools: &mut Pools| append(bench, &mut pools.parts, submits);
    let mut blocking = |pools: &mut Pools| append(bench, &mut pools.parts, crew(Style::Blocking));
    let figures = bench.interleaved(&mut pools, &mut [&mut limit, &mut submitting, &mut blocking])?;
    let of = |contender: usize| Sample::new(figures.get(contender).cloned().unwrap_or_default());
    let limit = || ("pwritev of 16", of(0));
    Ok(vec![
        Row::ratio("throughput", "MB/s", limit(), of(1)).of("submits").must_be(Target::AtLeast(0.5)),
        Row::ratio("throughput", "MB/s", limit(), of(2)).of("blocking"),
    ])
}

fn write_raw(bench: &Bench, pool: &mut Pool) -> Result<f64> {
    let scratch = bench.scratch()?;
    let total = bench.settings.value("total");
    let allocate = engine::config().preallocate_bytes;
    let mut raw = RawLog::create(scratch.path(), total, u64::from(SEGMENT), allocate)?;
    let (mut took, mut done) = (Duration::ZERO, 0);
    pool.rewind()?;
    while done < total {
        let (batches, bytes) = pool.pass(total - done);
        let from = Instant::now();
        for together in batches.chunks(TOGETHER) {
            let mut slices = [IoSlice::new(&[]); TOGETHER];
            for (slice, batch) in slices.iter_mut().zip(together) {
                *slice = IoSlice::new(batch);
            }
            raw.append_vectored(slices.get(..together.len()).unwrap_or(&slices))?;
        }
        took += from.elapsed();
        done += bytes;
        pool.restamp()?;
    }
    drop(raw);
    scratch.remove()?;
    Ok(throughput(done, took))
}

fn append(bench: &Bench, pools: &mut [Pool], crew: Crew) -> Result<f64> {
    let scratch = bench.scratch()?;
    let log = engine::open(&scratch.log_dir(), engine::config())?;
    let (bytes, took) = threads::append(&log, pools, crew, bench.settings.value("total"))?;
    drop(log);
    scratch.remove()?;
    Ok(throughput(bytes, took))
}
