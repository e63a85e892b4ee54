use std::path::Path;
use std::sync::{Arc, Mutex};

use super::*;
use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::format::names::PartitionName;
use crate::log::{Background, Environment, LogConfig};
use crate::log_dir::{LogDir, LogDirConfig};
use crate::storage::{Fault, Image, ManualClock, MemoryStorage, OpenMode, OperationKind, Storage};
use crate::types::{Durability, Offset, Sequence};

const ROOT: &str = "/data";
const NOW: i64 = 1_700_000_000_000;

fn log_config() -> LogConfig {
    LogConfig { background: Background::Caller, preallocate_bytes: 0, ..LogConfig::default() }
}

/// A root with its partitions and names.
struct World {
    disk: MemoryStorage,
    dir: LogDir,
    names: ProducerNames,
}

impl World {
    fn open(disk: &MemoryStorage) -> Self {
        let config = LogDirConfig { log: log_config(), open_threads: 1, ..LogDirConfig::default() };
        let environment = Environment {
            storage: Arc::new(disk.clone()),
            clock: Arc::new(ManualClock::new(NOW)),
            ..Environment::default()
        };
        let (dir, report) = LogDir::open(ROOT, config, environment).unwrap();
        assert_eq!(report.failed().count(), 0);
        let ids = ProducerIds::open(ROOT, Arc::new(disk.clone()), || dir.highest_producer_id()).unwrap();
        Self { disk: disk.clone(), dir, names: ProducerNames::open(ids).unwrap() }
    }

    /// Two partitions, open.
    fn new() -> Self {
        let world = Self::open(&MemoryStorage::new());
        for partition in 0..2 {
            world.dir.create(&name(partition), log_config()).unwrap();
        }
        world
    }

    fn claim(&self) -> Claim {
        self.names.claim("orders", &self.dir.partitions()).unwrap()
    }

    fn append(&self, partition: i32, holder: &Claim, sequence: i32) -> Result<Offset, Error> {
        let batch = BatchBuilder::new()
            .producer(holder.producer, holder.epoch, Sequence::new(sequence).unwrap())
            .record_at(NOW, None, Some(b"x"))
            .build()
            .unwrap();
        let log = self.dir.get(&name(partition)).unwrap().log()?;
        log.append(RawBatch(batch), Durability::Durable).map(|appended| appended.last_offset)
    }

    fn is_fenced(&self, partition: i32, holder: &Claim, sequence: i32) -> bool {
        match self.append(partition, holder, sequence) {
            Err(Error::Rejected(Rejection::Fenced { producer, found, .. })) => {
                (producer, found) == (holder.producer, holder.epoch)
            }
            _ => false,
        }
    }
}

fn name(partition: i32) -> PartitionName {
    PartitionName::new("t", partition).unwrap()
}

fn written(partition: i32, producer: ProducerId, last: Option<(i32, i64)>) -> LastWritten {
    let last = last.map(|(sequence, offset)| (Sequence::new(sequence).unwrap(), Offset(offset)));
    LastWritten { partition: name(partition), producer, last }
}

#[test]
fn a_second_claim_fences_the_first_holder_and_says_where_it_ended() {
    let world = World::new();
    let first = world.claim();
    assert_eq!((first.epoch, first.written.len()), (ProducerEpoch(0), 0));
    for sequence in 0..3 {
        world.append(0, &first, sequence).unwrap();
    }
    world.append(1, &first, 0).unwrap();
    let second = world.claim();
    assert_eq!((second.producer, second.epoch), (first.producer, ProducerEpoch(1)));
    assert_eq!(
        second.written,
        [written(0, first.producer, Some((2, 2))), written(1, first.producer, Some((0, 0)))]
    );
    assert!(world.is_fenced(0, &first, 3) && world.is_fenced(1, &first, 1));
    world.append(0, &second, 0).unwrap();
    // Partition 1 has only the fence since: what stands before it is found all the same.
    let third = world.claim();
    assert_eq!(
        third.written,
        [written(0, first.producer, Some((0, 4))), written(1, first.producer, Some((0, 0)))]
    );
    assert!(world.is_fenced(0, &second, 1) && world.is_fenced(1, &second, 0));
}

#[test]
fn other_names_and_ids_are_not_fenced() {
    let world = World::new();
    let orders = world.claim();
    let other = world.names.claim("other", &world.dir.partitions()).unwrap();
    let nameless = Claim { producer: world.names.ids().allocate().unwrap(), ..other.clone() };
    assert!(orders.producer < other.producer && other.producer < nameless.producer);
    for holder in [&orders, &other, &nameless] {
        world.append(0, holder, 0).unwrap();
    }
    world.claim();
    assert!(world.is_fenced(0, &orders, 1));
    world.append(0, &other, 1).unwrap();
    world.append(0, &nameless, 1).unwrap();
}

