//! The way of an answer to whoever is told by a call: a callback, or the waker of a task.
//!
//! Invariant: foreign code runs under no lock of a log or of its root, and nobody waits for it. A thread that holds one
//! of the long locks (`background`, a partition's) is [`Quiet`]: what it has to call is called by the threads of the log,
//! or, where there are none, by itself once the lock is free. A thread of the pool steps out of its task while it calls:
//! who takes the log out meanwhile does not wait. Callers that are blocked on an answer are woken at once in any case.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Waker;

use super::completion::{Answer, Callback, Reply};
use super::pool;
use super::shared::Shared;
use super::worker::Task;

/// Foreign code that is to be told an answer.
pub(super) enum Call {
    Callback(Callback, Answer),
    Wake(Waker),
}

impl Call {
    /// What the foreign code does wrong is nobody else's business.
    pub(super) fn make(self) {
        let called = std::panic::catch_unwind(AssertUnwindSafe(|| match self {
            Self::Callback(callback, answer) => callback(answer),
            Self::Wake(waker) => waker.wake(),
        }));
        if called.is_err() {
            tracing::error!("a completion callback panicked; the answer it was given stands");
        }
    }
}

struct Held {
    /// How many [`Quiet`] there are on this thread.
    depth: usize,
    calls: Vec<Call>,
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held { depth: 0, calls: Vec::new() }) };
}

/// While it lives, this thread calls nobody. Dropped after the lock that it was made for.
pub(crate) struct Quiet {
    /// It belongs to the thread that made it.
    _thread: PhantomData<*const ()>,
}

impl Quiet {
    pub(crate) fn begin() -> Self {
        // Without thread locals, at the very end of a thread, there is nothing left to hold a call back.
        let _at_its_end = HELD.try_with(|held| held.borrow_mut().depth += 1);
        Self { _thread: PhantomData }
    }
}

/// Calls that a thread of a round has left to who waits for it.
pub(crate) struct Kept(Vec<Call>);

impl Quiet {
    /// Does `work` and answers whom it would have called: for a thread that somebody with a lock waits for.
    pub(crate) fn keep(work: impl FnOnce()) -> Kept {
        let _quiet = Self::begin();
        work();
        Kept(HELD.try_with(|held| std::mem::take(&mut held.borrow_mut().calls)).unwrap_or_default())
    }
}

impl Kept {
    /// Makes them now, or when this thread may.
    pub(crate) fn make(self) {
        make(self.0);
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let calls = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            held.depth = held.depth.saturating_sub(1);
            if held.depth == 0 { std::mem::take(&mut held.calls) } else { Vec::new() }
        });
        make(calls.unwrap_or_default());
    }
}

fn is_quiet() -> bool {
    HELD.try_with(|held| held.borrow().depth > 0).unwrap_or(false)
}

/// Makes the calls now, or when this thread may.
fn make(calls: Vec<Call>) {
    if calls.is_empty() {
        return;
    }
    if is_quiet() {
        let _quiet_threads_have_it = HELD.try_with(|held| held.borrow_mut().calls.extend(calls));
    } else {
        pool::outside_of_task(|| calls.into_iter().for_each(Call::make));
    }
}

impl Shared {
    /// Gives answers out.
    pub(super) fn give_out(&self, done: Vec<(Arc<Reply>, Answer)>) {
        let calls: Vec<Call> =
            done.into_iter().filter_map(|(reply, answer)| reply.complete(answer)).collect();
        if !calls.is_empty() && is_quiet() {
            // A checkpoint takes long, and those who are told by a call wait, too.
            self.owed.lock().extend(calls);
            if !self.ask(Task::Call) {
                self.make_owed_calls();
            }
        } else {
            make(calls);
        }
    }

    /// Makes the calls that a quiet thread has left to others.
    pub(super) fn make_owed_calls(&self) {
        let owed = std::mem::take(&mut *self.owed.lock());
        make(owed);
    }
}
