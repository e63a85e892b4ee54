use super::*;
use crate::format::manifest::{CompactionState, MAX_MANIFEST_SIZE, Manifest, RunRef};
use crate::format::watermark::Slot;
use crate::storage::{Fault, OperationKind};
use crate::types::{Gaps, History};

pub(super) fn manifest(sequence: u64, chain: &[RunRef]) -> Manifest {
    Manifest {
        sequence,
        chain: chain.to_vec(),
        previous_chain: Vec::new(),
        next_run_number: 100,
        watermark: point(30),
        truncation_generation: 2,
        log_start_offset: Offset(0),
        intent: None,
        failed_sync: None,
        engine_time: EngineTime(9),
        boot_id: [3; 16],
        history: History::Complete,
        gaps: Gaps::None,
        compaction: CompactionState::default(),
        clean_close: None,
        txn_indexes: Vec::new(),
    }
}

#[test]
fn a_directory_without_manifest_says_so() {
    let disk = Disk::new();
    assert_eq!(read_manifest(&disk.memory, &disk.dir).unwrap(), ManifestState::Missing);
}

#[test]
fn the_manifest_written_last_is_read() {
    let disk = Disk::new();
    for sequence in [1, 2] {
        let manifest = manifest(sequence, &[RunRef { number: 4, header_crc: 5 }]);
        write_manifest(&disk.memory, &disk.dir, &manifest).unwrap();
        let read = read_manifest(&disk.memory, &disk.dir).unwrap();
        assert_eq!(read, ManifestState::Present(Box::new(manifest)));
    }
    assert_eq!(disk.names(), ["oncelog.manifest"]);
}

#[test]
fn a_damaged_manifest_is_told_from_a_missing_one_and_names_file_and_bytes() {
    let disk = Disk::new();
    write_manifest(&disk.memory, &disk.dir, &manifest(1, &[])).unwrap();
    let mut bytes = disk.read("oncelog.manifest");
    bytes[30] ^= 1;
    disk.write("oncelog.manifest", &bytes);
    let ManifestState::Damaged(damage) = read_manifest(&disk.memory, &disk.dir).unwrap() else { panic!() };
    assert_eq!(damage.path, disk.dir.join("oncelog.manifest"));
    assert_eq!((damage.what.as_str(), damage.bytes), ("manifest CRC", 139..143));
}

#[test]
fn an_empty_or_an_oversized_file_is_a_damaged_manifest() {
    let disk = Disk::new();
    disk.write("oncelog.manifest", &[]);
    let ManifestState::Damaged(damage) = read_manifest(&disk.memory, &disk.dir).unwrap() else { panic!() };
    assert_eq!(damage.what, "manifest magic");
    let file = disk.memory.open(&disk.dir.join("oncelog.manifest"), OpenMode::Write).unwrap();
    file.set_len(MAX_MANIFEST_SIZE + 1).unwrap();
    let ManifestState::Damaged(damage) = read_manifest(&disk.memory, &disk.dir).unwrap() else { panic!() };
    assert_eq!(damage.what, "manifest length");
}

#[test]
fn a_manifest_that_cannot_be_read_is_neither_missing_nor_damaged() {
    let disk = Disk::new();
    write_manifest(&disk.memory, &disk.dir, &manifest(1, &[])).unwrap();
    disk.memory.fail(Fault::on(OperationKind::Read));
    let error = read_manifest(&disk.memory, &disk.dir).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "read", .. }), "{error:?}");
}

fn slots(disk: &Disk) -> Vec<(u64, u64, i64)> {
    let slots = read_slots(&disk.memory, &disk.dir).unwrap();
    slots
        .into_iter()
        .map(|Slot { counter, generation, point }| (counter, generation, point.offset.0))
        .collect()
}

#[test]
fn a_missing_watermark_has_no_slots_and_reading_creates_none() {
    let disk = Disk::new();
    assert_eq!(slots(&disk), []);
    assert_eq!(disk.names(), Vec::<String>::new());
}

