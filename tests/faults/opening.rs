//! Opening where it cannot be: the error says which file, and nothing was changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oncelog::storage::{Fault, LockKind, MemoryStorage, OpenMode, OperationKind, OsStorage, Storage};
use oncelog::{Background, Durability, Environment, Error, Log, LogConfig, Offset, Outcome};

use super::stand::{EACCES, EROFS, Stand, all_files, outcome, path};
use crate::common::check;
use crate::common::ledger::Issued;

fn on_disk(dir: &Path) -> Result<Log, Error> {
    let config =
        LogConfig { background: Background::Caller, timestamp_after_max_ms: None, ..LogConfig::default() };
    Log::open_with(dir, config, Environment::default()).map(|(log, _)| log)
}

fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut entries: Vec<_> =
        OsStorage::new().list(dir).unwrap().into_iter().map(|entry| (entry.name, entry.len)).collect();
    entries.sort();
    entries
}

#[test]
fn a_directory_that_is_open_in_this_process_is_locked_and_the_lock_file_named() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("orders-0");
    let log = on_disk(&dir).unwrap();
    log.append(Issued::new(1, 0, 0, 1).raw(), Durability::Durable).unwrap();
    let before = listing(&dir);
    let error = on_disk(&dir).unwrap_err();
    match &error {
        Error::Locked { path, .. } => assert_eq!(*path, dir.join("oncelog.lock")),
        other => panic!("{other:?}"),
    }
    let message = error.to_string();
    assert!(message.contains("oncelog.lock is locked: another log is open on this directory"), "{message}");
    assert_eq!(listing(&dir), before);
    let other = on_disk(&root.path().join("orders-1")).expect("the root is shared within the process");
    other.close().unwrap();
    log.close().unwrap();
    on_disk(&dir).expect("closing gave the lock back").close().unwrap();
}

#[test]
fn a_root_that_somebody_else_has_is_locked_and_nothing_is_made_under_it() {
    let root = tempfile::tempdir().unwrap();
    let broker = OsStorage::new().lock(&root.path().join(".lock"), LockKind::Exclusive).unwrap();
    let dir = root.path().join("orders-0");
    let error = on_disk(&dir).unwrap_err();
    match &error {
        Error::Locked { path, .. } => assert_eq!(*path, root.path().join(".lock")),
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("a Kafka broker or another process"), "{error}");
    assert_eq!(listing(root.path()), [(".lock".to_owned(), 0)]);
    drop(broker);
    on_disk(&dir).expect("the lock was given back").close().unwrap();
}

#[test]
fn without_permission_or_on_a_read_only_disk_the_error_names_the_file_and_the_next_open_works() {
    let mutations = {
        let Stand { disk, log, .. } = Stand::with_history();
        drop(log);
        let before = disk.operations();
        drop(check::open(&disk).unwrap());
        disk.operations() - before
    };
    assert!(mutations >= 5, "an unclean open writes: {mutations}");
    for errno in [EACCES, EROFS] {
        for number in 1..=mutations {
            let stand = Stand::with_history();
            let Stand { disk, log, ledger } = stand;
            drop(log);
            disk.fail(Fault::on_any_mutation().nth(number).with_errno(errno).from_then_on());
            let error = check::open(&disk).map(drop).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            let message = error.to_string();
            assert!(message.contains(" /logs"), "{message}");
            assert!(message.contains(&format!("os error {errno}")), "{message}");
            disk.clear_faults();
            let (log, _) = check::open(&disk).unwrap();
            let stand = Stand { disk, log, ledger };
            stand.check(&stand.disk.power_cut());
        }
        let disk = Stand::with_history().disk;
        for fault in [
            Fault::on(OperationKind::Lock).named("oncelog.lock"),
            Fault::on(OperationKind::List).named("orders-0"),
            Fault::on(OperationKind::Open).named("oncelog.manifest"),
            Fault::on(OperationKind::Open).named(".log"),
            Fault::on(OperationKind::Read).named(".log"),
        ] {
            let before = all_files(&disk);
            disk.fail(fault.with_errno(errno));
            let error = check::open(&disk).map(drop).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            assert!(error.to_string().contains(" /logs/orders-0"), "{error}");
            assert_eq!(all_files(&disk), before, "{error}");
        }
        drop(check::open(&disk).unwrap());
    }
}

