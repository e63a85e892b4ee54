//! The maps: entries that stay where they are, and one frozen map at a time.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::{ProducerMap, ProducerTable};
use super::*;

fn entry(epoch: i16) -> Entry {
    Entry::new(ProducerEpoch(epoch), SEEN)
}

#[test]
fn an_empty_map_knows_nobody() {
    let map = ProducerMap::new();
    assert!(map.is_empty());
    assert_eq!((map.len(), map.get(PRODUCER), map.sorted()), (0, None, Vec::new()));
}

#[test]
fn entries_do_not_move_while_the_map_grows() {
    let mut map = ProducerMap::new();
    map.insert(PRODUCER, entry(1));
    let before = std::ptr::from_ref(map.get(PRODUCER).expect("inserted"));
    for id in 1_000..21_000 {
        map.insert(ProducerId(id), entry(2));
    }
    let after = map.get(PRODUCER).expect("still there");
    assert!(std::ptr::eq(before, after));
    assert_eq!((after, map.len()), (&entry(1), 20_001));
    assert_eq!(map.get(ProducerId(20_999)), Some(&entry(2)));
    assert_eq!(map.iter().count(), 20_001);
}

#[test]
fn a_freeze_hands_out_what_was_written_and_starts_anew() {
    let mut table = ProducerTable::new();
    assert!(table.freeze().is_none(), "there is nothing to freeze");
    table.insert(PRODUCER, entry(1));
    assert_eq!(table.dirty(), 1);
    let frozen = table.freeze().expect("one producer");
    assert_eq!(frozen.sorted(), [(PRODUCER, &entry(1))]);
    assert_eq!((table.dirty(), table.get(PRODUCER)), (0, Some(&entry(1))));
    table.insert(PRODUCER, entry(2));
    assert_eq!(table.get(PRODUCER), Some(&entry(2)), "the active map hides the frozen one");
    assert_eq!(frozen.get(PRODUCER), Some(&entry(1)));
}

#[test]
fn a_table_that_starts_with_a_replayed_map_counts_it_as_dirty() {
    let mut map = ProducerMap::new();
    map.insert(PRODUCER, entry(1));
    let table = ProducerTable::starting_with(map);
    assert_eq!((table.dirty(), table.get(PRODUCER)), (1, Some(&entry(1))));
    assert!(table.frozen().is_none());
}

#[test]
fn there_is_one_frozen_map_at_a_time_and_a_failed_checkpoint_finds_it_again() {
    let mut table = ProducerTable::new();
    table.insert(PRODUCER, entry(1));
    let frozen = table.freeze().expect("one producer");
    table.insert(PRODUCER, entry(2));
    assert!(table.freeze().is_none());
    assert!(table.frozen().is_some_and(|again| std::sync::Arc::ptr_eq(again, &frozen)));
    let dropped = table.frozen_is_written();
    assert!(dropped.iter().all(Option::is_none), "the first written map is kept for look-ups");
    assert!(table.frozen().is_none());
    assert_eq!(table.get(PRODUCER), Some(&entry(2)));
    assert!(table.freeze().is_some());
}

#[test]
fn what_a_checkpoint_has_written_is_kept_for_look_ups_until_the_next_one() {
    let mut table = ProducerTable::new();
    let other = ProducerId(PRODUCER.0 + 1);
    table.insert(PRODUCER, entry(1));
    table.insert(other, entry(7));
    let first = table.freeze().expect("two producers");
    table.insert(PRODUCER, entry(2));
    assert!(table.frozen_is_written().iter().all(Option::is_none));
    assert_eq!((table.get(PRODUCER), table.get(other)), (Some(&entry(2)), Some(&entry(7))));
    assert_eq!(table.dirty(), 1, "what is written is not dirty");
    table.freeze().expect("one producer");
    assert_eq!((table.get(PRODUCER), table.get(other)), (Some(&entry(2)), Some(&entry(7))));
    let [dropped, large] = table.frozen_is_written();
    assert!(dropped.is_some_and(|dropped| std::sync::Arc::ptr_eq(&dropped, &first)) && large.is_none());
    assert_eq!(
        (table.get(PRODUCER), table.get(other)),
        (Some(&entry(2)), None),
        "the rest is asked of the runs"
    );
}

#[test]
fn a_large_map_is_not_kept_behind_its_checkpoint() {
    let mut table = ProducerTable::new();
    for id in 0..=1 << 16 {
        table.insert(ProducerId(id), entry(1));
    }
    assert!(table.freeze().is_some());
    let [before, large] = table.frozen_is_written();
    assert!(before.is_none() && large.is_some_and(|map| map.len() == (1 << 16) + 1));
    assert_eq!(table.get(ProducerId(0)), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_map_answers_like_a_plain_one(
        inserted in prop::collection::vec((0..3_000_i64, any::<i16>()), 0..4_000)
    ) {
        let mut map = ProducerMap::new();
        let mut model = HashMap::new();
        for (id, epoch) in inserted {
            map.insert(ProducerId(id), entry(epoch));
            model.insert(id, entry(epoch));
        }
        prop_assert_eq!(map.len(), model.len());
        for id in 0..3_000 {
            prop_assert_eq!(map.get(ProducerId(id)), model.get(&id));
        }
        let mut expected: Vec<_> = model.iter().map(|(id, entry)| (ProducerId(*id), entry)).collect();
        expected.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(map.sorted(), expected);
    }
}
