//! [`Log`], the handle that an embedder holds.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::completion::{Appended, Completion};
use super::config::LogConfig;
use super::fetched::{Fetched, Isolation};
use super::open::{self, Environment, Locks};
use super::pool::Pool;
use super::queue::{Kind, Pending};
use super::shared::Shared;
use super::sync::Caller;
use super::validate;
use crate::error::Error;
use crate::format::batch::RawBatch;
use crate::producer::Entry;
use crate::recovery::RecoveryReport;
use crate::types::{Durability, Offset, Origin, ProducerId};

/// An append-only partition log that keeps its idempotent-producer state durable.
///
/// All methods take `&self` and may be called from many threads. Dropping a log without [`Log::close`] writes, syncs and
/// answers what was submitted, and leaves the rest as a crash of the process would: the next open recovers.
pub struct Log {
    pub(super) shared: Arc<Shared>,
    /// Its own threads, unless it shares those of a directory.
    pub(super) _pool: Option<Pool>,
    pub(super) locks: Locks,
}

impl Log {
    /// Opens the log in `dir`, which is created if it is missing, and recovers it if it was not closed.
    ///
    /// `dir` is a partition directory, `<topic>-<partition>`, under a root as Kafka lays it out; the root's `.lock`
    /// keeps a Kafka broker out. A directory that Kafka wrote is adopted.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if somebody has the directory or the root; [`Error::Corrupt`] if bytes that are known to be
    /// durable are damaged (nothing is changed then; see [`crate::Salvage`]); [`Error::Misuse`] for a setting out of
    /// range; [`Error::Io`] for what the system refuses.
    pub fn open(dir: impl AsRef<Path>, config: LogConfig) -> Result<(Self, RecoveryReport), Error> {
        Self::open_with(dir, config, Environment::default())
    }

