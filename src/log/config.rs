//! What an embedder can choose, with the ranges that are accepted.
//!
//! Invariant: a [`LogConfig`] that passed [`LogConfig::validate`] needs no further check below the facade.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::compaction::{Cleanup, CompactionConfig};
use crate::error::Error;
use crate::format::batch::TimestampType;
use crate::producer::UnknownProducerPolicy;
use crate::retention::Retention;
use crate::types::LeaderEpoch;

/// Who does the work that no caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Background {
    /// Two threads of the log: one syncs, drains and makes segments ahead, one writes checkpoints.
    #[default]
    Threads,
    /// Nobody but the callers: appends do what they must, [`crate::Log::maintain`] does the rest. For tests that need
    /// every operation in a fixed order, and for embedders with a scheduler of their own.
    Caller,
}

/// Up to where readers see the log by default, and what may not be truncated without loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HighWatermark {
    /// Up to the durable end of this log.
    #[default]
    Durable,
    /// Up to where the embedder says that the log is replicated ([`crate::Log::set_high_watermark`]). No base of
    /// producer state ends above it, so that a truncation above it always finds one.
    External,
}

/// Settings of one log. Sizes are bytes, times are milliseconds unless the type says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// A segment is rolled before it grows beyond this. Kafka: `segment.bytes`. Default 1 GiB.
    pub segment_bytes: u32,
    /// A segment is rolled when its first batch is this much older than the incoming one. Kafka: `segment.ms`. 7 days.
    pub segment_ms: i64,
    /// Bytes of log between two index entries. Kafka: `index.interval.bytes`. Default 4096.
    pub index_interval_bytes: u32,
    /// Size at which an index is full and its segment rolled. Kafka: `segment.index.bytes`. Default 10 MiB.
    pub segment_index_bytes: u32,
    /// Largest accepted batch. Kafka: `max.message.bytes`. Default 1 MiB + 12.
    pub max_batch_bytes: u32,
    /// Whose timestamps are kept. Kafka: `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// How far a record may lie in the past. Kafka: `message.timestamp.before.max.ms`. Default: no limit.
    pub timestamp_before_max_ms: Option<u64>,
    /// How far a record may lie in the future. Kafka: `message.timestamp.after.max.ms`. Default 1 hour (KIP-1030).
    pub timestamp_after_max_ms: Option<u64>,
    /// Epoch stamped into appended batches. Default: the newest in the log, or 0.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What an unknown producer may start with.
    pub unknown_producer: UnknownProducerPolicy,
    /// Whether the first batch of a transaction needs a [`crate::VerificationGuard`]. Kafka:
    /// `transaction.partition.verification.enable`. Default: yes.
    pub verify_transactions: bool,
    /// A producer not seen for this long, in time the engine lived through, may be forgotten. Kafka:
    /// `producer.id.expiration.ms`. Default 24 hours.
    pub producer_expiry_ms: u64,
    /// A checkpoint is due after this much log. Default 64 MiB. Bounds what a recovery reads.
    pub checkpoint_bytes: u64,
    /// A checkpoint is due after this many producers have changed. Default 100 000. Bounds memory.
    pub checkpoint_producers: usize,
    /// Up to this many producers a checkpoint writes all of them. Default 65 536.
    pub whole_base_producers: u64,
    /// More deltas than this are merged into one. Default 8.
    pub max_deltas: usize,
    /// Up to this many producers a roll writes a `.snapshot` for Kafka and its tools; a clean close always does.
    pub snapshot_producers: u64,
    /// Blocks reserved for the next segment when it is made ahead; never counted in its length. Default 16 MiB.
    pub preallocate_bytes: u64,
    /// Buffered appends are synced in the background after this much log. Default 64 MiB.
    pub background_sync_bytes: u64,
    /// Buffered appends are synced in the background after this time. Default 1 second.
    pub background_sync_after: Duration,
    /// Bytes of batches that may wait to be written; then `submit` waits. Default 64 MiB.
    pub queue_bytes: usize,
    /// How long and how much is kept. Default: everything.
    pub retention: Retention,
    /// Whether old records go with their segments, or as soon as a later one has their key. Default: with their segments.
    pub cleanup: Cleanup,
    /// When compaction runs and what it spares.
    pub compaction: CompactionConfig,
    /// How often the background looks at the retention. Kafka: `log.retention.check.interval.ms`. Default 5 minutes.
    pub retention_check_ms: u64,
    /// How long the files of deleted segments stay under `.deleted` names. Kafka: `file.delete.delay.ms`. 1 minute.
    pub delete_delay_ms: u64,
    /// Who says what the high watermark is.
    pub high_watermark: HighWatermark,
    /// Who does the background work.
    pub background: Background,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            max_batch_bytes: (1 << 20) + 12,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: Some(3_600_000),
            leader_epoch: None,
            unknown_producer: UnknownProducerPolicy::Reject,
            verify_transactions: true,
            producer_expiry_ms: 24 * 3_600_000,
            checkpoint_bytes: 64 << 20,
            checkpoint_producers: 100_000,
            whole_base_producers: 65_536,
            max_deltas: 8,
            snapshot_producers: 100_000,
            preallocate_bytes: 16 << 20,
            background_sync_bytes: 64 << 20,
            background_sync_after: Duration::from_secs(1),
            queue_bytes: 64 << 20,
            retention: Retention::default(),
            cleanup: Cleanup::Delete,
            compaction: CompactionConfig::default(),
            retention_check_ms: 300_000,
            delete_delay_ms: 60_000,
            high_watermark: HighWatermark::Durable,
            background: Background::Threads,
        }
    }
}

