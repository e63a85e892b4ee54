//! What can be made to fail, and how.

use std::io::IoSlice;

use super::*;

fn errno(result: std::io::Result<()>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn a_failed_sync_reports_once_and_no_later_sync_writes_its_bytes() {
    let (disk, file) = disk_with(&[1; 1_024]);
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.fail(Fault::on(OperationKind::SyncData));
    assert_eq!(errno(file.sync_data()), 5);
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    assert_eq!(bytes_of(&file).first(), Some(&2));
    assert_eq!(disk.power_cut().read(Path::new("/d/a")).unwrap(), [1; 1_024]);
    // A reopening in the same boot is fooled too.
    let killed = MemoryStorage::from_image(&disk.kill());
    let again = killed.open(Path::new("/d/a"), OpenMode::Write).unwrap();
    assert_eq!(bytes_of(&again).first(), Some(&2));
    again.sync_data().unwrap();
    assert_eq!(killed.power_cut().read(Path::new("/d/a")).unwrap(), [1; 1_024]);
}

#[test]
fn bytes_of_a_failed_sync_become_durable_when_they_are_written_again() {
    let (disk, file) = disk_with(&[1; 1_024]);
    file.write_all_at(&[2; 1_024], 0).unwrap();
    disk.fail(Fault::on(OperationKind::SyncAll));
    assert_eq!(errno(file.sync_all()), 5);
    file.write_all_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap();
    let mut half = vec![2; 512];
    half.resize(1_024, 1);
    assert_eq!(disk.power_cut().read(Path::new("/d/a")).unwrap(), half);
    file.write_all_at(&[2; 512], 512).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.power_cut().read(Path::new("/d/a")).unwrap(), [2; 1_024]);
}

#[test]
fn a_failed_sync_of_an_append_leaves_zeros_after_the_next() {
    let (disk, file) = disk_with(&[1; 600]);
    file.write_all_at(&[2; 1_000], 600).unwrap();
    disk.fail(Fault::on(OperationKind::SyncData));
    assert_eq!(errno(file.sync_data()), 5);
    assert_eq!(disk.power_cut().read(Path::new("/d/a")).unwrap(), [1; 600]);
    file.sync_data().unwrap();
    let mut grown = vec![1; 600];
    grown.resize(1_600, 0);
    assert_eq!(disk.power_cut().read(Path::new("/d/a")).unwrap(), grown);
}

#[test]
fn clean_pages_that_were_never_written_are_gone_once_memory_gets_short() {
    let (disk, file) = disk_with(&[1; 1_024]);
    file.write_all_at(&[2; 1_024], 0).unwrap();
    disk.fail(Fault::on(OperationKind::SyncData));
    assert_eq!(errno(file.sync_data()), 5);
    file.write_all_at(&[3; 512], 0).unwrap();
    disk.drop_clean_pages();
    let mut expected = vec![3; 512];
    expected.resize(1_024, 1);
    assert_eq!(bytes_of(&file), expected);
    assert_eq!(disk.pending().len(), 1);
}

#[test]
fn a_page_read_again_shows_nothing_from_behind_the_end() {
    let (disk, file) = disk_with(&[1; 1_024]);
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.fail(Fault::on(OperationKind::SyncData));
    assert_eq!(errno(file.sync_data()), 5);
    file.set_len(100).unwrap();
    disk.drop_clean_pages();
    file.set_len(200).unwrap();
    let mut expected = vec![1; 100];
    expected.resize(200, 0);
    assert_eq!(bytes_of(&file), expected);
}

#[test]
fn a_failed_directory_sync_makes_no_name_durable() {
    let disk = disk();
    create(&disk, "/d/a", b"");
    disk.fail(Fault::on_any_sync());
    assert_eq!(errno(disk.sync_dir(Path::new("/d"))), 5);
    assert_eq!(disk.power_cut().files().len(), 0);
    assert_eq!(disk.kill().files().len(), 1);
}

#[test]
fn a_short_write_is_gone_on_with() {
    let disk = disk();
    let file = create(&disk, "/d/a", b"");
    disk.fail(Fault::on(OperationKind::Write).short(4));
    disk.fail(Fault::on(OperationKind::Write).nth(2).short(1));
    let mut bufs = [IoSlice::new(b"one"), IoSlice::new(b""), IoSlice::new(b"two"), IoSlice::new(b"three")];
    let before = disk.operations();
    file.write_all_vectored_at(&mut bufs, 2).unwrap();
    assert_eq!(bytes_of(&file), b"\0\0onetwothree");
    assert_eq!((disk.operations() - before, disk.faults_struck()), (3, 2));
    disk.fail(Fault::on(OperationKind::Write).short(3));
    file.write_all_at(b"ONETWO", 2).unwrap();
    assert_eq!(bytes_of(&file), b"\0\0ONETWOthree");
}