#[test]
fn a_new_watermark_has_two_pages_and_no_valid_slot() {
    let disk = Disk::new();
    WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    assert_eq!(disk.read("oncelog.watermark"), vec![0; 8192]);
    assert_eq!(slots(&disk), []);
}

#[test]
fn slots_are_written_in_turn_with_a_rising_counter_across_reopening() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    file.write(&point(1), 7).unwrap();
    assert_eq!(slots(&disk), [(1, 7, 1)]);
    file.write(&point(2), 7).unwrap();
    assert_eq!(slots(&disk), [(2, 7, 2), (1, 7, 1)]);
    file.write(&point(3), 8).unwrap();
    assert_eq!(slots(&disk), [(3, 8, 3), (2, 7, 2)]);
    drop(file);
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    file.write(&point(4), 8).unwrap();
    assert_eq!(slots(&disk), [(4, 8, 4), (3, 8, 3)]);
    assert_eq!(disk.read("oncelog.watermark").len(), 8192);
}

#[test]
fn a_slot_is_one_write_and_nothing_else() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    let before = disk.memory.operations();
    disk.memory.fail(Fault::on(OperationKind::Read));
    file.write(&point(1), 0).unwrap();
    assert_eq!(disk.memory.operations(), before + 1);
    assert_eq!(disk.memory.faults_struck(), 0);
}

#[test]
fn a_failed_write_leaves_the_newest_slot_and_the_next_one_goes_to_the_same_place() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    for offset in 1..=3 {
        file.write(&point(offset), 0).unwrap();
    }
    disk.memory.fail(Fault::on(OperationKind::Write).after_bytes(40));
    let error = file.write(&point(4), 0).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "write", .. }), "{error:?}");
    assert_eq!(slots(&disk), [(3, 0, 3)]);
    file.write(&point(5), 0).unwrap();
    assert_eq!(slots(&disk), [(4, 0, 5), (3, 0, 3)]);
}

#[test]
fn a_damaged_slot_is_written_first_and_the_valid_one_kept() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    for offset in 1..=2 {
        file.write(&point(offset), 0).unwrap();
    }
    let mut bytes = disk.read("oncelog.watermark");
    bytes[4096 + 30] ^= 1;
    disk.write("oncelog.watermark", &bytes);
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    file.write(&point(9), 0).unwrap();
    assert_eq!(slots(&disk), [(2, 0, 9), (1, 0, 1)]);
}

#[test]
fn a_watermark_that_was_cut_keeps_its_whole_slot_and_grows_again() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    for offset in 1..=2 {
        file.write(&point(offset), 0).unwrap();
    }
    disk.memory
        .open(&disk.dir.join("oncelog.watermark"), OpenMode::Write)
        .unwrap()
        .set_len(4096 + 50)
        .unwrap();
    assert_eq!(slots(&disk), [(1, 0, 1)]);
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    file.write(&point(3), 0).unwrap();
    assert_eq!(slots(&disk), [(2, 0, 3), (1, 0, 1)]);
    assert_eq!(disk.read("oncelog.watermark").len(), 8192);
}

/// Found by fuzzing: behind the fields of a slot are zeros, so a slot that was cut there was whole again once the file had
/// grown, and the next open believed what the one before had not.
#[test]
fn a_slot_that_was_cut_does_not_come_back_by_growing() {
    let disk = Disk::new();
    let mut file = WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap();
    for offset in 1..=2 {
        file.write(&point(offset), 0).unwrap();
    }
    let bytes = disk.memory.open(&disk.dir.join("oncelog.watermark"), OpenMode::Write).unwrap();
    bytes.set_len(8192 - 100).unwrap();
    assert_eq!(slots(&disk), [(1, 0, 1)]);
    drop(WatermarkFile::open_or_create(&disk.memory, &disk.dir).unwrap());
    assert_eq!(slots(&disk), [(1, 0, 1)]);
}
