//! What a log tells a recorder, and that `docs/METRICS.md` lists exactly that.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use oncelog::storage::{ManualClock, MemoryStorage};
use oncelog::{
    Background, BatchBuilder, Cleanup, Durability, Environment, Log, LogConfig, Offset, ProducerEpoch,
    ProducerId, RawBatch, Sequence,
};

const HOUR_MS: u64 = 3_600_000;

struct World {
    snapshotter: Snapshotter,
    recorder: DebuggingRecorder,
    memory: MemoryStorage,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        let recorder = DebuggingRecorder::new();
        Self {
            snapshotter: recorder.snapshotter(),
            recorder,
            memory: MemoryStorage::new(),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        }
    }

    fn open(&self) -> Log {
        self.open_with(Cleanup::Delete)
    }

    fn open_with(&self, cleanup: Cleanup) -> Log {
        let config = LogConfig {
            cleanup,
            segment_bytes: 800,
            preallocate_bytes: 0,
            producer_expiry_ms: 2 * HOUR_MS,
            background: Background::Caller,
            ..LogConfig::default()
        };
        let environment = Environment {
            storage: Arc::new(self.memory.clone()),
            clock: Arc::<ManualClock>::clone(&self.clock),
            ..Environment::default()
        };
        metrics::with_local_recorder(&self.recorder, || {
            Log::open_with("/logs/orders-0", config, environment).unwrap().0
        })
    }

    /// Everything reported since the last call, by name and, where there is one, rule.
    fn told(&self) -> BTreeMap<String, DebugValue> {
        let reported = self.snapshotter.snapshot().into_vec();
        let named = reported.into_iter().map(|(key, _, _, value)| {
            let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
            assert!(labels.contains(&("partition", "orders-0")), "{labels:?}");
            let rule = labels.iter().find(|(name, _)| *name == "rule");
            let name = key.key().name();
            (rule.map_or_else(|| name.to_owned(), |(_, rule)| format!("{name}/{rule}")), value)
        });
        named.collect()
    }
}

fn batch(producer: i64, epoch: i16, first: i32) -> RawBatch {
    let sequence = Sequence::new(first).unwrap();
    let builder = BatchBuilder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    RawBatch(builder.record(None, Some(b"value")).build().unwrap())
}

fn count(told: &BTreeMap<String, DebugValue>, name: &str) -> u64 {
    match told.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name}: {other:?}"),
    }
}

fn samples(told: &BTreeMap<String, DebugValue>, name: &str) -> Vec<f64> {
    match told.get(name) {
        Some(DebugValue::Histogram(samples)) => samples.iter().map(|sample| sample.0).collect(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_page_lists_every_metric_and_no_other() {
    let page = include_str!("../docs/METRICS.md");
    let listed: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    let world = World::new();
    let log = world.open();
    let told: BTreeSet<_> =
        world.told().into_keys().map(|name| name.split('/').next().unwrap().to_owned()).collect();
    assert_eq!(told, listed);
    drop(log);
}

#[test]
fn appends_duplicates_and_rejections_are_counted_by_what_they_were_answered() {
    let world = World::new();
    let log = world.open();
    let append = |batch| drop(log.append(batch, Durability::Durable));
    for sequence in 0..7 {
        append(batch(1, 0, sequence));
    }
    append(batch(1, 0, 6));
    append(batch(1, 0, 5));
    append(batch(1, 0, 0));
    append(batch(1, 0, 9));
    append(batch(2, 0, 4));
    append(batch(3, 5, 0));
    append(batch(3, 4, 0));
    let told = world.told();
    assert_eq!(count(&told, "oncelog_appended_batches_total"), 8);
    let bytes = batch(1, 0, 0).0.len() as u64;
    assert_eq!(count(&told, "oncelog_appended_bytes_total"), 8 * bytes);
    assert_eq!(count(&told, "oncelog_duplicates_total"), 2);
    assert_eq!(count(&told, "oncelog_duplicates_beyond_window_total"), 1);
    for (rule, expected) in [
        ("out-of-order", 1),
        ("unknown-producer", 1),
        ("fenced", 1),
        ("overlap", 0),
        ("aborted-retry", 0),
        ("sequence-unknown", 0),
        ("transaction-state", 0),
        ("other", 0),
    ] {
        assert_eq!(count(&told, &format!("oncelog_rejected_total/{rule}")), expected, "{rule}");
    }
    assert_eq!(samples(&told, "oncelog_write_batches"), [1.0; 8]);
    assert_eq!(samples(&told, "oncelog_sync_seconds").len(), 8);
}

#[test]
fn checkpoints_rolls_expiry_and_deletion_are_counted() {
    let world = World::new();
    let log = world.open();
    for sequence in 0..20 {
        log.append(batch(1, 0, sequence), Durability::Buffered).unwrap();
        log.maintain().unwrap();
    }
    log.checkpoint().unwrap();
    world.clock.advance(Duration::from_millis(3 * HOUR_MS));
    // What the last checkpoint has written is still in memory at the next one, and falls out of the one after it.
    for sequence in 0..2 {
        log.append(batch(2, 0, sequence), Durability::Buffered).unwrap();
        log.checkpoint().unwrap();
    }
    log.delete_records_before(Offset(22)).unwrap();
    world.clock.advance(Duration::from_secs(90));
    log.maintain().unwrap();
    let told = world.told();
    assert!(count(&told, "oncelog_rolls_total") > 1);
    assert_eq!(count(&told, "oncelog_expired_producers_total"), 1);
    assert_eq!(count(&told, "oncelog_deleted_segments_total"), count(&told, "oncelog_rolls_total"));
    assert!(samples(&told, "oncelog_checkpoint_seconds").len() > 2);
    assert_eq!(told.get("oncelog_checkpoint_age_seconds"), Some(&DebugValue::Gauge(90.0.into())));
    assert_eq!(told.get("oncelog_open_transactions"), Some(&DebugValue::Gauge(0.0.into())));
}

#[test]
fn a_round_of_compaction_tells_how_long_it_took_and_what_it_freed() {
    let world = World::new();
    let log = world.open_with(Cleanup::Compact);
    for _ in 0..20 {
        let batch = BatchBuilder::new().record(Some(b"key"), Some(&[7; 60])).build().unwrap();
        log.append(RawBatch(batch), Durability::Durable).unwrap();
    }
    let done = log.compact().unwrap().unwrap();
    assert_eq!(log.compact().unwrap(), None);
    let told = world.told();
    assert_eq!(samples(&told, "oncelog_compaction_seconds"), [0.0], "by a clock that stands still");
    let freed = done.bytes_before - done.bytes_after;
    assert!(freed > 1000, "{done:?}");
    assert_eq!(count(&told, "oncelog_compaction_freed_bytes_total"), freed);
}

#[test]
fn a_recovery_tells_what_it_read_and_cut() {
    let mut world = World::new();
    let log = world.open();
    log.append(batch(1, 0, 0), Durability::Buffered).unwrap();
    world.memory = MemoryStorage::from_image(&world.memory.kill());
    drop(log);
    let _before = world.told();
    let log = world.open();
    let told = world.told();
    assert_eq!(count(&told, "oncelog_recovery_scanned_bytes_total"), batch(1, 0, 0).0.len() as u64);
    assert_eq!(count(&told, "oncelog_recovery_cut_bytes_total"), 0);
    assert_eq!(samples(&told, "oncelog_recovery_seconds").len(), 1);
    drop(log);
}
