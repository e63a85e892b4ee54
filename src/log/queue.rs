//! The bounded queue of requests between submitters and the combiner.
//!
//! Invariant: requests leave in the order in which they came; no more than the configured bytes wait (one request
//! larger than that may, alone). The lock here is a leaf: nothing else is taken under it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::completion::Reply;
use super::follow::Follow;
use crate::error::Error;
use crate::format::batch::CheckedBatch;
use crate::producer::{MarkerFacts, TransactionVersion, VerificationGuard};
use crate::types::{Durability, Offset, Origin};

/// What a request asks for: it decides what its batch is held to.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A data batch that the leader gives offsets.
    Append {
        origin: Origin,
        /// Proof that the transaction it may begin is known to the coordinator.
        guard: VerificationGuard,
    },
    /// The end of a transaction, in a batch that the log has made.
    Marker(Box<Marker>),
    /// A batch that a leader has written, with the offsets that it has.
    Follow(Box<Follow>),
}

impl Kind {
    /// An append without a guard.
    pub(super) fn from(origin: Origin) -> Self {
        Self::Append { origin, guard: VerificationGuard::NONE }
    }
}

/// What a marker is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) facts: MarkerFacts,
    pub(super) version: TransactionVersion,
    /// The first offset of the one transaction that it may end; `None`: whatever its producer has open.
    pub(super) only: Option<Offset>,
}

/// One batch on its way into the log.
pub(super) struct Request {
    pub(super) batch: CheckedBatch,
    pub(super) kind: Kind,
    pub(super) durability: Durability,
    pub(super) reply: Arc<Reply>,
}

impl Request {
    pub(super) fn bytes(&self) -> usize {
        self.batch.bytes().len()
    }

    /// It is answered an error: what was to follow it cannot.
    pub(super) fn failed(&self, error: &Error) {
        if let Kind::Follow(follow) = &self.kind {
            follow.failed(error);
        }
    }
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    bytes: usize,
    /// Requests that ever came.
    came: u64,
    closed: bool,
}

/// Why a request was not taken.
pub(super) enum Refused {
    /// Too many bytes wait.
    Full(Box<Request>),
    /// The log is closing.
    Closed,
}

/// What waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) requests: usize,
    pub(super) bytes: usize,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    space: Condvar,
    limit: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { waiting: Mutex::default(), space: Condvar::new(), limit }
    }

    /// Takes the request if there is room now, and answers what waits with it.
    pub(super) fn try_push(&self, request: Request) -> Result<Pending, Refused> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Refused::Closed);
        }
        if !waiting.requests.is_empty() && waiting.bytes + request.bytes() > self.limit {
            return Err(Refused::Full(Box::new(request)));
        }
        waiting.bytes += request.bytes();
        waiting.requests.push_back(request);
        waiting.came += 1;
        Ok(Pending { requests: waiting.requests.len(), bytes: waiting.bytes })
    }

    /// Waits until there is room for `bytes`, or the queue is closed.
    pub(super) fn wait_for_room(&self, bytes: usize) {
        let mut waiting = self.waiting.lock();
        while !waiting.closed && !waiting.requests.is_empty() && waiting.bytes + bytes > self.limit {
            self.space.wait(&mut waiting);
        }
    }

    /// Moves requests to `turn` until it holds `most` of them or `bytes` bytes are exceeded.
    pub(super) fn drain_into(&self, turn: &mut VecDeque<Request>, most: usize, bytes: usize) {
        let mut taken: usize = turn.iter().map(Request::bytes).sum();
        let mut waiting = self.waiting.lock();
        let before = waiting.bytes;
        if turn.is_empty() && waiting.requests.len() <= most && before <= bytes {
            // The common case, in a time that does not depend on how many there are: submitters wait for this lock.
            std::mem::swap(turn, &mut waiting.requests);
            waiting.bytes = 0;
        }
        while turn.len() < most && taken < bytes {
            let Some(request) = waiting.requests.pop_front() else { break };
            taken += request.bytes();
            waiting.bytes -= request.bytes();
            turn.push_back(request);
        }
        // However little was freed: who waits may need no more.
        let freed = waiting.bytes < before;
        drop(waiting);
        if freed {
            self.space.notify_all();
        }
    }

    /// How many requests have ever come, and how many of them have left.
    pub(super) fn came_and_left(&self) -> (u64, u64) {
        let waiting = self.waiting.lock();
        (waiting.came, waiting.came - waiting.requests.len() as u64)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().requests.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Takes no request from now on; those inside are still drained.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.space.notify_all();
    }
}
