//! Offsets that the leader's log leaves out, and what must not be taken for them.

use bytes::{Bytes, BytesMut};
use oncelog::storage::{MemoryStorage, Pending, Storage};
use oncelog::{Durability, Error, Outcome, RawBatch, Rejection};

use crate::world::{World, batches, of, offset};

/// `batch` as a leader stores it at `base`.
fn stored(batch: &Bytes, base: i64) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes[12..16].copy_from_slice(&0_i32.to_be_bytes());
    bytes.freeze()
}

fn follow(world: &World, bytes: Bytes, durability: Durability) {
    world.log().append_as_follower(RawBatch(bytes), durability).unwrap();
}

fn content(world: &World) -> Vec<Bytes> {
    batches(world.log()).into_iter().map(|batch| batch.bytes).collect()
}

/// A log with gaps, three batches of it durable, and behind them buffered ones up into a second segment. Answers them all.
fn rolled_with_a_buffered_tail(gap_at_roll: i64) -> (World, Vec<Bytes>) {
    let world = World::new();
    let mut known = Vec::new();
    for (sequence, base) in (0..).zip([0, 4, 9]) {
        known.push(stored(&of(1, sequence, 1), base));
        follow(&world, known[known.len() - 1].clone(), Durability::Durable);
        world.log().maintain().unwrap();
    }
    let mut base = 10;
    for sequence in 3.. {
        let batch = stored(&of(1, sequence, 1), base);
        let before = world.segments();
        let end = world.disk.kill().read(&crate::world::path("00000000000000000000.log")).unwrap().len();
        if end + batch.len() > 800 {
            base += gap_at_roll;
        }
        known.push(stored(&of(1, sequence, 1), base));
        follow(&world, known[known.len() - 1].clone(), Durability::Buffered);
        base += 1;
        if before.len() == 1 && world.segments().len() == 2 {
            break;
        }
    }
    assert_eq!(world.log().high_watermark(), offset(10));
    (world, known)
}

/// The leader of a compacted log leaves offsets out, so that a lost end of a segment behind which the next one begins is
/// no contradiction of offsets. A follower that kept it so would never ask for what it lost.
#[test]
fn what_a_power_cut_takes_from_the_end_of_a_segment_is_not_taken_for_a_gap_of_the_leader() {
    for gap in [0, 7] {
        for with_bytes in [false, true] {
            let (mut world, known) = rolled_with_a_buffered_tail(gap);
            let second = world.segments()[1];
            let second = format!("{second:020}.log");
            let image = world.disk.power_cut_with(|pending| match pending {
                Pending::Name { .. } => true,
                Pending::Sector { path, .. } | Pending::Length { path, .. } => {
                    with_bytes && path.ends_with(&second)
                }
            });
            world.log = None;
            world.disk = MemoryStorage::from_image(&image);
            let report = world.open().unwrap();
            assert_eq!(content(&world), known[..3], "gap {gap}, with bytes: {with_bytes}");
            assert_eq!(world.end(), 10);
            assert_eq!(report.cuts.len(), 1, "{report:?}");
            for batch in &known[3..] {
                follow(&world, batch.clone(), Durability::Durable);
                world.log().maintain().unwrap();
            }
            world.kill();
            world.open().unwrap();
            assert_eq!(content(&world), known);
        }
    }
}

/// The same bytes after the death of the process alone: nothing is lost.
#[test]
fn a_gap_of_the_leader_at_a_roll_survives_the_death_of_the_process() {
    for gap in [0, 7, i64::from(i32::MAX) * 2] {
        let (mut world, known) = rolled_with_a_buffered_tail(gap);
        world.kill();
        let report = world.open().unwrap();
        assert_eq!((content(&world), report.cuts), (known, vec![]), "gap {gap}");
    }
}

/// Found by reading: only the manifest knew that a gap is no loss, so without it all behind the first gap was cut away as a
/// torn tail.
#[test]
fn a_lost_manifest_costs_no_batch_behind_a_gap() {
    for checkpointed in [false, true] {
        let (mut world, known) = rolled_with_a_buffered_tail(7);
        if checkpointed {
            world.log().checkpoint().unwrap();
            let more = stored(&of(2, 0, 1), world.end() + 5);
            follow(&world, more, Durability::Durable);
        }
        let before = content(&world);
        assert!(before.starts_with(&known));
        let mut image = world.disk.kill();
        world.log = None;
        world.disk = MemoryStorage::from_image(&image);
        world.disk.unlink(&crate::world::path("oncelog.manifest")).unwrap();
        for _ in 0..2 {
            let report = world.open().unwrap();
            assert_eq!(
                (content(&world), report.cuts),
                (before.clone(), vec![]),
                "checkpointed: {checkpointed}"
            );
            let retry = world.append(of(1, i32::try_from(known.len()).unwrap() - 1, 1)).unwrap();
            assert_eq!(retry.outcome, Outcome::Duplicate);
            image = world.disk.kill();
            world.log = None;
            world.disk = MemoryStorage::from_image(&image);
        }
    }
}

/// A segment begins behind the end of the one before only where no index entry could express the gap.
#[test]
fn a_lost_manifest_costs_no_batch_behind_a_gap_that_has_begun_a_segment() {
    let mut world = World::new();
    let bases = [0, 1, i64::from(i32::MAX) * 2];
    let known: Vec<_> = (0..).zip(bases).map(|(sequence, base)| stored(&of(1, sequence, 1), base)).collect();
    known.iter().for_each(|batch| follow(&world, batch.clone(), Durability::Durable));
    assert_eq!(world.segments().len(), 2);
    world.kill();
    world.disk.unlink(&crate::world::path("oncelog.manifest")).unwrap();
    let report = world.open().unwrap();
    assert_eq!((content(&world), report.cuts), (known, vec![]));
}

/// Offset 9223372036854775807 is the end of the last log there can be. Found by asking for it: what was acknowledged
/// behind it had a header that no open took for one.
#[test]
fn no_batch_is_given_an_offset_that_no_header_can_hold() {
    let mut world = World::new();
    world.log().truncate_fully_and_start_at(offset(i64::MAX - 3)).unwrap();
    assert_eq!(world.add(of(1, 0, 2)), i64::MAX - 3);
    let refused = world.append(of(1, 2, 2)).unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejection::InvalidRecord(_))), "{refused:?}");
    assert_eq!(world.add(of(1, 2, 1)), i64::MAX - 1);
    let refused = world.append(of(1, 3, 1)).unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejection::InvalidRecord(_))), "{refused:?}");
    world.kill();
    world.open().unwrap();
    assert_eq!((world.end(), batches(world.log()).len()), (i64::MAX, 2));
    world.log().truncate_fully_and_start_at(offset(i64::MAX)).unwrap();
    assert!(matches!(world.append(of(1, 0, 1)), Err(Error::Rejected(Rejection::InvalidRecord(_)))));
    world.kill();
    world.open().unwrap();
    assert_eq!(world.end(), i64::MAX);
}
