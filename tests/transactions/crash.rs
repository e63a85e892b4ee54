//! A power cut and a kill before every single operation: what is open, what was aborted and what is shown is what the
//! batches that are left say.

use std::sync::{Arc, Mutex};

use oncelog::storage::{Image, MemoryStorage};
use oncelog::{EndTxn, LogConfig};

use crate::naive::check;
use crate::world::{End, World, idempotent, plain, small, txn};

fn config() -> LogConfig {
    LogConfig { whole_base_producers: 3, max_deltas: 2, ..small() }
}

/// Three producers in overlapping transactions, over several segments and checkpoints, one of them open for long.
fn work(world: &mut World) {
    world.add(txn(9, 0, 0, 1));
    for round in 0..6_i32 {
        world.add(txn(1, 0, round, 1));
        world.add(txn(2, 0, round, 1));
        world.add(idempotent(3, 0, round, 1));
        world.end(2, 0, if round % 2 == 0 { EndTxn::Abort } else { EndTxn::Commit });
        world.add(plain("between"));
        if round % 2 == 1 {
            world.log().checkpoint().unwrap();
        }
        world.end(1, 0, if round % 3 == 0 { EndTxn::Commit } else { EndTxn::Abort });
        if round == 3 {
            world.restart(End::Close);
            world.end(9, 0, EndTxn::Abort);
        }
    }
    world.close();
}

/// Images of the disk before each operation of the workload, as a power cut, a kill and a torn power cut leave it.
fn images() -> Vec<(u64, Image)> {
    let taken: Arc<Mutex<Vec<(u64, Image)>>> = Arc::default();
    let memory = MemoryStorage::new();
    let keep = Arc::clone(&taken);
    memory.on_operation(move |_, disk| {
        let mut taken = keep.lock().unwrap();
        let number = taken.len() as u64;
        taken.push((number, disk.power_cut()));
        taken.push((number, disk.kill()));
        // Some of what is not synced, another part each time.
        let mut nth = number;
        taken.push((
            number,
            disk.power_cut_with(|_| {
                nth = nth.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                nth >> 63 == 1
            }),
        ));
    });
    let mut world = World::on(memory, config());
    work(&mut world);
    world.memory.forget_observer();
    std::mem::take(&mut *taken.lock().unwrap())
}

#[test]
fn before_every_operation_a_crash_leaves_transactions_as_the_log_has_them() {
    let images = images();
    assert!(images.len() > 400, "{}", images.len());
    let mut with_open = 0;
    for (number, image) in images {
        let mut world = World::on(MemoryStorage::from_image(&image), config());
        check(&world);
        with_open += usize::from(!world.open_txns().is_empty());
        // What the first recovery wrote must do for a second one, without a checkpoint and with one.
        world.restart(End::Kill);
        check(&world);
        if number % 3 == 0 {
            for (producer, _) in world.open_txns() {
                world.end(producer, 0, EndTxn::Abort);
            }
            check(&world);
            world.log().checkpoint().unwrap();
            world.restart(End::PowerCut);
            check(&world);
        }
    }
    assert!(with_open > 100, "{with_open}");
}