impl LogConfig {
    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] with the setting, its value and the accepted range.
    pub fn validate(&self) -> Result<(), Error> {
        in_range("segment_bytes", u64::from(self.segment_bytes), 128..=0x7fff_ffff)?;
        in_range("segment_ms", self.segment_ms, 1..=i64::MAX)?;
        in_range("index_interval_bytes", u64::from(self.index_interval_bytes), 0..=0x7fff_ffff)?;
        in_range("segment_index_bytes", u64::from(self.segment_index_bytes), 24..=0x7fff_ffff)?;
        in_range("max_batch_bytes", u64::from(self.max_batch_bytes), 61..=0x7fff_ffff)?;
        in_range("producer_expiry_ms", self.producer_expiry_ms, 1..=u64::MAX)?;
        in_range("checkpoint_bytes", self.checkpoint_bytes, 1..=u64::MAX)?;
        in_range("checkpoint_producers", self.checkpoint_producers as u64, 1..=u64::MAX)?;
        in_range("background_sync_bytes", self.background_sync_bytes, 1..=u64::MAX)?;
        in_range("compaction.min_dirty_ratio", self.compaction.min_dirty_ratio, 0.0..=1.0)?;
        in_range("compaction.map_bytes", self.compaction.map_bytes as u64, 1024..=1 << 40)?;
        in_range("compaction.check_ms", self.compaction.check_ms, 1..=u64::MAX)?;
        if let Some(most) = self.compaction.max_lag_ms {
            in_range("compaction.max_lag_ms", most, self.compaction.min_lag_ms.max(1)..=u64::MAX)?;
        }
        in_range("retention_check_ms", self.retention_check_ms, 1..=u64::MAX)?;
        in_range("delete_delay_ms", self.delete_delay_ms, 0..=1 << 40)?;
        in_range("queue_bytes", self.queue_bytes as u64, 1..=1 << 40)
    }
}

fn in_range<T: PartialOrd + Display>(name: &str, value: T, accepted: RangeInclusive<T>) -> Result<(), Error> {
    if accepted.contains(&value) {
        return Ok(());
    }
    let (least, most) = (accepted.start(), accepted.end());
    Err(Error::Misuse(format!("{name} is {value}; accepted is {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_accepted() {
        assert_eq!(LogConfig::default().validate().map_err(|e| e.to_string()), Ok(()));
    }

    #[test]
    fn a_setting_outside_of_its_range_is_refused_with_the_range() {
        let config = LogConfig { segment_bytes: 5, ..LogConfig::default() };
        let message = config.validate().unwrap_err().to_string();
        assert_eq!(message, "misuse: segment_bytes is 5; accepted is 128 to 2147483647");
    }
}
