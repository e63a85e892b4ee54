//! What an embedder can choose for a root.
//!
//! Invariant: a [`LogDirConfig`] that passed `validate` needs no further check.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::report::LogDirProgress;
use crate::error::Error;
use crate::format::identity::RootIdentity;
use crate::format::names::PartitionName;
use crate::log::LogConfig;

/// Gives the settings of a partition that is found in the root.
pub type ConfigOf = Arc<dyn Fn(&PartitionName) -> LogConfig + Send + Sync>;

/// Told how far the opening of a root has come.
pub type OnLogDirProgress = Arc<dyn Fn(LogDirProgress) + Send + Sync>;

/// Settings of a root.
#[derive(Clone)]
pub struct LogDirConfig {
    /// Settings of the partitions that are found. Its `background` holds for the whole root: with
    /// [`crate::Background::Caller`] there are no threads at all, and [`crate::LogDir::maintain`] does the work.
    pub log: LogConfig,
    /// Settings of each partition that is found, in place of `log`. Their `background` is not looked at.
    pub config_of: Option<ConfigOf>,
    /// Partitions that are opened at a time. Kafka: `num.recovery.threads.per.data.dir`. Default: one for each processor, and
    /// at least 8, because a recovery of little is waiting for syncs. As many, and at least `sync_threads` if there are
    /// threads at all, are closed at a time.
    pub open_threads: usize,
    /// Bytes of log that may be under recovery at a time: a partition that may have to read more waits, unless it is alone.
    /// Default 1 GiB.
    pub recovery_bytes: u64,
    /// Syncs that the background runs at a time. Default 8.
    pub sync_threads: usize,
    /// Checkpoints that the background writes at a time. Default 2.
    pub checkpoint_threads: usize,
    /// Descriptors that open logs may use; above it the longest idle ones are closed down to their heads. Logs that the
    /// embedder holds are never closed, so it can be exceeded. Default: half of the soft limit of the process.
    pub descriptors: Option<usize>,
    /// A log that nobody has used for this long is closed down to its heads. Default 10 minutes.
    pub idle_after: Duration,
    /// How often recovery points and log start offsets are written. Kafka:
    /// `log.flush.offset.checkpoint.interval.ms`. Default 60 s.
    pub offsets_interval: Duration,
    /// How often high watermarks are written. Kafka: `replica.high.watermark.checkpoint.interval.ms`. Default 5 s.
    pub high_watermark_interval: Duration,
    /// Whose the root is: `meta.properties` is written if it is missing, and must agree if it is there. `None`: it is left
    /// alone.
    pub identity: Option<RootIdentity>,
    /// The broker epoch in the mark of a clean stop. Default -1: unknown.
    pub broker_epoch: i64,
    /// Told after each partition that was opened, on the thread that opened it. Must not block.
    pub progress: Option<OnLogDirProgress>,
}

impl Default for LogDirConfig {
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            config_of: None,
            open_threads: std::thread::available_parallelism().map_or(1, usize::from).max(8),
            recovery_bytes: 1 << 30,
            sync_threads: 8,
            checkpoint_threads: 2,
            descriptors: None,
            idle_after: Duration::from_secs(600),
            offsets_interval: Duration::from_secs(60),
            high_watermark_interval: Duration::from_secs(5),
            identity: None,
            broker_epoch: -1,
            progress: None,
        }
    }
}

impl fmt::Debug for LogDirConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogDirConfig")
            .field("log", &self.log)
            .field("open_threads", &self.open_threads)
            .field("descriptors", &self.descriptors)
            .finish_non_exhaustive()
    }
}

impl LogDirConfig {
    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] with the setting, its value and the accepted range.
    pub fn validate(&self) -> Result<(), Error> {
        self.log.validate()?;
        for (name, value) in [
            ("open_threads", self.open_threads),
            ("sync_threads", self.sync_threads),
            ("checkpoint_threads", self.checkpoint_threads),
        ] {
            if !(1..=1024).contains(&value) {
                return Err(Error::Misuse(format!("{name} is {value}; accepted is 1 to 1024")));
            }
        }
        match self.descriptors {
            Some(few @ ..16) => {
                Err(Error::Misuse(format!("descriptors is {few}; accepted is 16 to {}", usize::MAX)))
            }
            _ => Ok(()),
        }
    }
}
