//! What an open finds and mends (LogLoaderTest, LogSegmentTest, UnifiedLogTest).

use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog::recovery::RecoveryKind;
use oncelog::storage::{MemoryStorage, OpenMode, Storage};
use oncelog::{BatchBuilder, Error, Isolation, LeaderEpoch, Offset};

use crate::world::{NOW, World, of, plain};

/// Forty batches in some segments, closed; with the records as they were read before.
fn full() -> (World, Vec<oncelog::OwnedRecord>) {
    let world = World::new();
    for n in 0..40 {
        let batch = BatchBuilder::new().record_at(NOW + n % 7, None, Some(format!("{n}").as_bytes()));
        world.add(batch.build().unwrap());
    }
    assert!(world.segments().len() > 3);
    let records = world.records(0);
    (world, records)
}

fn check_reads(world: &World, records: &[oncelog::OwnedRecord]) {
    assert_eq!(world.records(0), records);
    for at in NOW..NOW + 8 {
        let expected = records.iter().find(|record| record.timestamp >= at);
        let expected = expected.map(|record| (record.offset, record.timestamp));
        assert_eq!(world.log().offset_for_timestamp(at, Isolation::LogEnd).unwrap(), expected);
    }
}

/// Kafka: `LogLoaderTest.testLogRecoversToCorrectOffset`.
#[test]
fn a_log_opens_to_the_same_offset_and_the_same_indexes_after_a_close_and_after_a_kill() {
    let (mut world, records) = full();
    world.close();
    let indexes = |world: &World| -> Vec<(String, Vec<u8>)> {
        let names = world.names("index").into_iter();
        names.map(|name| (name.clone(), world.read(&name))).collect()
    };
    let closed = indexes(&world);
    assert!(closed.iter().any(|(name, bytes)| name.ends_with(".timeindex") && !bytes.is_empty()));
    assert_eq!(world.open().unwrap().log_end_offset, Offset(40));
    check_reads(&world, &records);

    let (mut killed, records) = full();
    killed.log().checkpoint().unwrap();
    let report = killed.crash();
    assert_eq!((report.kind, report.log_end_offset), (RecoveryKind::Unclean, Offset(40)));
    check_reads(&killed, &records);
    killed.close();
    assert_eq!(indexes(&killed), closed);
}

/// What is put in the place of an index file.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

/// Index files are written at checkpoints, so a kill leaves segments without them. Kafka would read such segments as a
/// whole, although the log was closed in order since.
#[test]
fn index_files_that_a_kill_took_are_there_again_after_the_next_close() {
    let indexes = |world: &World| -> Vec<(String, Vec<u8>)> {
        let names = world.names("index").into_iter();
        names.map(|name| (name.clone(), world.read(&name))).collect()
    };
    let (mut world, _) = full();
    world.close();
    let expected = indexes(&world);
    assert_eq!(expected.len(), 2 * world.segments().len());
    // What stands in their place after the kill: nothing, or what a power cut or somebody else has made of them.
    let damages: [Damage; 4] = [
        |_| None,
        |_| Some(vec![0xa5; 36]),
        |bytes| Some(bytes[..bytes.len().saturating_sub(4)].to_vec()),
        |bytes| Some(vec![0; bytes.len()]),
    ];
    for damage in damages {
        for used in [true, false] {
            let (mut world, records) = full();
            world.kill();
            assert!(world.names("index").len() < expected.len(), "nothing has written all of them yet");
            for (name, bytes) in &expected {
                damage(bytes).into_iter().for_each(|damaged| world.write(name, &damaged));
            }
            world.open().unwrap();
            if used {
                check_reads(&world, &records);
            }
            world.close();
            assert_eq!(indexes(&world), expected);
        }
    }
}

/// Kafka: `LogLoaderTest.testCleanShutdownFile`.
#[test]
fn kafkas_clean_shutdown_file_says_that_all_of_the_log_is_durable() {
    for clean in [true, false] {
        let (mut world, records) = full();
        world.close();
        world.make_it_kafkas();
        let marker = Path::new("/logs/.kafka_cleanshutdown");
        if clean {
            world.memory.open(marker, OpenMode::Create).unwrap();
        }
        let report = world.open().unwrap();
        assert_eq!(report.kind == RecoveryKind::KafkaClean, clean, "{report}");
        assert_eq!(report.rewritten_bytes == 0, clean, "{report}");
        assert!(world.memory.open(marker, OpenMode::Read).is_err(), "it is no longer true");
        check_reads(&world, &records);
    }
}

fn with_damaged_indexes(damage: impl Fn(&World, &str)) {
    for clean in [true, false] {
        let (mut world, records) = full();
        if clean {
            world.close()
        } else {
            world.kill()
        }
        for name in world.names("index") {
            damage(&world, &name);
        }
        world.open().unwrap();
        check_reads(&world, &records);
        for n in 0..20 {
            assert_eq!(world.add(plain(&["more"])), 40 + n);
        }
        assert_eq!(world.records(0)[..40], records);
        world.reopen();
        assert_eq!(world.records(0).len(), 60);
    }
}

