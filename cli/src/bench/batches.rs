//! Record batches for the benchmarks: made once, stamped anew outside of the timed region.
//!
//! Invariant: a batch is exactly as many bytes as asked for and holds `batch / record` records (at least one) with null
//! keys and random values; the pool is larger than the caches near a core, as requests that have just come in are not
//! in them either; its batches are the next ones of their producers, in order.

use anyhow::{Result, bail};
use bytes::Bytes;
use oncelog::format::batch_builder::{BatchBuilder, restamp};
use oncelog::{ProducerEpoch, ProducerId, Sequence};

/// Bytes of a pool.
const POOL_BYTES: usize = 32 << 20;
/// Fewest batches of a pool, however large they are.
const FEWEST: usize = 8;

/// Sizes of the batches, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) batch: usize,
    pub(super) record: usize,
}

impl Shape {
    pub(super) fn records(self) -> usize {
        (self.batch / self.record).max(1)
    }

    fn pool_batches(self) -> usize {
        (POOL_BYTES / self.batch).max(FEWEST)
    }
}

/// Which producers write, round robin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producers {
    pub(super) first: u64,
    /// 0: the batches name no producer.
    pub(super) count: usize,
}

/// Batches that are ready to be appended.
pub(super) struct Pool {
    pub(super) batches: Vec<Bytes>,
    originals: Vec<Bytes>,
    records: u32,
    next: Vec<Sequence>,
    first: u64,
    turn: usize,
}

impl Pool {
    /// A pool that is stamped for its first pass.
    ///
    /// # Errors
    ///
    /// No values make a batch of this size.
    pub(super) fn new(shape: Shape, producers: Producers) -> Result<Self> {
        Self::of_size(shape, producers, shape.pool_batches())
    }

    /// A part of a pool, for one of `parts` threads.
    pub(super) fn part(shape: Shape, producers: Producers, parts: usize) -> Result<Self> {
        Self::of_size(shape, producers, (shape.pool_batches() / parts).max(FEWEST))
    }

    fn of_size(shape: Shape, producers: Producers, batches: usize) -> Result<Self> {
        let maker = Maker::new(shape)?;
        let mut random = fastrand::Rng::with_seed(7 + producers.first);
        let originals = (0..batches).map(|_| maker.make(&mut random)).collect::<Result<Vec<_>>>()?;
        let mut pool = Self {
            batches: Vec::with_capacity(batches),
            originals,
            records: u32::try_from(shape.records())?,
            next: vec![Sequence::ZERO; producers.count],
            first: producers.first,
            turn: 0,
        };
        pool.restamp()?;
        Ok(pool)
    }

    /// Makes every batch the next one of its producer.
    pub(super) fn restamp(&mut self) -> Result<()> {
        self.batches.clear();
        for original in &self.originals {
            self.batches.push(match self.next.get_mut(self.turn) {
                None => original.clone(),
                Some(next) => {
                    let id = ProducerId(i64::try_from(self.first + self.turn as u64)?);
                    let batch = restamp(original, id, ProducerEpoch(0), *next)?;
                    *next = next.wrapping_add(self.records);
                    self.turn = (self.turn + 1) % self.next.len();
                    batch
                }
            });
        }
        Ok(())
    }

    /// Starts again with the first batch of every producer, for a fresh log.
    pub(super) fn rewind(&mut self) -> Result<()> {
        self.turn = 0;
        self.next.fill(Sequence::ZERO);
        self.restamp()
    }

    /// A pass over the pool that stays within `left` bytes, and how many bytes it is.
    pub(super) fn pass(&self, left: u64) -> (&[Bytes], u64) {
        let each = self.batches.first().map_or(1, |batch| batch.len() as u64);
        let most = usize::try_from(left.div_ceil(each)).unwrap_or(usize::MAX);
        let batches = self.batches.get(..most).unwrap_or(&self.batches);
        (batches, batches.len() as u64 * each)
    }
}

