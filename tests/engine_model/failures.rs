//! A disk that fails for a while: what was said of each batch holds afterwards.
//!
//! `Unavailable` means that nothing happened, `Indeterminate` that the next open says what did; nothing else is in doubt,
//! but what a truncation, a deletion or a compaction had begun.

use oncelog::storage::{Fault, MemoryStorage};
use oncelog::{Cleanup, Completion, Durability, Error, Isolation, Offset, ProducerId, RawBatch};

use crate::model::{Sent, Verdict};
use crate::operation::{Deed, DiskFault};
use crate::world::{World, id_of};

/// What may or may not have happened.
#[derive(Debug, Default)]
struct Doubt {
    batches: Vec<Sent>,
    cuts: Vec<i64>,
    starts: Vec<i64>,
    /// Whether a round has failed: the next open may finish it.
    compaction: bool,
    /// Whether anything has failed.
    failed: bool,
}

impl World {
    pub(crate) fn fail_during(&mut self, fault: DiskFault, deeds: &[Deed], dies: bool) {
        self.memory.fail(armed(fault));
        let mut doubt = Doubt::default();
        for deed in deeds {
            self.try_to(*deed, &mut doubt);
        }
        self.memory.clear_faults();
        let failed = doubt.failed;
        let latched = self.log().checkpoint().is_err();
        assert!(latched || doubt.batches.is_empty(), "what is in doubt latches the log: {doubt:?}");
        if dies || latched {
            self.die();
        }
        self.settle(doubt);
        if !self.takes_a_batch() {
            // A mark of a clean stop that is perhaps still there holds every write up.
            assert!(failed && !dies && !latched, "the log takes no batch");
            self.die();
        }
        self.model.durable = self.model.end();
        // Checkpoints may have failed.
        self.checkpoint_end = 0;
        self.check_everything();
    }

    fn die(&mut self) {
        let image = self.memory.kill();
        self.log = None;
        self.memory = MemoryStorage::from_image(&image);
        let report = self.open();
        assert!(!report.salvaged, "{report}");
    }

    fn takes_a_batch(&mut self) -> bool {
        let sent = self.batch(None, 1);
        let batch = RawBatch(sent.bytes.clone());
        let appended = self.log().append(batch, Durability::Durable).is_ok();
        if appended {
            self.appended_unseen(sent);
        }
        appended
    }

    fn try_to(&mut self, deed: Deed, doubt: &mut Doubt) {
        let outcome = match deed {
            Deed::Append { producer, records, durability } => {
                self.try_to_append(id_of(producer), records, durability, doubt)
            }
            Deed::Checkpoint => self.log().checkpoint(),
            Deed::Maintain => self.log().maintain(),
            Deed::Flush => self.log().flush().map(drop),
            Deed::Delete { further } => self.try_to_delete(self.model.start + i64::from(further), doubt),
            Deed::Truncate { back } => self.try_to_truncate(self.model.end() - i64::from(back), doubt),
            Deed::Compact if self.config.cleanup == Cleanup::Delete => Ok(()),
            Deed::Compact => {
                let done = self.log().compact().map(drop);
                doubt.compaction |= done.is_err();
                // Behind a truncation that was begun and failed nothing can be read, and no round was made.
                if self.log().fetch(self.log().log_start_offset(), 1, Isolation::LogEnd).is_ok() {
                    self.see_what_is_gone();
                }
                done
            }
        };
        doubt.failed |= outcome.is_err();
    }

    fn try_to_append(
        &mut self,
        id: i64,
        records: u8,
        durability: Durability,
        doubt: &mut Doubt,
    ) -> Result<(), Error> {
        // A truncation that failed leaves nothing that could be asked.
        self.log().producer(ProducerId(id))?;
        let stamp = self.next_stamp(id);
        let sent = self.batch(Some(stamp), records);
        let verdict = self.judge(&sent);
        let batch = RawBatch(sent.bytes.clone());
        match self.log().submit(batch, durability).and_then(Completion::wait) {
            Err(Error::Indeterminate { why }) => {
                assert!(matches!(verdict, Verdict::Append), "{why}");
                // Its sync has failed, or else its write.
                if self.log().log_end_offset().0 > self.model.end() {
                    self.appended_unseen(sent);
                } else {
                    doubt.batches.push(sent);
                }
                Err(Error::Indeterminate { why })
            }
            // Judged by a state that has the batches in doubt.
            Err(Error::Rejected(_)) if !doubt.batches.is_empty() => Ok(()),
            Err(Error::Rejected(rejection)) => {
                self.compare(&verdict, Err(Error::Rejected(rejection)), sent);
                Ok(())
            }
            Err(absent) => Err(absent),
            Ok(answer) => {
                self.compare(&verdict, Ok(answer), sent);
                Ok(())
            }
        }
    }

    fn try_to_delete(&mut self, before: i64, doubt: &mut Doubt) -> Result<(), Error> {
        match self.log().delete_records_before(Offset(before)) {
            Ok(start) => self.model.start = start.0,
            Err(Error::OffsetOutOfRange { .. }) => {}
            Err(error) => {
                doubt.starts.push(before);
                return Err(error);
            }
        }
        Ok(())
    }

    fn try_to_truncate(&mut self, target: i64, doubt: &mut Doubt) -> Result<(), Error> {
        match self.log().truncate_to(Offset(target)) {
            Ok(end) => {
                assert!(self.model.may_end(target, end.0), "cut at {target}: {end}");
                self.cut(end.0);
            }
            Err(Error::OffsetOutOfRange { .. } | Error::TruncationTooLow { .. }) => {}
            Err(error) => {
                doubt.cuts.push(target);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Of a round that has failed a part may be done; no record may be gone that is not replaced now.
    fn see_what_is_gone(&mut self) {
        let present = self.data_records();
        self.model.compact(self.model.end(), &present, self.model.end());
    }

    /// Learns from the log what has become of what was in doubt.
    fn settle(&mut self, doubt: Doubt) {
        let end = self.log().log_end_offset().0;
        let mut maybe = doubt.batches.into_iter();
        while self.model.end() < end
            && let Some(sent) = maybe.next()
        {
            self.appended_unseen(sent);
        }
        if end < self.model.end() {
            let is_asked = doubt.cuts.iter().any(|cut| self.model.may_end(*cut, end));
            assert!(is_asked, "cut at {end}; asked was {:?}", doubt.cuts);
            self.cut(end);
        }
        assert_eq!(self.model.end(), end, "what was acknowledged is there, and nothing that was not sent");
        let start = self.log().log_start_offset().0;
        if start != self.model.start {
            let is_asked = doubt.starts.iter().any(|asked| start == (*asked).min(end));
            assert!(is_asked, "the log starts at {start}; asked was {:?}", doubt.starts);
            self.model.start = start;
        }
        if doubt.compaction {
            self.see_what_is_gone();
        }
    }
}

fn armed(fault: DiskFault) -> Fault {
    let on = if fault.syncs { Fault::on_any_sync() } else { Fault::on_any_mutation() };
    let fault_ = on.nth(u64::from(fault.nth)).with_errno(if fault.full { 28 } else { 5 });
    let torn = fault_.after_bytes(usize::from(fault.after_bytes));
    if fault.stays { torn.from_then_on() } else { torn }
}
