//! When a checkpoint writes a whole base, and when runs are merged into which.
//!
//! Invariant: pure functions of counts and offsets. No plan makes a base that ends above the high watermark, so a
//! truncation always leaves the base; whatever is decided, nothing but a base may leave out an entry.

use crate::types::Offset;

/// From where on runs are merged instead of added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Up to so many producers, a checkpoint at or below the high watermark writes all of them.
    pub whole_base_producers: u64,
    /// More deltas than that are merged into one.
    pub max_deltas: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { whole_base_producers: 65_536, max_deltas: 8 }
    }
}

/// What a plan knows of a chain ([`Chain::shape`](super::Chain::shape)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainShape {
    /// Entries of the base; `None` if the chain has no runs.
    pub base_entries: Option<u64>,
    /// The deltas, oldest first.
    pub deltas: Vec<DeltaShape>,
}

/// What a plan knows of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaShape {
    /// How many entries it has.
    pub entries: u64,
    /// First offset behind it.
    pub to: Offset,
}

impl ChainShape {
    fn entries(&self) -> u64 {
        self.base_entries
            .into_iter()
            .chain(self.deltas.iter().map(|delta| delta.entries))
            .fold(0, u64::saturating_add)
    }

    /// How many of the oldest deltas end at or below the high watermark.
    fn replicated_deltas(&self, high_watermark: Offset) -> usize {
        self.deltas.iter().take_while(|delta| delta.to <= high_watermark).count()
    }
}

/// What a checkpoint writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckpointKind {
    /// One base of all producers; the chain is that base alone.
    WholeBase,
    /// One delta of the producers that changed; the chain goes on with it.
    Delta,
    /// There is no base yet and this one would end above the high watermark: a base without entries at the beginning of
    /// the log, then a delta of the producers that changed.
    EmptyBaseAndDelta,
}

/// What a checkpoint at `to` writes, with `frozen` producers that changed since the end of the chain.
#[must_use]
pub fn plan_checkpoint(
    chain: &ChainShape,
    frozen: u64,
    to: Offset,
    high_watermark: Offset,
    config: &CheckpointConfig,
) -> CheckpointKind {
    let may_be_base = to <= high_watermark;
    match chain.base_entries {
        None if may_be_base => CheckpointKind::WholeBase,
        None => CheckpointKind::EmptyBaseAndDelta,
        Some(_) if may_be_base && chain.entries().saturating_add(frozen) <= config.whole_base_producers => {
            CheckpointKind::WholeBase
        }
        Some(_) => CheckpointKind::Delta,
    }
}

/// Which runs are to become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Merge {
    /// All deltas become one delta.
    DeltasIntoOne,
    /// The first `runs` runs, base included, become one base.
    NewBase {
        /// How many runs, at least 2.
        runs: usize,
    },
}

/// Whether runs are to be merged, and which.
///
/// A new base is due when the deltas that it may take in have more than half as many entries as the base: each entry
/// of the base is then written again once for every half of it that changed. Otherwise too many deltas become one,
/// because each look-up may have to read a block of each.
#[must_use]
pub fn plan_merge(chain: &ChainShape, high_watermark: Offset, config: &CheckpointConfig) -> Option<Merge> {
    let base_entries = chain.base_entries?;
    let replicated = chain.replicated_deltas(high_watermark);
    let grown = chain.deltas.iter().take(replicated).map(|delta| delta.entries).fold(0, u64::saturating_add);
    if grown > base_entries / 2 {
        return Some(Merge::NewBase { runs: replicated + 1 });
    }
    (chain.deltas.len() > config.max_deltas.max(1)).then_some(Merge::DeltasIntoOne)
}

