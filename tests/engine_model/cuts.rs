//! Markers, deletions, truncations and restarts.

use std::collections::BTreeSet;

use oncelog::format::control::{ControlKind, EndTxnMarker};
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{Clock, MemoryStorage, Pending};
use oncelog::{
    Appended, Cleanup, CoordinatorEpoch, Durability, EndTransaction, EndTxn, Error, Isolation, Offset,
    Outcome, ProducerEpoch, ProducerId, RecoveryReport, TransactionVersion,
};

use crate::checks::Shown;
use crate::model::{End, Sent, Stamp, Stored, Verdict};
use crate::world::{World, assert_same_rule};

impl World {
    /// Epoch and coordinator epoch of a producer.
    pub(crate) fn next_known(&mut self, id: i64) -> (i16, i32) {
        self.learn(id);
        self.model.known(id).map_or((0, 0), |known| (known.epoch, known.coordinator))
    }

    pub(crate) fn end(
        &mut self,
        id: i64,
        epoch: i16,
        end: End,
        version: TransactionVersion,
        durability: Durability,
    ) {
        let stamp = Stamp { id, epoch, first: None, transactional: true };
        let verdict = self.model.judge_marker(stamp, end, version);
        let (producer, epoch) = (ProducerId(id), ProducerEpoch(epoch));
        let coordinator_epoch = CoordinatorEpoch(end.coordinator);
        let order = EndTransaction { producer, epoch, coordinator_epoch, outcome: end.outcome, version };
        let timestamp = self.clock.wall_ms();
        match (verdict, self.log().end_transaction(order, durability)) {
            (Verdict::Append, Ok(answer)) => {
                let offset = Offset(self.model.end());
                let expected = Appended {
                    outcome: Outcome::Appended,
                    base_offset: Some(offset),
                    last_offset: offset,
                    timestamp,
                };
                assert_eq!(answer, expected);
                let kind = match end.outcome {
                    EndTxn::Commit => ControlKind::Commit,
                    EndTxn::Abort => ControlKind::Abort,
                };
                let bytes = EndTxnMarker { producer, epoch, kind, coordinator_epoch, timestamp }.to_batch();
                let sent = Sent { stamp: Some(stamp), bytes, timestamps: vec![timestamp], keys: Vec::new() };
                self.model.append(sent, Some(end), self.clock.monotonic());
                if durability == Durability::Durable {
                    self.model.durable = self.model.end();
                }
                self.check_producer(id);
            }
            (Verdict::Reject(expected), Err(Error::Rejected(found))) => assert_same_rule(&found, &expected),
            (verdict, answer) => panic!("{stamp:?} {end:?}: expected {verdict:?}, found {answer:?}"),
        }
    }

    pub(crate) fn delete(&mut self, before: i64) {
        let high_watermark = self.log().high_watermark().0;
        match self.log().delete_records_before(Offset(before)) {
            Ok(start) => {
                assert!(before <= high_watermark);
                assert_eq!(start.0, before.max(self.model.start));
                self.model.start = start.0;
            }
            Err(Error::OffsetOutOfRange { .. }) => {
                assert!(before > high_watermark, "{before} of {high_watermark}")
            }
            Err(error) => panic!("{error}"),
        }
        self.check_everything();
    }

    pub(crate) fn truncate(&mut self, target: i64) {
        let (start, end) = (self.model.start, self.model.end());
        match self.log().truncate_to(Offset(target)) {
            Ok(now) => {
                assert!((start..=end).contains(&target));
                assert!(self.model.may_end(target, now.0), "cut at {target}: {now}");
                self.cut(now.0);
                if now.0 < end {
                    self.model.durable = now.0;
                }
            }
            Err(Error::OffsetOutOfRange { .. }) => assert!(!(start..=end).contains(&target)),
            // Behind a deletion, state is kept from some checkpoint on.
            Err(Error::TruncationTooLow { .. }) => {
                assert!(start > 0 || self.model.compacted > 0, "the log has all of its beginning");
            }
            Err(error) => panic!("{error}"),
        }
        self.check_everything();
    }

