//! An operation that fails in a round: the round reports it, the log loses nothing, and after an open it goes on.

use oncelog::storage::{Fault, MemoryStorage, OperationKind};
use oncelog::{EndTxn, LogConfig, Outcome};

use crate::world::{End, World, of, small, txn};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn filled() -> World {
    let world = World::on(MemoryStorage::new(), LogConfig { segment_bytes: 300, ..small() });
    for n in 0..9 {
        world.add(of(1, n, &format!("k{}", n % 2), &n.to_string()));
        world.add(txn(2, n, "t", Some(&n.to_string())));
        world.end(2, if n % 3 == 2 { EndTxn::Abort } else { EndTxn::Commit });
    }
    world.fill("end");
    world
}

fn assert_windows(world: &World) {
    for n in 4..9 {
        let answer = world.append(of(1, n, &format!("k{}", n % 2), &n.to_string())).unwrap();
        assert_eq!((answer.outcome, answer.base_offset.unwrap().0), (Outcome::Duplicate, i64::from(n) * 3));
    }
}

/// Lets one operation of a round after the other fail; returns how many there are.
fn fail_each(fault: &Fault) -> u64 {
    let mut number = 1;
    loop {
        let mut world = filled();
        let table = world.table();
        world.memory.fail(fault.clone().nth(number));
        let answer = world.log().compact();
        let struck = world.memory.faults_struck() > 0;
        world.memory.clear_faults();
        if !struck {
            assert!(answer.unwrap().is_some());
            return number - 1;
        }
        assert_eq!(world.table(), table, "operation {number}: {answer:?}");
        world.restart(if number.is_multiple_of(2) { End::Kill } else { End::PowerCut });
        assert_eq!(world.table(), table, "operation {number}: {answer:?}");
        assert_windows(&world);
        world.log().compact().unwrap();
        assert_eq!(world.table(), table, "operation {number}: {answer:?}");
        assert_windows(&world);
        number += 1;
    }
}

#[test]
fn an_input_output_error_at_any_operation_of_a_round_loses_nothing() {
    let failed = fail_each(&Fault::on_any_mutation().with_errno(EIO));
    assert!(failed > 100, "{failed}");
    let torn = fail_each(&Fault::on(OperationKind::Write).with_errno(EIO).after_bytes(30));
    assert!(torn > 15, "{torn}");
}

#[test]
fn a_disk_that_is_full_at_any_operation_of_a_round_loses_nothing() {
    fail_each(&Fault::on_any_mutation().with_errno(ENOSPC));
    fail_each(&Fault::on_any_mutation().with_errno(ENOSPC).from_then_on());
}
