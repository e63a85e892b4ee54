//! A history over several partitions, with a crash after every single operation of it.
//!
//! After each crash: every partition that was there is there, with every batch that was acknowledged; what Kafka would
//! believe of the root is true; and the root can be opened, closed in order and opened clean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use oncelog::format::checkpoint_file::parse_partition_offsets;
use oncelog::format::names::{self, FileName};
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{Image, MemoryStorage};
use oncelog::{Durability, LogDir, Offset, PartitionName};

use crate::world::{ROOT, append, batch, content_of, is_marked, log_config, name, open};

/// What was acknowledged of each partition; `None`: its deletion was begun.
type Known = BTreeMap<PartitionName, Option<i32>>;

struct Moment {
    after: String,
    images: Vec<Image>,
    known: Known,
}

struct World {
    dir: LogDir,
    known: Arc<Mutex<Known>>,
    next: BTreeMap<PartitionName, i32>,
}

impl World {
    fn create(&mut self, partition: &PartitionName) {
        self.dir.create(partition, log_config()).unwrap();
        self.known.lock().unwrap().insert(partition.clone(), Some(0));
        self.next.insert(partition.clone(), 0);
    }

    fn append(&mut self, partition: &PartitionName, count: i32) {
        let log = self.dir.get(partition).unwrap().log().unwrap();
        for _ in 0..count {
            let sequence = self.next.get_mut(partition).unwrap();
            log.append(batch(1, *sequence), Durability::Durable).unwrap();
            *sequence += 1;
            self.known.lock().unwrap().insert(partition.clone(), Some(*sequence));
        }
    }

    fn delete(&self, partition: &PartitionName) {
        self.known.lock().unwrap().insert(partition.clone(), None);
        self.dir.delete(partition).unwrap();
    }
}

fn history() -> (Vec<Moment>, BTreeMap<PathBuf, Vec<u8>>) {
    let disk = MemoryStorage::new();
    let (moments, known) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Known::new())));
    let (taken, now) = (Arc::clone(&moments), Arc::clone(&known));
    let mut dice = 1_u64;
    let dice = Mutex::new(move || {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice.is_multiple_of(2)
    });
    disk.on_operation(move |operation, disk| {
        let torn = disk.power_cut_with(|_| (dice.lock().unwrap())());
        taken.lock().unwrap().push(Moment {
            after: format!("{}: {:?} {}", operation.number, operation.kind, operation.path.display()),
            images: vec![disk.power_cut(), disk.kill(), torn],
            known: now.lock().unwrap().clone(),
        });
    });
    let [a, b, c] = [0, 1, 2].map(|partition| name("t", partition));
    let mut world = World { dir: open(&disk).0, known: Arc::clone(&known), next: BTreeMap::new() };
    world.create(&a);
    world.append(&a, 9);
    world.create(&b);
    world.append(&b, 2);
    world.dir.write_offsets().unwrap();
    world.append(&a, 6);
    world.dir.rest();
    world.append(&b, 4);
    world.dir.write_offsets().unwrap();
    let World { dir, next, .. } = world;
    dir.close().unwrap();
    let mut world = World { dir: open(&disk).0, known: Arc::clone(&known), next };
    world.create(&c);
    world.append(&c, 2);
    world.append(&a, 7);
    world.delete(&b);
    world.dir.write_offsets().unwrap();
    world.dir.maintain().unwrap();
    world.dir.close().unwrap();
    disk.forget_observer();
    let image = disk.kill();
    let files = image.files().into_iter().map(|path| (path.clone(), image.read(&path).unwrap())).collect();
    let moments = std::mem::take(&mut *moments.lock().unwrap());
    (moments, files)
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_at_any_operation() {
    let (moments, _) = history();
    assert!(moments.len() > 300, "{}", moments.len());
    for moment in &moments {
        for (which, image) in moment.images.iter().enumerate() {
            let at = format!("image {which} after {}", moment.after);
            let disk = MemoryStorage::from_image(image);
            let (dir, report) = open(&disk);
            let failed: Vec<_> = report.failed().collect();
            assert!(failed.is_empty(), "{at}: {failed:?}");
            for (partition, acknowledged) in &moment.known {
                match (dir.get(partition), acknowledged) {
                    (Some(_), Some(acknowledged)) => {
                        let found = content_of(&dir, partition);
                        let expected: Vec<i32> = (0..i32::try_from(found.len()).unwrap()).collect();
                        assert_eq!(found, expected, "{at}: {partition}");
                        assert!(
                            expected.len() >= usize::try_from(*acknowledged).unwrap(),
                            "{at}: {partition}"
                        );
                    }
                    (None, Some(_)) => panic!("{at}: {partition} is gone"),
                    (_, None) => {}
                }
            }
            dir.close().unwrap();
            assert!(is_marked(&disk), "{at}");
            let (dir, report) = open(&disk);
            assert!(report.clean_shutdown, "{at}");
            // What was half deleted may have lost its files to the rest of its deletion.
            let kept = |name: &PartitionName| !matches!(moment.known.get(name), Some(None));
            for (_, found) in report.partitions.iter().filter(|(name, _)| kept(name)) {
                assert_eq!(found.as_ref().unwrap().kind, RecoveryKind::Clean, "{at}");
            }
            drop(dir);
        }
    }
}