    pub(crate) fn cut(&mut self, end: i64) {
        self.model.cut(end);
        self.model.start = self.model.start.min(end);
        // Runs above the cut are gone.
        self.checkpoint_end = 0;
        for id in self.model.forgotten() {
            let entry = self.known_to_the_log(id);
            self.model.remember(id, |known| known.map(Shown::of) == entry);
        }
    }

    pub(crate) fn compact(&mut self) {
        if self.config.cleanup == Cleanup::Delete {
            return;
        }
        match self.log().compact() {
            Ok(Some(done)) => {
                assert!(done.to.0 <= self.log().high_watermark().0);
                let present = self.data_records();
                self.model.compact(done.to.0, &present, self.log().high_watermark().0);
            }
            Ok(None) => {}
            Err(error) => panic!("{error}"),
        }
        self.check_everything();
    }

    /// Offsets of all data records that can be read.
    pub(crate) fn data_records(&self) -> BTreeSet<i64> {
        let (mut found, mut next) = (BTreeSet::new(), self.log().log_start_offset());
        loop {
            let fetched = self.log().fetch(next, 1 << 20, Isolation::LogEnd).unwrap();
            let Some(last) = fetched.batches().unwrap().last() else { return found };
            found.extend(fetched.records().unwrap().iter().map(|record| record.offset.0));
            next = last.unwrap().header.next_offset();
        }
    }

    pub(crate) fn begin_anew(&mut self, start: i64) {
        assert_eq!(self.log().truncate_fully_and_start_at(Offset(start)).unwrap(), Offset(start));
        self.model.begin_anew(start);
        self.checkpoint_end = 0;
        self.check_everything();
    }

    fn since_checkpoint(&self) -> impl Iterator<Item = &Stored> {
        self.model.log.iter().filter(|stored| stored.offset >= self.checkpoint_end)
    }

    pub(crate) fn reopen(&mut self) {
        self.log.take().unwrap().close().unwrap();
        let report = self.open();
        assert_eq!(report.kind, RecoveryKind::Clean, "{report}");
        let work = (report.scanned_bytes, report.replayed_bytes, report.rewritten_bytes);
        assert_eq!(work, (0, 0, 0), "{report}");
        self.checkpoint_end = self.model.end();
        self.model.durable = self.model.end();
        self.check_everything();
    }

    pub(crate) fn crash(&mut self) {
        // The image comes first: dropping the log must not be what saves it.
        let image = self.memory.kill();
        self.log = None;
        self.memory = MemoryStorage::from_image(&image);
        let report = self.open();
        assert_eq!(report.cuts, [], "a kill loses nothing");
        self.check_recovery(&report);
        assert_eq!(self.log().log_end_offset(), Offset(self.model.end()), "{report}");
        self.model.durable = self.model.end();
        self.check_everything();
    }

    pub(crate) fn power_cut(&mut self, seed: u64) {
        let mut random = seed;
        let image = self.memory.power_cut_with(|_: &Pending| {
            // Nothing survives with the first seeds, everything with the next: the ends of the scale.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match seed % 4 {
                0 => false,
                1 => true,
                _ => random >> 63 == 1,
            }
        });
        self.log = None;
        self.memory = MemoryStorage::from_image(&image);
        let report = self.open();
        self.check_recovery(&report);
        let end = self.log().log_end_offset().0;
        assert!(end >= self.model.durable, "offset {} was durable: {report}", self.model.durable);
        self.model.cut(end);
        self.model.durable = end;
        self.check_everything();
    }

    fn check_recovery(&self, report: &RecoveryReport) {
        assert!(!report.salvaged, "{report}");
        let bytes: usize = self.since_checkpoint().map(|stored| stored.sent.bytes.len()).sum();
        assert!(report.replayed_bytes <= bytes as u64, "{bytes} bytes since the last checkpoint: {report}");
    }
}