/// Kafka: `LogLoaderTest.testIndexRebuild`.
#[test]
fn a_log_without_its_index_files_is_read_and_appended_to_as_before() {
    with_damaged_indexes(World::remove);
}

/// Kafka: `LogLoaderTest.testCorruptIndexRebuild`, `LogSegmentTest.testRecoveryFixesCorruptIndex`,
/// `testRecoveryFixesCorruptTimeIndex`.
#[test]
fn a_log_with_garbage_in_its_index_files_is_read_and_appended_to_as_before() {
    with_damaged_indexes(|world, name| world.write(name, &[0xa5; 120]));
    with_damaged_indexes(|world, name| world.write(name, &[0; 120]));
    with_damaged_indexes(|world, name| {
        let mut bytes = world.read(name);
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        world.write(name, &bytes);
    });
}

/// Kafka: `LogLoaderTest.testBogusIndexSegmentsAreRemoved`. An index without a segment is not ours to delete, but must
/// not be believed when its segment comes.
#[test]
fn index_files_without_a_segment_do_no_harm_when_the_segment_is_made() {
    let (mut world, _) = full();
    world.close();
    let next = *world.segments().last().unwrap() + 8;
    for base in 41..next + 20 {
        world.write(&format!("{base:020}.index"), &[0x11; 64]);
        world.write(&format!("{base:020}.timeindex"), &[0x11; 60]);
    }
    world.open().unwrap();
    for n in 0..20 {
        assert_eq!(world.add(plain(&["more"])), 40 + n);
    }
    assert!(*world.segments().last().unwrap() > 41);
    let records = world.records(0);
    assert_eq!(records.len(), 60);
    world.reopen();
    check_reads(&world, &records);
}

/// Kafka: `LogLoaderTest.testCorruptLog`, `LogSegmentTest.testRecoveryWithCorruptMessage`.
#[test]
fn garbage_behind_the_log_and_its_indexes_is_cut_kept_aside_and_loses_no_record() {
    let (mut world, records) = full();
    world.kill();
    let last = format!("{:020}.log", world.segments().last().unwrap());
    let garbage = [0xee; 77];
    for name in world.names("index").into_iter().chain([last.clone()]) {
        let mut bytes = world.read(&name);
        bytes.extend(garbage);
        world.write(&name, &bytes);
    }
    let report = world.open().unwrap();
    assert_eq!((report.cuts.len(), report.cuts[0].file.as_str()), (1, last.as_str()), "{report}");
    assert_eq!(world.read(report.cuts[0].keepsake.as_deref().unwrap()), garbage);
    check_reads(&world, &records);
    assert_eq!(world.add(plain(&["next"])), 40);
}

/// Kafka: `LogLoaderTest.testRecoverWithEmptyActiveSegment`.
#[test]
fn a_log_that_was_killed_right_after_a_roll_goes_on_in_the_empty_segment() {
    let (mut world, records) = full();
    world.kill();
    world.write(&format!("{:020}.log", 40), &[]);
    let report = world.open().unwrap();
    assert_eq!(report.log_end_offset, Offset(40));
    check_reads(&world, &records);
    assert_eq!(world.add(plain(&["first of it"])), 40);
    assert!(!world.read(&format!("{:020}.log", 40)).is_empty());
}

/// Kafka: `UnifiedLogTest.testLoadEmptyLog`, `testLoadPartitionDirWithNoSegmentsShouldNotThrow`.
#[test]
fn a_directory_without_segments_becomes_an_empty_log() {
    let mut world = World::new();
    assert_eq!(world.log().log_end_offset(), Offset(0));
    assert_eq!(world.reopen().kind, RecoveryKind::Clean);
    world.close();
    world.make_it_kafkas();
    for name in world.names("") {
        world.remove(&name);
    }
    assert_eq!(world.open().unwrap().kind, RecoveryKind::NewLog);
    assert_eq!(world.add(plain(&["a"])), 0);
}

/// Kafka: `UnifiedLogTest.testLogReinitializeAfterManualDelete`.
#[test]
fn an_empty_directory_with_a_checkpointed_log_start_becomes_an_empty_log_there() {
    let mut world = World::new();
    world.close();
    for name in world.names("") {
        world.remove(&name);
    }
    let file = world.memory.open(Path::new("/logs/log-start-offset-checkpoint"), OpenMode::Create).unwrap();
    file.write_all_at(b"0\n1\norders 0 500\n", 0).unwrap();
    world.open().unwrap();
    assert_eq!((world.log().log_start_offset(), world.log().log_end_offset()), (Offset(500), Offset(500)));
    assert_eq!(world.add(plain(&["a"])), 500);
    world.crash();
    assert_eq!((world.log().log_start_offset(), world.log().log_end_offset()), (Offset(500), Offset(501)));
}

