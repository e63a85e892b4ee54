//! Whoever holds a log while its partition is closed, deleted or moved.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use oncelog::recovery::RecoveryKind;
use oncelog::storage::{
    DirEntry, File, LockGuard, LockKind, MemoryStorage, OpenMode, OperationKind, Storage,
};
use oncelog::{
    Durability, Environment, Error, HighWatermark, Isolation, Log, LogConfig, LogDir, LogDirConfig, Offset,
    Outcome,
};

use crate::world::{NOW, ROOT, append, batch, config, content, environment, filled, log_config, name, open};

/// The directory is another log's as soon as its name is given again, and so are the names of its runs.
#[test]
fn an_export_takes_no_run_of_the_partition_that_has_its_log_s_name_by_now() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[12]);
    let held = dir.get(&name("t", 0)).unwrap().log().unwrap();
    let (come, arrived) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let waits = Mutex::new(Some((come, gone)));
    disk.on_operation(move |operation, _| {
        let makes_run = operation.kind == OperationKind::Create && operation.name().ends_with(".run");
        if let Some((come, gone)) = makes_run.then(|| waits.lock().unwrap().take()).flatten() {
            come.send(operation.path.to_path_buf()).unwrap();
            // Nobody says so as long as the deletion waits.
            let _waited = gone.recv_timeout(Duration::from_millis(300));
        }
    });
    thread::scope(|scope| {
        let exporter = scope.spawn(|| held.export(Offset(0)).map(drop));
        let run = arrived.recv_timeout(Duration::from_secs(20)).unwrap();
        dir.delete(&name("t", 0)).unwrap();
        let log = dir.create(&name("t", 0), log_config()).unwrap().log().unwrap();
        for sequence in 0..20 {
            if disk.identity(&run).is_ok() {
                break;
            }
            append(&log, 1, [sequence]);
            log.checkpoint().unwrap();
        }
        assert!(disk.identity(&run).is_ok(), "the new log has no {}", run.display());
        let _it_is_over = go.send(());
        let _exported = exporter.join().unwrap();
        assert!(disk.identity(&run).is_ok(), "{} is the new log's", run.display());
    });
    disk.forget_observer();
}

/// What may become of a log that was cut while it was closed.
const SOUND: [RecoveryKind; 2] = [RecoveryKind::Clean, RecoveryKind::Unclean];

#[test]
fn a_log_may_be_cut_at_any_operation_of_its_close() {
    for at in 1.. {
        let disk = MemoryStorage::new();
        let dir = filled(&disk, &[12]);
        let held = dir.get(&name("t", 0)).unwrap().log().unwrap();
        let before = disk.operations();
        let (come, arrived) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let waits = Mutex::new(Some((come.clone(), gone)));
        disk.on_operation(move |operation, _| {
            if operation.number < before + at {
                return;
            }
            let waits = waits.lock().unwrap().take();
            if let Some((come, gone)) = waits {
                come.send(Some(operation.clone())).unwrap();
                let _waited = gone.recv_timeout(Duration::from_millis(50));
            }
        });
        let (what, end) = thread::scope(|scope| {
            let closer = scope.spawn(move || {
                let _closed = dir.close();
                come.send(None)
            });
            let what = arrived.recv().unwrap();
            if what.is_some() {
                let _cut = held.truncate_to(Offset(6));
            }
            let _it_is_over = go.send(());
            closer.join().unwrap().unwrap();
            (what, held.log_end_offset())
        });
        disk.forget_observer();
        drop(held);
        let Some(what) = what else { return };
        let (dir, report) = open(&disk);
        let failed: Vec<_> = report.failed().collect();
        assert!(failed.is_empty(), "{what:?}: {failed:?}");
        let kind = report.partitions[&name("t", 0)].as_ref().unwrap().kind;
        let sound = if report.clean_shutdown { &[RecoveryKind::Clean][..] } else { &SOUND };
        assert!(sound.contains(&kind), "{what:?}: {kind:?}, root marked: {}", report.clean_shutdown);
        let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
        assert_eq!(log.log_end_offset(), end, "{what:?}");
        let found = content(&log);
        let first = i32::try_from(log.log_start_offset().0).unwrap();
        assert_eq!(
            found,
            (first..first + i32::try_from(found.len()).unwrap()).collect::<Vec<_>>(),
            "{what:?}"
        );
        let next = i32::try_from(end.0).unwrap();
        for sequence in next - 5..next {
            let retry = log.append(batch(1, sequence), Durability::Durable).unwrap();
            assert_eq!(retry.outcome, Outcome::Duplicate, "{what:?}");
        }
        append(&log, 1, [next]);
    }
}

