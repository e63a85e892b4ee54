//! A unit: the batches of one vectored write, and what is answered when it has succeeded or failed.
//!
//! Invariant: no reply of a unit leaves before its write has returned. After a failed write the file is cut back and
//! synced, so that the batches are certainly absent and the rest is judged anew; if even that fails, the log latches
//! and the batches' fate is unknown.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hashbrown::HashMap;

use super::completion::{Appended, Outcome, Reply};
use super::meters::Tally;
use super::queue::{Kind, Request};
use super::shared::{Shared, Tail, Waiting};
use super::verdict::Effect;
use crate::error::Error;
use crate::format::batch::{ATTRIBUTES_AT, BatchHeader};
use crate::producer::Entry;
use crate::segment::active::ActiveSegment;
use crate::segment::roll::RollState;
use crate::testing::{Break, Point, broken, cross};
use crate::types::{Durability, LeaderEpoch, Offset, Position, ProducerId};

/// A unit is written when it has this many bytes.
const UNIT_BYTES: u64 = 1 << 20;
/// A unit is written when it has this many pieces; one call takes 1024 (`IOV_MAX`).
const UNIT_PIECES: usize = 1000;
/// Batches up to this size are copied into one buffer: a copy costs less than two more entries of the I/O vector.
const COPY_UP_TO: usize = 8 << 10;

pub(super) type Answer = Result<Appended, Error>;

/// The scratch of the combiner, kept between turns so that a turn allocates little.
#[derive(Default)]
pub(super) struct Turn {
    /// Taken from the queue and not judged yet.
    pub(super) requests: VecDeque<Request>,
    /// What the runs said, for this turn.
    pub(super) fetched: HashMap<ProducerId, Result<Option<Entry>, Error>>,
    /// Entries as they will be when the unit is written.
    pub(super) overlay: HashMap<ProducerId, Entry>,
    /// What the unit will change beside them.
    pub(super) effects: Vec<Effect>,
    pieces: Vec<Piece>,
    buffer: Vec<u8>,
    bytes: u64,
    next_offset: Offset,
    judged: Vec<Judged>,
    done: Vec<(Arc<Reply>, Answer)>,
    tally: Tally,
}

enum Piece {
    /// This many further bytes of the buffer.
    Buffered(usize),
    /// What stands in a batch behind the bytes that the leader stamps.
    Rest(Bytes),
}

enum Judged {
    Append { request: Request, header: BatchHeader, position: Position },
    Answer { request: Request, answer: Answer },
}

fn is_append(judged: &&Judged) -> bool {
    matches!(judged, Judged::Append { .. })
}

impl Turn {
    /// Starts an empty unit at the end of the active segment.
    pub(super) fn begin_unit(&mut self, active: &ActiveSegment) {
        debug_assert!(self.judged.is_empty(), "the last unit was written or undone");
        self.next_offset = active.next_offset();
    }

    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Whether the log ends where the last unit was to end: not if its write has failed.
    pub(super) fn is_written(&self, active: &ActiveSegment) -> bool {
        self.next_offset == active.next_offset()
    }

    /// What decides about a roll once the unit is written.
    pub(super) fn roll_state(&self, active: &ActiveSegment) -> RollState {
        let mut state = active.roll_state();
        if let (true, Some(Judged::Append { header, .. })) =
            (active.is_empty(), self.judged.iter().find(is_append))
        {
            state.first_timestamp = Some(header.max_timestamp).filter(|timestamp| *timestamp >= 0);
        }
        state.len = state.len.saturating_add(self.bytes);
        state
    }

    /// Whether a blocked turn has left requests here.
    pub(super) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    pub(super) fn unit_is_full(&self) -> bool {
        self.bytes >= UNIT_BYTES || self.pieces.len() >= UNIT_PIECES
    }

    /// The newest batch of the unit, as it will be on disk.
    pub(super) fn newest(&self) -> Option<&BatchHeader> {
        match self.judged.last() {
            Some(Judged::Append { header, .. }) => Some(header),
            _ => None,
        }
    }

