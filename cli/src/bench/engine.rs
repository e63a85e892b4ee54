//! The log as the cases use it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use oncelog::{Durability, Log, LogConfig, RawBatch};

use super::batches::Pool;

/// Segments as in the comparison with other engines.
pub(super) const SEGMENT: u32 = 256 << 20;

/// The log's defaults with segments of [`SEGMENT`] bytes.
pub(super) fn config() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT, ..LogConfig::default() }
}

pub(super) fn open(dir: &Path, config: LogConfig) -> Result<Log> {
    let (log, _report) =
        Log::open(dir, config).with_context(|| format!("{} cannot be opened", dir.display()))?;
    Ok(log)
}

/// Appends one batch after another and answers how long that took.
pub(super) fn append_all(log: &Log, batches: &[Bytes], durability: Durability) -> Result<Duration> {
    let from = Instant::now();
    for batch in batches {
        log.append(RawBatch(batch.clone()), durability)?;
    }
    Ok(from.elapsed())
}

/// Fills a log with `total` bytes of the pool's batches, untimed.
pub(super) fn fill(log: &Log, pool: &mut Pool, total: u64) -> Result<()> {
    let mut done = 0;
    while done < total {
        let (batches, bytes) = pool.pass(total - done);
        append_all(log, batches, Durability::Buffered)?;
        done += bytes;
        pool.restamp()?;
    }
    Ok(())
}

/// CPU time of the calling thread, which hardly moves when the machine is busy.
pub(super) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
