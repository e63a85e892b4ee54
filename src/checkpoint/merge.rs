//! Writes runs: of the frozen producers, and of other runs.
//!
//! Invariant: only a base leaves entries out, and only expired ones; a delta that was merged from others has every
//! producer that any of them has. Memory is bounded by the buffers of the runs read, whatever their size.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::chain::Chain;
use super::merged::MergedEntries;
use super::run_reader::Run;
use super::run_writer::{RunDraft, RunWriter};
use crate::error::Error;
use crate::format::run::RunKind;
use crate::producer::Entry;
use crate::storage::Storage;
use crate::types::{EngineTime, LogPoint, ProducerId};

/// Where a run is written.
#[derive(Clone, Copy, Debug)]
pub struct RunPlace<'a> {
    /// Through which storage.
    pub storage: &'a Arc<dyn Storage>,
    /// In which partition's directory.
    pub dir: &'a Path,
    /// Under which number, never used before in that directory.
    pub number: u64,
}

/// Which producers fall out of a base.
#[derive(Clone, Copy)]
pub struct Expiry<'a> {
    /// Engine time of the merge.
    pub now: EngineTime,
    /// A producer without open transaction that wrote nothing for so many milliseconds.
    pub after_ms: u64,
    /// Whether a producer has written batches that no run holds yet. Such a one stays, however old its entry here is:
    /// after a crash those batches are applied to this very entry.
    pub wrote_since: &'a dyn Fn(ProducerId) -> bool,
}

impl Expiry<'_> {
    fn applies_to(&self, id: ProducerId, entry: &Entry) -> bool {
        entry.is_expired(self.now, self.after_ms) && !(self.wrote_since)(id)
    }
}

impl fmt::Debug for Expiry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry")
            .field("now", &self.now)
            .field("after_ms", &self.after_ms)
            .finish_non_exhaustive()
    }
}

/// What a base is written from.
#[derive(Clone, Copy, Debug)]
pub struct BaseInputs<'a> {
    /// The runs before, perhaps none.
    pub chain: &'a Chain,
    /// The producers that changed since, sorted by id, perhaps none.
    pub frozen: &'a [(ProducerId, &'a Entry)],
    /// Who falls out; `None`: nobody.
    pub expiry: Option<Expiry<'a>>,
}

/// Writes a base of all producers. The draft's kind does not matter.
///
/// # Errors
///
/// What reading the chain or writing the run may answer; nothing is left behind then, as far as possible.
pub fn write_base(place: RunPlace<'_>, inputs: BaseInputs<'_>, draft: RunDraft) -> Result<Arc<Run>, Error> {
    let entries = MergedEntries::new(inputs.chain.runs(), inputs.frozen)?;
    let mut writer = place.begin(RunDraft { kind: RunKind::Base, ..draft })?;
    for entry in entries {
        let (id, entry) = entry?;
        if !inputs.expiry.is_some_and(|expiry| expiry.applies_to(id, &entry)) {
            writer.push(id, &entry)?;
        }
    }
    writer.finish()
}

/// Writes a base without entries that ends where it begins: at the start of the log or, for a log that began later, at
/// a place before which no producer is known.
///
/// # Errors
///
/// What writing the run may answer.
pub fn write_empty_base(
    place: RunPlace<'_>,
    at: LogPoint,
    engine_time: EngineTime,
) -> Result<Arc<Run>, Error> {
    place.begin(RunDraft::new(RunKind::Base, at.offset, at, engine_time))?.finish()
}

/// Writes a delta of the producers that changed, sorted by id. The draft's kind does not matter.
///
/// # Errors
///
/// What writing the run may answer; [`Error::Misuse`] if ids do not ascend.
pub fn write_delta(
    place: RunPlace<'_>,
    frozen: &[(ProducerId, &Entry)],
    draft: RunDraft,
) -> Result<Arc<Run>, Error> {
    let mut writer = place.begin(RunDraft { kind: RunKind::Delta, ..draft })?;
    for (id, entry) in frozen {
        writer.push(*id, entry)?;
    }
    writer.finish()
}

/// Merges all deltas of `chain` into one delta, which takes their place ([`Chain::replaced`]).
///
/// # Errors
///
/// [`Error::Misuse`] if there is no delta; else what reading and writing may answer.
pub fn merge_deltas(place: RunPlace<'_>, chain: &Chain) -> Result<Arc<Run>, Error> {
    let deltas = chain.deltas();
    let (Some(oldest), Some(newest)) = (deltas.first(), deltas.last()) else {
        return Err(Error::Misuse("a chain without deltas has none to merge".to_owned()));
    };
    let entries = MergedEntries::new(deltas, &[])?;
    let mut writer = place.begin(RunDraft::ending_like(newest, RunKind::Delta, oldest.header().from))?;
    for entry in entries {
        let (id, entry) = entry?;
        writer.push(id, &entry)?;
    }
    writer.finish()
}

/// Merges all runs of `chain` into one base, which takes their place ([`Chain::replaced`]). Which runs those may be is
/// [`plan_merge`](super::plan_merge)'s to say; take [`Chain::prefix`].
///
/// # Errors
///
/// [`Error::Misuse`] if there is no run; else what reading and writing may answer.
pub fn merge_into_base(
    place: RunPlace<'_>,
    chain: &Chain,
    expiry: Option<Expiry<'_>>,
) -> Result<Arc<Run>, Error> {
    let (Some(base), Some(newest)) = (chain.base(), chain.newest()) else {
        return Err(Error::Misuse("a chain without runs has none to merge".to_owned()));
    };
    let draft = RunDraft::ending_like(newest, RunKind::Base, base.header().from);
    write_base(place, BaseInputs { chain, frozen: &[], expiry }, draft)
}

impl RunPlace<'_> {
    fn begin(self, draft: RunDraft) -> Result<RunWriter, Error> {
        RunWriter::create(self.storage, self.dir, self.number, draft)
    }
}
