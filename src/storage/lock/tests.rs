//! Who is kept out by which lock.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use super::*;
use crate::storage::{MemoryStorage, OpenMode, OsStorage};

/// Runs a test on a real disk and on a simulated one.
fn on_both(test: impl Fn(&Arc<dyn Storage>, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    test(&(Arc::new(OsStorage::new()) as Arc<dyn Storage>), dir.path());
    test(&(Arc::new(MemoryStorage::new()) as Arc<dyn Storage>), Path::new("/"));
}

/// Takes a lock as a Java process does.
fn record_lock(storage: &dyn Storage, path: &Path, kind: libc::c_int) -> Result<libc::c_int, Errno> {
    let file = storage.open(path, OpenMode::Write).unwrap();
    let lock = libc::flock {
        l_type: short(kind).unwrap(),
        l_whence: short(libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: i64::MAX,
        l_pid: 0,
    };
    fcntl(file.descriptor().unwrap().as_fd(), FcntlArg::F_SETLK(&lock))
}

#[test]
fn an_exclusive_lock_keeps_a_second_open_of_this_process_out() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        let first = storage.lock(&path, LockKind::Exclusive).unwrap();
        assert_eq!(storage.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(storage.lock(&path, LockKind::Shared).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(first);
        storage.lock(&path, LockKind::Exclusive).unwrap();
    });
}

#[test]
fn closing_another_handle_of_the_file_does_not_drop_the_lock() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        let _held = storage.lock(&path, LockKind::Exclusive).unwrap();
        drop(storage.open(&path, OpenMode::Write).unwrap());
        assert_eq!(storage.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn shared_locks_keep_only_exclusive_ones_out() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        drop(storage.lock(&path, LockKind::Exclusive).unwrap());
        let one = storage.lock(&path, LockKind::Shared).unwrap();
        let two = storage.lock(&path, LockKind::Shared).unwrap();
        assert_eq!((one.kind(), one.path()), (LockKind::Shared, path.as_path()));
        drop(one);
        assert_eq!(storage.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(two);
        storage.lock(&path, LockKind::Exclusive).unwrap();
    });
}

#[test]
fn a_shared_lock_creates_no_file() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        assert_eq!(storage.lock(&path, LockKind::Shared).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(storage.list(dir).unwrap(), []);
    });
}

#[test]
fn a_kafka_brokers_record_lock_and_ours_keep_each_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let storage = OsStorage::new();
    let path = dir.path().join(".lock");
    let ours = storage.lock(&path, LockKind::Exclusive).unwrap();
    assert_eq!(record_lock(&storage, &path, libc::F_WRLCK), Err(Errno::EAGAIN));
    drop(ours);

    // A record lock goes when its process closes any descriptor of the file: this one is kept open.
    let file = storage.open(&path, OpenMode::Write).unwrap();
    let lock = libc::flock {
        l_type: short(libc::F_WRLCK).unwrap(),
        l_whence: short(libc::SEEK_SET).unwrap(),
        l_start: 0,
        l_len: i64::MAX,
        l_pid: 0,
    };
    fcntl(file.descriptor().unwrap(), FcntlArg::F_SETLK(&lock)).unwrap();
    assert_eq!(storage.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn logs_of_one_process_share_the_lock_of_their_root_until_the_last_is_closed() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        let one = lock_root(storage, &path).unwrap();
        let two = lock_root(storage, &dir.join("./.lock")).unwrap();
        assert_eq!(one.path(), path);
        // What another process would meet.
        assert_eq!(storage.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(one);
        assert_eq!(storage.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(two);
        storage.lock(&path, LockKind::Exclusive).unwrap();
    });
}

#[test]
fn a_root_locked_by_somebody_else_is_refused_and_can_be_had_later() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        let other = storage.lock(&path, LockKind::Exclusive).unwrap();
        assert_eq!(lock_root(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(lock_root_shared(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(other);
        lock_root(storage, &path).unwrap();
    });
}

#[test]
fn a_reader_joins_the_lock_of_a_writer_of_the_same_process() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        let writer = lock_root(storage, &path).unwrap();
        let reader = lock_root_shared(storage, &path).unwrap();
        drop(writer);
        // The lock that the reader joined is exclusive, and stays so.
        assert_eq!(storage.lock(&path, LockKind::Shared).unwrap_err().kind(), ErrorKind::WouldBlock);
        let writer = lock_root(storage, &path).unwrap();
        drop((writer, reader));
        storage.lock(&path, LockKind::Exclusive).unwrap();
    });
}

#[test]
fn a_writer_does_not_join_the_shared_lock_of_a_reader() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        assert_eq!(lock_root_shared(storage, &path).unwrap_err().kind(), ErrorKind::NotFound);
        drop(lock_root(storage, &path).unwrap());
        let reader = lock_root_shared(storage, &path).unwrap();
        storage.lock(&path, LockKind::Shared).unwrap();
        assert_eq!(lock_root(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(reader);
        lock_root(storage, &path).unwrap();
    });
}

#[test]
fn equal_paths_on_two_simulated_disks_are_two_roots() {
    let disks: [Arc<dyn Storage>; 2] = [Arc::new(MemoryStorage::new()), Arc::new(MemoryStorage::new())];
    let path = Path::new("/.lock");
    let [one, two] = disks.each_ref().map(|disk| lock_root(disk, path).unwrap());
    drop(one);
    let [first, second] = disks.each_ref().map(|disk| disk.lock(path, LockKind::Exclusive).is_ok());
    assert_eq!((first, second), (true, false));
    drop(two);
}

#[test]
fn whoever_has_the_whole_root_has_it_alone() {
    on_both(|storage, dir| {
        let path = dir.join(".lock");
        let beside = lock_root(storage, &path).unwrap();
        assert_eq!(lock_whole_root(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(beside);
        let whole = lock_whole_root(storage, &path).unwrap();
        assert_eq!(lock_root(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(lock_root_shared(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(lock_whole_root(storage, &path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(whole);
        lock_root(storage, &path).unwrap();
    });
}