type Act = Box<dyn FnOnce() + Send>;

/// A disk that does something once before it opens a file for reading.
#[derive(Clone)]
struct Preempting {
    disk: MemoryStorage,
    before_open: Arc<Mutex<Option<Act>>>,
}

impl std::fmt::Debug for Preempting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Storage for Preempting {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::Read {
            let act = self.before_open.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        }
        self.disk.open(path, mode)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.disk.unlink(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path, kind: LockKind) -> io::Result<LockGuard> {
        self.disk.lock(path, kind)
    }

    fn identity(&self, path: &Path) -> io::Result<(u64, u64)> {
        self.disk.identity(path)
    }

    fn boot_id(&self) -> [u8; 16] {
        self.disk.boot_id()
    }
}

/// Segments are opened when they are first read, by a name that may be another partition's then.
#[test]
fn a_fetch_that_a_deletion_overtakes_shows_nothing_of_the_partition_that_has_the_name_by_now() {
    let disk = MemoryStorage::new();
    filled(&disk, &[12]).close().unwrap();
    let fetch = |log: &Log| log.fetch(Offset(0), 1 << 20, Isolation::LogEnd).map(drop);
    let look_up = |log: &Log| log.offset_for_timestamp(NOW, Isolation::LogEnd).map(drop);
    let set = |log: &Log| log.set_high_watermark(Offset(3)).map(drop);
    let log = LogConfig { high_watermark: HighWatermark::External, ..log_config() };
    let config = LogDirConfig { log, ..config() };
    for ask in [fetch, look_up, set] {
        let disk = MemoryStorage::from_image(&disk.kill());
        // The high watermark is the log start then.
        disk.unlink(&Path::new(ROOT).join("replication-offset-checkpoint")).unwrap();
        let storage = Preempting { disk: disk.clone(), before_open: Arc::default() };
        let environment = Environment { storage: Arc::new(storage.clone()), ..environment(&disk) };
        let dir = Arc::new(LogDir::open(ROOT, config.clone(), environment).unwrap().0);
        let held = dir.get(&name("t", 0)).unwrap().log().unwrap();
        let act = Arc::clone(&dir);
        *storage.before_open.lock().unwrap() = Some(Box::new(move || {
            act.delete(&name("t", 0)).unwrap();
            let log = act.create(&name("t", 0), log_config()).unwrap().log().unwrap();
            append(&log, 2, 0..12);
        }));
        let answer = ask(&held);
        assert!(storage.before_open.lock().unwrap().is_none());
        assert!(matches!(answer, Err(Error::Closed)), "{answer:?}");
    }
}

/// What was deleted before it was opened has no records to look at, and what is left has.
#[test]
fn a_look_up_by_time_that_a_deletion_of_records_overtakes_goes_on_behind_it() {
    let disk = MemoryStorage::new();
    filled(&disk, &[12]).close().unwrap();
    let storage = Preempting { disk: disk.clone(), before_open: Arc::default() };
    let environment = Environment { storage: Arc::new(storage.clone()), ..environment(&disk) };
    let dir = Arc::new(LogDir::open(ROOT, config(), environment).unwrap().0);
    let held = dir.get(&name("t", 0)).unwrap().log().unwrap();
    let act = Arc::clone(&dir);
    *storage.before_open.lock().unwrap() = Some(Box::new(move || {
        let log = act.get(&name("t", 0)).unwrap().log().unwrap();
        assert_eq!(log.delete_records_before(Offset(11)).unwrap(), Offset(11));
    }));
    let found = held.offset_for_timestamp(NOW, Isolation::LogEnd);
    assert!(storage.before_open.lock().unwrap().is_none());
    assert_eq!(found.unwrap(), Some((Offset(11), NOW)));
}