    /// Leader epoch of the newest batch of the unit.
    pub(super) fn newest_epoch(&self) -> Option<LeaderEpoch> {
        self.judged.iter().rev().find_map(|judged| match judged {
            Judged::Append { header, .. } => Some(header.leader_epoch),
            Judged::Answer { .. } => None,
        })
    }

    /// Makes the front request a part of the unit.
    pub(super) fn take_front(&mut self, end: Position, leader_epoch: LeaderEpoch) {
        let Some(request) = self.requests.pop_front() else { return };
        let batch = &request.batch;
        let mut header = *batch.header();
        if !matches!(request.kind, Kind::Follow(_)) {
            header.base_offset = self.next_offset;
            header.leader_epoch = leader_epoch;
        }
        self.buffer.extend_from_slice(&batch.stamped_prefix(header.base_offset, header.leader_epoch));
        let mut buffered = ATTRIBUTES_AT;
        let rest = batch.bytes().get(ATTRIBUTES_AT..).unwrap_or_default();
        let copied = rest.len() <= COPY_UP_TO;
        if copied {
            self.buffer.extend_from_slice(rest);
            buffered += rest.len();
        }
        match self.pieces.last_mut() {
            Some(Piece::Buffered(so_far)) => *so_far += buffered,
            _ => self.pieces.push(Piece::Buffered(buffered)),
        }
        if !copied {
            self.pieces.push(Piece::Rest(batch.bytes().slice(ATTRIBUTES_AT..)));
        }
        let position = end.saturating_add(self.bytes);
        self.bytes += request.bytes() as u64;
        self.next_offset = header.next_offset();
        self.judged.push(Judged::Append { request, header, position });
    }

    /// Answers the front request when the unit is written.
    pub(super) fn answer_front(&mut self, answer: Answer) {
        if let Some(request) = self.requests.pop_front() {
            if let Err(error) = &answer {
                request.failed(error);
            }
            self.judged.push(Judged::Answer { request, answer });
        }
    }

    /// Answers everything that is not judged yet with `error`.
    pub(super) fn refuse_all(&mut self, error: &Error) {
        self.done.extend(self.requests.drain(..).map(|request| {
            request.failed(error);
            (request.reply, Err(error.clone()))
        }));
    }

    /// What was counted since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The answers that may leave now.
    pub(super) fn take_done(&mut self) -> Vec<(Arc<Reply>, Answer)> {
        std::mem::take(&mut self.done)
    }

    fn write(&self, active: &ActiveSegment) -> io::Result<()> {
        let mut slices = Vec::with_capacity(self.pieces.len());
        let mut buffer = self.buffer.as_slice();
        for piece in &self.pieces {
            match piece {
                Piece::Buffered(len) => {
                    let (this, behind) = buffer.split_at_checked(*len).unwrap_or((buffer, &[]));
                    slices.push(IoSlice::new(this));
                    buffer = behind;
                }
                Piece::Rest(bytes) => slices.push(IoSlice::new(bytes)),
            }
        }
        active.file().write_all_vectored_at(&mut slices, active.len().0)
    }

    fn clear_unit(&mut self) {
        self.pieces.clear();
        self.buffer.clear();
        self.bytes = 0;
        self.overlay.clear();
        self.effects.clear();
    }
}

impl Shared {
    /// Writes the unit, then applies and publishes it; or undoes it.
    pub(super) fn write_unit(&self, tail: &mut Tail, turn: &mut Turn) {
        let written = if turn.bytes == 0 { Ok(()) } else { turn.write(&tail.active) };
        match written {
            Ok(()) => self.commit_unit(tail, turn),
            Err(cause) => self.undo_unit(tail, turn, &cause),
        }
        turn.clear_unit();
    }

