//! What crashes leave.

use std::path::PathBuf;

use super::*;

/// The file `/d/a` in an image.
fn left(image: &Image) -> Option<Vec<u8>> {
    image.read(Path::new("/d/a"))
}

/// An image that keeps the changes of these numbers.
fn keeping(disk: &MemoryStorage, kept: &[usize]) -> Image {
    let mut number = 0..;
    disk.power_cut_with(|_| kept.contains(&number.next().unwrap()))
}

#[test]
fn unsynced_bytes_vanish_at_a_power_cut_and_survive_a_kill() {
    let (disk, file) = disk_with(b"abc");
    file.write_all_at(b"xyz123", 0).unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), b"abc");
    assert_eq!(left(&disk.kill()).unwrap(), b"xyz123");
    // What a kill left is still unsynced.
    let killed = MemoryStorage::from_image(&disk.kill());
    assert_eq!(left(&killed.power_cut()).unwrap(), b"abc");
    killed.open(Path::new("/d/a"), OpenMode::Write).unwrap().sync_data().unwrap();
    assert_eq!(left(&killed.power_cut()).unwrap(), b"xyz123");
}

#[test]
fn a_name_without_a_directory_sync_vanishes_though_the_file_was_synced() {
    let disk = disk();
    create(&disk, "/d/a", b"abc").sync_all().unwrap();
    assert_eq!(left(&disk.power_cut()), None);
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), b"abc");
}

#[test]
fn a_name_without_its_files_sync_stands_over_an_empty_file() {
    let disk = disk();
    create(&disk, "/d/a", b"abc");
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), b"");
}

#[test]
fn a_directory_that_its_parent_did_not_sync_vanishes_with_all_in_it() {
    let disk = MemoryStorage::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    create(&disk, "/d/a", b"abc").sync_all().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.power_cut().files(), Vec::<PathBuf>::new());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.power_cut().files(), [PathBuf::from("/d/a")]);
}

#[test]
fn a_rename_without_a_directory_sync_shows_the_old_name() {
    let (disk, _file) = disk_with(b"abc");
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    assert_eq!(disk.power_cut().files(), [PathBuf::from("/d/a")]);
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.power_cut().files(), [PathBuf::from("/d/b")]);
}

#[test]
fn an_unsynced_rename_may_show_either_name_or_both_or_none() {
    let (disk, _file) = disk_with(b"abc");
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    let pending = disk.pending();
    assert_eq!(pending.len(), 2);
    let mut seen = Vec::new();
    for choice in [&[][..], &[0], &[1], &[0, 1]] {
        let image = keeping(&disk, choice);
        seen.push(image.files().iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" "));
        // A file under two names is one file.
        let again = MemoryStorage::from_image(&image);
        assert_eq!(again.pending(), []);
    }
    assert_eq!(seen, ["/d/a", "", "/d/a /d/b", "/d/b"]);
}

#[test]
fn a_removed_file_comes_back_with_its_bytes_until_its_directory_is_synced() {
    let (disk, file) = disk_with(b"abc");
    drop(file);
    disk.unlink(Path::new("/d/a")).unwrap();
    assert_eq!(left(&disk.kill()), None);
    assert_eq!(left(&disk.power_cut()).unwrap(), b"abc");
    // Also after the process that removed it has died.
    let killed = MemoryStorage::from_image(&disk.kill());
    assert_eq!(left(&killed.power_cut()).unwrap(), b"abc");
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(&disk.power_cut()), None);
}

#[test]
fn a_replaced_file_comes_back_until_the_directory_is_synced() {
    let (disk, _file) = disk_with(b"old");
    create(&disk, "/d/tmp", b"new").sync_data().unwrap();
    disk.rename(Path::new("/d/tmp"), Path::new("/d/a")).unwrap();
    assert_eq!(left(&disk.kill()).unwrap(), b"new");
    assert_eq!(left(&disk.power_cut()).unwrap(), b"old");
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), b"new");
}

