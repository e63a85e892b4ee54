//! From a chain to the whole state: finds the place where the chain ends, reads what lies behind it.
//!
//! Invariant: a chain is used only if the batch that ends where it ends is in the log with the right fingerprint, or
//! was deleted by our own retention; and only if the log reaches as far as the chain.

use super::log_files::{LogFiles, Place, Standing};
use super::options::{RecoveryOptions, Salvage};
use super::passes::{Course, Durable, Passed, pass};
use super::plan::Context;
use super::replay::{Fold, Halt, LogFacts};
use super::walk::{Damage, DamageShape, Depth, Route, Seen, Stop, walk};
use crate::checkpoint::Chain;
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::leader_epoch::LeaderEpochs;
use crate::producer::{OpenTxn, ProducerMap};
use crate::segment::scan::Density;
use crate::testing::{self, Break};
use crate::types::{EngineTime, Gaps, Offset};

/// What the state may be built on, and how far the log is to be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    pub(super) log_start: Offset,
    pub(super) durable: Durable,
    pub(super) limit: Option<Offset>,
    pub(super) density_below: Density,
    pub(super) density_above: Density,
    /// Below this offset compaction may have taken batches out: no state can be made from what is there.
    pub(super) compacted: Offset,
    /// Whether a chain counts only if a batch in the log has its fingerprint: another program wrote here.
    pub(super) must_be_bound: bool,
    pub(super) engine_time: EngineTime,
}

impl Ground {
    /// What a manifest says of the log.
    pub(super) fn of(context: &Context<'_>, manifest: &Manifest, durable: Durable) -> Self {
        // What is durable may have been compacted since; in the tail a lost end of a segment must not pass for a gap.
        let (below, above) = match manifest.gaps {
            Gaps::None => (context.options.density, context.options.density),
            Gaps::Possible => (Density::Sparse, Density::Followed),
        };
        Self {
            log_start: manifest.log_start_offset,
            durable,
            limit: None,
            density_below: below,
            density_above: above,
            compacted: manifest.compaction.reached,
            must_be_bound: false,
            engine_time: manifest.engine_time,
        }
    }
}

/// Where a state begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// With the runs of a chain.
    Chain,
    /// With nothing, at offset 0.
    WholeLog,
    /// With nothing, at the first offset present: what was known of producers before is given up.
    WhateverIsThere,
}

/// A state and how it was reached.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) passed: Passed,
    pub(super) producers: ProducerMap,
    pub(super) facts: LogFacts,
    pub(super) open_txns: Vec<OpenTxn>,
    pub(super) from: Offset,
    pub(super) batches: u64,
    pub(super) bytes: u64,
    pub(super) unverified: u64,
    pub(super) odd_markers: u64,
    /// The chain in use: shorter than the one given only if a rule is broken on purpose.
    pub(super) chain: Chain,
}

/// Builds the state on `chain`, or says why the chain cannot be used.
pub(super) fn build(
    files: &LogFiles<'_>,
    basis: Basis,
    chain: &Chain,
    ground: &Ground,
    options: &RecoveryOptions,
) -> Result<Result<Built, String>, Error> {
    let from = match basis {
        Basis::Chain => match chain_place(files, chain, ground)? {
            Ok(place) => place,
            Err(reason) => return Ok(Err(reason)),
        },
        Basis::WholeLog => {
            // A log start inside of the first segment takes no batch away.
            let first = files.first().unwrap_or(ground.log_start);
            if first > Offset::ZERO {
                return Ok(Err(format!(
                    "the log begins at offset {first}, not 0: batches before it are gone"
                )));
            }
            if ground.compacted > Offset::ZERO {
                return Ok(Err(format!("compaction has gone through it up to offset {}", ground.compacted)));
            }
            Place::start_of(0, Offset::ZERO)
        }
        Basis::WhateverIsThere => Place::start_of(0, files.first().unwrap_or(ground.log_start)),
    };
    let full = basis != Basis::Chain && options.salvage == Salvage::Refuse;
    let compacted = basis == Basis::WhateverIsThere && ground.compacted > Offset::ZERO;
    let density = |density| if compacted { Density::Sparse } else { density };
    let course = Course {
        from: forget(from, ground),
        durable: ground.durable,
        below: if full { Depth::Headers } else { Depth::Checked },
        density_below: density(ground.density_below),
        density_above: density(ground.density_above),
        limit: ground.limit,
    };
    let used = broken_chain(chain);
    let mut fold = Fold::new(Some(&used), facts_of(&used), ground.engine_time);
    let skip = testing::broken(Break::ForgetRuns);
    let passed =
        pass(files, course, options, |visit| if skip { Ok(Seen::Taken) } else { fold.visit(files, visit) });
    let passed = match passed {
        Ok(passed) => passed,
        Err(Halt::Error(error)) => return Err(error),
        Err(Halt::Chain(error)) => return Ok(Err(format!("an entry cannot be read: {error}"))),
    };
    if basis == Basis::Chain && passed.end.offset < from.offset && !testing::broken(Break::RunAboveEnd) {
        let end = passed.end.offset;
        return Ok(Err(format!("it ends at offset {}, above the end of the log, {end}", from.offset)));
    }
    if basis == Basis::Chain
        && let Stop::Damage(damage) = &passed.stop
        && (damage.segment, damage.position) < (from.segment, from.position)
    {
        // Whatever offsets say: one that stands before it may be rotten.
        let (place, at) = (files.path(damage.segment), damage.position);
        return Ok(Err(format!("the log is damaged before it ends: {} from byte {at} on", place.display())));
    }
    if basis == Basis::WholeLog
        && passed.damaged_below
        && let Stop::Damage(Damage { kind: DamageShape::Discontinuity, malformed, .. }) = &passed.stop
    {
        let place = files.path(passed.end.segment);
        return Ok(Err(format!(
            "batches are missing in it, by compaction or damage: {} behind byte {}: {malformed}",
            place.display(),
            passed.end.position
        )));
    }
    let (batches, bytes, unverified, odd_markers) =
        (fold.batches, fold.bytes, fold.unverified, fold.odd_markers);
    let open_txns = match fold.open_transactions() {
        Ok(open_txns) => open_txns,
        Err(Halt::Error(error)) => return Err(error),
        Err(Halt::Chain(error)) => return Ok(Err(format!("an entry cannot be read: {error}"))),
    };
    let facts = std::mem::take(&mut fold.facts);
    let producers = fold.into_producers();
    let from = from.offset;
    Ok(Ok(Built {
        passed,
        producers,
        facts,
        open_txns,
        from,
        batches,
        bytes,
        unverified,
        odd_markers,
        chain: used,
    }))
}

