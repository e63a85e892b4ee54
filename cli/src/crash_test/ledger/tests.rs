use super::*;

fn spec(producer: i64, epoch: i16, first: i32, count: u8) -> Spec {
    Spec { producer, epoch, first, count, kind: Kind::Plain }
}

fn ledger(stored: &[Spec]) -> Ledger {
    let mut ledger = Ledger::new(3, [1, 2]);
    for spec in stored {
        let base = ledger.end;
        ledger.store(base, *spec);
    }
    ledger.producers.values_mut().for_each(Producer::resume);
    ledger
}

fn attempt(spec: Spec, expected: Expected) -> Attempt {
    Attempt { spec, lane: 0, durability: Durability::Buffered, expected, answer: None }
}

#[test]
fn a_stored_batch_moves_the_end_by_its_records_and_belongs_to_its_producer() {
    let ledger = ledger(&[spec(1, 0, 0, 3), spec(2, 0, 0, 1)]);
    assert_eq!((ledger.start, ledger.end, ledger.log.len()), (0, 4, 2));
    let newest = ledger.producers[&2].newest().unwrap();
    assert_eq!((newest.base, newest.spec), (3, spec(2, 0, 0, 1)));
    assert_eq!((ledger.producers[&1].epoch, ledger.producers[&1].next), (0, 3));
}

#[test]
fn the_window_is_the_last_five_batches_of_the_newest_epoch_newest_first() {
    let mut stored: Vec<Spec> = (0..4).map(|first| spec(1, 0, first, 1)).collect();
    stored.extend((0..3).map(|first| spec(1, 1, first, 1)));
    let epoch_1 = ledger(&stored);
    let firsts = |ledger: &Ledger| -> Vec<(i16, i32)> {
        ledger.producers[&1].window().map(|stored| (stored.spec.epoch, stored.spec.first)).collect()
    };
    assert_eq!(firsts(&epoch_1), [(1, 2), (1, 1), (1, 0)]);
    let epoch_0 = ledger(&(0..7).map(|first| spec(1, 0, first, 1)).collect::<Vec<_>>());
    assert_eq!(firsts(&epoch_0), [(0, 6), (0, 5), (0, 4), (0, 3), (0, 2)]);
}

#[test]
fn sending_a_new_batch_moves_what_is_next_and_a_question_does_not() {
    let mut ledger = ledger(&[spec(1, 0, 0, 3)]);
    ledger.announce(attempt(spec(1, 0, 9, 1), Expected::OutOfOrder(Some(3))));
    assert_eq!(ledger.producers[&1].next, 3);
    ledger.announce(attempt(spec(1, 0, 3, 2), Expected::Appended));
    assert_eq!(ledger.producers[&1].next, 5);
    ledger.announce(attempt(spec(1, 1, 0, 4), Expected::Appended));
    let producer = &ledger.producers[&1];
    assert_eq!((producer.epoch, producer.next, &producer.sent[..]), (1, 4, &[spec(1, 1, 0, 4)][..]));
}

#[test]
fn an_attempt_is_found_by_the_number_that_the_child_gave_it() {
    let mut ledger = ledger(&[]);
    let own = ledger.announce(attempt(spec(1, 0, 0, 1), Expected::Appended));
    ledger.announce_as(7, attempt(spec(1, 0, 1, 1), Expected::Appended));
    assert_eq!(ledger.attempt_mut(own).unwrap().spec.first, 0);
    assert_eq!(ledger.attempt_mut(7).unwrap().spec.first, 1);
    assert_eq!(ledger.attempt_mut(6), None);
    assert_eq!(ledger.next_id(), 8);
    ledger.forget_attempts();
    assert_eq!(ledger.attempt_mut(7), None);
    assert_eq!(ledger.next_id(), 8, "no number is used twice");
}

#[test]
fn what_another_program_cut_off_is_out_of_the_log_and_remembered_as_cut() {
    let mut ledger = ledger(&[spec(1, 0, 0, 3), spec(2, 0, 0, 1), spec(1, 0, 3, 2)]);
    ledger.cut(3);
    assert_eq!((ledger.end, ledger.log.len()), (3, 1));
    assert_eq!(ledger.cut_away, [spec(2, 0, 0, 1), spec(1, 0, 3, 2)]);
    assert!(ledger.producers[&2].stored.is_empty());
    ledger.cut(3);
    assert_eq!(ledger.cut_away.len(), 2, "there is nothing behind the end");
}

#[test]
fn a_removed_prefix_is_no_longer_read_but_its_producers_are_still_known() {
    let mut ledger = ledger(&[spec(1, 0, 0, 3), spec(2, 0, 0, 1)]);
    ledger.remove_prefix(3);
    assert_eq!((ledger.start, ledger.end, ledger.log.len()), (3, 4, 1));
    assert_eq!(ledger.producers[&1].window().count(), 1);
}

#[test]
fn a_blurred_producer_is_certain_of_its_newest_batch_only() {
    let mut ledger = ledger(&[spec(1, 0, 0, 3), spec(1, 0, 3, 1), spec(1, 0, 4, 1)]);
    ledger.blur();
    let blurred: Vec<bool> = ledger.producers[&1].window().map(|stored| stored.blurred).collect();
    assert_eq!(blurred, [false, true, true]);
}

#[test]
fn a_producer_that_began_near_the_wrap_and_lost_its_batches_needs_leniency() {
    let mut producer = Producer::beginning_at(i32::MAX - 1);
    assert!(producer.needs_leniency());
    producer.send(spec(9, 0, i32::MAX - 1, 4));
    assert_eq!(producer.next, 2);
    producer.resume();
    assert_eq!(producer.next, i32::MAX - 1, "nothing of it is stored");
    producer.store(Stored { base: 0, spec: spec(9, 0, i32::MAX - 1, 4), blurred: false, aborted: false });
    producer.resume();
    assert!(!producer.needs_leniency());
    assert_eq!(producer.next, 2);
}