/// Kafka: `LogLoaderTest.testLogEndLessThanStartAfterReopen`. *Differs*: the producers stay known.
#[test]
fn a_log_that_ends_below_its_start_begins_anew_there_whenever_the_opening_dies() {
    let mut world = World::new();
    for round in 0..16 {
        world.add(of(7, 0, round * 2, 2));
    }
    world.close();
    world.make_it_kafkas();
    assert!(world.segments().len() > 1);
    let file = world.memory.open(Path::new("/logs/log-start-offset-checkpoint"), OpenMode::Create).unwrap();
    file.write_all_at(b"0\n1\norders 0 500\n", 0).unwrap();
    file.sync_all().unwrap();
    for dir in ["/logs/orders-0", "/logs", "/"] {
        world.memory.sync_dir(Path::new(dir)).unwrap();
    }
    for name in world.names("") {
        world.memory.open(&World::path(&name), OpenMode::Write).unwrap().sync_all().unwrap();
    }
    let before = world.memory.power_cut();
    let images = Arc::new(Mutex::new(vec![before]));
    let taken = Arc::clone(&images);
    world.memory.on_operation(move |_, disk| taken.lock().unwrap().extend([disk.power_cut(), disk.kill()]));
    let report = world.open().unwrap();
    assert!(report.notes.iter().any(|note| note.contains("begins anew")), "{report}");
    assert_eq!(world.segments(), [500]);
    drop(world);
    let images = std::mem::take(&mut *images.lock().unwrap());
    assert!(images.len() > 20);
    for image in images {
        let mut world = World::new();
        world.kill();
        world.memory = MemoryStorage::from_image(&image);
        let report = world.open().unwrap();
        assert_eq!(
            (world.log().log_start_offset(), world.log().log_end_offset()),
            (Offset(500), Offset(500)),
            "{report}"
        );
        for round in 11..16 {
            assert_eq!(world.duplicate(of(7, 0, round * 2, 2)), i64::from(round) * 2);
        }
        assert_eq!(world.add(of(7, 0, 32, 2)), 500);
        world.crash();
        assert_eq!(world.records(500).len(), 2);
    }
}

/// Kafka: `LogLoaderTest.testOpenDeletesObsoleteFiles`. Kafka deletes what it was about to delete itself; here that is
/// left to it, and means nothing.
#[test]
fn files_that_kafka_was_about_to_delete_mean_nothing_and_unfinished_swaps_are_refused() {
    let (mut world, records) = full();
    world.close();
    world.make_it_kafkas();
    let garbage = b"garbage";
    for name in ["00000000000000000000.log.deleted", "00000000000000000008.log.cleaned", "notes.txt"] {
        world.write(name, garbage);
    }
    world.open().unwrap();
    check_reads(&world, &records);
    for name in ["00000000000000000008.log.cleaned", "notes.txt"] {
        assert_eq!(world.read(name), garbage);
    }
    // Its owner had decided that it goes, and only waited.
    assert_eq!(world.names(".deleted"), Vec::<String>::new());

    let (mut world, _) = full();
    world.close();
    world.make_it_kafkas();
    world.write("00000000000000000008.log.swap", garbage);
    match world.open().unwrap_err() {
        Error::Corrupt(corruption) => {
            assert_eq!(corruption.path, World::path("00000000000000000008.log.swap"));
        }
        other => panic!("{other}"),
    }
}

/// Kafka: `LogLoaderTest.testOverCompactedLogRecovery`.
#[test]
fn a_log_of_kafka_with_gaps_of_more_than_two_billion_offsets_is_read() {
    let mut world = World::new();
    world.close();
    for name in world.names("") {
        world.remove(&name);
    }
    let far = i64::from(i32::MAX) + 7;
    for base in [0, far, 2 * far] {
        let batch = BatchBuilder::new().base_offset(Offset(base)).leader_epoch(LeaderEpoch(0)).record_at(
            NOW,
            Some(b"k"),
            Some(b"v"),
        );
        world.write(&format!("{base:020}.log"), &batch.build().unwrap());
    }
    let report = world.open().unwrap();
    assert_eq!(report.log_end_offset, Offset(2 * far + 1), "{report}");
    let offsets: Vec<i64> = world.records(0).iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets, [0, far, 2 * far]);
    let first = |from: i64| {
        let fetched = world.log().fetch(Offset(from), 1, Isolation::LogEnd).unwrap();
        fetched.first_batch().unwrap().base_offset.0
    };
    assert_eq!([first(1), first(far + 1)], [far, 2 * far], "Kafka: UnifiedLogTest.testReadAtLogGap");
    assert_eq!(world.add(plain(&["next"])), 2 * far + 1);
}

/// Kafka: `LogLoaderTest.testLogRecoveryIsCalledUponBrokerCrash`: one open may fail; the next one recovers all the same.
#[test]
fn an_open_that_fails_changes_nothing_for_the_next() {
    let mut world = World::new();
    for n in 0..6 {
        world.add(of(1, 0, n, 1));
    }
    world.kill();
    world
        .memory
        .fail(oncelog::storage::Fault::on(oncelog::storage::OperationKind::SyncDir).named("orders-0"));
    let failed = world.open().unwrap_err();
    assert!(matches!(&failed, Error::Io { .. }), "{failed}");
    world.memory.clear_faults();
    assert_eq!(world.open().unwrap().kind, RecoveryKind::Unclean);
    assert_eq!(world.duplicate(of(1, 0, 1, 1)), 1);
}
