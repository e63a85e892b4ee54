//! `append`: one thread, Buffered, beside positional writes and CRC checks of the same bytes.

use std::time::{Duration, Instant};

use anyhow::Result;
use oncelog::Durability;

use super::{Bench, Case, batch, producers, record, rounds, throughput, total};
use crate::bench::batches::Pool;
use crate::bench::engine::{self, SEGMENT};
use crate::bench::raw::{RawLog, check_crc};
use crate::bench::report::{Row, Target};
use crate::bench::rounds::Sample;

pub(super) const CASE: Case = Case {
    name: "append",
    what: "one thread appends, Buffered; limit: pwrite and CRC-32C check of the same bytes",
    settings: &[batch(16 << 10), record(1 << 10), producers(1000), total(512 << 20), rounds(5)],
    run,
};

/// What one contender took in one round.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let total = bench.settings.value("total");
    let mut pool = Pool::new(bench.shape(), bench.producers())?;
    let mut limit = |pool: &mut Pool| write_raw(bench, pool, total);
    let mut engine = |pool: &mut Pool| append(bench, pool, total);
    let figures = bench.interleaved(&mut pool, &mut [&mut limit, &mut engine])?;
    let of = |contender: usize, figure: &dyn Fn(&Took) -> f64| {
        Sample::new(figures.get(contender).into_iter().flatten().map(figure).collect())
    };
    let batches = total.div_ceil(bench.settings.value("batch")) as f64;
    let wall = |took: &Took| throughput(total, took.wall);
    let cpu = |took: &Took| took.cpu.as_secs_f64() * 1e6 / batches;
    Ok(vec![
        Row::ratio("throughput", "MB/s", ("pwrite + CRC", of(0, &wall)), of(1, &wall))
            .must_be(Target::AtLeast(0.75)),
        Row::ratio("thread_cpu", "us/batch", ("pwrite + CRC", of(0, &cpu)), of(1, &cpu)),
    ])
}

fn write_raw(bench: &Bench, pool: &mut Pool, total: u64) -> Result<Took> {
    let scratch = bench.scratch()?;
    let allocate = engine::config().preallocate_bytes;
    let mut raw = RawLog::create(scratch.path(), total, u64::from(SEGMENT), allocate)?;
    let took = timed(pool, total, |batches| {
        for batch in batches {
            check_crc(batch)?;
            raw.append(batch)?;
        }
        Ok(())
    })?;
    drop(raw);
    scratch.remove()?;
    Ok(took)
}

fn append(bench: &Bench, pool: &mut Pool, total: u64) -> Result<Took> {
    let scratch = bench.scratch()?;
    let log = engine::open(&scratch.log_dir(), engine::config())?;
    let took =
        timed(pool, total, |batches| engine::append_all(&log, batches, Durability::Buffered).map(drop))?;
    drop(log);
    scratch.remove()?;
    Ok(took)
}

/// Times the passes over the pool, not what lies between them.
fn timed(pool: &mut Pool, total: u64, mut pass: impl FnMut(&[bytes::Bytes]) -> Result<()>) -> Result<Took> {
    let (mut took, mut done) = (Took::default(), 0);
    pool.rewind()?;
    while done < total {
        let (batches, bytes) = pool.pass(total - done);
        let (cpu, from) = (engine::thread_cpu(), Instant::now());
        pass(batches)?;
        took.wall += from.elapsed();
        took.cpu += engine::thread_cpu().saturating_sub(cpu);
        done += bytes;
        pool.restamp()?;
    }
    Ok(took)
}
