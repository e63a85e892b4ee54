//! Callbacks run under no lock: they may ask for the very partition that is on its way out.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use oncelog::storage::{ManualClock, MemoryStorage, OperationKind};
use oncelog::{
    Background, Durability, Environment, Error, Log, LogConfig, LogDir, LogDirConfig, PartitionState,
    Retention,
};

use crate::world::{
    NOW, ROOT, append, batch, config, content_of, environment, log_config, name, open, open_with,
};

/// Fails instead of hanging for ever.
fn within_a_minute(work: impl FnOnce() + Send + 'static) {
    let (ended, end) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        ended.send(()).unwrap();
    });
    let hangs = matches!(end.recv_timeout(Duration::from_secs(60)), Err(mpsc::RecvTimeoutError::Timeout));
    assert!(!hangs, "deadlock");
    worker.join().unwrap();
}

/// Lets a callback that asks the root for everything it knows of `t-0` wait for a batch that is written and not synced.
fn ask_from_a_callback(dir: &Arc<LogDir>) -> mpsc::Receiver<Result<i64, Error>> {
    let (told, answers) = mpsc::channel();
    let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
    let asked = Arc::clone(dir);
    log.submit(batch(1, 0), Durability::Durable).unwrap().on_complete(move |answer| {
        answer.unwrap();
        let Some(partition) = asked.get(&name("t", 0)) else { return told.send(Err(Error::Closed)).unwrap() };
        let _any = partition.state();
        told.send(partition.log().map(|log| log.log_end_offset().0)).unwrap();
    });
    assert!(answers.try_recv().is_err(), "it waits");
    answers
}

#[test]
fn a_callback_may_ask_for_the_partition_that_is_brought_to_rest_or_deleted() {
    within_a_minute(|| {
        let disk = MemoryStorage::new();
        let dir = Arc::new(open(&disk).0);
        dir.create(&name("t", 0), log_config()).unwrap();
        let answers = ask_from_a_callback(&dir);
        dir.rest();
        assert_eq!(answers.recv().unwrap().unwrap(), 1);
        assert_eq!(content_of(&dir, &name("t", 0)), [0]);
        dir.delete(&name("t", 0)).unwrap();
    });
}

#[test]
fn a_callback_may_ask_the_log_whose_checkpoint_has_answered_it_and_drop_its_last_handle() {
    within_a_minute(|| {
        let disk = MemoryStorage::new();
        let dir = Arc::new(open(&disk).0);
        dir.create(&name("t", 0), log_config()).unwrap();
        let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
        let (told, answers) = mpsc::channel();
        let asked = log.clone();
        log.submit(batch(1, 0), Durability::Durable).unwrap().on_complete(move |answer| {
            answer.unwrap();
            asked.checkpoint().unwrap();
            told.send(asked.apply_retention().unwrap()).unwrap();
        });
        log.checkpoint().unwrap();
        assert_eq!(answers.recv().unwrap(), 0);
        drop(log);
        // Now the callback's handle of the whole root is the last one.
        let last = Arc::clone(&dir);
        let log = dir.get(&name("t", 0)).unwrap().log().unwrap();
        log.submit(batch(1, 1), Durability::Durable).unwrap().on_complete(move |answer| {
            answer.unwrap();
            drop(last);
        });
        drop(dir);
        log.checkpoint().unwrap();
        assert!(matches!(log.append(batch(1, 2), Durability::Durable), Err(Error::Closed)));
        drop(log);
        assert_eq!(content_of(&open(&disk).0, &name("t", 0)), [0, 1]);
    });
}

#[test]
fn nobody_waits_for_a_callback_when_its_partition_goes() {
    within_a_minute(|| {
        let disk = MemoryStorage::new();
        let log = LogConfig { background: Background::Threads, ..log_config() };
        let dir = Arc::new(open_with(&disk, LogDirConfig { log, ..config() }).0);
        let partition = dir.create(&name("t", 0), log_config()).unwrap();
        append(&partition.log().unwrap(), 1, [0]);
        let (entered, in_callback) = mpsc::channel();
        let (go, gone) = mpsc::channel::<()>();
        let (told, answer) = mpsc::channel();
        let held = partition.log().unwrap();
        let asked = partition.clone();
        // It is answered by a thread of the pool, not before there is a callback.
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(Some(released));
        disk.on_operation(move |operation, _| {
            let first = if operation.kind == OperationKind::SyncData {
                released.lock().unwrap().take()
            } else {
                None
            };
            if let Some(released) = first {
                released.recv().unwrap();
            }
        });
        let completion = held.submit(batch(1, 1), Durability::Durable).unwrap();
        completion.on_complete(move |_| {
            entered.send(thread::current().name().map(str::to_owned)).unwrap();
            gone.recv().unwrap();
            told.send(asked.log().map(drop)).unwrap();
        });
        release.send(()).unwrap();
        let by = in_callback.recv().unwrap();
        assert_eq!(by.as_deref(), Some("oncelog-sync"));
        // It returns although the callback has not.
        dir.delete(&name("t", 0)).unwrap();
        assert!(matches!(partition.state(), PartitionState::Gone));
        go.send(()).unwrap();
        assert!(matches!(answer.recv().unwrap(), Err(Error::Closed)));
        drop(held);
        Arc::into_inner(dir).unwrap().close().unwrap();
    });
}

