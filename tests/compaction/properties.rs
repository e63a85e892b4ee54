//! Random histories: what consumers end with is the same before and after every round and every restart.

use oncelog::{EndTxn, LogConfig};
use proptest::prelude::*;

use crate::world::{End, RETENTION, World, of, puts, small, txn};

#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, value: u8 },
    PutMany { keys: Vec<u8>, tombstone: bool },
    Idempotent { producer: u8, key: u8 },
    Transactional { producer: u8, key: u8 },
    EndTxn { producer: u8, commit: bool },
    Checkpoint,
    Compact,
    Wait,
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, any::<u8>()).prop_map(|(key, value)| Step::Put { key, value }),
        4 => (prop::collection::vec(0..6_u8, 1..5), any::<bool>())
            .prop_map(|(keys, tombstone)| Step::PutMany { keys, tombstone }),
        3 => (0..2_u8, 0..6_u8).prop_map(|(producer, key)| Step::Idempotent { producer, key }),
        4 => (2..4_u8, 0..6_u8).prop_map(|(producer, key)| Step::Transactional { producer, key }),
        3 => (2..4_u8, any::<bool>()).prop_map(|(producer, commit)| Step::EndTxn { producer, commit }),
        1 => Just(Step::Checkpoint),
        3 => Just(Step::Compact),
        1 => Just(Step::Wait),
        1 => (0..3_u8).prop_map(Step::Restart),
    ]
}

fn key(number: u8) -> String {
    format!("key-{number}")
}

fn run(steps: &[Step], segment_bytes: u32, map_bytes: usize) {
    let mut config = LogConfig { segment_bytes, whole_base_producers: 2, max_deltas: 2, ..small() };
    config.compaction.map_bytes = map_bytes;
    let mut world = World::with(config);
    let mut sequences = [0_i32; 4];
    let mut open = [false; 4];
    let mut last = [const { None }; 2];
    for step in steps {
        match step {
            Step::Put { key: at, value } => drop(world.put(&key(*at), &value.to_string())),
            Step::PutMany { keys, tombstone } => {
                let keys: Vec<String> = keys.iter().map(|at| key(*at)).collect();
                let value = if *tombstone { None } else { Some("many") };
                world.add(puts(&keys.iter().map(|key| (key.as_str(), value)).collect::<Vec<_>>()));
            }
            Step::Idempotent { producer, key: at } => {
                let number = usize::from(*producer);
                let batch = || of(i64::from(*producer), sequences[number], &key(*at), "idempotent");
                last[number] = Some((batch(), world.add(batch())));
                sequences[number] += 1;
            }
            Step::Transactional { producer, key: at } => {
                let number = usize::from(*producer);
                world.add(txn(i64::from(*producer), sequences[number], &key(*at), Some("txn")));
                sequences[number] += 1;
                open[number] = true;
            }
            Step::EndTxn { producer, commit } => {
                if std::mem::take(&mut open[usize::from(*producer)]) {
                    world.end(i64::from(*producer), if *commit { EndTxn::Commit } else { EndTxn::Abort });
                }
            }
            Step::Checkpoint => world.log().checkpoint().unwrap(),
            Step::Compact => {
                let (before, end) = (world.table(), world.log().log_end_offset());
                world.log().compact().unwrap();
                assert_eq!(world.table(), before);
                assert_eq!(world.log().log_end_offset(), end);
            }
            Step::Wait => world.advance(RETENTION),
            Step::Restart(how) => {
                let before = world.table();
                world.restart([End::Close, End::Kill, End::PowerCut][usize::from(*how)]);
                assert_eq!(world.table(), before);
            }
        }
    }
    for (batch, offset) in last.into_iter().flatten() {
        assert_eq!(world.append(batch).unwrap().base_offset.unwrap().0, offset, "a duplicate");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn consumers_end_with_the_same_values_whenever_the_log_is_compacted(
        steps in prop::collection::vec(step(), 1..120),
        segment_bytes in 150_u32..900,
    ) {
        run(&steps, segment_bytes, 1024);
    }
}
