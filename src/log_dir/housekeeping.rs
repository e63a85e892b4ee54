//! What a root needs from time to time, and the thread that does it.
//!
//! Invariant: the thread holds the root only weakly while it waits, so that dropping the last handle ends it.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::inner::Inner;
use crate::error::Error;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(500);

/// The thread, and the way to wake it.
pub(super) struct Housekeeper {
    wake: Sender<Call>,
    thread: Option<JoinHandle<()>>,
}

enum Call {
    Work,
    Stop,
}

impl Housekeeper {
    pub(super) fn start(inner: &Arc<Inner>) -> Result<Self, Error> {
        let (wake, calls) = crossbeam_channel::unbounded();
        let weak = Arc::downgrade(inner);
        let thread = thread::Builder::new()
            .name("oncelog-root".to_owned())
            .spawn(move || work(&weak, &calls))
            .map_err(|error| Error::io("start a thread for", &inner.root, error))?;
        Ok(Self { wake, thread: Some(thread) })
    }

    /// There is something to do that need not wait for the clock.
    pub(super) fn wake(&self) {
        // An error means that the thread is gone already.
        let _ = self.wake.send(Call::Work);
    }

    pub(super) fn stop(&mut self) {
        let _ = self.wake.send(Call::Stop);
        // The last handle of a root may be dropped by a callback on this thread.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a root panicked");
        }
    }
}

fn work(inner: &Weak<Inner>, calls: &Receiver<Call>) {
    loop {
        match calls.recv_timeout(TICK) {
            Ok(Call::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Call::Work) | Err(RecvTimeoutError::Timeout) => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.keep_house() {
            tracing::warn!(root = %inner.root.display(), %error, "the root's files could not be written; tried again later");
        }
    }
}

impl Inner {
    /// Does what is due: descriptors, files of offsets, directories of deleted partitions.
    pub(super) fn keep_house(&self) -> Result<(), Error> {
        self.remove_deleted();
        self.count_descriptors();
        self.make_room(0);
        self.rest_idle(self.config.idle_after);
        let now = self.clock.monotonic();
        let (offsets_at, marks_at) = {
            let files = self.offsets.lock();
            (files.offsets_at, files.high_watermarks_at)
        };
        let offsets_are_due = now.saturating_sub(offsets_at) >= self.config.offsets_interval;
        if offsets_are_due {
            self.tend_resting();
        }
        if self.still_open().is_err() {
            // By a callback of a log that came to rest.
            return Ok(());
        }
        if offsets_are_due {
            self.write_offsets()?;
        }
        if now.saturating_sub(marks_at) >= self.config.high_watermark_interval {
            self.write_high_watermarks()?;
        }
        Ok(())
    }

    /// Logs open runs and segments as they go on: counts them anew, and closes segments that only readers wanted.
    fn count_descriptors(&self) {
        let now = self.clock.monotonic();
        let open = self.open.lock().clone();
        for slot in open {
            let Some(log) = slot.if_open() else { continue };
            if Arc::strong_count(&log) > 2 {
                // Somebody holds it, and may use it without asking for it again.
                slot.used(now);
            }
            self.charge_open(&slot, &log);
            if self.is_over_budget() {
                log.release_sealed();
                self.charge_open(&slot, &log);
            }
        }
    }

    /// Runs the background work of every open log: for roots without threads.
    pub(super) fn maintain_logs(&self) -> Result<(), Error> {
        let open = self.open.lock().clone();
        let logs = open.iter().filter_map(|slot| slot.if_open());
        logs.map(|log| log.maintain()).fold(Ok(()), Result::and)
    }
}
