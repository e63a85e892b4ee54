use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::storage::{Fault, Image, MemoryStorage, OpenMode, OperationKind};

const ROOT: &str = "/data";
const LOST_MARGIN: i64 = ProducerIds::LOST_MARGIN;

fn root() -> MemoryStorage {
    let disk = MemoryStorage::new();
    disk.create_dir_all(Path::new(ROOT)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn try_open(disk: &MemoryStorage, highest: Option<i64>) -> Result<ProducerIds, Error> {
    ProducerIds::open(ROOT, Arc::new(disk.clone()), || Ok(highest.map(ProducerId)))
}

fn open(disk: &MemoryStorage) -> ProducerIds {
    try_open(disk, None).unwrap()
}

fn file() -> PathBuf {
    Path::new(ROOT).join(PRODUCER_IDS)
}

fn write(disk: &MemoryStorage, bytes: &[u8]) {
    let file = disk.open(&file(), OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(ROOT)).unwrap();
}

fn ids(from: &ProducerIds, count: usize) -> Vec<i64> {
    (0..count).map(|_| from.allocate().unwrap().0).collect()
}

#[test]
fn ids_begin_at_zero_and_rise_by_one() {
    let disk = root();
    let allocator = open(&disk);
    assert_eq!(allocator.found(), &FoundIds::Absent);
    assert_eq!(ids(&allocator, 2500), (0..2500).collect::<Vec<_>>());
}

#[test]
fn the_next_life_begins_with_the_next_block() {
    let disk = root();
    assert_eq!(ids(&open(&disk), 3), [0, 1, 2]);
    let allocator = open(&disk);
    assert_eq!(allocator.found(), &FoundIds::Kept);
    assert_eq!(ids(&allocator, 1), [1000]);
}

#[test]
fn an_id_costs_no_operation_unless_it_begins_a_block() {
    let disk = root();
    let allocator = open(&disk);
    let before = disk.operations();
    allocator.allocate().unwrap();
    let block = disk.operations() - before;
    ids(&allocator, 999);
    assert_eq!(disk.operations() - before, block);
    allocator.allocate().unwrap();
    assert!(disk.operations() - before > block);
}

/// After every operation of a life: what a crash right then leaves, and the ids that had been given out.
fn moments(of: impl FnOnce(&MemoryStorage, &Mutex<Vec<i64>>)) -> Vec<(Vec<Image>, Vec<i64>)> {
    let disk = root();
    let given = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let (now, seen) = (Arc::clone(&given), Arc::clone(&taken));
    disk.on_operation(move |_, disk| {
        let mut images = vec![disk.power_cut(), disk.kill()];
        for kept in 0..4_usize {
            let mut nth = 0..;
            images.push(disk.power_cut_with(|_| nth.next().is_some_and(|nth: usize| nth % 4 == kept)));
        }
        seen.lock().unwrap().push((images, now.lock().unwrap().clone()));
    });
    of(&disk, &given);
    disk.forget_observer();
    std::mem::take(&mut *taken.lock().unwrap())
}

fn two_lives(disk: &MemoryStorage, given: &Mutex<Vec<i64>>) {
    for _ in 0..2 {
        let allocator = open(disk);
        for _ in 0..2100 {
            let id = allocator.allocate().unwrap();
            given.lock().unwrap().push(id.0);
        }
    }
}

#[test]
fn no_id_is_given_out_twice_after_a_crash_at_any_operation() {
    let moments = moments(two_lives);
    assert!(moments.len() > 30, "{}", moments.len());
    for (at, (images, given)) in moments.iter().enumerate() {
        let given: BTreeSet<i64> = given.iter().copied().collect();
        for (which, image) in images.iter().enumerate() {
            let again = ids(&open(&MemoryStorage::from_image(image)), 1001);
            let twice: Vec<_> = again.iter().filter(|id| given.contains(id)).collect();
            assert_eq!(twice, Vec::<&i64>::new(), "image {which} after operation {at}");
        }
    }
}

#[test]
fn without_syncs_ids_would_be_given_out_twice() {
    let moments = moments(|disk, given| {
        disk.set_syncs(false);
        two_lives(disk, given);
    });
    let twice = moments.iter().any(|(images, given)| {
        let first = open(&MemoryStorage::from_image(&images[0])).allocate().unwrap();
        given.contains(&first.0)
    });
    assert!(twice, "the test above proves nothing");
}

#[test]
fn threads_never_share_an_id() {
    let disk = root();
    let allocator = open(&disk);
    let mut all: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| ids(&allocator, 1500))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert_eq!(all, (0..6000).collect::<Vec<_>>());
}

#[test]
fn a_second_allocator_is_kept_out_until_the_first_is_dropped() {
    let disk = root();
    let first = open(&disk);
    assert!(matches!(try_open(&disk, None), Err(Error::Locked { .. })));
    drop(first);
    open(&disk);
}

#[test]
fn a_lost_file_costs_ids_and_repeats_none() {
    let disk = root();
    assert_eq!(ids(&open(&disk), 1), [0]);
    disk.unlink(&file()).unwrap();
    let allocator = try_open(&disk, Some(4711)).unwrap();
    assert_eq!(allocator.found(), &FoundIds::Absent);
    assert_eq!(ids(&allocator, 2), [4712 + LOST_MARGIN, 4713 + LOST_MARGIN]);
}

#[test]
fn a_damaged_file_is_told_and_replaced_by_one_above_the_floor() {
    let whole = ProducerIdsFile { next: 9000 }.encode();
    for bit in 0..whole.len() * 8 {
        let disk = root();
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        write(&disk, &bytes);
        match try_open(&disk, Some(20)) {
            Ok(allocator) => {
                let FoundIds::Damaged(told) = allocator.found() else { panic!("bit {bit}") };
                assert_eq!(told.path, file());
                assert_eq!(ids(&allocator, 1), [21 + LOST_MARGIN], "bit {bit}");
            }
            Err(Error::Corrupt(told)) => assert_eq!((told.what.as_str(), bit / 32), (VERSION_FIELD, 2)),
            Err(other) => panic!("bit {bit}: {other}"),
        }
    }
    for bytes in [&[][..], &whole[..23], &[whole.as_slice(), &[0]].concat()] {
        let disk = root();
        write(&disk, bytes);
        let allocator = try_open(&disk, None).unwrap();
        assert!(matches!(allocator.found(), FoundIds::Damaged(_)), "{} bytes", bytes.len());
        assert_eq!(ids(&allocator, 1), [0]);
        drop(allocator);
        assert_eq!(open(&disk).found(), &FoundIds::Kept);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_a_lost_one() {
    let disk = root();
    ids(&open(&disk), 1);
    disk.fail(Fault::on(OperationKind::Read).named(PRODUCER_IDS));
    assert!(matches!(try_open(&disk, Some(5)), Err(Error::Io { operation: "read", .. })));
    assert_eq!(ids(&open(&disk), 1), [1000]);
}

#[test]
fn a_floor_that_cannot_be_told_is_an_error() {
    let disk = root();
    let unknown = || Err(Error::Misuse("a partition cannot be opened".to_owned()));
    let opened = ProducerIds::open(ROOT, Arc::new(disk.clone()), unknown);
    assert!(matches!(opened, Err(Error::Misuse(_))));
}

#[test]
fn the_floor_is_not_asked_when_the_file_is_sound() {
    let disk = root();
    ids(&open(&disk), 1);
    let never = || Err(Error::Misuse("asked".to_owned()));
    ProducerIds::open(ROOT, Arc::new(disk.clone()), never).unwrap();
}

#[test]
fn after_a_failed_operation_no_id_leaves_before_the_next_open() {
    let kinds = [
        OperationKind::Create,
        OperationKind::Write,
        OperationKind::SyncData,
        OperationKind::Rename,
        OperationKind::SyncDir,
    ];
    for kind in kinds {
        let disk = root();
        let first = open(&disk);
        let given = ids(&first, 1000);
        disk.fail(Fault::on(kind));
        assert!(matches!(first.allocate(), Err(Error::Io { operation: "write", .. })), "{kind:?}");
        assert!(matches!(first.allocate(), Err(Error::Unavailable { .. })), "{kind:?}");
        drop(first);
        let again = ids(&open(&disk), 1);
        assert!(!given.contains(&again[0]), "{kind:?}");
    }
}

#[test]
fn a_full_disk_stops_ids_only_as_long_as_it_is_full() {
    let disk = root();
    let allocator = open(&disk);
    ids(&allocator, 1000);
    disk.fail(Fault::on(OperationKind::Write).with(io::ErrorKind::StorageFull));
    assert!(matches!(allocator.allocate(), Err(Error::Io { .. })));
    assert_eq!(ids(&allocator, 1), [1000]);
}

#[test]
fn the_last_ids_are_given_out_once_and_then_none() {
    let disk = root();
    write(&disk, &ProducerIdsFile { next: i64::MAX - 2 }.encode());
    let allocator = open(&disk);
    assert_eq!(ids(&allocator, 2), [i64::MAX - 2, i64::MAX - 1]);
    for _ in 0..2 {
        assert!(matches!(allocator.allocate(), Err(Error::Misuse(_))));
    }
    drop(allocator);
    assert!(matches!(open(&disk).allocate(), Err(Error::Misuse(_))));
    write(&disk, b"");
    assert!(matches!(try_open(&disk, Some(i64::MAX)).unwrap().allocate(), Err(Error::Misuse(_))));
}
