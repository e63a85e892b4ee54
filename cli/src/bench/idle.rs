//! Logs that know many producers, and batches of producers that have not written for long.
//!
//! Invariant: a batch is the next one of its producer; which producer comes next looks random, so that neighbours in
//! time are no neighbours in a run.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use oncelog::format::batch_builder::restamp;
use oncelog::{ProducerEpoch, ProducerId, Sequence};

use super::batches::{Maker, Pool, Producers, Shape};
use super::engine;

/// The batches that make a producer known.
pub(super) const FIRST: Shape = Shape { batch: 128, record: 128 };
/// A prime above every number of producers that is accepted, so that multiples of it meet all of them.
const STRIDE: u64 = 15_485_863;

/// Makes a log with one small batch of each producer and closes it; without producers, the same bytes of nobody.
pub(super) fn build(dir: &Path, producers: Producers, batches: u64) -> Result<()> {
    let log = engine::open(dir, engine::config())?;
    engine::fill(&log, &mut Pool::new(FIRST, producers)?, batches * FIRST.batch as u64)?;
    Ok(log.close()?)
}

/// The producers of such a log.
pub(super) struct Idle {
    next: Vec<Sequence>,
    original: Bytes,
    records: u32,
}

impl Idle {
    pub(super) fn new(shape: Shape, producers: usize) -> Result<Self> {
        Ok(Self {
            next: vec![Sequence::ZERO.next(); producers],
            original: Maker::new(shape)?.make(&mut fastrand::Rng::with_seed(9))?,
            records: u32::try_from(shape.records())?,
        })
    }

    /// The next batch of the producer that stands at `place` in the seemingly random order.
    pub(super) fn batch(&mut self, place: u64) -> Result<Bytes> {
        let producers = self.next.len() as u64;
        let slot = (place % producers * (STRIDE % producers)) % producers;
        let id = ProducerId(i64::try_from(slot + 1)?);
        let Some(next) = self.next.get_mut(usize::try_from(slot)?) else { return Ok(self.original.clone()) };
        let batch = restamp(&self.original, id, ProducerEpoch(0), *next)?;
        *next = next.wrapping_add(self.records);
        Ok(batch)
    }

    /// A batch of nobody, as large.
    pub(super) fn anonymous(&self) -> Bytes {
        self.original.clone()
    }
}
