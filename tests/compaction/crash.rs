//! A power cut, a torn one and a kill before every operation of two rounds: the newest value of every key is there, and
//! so is every producer's window; and the log can be compacted again.

use std::sync::{Arc, Mutex};

use oncelog::storage::{Image, MemoryStorage};
use oncelog::{EndTxn, LogConfig, Outcome};

use crate::world::{End, RETENTION, Table, World, of, small, txn};

fn config() -> LogConfig {
    LogConfig { segment_bytes: 300, ..small() }
}

/// What has been acknowledged when an image was taken.
#[derive(Clone, Default)]
struct Known {
    table: Table,
    sequences: Vec<(i64, i32, i64)>,
    watched: bool,
}

/// Makes a round of which images are taken.
fn compact(world: &World, known: &Mutex<Known>) {
    known.lock().unwrap().watched = true;
    world.compact();
    known.lock().unwrap().watched = false;
}

fn work(world: &World, known: &Mutex<Known>) {
    let mut producers = Vec::new();
    for round in 0..2 {
        for n in 0..6 {
            let sequence = round * 6 + n;
            let offset = world.add(of(1, sequence, &format!("k{}", n % 2), &format!("{round}/{n}")));
            producers.push((1, sequence, offset));
            world.add(txn(2, sequence, &format!("t{}", n % 2), Some(&format!("{round}/{n}"))));
            world.end(2, if n % 3 == 2 { EndTxn::Abort } else { EndTxn::Commit });
            if n == 4 {
                world.remove("k1");
            }
        }
        world.fill(&format!("end-{round}"));
        *known.lock().unwrap() = Known { table: world.table(), sequences: producers.clone(), watched: false };
        compact(world, known);
        world.advance(RETENTION);
        world.put("one more", "1");
        *known.lock().unwrap() = Known { table: world.table(), sequences: producers.clone(), watched: false };
    }
    world.fill("last");
    *known.lock().unwrap() = Known { table: world.table(), sequences: producers, watched: false };
    compact(world, known);
}

fn images() -> Vec<(Known, Image)> {
    let taken: Arc<Mutex<Vec<(Known, Image)>>> = Arc::default();
    let known: Arc<Mutex<Known>> = Arc::default();
    let memory = MemoryStorage::new();
    let world = World::on(memory, config());
    let (keep, knows) = (Arc::clone(&taken), Arc::clone(&known));
    let mut seed = 1_u64;
    let seeds = Mutex::new(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 63 == 1
    });
    world.memory.on_operation(move |_, disk| {
        let known = knows.lock().unwrap().clone();
        if !known.watched {
            return;
        }
        let mut taken = keep.lock().unwrap();
        taken.push((known.clone(), disk.power_cut()));
        taken.push((known.clone(), disk.kill()));
        for _ in 0..2 {
            let mut next = seeds.lock().unwrap();
            taken.push((known.clone(), disk.power_cut_with(|_| next())));
        }
    });
    work(&world, &known);
    world.memory.forget_observer();
    std::mem::take(&mut *taken.lock().unwrap())
}

/// Consumers end with what they ended with before, apart from what was written since.
fn check(world: &World, known: &Known) {
    let mut table = world.table();
    table.retain(|key, _| !key.starts_with(b"again"));
    assert_eq!(table, known.table);
    let newest = known.sequences.last().map_or(-1, |(_, sequence, _)| *sequence);
    for (producer, sequence, offset) in known.sequences.iter().rev().take(5) {
        let batch = of(*producer, *sequence, "retried", "retried");
        let answer = world.append(batch).unwrap();
        assert!(
            matches!(answer.outcome, Outcome::Duplicate | Outcome::DuplicateBeyondWindow),
            "{producer} {sequence} of {newest}: {:?}",
            answer.outcome
        );
        if answer.outcome == Outcome::Duplicate {
            assert_eq!(answer.base_offset.map(|at| at.0), Some(*offset));
        }
    }
}

#[test]
fn before_every_operation_of_a_round_a_crash_leaves_the_old_records_or_the_new_ones() {
    let images = images();
    assert!(images.len() > 400, "{}", images.len());
    let mut finished = 0;
    for (number, (known, image)) in images.iter().enumerate() {
        let (mut world, report) = World::opened(MemoryStorage::from_image(image), config());
        assert_eq!(report.rejected, [], "image {number}");
        finished += usize::from(report.notes.iter().any(|note| note.contains("compaction")));
        check(&world, known);
        for unfinished in [".cleaned", ".swap", ".deleted"] {
            assert_eq!(world.names(unfinished), Vec::<String>::new(), "image {number}");
        }
        let report = world.restart(End::PowerCut);
        assert_eq!(report.rejected, [], "image {number}, opened again");
        assert_eq!(report.notes, Vec::<String>::new(), "image {number}, opened again");
        check(&world, known);
        if number % 7 == 0 {
            world.fill("again");
            world.log().compact().unwrap();
            check(&world, known);
            world.restart(End::Kill);
            check(&world, known);
        }
    }
    assert!(finished > 50 && finished < images.len() / 2, "{finished} of {}", images.len());
}

#[test]
fn a_kill_in_the_middle_of_a_recovery_that_finishes_a_round_is_survived_too() {
    let mut tried = 0;
    for (known, image) in images().into_iter().step_by(11) {
        let memory = MemoryStorage::from_image(&image);
        let inner: Arc<Mutex<Vec<Image>>> = Arc::default();
        let keep = Arc::clone(&inner);
        memory.on_operation(move |_, disk| {
            let mut kept = keep.lock().unwrap();
            let mut nth = kept.len();
            kept.push(disk.power_cut_with(|_| {
                nth = nth.wrapping_mul(31).wrapping_add(7);
                !nth.is_multiple_of(3)
            }));
        });
        let world = World::on(memory, config());
        world.memory.forget_observer();
        drop(world);
        for image in std::mem::take(&mut *inner.lock().unwrap()).iter().step_by(3) {
            check(&World::on(MemoryStorage::from_image(image), config()), &known);
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
}
