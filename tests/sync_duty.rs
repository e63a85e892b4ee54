//! The duty to sync, in every interleaving and under the memory model: nobody who waits for durability is left alone.
//!
//! What follows mirrors `log/sync.rs`, `log/completion.rs` and the draining loop of `log/append.rs`, step by step, with
//! loom's locks and atomics in place of the real ones and a counter in place of the files. Loom runs each history of a
//! few callers in all its interleavings (with a bound on forced switches) and all values that a relaxed read may see; a
//! caller that blocks for ever is a deadlock, which it reports. Change the protocol here and there together.
//!
//! That each step is needed is tested as well: [`Without`] leaves one out, and loom must find who gets stuck.

#![expect(clippy::unwrap_used, reason = "a lock is poisoned only after a test has failed")]

use std::collections::VecDeque;
use std::env;
use std::process::Command;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A step of the protocol that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A caller whose own batch is answered makes sure of a sync for those that it has written.
    LookOfWhoIsAnswered,
    /// Whoever gives the duty up looks again.
    LookOfWhoEndsADuty,
    /// The duty is given up by a swap, which orders the look behind it: a store would not.
    Swap,
    /// Only who attends to a reply is asked to look.
    Attendance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Buffered,
    Durable,
}

/// Who does the background work of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Background {
    Caller,
    Threads,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Waits,
    Leaves,
}

#[derive(Default)]
struct State {
    answer: bool,
    attended: bool,
    blocked: bool,
    duty: bool,
    look: bool,
}

struct Reply {
    state: Mutex<State>,
    ready: Condvar,
}

impl Reply {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), ready: Condvar::new() })
    }

    fn complete(&self) {
        let mut state = self.state.lock().unwrap();
        state.answer = true;
        let blocked = state.blocked;
        drop(state);
        if blocked {
            self.ready.notify_one();
        }
    }

    fn hand_duty(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        if !state.blocked || state.duty || state.answer {
            return false;
        }
        state.duty = true;
        drop(state);
        self.ready.notify_one();
        true
    }

    fn ask_to_look(&self, without: Without) -> bool {
        let mut state = self.state.lock().unwrap();
        if without != Without::Attendance && (!state.attended || state.answer) {
            return false;
        }
        state.look = true;
        let blocked = state.blocked;
        drop(state);
        if blocked {
            self.ready.notify_one();
        }
        true
    }

    fn attend(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        state.attended = true;
        state.answer
    }
}

struct Request {
    level: Level,
    reply: Arc<Reply>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Drive,
    Sync,
    Stop,
}

struct Log {
    background: Background,
    without: Without,
    queue: Mutex<VecDeque<Request>>,
    combiner: Mutex<()>,
    /// How many batches are written.
    written: Mutex<usize>,
    /// Replies that wait until that many are durable.
    waiters: Mutex<VecDeque<(usize, Arc<Reply>)>>,
    syncer: Mutex<()>,
    on_duty: AtomicBool,
    outstanding: AtomicBool,
    /// Somebody has asked the thread to drain.
    drive_asked: AtomicBool,
    tasks: Mutex<VecDeque<Task>>,
    task_came: Condvar,
}

impl Log {
    fn new(background: Background, without: Without) -> Arc<Self> {
        Arc::new(Self {
            background,
            without,
            queue: Mutex::new(VecDeque::new()),
            combiner: Mutex::new(()),
            written: Mutex::new(0),
            waiters: Mutex::new(VecDeque::new()),
            syncer: Mutex::new(()),
            on_duty: AtomicBool::new(false),
            outstanding: AtomicBool::new(false),
            drive_asked: AtomicBool::new(false),
            tasks: Mutex::new(VecDeque::new()),
            task_came: Condvar::new(),
        })
    }

    fn append(&self, level: Level) {
        let reply = self.enqueue(level);
        self.wait(&reply);
    }

    /// Puts a batch into the queue.
    fn enqueue(&self, level: Level) -> Arc<Reply> {
        let reply = Reply::new();
        self.queue.lock().unwrap().push_back(Request { level, reply: Arc::clone(&reply) });
        reply
    }

    /// What a submit does that nobody waits for: the log's own thread gathers such batches.
    fn drive_later(&self) {
        if self.background == Background::Caller {
            self.drive();
        } else if !self.drive_asked.swap(true, Ordering::AcqRel) {
            self.ask(Task::Drive);
        }
    }