/// A root as Kafka would see it.
struct Seen<'a> {
    image: &'a Image,
    partitions: BTreeMap<String, Vec<PathBuf>>,
    points: BTreeMap<String, Offset>,
}

impl<'a> Seen<'a> {
    fn of(image: &'a Image) -> Self {
        let mut partitions: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for path in image.files() {
            let dir = path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            if PartitionName::parse(&dir).is_ok() {
                partitions.entry(dir).or_default().push(path);
            }
        }
        let file = image.read(&Path::new(ROOT).join(names::RECOVERY_POINTS)).unwrap_or_default();
        let lines = parse_partition_offsets(&file).unwrap();
        let points = lines.into_iter().map(|line| (line.partition.to_string(), line.offset)).collect();
        Self { image, partitions, points }
    }

    fn bases(&self, partition: &str) -> Vec<Offset> {
        let mut bases: Vec<Offset> = self.partitions[partition]
            .iter()
            .filter_map(|path| match FileName::parse(path.file_name().unwrap().to_str().unwrap()) {
                FileName::Log(base) => Some(base),
                _ => None,
            })
            .collect();
        bases.sort();
        bases
    }

    fn file(&self, partition: &str, name: &str) -> Option<Vec<u8>> {
        self.image.read(&Path::new(ROOT).join(partition).join(name))
    }

    fn indexes(&self, partition: &str, base: Offset) -> [Option<Vec<u8>>; 2] {
        [names::index_name(base), names::time_index_name(base)].map(|name| self.file(partition, &name))
    }

    fn is_marked(&self) -> bool {
        self.image.read(&Path::new(ROOT).join(names::CLEAN_SHUTDOWN)).is_some()
    }
}

#[test]
fn what_kafka_would_believe_is_true_after_a_crash_at_any_operation() {
    let (moments, at_the_end) = history();
    let (mut marked, mut passed) = (0, 0);
    for moment in &moments {
        for (which, image) in moment.images.iter().enumerate() {
            let at = format!("image {which} after {}", moment.after);
            let seen = Seen::of(image);
            for (partition, files) in &seen.partitions {
                let is_there = files.iter().any(|path| path.ends_with(names::MANIFEST));
                let Some(point) = seen.points.get(partition).copied().filter(|_| is_there) else { continue };
                let bases = seen.bases(partition);
                for (base, next) in bases.iter().zip(bases.iter().skip(1)) {
                    if *next > point {
                        continue;
                    }
                    passed += 1;
                    for (name, found) in [names::index_name(*base), names::time_index_name(*base)]
                        .into_iter()
                        .zip(seen.indexes(partition, *base))
                    {
                        let path = Path::new(ROOT).join(partition).join(name);
                        if let Some(expected) = at_the_end.get(&path) {
                            assert_eq!(
                                found.as_ref(),
                                Some(expected),
                                "{at}: {} below {point}",
                                path.display()
                            );
                        }
                    }
                }
                // All below the recovery point is there.
                let disk = MemoryStorage::from_image(image);
                let (dir, _) = open(&disk);
                let partition = PartitionName::parse(partition).unwrap();
                let log = dir.get(&partition).unwrap().log().unwrap();
                assert!(log.log_end_offset() >= point, "{at}: {partition}");
            }
            if seen.is_marked() {
                marked += 1;
                for partition in seen.partitions.keys() {
                    let end = seen.points[partition];
                    let snapshot = seen.file(partition, &names::snapshot_name(end));
                    assert!(snapshot.is_some(), "{at}: no .snapshot of {partition} at {end}");
                    for base in seen.bases(partition) {
                        let missing = seen.indexes(partition, base).iter().any(Option::is_none);
                        assert!(!missing, "{at}: an index of {partition} at {base} is missing");
                    }
                }
            }
        }
    }
    assert!(marked > 3 && passed > 100, "{marked} marked, {passed} passed");
}

#[test]
fn the_mark_never_stands_beside_a_write() {
    let disk = MemoryStorage::new();
    let dir = open(&disk).0;
    for partition in 0..2 {
        let made = dir.create(&name("t", partition), log_config()).unwrap();
        append(&made.log().unwrap(), 1, 0..3);
    }
    dir.close().unwrap();
    let clean = disk.kill();
    // Whatever comes first: the mark is gone, also after a power cut, before anything else under the root has changed.
    let first: [fn(&LogDir); 4] = [
        |dir| append(&dir.get(&name("t", 1)).unwrap().log().unwrap(), 1, [3]),
        |dir| drop(dir.create(&name("u", 0), log_config()).unwrap()),
        |dir| dir.delete(&name("t", 0)).unwrap(),
        |dir| {
            dir.get(&name("t", 0)).unwrap().log().unwrap().delete_records_before(Offset(1)).unwrap();
        },
    ];
    for act in first {
        let disk = MemoryStorage::from_image(&clean);
        let (dir, _) = open(&disk);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        disk.on_operation(move |operation, disk| {
            let marked =
                disk.power_cut_with(|_| false).read(&Path::new(ROOT).join(names::CLEAN_SHUTDOWN)).is_some();
            told.lock().unwrap().push((operation.name().to_owned(), marked));
        });
        act(&dir);
        disk.forget_observer();
        let seen = seen.lock().unwrap();
        let last_marked = seen.iter().rposition(|(_, marked)| *marked).unwrap();
        let before: Vec<&str> = seen[..=last_marked].iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(before, [names::CLEAN_SHUTDOWN], "{seen:?}");
    }
}
