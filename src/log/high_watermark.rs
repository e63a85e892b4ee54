//! The high watermark: what no failure that the embedder reckons with can take back.
//!
//! Invariant: it is never above the log end and never goes back but by a truncation. By itself a log knows of one
//! failure only, that of its own machine, and takes its durable end; a broker with replicas sets it to what they have.

use super::config::HighWatermark;
use super::handle::Log;
use super::shared::Shared;
use crate::error::Error;
use crate::types::{LogPoint, Offset};

impl Shared {
    /// The end (exclusive) of what no failure can take back.
    pub(super) fn high_watermark(&self) -> Offset {
        match self.config.high_watermark {
            HighWatermark::Durable => self.durable_offset(),
            HighWatermark::External => self.replicated.lock().offset,
        }
    }

    /// The same with its place in the log.
    pub(super) fn high_watermark_point(&self) -> LogPoint {
        match self.config.high_watermark {
            HighWatermark::Durable => self.durable_point(),
            HighWatermark::External => *self.replicated.lock(),
        }
    }

    fn set_high_watermark(&self, offset: Offset) -> Result<Offset, Error> {
        if self.config.high_watermark != HighWatermark::External {
            let why =
                "the high watermark is the durable end; set LogConfig::high_watermark to External to set it";
            return Err(Error::Misuse(why.to_owned()));
        }
        let generation = self.generation.ticket()?;
        let end = self.written.lock().end;
        let known = self.high_watermark();
        if offset <= known {
            return Ok(known);
        }
        let point = if offset >= end.offset { Ok(end) } else { self.point_at(offset, &end) };
        let mut replicated = self.replicated.lock();
        // A truncation in between has lowered it, or will once this lock is free.
        generation.check()?;
        let point = point?;
        if point.offset > replicated.offset {
            *replicated = point;
        }
        Ok(replicated.offset)
    }

    /// The log ends at `end` now.
    pub(super) fn lower_high_watermark(&self, end: LogPoint, log_start: Offset) {
        let mut replicated = self.replicated.lock();
        // At the end too: what begins there from now on need not begin a segment, as what began there before may have.
        if replicated.offset >= end.offset {
            *replicated = end;
        } else if replicated.offset < log_start {
            *replicated = LogPoint::segment_start(log_start);
        }
    }
}

impl Log {
    /// Tells the log how far it is replicated ([`HighWatermark::External`]) and answers the high watermark that holds
    /// now: at most the log end, and never less than before.
    ///
    /// A leader calls it when its followers have told how far they are, a follower with what the leader's fetch said.
    /// It is kept in memory: after an open the high watermark is the log start until it is set.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the high watermark is the log's own ([`HighWatermark::Durable`]); [`Error::Unavailable`] or
    /// [`Error::Truncated`] while the log is being truncated; [`Error::Closed`] if its partition is gone;
    /// [`Error::Corrupt`] or [`Error::Io`] if the batch at the offset cannot be found.
    pub fn set_high_watermark(&self, offset: Offset) -> Result<Offset, Error> {
        let set = self.shared.set_high_watermark(offset);
        // As in `fetch`: it may have opened a segment by a name that is another log's.
        self.shared.still_here()?;
        set
    }
}
