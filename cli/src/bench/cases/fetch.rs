//! `fetch`: sequential fetches of 1 MiB, beside positional reads of the same ranges.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use oncelog::storage::File;
use oncelog::{Isolation, Log, Offset};

use super::{Bench, Case, batch, producers, record, rounds, throughput, total};
use crate::bench::batches::Pool;
use crate::bench::report::{Row, Target};
use crate::bench::rounds::Sample;
use crate::bench::settings::Setting;
use crate::bench::{engine, raw};

pub(super) const CASE: Case = Case {
    name: "fetch",
    what: "fetches from the first to the last batch; limit: pread of the same ranges",
    settings: &[
        batch(16 << 10),
        record(1 << 10),
        producers(1000),
        total(1 << 30),
        Setting::new("max", "most bytes of a fetch", 1 << 20, 1 << 10..=64 << 20),
        Setting::new("lookups", "single batches that are fetched at random offsets", 50_000, 1..=100_000_000),
        rounds(5),
    ],
    run,
};

/// A log that is filled, and what the fetches found where.
struct Filled {
    log: Log,
    records: i64,
    batch: u64,
    max: usize,
    ranges: Vec<(Arc<dyn File>, Range<u64>)>,
    buffer: Vec<u8>,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let scratch = bench.scratch()?;
    bench.progress.set_message("filling a log");
    let log = engine::open(&scratch.log_dir(), engine::config())?;
    let total = bench.settings.value("total");
    engine::fill(&log, &mut Pool::new(bench.shape(), bench.producers())?, total)?;
    log.flush()?;
    let mut filled = Filled {
        log,
        records: i64::try_from(bench.shape().records())?,
        batch: bench.settings.value("batch"),
        max: bench.settings.count("max"),
        ranges: Vec::new(),
        buffer: Vec::with_capacity(bench.settings.count("max").max(bench.shape().batch)),
    };
    filled.find_ranges()?;
    let lookups = bench.settings.value("lookups");
    let mut read_ranges = |filled: &mut Filled| filled.read_ranges();
    let mut fetch_into = |filled: &mut Filled| filled.sweep(Keep::Buffer);
    let mut fetch_bytes = |filled: &mut Filled| filled.sweep(Keep::Bytes);
    let mut read_points = |filled: &mut Filled| filled.points(lookups, Filled::read_point);
    let mut fetch_points = |filled: &mut Filled| filled.points(lookups, Filled::fetch_point);
    let figures = bench.interleaved(
        &mut filled,
        &mut [&mut read_ranges, &mut fetch_into, &mut fetch_bytes, &mut read_points, &mut fetch_points],
    )?;
    drop(filled);
    scratch.remove()?;
    let of = |contender: usize| Sample::new(figures.get(contender).cloned().unwrap_or_default());
    let sequential = |engine| Row::ratio("throughput", "MB/s", ("pread", of(0)), engine);
    Ok(vec![
        sequential(of(1)).must_be(Target::AtLeast(0.8)),
        sequential(of(2)).of("as Bytes"),
        Row::ratio("rate", "batches/s", ("pread", of(3)), of(4)).of("random batches"),
    ])
}

/// Where a sweep puts what it read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Into one buffer, used again and again.
    Buffer,
    /// Into fresh memory.
    Bytes,
}

impl Filled {
    fn find_ranges(&mut self) -> Result<()> {
        let mut at = Offset::ZERO;
        while at < self.log.log_end_offset() {
            let fetched = self.log.fetch(at, self.max, Isolation::HighWatermark)?;
            let (file, range) = fetched.file_range();
            ensure!(!range.is_empty(), "nothing is durable at offset {at}");
            at = at.saturating_add(self.records_in(range.end - range.start)?);
            self.ranges.push((Arc::clone(file), range));
        }
        Ok(())
    }

    fn records_in(&self, bytes: u64) -> Result<i64> {
        Ok(i64::try_from(bytes / self.batch)? * self.records)
    }

    fn read_ranges(&mut self) -> Result<f64> {
        let mut bytes = 0;
        self.buffer.resize(self.buffer.capacity(), 0);
        let from = Instant::now();
        for (file, range) in &self.ranges {
            let length = usize::try_from(range.end - range.start)?;
            let descriptor = file.descriptor().context("a file without descriptor")?;
            raw::read(
                descriptor,
                self.buffer.get_mut(..length).context("a range beyond the buffer")?,
                range.start,
            )?;
            bytes += range.end - range.start;
        }
        Ok(throughput(bytes, from.elapsed()))
    }

    fn sweep(&mut self, keep: Keep) -> Result<f64> {
        let (mut at, mut bytes) = (Offset::ZERO, 0);
        let end = self.log.high_watermark();
        let from = Instant::now();
        while at < end {
            let fetched = self.log.fetch(at, self.max, Isolation::HighWatermark)?;
            let read = match keep {
                Keep::Buffer => {
                    self.buffer.clear();
                    fetched.read_into(&mut self.buffer)?;
                    self.buffer.len()
                }
                Keep::Bytes => fetched.bytes()?.len(),
            } as u64;
            at = at.saturating_add(self.records_in(read)?);
            bytes += read;
        }
        Ok(throughput(bytes, from.elapsed()))
    }

    /// Batches a second, read one by one at random places.
    fn points(&mut self, lookups: u64, mut read: impl FnMut(&mut Self, u64) -> Result<()>) -> Result<f64> {
        let mut random = fastrand::Rng::with_seed(4);
        let batches = u64::try_from(self.log.high_watermark().0)? / u64::try_from(self.records)?;
        let from = Instant::now();
        for _ in 0..lookups {
            read(self, random.u64(..batches.max(1)))?;
        }
        Ok(lookups as f64 / from.elapsed().as_secs_f64())
    }

    fn read_point(&mut self, batch: u64) -> Result<()> {
        // All ranges but a segment's last are as long as the first.
        let each = self.ranges.first().map_or(1, |(_, range)| range.end - range.start);
        let at = batch * self.batch;
        let (file, range) = usize::try_from(at / each)
            .ok()
            .and_then(|index| self.ranges.get(index))
            .or(self.ranges.last())
            .context("an empty log")?;
        let at = range.start + (at % each).min(range.end - range.start - self.batch);
        self.buffer.resize(usize::try_from(self.batch)?, 0);
        raw::read(file.descriptor().context("a file without descriptor")?, &mut self.buffer, at)
    }

    fn fetch_point(&mut self, batch: u64) -> Result<()> {
        let record = i64::try_from(batch)? * self.records;
        let most = usize::try_from(self.batch)?;
        self.buffer.clear();
        Ok(self.log.fetch(Offset(record), most, Isolation::HighWatermark)?.read_into(&mut self.buffer)?)
    }
}
