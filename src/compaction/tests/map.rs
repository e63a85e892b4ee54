use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[test]
fn a_map_takes_nine_tenths_of_its_slots_and_then_only_keys_that_it_knows() {
    let mut map = OffsetMap::with_budget(100 * 24, u64::MAX);
    for key in 0..90_u32 {
        assert_eq!(map.put(&key.to_be_bytes(), Offset(i64::from(key))), Ok(()), "{key}");
    }
    assert_eq!(map.put(b"one more", Offset(1)), Err(MapFull));
    assert_eq!((map.len(), map.newest(b"one more")), (90, None));
    assert_eq!(map.put(&7_u32.to_be_bytes(), Offset(500)), Ok(()));
    assert_eq!(map.newest(&7_u32.to_be_bytes()), Some(Offset(500)));
}

#[test]
fn an_earlier_offset_does_not_replace_a_later_one() {
    let mut map = OffsetMap::with_budget(1024, 10);
    map.put(b"k", Offset(7)).unwrap();
    map.put(b"k", Offset(3)).unwrap();
    assert_eq!(map.newest(b"k"), Some(Offset(7)));
}

#[test]
fn the_smallest_map_holds_a_key() {
    let mut map = OffsetMap::with_budget(0, 0);
    map.put(b"k", Offset(0)).unwrap();
    assert_eq!(map.put(b"l", Offset(1)), Err(MapFull));
    assert_eq!((map.newest(b"k"), map.newest(b"l")), (Some(Offset(0)), None));
}

proptest! {
    #[test]
    fn the_map_says_what_a_plain_one_says(
        puts in prop::collection::vec((prop::collection::vec(0..3_u8, 0..4), 0..1000_i64), 0..300),
    ) {
        let mut map = OffsetMap::with_budget(1 << 14, 1000);
        let mut plain: HashMap<Vec<u8>, i64> = HashMap::new();
        for (key, offset) in &puts {
            map.put(key, Offset(*offset)).unwrap();
            let newest = plain.entry(key.clone()).or_insert(*offset);
            *newest = (*newest).max(*offset);
        }
        prop_assert_eq!(map.len(), plain.len());
        for (key, offset) in plain {
            prop_assert_eq!(map.newest(&key), Some(Offset(offset)));
        }
        prop_assert_eq!(map.newest(b"never"), None);
    }
}
