//! The producer state at a place in an open log, made anew without a run that turned out to be damaged.
//!
//! Invariant: reads only, and reads every byte of the runs that it builds on: what is returned does not rest on a block
//! that nobody has looked at.

use std::path::Path;
use std::sync::Arc;

use super::inventory::Inventory;
use super::log_files::LogFiles;
use super::options::{RecoveryOptions, Salvage};
use super::passes::Durable;
use super::state::{Basis, Ground, build};
use super::walk::Stop;
use crate::checkpoint::{Chain, LongestChain, ManifestState, read_manifest};
use crate::error::{Corruption, Error};
use crate::format::manifest::RunRef;
use crate::format::names::{MANIFEST, run_name};
use crate::producer::ProducerMap;
use crate::segment::scan::Density;
use crate::storage::Storage;
use crate::types::{EngineTime, LogPoint, Offset};

/// A state: what the runs of `chain` know, with `producers` over it.
#[derive(Debug)]
pub struct StateAt {
    /// Entries that are newer than the chain.
    pub producers: ProducerMap,
    /// Runs that were read to their last byte; perhaps none.
    pub chain: Chain,
    /// The chain ends here: batches from here on were applied. The log start where there is no chain.
    pub from: Offset,
}

/// The state at `end`, which must be durable and at or below the end of `chain`.
///
/// Tried are the beginnings of `chain`, then those of `previous`, then the log from offset 0 on; of each only runs that
/// prove sound.
///
/// # Errors
///
/// [`Error::Corrupt`] if none of them leads to `end`; [`Error::Io`] if something cannot be read.
pub fn state_at(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    chain: &Chain,
    previous: &[RunRef],
    end: &LogPoint,
) -> Result<StateAt, Error> {
    let inventory = Inventory::take(storage, dir)?;
    let (log_start, engine_time, compacted) = match read_manifest(&**storage, dir)? {
        ManifestState::Present(manifest) => {
            (manifest.log_start_offset, manifest.engine_time, manifest.compaction.reached)
        }
        ManifestState::Missing | ManifestState::Damaged(_) => (Offset::ZERO, EngineTime(0), Offset::ZERO),
    };
    let below = inventory.segments_below(log_start);
    let files = LogFiles::new(storage, dir, inventory.segments.get(below..).unwrap_or_default());
    let options = RecoveryOptions { salvage: Salvage::Refuse, ..RecoveryOptions::default() };
    let mut reasons = Vec::new();

    let LongestChain { chain: previous, .. } = Chain::open_longest(&**storage, dir, previous)?;
    for candidate in [sound(chain, &mut reasons), sound(&previous, &mut reasons), Chain::empty()] {
        for len in (0..=candidate.len()).rev() {
            let part = candidate.prefix(len);
            if part.is_empty() != candidate.is_empty() {
                continue;
            }
            let basis = if part.is_empty() { Basis::WholeLog } else { Basis::Chain };
            let Some(place) = files.place(end) else { break };
            let ground = Ground {
                log_start,
                durable: Durable::To(place),
                limit: Some(end.offset),
                density_below: Density::Sparse,
                density_above: Density::Sparse,
                compacted,
                must_be_bound: false,
                engine_time,
            };
            match build(&files, basis, &part, &ground, &options)? {
                Ok(built) if !matches!(built.passed.stop, Stop::Damage(_)) => {
                    return Ok(StateAt { producers: built.producers, chain: built.chain, from: built.from });
                }
                Ok(_) => reasons.push("the log behind a run is damaged".to_owned()),
                Err(reason) => reasons.push(reason),
            }
        }
    }
    Err(Error::Corrupt(Box::new(Corruption {
        path: dir.join(MANIFEST),
        bytes: 0..0,
        offsets: None,
        what: "producer state".to_owned(),
        expected: format!("sound runs, or batches, from which the state at offset {} follows", end.offset),
        found: reasons.join("; "),
        advice:
            "producers whose block is damaged stay unavailable; restore the producers.*.run files from a copy"
                .to_owned(),
    })))
}

/// The beginning of a chain up to the first run with a damaged byte.
fn sound(chain: &Chain, reasons: &mut Vec<String>) -> Chain {
    for (len, run) in chain.runs().iter().enumerate() {
        if let Err(error) = run.verify() {
            reasons.push(format!("{}: {error}", run_name(run.header().number)));
            return chain.prefix(len);
        }
    }
    chain.clone()
}