#[test]
fn a_partition_that_never_heard_of_the_holder_is_what_check_is_for() {
    let world = World::new();
    let first = world.claim();
    world.names.check(first.producer, first.epoch).unwrap();
    let second = world.claim();
    let refusal = Rejection::Fenced { producer: first.producer, current: second.epoch, found: first.epoch };
    assert_eq!(world.names.check(first.producer, first.epoch), Err(refusal.clone()));
    world.names.check(second.producer, second.epoch).unwrap();
    world.names.check(ProducerId(999_999), ProducerEpoch(0)).unwrap();
    let World { disk, dir, names } = world;
    drop((dir, names));
    assert_eq!(World::open(&disk).names.check(first.producer, first.epoch), Err(refusal));
}

#[test]
fn a_claim_does_not_pass_over_a_partition_that_was_moved_or_whose_root_was_closed() {
    let world = World::new();
    let first = world.claim();
    world.append(1, &first, 0).unwrap();
    let partitions = world.dir.partitions();
    let config = LogDirConfig { log: log_config(), ..LogDirConfig::default() };
    let environment = Environment { storage: Arc::new(world.disk.clone()), ..Environment::default() };
    let (other, _) = LogDir::open("/more", config, environment).unwrap();
    let moved = world.dir.move_to(&name(1), &other).unwrap();
    assert!(matches!(world.names.claim("orders", &partitions), Err(Error::Closed)));
    world.dir.delete(&name(0)).unwrap();
    let second = world.names.claim("orders", &[partitions[0].clone(), moved.clone()]).unwrap();
    assert_eq!(second.written, [written(1, first.producer, Some((0, 0)))]);
    other.close().unwrap();
    assert!(matches!(world.names.claim("orders", &[moved]), Err(Error::Closed)));
}

#[test]
fn a_holder_survives_a_restart_and_is_fenced_by_the_next_claim() {
    let world = World::new();
    let first = world.claim();
    world.append(0, &first, 0).unwrap();
    let World { disk, dir, names } = world;
    drop(names);
    dir.close().unwrap();
    let world = World::open(&disk);
    world.append(0, &first, 1).unwrap();
    let second = world.claim();
    assert_eq!((second.producer, second.epoch), (first.producer, ProducerEpoch(1)));
    assert_eq!(second.written, [written(0, first.producer, Some((1, 1)))]);
    assert!(world.is_fenced(0, &first, 2));
}

#[test]
fn used_up_epochs_give_a_new_id_and_the_last_holder_of_the_old_one_is_fenced() {
    let world = World::new();
    let first = world.claim();
    let World { disk, dir, names } = world;
    drop(names);
    let last = NamedProducer { producer: first.producer, epoch: ProducerEpoch(i16::MAX - 1), retired: None };
    let bytes = encode_names(&[("orders".to_owned(), last)].into()).unwrap();
    storage::replace(&disk, Path::new(ROOT), PRODUCER_NAMES, &bytes).unwrap();
    drop(dir);
    let world = World::open(&disk);
    let holder = Claim { epoch: last.epoch, ..first };
    world.append(0, &holder, 0).unwrap();
    let next = world.claim();
    assert_eq!((next.epoch, next.producer > holder.producer), (ProducerEpoch(0), true));
    assert_eq!(next.written, [written(0, holder.producer, Some((0, 0)))]);
    assert!(world.is_fenced(0, &holder, 1));
    assert!(world.names.check(holder.producer, holder.epoch).is_err());
    world.append(0, &next, 0).unwrap();
    let after = world.claim();
    assert_eq!((after.producer, after.epoch), (next.producer, ProducerEpoch(1)));
    assert!(world.is_fenced(0, &next, 1));
}

/// What was known when the power was cut.
#[derive(Clone, Default)]
struct Known {
    /// Every claim that has returned, oldest first.
    holders: Vec<Claim>,
    /// Who had a batch acknowledged where.
    wrote: Vec<(Claim, i32)>,
}

