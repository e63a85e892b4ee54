//! A disk that fails at any single operation, or is full from any operation on.

use oncelog::storage::{Fault, MemoryStorage};
use oncelog::{Durability, Error, Id, LogDir, Offset, Outcome, ProducerId};

use crate::world::{append, batch, config, content, environment, log_config, name, names};

const FROM: &str = "/data";
const TO: &str = "/more";

fn open_at(disk: &MemoryStorage, root: &str) -> LogDir {
    let (dir, report) = LogDir::open(root, config(), environment(disk)).unwrap();
    assert_eq!(report.failed().count(), 0, "{:?}", report.failed().collect::<Vec<_>>());
    dir
}

fn faults(at: u64) -> [Fault; 4] {
    let fault = || Fault::on_any_mutation().nth(at);
    [fault(), fault().with_errno(28), fault().from_then_on(), fault().with_errno(28).from_then_on()]
}

/// Fails unless exactly one of the roots has `t-0` with all that was acknowledged.
fn assert_in_one(disk: &MemoryStorage, acknowledged: i32, at: &str) {
    let roots = [FROM, TO].map(|root| open_at(disk, root));
    let having: Vec<_> = roots.iter().filter_map(|dir| dir.get(&name("t", 0))).collect();
    assert_eq!(having.len(), 1, "{at}");
    let log = having[0].log().unwrap();
    assert_eq!(content(&log), (0..acknowledged).collect::<Vec<_>>(), "{at}");
    for sequence in acknowledged - 5..acknowledged {
        let retry = log.append(batch(1, sequence), Durability::Durable).unwrap();
        assert_eq!(retry.outcome, Outcome::Duplicate, "{at}");
    }
    append(&log, 1, [acknowledged]);
    drop(log);
    for dir in roots {
        dir.maintain().unwrap();
        dir.close().unwrap();
    }
}

#[test]
fn a_move_on_a_disk_that_fails_at_any_operation_loses_and_doubles_nothing() {
    let (mut gave_up, mut moved) = (0, 0);
    for which in 0..4 {
        for nth in 1.. {
            let disk = MemoryStorage::new();
            let (from, to) = (open_at(&disk, FROM), open_at(&disk, TO));
            let made = from.create(&name("t", 0), log_config()).unwrap();
            append(&made.log().unwrap(), 1, 0..12);
            disk.fail(faults(nth)[which].clone());
            let answer = from.move_to(&name("t", 0), &to);
            let struck = disk.faults_struck();
            disk.clear_faults();
            if struck == 0 {
                break;
            }
            let at = format!("fault {which} at {nth}: {:?}", answer.as_ref().err());
            let mut acknowledged = 12;
            let stayed = from.get(&name("t", 0));
            let there = to.get(&name("t", 0));
            assert_eq!(answer.is_ok(), there.is_some(), "{at}");
            assert!(stayed.is_none() || there.is_none(), "{at}");
            match stayed.or(there).map(|partition| partition.log()) {
                Some(Ok(log)) => {
                    if log.append(batch(1, 12), Durability::Durable).is_ok() {
                        acknowledged = 13;
                    }
                    if answer.is_ok() { moved += 1 } else { gave_up += 1 }
                }
                Some(Err(Error::Unavailable { .. })) => {}
                other => panic!("{at}: {other:?}"),
            }
            for image in [disk.kill(), disk.power_cut()] {
                assert_in_one(&MemoryStorage::from_image(&image), acknowledged, &at);
            }
            drop((from, to));
            assert_in_one(&disk, acknowledged, &at);
        }
    }
    assert!(gave_up > 100 && moved > 5, "{gave_up} {moved}");
}

