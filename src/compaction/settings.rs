//! What of a log goes, and when compaction runs.

/// What happens to old records. Kafka: `cleanup.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Cleanup {
    /// Whole segments go, by age and size ([`crate::Retention`]).
    #[default]
    Delete,
    /// Of the records with one key the newest stays, for good; nothing goes by age or size.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl Cleanup {
    /// Whether records go that a later one with the same key replaces. Records without a key are refused then.
    #[must_use]
    pub fn compacts(self) -> bool {
        self != Self::Delete
    }

    /// Whether segments go by age and size.
    #[must_use]
    pub fn deletes(self) -> bool {
        self != Self::Compact
    }
}

/// When compaction runs and what it spares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionConfig {
    /// A segment with a record younger than this is left alone, in milliseconds. Kafka: `min.compaction.lag.ms`.
    /// Default 0.
    pub min_lag_ms: u64,
    /// A record older than this is compacted however little there is to do, in milliseconds. Kafka:
    /// `max.compaction.lag.ms`. Default: never by age alone.
    pub max_lag_ms: Option<u64>,
    /// The background compacts once so much of the log, by bytes, was never compacted. Kafka:
    /// `min.cleanable.dirty.ratio`. Default 0.5.
    pub min_dirty_ratio: f64,
    /// How long a tombstone, or a marker whose transaction is gone, can still be read after the round that saw it first,
    /// in milliseconds. Kafka: `delete.retention.ms`. Default 24 hours.
    pub delete_retention_ms: u64,
    /// Memory of one round's map of keys, in bytes; 24 a key. What does not fit is left to the next round. Kafka:
    /// `log.cleaner.dedupe.buffer.size`. Default 128 MiB.
    pub map_bytes: usize,
    /// How often the background looks whether there is something to do. Kafka: `log.cleaner.backoff.ms`. Default 15 s.
    pub check_ms: u64,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            min_lag_ms: 0,
            max_lag_ms: None,
            min_dirty_ratio: 0.5,
            delete_retention_ms: 24 * 3_600_000,
            map_bytes: 128 << 20,
            check_ms: 15_000,
        }
    }
}
