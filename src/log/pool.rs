//! Background threads, of one log or of many.
//!
//! Invariant: in each lane a log runs one task at a time, its tasks run in the order in which they were asked for, and
//! after each of them the log goes to the end of the line: no log starves another. A thread holds a log only while it
//! runs a task of it. Whoever takes a log out waits for what is running of that log alone, but for foreign code, and runs
//! what was still in line for it: a task that was taken is a task that is done.
//!
//! There are three lanes, so that a checkpoint never keeps a sync waiting, nor a compaction a checkpoint. The number of
//! threads of a lane bounds how many syncs, checkpoints or compactions run at a time. One idle thread of a lane watches the
//! clock for all.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::shared::Shared;
use super::worker::{Duty, Task};

/// How long small batches that nobody waits for may gather.
const LINGER: Duration = Duration::from_millis(1);
/// How often a lane looks at the clock.
const TICK: Duration = Duration::from_millis(200);

/// The threads. Dropping the pool ends them, after what they are doing.
pub(crate) struct Pool {
    lanes: Arc<Lanes>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// The lanes, as the logs see them.
pub(crate) struct Lanes {
    sync: Lane,
    checkpoint: Lane,
    compact: Lane,
    next_seat: AtomicU64,
}

struct Lane {
    duty: Duty,
    line: Mutex<Line>,
    /// Idle threads wait here, but for the one that watches the clock.
    work: Condvar,
    clock: Condvar,
    /// Those wait here who take a log out while a task of it runs.
    ended: Condvar,
}

struct Line {
    seats: HashMap<u64, Seat>,
    /// Seats with a task and none running, in the order in which they run.
    ready: VecDeque<u64>,
    /// Seats whose queue is to be drained at that time, in ascending order.
    soon: VecDeque<(Instant, u64)>,
    tick_at: Instant,
    /// Whether an idle thread watches the clock, and how many others are idle.
    watched: bool,
    idle: usize,
    stopping: bool,
}

struct Seat {
    log: Weak<Shared>,
    tasks: VecDeque<Task>,
    running: Option<ThreadId>,
    /// The running task calls foreign code, for which nobody waits.
    calls: bool,
    drives_soon: bool,
}

/// A log's place in all lanes.
pub(super) struct Membership {
    lanes: Arc<Lanes>,
    seat: u64,
}

impl Pool {
    /// Starts `syncs` threads that sync and drain, `checkpoints` that write checkpoints, and `compactions` that compact.
    pub(crate) fn start(syncs: usize, checkpoints: usize, compactions: usize) -> std::io::Result<Self> {
        let lanes = Arc::new(Lanes {
            sync: Lane::new(Duty::Sync),
            checkpoint: Lane::new(Duty::Checkpoint),
            compact: Lane::new(Duty::Compact),
            next_seat: AtomicU64::new(0),
        });
        let pool = Self { lanes, threads: Mutex::default() };
        for (duty, name, count) in [
            (Duty::Sync, "oncelog-sync", syncs.max(1)),
            (Duty::Checkpoint, "oncelog-checkpoint", checkpoints.max(1)),
            (Duty::Compact, "oncelog-compact", compactions),
        ] {
            for _ in 0..count {
                let lanes = Arc::clone(&pool.lanes);
                let thread = thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || lanes.lane(duty).work(&lanes))?;
                pool.threads.lock().push(thread);
            }
        }
        Ok(pool)
    }