#[test]
fn a_root_on_a_disk_that_fails_at_any_operation_of_its_life_keeps_what_was_acknowledged() {
    for which in 0..4 {
        for nth in 1.. {
            let disk = MemoryStorage::new();
            let dir = open_at(&disk, FROM);
            append(&dir.create(&name("t", 0), log_config()).unwrap().log().unwrap(), 1, 0..8);
            dir.create(&name("t", 2), log_config()).unwrap();
            disk.fail(faults(nth)[which].clone());
            let mut acknowledged = 8;
            let mut write_more = || {
                let log = dir.get(&name("t", 0)).unwrap().log();
                for _ in 0..2 {
                    let Ok(log) = &log else { continue };
                    match log.append(batch(1, acknowledged), Durability::Durable) {
                        Ok(_) => acknowledged += 1,
                        Err(Error::Unavailable { .. }) => {}
                        Err(Error::Indeterminate { .. }) => break,
                        Err(other) => panic!("fault {which} at {nth}: {other:?}"),
                    }
                }
            };
            dir.rest();
            let _written = dir.write_offsets();
            write_more();
            let made = dir.create(&name("t", 1), log_config()).map(drop);
            dir.rest();
            let deleted = dir.delete(&name("t", 2));
            let _maintained = dir.maintain();
            write_more();
            let _written = dir.write_offsets();
            let images = [disk.kill(), disk.power_cut()];
            let _closed = dir.close();
            let struck = disk.faults_struck();
            disk.clear_faults();
            if struck == 0 {
                break;
            }
            let at = format!("fault {which} at {nth}: {made:?} {deleted:?}");
            let after = [disk.kill(), disk.power_cut()];
            for (image, order) in images.iter().chain(&after).zip(0..) {
                let disk = MemoryStorage::from_image(image);
                let dir = open_at(&disk, FROM);
                let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
                let found = content(&log);
                let stored = i32::try_from(found.len()).unwrap();
                assert_eq!(found, (0..stored).collect::<Vec<_>>(), "{at}");
                assert!(
                    (acknowledged..=acknowledged + 1).contains(&stored),
                    "{at}: {stored} {acknowledged} {order}"
                );
                for sequence in stored - 5..stored {
                    let retry = log.append(batch(1, sequence), Durability::Durable).unwrap();
                    assert_eq!(retry.outcome, Outcome::Duplicate, "{at}");
                }
                append(&log, 1, [stored]);
                drop(log);
                assert!(made.is_err() || dir.get(&name("t", 1)).is_some(), "{at}");
                assert!(deleted.is_err() || dir.get(&name("t", 2)).is_none(), "{at}");
                if let Some(there) = dir.get(&name("t", 1)) {
                    append(&there.log().unwrap(), 1, 0..2);
                } else {
                    dir.create(&name("t", 1), log_config()).unwrap();
                }
                dir.maintain().unwrap();
                dir.close().unwrap();
            }
        }
    }
}

#[test]
fn a_partition_that_could_not_be_made_leaves_nothing_to_the_next_one_of_its_name() {
    let disk = MemoryStorage::new();
    let dir = open_at(&disk, TO);
    let log = dir.create(&name("t", 0), log_config()).unwrap().log().unwrap();
    append(&log, 1, 0..12);
    let state = log.export(Offset(0)).unwrap().imported_state().unwrap();
    for which in 0..2 {
        for nth in 1.. {
            let disk = MemoryStorage::new();
            let dir = open_at(&disk, FROM);
            // The mark of a clean stop goes with the first one.
            dir.create(&name("u", 0), log_config()).unwrap();
            disk.fail(faults(nth)[which].clone());
            let made = dir.create_from(&name("t", 0), log_config(), Some(Id([3; 16])), &state);
            let struck = disk.faults_struck();
            disk.clear_faults();
            if struck == 0 {
                break;
            }
            if made.is_ok() {
                continue;
            }
            let made = dir.create(&name("t", 0), log_config()).unwrap();
            let log = made.log().unwrap();
            let at = format!("fault {which} at {nth}");
            assert_eq!(
                (log.log_end_offset(), log.producer(ProducerId(1)).unwrap()),
                (Offset(0), None),
                "{at}"
            );
            assert_eq!(made.topic_id().unwrap(), None, "{at}");
            append(&log, 1, 0..3);
            drop(log);
            dir.maintain().unwrap();
            dir.close().unwrap();
            assert!(!names(&disk).iter().any(|name| name.contains("-delete")), "{at}");
        }
    }
}