#[test]
fn a_read_only_directory_of_the_real_file_system_is_refused_with_its_path() {
    if rustix::process::geteuid().is_root() {
        // The superuser may write everywhere. `/proc` is a file system in which nobody makes directories.
        let error = on_disk(Path::new("/proc/oncelog-test/orders-0")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error:?}");
        assert!(error.to_string().contains("/proc/oncelog-test"), "{error}");
        return;
    }
    let error = on_disk(Path::new("/orders-0")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("/orders-0"), "{error}");
}

/// Found by trying: its number was counted on from, and the next checkpoint had none; the one after that left a manifest
/// that no open read.
#[test]
fn a_stranger_with_the_greatest_number_of_a_run_leaves_numbers_for_others() {
    for manifest_lost in [false, true] {
        let Stand { disk, log, ledger } = Stand::with_history();
        log.checkpoint().unwrap();
        drop(log);
        for stranger in [u64::MAX, u64::MAX - 1] {
            let stranger = path(&format!("producers.{stranger}.run"));
            disk.open(&stranger, OpenMode::CreateNew).unwrap().write_all_at(b"junk", 0).unwrap();
        }
        if manifest_lost {
            disk.unlink(&path("oncelog.manifest")).unwrap();
        }
        let (log, _) = check::open(&disk).unwrap();
        let stand = Stand { disk, log, ledger };
        for sequence in 7..11 {
            assert_eq!(outcome(stand.append(1, sequence)).0, Outcome::Appended);
            stand.log.checkpoint().unwrap();
        }
        let Stand { disk, log, .. } = stand;
        drop(log);
        let (_, report) = check::open(&disk).unwrap();
        assert_eq!(report.rejected, [], "{report}");
        assert_eq!(report.chain.unwrap().end, Offset(25));
    }
}

#[test]
fn unknown_files_are_left_alone() {
    let Stand { disk, log, ledger } = Stand::with_history();
    drop(log);
    let strangers: Vec<PathBuf> = [
        "notes.txt",
        "00000000000000000007.bak",
        "7.log",
        "0000000000000000000x.log",
        "producers.run",
        "producers.x.run",
        "oncelog.manifest.old",
        "salvage.3.0.bin",
        "tmp",
    ]
    .iter()
    .map(|name| path(name))
    .collect();
    for stranger in &strangers {
        let file = disk.open(stranger, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"somebody else's", 0).unwrap();
        file.sync_all().unwrap();
    }
    disk.sync_dir(Path::new(check::DIR)).unwrap();
    let (log, report) = check::open(&disk).unwrap();
    assert_eq!(report.deleted, Vec::<String>::new());
    let stand = Stand { disk, log, ledger };
    assert_eq!(outcome(stand.append(1, 7)).0, Outcome::Appended);
    stand.log.checkpoint().unwrap();
    let Stand { disk, log, .. } = stand;
    log.close().unwrap();
    drop(check::open(&disk).unwrap());
    for stranger in &strangers {
        let bytes = disk.power_cut().read(stranger);
        assert_eq!(bytes.as_deref(), Some(b"somebody else's".as_slice()), "{}", stranger.display());
    }
}

#[test]
fn an_open_disk_is_locked_on_the_simulated_disk_too() {
    let disk = MemoryStorage::new();
    let (log, _) = check::open(&disk).unwrap();
    let before = all_files(&disk);
    assert!(matches!(check::open(&disk), Err(Error::Locked { .. })));
    assert_eq!(all_files(&disk), before);
    drop(log);
    let _ = Arc::new(check::open(&disk).unwrap());
}