    pub(crate) fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(&self) {
        for lane in self.lanes.all() {
            lane.line.lock().stopping = true;
            lane.work.notify_all();
            lane.clock.notify_all();
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The last handle of a log may be dropped by a callback on one of these threads.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a background thread panicked");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Lanes {
    fn all(&self) -> [&Lane; 3] {
        [&self.sync, &self.checkpoint, &self.compact]
    }

    fn lane(&self, duty: Duty) -> &Lane {
        match duty {
            Duty::Sync => &self.sync,
            Duty::Checkpoint => &self.checkpoint,
            Duty::Compact => &self.compact,
        }
    }

    /// A place for a log that does not exist yet; it gets no task before [`Membership::enter`].
    pub(super) fn membership(self: &Arc<Self>) -> Membership {
        Membership { lanes: Arc::clone(self), seat: self.next_seat.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Membership {
    /// Takes the log in.
    pub(super) fn enter(&self, log: &Weak<Shared>) {
        for lane in self.lanes.all() {
            let seat = Seat {
                log: Weak::clone(log),
                tasks: VecDeque::new(),
                running: None,
                calls: false,
                drives_soon: false,
            };
            lane.line.lock().seats.insert(self.seat, seat);
        }
    }

    /// Asks for a task; `false` if there is nobody to do it.
    pub(super) fn ask(&self, duty: Duty, task: Task) -> bool {
        self.lanes.lane(duty).ask(self.seat, task)
    }

    /// Takes the log out, and runs what was asked for and not begun. Not called twice at a time.
    pub(super) fn leave(&self, log: &Shared) {
        for lane in self.lanes.all() {
            for task in lane.leave(self.seat) {
                log.run(task, lane.duty);
            }
        }
    }
}

/// The task that a thread runs.
struct Running {
    lanes: Arc<Lanes>,
    duty: Duty,
    seat: u64,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// Runs foreign code. If this thread runs a task, whoever takes its log out does not wait for it meanwhile: the foreign
/// code may itself wait for that one. What is left of the task then meets a log that is closed, as a caller may.
pub(super) fn outside_of_task(work: impl FnOnce()) {
    let Ok(Some(running)) = RUNNING.try_with(Cell::take) else { return work() };
    let lane = running.lanes.lane(running.duty);
    lane.calls(running.seat, true);
    work();
    lane.calls(running.seat, false);
    RUNNING.set(Some(running));
}

impl Lane {
    fn calls(&self, id: u64, calls: bool) {
        if let Some(seat) = self.line.lock().seats.get_mut(&id) {
            seat.calls = calls;
        }
        if calls {
            self.ended.notify_all();
        }
    }

    fn new(duty: Duty) -> Self {
        let line = Line {
            seats: HashMap::new(),
            ready: VecDeque::new(),
            soon: VecDeque::new(),
            tick_at: Instant::now() + TICK,
            watched: false,
            idle: 0,
            stopping: false,
        };
        Self {
            duty,
            line: Mutex::new(line),
            work: Condvar::new(),
            clock: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    fn ask(&self, seat: u64, task: Task) -> bool {
        let mut line = self.line.lock();
        if line.stopping {
            return false;
        }
        if task == Task::DriveSoon {
            return self.drive_soon(&mut line, seat);
        }
        match line.push(seat, task) {
            None => false,
            Some(Lined::Up) => {
                self.wake(&line);
                true
            }
            Some(Lined::Already) => true,
        }
    }

    fn drive_soon(&self, line: &mut Line, id: u64) -> bool {
        let Some(seat) = line.seats.get_mut(&id) else { return false };
        if !std::mem::replace(&mut seat.drives_soon, true) {
            line.soon.push_back((Instant::now() + LINGER, id));
            if line.soon.len() == 1 && line.watched {
                self.clock.notify_one();
            }
        }
        true
    }

    /// Wakes a thread for a task.
    fn wake(&self, line: &Line) {
        if line.idle > 0 {
            self.work.notify_one();
        } else if line.watched {
            self.clock.notify_one();
        }
    }

    /// Removes a seat once no other thread runs a task of it, foreign code aside; what it had in line is the caller's to
    /// run.
    fn leave(&self, id: u64) -> VecDeque<Task> {
        let mut line = self.line.lock();
        // Taken out of the line first: from here on no task of it is begun.
        let Some(seat) = line.seats.get_mut(&id) else { return VecDeque::new() };
        let mut left = std::mem::take(&mut seat.tasks);
        if std::mem::take(&mut seat.drives_soon) {
            left.push_back(Task::Drive);
        }
        seat.log = Weak::new();
        let own = Some(thread::current().id());
        let runs = |seat: &Seat| seat.running.is_some() && seat.running != own && !seat.calls;
        while line.seats.get(&id).is_some_and(runs) {
            self.ended.wait(&mut line);
        }
        if let Some(seat) = line.seats.remove(&id) {
            left.extend(seat.tasks);
        }
        left
    }

    /// A thread of this lane.
    fn work(&self, lanes: &Arc<Lanes>) {
        let mut line = self.line.lock();
        while !line.stopping {
            let now = Instant::now();
            line.gather(now);
            if now >= line.tick_at {
                line.tick_at = now + TICK;
                self.tick(&mut line);
                continue;
            }
            if let Some((id, task)) = line.next() {
                if !line.ready.is_empty() {
                    // For the next task. Who asked for it may have woken this thread once more, not yet come to itself.
                    self.wake(&line);
                } else if line.idle > 0 && !line.watched {
                    // To watch the clock.
                    self.work.notify_one();
                }
                self.run(&mut line, id, task, lanes);
            } else if line.watched {
                line.idle += 1;
                self.work.wait(&mut line);
                line.idle -= 1;
            } else {
                line.watched = true;
                let until = line.soon.front().map_or(line.tick_at, |(at, _)| line.tick_at.min(*at));
                self.clock.wait_until(&mut line, until);
                line.watched = false;
            }
        }
    }

    fn run(&self, line: &mut MutexGuard<'_, Line>, id: u64, task: Task, lanes: &Arc<Lanes>) {
        let Some(seat) = line.seats.get_mut(&id) else { return };
        seat.running = Some(thread::current().id());
        let log = Weak::clone(&seat.log);
        MutexGuard::unlocked(line, || {
            if let Some(log) = log.upgrade() {
                RUNNING.set(Some(Running { lanes: Arc::clone(lanes), duty: self.duty, seat: id }));
                let ran = std::panic::catch_unwind(AssertUnwindSafe(|| log.run(task, self.duty)));
                if ran.is_err() {
                    log.background_panicked();
                }
                RUNNING.set(None);
            }
        });
        if let Some(seat) = line.seats.get_mut(&id) {
            seat.running = None;
            if !seat.tasks.is_empty() {
                line.ready.push_back(id);
            }
            self.ended.notify_all();
        }
    }

    /// The gauges are shown here, to a recorder that is the embedder's code.
    fn is_due(&self, log: &Shared) -> bool {
        std::panic::catch_unwind(AssertUnwindSafe(|| log.tick_is_due(self.duty))).unwrap_or_else(|_| {
            tracing::error!("a look at what is due panicked");
            false
        })
    }

    /// Asks every log whether time has made something due, without holding the line.
    fn tick(&self, line: &mut MutexGuard<'_, Line>) {
        let seats: Vec<_> = line.seats.iter().map(|(id, seat)| (*id, Weak::clone(&seat.log))).collect();
        let mut due = Vec::new();
        MutexGuard::unlocked(line, || {
            due.extend(
                seats.into_iter().filter(|(_, log)| log.upgrade().is_some_and(|log| self.is_due(&log))),
            );
        });
        for (id, _) in due {
            line.push(id, Task::Tick);
        }
    }
}

/// Where a task stands after it was asked for.
enum Lined {
    /// Its log has come into the line.
    Up,
    /// Its log was in it, or runs another task.
    Already,
}

impl Line {
    /// `None` if the log is not here.
    fn push(&mut self, id: u64, task: Task) -> Option<Lined> {
        let seat = self.seats.get_mut(&id)?;
        if seat.log.strong_count() == 0 {
            return None;
        }
        // Asking twice for what has not begun is asking once.
        if seat.tasks.contains(&task) {
            return Some(Lined::Already);
        }
        seat.tasks.push_back(task);
        if seat.running.is_some() || seat.tasks.len() > 1 {
            return Some(Lined::Already);
        }
        self.ready.push_back(id);
        Some(Lined::Up)
    }

    /// Makes a task of each draining whose time has come.
    fn gather(&mut self, now: Instant) {
        while let Some((_, id)) = self.soon.pop_front_if(|(at, _)| *at <= now) {
            if self.seats.get_mut(&id).is_some_and(|seat| std::mem::take(&mut seat.drives_soon)) {
                self.push(id, Task::Drive);
            }
        }
    }

    fn next(&mut self) -> Option<(u64, Task)> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(task) = self.seats.get_mut(&id).and_then(|seat| seat.tasks.pop_front()) {
                return Some((id, task));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
