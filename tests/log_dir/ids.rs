//! Producer ids beside a root that is in use.

use std::path::Path;
use std::sync::Arc;

use oncelog::storage::{MemoryStorage, Storage};
use oncelog::{FoundIds, LogDir, ProducerId, ProducerIds};

use crate::world::{ROOT, append, config, log_config, name, names, open, open_with};

fn ids_of(disk: &MemoryStorage, dir: &LogDir) -> ProducerIds {
    ProducerIds::open(ROOT, Arc::new(disk.clone()), || dir.highest_producer_id()).unwrap()
}

#[test]
fn a_lost_file_is_replaced_by_what_every_partition_knows() {
    let disk = MemoryStorage::new();
    let (dir, _) = open(&disk);
    assert_eq!(dir.highest_producer_id().unwrap(), None);
    for (partition, producer) in [(0, 12), (1, 4711), (2, 300)] {
        let made = dir.create(&name("t", partition), log_config()).unwrap();
        append(&made.log().unwrap(), producer, 0..3);
    }
    assert_eq!(dir.highest_producer_id().unwrap(), Some(ProducerId(4711)), "in memory");
    dir.rest();
    assert_eq!(dir.highest_producer_id().unwrap(), Some(ProducerId(4711)), "in a run");
    let before = ids_of(&disk, &dir);
    assert!(before.allocate().unwrap() > ProducerId(4711));
    drop(before);
    disk.unlink(&Path::new(ROOT).join("oncelog.producer-ids")).unwrap();
    let after = ids_of(&disk, &dir);
    assert_eq!(after.found(), &FoundIds::Absent);
    assert!(after.allocate().unwrap() > ProducerId(4711));
}

#[test]
fn the_files_of_the_allocator_stay_when_the_root_is_opened_again() {
    let disk = MemoryStorage::new();
    let (dir, _) = open(&disk);
    let ids = ids_of(&disk, &dir);
    assert_eq!(ids.allocate().unwrap(), ProducerId(0));
    drop(ids);
    dir.close().unwrap();
    let (dir, report) = open_with(&disk, config());
    assert_eq!(report.left_alone, Vec::<String>::new());
    dir.maintain().unwrap();
    assert!(names(&disk).contains(&"oncelog.producer-ids".to_owned()));
    assert_eq!(ids_of(&disk, &dir).allocate().unwrap(), ProducerId(1000));
}
