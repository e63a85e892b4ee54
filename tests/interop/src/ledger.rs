//! What must be in the log.
//!
//! Invariant: a batch is placed once its offset is certain, because somebody acknowledged it or a log end showed that it
//! was written before its writer died; what is placed is taken back by a truncation alone. What a deletion or a
//! compaction took stays placed, and readers are told which of it they may miss.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};

use crate::plan::{Batch, Record, TRANSACTIONAL};

/// What a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    All,
    Committed,
}

/// An aborted transaction: its first record and its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aborted {
    pub(crate) id: i64,
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
}

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
    /// Everything before was deleted.
    start: i64,
    /// Below this offset a compaction may have taken what a later record replaces.
    compacted: i64,
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

    /// First offset that was not deleted.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// Where compaction has ended.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// The last border of batches at or before `offset`.
    pub(crate) fn border_before(&self, offset: i64) -> i64 {
        let mut borders =
            std::iter::once(self.end()).chain(self.placed.iter().rev().map(|placed| placed.base_offset));
        borders.find(|border| *border <= offset).unwrap_or(0)
    }

    /// Records before `offset` were deleted.
    pub(crate) fn delete(&mut self, offset: i64) {
        self.start = offset;
    }

    /// The log was cut at `end`, a border of batches.
    pub(crate) fn cut(&mut self, end: i64) {
        self.placed.retain(|placed| placed.next_offset() <= end);
    }

    /// The log was compacted up to `end`.
    pub(crate) fn compact(&mut self, end: i64) {
        self.compacted = self.compacted.max(end);
    }

    /// Compares what a reader was shown, by offset and in words of its own, with what it is owed; says how many records
    /// it did not see.
    ///
    /// # Errors
    ///
    /// If a record is there that should not be, is another one, or is missing without a later one that replaces it.
    pub(crate) fn judge_read<T: PartialEq + std::fmt::Debug>(
        &self,
        level: Level,
        read: &[(i64, T)],
        spell: impl Fn(i64, &Record) -> T,
    ) -> Result<usize> {
        let (owed, _) = self.records(level);
        let mut newest = HashMap::new();
        for (offset, record) in self.records(Level::Committed).0 {
            newest.insert(record.key.as_deref(), offset);
        }
        let aborted = self.aborted_records();
        let mut read = read.iter().peekable();
        let mut missing = 0;
        for (offset, record) in owed {
            match read.next_if(|(at, _)| *at == offset) {
                Some((_, found)) => {
                    let expected = spell(offset, record);
                    ensure!(*found == expected, "expected record {expected:?}, read {found:?}");
                }
                None => {
                    let replaced = newest.get(&record.key.as_deref()).is_some_and(|newest| *newest > offset);
                    let may_go = offset < self.compacted && (replaced || aborted.contains(&offset));
                    ensure!(may_go, "record {offset} is missing; the next one read is {:?}", read.peek());
                    missing += 1;
                }
            }
        }
        ensure!(read.next().is_none(), "more records than are owed");
        Ok(missing)
    }

    fn aborted_records(&self) -> std::collections::HashSet<i64> {
        let aborted = self.aborted();
        let of = |placed: &Placed, txn: &Aborted| {
            placed.batch.transaction() == Some(txn.id)
                && (txn.first_offset..txn.last_offset).contains(&placed.base_offset)
        };
        let void = self.placed.iter().filter(|placed| aborted.iter().any(|txn| of(placed, txn)));
        void.flat_map(|placed| placed.base_offset..placed.next_offset()).collect()
    }

    /// The batch that begins at `base_offset`.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub(crate) fn at(&self, base_offset: i64) -> Result<&Placed> {
        let found = self.placed.binary_search_by_key(&base_offset, |placed| placed.base_offset);
        let found = found.ok().and_then(|at| self.placed.get(at));
        found.with_context(|| format!("no batch begins at {base_offset}"))
    }

    /// All records that a reader of this isolation level is owed, with their offsets, and where they end.
    pub(crate) fn records(&self, level: Level) -> (Vec<(i64, &Record)>, i64) {
        let end = if level == Level::Committed { self.last_stable_offset() } else { self.end() };
        let aborted = self.aborted();
        let shown = |placed: &&Placed| {
            let at = placed.base_offset;
            let undone = |txn: &&Aborted| (txn.first_offset..txn.last_offset).contains(&at);
            let owner = placed.batch.transaction();
            at < end
                && (level == Level::All
                    || owner
                        .is_none_or(|id| !aborted.iter().filter(|txn| txn.id == id).any(|txn| undone(&txn))))
        };
        let batches = self.placed.iter().filter(shown);
        let records = batches.flat_map(|placed| (placed.base_offset..).zip(&placed.batch.records));
        (records.filter(|(offset, _)| *offset >= self.start).collect(), end)
    }

    /// The aborted transactions, in the order of their markers.
    pub(crate) fn aborted(&self) -> Vec<Aborted> {
        let mut begun = BTreeMap::new();
        let mut aborted = Vec::new();
        for placed in &self.placed {
            if let Some(id) = placed.batch.transaction() {
                begun.entry(id).or_insert(placed.base_offset);
            }
            if let Some(marker) = placed.batch.marker
                && let Some(first_offset) = begun.remove(&marker.id)
                && !marker.commits
            {
                aborted.push(Aborted { id: marker.id, first_offset, last_offset: placed.base_offset });
            }
        }
        aborted
    }

    /// First offset of the producer's transaction that has no marker yet.
    pub(crate) fn open_since(&self, id: i64) -> Option<i64> {
        let ends = |placed: &Placed| placed.batch.marker.is_some_and(|marker| marker.id == id);
        let behind = self.placed.iter().rposition(ends).map_or(0, |at| at + 1);
        let open = self.placed.get(behind..)?;
        open.iter().find(|placed| placed.batch.transaction() == Some(id)).map(|placed| placed.base_offset)
    }

    /// The end of what is decided.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        TRANSACTIONAL.iter().filter_map(|id| self.open_since(*id)).min().unwrap_or_else(|| self.end())
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