/// Where the batch ends that the chain ends with.
fn chain_place(files: &LogFiles<'_>, chain: &Chain, ground: &Ground) -> Result<Result<Place, String>, Error> {
    let Some(end) = chain.end() else { return Ok(Err("it has no runs".to_owned())) };
    let first = files.first().unwrap_or(ground.log_start);
    if testing::broken(Break::RunAboveEnd) {
        let durable = match ground.durable {
            Durable::To(place) => place,
            Durable::All => Place::start_of(0, first),
        };
        return Ok(Ok(match files.place(end).filter(|_| end.offset <= durable.offset) {
            Some(place) => place,
            None => Place { offset: end.offset.max(durable.offset), ..durable },
        }));
    }
    if end.offset < first {
        return Ok(Err(format!("it ends at offset {}, below the first offset present, {first}", end.offset)));
    }
    if end.offset < ground.compacted {
        return Ok(Err(format!(
            "it ends at offset {}, and compaction has gone through the log up to offset {}",
            end.offset, ground.compacted
        )));
    }
    if end.offset == first {
        let deleted_by_us = ground.log_start >= first;
        return Ok(if deleted_by_us {
            Ok(Place::start_of(0, first))
        } else {
            Err(format!(
                "the batch before offset {first}, where it ends, is gone, and not by our own retention"
            ))
        });
    }
    if end.last_batch.is_none() && ground.must_be_bound {
        return Ok(Err("no batch is named that would bind it to this log".to_owned()));
    }
    if files.standing(end)? == Standing::AsNamed
        && let Some(place) = files.place(end)
    {
        return Ok(Ok(place));
    }
    // A segment may have been compacted: the batch is then elsewhere in it.
    let Some(index) = files.covering(Offset(end.offset.0.saturating_sub(1))) else {
        return Ok(Err(format!("no segment holds offset {}, where it ends", end.offset)));
    };
    let wanted = end.last_batch.map(|(_, fingerprint)| fingerprint);
    let base = files.get(index).map_or(first, |segment| segment.base);
    let route = Route {
        from: Place::start_of(index, base),
        until_segment: index,
        limit: Some(end.offset),
        depth: Depth::Headers,
        density: Density::Sparse,
        progress: None,
    };
    let walked = walk::<Error>(files, route, |_| Ok(Seen::Taken))?;
    let found = walked.end.last_batch.map(|(_, fingerprint)| fingerprint);
    // A run that was made at the beginning of a segment names no batch. The segment goes when the log is cut there.
    let is_bound = wanted.is_none() || found == wanted;
    if found.is_some() && is_bound && walked.end.offset == end.offset {
        return Ok(Ok(walked.end));
    }
    // Where compaction has ended, the batch may have been written anew, or be gone. The manifest names the run, and nobody
    // but us has written here: that is enough.
    let nothing_straddles = !matches!(walked.stop, Stop::Damage(_)) && walked.end.offset <= end.offset;
    if end.offset == ground.compacted && !ground.must_be_bound && nothing_straddles {
        return Ok(Ok(Place { offset: end.offset, ..walked.end }));
    }
    Ok(Err(format!("the batch before offset {}, where it ends, is not the one it was made with", end.offset)))
}

/// What the newest run says beside the producers.
fn facts_of(chain: &Chain) -> LogFacts {
    let Some(header) = chain.newest().map(|run| run.header()) else { return LogFacts::default() };
    LogFacts {
        leader_epochs: LeaderEpochs::from_starts(header.leader_epochs.iter().copied()),
        open_txns: header.open_txns.iter().map(|(producer, first)| (*first, *producer)).collect(),
        completed_txns: header.completed_txns.clone(),
        aborted_txns: Vec::new(),
        aborts_without_begin: Vec::new(),
    }
}

/// The chain with the rules broken that a test has broken.
fn broken_chain(chain: &Chain) -> Chain {
    if testing::broken(Break::ForgetRuns) {
        Chain::empty()
    } else if testing::broken(Break::IgnoreDelta) && chain.len() > 1 {
        chain.prefix(chain.len() - 1)
    } else {
        chain.clone()
    }
}

/// Where reading begins. With a broken rule the state is empty at the log end, so nothing below the watermark is read.
fn forget(from: Place, ground: &Ground) -> Place {
    match ground.durable {
        Durable::To(watermark) if testing::broken(Break::ForgetRuns) && from.offset < watermark.offset => {
            watermark
        }
        _ => from,
    }
}
