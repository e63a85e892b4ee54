//! One pool of threads for all logs of a root.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use oncelog::storage::{MemoryStorage, OperationKind};
use oncelog::{Background, Completion, Durability, LogConfig, LogDirConfig, PartitionState};

use crate::world::{append, batch, config, content_of, log_config, name, open_with};

fn threaded() -> LogDirConfig {
    let log = LogConfig { background: Background::Threads, ..log_config() };
    LogDirConfig { log, sync_threads: 3, ..config() }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        thread::yield_now();
    }
}

#[test]
fn many_callers_of_many_logs_are_all_answered_by_few_threads() {
    let disk = MemoryStorage::new();
    let (dir, _) = open_with(&disk, threaded());
    let names: Vec<_> = (0..20).map(|partition| name("t", partition)).collect();
    for partition in &names {
        dir.create(partition, log_config()).unwrap();
    }
    thread::scope(|scope| {
        for caller in 0..8 {
            let (dir, names) = (&dir, &names);
            scope.spawn(move || {
                for sequence in 0..15 {
                    for partition in names.iter().skip(caller % 3) {
                        let log = dir.get(partition).unwrap().log().unwrap();
                        let producer = i64::try_from(caller).unwrap();
                        log.append(batch(producer, sequence), Durability::Durable).unwrap();
                    }
                    if sequence % 5 == 0 {
                        dir.rest();
                    }
                }
            });
        }
    });
    assert_eq!(content_of(&dir, &names[19]).len(), 8 * 15);
    dir.close().unwrap();
    let (dir, report) = open_with(&disk, threaded());
    assert!(report.clean_shutdown && report.failed().count() == 0);
    assert_eq!(content_of(&dir, &names[7]).len(), 8 * 15);
}

#[test]
fn a_round_of_submits_to_several_logs_is_synced_by_the_pool() {
    let disk = MemoryStorage::new();
    let (dir, _) = open_with(&disk, threaded());
    let logs: Vec<_> =
        (0..6).map(|at| dir.create(&name("t", at), log_config()).unwrap().log().unwrap()).collect();
    for sequence in 0..4 {
        let round: Vec<_> =
            logs.iter().map(|log| log.submit(batch(1, sequence), Durability::Durable).unwrap()).collect();
        for answer in Completion::wait_all(round) {
            assert_eq!(answer.unwrap().base_offset.unwrap().0, i64::from(sequence));
        }
    }
}

#[test]
fn buffered_batches_become_durable_and_idle_logs_rest_without_a_caller() {
    let disk = MemoryStorage::new();
    let log = LogConfig { background_sync_after: Duration::ZERO, ..threaded().log };
    let config = LogDirConfig { log: log.clone(), idle_after: Duration::ZERO, ..threaded() };
    let (dir, _) = open_with(&disk, config);
    let partition = dir.create(&name("t", 0), log).unwrap();
    let held = partition.log().unwrap();
    held.append(batch(1, 0), Durability::Buffered).unwrap();
    wait_until("the tick syncs", || held.high_watermark() == held.log_end_offset());
    drop(held);
    wait_until("it rests", || matches!(partition.state(), PartitionState::Resting { .. }));
    append(&partition.log().unwrap(), 1, [1]);
    dir.delete(&name("t", 0)).unwrap();
    wait_until("it is removed", || !crate::world::names(&disk).iter().any(|name| name.starts_with("t-0")));
}

#[test]
fn a_log_is_closed_while_another_s_sync_hangs() {
    let disk = MemoryStorage::new();
    let (dir, _) = open_with(&disk, threaded());
    let slow = dir.create(&name("slow", 0), log_config()).unwrap().log().unwrap();
    let quick = dir.create(&name("quick", 0), log_config()).unwrap();
    append(&quick.log().unwrap(), 1, 0..3);
    let (entered, hangs) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(Some(released)));
    disk.on_operation(move |operation, _| {
        let is_slow = operation.kind == OperationKind::SyncData && operation.path.starts_with("/data/slow-0");
        let waits = if is_slow { released.lock().unwrap().take() } else { None };
        if let Some(released) = waits {
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
    });
    thread::scope(|scope| {
        let caller = scope.spawn(|| slow.append(batch(1, 0), Durability::Durable));
        hangs.recv().unwrap();
        append(&quick.log().unwrap(), 1, 3..20);
        dir.rest();
        assert!(matches!(quick.state(), PartitionState::Resting { .. }));
        release.send(()).unwrap();
        caller.join().unwrap().unwrap();
    });
    disk.forget_observer();
    drop(slow);
    dir.close().unwrap();
}