/// Lets the thread that syncs `t-0` hang, so that it will not call anybody, until it is told to go on.
fn hang_at_a_sync(disk: &MemoryStorage, log: &Log) -> mpsc::Sender<()> {
    let (entered, hangs) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(Some(released));
    disk.on_operation(move |operation, _| {
        let is_its = operation.kind == OperationKind::SyncData && operation.path.starts_with("/data/t-0");
        let waits = if is_its { released.lock().unwrap().take() } else { None };
        if let Some(released) = waits {
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
    });
    log.submit(batch(1, 0), Durability::Durable).unwrap().on_complete(|_| ());
    hangs.recv().unwrap();
    release
}

/// The thread of a root brings idle logs to rest, and may be the one that tells those who wait for them.
#[test]
fn a_callback_on_the_thread_of_a_root_may_drop_the_last_handle_of_it() {
    within_a_minute(|| {
        let disk = MemoryStorage::new();
        let log = LogConfig { background: Background::Threads, ..log_config() };
        let config = LogDirConfig { log, sync_threads: 1, idle_after: Duration::ZERO, ..config() };
        let dir = Arc::new(open_with(&disk, config.clone()).0);
        let [slow, idle] = [0, 1].map(|at| dir.create(&name("t", at), log_config()).unwrap().log().unwrap());
        let release = hang_at_a_sync(&disk, &slow);
        let last = Arc::clone(&dir);
        let (told, answers) = mpsc::channel();
        idle.submit(batch(1, 0), Durability::Durable).unwrap().on_complete(move |answer| {
            told.send((answer.is_ok(), thread::current().name().map(str::to_owned))).unwrap();
            release.send(()).unwrap();
            drop(last);
            told.send((true, None)).unwrap();
        });
        drop((dir, idle));
        let (is_ok, by) = answers.recv().unwrap();
        assert_eq!((is_ok, by.as_deref()), (true, Some("oncelog-root")));
        assert_eq!(answers.recv(), Ok((true, None)), "the drop has panicked");
        drop(slow);
        let (dir, report) = open_with(&disk, config);
        assert_eq!(report.failed().count(), 0);
        assert_eq!(content_of(&dir, &name("t", 1)), [0]);
    });
}

/// It wakes logs whose segments are to be deleted, and for that brings others to rest.
#[test]
fn the_thread_of_a_root_writes_nothing_once_a_callback_has_dropped_the_last_handle() {
    within_a_minute(|| {
        let disk = MemoryStorage::new();
        let clock = Arc::new(ManualClock::new(NOW));
        let environment = Environment { clock: Arc::<ManualClock>::clone(&clock), ..environment(&disk) };
        let log = LogConfig { background: Background::Threads, ..log_config() };
        let hour = Duration::from_secs(3600);
        let config = LogDirConfig {
            log,
            sync_threads: 1,
            descriptors: Some(16),
            idle_after: 2 * hour,
            offsets_interval: hour,
            ..config()
        };
        let dir = Arc::new(LogDir::open(ROOT, config, environment).unwrap().0);
        let retention = Retention { max_bytes: Some(1), ..Retention::default() };
        let full = dir.create(&name("t", 2), LogConfig { retention, ..log_config() }).unwrap();
        append(&full.log().unwrap(), 1, 0..12);
        dir.rest();
        assert!(matches!(full.state(), PartitionState::Resting { .. }));
        // With one more the descriptors run short.
        let made = [0, 1, 3].map(|at| dir.create(&name("t", at), log_config()).unwrap().log().unwrap());
        let [slow, idle, held] = made;
        let release = hang_at_a_sync(&disk, &slow);
        let last = Arc::clone(&dir);
        let (told, answers) = mpsc::channel();
        let seen = disk.clone();
        idle.submit(batch(1, 0), Durability::Durable).unwrap().on_complete(move |_| {
            let by = thread::current().name().map(str::to_owned);
            release.send(()).unwrap();
            drop(last);
            told.send((by, seen.operations())).unwrap();
        });
        drop((dir, idle, full));
        clock.advance(hour);
        let (by, before) = answers.recv().unwrap();
        assert_eq!(by.as_deref(), Some("oncelog-root"));
        drop((slow, held));
        // The thread ends with the round that it is in, and nobody has the root any more.
        while Arc::strong_count(&clock) > 1 {
            thread::yield_now();
        }
        assert_eq!(disk.operations(), before);
    });
}
