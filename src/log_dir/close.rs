//! Closing a root, in order or not.
//!
//! Invariant: the mark of a clean stop is the last write under the root, and is written only if every partition that is
//! there was closed in order: each has its `.snapshot`, its synced and trimmed indexes, and a line in the root's files at
//! its log end. One partition that is not leaves the root unmarked: Kafka then checks all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::inner::Inner;
use super::relocate::being_moved;
use super::slot::{Life, Slot};
use super::together::for_each;
use crate::error::Error;
use crate::log::Due;
use crate::testing::{Point, cross};

impl Inner {
    /// Closes every partition, then the root. The first failure is answered; everything else is closed all the same.
    pub(super) fn close_cleanly(&self) -> Result<(), Error> {
        if self.closing.swap(true, Ordering::AcqRel) {
            return Err(Error::Closed);
        }
        let failure = Mutex::new(None);
        let fail = |error: Error| {
            failure.lock().get_or_insert(error);
        };
        let slots = self.all_slots();
        for_each(&slots, self.closing_threads(), |slot| {
            if let Err(error) = self.close_slot(slot) {
                tracing::error!(partition = %slot.name, %error, "the partition was not closed in order");
                fail(error);
            }
        });
        self.remove_deleted();
        if let Some(pool) = &self.pool {
            pool.stop();
        }
        if !self.is_untouched() || self.has_higher_marks() {
            let written = self.write_offsets().and_then(|()| self.write_high_watermarks());
            let unmarked = failure.lock().is_some();
            let marked = written.and_then(|()| if unmarked { Ok(()) } else { self.put_mark() });
            if let Err(error) = marked {
                fail(error);
            }
        }
        for slot in &slots {
            *slot.lock() = Life::Gone;
            slot.cuts.raise();
        }
        self.lock.lock().take();
        failure.into_inner().map_or(Ok(()), Err)
    }

    fn put_mark(&self) -> Result<(), Error> {
        cross(Point::RootClosed);
        self.host.mark.leave()?;
        self.host.mark.put(self.config.broker_epoch)
    }

    /// Closes one partition, and leaves what is known of it in its slot.
    fn close_slot(&self, slot: &Arc<Slot>) -> Result<(), Error> {
        let mut state = slot.lock();
        let log = match &*state {
            Life::Open(log) => Arc::clone(log),
            Life::Resting { clean: true, .. } | Life::Gone => return Ok(()),
            Life::Failed(error) => return Err(error.clone()),
            Life::Moving(_) => return Err(being_moved()),
            Life::Resting { heads, clean: false, .. } => Arc::new(self.open_again(slot, heads, false)?),
        };
        let closed = log.close_in_place();
        if let Ok(heads) = log.heads() {
            *state = Life::Resting { heads, clean: closed.is_ok(), due: Due::default() };
        }
        self.discharge(slot);
        closed
    }

    /// Answers what was submitted and lets go of everything: the next open recovers, as after a crash of the process.
    pub(super) fn abandon(&self) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        for slot in self.all_slots() {
            let mut state = slot.lock();
            if let Life::Open(log) = std::mem::replace(&mut *state, Life::Gone) {
                log.abandon();
            }
            slot.cuts.raise();
        }
        if let Some(pool) = &self.pool {
            pool.stop();
        }
        self.lock.lock().take();
    }
}
