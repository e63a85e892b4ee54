//! A base with the deltas behind it: together, every producer known at the end of the newest.
//!
//! Invariant: the first run is a base, all others are deltas, and each begins at the offset where the one before it
//! ends. No run is ever added to or taken from a chain: another chain is made, and the runs are shared.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::merged::MergedEntries;
use super::plan::{ChainShape, DeltaShape};
use super::run_reader::Run;
use crate::error::{Corruption, Error, Malformed};
use crate::format::manifest::RunRef;
use crate::format::run::RunKind;
use crate::producer::Entry;
use crate::storage::Storage;
use crate::types::{LogPoint, ProducerId};

/// Runs that belong together, base first. Without any, the log itself is the chain.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    runs: Vec<Arc<Run>>,
}

/// What [`Chain::open_longest`] found.
#[derive(Debug)]
pub struct LongestChain {
    /// All runs before the first that could not be used; none if that was the base.
    pub chain: Chain,
    /// The first run that could not be used and why, if there was one.
    pub rejected: Option<(RunRef, Error)>,
}

impl Chain {
    /// A chain without runs.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Opens the runs that a manifest names: header and index of each.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a run is damaged or another than the one named, if the first is no base, a later one is,
    /// or two do not touch; [`Error::Io`] if one cannot be read or is missing (`NotFound`).
    pub fn open(storage: &dyn Storage, dir: &Path, named: &[RunRef]) -> Result<Self, Error> {
        let LongestChain { chain, rejected } = Self::open_longest(storage, dir, named)?;
        rejected.map_or(Ok(chain), |(_, why)| Err(why))
    }

    /// As [`Self::open`], but a run that is missing, damaged or does not fit ends the chain: a base with its oldest
    /// deltas is a chain too.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a run is there and cannot be read.
    pub fn open_longest(storage: &dyn Storage, dir: &Path, named: &[RunRef]) -> Result<LongestChain, Error> {
        let mut chain = Self::empty();
        for name in named {
            let opened = Run::open(storage, dir, *name).and_then(|run| {
                let misfit = chain.misfit(&run);
                misfit.map_or(Ok(run), |misfit| Err(Error::Corrupt(Box::new(misfit))))
            });
            match opened {
                Ok(run) => chain.runs.push(run),
                Err(why) if is_loss(&why) => return Ok(LongestChain { chain, rejected: Some((*name, why)) }),
                Err(why) => return Err(why),
            }
        }
        Ok(LongestChain { chain, rejected: None })
    }

    /// This chain with one more run at its end.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if the run does not fit: a base behind other runs, a delta behind none, or one that begins
    /// elsewhere than where this chain ends.
    pub fn with(&self, run: Arc<Run>) -> Result<Self, Error> {
        if let Some(misfit) = self.misfit(&run) {
            return Err(Error::Misuse(misfit.to_string()));
        }
        let mut runs = self.runs.clone();
        runs.push(run);
        Ok(Self { runs })
    }

    /// This chain with `merged` in the place of the runs that were merged into it, which are all runs of `read` if it
    /// is a base, all deltas of `read` if it is a delta. Runs behind those stay. `None` if this chain no longer begins
    /// with the runs of `read`: the merge is void.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] if `merged` does not cover what it is to replace.
    pub fn replaced(&self, read: &Self, merged: Arc<Run>) -> Result<Option<Self>, Error> {
        if !self.begins_with(read) {
            return Ok(None);
        }
        let kept = match merged.header().kind {
            RunKind::Base => 0,
            RunKind::Delta => 1,
        };
        let before = Self { runs: self.runs.iter().take(kept).cloned().collect() };
        let behind = self.runs.iter().skip(read.len()).cloned();
        std::iter::once(merged).chain(behind).try_fold(before, |chain, run| chain.with(run)).map(Some)
    }