    fn commit_unit(&self, tail: &mut Tail, turn: &mut Turn) {
        if turn.bytes > 0 {
            cross(Point::AppendWritten);
            if turn.effects.iter().any(Effect::is_end) {
                cross(Point::TxnMarkerWritten);
            }
            for (id, entry) in turn.overlay.drain() {
                tail.producers.insert(id, entry);
            }
            for judged in &turn.judged {
                if let Judged::Append { header, position, .. } = judged {
                    tail.active.batch_appended(*position, header);
                    tail.leader_epochs.assign(header.leader_epoch, header.base_offset);
                    tail.leader_epoch = tail.leader_epoch.max(header.leader_epoch);
                }
            }
            self.apply_effects(tail, turn.effects.drain(..));
            tail.ever_written = crate::producer::EverWritten::Yes;
            tail.bytes_since_checkpoint += turn.bytes;
        }
        let mut waiting = Vec::new();
        let mut batches = 0;
        for judged in turn.judged.drain(..) {
            let (request, answer) = match judged {
                Judged::Answer { request, answer } => {
                    turn.tally.answered(&answer);
                    (request, answer)
                }
                Judged::Append { request, header, .. } => {
                    batches += 1;
                    let appended = Appended {
                        outcome: Outcome::Appended,
                        base_offset: Some(first_of(&request, &header)),
                        last_offset: header.last_offset(),
                        timestamp: header.max_timestamp,
                    };
                    (request, Ok(appended))
                }
            };
            match answer {
                Ok(appended) if must_wait(request.durability, appended.outcome) => {
                    let end = appended.last_offset.saturating_add(1);
                    waiting.push(Waiting { end, reply: request.reply, appended });
                }
                answer => turn.done.push((request.reply, answer)),
            }
        }
        // Waiters come before the new end: a syncer that sees the end sees who waits for it.
        self.wait_for_durability(waiting, &mut turn.done);
        if turn.bytes > 0 {
            turn.tally.wrote(batches, turn.bytes);
            self.publish_written(tail, turn.bytes);
        }
    }

    fn publish_written(&self, tail: &Tail, bytes: u64) {
        let end = tail.active.point();
        let mut written = self.written.lock();
        written.end = end;
        if written.unsynced_since.is_none() {
            written.unsynced_since = Some(self.clock.monotonic());
        }
        drop(written);
        self.unsynced_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.log_end.store(end.offset.0, Ordering::Release);
    }

    /// The write failed: the file is cut back to where the unit began.
    fn undo_unit(&self, tail: &Tail, turn: &mut Turn, cause: &io::Error) {
        let file = tail.active.file();
        let back = file.set_len(tail.active.len().0).and_then(|()| {
            // The sync lock: a sync in progress reports first, so that no error is taken by the wrong caller.
            let _syncer = self.syncer.lock();
            file.sync_data()
        });
        let path = tail.active.path().display().to_string();
        let error = match back {
            Ok(()) => Error::Unavailable { why: format!("write {path}: {cause}") },
            Err(second) => {
                let why = format!("write {path}: {cause}; then taking it back: {second}");
                self.latch(&why, &mut turn.done);
                Error::Indeterminate { why }
            }
        };
        let mut again = VecDeque::new();
        for judged in turn.judged.drain(..) {
            match judged {
                Judged::Append { request, .. } => {
                    request.failed(&error);
                    turn.done.push((request.reply, Err(error.clone())));
                }
                // Its verdict may have leaned on a batch of this unit.
                Judged::Answer { request, .. } => again.push_back(request),
            }
        }
        again.append(&mut turn.requests);
        turn.requests = again;
    }
}

/// Offset of the first record of what was asked for: of all batches of a follower's buffer, where this is the last.
fn first_of(request: &Request, header: &BatchHeader) -> Offset {
    match &request.kind {
        Kind::Follow(follow) => follow.first,
        Kind::Append { .. } | Kind::Marker(_) => header.base_offset,
    }
}

fn must_wait(durability: Durability, outcome: Outcome) -> bool {
    durability == Durability::Durable
        && !broken(Break::AckBeforeSync)
        && !(outcome != Outcome::Appended && broken(Break::DuplicateBeforeOriginal))
}