#[test]
fn a_torn_write_keeps_any_of_its_sectors() {
    let (disk, file) = disk_with(&[1; 1_536]);
    file.write_all_at(&[2; 1_000], 300).unwrap();
    let path: Arc<Path> = Arc::from(Path::new("/d/a"));
    let sector = |index| Pending::Sector { path: Arc::clone(&path), index };
    assert_eq!(disk.pending(), [sector(0), sector(1), sector(2)]);
    let torn =
        |fills: &[(u8, usize)]| fills.iter().flat_map(|(byte, len)| vec![*byte; *len]).collect::<Vec<u8>>();
    assert_eq!(left(&keeping(&disk, &[1])).unwrap(), torn(&[(1, 512), (2, 512), (1, 512)]));
    assert_eq!(
        left(&keeping(&disk, &[0, 2])).unwrap(),
        torn(&[(1, 300), (2, 212), (1, 512), (2, 276), (1, 236)])
    );
    assert_eq!(left(&keeping(&disk, &[0, 1, 2])).unwrap(), torn(&[(1, 300), (2, 1_000), (1, 236)]));
}

#[test]
fn an_append_may_leave_zeros_or_an_end_in_between() {
    let (disk, file) = disk_with(&[1; 512]);
    file.write_all_at(&[2; 700], 512).unwrap();
    let path: Arc<Path> = Arc::from(Path::new("/d/a"));
    let length = Pending::Length { path, durable: 512, cached: 1_212 };
    assert_eq!(disk.pending().last(), Some(&length));
    let with = |rest: &[(u8, usize)]| {
        let mut bytes = vec![1; 512];
        rest.iter().for_each(|(byte, len)| bytes.resize(bytes.len() + len, *byte));
        bytes
    };
    // Changes 0 and 1 are the sectors, 2 is the length.
    assert_eq!(left(&keeping(&disk, &[])).unwrap(), with(&[]));
    assert_eq!(left(&keeping(&disk, &[2])).unwrap(), with(&[(0, 700)]));
    assert_eq!(left(&keeping(&disk, &[0])).unwrap(), with(&[(2, 512)]));
    assert_eq!(left(&keeping(&disk, &[1])).unwrap(), with(&[(0, 512), (2, 188)]));
    assert_eq!(left(&keeping(&disk, &[0, 2])).unwrap(), with(&[(2, 512), (0, 188)]));
    assert_eq!(left(&keeping(&disk, &[0, 1, 2])).unwrap(), with(&[(2, 700)]));
}

#[test]
fn an_unsynced_cut_brings_the_old_bytes_back() {
    let (disk, file) = disk_with(&[1; 9_000]);
    file.set_len(4_000).unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), [1; 9_000]);
    assert_eq!(left(&disk.power_cut_with(|_| true)).unwrap(), [1; 4_000]);
    file.sync_data().unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), [1; 4_000]);
}

#[test]
fn bytes_from_before_an_unsynced_cut_show_through_a_lost_sector() {
    let (disk, file) = disk_with(&[1; 2_048]);
    file.set_len(0).unwrap();
    file.write_all_at(&[2; 1_536], 0).unwrap();
    // The medium has the new length, and of the new bytes only the first sector.
    let mut expected = vec![2; 512];
    expected.resize(1_536, 1);
    assert_eq!(left(&keeping(&disk, &[0, 3])).unwrap(), expected);
    file.sync_data().unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), [2; 1_536]);
}

#[test]
fn zeros_of_an_extension_over_an_unsynced_cut_are_unsynced_writes() {
    let (disk, file) = disk_with(&[1; 1_024]);
    file.set_len(100).unwrap();
    file.set_len(1_024).unwrap();
    let mut zeros = vec![1; 100];
    zeros.resize(1_024, 0);
    assert_eq!(bytes_of(&file), zeros);
    assert_eq!(disk.pending().len(), 2);
    assert_eq!(left(&disk.power_cut()).unwrap(), [1; 1_024]);
    file.sync_data().unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), zeros);
}