    /// [`Self::open`] on another storage or clock, or with salvage or a progress callback.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_with(
        dir: impl AsRef<Path>,
        config: LogConfig,
        environment: Environment,
    ) -> Result<(Self, RecoveryReport), Error> {
        let opened = open::open(dir.as_ref(), config, environment, None)?;
        let log = Self { shared: opened.shared, _pool: opened.pool, locks: opened.locks };
        Ok((log, opened.report))
    }

    /// Appends a batch as the partition's leader and waits until it has the durability asked for.
    ///
    /// The batch is one record batch v2 as a producer sends it (base offset 0). The log gives it offsets and the leader
    /// epoch and keeps every other byte.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] with the rule: certainly not in the log. [`Error::Unavailable`]: certainly not in the log,
    /// try again. [`Error::Indeterminate`]: may be in the log; a retry after reopening tells. [`Error::Closed`].
    pub fn append(&self, batch: RawBatch, durability: Durability) -> Result<Appended, Error> {
        let (completion, _) = self.enter(batch, Origin::Client, durability)?;
        completion.wait()
    }

    /// Appends a batch without waiting for it. Waits for room if too many bytes are queued.
    ///
    /// Batches are judged in the order of their submits; no order of completions is promised. Small batches are written
    /// together: at the latest a millisecond later, sooner when there are enough of them or when one of their
    /// completions is waited for, polled or given a callback.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] if the batch is malformed, [`Error::Closed`]; what else can happen is in the completion.
    pub fn submit(&self, batch: RawBatch, durability: Durability) -> Result<Completion, Error> {
        self.submit_from(batch, Origin::Client, durability)
    }

    /// [`Self::submit`] for a batch that is not a client's.
    ///
    /// # Errors
    ///
    /// As [`Self::submit`].
    pub fn submit_from(
        &self,
        batch: RawBatch,
        origin: Origin,
        durability: Durability,
    ) -> Result<Completion, Error> {
        let (completion, pending) = self.enter(batch, origin, durability)?;
        self.shared.drive_later(pending);
        self.shared.ensure_sync(Caller::Leaves);
        Ok(completion)
    }

    fn enter(
        &self,
        batch: RawBatch,
        origin: Origin,
        durability: Durability,
    ) -> Result<(Completion, Pending), Error> {
        let batch = validate::validate(batch, origin, &self.shared.config, self.shared.clock.wall_ms())?;
        self.shared.enqueue(batch, Kind::from(origin), durability)
    }

    /// [`Self::submit`] that answers `None` (busy) instead of waiting for room.
    ///
    /// # Errors
    ///
    /// As [`Self::submit`].
    pub fn try_submit(&self, batch: RawBatch, durability: Durability) -> Result<Option<Completion>, Error> {
        let origin = Origin::Client;
        let batch = validate::validate(batch, origin, &self.shared.config, self.shared.clock.wall_ms())?;
        let Some((completion, pending)) = self.shared.try_enqueue(batch, Kind::from(origin), durability)?
        else {
            return Ok(None);
        };
        self.shared.drive_later(pending);
        self.shared.ensure_sync(Caller::Leaves);
        Ok(Some(completion))
    }

    /// Batches from the one that holds `from`: whole ones, at most `max_bytes`, but at least one if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`]; [`Error::Corrupt`] if the batch cannot be found because its segment is damaged.
    pub fn fetch(&self, from: Offset, max_bytes: usize, isolation: Isolation) -> Result<Fetched, Error> {
        let fetched = self.shared.fetch(from, max_bytes, isolation);
        // Behind it: a segment is opened when it is first read, by a name that may be another log's as soon as this one has
        // let go of its directory.
        self.shared.still_here()?;
        fetched
    }

    /// Offset and timestamp of the first record at or after `timestamp` (milliseconds) that `isolation` shows.
    ///
    /// # Errors
    ///
    /// As [`Self::fetch`].
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<Option<(Offset, i64)>, Error> {
        let found = self.shared.offset_for_timestamp(timestamp, isolation);
        // As in `fetch`.
        self.shared.still_here()?;
        found
    }

    /// What the log knows of a producer.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the run that holds it is damaged and not rebuilt yet.
    pub fn producer(&self, id: ProducerId) -> Result<Option<Entry>, Error> {
        self.shared.producer(id)
    }

    /// The greatest producer id that the log knows, from memory alone.
    ///
    /// For a root whose file of producer ids was lost: it takes as long as there are producers that wrote since the last
    /// checkpoint, and appends wait for it.
    #[must_use]
    pub fn highest_producer_id(&self) -> Option<ProducerId> {
        let tail = self.shared.lock_tail();
        let in_runs = tail.chain.runs().iter().filter_map(|run| run.header().producers);
        in_runs.map(|(_, greatest)| greatest).chain(tail.producers.greatest()).max()
    }

    /// First readable offset.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.shared.log_start_offset()
    }

    /// The offset that the next record gets. What lies below may not be durable yet.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.shared.log_end_offset()
    }

    /// The end (exclusive) of what is durable and shown to readers by default.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.shared.high_watermark()
    }

    /// Makes everything that was submitted before it durable and returns the end of it.
    ///
    /// # Errors
    ///
    /// [`Error::Indeterminate`] if the sync fails; the log is read-only then.
    pub fn flush(&self) -> Result<Offset, Error> {
        self.shared.write_submitted();
        self.shared.flush_written()?;
        Ok(self.shared.durable_offset())
    }

    /// Makes a checkpoint now: a recovery will read only what is appended after it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be written: the state before is kept and the checkpoint is tried again later.
    pub fn checkpoint(&self) -> Result<(), Error> {
        self.shared.write_submitted();
        // What a roll has frozen reaches only up to that roll: then a second one holds the rest.
        let frozen_at_a_roll = self.shared.lock_tail().frozen_at.is_some();
        self.shared.checkpoint()?;
        if frozen_at_a_roll { self.shared.checkpoint() } else { Ok(()) }
    }

    /// Does the background work that is due, for [`crate::Background::Caller`].
    ///
    /// # Errors
    ///
    /// The first that occurs; calling again tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        self.shared.show_gauges();
        self.shared.maintain()
    }

    /// Makes everything durable, writes the producer state and leaves the clean-close mark.
    ///
    /// The next open then reads no batch. Submits that are under way are written first; new ones are refused.
    ///
    /// # Errors
    ///
    /// What stopped it; the directory is then as after a crash and the next open recovers it.
    pub fn close(self) -> Result<(), Error> {
        self.shared.close_cleanly()?;
        tracing::debug!(dir = %self.shared.dir.display(), "closed cleanly");
        self.shared.leave_background();
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.leave_background();
        self.shared.answer_everybody();
        if self.locks.are_its_own() {
            self.shared.generation.leave_readers();
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.shared.dir)
            .field("log_start_offset", &self.log_start_offset())
            .field("high_watermark", &self.high_watermark())
            .field("log_end_offset", &self.log_end_offset())
            .finish_non_exhaustive()
    }
}