#[test]
fn after_a_crash_at_any_operation_no_epoch_is_held_twice_and_every_older_holder_is_fenced() {
    let world = World::new();
    let known = Arc::new(Mutex::new(Known::default()));
    let moments = Arc::new(Mutex::new(Vec::<(Vec<Image>, Known)>::new()));
    let (now, taken) = (Arc::clone(&known), Arc::clone(&moments));
    world.disk.on_operation(move |_, disk| {
        let images = vec![disk.power_cut(), disk.kill()];
        taken.lock().unwrap().push((images, now.lock().unwrap().clone()));
    });
    for _ in 0..4 {
        let holder = world.claim();
        known.lock().unwrap().holders.push(holder.clone());
        for partition in 0..2 {
            world.append(partition, &holder, 0).unwrap();
            known.lock().unwrap().wrote.push((holder.clone(), partition));
        }
    }
    world.disk.forget_observer();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    assert!(moments.len() > 40, "{}", moments.len());
    for (at, (images, known)) in moments.iter().enumerate() {
        for image in images {
            let world = World::open(&MemoryStorage::from_image(image));
            let claim = world.claim();
            for holder in &known.holders {
                assert!((holder.producer, holder.epoch) < (claim.producer, claim.epoch), "operation {at}");
            }
            for (holder, partition) in &known.wrote {
                assert!(world.is_fenced(*partition, holder, 1), "operation {at}: {holder:?}");
            }
            for partition in 0..2 {
                world.append(partition, &claim, 0).unwrap();
            }
        }
    }
}

#[test]
fn a_claim_whose_file_cannot_be_written_gives_nothing() {
    let world = World::new();
    let first = world.claim();
    world.append(0, &first, 0).unwrap();
    world.disk.fail(Fault::on(OperationKind::SyncDir).named("data"));
    assert!(matches!(world.names.claim("orders", &world.dir.partitions()), Err(Error::Io { .. })));
    assert!(matches!(world.names.claim("orders", &world.dir.partitions()), Err(Error::Unavailable { .. })));
    world.append(0, &first, 1).unwrap();
    let World { disk, dir, names } = world;
    drop((dir, names));
    let world = World::open(&disk);
    assert!(world.claim().epoch > first.epoch);
    assert!(world.is_fenced(0, &first, 2));
}

#[test]
fn a_directory_sync_that_fails_for_want_of_space_latches_as_any_other() {
    let world = World::new();
    let first = world.claim();
    let full = Fault::on(OperationKind::SyncDir).named("data").with(io::ErrorKind::StorageFull);
    world.disk.fail(full);
    assert!(matches!(world.names.claim("orders", &[]), Err(Error::Io { .. })));
    world.disk.clear_faults();
    assert!(matches!(world.names.claim("orders", &[]), Err(Error::Unavailable { .. })), "{first:?}");
}

#[test]
fn a_batch_on_its_way_is_known_to_the_claim_that_fences_its_holder() {
    let disk = MemoryStorage::new();
    let log = LogConfig { background: Background::Threads, ..log_config() };
    let config = LogDirConfig { log, open_threads: 1, ..LogDirConfig::default() };
    let environment = Environment { storage: Arc::new(disk.clone()), ..Environment::default() };
    let (dir, _) = LogDir::open(ROOT, config, environment).unwrap();
    let ids = ProducerIds::open(ROOT, Arc::new(disk.clone()), || Ok(None)).unwrap();
    let names = ProducerNames::open(ids).unwrap();
    for partition in 0..20 {
        let log = dir.create(&name(partition), log_config()).unwrap().log().unwrap();
        let holder = names.claim("orders", &dir.partitions()).unwrap();
        let batch = BatchBuilder::new()
            .producer(holder.producer, holder.epoch, Sequence::ZERO)
            .record_at(NOW, None, Some(b"x"))
            .build()
            .unwrap();
        // It waits in the queue, for others that may come.
        let completion = log.submit(RawBatch(batch), Durability::Buffered).unwrap();
        let next = names.claim("orders", &dir.partitions()).unwrap();
        let known = next.written.iter().find(|written| written.partition == name(partition));
        assert_eq!(known.map(|written| written.last), Some(Some((Sequence::ZERO, Offset(0)))));
        completion.wait().unwrap();
    }
}

#[test]
fn a_damaged_file_is_refused_with_its_name_and_a_bad_name_is_misuse() {
    let world = World::new();
    world.claim();
    for bad in ["", &"x".repeat(1025)] {
        assert!(matches!(world.names.claim(bad, &[]), Err(Error::Misuse(_))));
    }
    let World { disk, dir, names } = world;
    drop(names);
    let path = Path::new(ROOT).join(PRODUCER_NAMES);
    disk.open(&path, OpenMode::Write).unwrap().write_all_at(&[9], 20).unwrap();
    let ids = ProducerIds::open(ROOT, Arc::new(disk.clone()), || dir.highest_producer_id()).unwrap();
    match ProducerNames::open(ids) {
        Err(Error::Corrupt(told)) => assert_eq!(told.path, path),
        other => panic!("{other:?}"),
    }
}
