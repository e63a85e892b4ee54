//! What must be in the log.
//!
//! Invariant: a batch is placed once its offset is certain, because somebody acknowledged it or a log end showed that it
//! was written before its writer died; what is placed is never taken back.

use anyhow::{Result, ensure};

use crate::plan::{Batch, Record};

/// A batch with its offset.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) base_offset: i64,
    pub(crate) batch: Batch,
}

impl Placed {
    pub(crate) fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.batch.count())
    }
}

/// The log as it must be, from offset 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    placed: Vec<Placed>,
    unanswered: Vec<Batch>,
}

impl Ledger {
    /// The log end, if nothing is unanswered.
    pub(crate) fn end(&self) -> i64 {
        self.placed.last().map_or(0, Placed::next_offset)
    }

    /// The batch behind the end.
    pub(crate) fn place(&mut self, batch: Batch) {
        let base_offset = self.end();
        self.placed.push(Placed { base_offset, batch });
    }

    /// Batches that were given to a writer that died, in order, of which the log may hold any number from the first on.
    pub(crate) fn leave_unanswered(&mut self, batches: Vec<Batch>) {
        self.unanswered = batches;
    }

    /// Says how far the log reaches, which decides about the unanswered batches.
    ///
    /// # Errors
    ///
    /// If no number of whole batches gives this end: something acknowledged is missing, or the log was cut inside a
    /// batch.
    pub(crate) fn settle(&mut self, end: i64) -> Result<usize> {
        let acknowledged = self.end();
        let before = self.placed.len();
        let mut unanswered = std::mem::take(&mut self.unanswered).into_iter();
        while self.end() < end
            && let Some(batch) = unanswered.next()
        {
            self.place(batch);
        }
        ensure!(
            self.end() == end,
            "the log ends at {end}; acknowledged is {acknowledged}, and the next border of a batch is {}",
            self.end()
        );
        Ok(self.placed.len() - before)
    }

    /// All batches, in order.
    pub(crate) fn batches(&self) -> &[Placed] {
        &self.placed
    }

    /// All records, with their offsets.
    pub(crate) fn records(&self) -> impl Iterator<Item = (i64, &Record)> {
        self.placed.iter().flat_map(|placed| (placed.base_offset..).zip(&placed.batch.records))
    }

    /// The producer's newest batches of its newest epoch, newest first, at most `most`.
    pub(crate) fn newest(&self, id: i64, most: usize) -> Vec<&Placed> {
        let of_id = |placed: &&Placed| placed.batch.stamp.is_some_and(|stamp| stamp.id == id);
        let epoch = |placed: &Placed| placed.batch.stamp.map(|stamp| stamp.epoch);
        let newest = self.placed.iter().rev().find(of_id).and_then(epoch);
        self.placed
            .iter()
            .rev()
            .filter(of_id)
            .take_while(|placed| epoch(placed) == newest)
            .take(most)
            .collect()
    }

    /// The producer's newest batch.
    pub(crate) fn last(&self, id: i64) -> Option<&Batch> {
        self.newest(id, 1).first().map(|placed| &placed.batch)
    }
}