#[test]
fn a_write_behind_an_unsynced_cut_makes_its_gap_durable_too() {
    let (disk, file) = disk_with(&[1; 10_000]);
    file.set_len(0).unwrap();
    file.write_all_at(&[2; 100], 9_000).unwrap();
    let mut expected = vec![0; 9_000];
    expected.resize(9_100, 2);
    assert_eq!(bytes_of(&file), expected);
    file.sync_data().unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), expected);
}

#[test]
fn an_append_that_was_cut_off_again_is_no_unsynced_write() {
    let (disk, file) = disk_with(&[1; 1_000]);
    file.write_all_at(&[2; 20_000], 1_024).unwrap();
    file.set_len(1_000).unwrap();
    assert_eq!(disk.pending(), []);
}

#[test]
fn a_disk_after_a_power_cut_works_on_and_is_cut_again() {
    let (disk, _file) = disk_with(b"abc");
    create(&disk, "/d/lost", b"lost");
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    let again = MemoryStorage::from_image(&disk.power_cut());
    again.rename(Path::new("/d/a"), Path::new("/d/c")).unwrap();
    again.sync_dir(Path::new("/d")).unwrap();
    create(&again, "/d/a", b"new").sync_data().unwrap();
    again.unlink(Path::new("/d/c")).unwrap();
    assert_eq!(names(&again, "/d"), ["a"]);
    assert_eq!(again.power_cut().files(), [PathBuf::from("/d/c")]);
    again.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(&again.power_cut()).unwrap(), b"new");
}

#[test]
fn what_no_name_and_no_handle_leads_to_is_forgotten() {
    let nodes = |disk: &MemoryStorage| disk.state().tree.nodes();
    let (disk, file) = disk_with(b"abc");
    let path = Path::new("/d/a");
    assert_eq!(nodes(&disk), 3);
    // Handles belong to the process that a crash ends.
    for image in [disk.kill(), disk.power_cut()] {
        let again = MemoryStorage::from_image(&image);
        again.unlink(path).unwrap();
        again.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(nodes(&again), 2);
    }
    let held = disk.lock(path, LockKind::Shared).unwrap();
    disk.lock(path, LockKind::Exclusive).unwrap_err();
    disk.unlink(path).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(nodes(&disk), 3);
    assert_eq!(disk.kill().tree.nodes(), 2);
    assert_eq!(disk.power_cut().tree.nodes(), 2);
    drop((file, held));
    assert_eq!(nodes(&disk), 2);
}

#[test]
fn a_sync_makes_its_own_file_durable_and_no_other() {
    let (disk, file) = disk_with(b"a");
    let other = create(&disk, "/d/b", b"b");
    disk.sync_dir(Path::new("/d")).unwrap();
    file.write_all_at(b"A", 0).unwrap();
    other.sync_data().unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), b"a");
    assert_eq!(disk.power_cut().read(Path::new("/d/b")).unwrap(), b"b");
}

#[test]
fn an_image_does_not_see_what_comes_later_on_either_disk() {
    let (disk, file) = disk_with(&[1; 5_000]);
    let image = disk.power_cut();
    file.write_all_at(&[2; 5_000], 0).unwrap();
    file.sync_data().unwrap();
    let again = MemoryStorage::from_image(&image);
    again.open(Path::new("/d/a"), OpenMode::Write).unwrap().write_all_at(&[3; 5_000], 0).unwrap();
    assert_eq!(left(&image).unwrap(), [1; 5_000]);
    assert_eq!(left(&disk.kill()).unwrap(), [2; 5_000]);
    assert_eq!(left(&again.kill()).unwrap(), [3; 5_000]);
}

#[test]
fn with_syncs_switched_off_nothing_becomes_durable_and_nothing_complains() {
    let (disk, file) = disk_with(b"abc");
    disk.set_syncs(false);
    file.write_all_at(b"xyz", 0).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(left(&disk.power_cut()).unwrap(), b"abc");
    disk.set_syncs(true);
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.power_cut().read(Path::new("/d/b")).unwrap(), b"xyz");
}