/// The merge that makes the base end as high as it may, for retention and compaction, which go only as far as the base.
/// `None` if the base ends there already: a checkpoint at or below the high watermark must come first.
#[must_use]
pub fn plan_higher_base(chain: &ChainShape, high_watermark: Offset) -> Option<Merge> {
    chain.base_entries?;
    let replicated = chain.replicated_deltas(high_watermark);
    (replicated > 0).then_some(Merge::NewBase { runs: replicated + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CheckpointConfig = CheckpointConfig { whole_base_producers: 100, max_deltas: 2 };

    fn chain(base_entries: u64, deltas: &[(u64, i64)]) -> ChainShape {
        let deltas = deltas.iter().map(|&(entries, to)| DeltaShape { entries, to: Offset(to) }).collect();
        ChainShape { base_entries: Some(base_entries), deltas }
    }

    fn nothing() -> ChainShape {
        ChainShape { base_entries: None, deltas: Vec::new() }
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        assert_eq!(
            CheckpointConfig::default(),
            CheckpointConfig { whole_base_producers: 65_536, max_deltas: 8 }
        );
    }

    #[test]
    fn the_first_checkpoint_writes_a_base_however_many_producers_there_are() {
        let plan = plan_checkpoint(&nothing(), 1_000_000, Offset(50), Offset(50), &CONFIG);
        assert_eq!(plan, CheckpointKind::WholeBase);
    }

    #[test]
    fn a_first_checkpoint_above_the_high_watermark_writes_its_producers_into_a_delta() {
        let plan = plan_checkpoint(&nothing(), 1, Offset(51), Offset(50), &CONFIG);
        assert_eq!(plan, CheckpointKind::EmptyBaseAndDelta);
    }

    #[test]
    fn few_producers_at_or_below_the_high_watermark_make_a_whole_base() {
        let chain = chain(60, &[(10, 20)]);
        assert_eq!(plan_checkpoint(&chain, 30, Offset(50), Offset(50), &CONFIG), CheckpointKind::WholeBase);
        assert_eq!(plan_checkpoint(&chain, 31, Offset(50), Offset(50), &CONFIG), CheckpointKind::Delta);
        assert_eq!(plan_checkpoint(&chain, 30, Offset(51), Offset(50), &CONFIG), CheckpointKind::Delta);
    }

    #[test]
    fn deltas_at_or_below_the_high_watermark_that_outgrow_half_the_base_make_a_new_base() {
        let chain = chain(100, &[(25, 20), (26, 30), (500, 40)]);
        assert_eq!(plan_merge(&chain, Offset(30), &CONFIG), Some(Merge::NewBase { runs: 3 }));
        assert_eq!(plan_merge(&chain, Offset(39), &CONFIG), Some(Merge::NewBase { runs: 3 }));
        assert_eq!(plan_merge(&chain, Offset(40), &CONFIG), Some(Merge::NewBase { runs: 4 }));
    }

    #[test]
    fn deltas_above_the_high_watermark_never_enter_a_base_but_are_merged_with_each_other() {
        let chain = chain(100, &[(25, 20), (26, 30), (500, 40)]);
        assert_eq!(plan_merge(&chain, Offset(29), &CONFIG), Some(Merge::DeltasIntoOne));
        assert_eq!(plan_merge(&chain, Offset(0), &CONFIG), Some(Merge::DeltasIntoOne));
    }

    #[test]
    fn as_many_deltas_as_allowed_stay_as_they_are() {
        assert_eq!(plan_merge(&chain(100, &[(25, 20), (25, 30)]), Offset(30), &CONFIG), None);
        assert_eq!(plan_merge(&nothing(), Offset(30), &CONFIG), None);
    }

    #[test]
    fn a_single_delta_is_not_merged_with_itself_even_if_none_is_allowed() {
        let none = CheckpointConfig { max_deltas: 0, ..CONFIG };
        assert_eq!(plan_merge(&chain(100, &[(1, 20)]), Offset(0), &none), None);
    }

    #[test]
    fn a_delta_on_an_empty_base_becomes_the_base_once_it_is_replicated() {
        assert_eq!(plan_merge(&chain(0, &[(1, 20)]), Offset(20), &CONFIG), Some(Merge::NewBase { runs: 2 }));
        assert_eq!(plan_merge(&chain(0, &[(1, 20)]), Offset(19), &CONFIG), None);
    }

    #[test]
    fn a_higher_base_takes_every_delta_up_to_the_high_watermark() {
        let chain = chain(100, &[(1, 20), (1, 30), (1, 40)]);
        assert_eq!(plan_higher_base(&chain, Offset(35)), Some(Merge::NewBase { runs: 3 }));
        assert_eq!(plan_higher_base(&chain, Offset(19)), None);
        assert_eq!(plan_higher_base(&nothing(), Offset(19)), None);
    }
}
