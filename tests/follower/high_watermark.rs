//! A high watermark that the embedder sets (UnifiedLogTest).

use oncelog::format::run::RunKind;
use oncelog::{Durability, Error, HighWatermark, Isolation, LogConfig, RawBatch};

use crate::world::{World, of, offset, path, small};

fn external() -> World {
    World::with(LogConfig { high_watermark: HighWatermark::External, ..small() })
}

fn fill(world: &World, numbers: std::ops::Range<i32>) {
    for number in numbers {
        world.add(of(1 + i64::from(number % 3), number / 3 * 2, 2));
        world.log().maintain().unwrap();
    }
}

fn set(world: &World, to: i64) -> i64 {
    let set = world.log().set_high_watermark(offset(to)).unwrap();
    assert_eq!(world.log().high_watermark(), set);
    set.0
}

/// Offsets that a reader sees from `from` on.
fn seen(world: &World, from: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut next = offset(from);
    loop {
        let fetched = world.log().fetch(next, 300, Isolation::HighWatermark).unwrap();
        assert_eq!(fetched.high_watermark(), world.log().high_watermark());
        let records = fetched.records().unwrap();
        let Some(last) = records.last() else { return seen };
        next = last.offset.saturating_add(1);
        seen.extend(records.iter().map(|record| record.offset.0));
    }
}

/// Kafka: `UnifiedLogTest.testHighWatermarkMaintenance`, `testMaybeUpdateHighWatermarkAsFollower`.
#[test]
fn it_rises_to_what_is_set_never_above_the_log_end_and_never_back() {
    let world = external();
    assert_eq!(set(&world, 10), 0);
    fill(&world, 0..20);
    assert_eq!(world.log().high_watermark(), offset(0), "appends do not move it, durable as they are");
    assert_eq!(set(&world, 6), 6);
    assert_eq!(set(&world, 4), 6);
    assert_eq!(set(&world, 100), 40);
}

/// Kafka: `UnifiedLogTest.testFetchUpToHighWatermark`, `testHighWatermarkMetadataUpdatedAfterSegmentRoll`.
#[test]
fn readers_see_whole_batches_below_it_in_whatever_segment_it_lies() {
    let world = external();
    fill(&world, 0..30);
    assert!(world.segments().len() >= 3);
    assert_eq!(seen(&world, 0), [0; 0]);
    for to in [2, 7, 16, 32, 33, 60] {
        set(&world, to);
        assert_eq!(seen(&world, 0), (0..to / 2 * 2).collect::<Vec<_>>(), "to {to}");
    }
    fill(&world, 30..40);
    assert_eq!(seen(&world, 50), (50..60).collect::<Vec<_>>());
}

#[test]
fn it_follows_a_truncation_below_it() {
    let world = external();
    fill(&world, 0..20);
    set(&world, 30);
    world.log().truncate_to(offset(34)).unwrap();
    assert_eq!(world.log().high_watermark(), offset(30));
    world.log().truncate_to(offset(20)).unwrap();
    assert_eq!(world.log().high_watermark(), offset(20));
    assert_eq!(seen(&world, 0).len(), 20);
    world.log().truncate_fully_and_start_at(offset(90)).unwrap();
    assert_eq!(world.log().high_watermark(), offset(90));
}

/// What is appended behind the cut stands in the segment before: there the high watermark must be a place too.
#[test]
fn a_cut_that_takes_the_segment_it_lies_at_the_beginning_of_leaves_it_where_it_is() {
    let mut world = external();
    fill(&world, 0..20);
    let base = world.segments()[1];
    // Room in the segment before.
    world.config.segment_bytes = 1 << 20;
    world.reopen();
    set(&world, base);
    world.log().truncate_to(offset(base)).unwrap();
    assert_eq!(world.log().high_watermark(), offset(base));
    assert!(!world.segments().contains(&base));
    world.add(of(9, 0, 2));
    assert_eq!(seen(&world, 0), (0..base).collect::<Vec<_>>());
    assert_eq!(seen(&world, base), [0; 0]);
    set(&world, base + 2);
    assert_eq!(seen(&world, base), [base, base + 1]);
}

/// The rule by which a truncation above the high watermark always finds producer state.
#[test]
fn no_base_ends_above_it_so_that_a_log_without_its_beginning_can_be_cut_there() {
    let mut world = external();
    world.log().truncate_fully_and_start_at(offset(100)).unwrap();
    for round in 0..12 {
        fill(&world, round * 3..round * 3 + 3);
        world.log().checkpoint().unwrap();
        if round % 4 == 3 {
            // Only a part is replicated.
            set(&world, 100 + i64::from(round) * 4);
        }
        let high_watermark = world.log().high_watermark();
        let disk = world.disk.kill();
        let manifest =
            oncelog::format::manifest::Manifest::decode(&disk.read(&path("oncelog.manifest")).unwrap());
        for run in manifest.unwrap().chain {
            let bytes = disk.read(&path(&oncelog::format::names::run_name(run.number))).unwrap();
            let length = oncelog::format::run::RunHeader::peek_len(&bytes, 1 << 20).unwrap();
            let (header, _) = oncelog::format::run::RunHeader::decode(&bytes[..length]).unwrap();
            assert!(
                header.kind == RunKind::Delta || header.to.offset <= high_watermark,
                "round {round}: {header:?}"
            );
        }
    }
    let cut = world.log().high_watermark();
    assert!(cut.0 > 100);
    world.log().truncate_to(cut).unwrap();
    world.kill();
    world.open().unwrap();
    assert_eq!(world.log().log_end_offset(), cut);
}

#[test]
fn a_first_checkpoint_above_it_survives_a_restart() {
    let mut world = external();
    fill(&world, 0..9);
    world.log().checkpoint().unwrap();
    world.kill();
    let report = world.open().unwrap();
    assert_eq!(report.chain.unwrap().runs.len(), 2, "a base without entries and a delta");
    assert_eq!(report.replayed_batches, 0);
    let retry = world.append(of(3, 4, 2)).unwrap();
    assert_eq!(retry.base_offset, Some(offset(16)));
    assert_eq!(world.log().high_watermark(), offset(0), "the embedder has to say it again");
}

#[test]
fn a_log_that_takes_its_durable_end_is_not_told_another() {
    let world = World::new();
    world.log().append(RawBatch(of(1, 0, 1)), Durability::Durable).unwrap();
    assert!(matches!(world.log().set_high_watermark(offset(0)), Err(Error::Misuse(_))));
    assert_eq!(world.log().high_watermark(), offset(1));
}
