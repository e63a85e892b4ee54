//! Comparisons of the engine with the model.

use oncelog::{Error, FetchedBatch, Isolation, Offset, ProducerId};

use crate::model::{Batch, Known, Stored};
use crate::world::{FIRST_ID, World};

/// A producer as both know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    epoch: i16,
    coordinator: i32,
    window: Vec<Batch>,
    proven: i64,
    open: Option<i64>,
}

impl Shown {
    pub(crate) fn of(known: Known) -> Self {
        let window = known.window().to_vec();
        let (epoch, coordinator, proven) = (known.epoch, known.coordinator, known.proven());
        Self { epoch, coordinator, window, proven, open: known.open }
    }
}

impl World {
    pub(crate) fn check_offsets(&self) {
        let log = self.log();
        assert_eq!(log.log_start_offset(), Offset(self.model.start));
        assert_eq!(log.log_end_offset(), Offset(self.model.end()));
        let high_watermark = log.high_watermark().0;
        assert!((self.model.durable..=self.model.end()).contains(&high_watermark), "{high_watermark}");
    }

    pub(crate) fn check_everything(&mut self) {
        self.check_offsets();
        let mut from = self.model.start;
        while from < self.model.end() {
            from = self.check_fetch(from, 1 << 20, Isolation::LogEnd);
        }
        self.check_committed(self.model.start, 1 << 20);
        for id in (FIRST_ID..FIRST_ID + 6).chain(100..103).chain(self.model.producers()) {
            self.check_producer(id);
        }
    }

    pub(crate) fn check_producer(&mut self, id: i64) {
        self.learn(id);
        let found = self.known_to_the_log(id);
        assert_eq!(found, self.model.known(id).map(Shown::of), "producer {id}");
    }

    pub(crate) fn known_to_the_log(&self, id: i64) -> Option<Shown> {
        let entry = self.log().producer(ProducerId(id)).unwrap()?;
        let batches = entry.batches().iter().map(|batch| Batch {
            first: i64::from(batch.first_sequence.value()),
            last: i64::from(batch.last_sequence.value()),
            offset: batch.first_offset.0,
            last_offset: batch.last_offset.0,
            timestamp: batch.max_timestamp,
            aborted: batch.aborted,
        });
        Some(Shown {
            epoch: entry.epoch.0,
            coordinator: entry.coordinator_epoch.0,
            window: batches.collect(),
            proven: i64::from(entry.proven),
            open: entry.txn_first_offset.map(|offset| offset.0),
        })
    }

    /// What readers of committed records see from `from` on, by fetches of `max_bytes`, and what is open.
    pub(crate) fn check_committed(&self, from: i64, max_bytes: usize) {
        let log = self.log();
        let high_watermark = log.high_watermark().0;
        assert_eq!(log.last_stable_offset().0, self.model.stable(high_watermark));
        let (mut found, mut next) = (Vec::new(), Offset(from));
        loop {
            let fetched = log.fetch(next, max_bytes, Isolation::ReadCommitted).unwrap();
            let Some(last) = fetched.batches().unwrap().last() else { break };
            found.extend(fetched.records().unwrap().iter().map(|record| record.offset.0));
            next = last.unwrap().header.next_offset();
        }
        found.retain(|offset| *offset >= from);
        assert_eq!(found, self.model.committed(from, high_watermark), "from {from}");
        let open = self.model.transactions().into_iter().filter(|txn| txn.ended.is_none());
        let found: Vec<(i64, i64)> =
            log.open_transactions().iter().map(|txn| (txn.producer.0, txn.first_offset.0)).collect();
        assert_eq!(found, open.map(|txn| (txn.producer, txn.first)).collect::<Vec<_>>());
    }

    /// Fetches once, compares, and returns the offset behind what was fetched.
    pub(crate) fn check_fetch(&self, from: i64, max_bytes: usize, isolation: Isolation) -> i64 {
        let end = self.model.end();
        let fetched = match self.log().fetch(Offset(from), max_bytes, isolation) {
            Ok(fetched) => fetched,
            Err(Error::OffsetOutOfRange { asked, log_start_offset, log_end_offset }) => {
                let start = self.model.start;
                assert_eq!(
                    (asked, log_start_offset, log_end_offset),
                    (Offset(from), Offset(start), Offset(end))
                );
                assert!(from > end || from < start);
                return from;
            }
            Err(error) => panic!("{error}"),
        };
        assert!((self.model.start..=end).contains(&from), "offset {from} is not in the log");
        let bound = match isolation {
            Isolation::HighWatermark => self.log().high_watermark().0,
            _ => end,
        };
        let mut expected = self.model.log.iter().filter(|stored| stored.last_offset() >= from);
        let (mut bytes, mut next) = (0, from);
        for batch in fetched.batches().unwrap() {
            let batch = batch.unwrap();
            let stored = expected
                .find(|stored| stored.offset == batch.header.base_offset.0 || !self.model.is_gone(stored))
                .unwrap();
            assert!(stored.last_offset() < bound, "{stored:?} is not below {bound}");
            self.check_batch(&batch, stored);
            bytes += batch.bytes.len();
            next = stored.last_offset() + 1;
            assert!(
                bytes <= max_bytes || bytes == batch.bytes.len(),
                "{bytes} bytes, {max_bytes} were asked for"
            );
        }
        assert_eq!(next > from, from < bound, "a fetch from {from} below {bound} finds something");
        next
    }

    fn check_batch(&self, batch: &FetchedBatch, stored: &Stored) {
        if stored.offset >= self.model.compacted {
            let mut stamped = stored.sent.bytes.to_vec();
            stamped[..8].copy_from_slice(&stored.offset.to_be_bytes());
            stamped[12..16].copy_from_slice(&0_i32.to_be_bytes());
            assert_eq!(batch.bytes, stamped, "{stored:?}");
            return;
        }
        let ends = (batch.header.base_offset.0, batch.header.last_offset().0);
        assert_eq!(ends, (stored.offset, stored.last_offset()), "{stored:?}");
        let id = batch.header.producer().map(|(id, epoch)| (id.0, epoch.0));
        assert_eq!(id, stored.sent.stamp.map(|stamp| (stamp.id, stamp.epoch)), "{stored:?}");
        let found = batch.records().unwrap().into_iter().map(|record| (record.offset.0, record.timestamp));
        let left = (stored.offset..).zip(stored.sent.timestamps.iter().copied());
        let is_there = |offset: &i64| stored.end.is_some() || !self.model.gone.contains(offset);
        // Of what was deleted a part may be there still.
        let left = left.filter(|(offset, _)| *offset >= self.model.start && is_there(offset));
        let found = found.filter(|(offset, _)| *offset >= self.model.start);
        assert_eq!(found.collect::<Vec<_>>(), left.collect::<Vec<_>>(), "{stored:?}");
    }

    pub(crate) fn check_timestamp(&self, at: i64, isolation: Isolation) {
        let bound = match isolation {
            Isolation::HighWatermark => self.log().high_watermark().0,
            _ => self.model.end(),
        };
        let data = self.model.log.iter().filter(|stored| stored.end.is_none());
        let records = data.flat_map(|stored| (stored.offset..).zip(&stored.sent.timestamps));
        let expected = records
            .filter(|(offset, _)| {
                (self.model.start..bound).contains(offset) && !self.model.gone.contains(offset)
            })
            .find(|(_, timestamp)| **timestamp >= at)
            .map(|(offset, timestamp)| (Offset(offset), *timestamp));
        assert_eq!(self.log().offset_for_timestamp(at, isolation).unwrap(), expected, "at {at}");
    }
}
