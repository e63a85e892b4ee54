//! A write that fails leaves transactions as they were.

use oncelog::storage::{Fault, OperationKind};
use oncelog::{Durability, EndTxn, Error, LogConfig, RawBatch};

use crate::naive::check;
use crate::world::{World, end, small, txn};

fn fail_next_write(world: &World) {
    world.memory.fail(Fault::on(OperationKind::Write).named(".log"));
}

#[test]
fn a_marker_that_could_not_be_written_ended_nothing() {
    for outcome in [EndTxn::Commit, EndTxn::Abort] {
        let world = World::new();
        world.add(txn(1, 0, 0, 2));
        let before = world.log().producer(oncelog::ProducerId(1)).unwrap();
        fail_next_write(&world);
        let failed = world.log().end_transaction(end(1, 0, outcome), Durability::Durable);
        assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
        assert_eq!(world.log().producer(oncelog::ProducerId(1)).unwrap(), before);
        assert_eq!((world.open_txns(), world.stable()), (vec![(1, 0)], 0));
        check(&world);
        assert_eq!(world.end(1, 0, outcome), 2);
        check(&world);
    }
}

#[test]
fn a_batch_that_could_not_be_written_began_nothing_and_did_not_use_its_guard_up() {
    let world = World::with(LogConfig { verify_transactions: true, ..small() });
    let zero = oncelog::Sequence::new(0).unwrap();
    let guard = world.log().begin_verification(oncelog::ProducerId(1), oncelog::ProducerEpoch(0), zero);
    fail_next_write(&world);
    let append = || world.log().append_verified(RawBatch(txn(1, 0, 0, 2)), guard, Durability::Durable);
    let failed = append();
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    assert_eq!((world.open_txns(), world.log().first_unstable_offset()), (vec![], None));
    append().unwrap();
    check(&world);
}

#[test]
fn a_checkpoint_that_cannot_write_the_aborted_transactions_is_not_made_and_is_tried_again() {
    let mut world = World::new();
    world.add(txn(1, 0, 0, 2));
    world.end(1, 0, EndTxn::Abort);
    world.memory.fail(Fault::on(OperationKind::Write).named(".txnindex"));
    let failed = world.log().checkpoint().unwrap_err();
    assert!(failed.to_string().contains(".txnindex"), "{failed}");
    assert_eq!(world.names(".run"), [] as [String; 0]);
    world.log().checkpoint().unwrap();
    assert_eq!(world.file("00000000000000000000.txnindex").map(|bytes| bytes.len()), Some(34));
    world.restart(crate::world::End::PowerCut);
    check(&world);
}
