//! What readers of committed records see of the model's log.

use std::collections::BTreeMap;

use oncelog::EndTxn;

use crate::model::{Model, Stored};

/// A transaction, and its marker with the outcome if it has one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transaction {
    pub(crate) producer: i64,
    pub(crate) first: i64,
    pub(crate) ended: Option<(i64, EndTxn)>,
}

impl Model {
    /// Transactions, oldest first.
    pub(crate) fn transactions(&self) -> Vec<Transaction> {
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        let mut all = Vec::new();
        for stored in &self.log {
            let Some(stamp) = stored.sent.stamp else { continue };
            if let Some(end) = stored.end {
                let begun = open.remove(&stamp.id);
                let ended = Some((stored.offset, end.outcome));
                all.extend(begun.map(|first| Transaction { producer: stamp.id, first, ended }));
            } else if stamp.transactional {
                open.entry(stamp.id).or_insert(stored.offset);
            }
        }
        all.extend(open.into_iter().map(|(producer, first)| Transaction { producer, first, ended: None }));
        all.sort_by_key(|txn| txn.first);
        all
    }

    /// First offset that readers of committed records do not see.
    pub(crate) fn stable(&self, high_watermark: i64) -> i64 {
        let undecided = |txn: &Transaction| txn.ended.is_none_or(|(marker, _)| marker >= high_watermark);
        let first = self.transactions().into_iter().find(undecided).map(|txn| txn.first);
        first.map_or(high_watermark, |first| first.max(self.start).min(high_watermark))
    }

    /// Offsets of the records from `from` on that readers of committed records see.
    pub(crate) fn committed(&self, from: i64, high_watermark: i64) -> Vec<i64> {
        let (stable, transactions) = (self.stable(high_watermark), self.transactions());
        let void = |stored: &Stored| {
            let stamp = stored.sent.stamp.filter(|stamp| stamp.transactional);
            stamp.is_some_and(|stamp| {
                transactions.iter().any(|txn| {
                    let aborted = txn.ended.filter(|(_, outcome)| *outcome == EndTxn::Abort);
                    txn.producer == stamp.id
                        && aborted.is_some_and(|(marker, _)| (txn.first..marker).contains(&stored.offset))
                })
            })
        };
        let seen = self.log.iter().filter(|stored| stored.end.is_none() && !void(stored));
        let offsets = seen.flat_map(|stored| stored.offset..=stored.last_offset());
        offsets.filter(|offset| (from..stable).contains(offset) && !self.gone.contains(offset)).collect()
    }
}
