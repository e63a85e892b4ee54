//! `compact`: one round of compaction over a log in which most records are replaced by later ones, beside a plain copy of
//! the same files of which as many bytes are written as stay.
//!
//! Both read from the page cache. A round reads everything twice (the newest offset of each key, then what stays), checks
//! every CRC, and writes most batches anew; the copy reads once and does none of that.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use oncelog::format::names::log_name;
use oncelog::{
    BatchBuilder, Cleanup, Compacted, CompactionConfig, Durability, Log, LogConfig, Offset, RawBatch,
};

use super::{Bench, Case, batch, record, rounds, throughput, total};
use crate::bench::report::Row;
use crate::bench::rounds::Sample;
use crate::bench::scratch::Scratch;
use crate::bench::settings::Setting;
use crate::bench::{engine, raw};

pub(super) const CASE: Case = Case {
    name: "compact",
    what: "a round of compaction, by the bytes it takes; limit: a copy of the files, synced, that writes what stays",
    settings: &[
        Setting::new("keys", "keys that the records share, at random", 100_000, 1..=100_000_000),
        batch(16 << 10),
        record(1 << 10),
        total(512 << 20),
        rounds(5),
    ],
    run,
};

/// Small enough for several groups of segments in a round.
const SEGMENT: u32 = 64 << 20;

/// One round's log, whose contents are the same in every round.
struct Load<'a> {
    bench: &'a Bench,
    /// The part of the bytes that stays, as the last compaction found.
    stays: (u64, u64),
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut load = Load { bench, stays: (1, 1) };
    // What stays is not known before the warm-up round has compacted.
    let mut copy = |load: &mut Load<'_>| load.copy();
    let mut compact = |load: &mut Load<'_>| load.compact();
    let mut figures = bench.interleaved(&mut load, &mut [&mut copy, &mut compact])?.into_iter();
    let mut next = || Sample::new(figures.next().unwrap_or_default());
    let (copy, compact) = (next(), next());
    let stays = Sample::new(vec![100.0 * load.stays.0 as f64 / load.stays.1 as f64]);
    Ok(vec![
        Row::ratio("throughput", "MB/s", ("read, write what stays", copy), compact),
        Row::alone("stays", "% of the bytes", stays),
    ])
}

impl Load<'_> {
    fn copy(&self) -> Result<f64> {
        let (scratch, log) = self.filled()?;
        let files = sealed(&log, &scratch.log_dir())?;
        let from = Instant::now();
        let mut bytes = 0;
        for (number, file) in files.iter().enumerate() {
            bytes += raw::copy(file, &scratch.path().join(format!("copy-{number}")), self.stays)?;
        }
        let took = from.elapsed();
        drop(log);
        scratch.remove()?;
        Ok(throughput(bytes, took))
    }

    fn compact(&mut self) -> Result<f64> {
        let (scratch, log) = self.filled()?;
        let from = Instant::now();
        let done = log.compact()?;
        let took = from.elapsed();
        drop(log);
        scratch.remove()?;
        let Some(Compacted { bytes_before, bytes_after, .. }) = done else { bail!("nothing was compacted") };
        self.stays = (bytes_after, bytes_before);
        Ok(throughput(bytes_before, took))
    }

    /// A log that has been made durable, with the checkpoints that a round asks for.
    fn filled(&self) -> Result<(Scratch, Log)> {
        let scratch = self.bench.scratch()?;
        let config = LogConfig {
            segment_bytes: SEGMENT,
            cleanup: Cleanup::Compact,
            // Rounds come when this case asks for them only.
            compaction: CompactionConfig { check_ms: u64::MAX, ..CompactionConfig::default() },
            ..engine::config()
        };
        let log = engine::open(&scratch.log_dir(), config)?;
        let settings = &self.bench.settings;
        let (keys, record) = (settings.value("keys"), settings.count("record"));
        let records = (settings.count("batch") / record).max(1);
        let mut random = fastrand::Rng::with_seed(7);
        let mut value = vec![0; record];
        let mut done = 0;
        while done < settings.value("total") {
            let mut builder = BatchBuilder::new();
            for _ in 0..records {
                random.fill(value.get_mut(..16).unwrap_or_default());
                builder = builder.record(Some(&random.u64(..keys).to_be_bytes()), Some(&value));
            }
            let batch = builder.build()?;
            done += batch.len() as u64;
            log.append(RawBatch(batch), Durability::Buffered)?;
        }
        log.flush()?;
        log.checkpoint()?;
        Ok((scratch, log))
    }
}

/// The files of the complete segments.
fn sealed(log: &Log, dir: &Path) -> Result<Vec<PathBuf>> {
    let bases: Vec<Offset> = log.sealed_segments().iter().map(|segment| segment.base_offset).collect();
    ensure!(!bases.is_empty(), "there is no complete segment: choose a greater total");
    Ok(bases.into_iter().map(|base| dir.join(log_name(base))).collect())
}
