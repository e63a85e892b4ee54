//! `recover`: a log is opened that has nothing but its segments and the word on how much of them is durable, so that
//! its producers are put together from all batch headers; beside a walk over the same headers.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use oncelog::checkpoint::{ManifestState, read_manifest, write_manifest};
use oncelog::format::names::FileName;
use oncelog::storage::{OsStorage, Storage};

use super::{Bench, Case, batch, millis, producers, record, rounds, total};
use crate::bench::batches::Pool;
use crate::bench::report::{Row, Target};
use crate::bench::rounds::Sample;
use crate::bench::{engine, raw};

pub(super) const CASE: Case = Case {
    name: "recover",
    what: "a log without runs is opened from batch headers alone; limit: pread of the same headers",
    settings: &[batch(16 << 10), record(1 << 10), producers(1000), total(2 << 30), rounds(7)],
    run,
};

/// A log that was not closed, and what is known of it.
struct Left {
    dir: PathBuf,
    bytes: u64,
    batches: u64,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let scratch = bench.scratch()?;
    bench.progress.set_message("filling a log");
    let dir = scratch.log_dir();
    let log = engine::open(&dir, engine::config())?;
    let total = bench.settings.value("total");
    engine::fill(&log, &mut Pool::new(bench.shape(), bench.producers())?, total)?;
    log.flush()?;
    drop(log);
    let batches = total.div_ceil(bench.settings.value("batch"));
    let mut left = Left { dir, bytes: batches * bench.settings.value("batch"), batches };
    let mut hop = |left: &mut Left| left.hop();
    let mut open = |left: &mut Left| left.recover();
    let mut figures = bench.interleaved(&mut left, &mut [&mut hop, &mut open])?.into_iter();
    scratch.remove()?;
    let mut next = || Sample::new(figures.next().unwrap_or_default());
    let (hop, open) = (next(), next());
    Ok(vec![Row::ratio("time", "ms", ("pread of headers", hop), open).must_be(Target::AtMost(1.5))])
}

impl Left {
    fn hop(&self) -> Result<f64> {
        let mut segments: Vec<_> = names(&self.dir)?.into_iter().filter(|name| is_segment(name)).collect();
        segments.sort_unstable();
        let from = Instant::now();
        let mut batches = 0;
        for segment in &segments {
            batches += raw::hop(&self.dir.join(segment))?;
        }
        let took = from.elapsed();
        ensure!(batches == self.batches, "{batches} headers were met, {} were written", self.batches);
        Ok(millis(took))
    }

    fn recover(&self) -> Result<f64> {
        forget_runs(&self.dir)?;
        let from = Instant::now();
        let (log, report) = oncelog::Log::open(&self.dir, engine::config())?;
        let took = from.elapsed();
        drop(log);
        ensure!(
            report.replayed_batches == self.batches && report.unverified_bytes == self.bytes,
            "this was no rebuild from {} headers:\n{report}",
            self.batches
        );
        Ok(millis(took))
    }
}

/// Takes all runs away, from the manifest and from the disk, as if no checkpoint had ever been made.
fn forget_runs(dir: &Path) -> Result<()> {
    let storage = OsStorage::new();
    let mut manifest = match read_manifest(&storage, dir)? {
        ManifestState::Present(manifest) => manifest,
        other => bail!("no manifest to change: {other:?}"),
    };
    manifest.sequence += 1;
    manifest.chain.clear();
    manifest.previous_chain.clear();
    write_manifest(&storage, dir, &manifest)?;
    for name in names(dir)? {
        if matches!(FileName::parse(&name), FileName::Run(_)) {
            storage.unlink(&dir.join(&name)).with_context(|| name)?;
        }
    }
    Ok(storage.sync_dir(dir)?)
}

fn names(dir: &Path) -> Result<Vec<String>> {
    Ok(OsStorage::new().list(dir)?.into_iter().map(|entry| entry.name).collect())
}

fn is_segment(name: &str) -> bool {
    name.strip_suffix(".log").is_some_and(|stem| stem.bytes().all(|letter| letter.is_ascii_digit()))
}