/// Makes batches of one shape.
pub(super) struct Maker {
    /// Bytes of each value.
    values: Vec<usize>,
    timestamp: i64,
}

impl Maker {
    pub(super) fn new(shape: Shape) -> Result<Self> {
        let timestamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
        let mut maker = Self { values: vec![0; shape.records()], timestamp: i64::try_from(timestamp)? };
        // A length takes more bytes as it grows, so the sum is found by trying: all values alike as long as that fits,
        // then byte by byte, where the first record gives way if the last one steps over the size.
        loop {
            let size = maker.size()?;
            if size > shape.batch && maker.values.first() == Some(&0) {
                bail!("{} records do not fit a batch of {} bytes", shape.records(), shape.batch);
            }
            let missing = shape.batch.saturating_sub(size);
            let each = missing / maker.values.len();
            if size == shape.batch {
                return Ok(maker);
            } else if each > 4 {
                maker.values.iter_mut().for_each(|value| *value += each - 4);
            } else if let (true, Some(last)) = (size < shape.batch, maker.values.last_mut()) {
                *last += 1;
            } else if let Some(first) = maker.values.iter_mut().find(|value| **value > 0) {
                *first -= 1;
            }
        }
    }

    /// A batch without producer.
    pub(super) fn make(&self, random: &mut fastrand::Rng) -> Result<Bytes> {
        let mut builder = BatchBuilder::new();
        let mut value = Vec::new();
        for length in &self.values {
            value.resize(*length, 0);
            random.fill(&mut value);
            builder = builder.record_at(self.timestamp, None, Some(&value));
        }
        Ok(builder.build()?)
    }

    fn size(&self) -> Result<usize> {
        Ok(self.make(&mut fastrand::Rng::with_seed(0))?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oncelog::BatchHeader;

    #[test]
    fn batches_are_exactly_as_large_as_asked_for() {
        for (batch, record) in
            [(128, 128), (190, 190), (1024, 1024), (16384, 1024), (16384, 64), (65536, 1024)]
        {
            let shape = Shape { batch, record };
            let made = Maker::new(shape).unwrap().make(&mut fastrand::Rng::with_seed(1)).unwrap();
            assert_eq!(made.len(), batch);
            let records = BatchHeader::parse(&made).unwrap().record_count;
            assert_eq!(usize::try_from(records).unwrap(), shape.records());
        }
    }

    #[test]
    fn a_batch_too_small_for_its_records_is_refused() {
        let refused = Maker::new(Shape { batch: 128, record: 2 }).map(|_| ()).unwrap_err();
        assert_eq!(refused.to_string(), "64 records do not fit a batch of 128 bytes");
    }

    #[test]
    fn producers_take_turns_and_their_sequences_go_on_from_pass_to_pass() {
        let shape = Shape { batch: 4 << 20, record: 1 << 20 };
        let mut pool = Pool::new(shape, Producers { first: 5, count: 3 }).unwrap();
        let stamps = |pool: &Pool| -> Vec<_> {
            let headers = pool.batches.iter().map(|batch| BatchHeader::parse(batch).unwrap());
            headers.map(|header| (header.producer_id, header.base_sequence)).collect()
        };
        assert_eq!(stamps(&pool)[..4], [(5, 0), (6, 0), (7, 0), (5, 4)]);
        assert_eq!(pool.batches.len(), 8);
        pool.restamp().unwrap();
        assert_eq!(stamps(&pool)[..2], [(7, 8), (5, 12)]);
    }

    #[test]
    fn a_pass_stays_within_the_bytes_that_are_left() {
        let pool =
            Pool::new(Shape { batch: 4 << 20, record: 1 << 20 }, Producers { first: 0, count: 0 }).unwrap();
        assert_eq!(pool.pass(1 << 30).1, 32 << 20);
        assert_eq!(pool.pass(9 << 20).1, 12 << 20);
        assert_eq!(BatchHeader::parse(&pool.batches[0]).unwrap().producer_id, -1);
    }
}
