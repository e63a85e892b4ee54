use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::format::batch::RawBatch;
use crate::format::batch_builder::BatchBuilder;
use crate::log::generation::Cuts;
use crate::log::hosted::Host;
use crate::log::root_mark::RootMark;
use crate::log::{Background, Environment, Log, LogConfig};
use crate::storage::{MemoryStorage, Storage};
use crate::types::Durability;

/// A log with something to write a checkpoint of, whose background is `lanes`.
fn hosted(disk: &MemoryStorage, lanes: &Arc<Lanes>, dir: &str) -> Log {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let host = Host {
        lanes: Some(Arc::clone(lanes)),
        mark: Arc::new(RootMark::above(&storage, Path::new(dir))),
        root: None,
        cuts: Cuts::default(),
        lower_lines: None,
    };
    storage.create_dir_all(Path::new(dir)).unwrap();
    let config = LogConfig { background: Background::Threads, preallocate_bytes: 0, ..LogConfig::default() };
    let environment = Environment { storage, ..Environment::default() };
    let log = Log::open_hosted(Path::new(dir), config, environment, &host).unwrap().0;
    let batch = BatchBuilder::new().record_at(1, None, Some(b"x")).build().unwrap();
    log.append(RawBatch(batch), Durability::Durable).unwrap();
    log
}

/// The thread that was woken for the first one had not come to itself when the second one looked for somebody to wake.
#[test]
fn of_two_tasks_that_come_at_once_none_waits_for_the_other() {
    let disk = MemoryStorage::new();
    let pool = Pool::start(2, 1, 0).unwrap();
    let logs = ["/data/a-0", "/data/b-0"].map(|dir| hosted(&disk, pool.lanes(), dir));
    let lane = &pool.lanes.sync;
    // Nobody looks at the clock meanwhile.
    lane.line.lock().tick_at = Instant::now() + Duration::from_secs(3600);
    lane.clock.notify_all();
    let idle = |line: &Line| line.watched && line.idle == 1 && line.ready.is_empty();
    let mut looks = 0;
    while looks < 1000 {
        looks = if idle(&lane.line.lock()) { looks + 1 } else { 0 };
        thread::yield_now();
    }
    let (begin, begun) = mpsc::channel();
    let (told, answer) = mpsc::channel();
    let first = Mutex::new(Some((begun, told)));
    disk.on_operation(move |operation, _| {
        if operation.path.starts_with("/data/b-0") {
            let _it_may_be_over = begin.send(());
        } else if let Some((begun, told)) = first.lock().take() {
            told.send(begun.recv_timeout(Duration::from_secs(10)).is_ok()).unwrap();
        }
    });
    {
        let mut line = lane.line.lock();
        for log in &logs {
            let seat = log.shared.membership.as_ref().unwrap().seat;
            line.push(seat, Task::Checkpoint);
            lane.wake(&line);
        }
    }
    assert!(answer.recv().unwrap(), "the second one was not begun");
    disk.forget_observer();
}