#[test]
fn a_write_of_nothing_is_an_error_and_not_an_endless_loop() {
    let disk = disk();
    let file = create(&disk, "/d/a", b"");
    disk.fail(Fault::on(OperationKind::Write).short(0).from_then_on());
    assert_eq!(file.write_all_at(b"abc", 0).unwrap_err().kind(), ErrorKind::WriteZero);
    let refused = file.write_all_vectored_at(&mut [IoSlice::new(b"abc")], 0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WriteZero);
}

#[test]
fn an_interrupted_call_is_tried_again() {
    let disk = disk();
    let file = create(&disk, "/d/a", b"");
    disk.fail(Fault::on(OperationKind::Write).with(ErrorKind::Interrupted));
    file.write_all_at(b"abc", 0).unwrap();
    disk.fail(Fault::on(OperationKind::Read).with(ErrorKind::Interrupted));
    let mut back = [0; 3];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"abc");
}

#[test]
fn a_torn_write_leaves_its_beginning_and_fails() {
    let disk = disk();
    let file = create(&disk, "/d/a", b"....");
    disk.fail(Fault::on(OperationKind::Write).after_bytes(2).with_errno(28));
    assert_eq!(errno(file.write_all_at(b"abcd", 0)), 28);
    assert_eq!(bytes_of(&file), b"ab..");
}

#[test]
fn reads_can_fail_or_be_short() {
    let (disk, file) = disk_with(b"abcdef");
    disk.fail(Fault::on(OperationKind::Read).short(2));
    let mut buf = [0; 6];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 2);
    disk.fail(Fault::on(OperationKind::Read).short(2));
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abcdef");
    // This one promises to return less only at the end.
    disk.fail(Fault::on(OperationKind::Read).short(2));
    assert_eq!(bytes_of(&file), b"abcdef");
    disk.fail(Fault::on(OperationKind::Read));
    assert_eq!(errno(file.read_at(&mut buf, 0).map(|_| ())), 5);
    disk.fail(Fault::on(OperationKind::Map));
    assert_eq!(errno(file.map(3).map(|_| ())), 5);
    disk.fail(Fault::on(OperationKind::List));
    assert_eq!(errno(disk.list(Path::new("/d")).map(|_| ())), 5);
    disk.fail(Fault::on(OperationKind::Open));
    assert_eq!(errno(disk.open(Path::new("/d/a"), OpenMode::Read).map(|_| ())), 5);
    disk.fail(Fault::on(OperationKind::Lock));
    assert_eq!(errno(disk.lock(Path::new("/d/a"), LockKind::Shared).map(|_| ())), 5);
    assert_eq!(disk.faults_struck(), 8);
}

#[test]
fn a_fault_meets_the_chosen_operation_of_the_chosen_file_once() {
    let (disk, file) = disk_with(b"");
    let other = create(&disk, "/d/other", b"");
    disk.fail(Fault::on(OperationKind::Write).named("a").nth(2));
    other.write_all_at(b"1", 0).unwrap();
    other.write_all_at(b"2", 0).unwrap();
    file.write_all_at(b"1", 0).unwrap();
    assert_eq!(errno(file.write_all_at(b"2", 0)), 5);
    file.write_all_at(b"3", 0).unwrap();
    assert_eq!(disk.faults_struck(), 1);
}

#[test]
fn a_fault_meets_a_rename_by_its_new_name_too() {
    let (disk, _file) = disk_with(b"");
    disk.fail(Fault::on(OperationKind::Rename).named("new"));
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    assert_eq!(errno(disk.rename(Path::new("/d/b"), Path::new("/d/new"))), 5);
    assert_eq!(names(&disk, "/d"), ["b"]);
}

#[test]
fn of_two_faults_that_are_due_the_second_waits() {
    let (disk, file) = disk_with(b"");
    disk.fail(Fault::on(OperationKind::Write).with_errno(28));
    disk.fail(Fault::on_any_mutation().with_errno(5));
    assert_eq!(errno(file.write_all_at(b"1", 0)), 28);
    assert_eq!(errno(file.write_all_at(b"2", 0)), 5);
    file.write_all_at(b"3", 0).unwrap();
}

