//! Finds chains among runs that no manifest names, for a directory whose manifest is lost.
//!
//! Invariant: every run of a chain that is offered was read to its last byte. Whether the chain is one of this log is
//! not known here: its newest run's fingerprint tells, which the caller compares with the log.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::chain::Chain;
use super::run_reader::Run;
use crate::error::Error;
use crate::format::run::RunKind;
use crate::storage::Storage;

/// The greatest number that counting from 0 can have come to.
const MOST_COUNTED: u64 = u64::MAX >> 1;

/// What [`adopt_runs`] found.
#[derive(Debug)]
pub struct Adoption {
    /// One chain for each base, the one that ends highest first, and of equals the one whose base does. Each is as long as runs that touch make it; its
    /// [`prefixes`](Chain::prefixes) are chains too.
    pub chains: Vec<Chain>,
    /// Numbers of runs that cannot be used, and why.
    pub rejected: Vec<(u64, Error)>,
    /// The number of the next run ([`number_behind`]).
    pub next_run_number: u64,
}

/// Reads the runs with these numbers and puts those that touch together.
///
/// # Errors
///
/// [`Error::Io`] if a run is there and cannot be read.
pub fn adopt_runs(storage: &dyn Storage, dir: &Path, numbers: &[u64]) -> Result<Adoption, Error> {
    let next_run_number = number_behind(numbers);
    let mut adoption = Adoption { chains: Vec::new(), rejected: Vec::new(), next_run_number };
    let mut bases = Vec::new();
    let mut deltas = Vec::new();
    for number in numbers.iter().filter(|number| is_counted(**number)) {
        match Run::open_unnamed(storage, dir, *number).and_then(|run| run.verify().map(|()| run)) {
            Ok(run) if run.header().kind == RunKind::Base => bases.push(run),
            Ok(run) => deltas.push(run),
            Err(Error::Io { operation, path, source }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io { operation, path, source });
            }
            Err(why) => adoption.rejected.push((*number, why)),
        }
    }
    // Of deltas that begin at the same offset the one that leads furthest is taken: a merged one before its parts.
    deltas.retain(|delta| delta.header().from < delta.to().offset);
    deltas.sort_by_key(|delta| (delta.to().offset, delta.header().number));
    for base in bases {
        let mut chain = Chain::empty().with(base)?;
        while let Some(next) = following(&chain, &deltas) {
            chain = chain.with(next)?;
        }
        adoption.chains.push(chain);
    }
    let rank = |chain: &Chain| {
        let base = chain.base().map(|run| (run.to().offset, run.header().number));
        (chain.end().map(|end| end.offset), base)
    };
    adoption.chains.sort_by_key(|chain| std::cmp::Reverse(rank(chain)));
    Ok(adoption)
}

fn following(chain: &Chain, deltas: &[Arc<Run>]) -> Option<Arc<Run>> {
    let end = chain.end()?.offset;
    deltas.iter().rev().find(|delta| delta.header().from == end).cloned()
}

/// The first number that no run in a directory with these has had.
///
/// One that counting from 0 never comes to is a stranger's: to count on behind it would leave no numbers.
#[must_use]
pub fn number_behind(numbers: &[u64]) -> u64 {
    let counted = numbers.iter().filter(|number| is_counted(**number));
    counted.max().map_or(0, |greatest| greatest.saturating_add(1))
}

fn is_counted(number: u64) -> bool {
    number <= MOST_COUNTED
}