    fn wait(&self, reply: &Reply) {
        self.help(reply);
        let mut state = reply.state.lock().unwrap();
        loop {
            if state.duty {
                state.duty = false;
                drop(state);
                self.sync_duty();
                state = reply.state.lock().unwrap();
            } else if state.look {
                state.look = false;
                drop(state);
                self.ensure_sync(Caller::Waits);
                state = reply.state.lock().unwrap();
            } else if state.answer {
                return;
            } else {
                state.blocked = true;
                state = reply.ready.wait(state).unwrap();
                state.blocked = false;
            }
        }
    }

    fn help(&self, reply: &Reply) {
        if !reply.attend() {
            self.drive();
        }
        if !reply.attend() {
            self.ensure_sync(Caller::Waits);
        } else if self.without != Without::LookOfWhoIsAnswered {
            self.ensure_sync(Caller::Leaves);
        }
    }

    fn drive(&self) {
        loop {
            let Ok(turn) = self.combiner.try_lock() else { return };
            let done = self.turn();
            drop(turn);
            done.iter().for_each(|reply| reply.complete());
            if self.queue.lock().unwrap().is_empty() {
                return;
            }
            if self.ask(Task::Drive) {
                return;
            }
        }
    }

    /// Writes all that is queued. Waiters come before the new end, as in `commit_unit`.
    fn turn(&self) -> Vec<Arc<Reply>> {
        let requests: Vec<Request> = self.queue.lock().unwrap().drain(..).collect();
        let (mut end, mut waiting, mut done) = (*self.written.lock().unwrap(), Vec::new(), Vec::new());
        for request in requests {
            end += 1;
            match request.level {
                Level::Durable => waiting.push((end, request.reply)),
                Level::Buffered => done.push(request.reply),
            }
        }
        if !waiting.is_empty() {
            let mut waiters = self.waiters.lock().unwrap();
            waiters.extend(waiting);
            self.outstanding.store(true, Ordering::Release);
        }
        *self.written.lock().unwrap() = end;
        done
    }

    fn ensure_sync(&self, caller: Caller) {
        if !self.outstanding.load(Ordering::Acquire) {
            return;
        }
        if caller == Caller::Leaves && self.background == Background::Caller {
            let waiters = self.waiters.lock().unwrap();
            let _nobody_is_here = waiters.iter().any(|(_, reply)| reply.ask_to_look(self.without));
            return;
        }
        if self.on_duty.swap(true, Ordering::AcqRel) {
            return;
        }
        match caller {
            Caller::Waits => self.sync_duty(),
            Caller::Leaves => assert!(self.hand_duty(), "there is a thread"),
        }
    }

    fn sync_duty(&self) {
        loop {
            let done = self.sync_once();
            if done.is_empty() {
                // Somebody is between naming who waits and publishing the end that they wait for.
                thread::yield_now();
            }
            if self.without == Without::Swap {
                self.on_duty.store(false, Ordering::Release);
            } else {
                self.on_duty.swap(false, Ordering::AcqRel);
            }
            let more = self.without != Without::LookOfWhoEndsADuty
                && self.outstanding.load(Ordering::Acquire)
                && !self.on_duty.swap(true, Ordering::AcqRel);
            let handed = more && self.hand_duty();
            done.iter().for_each(|reply| reply.complete());
            if !more || handed {
                return;
            }
        }
    }

    fn hand_duty(&self) -> bool {
        let handed = {
            let waiters = self.waiters.lock().unwrap();
            waiters.iter().any(|(_, reply)| reply.hand_duty())
        };
        handed || self.ask(Task::Sync)
    }

    fn sync_once(&self) -> Vec<Arc<Reply>> {
        let _syncer = self.syncer.lock().unwrap();
        let end = *self.written.lock().unwrap();
        let mut waiters = self.waiters.lock().unwrap();
        let mut done = Vec::new();
        while waiters.front().is_some_and(|(at, _)| *at <= end) {
            done.extend(waiters.pop_front().map(|(_, reply)| reply));
        }
        self.outstanding.store(!waiters.is_empty(), Ordering::Release);
        done
    }

    fn ask(&self, task: Task) -> bool {
        if self.background == Background::Caller {
            return false;
        }
        let mut tasks = self.tasks.lock().unwrap();
        // Asking twice for what has not begun is asking once. (Whichever thread of a pool takes the log's next task: it runs
        // one at a time, in this order, so that one thread here stands for all of them.)
        if !tasks.contains(&task) {
            tasks.push_back(task);
            drop(tasks);
            self.task_came.notify_one();
        }
        true
    }

    fn work(&self) {
        loop {
            let mut tasks = self.tasks.lock().unwrap();
            let task = loop {
                match tasks.pop_front() {
                    Some(task) => break task,
                    None => tasks = self.task_came.wait(tasks).unwrap(),
                }
            };
            drop(tasks);
            match task {
                Task::Drive => {
                    self.drive_asked.store(false, Ordering::Release);
                    self.drive();
                    self.ensure_sync(Caller::Waits);
                }
                Task::Sync => self.sync_duty(),
                Task::Stop => return,
            }
        }
    }
}

