//! `dedup`: what the producers' state costs: appends of many producers beside appends without any.

use std::time::Duration;

use anyhow::Result;
use oncelog::Durability;

use super::{Bench, Case, batch, millis, producers, record, rounds, total};
use crate::bench::batches::{Pool, Producers};
use crate::bench::engine;
use crate::bench::report::{Row, Target};
use crate::bench::rounds::Sample;

pub(super) const CASE: Case = Case {
    name: "dedup",
    what: "one thread appends, Buffered, with producers; limit: the log itself without producers",
    settings: &[batch(1 << 10), record(1 << 10), producers(1000), total(128 << 20), rounds(9)],
    run,
};

struct Pools {
    without: Pool,
    with: Pool,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut pools = Pools {
        without: Pool::new(bench.shape(), Producers { first: 1, count: 0 })?,
        with: Pool::new(bench.shape(), bench.producers())?,
    };
    let mut limit = |pools: &mut Pools| append(bench, &mut pools.without);
    let mut engine = |pools: &mut Pools| append(bench, &mut pools.with);
    let mut figures = bench.interleaved(&mut pools, &mut [&mut limit, &mut engine])?.into_iter();
    let mut next = || Sample::new(figures.next().unwrap_or_default());
    let (without, with) = (next(), next());
    Ok(vec![Row::ratio("time", "ms", ("no producers", without), with).must_be(Target::AtMost(1.1))])
}

fn append(bench: &Bench, pool: &mut Pool) -> Result<f64> {
    let scratch = bench.scratch()?;
    let log = engine::open(&scratch.log_dir(), engine::config())?;
    let total = bench.settings.value("total");
    let (mut took, mut done) = (Duration::ZERO, 0);
    pool.rewind()?;
    while done < total {
        let (batches, bytes) = pool.pass(total - done);
        took += engine::append_all(&log, batches, Durability::Buffered)?;
        done += bytes;
        pool.restamp()?;
    }
    drop(log);
    scratch.remove()?;
    Ok(millis(took))
}