    /// Whether the first runs of this chain are those of `other`: the very same open runs, not equal ones.
    #[must_use]
    pub fn begins_with(&self, other: &Self) -> bool {
        self.len() >= other.len()
            && self.runs.iter().zip(&other.runs).all(|(mine, theirs)| Arc::ptr_eq(mine, theirs))
    }

    /// The newest entry of `id`. Reads one block of each run that may hold it, until one does.
    ///
    /// # Errors
    ///
    /// As [`Run::get`]. Nothing is known of the id then, whatever older runs say.
    pub fn get(&self, id: ProducerId) -> Result<Option<Entry>, Error> {
        for run in self.runs.iter().rev() {
            if let Some(entry) = run.get(id)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The newest entry of every producer, by ascending id.
    ///
    /// # Errors
    ///
    /// What the first read of each run may answer.
    pub fn entries(&self) -> Result<MergedEntries<'static>, Error> {
        MergedEntries::new(&self.runs, &[])
    }

    /// The place behind the last batch that the chain covers; `None` without runs.
    #[must_use]
    pub fn end(&self) -> Option<&LogPoint> {
        self.newest().map(|run| run.to())
    }

    /// How a manifest names the runs.
    #[must_use]
    pub fn references(&self) -> Vec<RunRef> {
        self.runs.iter().map(|run| run.reference()).collect()
    }

    /// The runs, base first.
    #[must_use]
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// The base; `None` without runs.
    #[must_use]
    pub fn base(&self) -> Option<&Arc<Run>> {
        self.runs.first()
    }

    /// The deltas, oldest first.
    #[must_use]
    pub fn deltas(&self) -> &[Arc<Run>] {
        self.runs.get(1..).unwrap_or(&[])
    }

    /// The run at the end, which binds the chain to the log; `None` without runs.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Run>> {
        self.runs.last()
    }

    /// How many runs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there are no runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first `len` runs as a chain; this chain if it has no more.
    #[must_use]
    pub fn prefix(&self, len: usize) -> Self {
        Self { runs: self.runs.iter().take(len).cloned().collect() }
    }

    /// The chain without its newest run, then without its two newest, down to the base alone.
    pub fn prefixes(&self) -> impl Iterator<Item = Self> {
        (1..self.len()).rev().map(|len| self.prefix(len))
    }

    /// At least as many entries as [`Self::entries`] gives; producers in several runs are counted more than once.
    #[must_use]
    pub fn entry_count_upper_bound(&self) -> u64 {
        self.runs.iter().map(|run| run.header().entry_count).fold(0, u64::saturating_add)
    }

    /// What a plan needs to know of the chain.
    #[must_use]
    pub fn shape(&self) -> ChainShape {
        ChainShape {
            base_entries: self.base().map(|base| base.header().entry_count),
            deltas: self
                .deltas()
                .iter()
                .map(|run| DeltaShape { entries: run.header().entry_count, to: run.to().offset })
                .collect(),
        }
    }

    /// What is wrong with `run` behind the runs that are there.
    fn misfit(&self, run: &Run) -> Option<Corruption> {
        let header = run.header();
        let wrong = match (self.end(), header.kind) {
            (None, RunKind::Base) => None,
            (None, RunKind::Delta) => Some(("a base", "a delta without base".to_owned())),
            (Some(_), RunKind::Base) => Some(("a delta", "a base behind other runs".to_owned())),
            (Some(end), RunKind::Delta) if end.offset == header.from => None,
            (Some(end), RunKind::Delta) => {
                let found =
                    format!("one that covers offsets from {} on, not from {}", header.from, end.offset);
                Some(("a run that begins where the one before it ends", found))
            }
        };
        let advice = "the chain without it is used and the rest read again from the log";
        wrong.map(|(expected, found)| {
            Malformed::new("place in the chain", 0, expected, found).in_file(
                run.path(),
                0,
                header.encoded_len() as u64,
                advice,
            )
        })
    }
}

/// Whether the run itself is lost, not only out of reach for the moment.
fn is_loss(error: &Error) -> bool {
    match error {
        Error::Corrupt(_) => true,
        Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