/// What one caller does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Appends, and stays for the answer.
    Append(Level),
    /// Submits, and goes without waiting. The log's user of that name looks at the duty before it goes.
    Submit(Level),
    /// Syncs without the duty, as a flush, a roll or a checkpoint does.
    Flush,
}

fn act(log: &Log, act: Act) {
    match act {
        Act::Append(level) => log.append(level),
        Act::Submit(level) => {
            log.enqueue(level);
            log.drive_later();
            log.ensure_sync(Caller::Leaves);
        }
        Act::Flush => log.sync_once().iter().for_each(|reply| reply.complete()),
    }
}

/// Runs the callers in all interleavings with at most `switches` forced ones.
fn explore(background: Background, without: Without, switches: usize, callers: &'static [&'static [Act]]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(switches);
    model.check(move || {
        let log = Log::new(background, without);
        let worker = (background == Background::Threads).then(|| {
            let log = Arc::clone(&log);
            thread::spawn(move || log.work())
        });
        let (own, others) = callers.split_first().unwrap();
        let threads: Vec<_> = others
            .iter()
            .map(|acts| {
                let log = Arc::clone(&log);
                thread::spawn(move || acts.iter().for_each(|each| act(&log, *each)))
            })
            .collect();
        own.iter().for_each(|each| act(&log, *each));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        log.ask(Task::Stop);
        worker.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

use Act::{Append, Flush, Submit};
use Level::{Buffered, Durable};

const TWO_DURABLE: &[&[Act]] = &[&[Append(Durable)], &[Append(Durable)]];
const ONE_OF_EACH: &[&[Act]] = &[&[Append(Durable)], &[Append(Buffered)]];
const ONE_LEAVES: &[&[Act]] = &[&[Append(Durable)], &[Submit(Durable)]];
const THREE: &[&[Act]] = &[&[Append(Durable)], &[Append(Durable)], &[Append(Buffered)]];
const ONE_LEAVES_ONE_FLUSHES: &[&[Act]] =
    &[&[Append(Durable), Append(Durable)], &[Append(Buffered)], &[Flush]];
const ONE_LEAVES_TWO_WAIT: &[&[Act]] = &[&[Append(Durable)], &[Append(Durable)], &[Submit(Durable)]];

#[test]
fn two_callers_of_a_log_without_threads_never_leave_each_other_alone() {
    for callers in [TWO_DURABLE, ONE_OF_EACH, ONE_LEAVES] {
        explore(Background::Caller, Without::Nothing, 4, callers);
    }
}

#[test]
fn two_callers_and_the_logs_own_thread_never_leave_each_other_alone() {
    for callers in [TWO_DURABLE, ONE_OF_EACH, ONE_LEAVES] {
        explore(Background::Threads, Without::Nothing, 2, callers);
    }
}

#[test]
fn three_callers_never_leave_each_other_alone() {
    for callers in [THREE, ONE_LEAVES_TWO_WAIT, ONE_LEAVES_ONE_FLUSHES] {
        explore(Background::Caller, Without::Nothing, 2, callers);
    }
}

/// A step left out, and a history in which somebody gets stuck without it.
const NEEDED: &[(Background, Without, &[&[Act]])] = &[
    (Background::Caller, Without::LookOfWhoIsAnswered, ONE_OF_EACH),
    (Background::Threads, Without::LookOfWhoIsAnswered, ONE_OF_EACH),
    (Background::Caller, Without::LookOfWhoEndsADuty, TWO_DURABLE),
    (Background::Caller, Without::Swap, TWO_DURABLE),
    (Background::Caller, Without::Attendance, ONE_LEAVES),
];

/// Names the entry of [`NEEDED`] that a process is to explore.
const CHILD: &str = "ONCELOG_SYNC_DUTY_WITHOUT";

/// Loom ends a process that deadlocks in a way that no test can catch: each history has a process of its own.
#[test]
fn without_any_of_its_steps_the_protocol_leaves_somebody_alone() {
    if let Ok(which) = env::var(CHILD) {
        let (background, without, callers) = NEEDED[which.parse::<usize>().unwrap()];
        explore(background, without, 3, callers);
        return;
    }
    for (which, (background, without, _)) in NEEDED.iter().enumerate() {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "without_any_of_its_steps_the_protocol_leaves_somebody_alone", "--nocapture"])
            .env(CHILD, which.to_string())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("deadlock; threads ="), "{background:?} {without:?}: nobody got stuck: {said}");
    }
}
