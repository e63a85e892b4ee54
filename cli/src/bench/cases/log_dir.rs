//! `log-dir`: Durable appends to many partitions of one root, beside the system calls that they cannot do without.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use oncelog::{Durability, Environment, LogDir, LogDirConfig, PartitionName, RawBatch};
use rustix::fs::{Mode, OFlags};

use super::{Bench, Case, batch, record, rounds};
use crate::bench::batches::{Pool, Producers};
use crate::bench::engine;
use crate::bench::report::Row;
use crate::bench::rounds::Sample;
use crate::bench::settings::Setting;
use crate::bench::threads;

pub(super) const CASE: Case = Case {
    name: "log-dir",
    what: "Durable appends to many partitions of a root; limit: pwrite + fdatasync of as many files",
    settings: &[
        batch(1 << 10),
        record(1 << 10),
        Setting::new("partitions", "partitions of the root", 1000, 1..=100_000),
        Setting::new("threads", "threads; each has partitions of its own", 16, 1..=256),
        Setting::new("passes", "batches that each partition gets in a round", 2, 1..=1000),
        rounds(5),
    ],
    run,
};

fn run(bench: &Bench) -> Result<Vec<Row>> {
    // A producer's sequence is one partition's: here the batches name none.
    let nobody = Producers { first: 1, count: 0 };
    let mut pools = threads::pools(bench.shape(), nobody, bench.settings.count("threads"))?;
    let mut raw = |pools: &mut Vec<Pool>| with_files(bench, pools);
    let mut engine = |pools: &mut Vec<Pool>| with_root(bench, pools);
    let figures = bench.interleaved(&mut pools, &mut [&mut raw, &mut engine])?;
    let of = |contender: usize| Sample::new(figures.get(contender).cloned().unwrap_or_default());
    Ok(vec![Row::ratio("rate", "batches/s", ("pwrite + fdatasync", of(0)), of(1))])
}

/// Calls `append` for each pass, place and batch, by all threads at a time, and answers batches a second.
fn timed<T: Sync>(
    bench: &Bench,
    pools: &[Pool],
    places: &[T],
    append: impl Fn(&T, u64, &Bytes) -> Result<()> + Sync,
) -> Result<f64> {
    let passes = bench.settings.value("passes");
    let from = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = pools
            .iter()
            .enumerate()
            .map(|(worker, pool)| {
                let append = &append;
                scope.spawn(move || {
                    let mut batches = pool.batches.iter().cycle();
                    for pass in 0..passes {
                        for place in places.iter().skip(worker).step_by(pools.len()) {
                            let batch = batches.next().ok_or_else(|| anyhow!("an empty pool"))?;
                            append(place, pass, batch)?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(anyhow!("an appending thread panicked")))
        })
    })?;
    Ok((passes * places.len() as u64) as f64 / from.elapsed().as_secs_f64())
}

fn with_files(bench: &Bench, pools: &[Pool]) -> Result<f64> {
    let scratch = bench.scratch()?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let files = (0..bench.settings.value("partitions"))
        .map(|number| {
            let path = scratch.path().join(format!("{number:020}.log"));
            Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?)
        })
        .collect::<Result<Vec<OwnedFd>>>()?;
    let rate = timed(bench, pools, &files, |file, pass, batch| {
        rustix::io::pwrite(file, batch, pass * batch.len() as u64)?;
        Ok(rustix::fs::fdatasync(file)?)
    })?;
    drop(files);
    scratch.remove()?;
    Ok(rate)
}

/// A root with so many new partitions, all of which may be open.
pub(super) fn root(dir: &Path, partitions: u64) -> Result<(LogDir, Vec<PartitionName>)> {
    raise_descriptor_limit();
    let log = engine::config();
    let descriptors = Some(usize::try_from(partitions)?.saturating_mul(8).max(64));
    let config = LogDirConfig { log: log.clone(), descriptors, ..LogDirConfig::default() };
    let (root, _) = LogDir::open(dir, config, Environment::default())?;
    let names = (0..i32::try_from(partitions)?)
        .map(|number| Ok(PartitionName::new("bench", number)?))
        .collect::<Result<Vec<_>>>()?;
    for name in &names {
        root.create(name, log.clone())?;
    }
    Ok((root, names))
}

fn with_root(bench: &Bench, pools: &[Pool]) -> Result<f64> {
    let scratch = bench.scratch()?;
    let (root, names) = root(scratch.path(), bench.settings.value("partitions"))?;
    let partitions: Vec<_> = names.iter().filter_map(|name| root.get(name)).collect();
    let rate = timed(bench, pools, &partitions, |partition, _, batch| {
        partition.log()?.append(RawBatch(batch.clone()), Durability::Durable)?;
        Ok(())
    })?;
    drop(root);
    scratch.remove()?;
    Ok(rate)
}

/// As many descriptors as the system lets this process have.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // With a lower limit the root keeps fewer logs open: slower, and still a result.
    let _refused = setrlimit(Resource::Nofile, raised);
}
