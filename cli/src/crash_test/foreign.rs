//! Another program at work: it cuts the log below what our checkpoints cover, and goes on with a later leader epoch.
//!
//! Invariant: the result is a log as Kafka could have left it: whole batches, dense offsets, sequences in order, no later
//! segment, no `.snapshot` above the cut; and a chain, or the whole log, remains from which all state can be had.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};
use oncelog::format::batch::BatchHeader;
use oncelog::format::names;
use oncelog::storage::{OpenMode, Storage, read_all};
use oncelog::types::{Durability, LeaderEpoch, Offset};

use super::batch::{Kind, Spec};
use super::inspect::Inspected;
use super::ledger::{Attempt, Expected, FOREIGN_LANE, Ledger};
use super::medium::Medium;
use super::protocol::{Answer, Place};

/// Producers that only the other program knows have ids from here on.
const FOREIGN_PRODUCERS: i64 = 2_000_000_000;
/// A cut lies at most so many batches below the end of the newest run.
const DEEPEST: usize = 30;
const MAX_SEGMENT: u64 = 64 << 20;

/// A segment that is cut and appended to.
struct Plan {
    segment: i64,
    /// What stays, in bytes.
    kept: u64,
    cut: i64,
    /// What stood behind the cut in this segment.
    lost: Vec<Spec>,
    leader_epoch: LeaderEpoch,
    /// The new bytes must reach beyond this byte, or it is a log that lost its end and not one that went on.
    beyond: u64,
}

/// Cuts and appends, if that can be done so that the log stays one that must open. Returns the offset of the cut.
pub(super) fn write(
    storage: &dyn Storage,
    dir: &Path,
    ledger: &mut Ledger,
    medium: &mut Medium,
    random: &mut fastrand::Rng,
) -> Result<Option<i64>> {
    let inspected = Inspected::read(storage, dir)?;
    let Some(plan) = plan(storage, dir, &inspected, random)? else { return Ok(None) };
    remove_above(storage, dir, &inspected, &plan, medium)?;
    let batches = compose(ledger, &plan, random)?;
    let name = names::log_name(Offset(plan.segment));
    let path = dir.join(&name);
    let file = storage.open(&path, OpenMode::Write).with_context(|| format!("open {}", path.display()))?;
    file.set_len(plan.kept)?;
    let mut at = plan.kept;
    ledger.cut(plan.cut);
    let mut base = plan.cut;
    for spec in batches {
        let bytes = spec.stamped(ledger.seed, Offset(base), plan.leader_epoch)?;
        file.write_all_at(&bytes, at)?;
        at += bytes.len() as u64;
        let place = Place { base, last: spec.last_offset(base), timestamp: spec.timestamp(ledger.seed) };
        ledger.announce(Attempt {
            spec,
            lane: FOREIGN_LANE,
            durability: Durability::Durable,
            expected: Expected::Appended,
            answer: Some(Answer::Appended(place)),
        });
        base = place.last + 1;
    }
    file.sync_data()?;
    medium.put(&name, at);
    Ok(Some(plan.cut))
}

fn plan(
    storage: &dyn Storage,
    dir: &Path,
    inspected: &Inspected,
    random: &mut fastrand::Rng,
) -> Result<Option<Plan>> {
    let (Some(watermark), Some(run)) = (inspected.watermark, inspected.chain.last()) else { return Ok(None) };
    if run.end.segment != watermark.segment || run.end.position.0 == 0 {
        return Ok(None);
    }
    let path = dir.join(names::log_name(watermark.segment));
    let Some(bytes) = read_all(storage, &path, MAX_SEGMENT)? else { return Ok(None) };
    let batches = walk(&bytes);
    let covered = batches.iter().take_while(|(at, _)| *at < run.end.position.0).count();
    if covered == 0 {
        return Ok(None);
    }
    let nth = covered - 1 - random.usize(..covered.min(DEEPEST));
    let Some((kept, header)) = batches.get(nth) else { return Ok(None) };
    let cut = header.base_offset.0;
    let some_state_remains =
        inspected.is_whole() || inspected.chain_ends(None).iter().any(|end| end.offset.0 <= cut);
    if !some_state_remains {
        return Ok(None);
    }
    let newest_epoch = batches.iter().map(|(_, header)| header.leader_epoch).max();
    Ok(Some(Plan {
        segment: watermark.segment.0,
        kept: *kept,
        cut,
        lost: batches.iter().skip(nth).filter_map(|(at, header)| lost(&bytes, *at, header)).collect(),
        leader_epoch: LeaderEpoch(newest_epoch.map_or(0, |epoch| epoch.0) + 1),
        beyond: watermark.position.0,
    }))
}

/// What was written there, if it is data.
fn lost(segment: &[u8], at: u64, header: &BatchHeader) -> Option<Spec> {
    let batch = segment.get(usize::try_from(at).ok()?..)?.get(..header.size())?;
    Spec::of(header, batch).filter(|spec| !spec.is_marker())
}

/// Position and header of each whole batch from the start of a segment on.
pub(super) fn walk(bytes: &[u8]) -> Vec<(u64, BatchHeader)> {
    let mut batches = Vec::new();
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(|rest| BatchHeader::parse(rest).ok()) {
        if bytes.len() - at < header.size() {
            break;
        }
        batches.push((at as u64, header));
        at += header.size();
    }
    batches
}

/// Removes later segments and snapshots, as a program does that truncates its log.
fn remove_above(
    storage: &dyn Storage,
    dir: &Path,
    inspected: &Inspected,
    plan: &Plan,
    medium: &mut Medium,
) -> Result<()> {
    let mut gone = Vec::new();
    for (base, _) in inspected.segments.iter().filter(|(base, _)| *base > plan.segment) {
        let base = Offset(*base);
        gone.extend([names::log_name(base), names::index_name(base), names::time_index_name(base)]);
    }
    gone.extend(
        inspected
            .snapshots
            .iter()
            .filter(|end| **end > plan.cut)
            .map(|end| names::snapshot_name(Offset(*end))),
    );
    for name in gone {
        match storage.unlink(&dir.join(&name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => medium.remove(&name),
        }
    }
    Ok(storage.sync_dir(dir)?)
}

/// What the other program appends: of some producers what was cut, which they sent to it again; the rest is from
/// producers that only it knows.
fn compose(ledger: &Ledger, plan: &Plan, random: &mut fastrand::Rng) -> Result<Vec<Spec>> {
    let mut strangers = [0, 1].map(|nth| Spec {
        producer: FOREIGN_PRODUCERS + 2 * i64::try_from(ledger.producers.len()).unwrap_or(0) + nth,
        epoch: 0,
        first: 0,
        count: 1,
        kind: Kind::Plain,
    });
    let again: HashSet<i64> = plan.lost.iter().map(|spec| spec.producer).filter(|_| random.bool()).collect();
    let mut lost = plan.lost.iter().filter(|spec| again.contains(&spec.producer));
    let mut out = Vec::new();
    let mut end = plan.kept;
    let mut further = random.u8(1..=5);
    while further > 0 {
        let spec = match lost.next() {
            Some(spec) => *spec,
            None => {
                let stranger = random.usize(..strangers.len());
                let Some(next) = strangers.get_mut(stranger) else { break };
                let spec = Spec { count: random.u8(1..=4), ..*next };
                next.first = spec.next();
                spec
            }
        };
        end += spec.bytes(ledger.seed)?.len() as u64;
        out.push(spec);
        if end > plan.beyond {
            further -= 1;
        }
    }
    Ok(out)
}
