//! The answer to a submitted batch, on its way.
//!
//! Invariant: each [`Reply`] gets exactly one result, and no lock of the log is held while it is delivered. A caller
//! that is blocked on its reply can be handed the *duty to sync*: then it must run a sync before it returns, because
//! others wait for it. One that attends to its reply, blocked or about to be, can be asked to *look* whether a sync is
//! needed: it looks before it returns, too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Condvar, Mutex};

use super::answers::Call;
use super::shared::Shared;
use super::sync::Caller;
use crate::error::Error;
use crate::types::Offset;

/// What became of an acknowledged batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was new and is in the log now.
    Appended,
    /// It is in the log since an earlier request: one of the producer's last five batches.
    Duplicate,
    /// It is in the log since an earlier request, older than the last five, so that its offset is no longer known.
    /// A broker answers Kafka's code 46, `DUPLICATE_SEQUENCE_NUMBER`, which clients take as success.
    DuplicateBeyondWindow,
}

impl Outcome {
    /// The Kafka error code that a broker sends with it: 0, or 46 where the offset is no longer known.
    #[must_use]
    pub fn kafka_code(self) -> i16 {
        match self {
            Self::Appended | Self::Duplicate => 0,
            Self::DuplicateBeyondWindow => 46,
        }
    }
}

/// The acknowledgement of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// New or duplicate.
    pub outcome: Outcome,
    /// Offset of the batch's first record; `None` only for [`Outcome::DuplicateBeyondWindow`].
    pub base_offset: Option<Offset>,
    /// Offset of the batch's last record, so that a broker can wait for its replication; beyond the window, that of
    /// the oldest batch still known, behind which the original certainly lies.
    pub last_offset: Offset,
    /// The batch's largest timestamp, in milliseconds; -1 beyond the window.
    pub timestamp: i64,
}

pub(super) type Answer = Result<Appended, Error>;
pub(super) type Callback = Box<dyn FnOnce(Answer) + Send>;

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    callback: Option<Callback>,
    waker: Option<Waker>,
    attended: bool,
    blocked: bool,
    duty: bool,
    look: bool,
}

/// The place where an answer is put.
#[derive(Default)]
pub(super) struct Reply {
    state: Mutex<State>,
    ready: Condvar,
}

impl Reply {
    /// Puts the answer here and wakes who is blocked on it. Answers what else is to be called.
    #[must_use]
    pub(super) fn complete(&self, answer: Answer) -> Option<Call> {
        let mut state = self.state.lock();
        if let Some(callback) = state.callback.take() {
            return Some(Call::Callback(callback, answer));
        }
        state.answer = Some(answer);
        let waker = state.waker.take();
        let blocked = state.blocked;
        drop(state);
        if blocked {
            self.ready.notify_one();
        }
        waker.map(Call::Wake)
    }

    /// Hands the duty to sync to the caller that is blocked here; `false` if none is.
    pub(super) fn hand_duty(&self) -> bool {
        let mut state = self.state.lock();
        if !state.blocked || state.duty || state.answer.is_some() {
            return false;
        }
        state.duty = true;
        drop(state);
        self.ready.notify_one();
        true
    }

    /// Asks the caller that attends to this reply to look whether a sync is needed; `false` if none does.
    pub(super) fn ask_to_look(&self) -> bool {
        let mut state = self.state.lock();
        if !state.attended || state.answer.is_some() {
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

    pub(super) fn is_answered(&self) -> bool {
        self.state.lock().answer.is_some()
    }

    /// A caller is here and stays until the answer is; `true` if that is there already.
    pub(super) fn attend(&self) -> bool {
        let mut state = self.state.lock();
        state.attended = true;
        state.answer.is_some()
    }
}

/// A submitted batch whose answer can be waited for, polled or called back.
///
/// Dropping it does not take the batch back: it may be in the log already.
#[must_use = "the batch is acknowledged only by this completion"]
pub struct Completion {
    pub(super) reply: Arc<Reply>,
    pub(super) log: Arc<Shared>,
}

impl Completion {
    /// Blocks until the answer is there.
    ///
    /// # Errors
    ///
    /// As [`crate::Log::append`].
    pub fn wait(self) -> Result<Appended, Error> {
        self.log.help(&self.reply);
        let mut state = self.reply.state.lock();
        loop {
            // What others wait for comes first: whoever was handed the duty, or asked to look, must not leave with it.
            if state.duty {
                state.duty = false;
                drop(state);
                self.log.sync_duty();
                state = self.reply.state.lock();
            } else if state.look {
                state.look = false;
                drop(state);
                self.log.ensure_sync(Caller::Waits);
                state = self.reply.state.lock();
            } else if let Some(answer) = state.answer.take() {
                return answer;
            } else {
                state.blocked = true;
                self.reply.ready.wait(&mut state);
                state.blocked = false;
            }
        }
    }

    /// Waits for many answers, of one log or of several, in their order.
    ///
    /// All are asked for before the first is waited for, so that the logs of a [`crate::LogDir`] are synced beside each
    /// other by its threads, and not one after another by the caller.
    pub fn wait_all(completions: impl IntoIterator<Item = Self>) -> Vec<Result<Appended, Error>> {
        let completions: Vec<Self> = completions.into_iter().collect();
        completions.iter().for_each(|completion| completion.log.nudge(&completion.reply));
        completions.into_iter().map(Self::wait).collect()
    }

    /// The answer, if it is there already.
    ///
    /// # Errors
    ///
    /// As [`crate::Log::append`].
    pub fn try_wait(self) -> Result<Result<Appended, Error>, Self> {
        let answer = self.reply.state.lock().answer.take();
        answer.ok_or(self)
    }

    /// Calls `callback` with the answer, at once if it is there already, otherwise on the thread that completes it and
    /// outside of all locks. It must not block; a panic in it is caught and logged.
    pub fn on_complete(self, callback: impl FnOnce(Result<Appended, Error>) + Send + 'static) {
        self.log.nudge(&self.reply);
        let mut state = self.reply.state.lock();
        match state.answer.take() {
            Some(answer) => {
                drop(state);
                Call::Callback(Box::new(callback), answer).make();
            }
            None => state.callback = Some(Box::new(callback)),
        }
    }
}

impl Future for Completion {
    type Output = Result<Appended, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.reply.state.lock().waker.is_none() {
            self.log.nudge(&self.reply);
        }
        let mut state = self.reply.state.lock();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completion").field("answered", &self.reply.is_answered()).finish_non_exhaustive()
    }
}