#[test]
fn a_lasting_fault_meets_every_operation_from_then_on() {
    let (disk, file) = disk_with(b"");
    disk.fail(Fault::on_any_mutation().nth(2).from_then_on());
    file.write_all_at(b"1", 0).unwrap();
    assert_eq!(errno(file.write_all_at(b"2", 0)), 5);
    assert_eq!(errno(disk.unlink(Path::new("/d/a"))), 5);
    bytes_of(&file);
    disk.clear_faults();
    disk.unlink(Path::new("/d/a")).unwrap();
}

#[test]
fn every_kind_of_mutation_can_be_failed_and_then_changes_nothing() {
    use OperationKind::{Allocate, Create, CreateDir, Rename, SetLen, SyncDir, Unlink, Write};
    for kind in [Allocate, Create, CreateDir, Rename, SetLen, SyncDir, Unlink, Write] {
        let (disk, file) = disk_with(b"abc");
        let before = disk.operations();
        disk.fail(Fault::on(kind));
        let failed = match kind {
            Allocate => file.allocate(0, 10),
            Create => disk.open(Path::new("/d/b"), OpenMode::Create).map(|_| ()),
            CreateDir => disk.create_dir_all(Path::new("/d/e")),
            Rename => disk.rename(Path::new("/d/a"), Path::new("/d/b")),
            SetLen => file.set_len(1),
            SyncDir => disk.sync_dir(Path::new("/d")),
            Unlink => disk.unlink(Path::new("/d/a")),
            _ => file.write_all_at(b"x", 0),
        };
        assert_eq!(errno(failed), 5, "{kind:?}");
        assert_eq!(disk.operations(), before + 1, "{kind:?}");
        assert_eq!(names(&disk, "/d"), ["a"], "{kind:?}");
        assert_eq!(bytes_of(&file), b"abc", "{kind:?}");
        assert_eq!(disk.pending(), [], "{kind:?}");
    }
}

#[test]
fn the_observer_is_told_of_failures_and_why() {
    let (disk, file) = disk_with(b"");
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.on_operation(move |operation, _| log.lock().push((operation.kind, operation.len, operation.error)));
    disk.fail(Fault::on(OperationKind::Write).after_bytes(1).with(ErrorKind::StorageFull));
    file.write_all_at(b"abc", 0).unwrap_err();
    assert_eq!(*seen.lock(), [(OperationKind::Write, 1, Some(ErrorKind::StorageFull))]);
}

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing() {
    let (disk, file) = disk_with(&[1; 600]);
    disk.set_capacity(Some(1_000));
    assert_eq!(
        file.write_vectored_at(&[IoSlice::new(&[2; 300]), IoSlice::new(&[3; 300])], 600).unwrap(),
        400
    );
    assert_eq!(file.write_all_at(&[3; 1], 1_000).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(1_001).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.allocate(900, 101).unwrap_err().kind(), ErrorKind::StorageFull);
    // What is there can be written over, and space that is given back can be used.
    file.write_all_at(&[4; 1_000], 0).unwrap();
    file.set_len(500).unwrap();
    let other = create(&disk, "/d/b", &[5; 500]);
    assert_eq!(other.write_all_at(&[5], 500).unwrap_err().kind(), ErrorKind::StorageFull);
    disk.unlink(Path::new("/d/a")).unwrap();
    assert_eq!(other.write_all_at(&[5], 500).unwrap_err().kind(), ErrorKind::StorageFull);
    drop(file);
    other.write_all_at(&[5; 500], 500).unwrap();
}

#[test]
fn allocated_blocks_are_kept_for_their_file() {
    let (disk, file) = disk_with(b"");
    disk.set_capacity(Some(1_000));
    file.allocate(0, 800).unwrap();
    let other = disk.open(Path::new("/d/b"), OpenMode::CreateNew).unwrap();
    assert_eq!(other.write_vectored_at(&[IoSlice::new(&[1; 500])], 0).unwrap(), 200);
    file.write_all_at(&[2; 800], 0).unwrap();
    assert_eq!(file.write_all_at(&[2], 800).unwrap_err().kind(), ErrorKind::StorageFull);
    file.set_len(0).unwrap();
    other.write_all_at(&[1; 800], 200).unwrap();
}
