//! How far the log was durable, and whether the log that is there is still that one.

use super::super::log_files::{LogFiles, Place, Standing};
use super::super::replay::Halt;
use super::super::walk::{Damage, DamageShape, Depth, Route, Seen, Stop, walk};
use crate::error::{Error, Malformed};
use crate::format::manifest::Manifest;
use crate::format::watermark::Slot;
use crate::segment::scan::Density;
use crate::types::{Fingerprint, LeaderEpoch, LogPoint, Offset, Position};

/// The greatest place that the manifest or a valid slot of its generation claims to be durable.
pub(in super::super) fn greatest(manifest: &Manifest, slots: &[Slot]) -> LogPoint {
    let valid = slots.iter().filter(|slot| slot.generation == manifest.truncation_generation);
    let newest = valid.map(|slot| slot.point).max_by_key(|point| point.offset);
    newest.filter(|point| point.offset > manifest.watermark.offset).unwrap_or(manifest.watermark)
}

/// What stands at the watermark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Finding {
    /// The batch that was named, or nothing because retention has deleted it: the tail begins here.
    Holds(Place),
    /// Valid batches across the place, but others: another program wrote here.
    Foreign(String),
    /// The log ends or is damaged before the place.
    Broken {
        /// Where the valid batches of that segment end.
        valid: Place,
        /// What stands there.
        damage: Damage,
    },
    /// No segment that could hold the place.
    NoSegment,
    /// The batch was deleted, and not by our own retention.
    Deleted,
}

/// Looks at the batch that ends at `watermark`; reads that batch, and only if it is not there its segment.
pub(in super::super) fn examine(
    files: &LogFiles<'_>,
    watermark: &LogPoint,
    log_start: Offset,
) -> Result<Finding, Error> {
    let Some(first) = files.first() else {
        // Nothing was ever durable here, or all of it was deleted on our own word.
        return Ok(if watermark.offset <= log_start {
            Finding::Holds(Place::start_of(0, log_start))
        } else {
            Finding::NoSegment
        });
    };
    if files.standing(watermark)? == Standing::AsNamed {
        if let Some(place) = files.place(watermark)
            && files.last_batch_is_sound(watermark)?
        {
            return Ok(Finding::Holds(place));
        }
    } else if watermark.offset <= first {
        let ours = watermark.offset <= log_start;
        return Ok(if ours { Finding::Holds(Place::start_of(0, first)) } else { Finding::Deleted });
    }
    let its = files.index_of(watermark.segment);
    let Some(index) = its.or_else(|| files.covering(Offset(watermark.offset.0.saturating_sub(1)))) else {
        return Ok(Finding::NoSegment);
    };
    judge(files, watermark, index)
}

/// Scans the segment that should hold the watermark: do valid batches run across it?
fn judge(files: &LogFiles<'_>, watermark: &LogPoint, index: usize) -> Result<Finding, Error> {
    let base = files.get(index).map_or(Offset::ZERO, |segment| segment.base);
    let mut rot = None;
    let route = Route {
        from: Place::start_of(index, base),
        until_segment: index,
        limit: None,
        depth: Depth::Checked,
        // Another program may have compacted what it wrote.
        density: Density::Sparse,
        progress: None,
    };
    let walked = walk::<Error>(files, route, |visit| {
        let found = (visit.position, visit.header.fingerprint());
        let rotten = watermark.last_batch.and_then(|named| field_rot(named, found));
        Ok(match rotten {
            Some(malformed) if base == watermark.segment => {
                rot = Some(malformed.clone());
                Seen::Damaged(malformed)
            }
            _ => Seen::Taken,
        })
    })?;
    let valid = walked.end;
    let across = match watermark.last_batch {
        Some((position, _)) if base == watermark.segment => valid.position > position,
        Some((_, batch)) => valid.offset > batch.last_offset,
        None => valid.offset > watermark.offset,
    };
    // No write that is torn leaves offsets that go back: then one of them is rotten, and none says how far the batches run.
    let goes_back = matches!(&walked.stop, Stop::Damage(damage) if damage.kind == DamageShape::Discontinuity);
    if across && rot.is_none() && !goes_back {
        return Ok(Finding::Foreign(format!(
            "valid batches run across the place where the batch before offset {} was durable, but it is not among \
             them",
            watermark.offset
        )));
    }
    if watermark.last_batch.is_none() && valid.offset == watermark.offset {
        return Ok(Finding::Holds(valid));
    }
    let damage = match walked.stop {
        Stop::Damage(damage) => damage,
        Stop::EndOfLog | Stop::Limit => Damage {
            segment: index,
            position: valid.position,
            kind: DamageShape::Discontinuity,
            malformed: Malformed::new(
                "end of the durable log",
                0,
                format!("a batch that ends at offset {}, which is durable", watermark.offset),
                "the end of the file",
            ),
        },
    };
    Ok(Finding::Broken { valid, damage })
}

/// Base offset and leader epoch stand outside of the CRC: the named batch with another of either is the same batch
/// gone bad, not another program's. A higher leader epoch is what another leader stamps, and is not held against it.
fn field_rot(named: (Position, Fingerprint), found: (Position, Fingerprint)) -> Option<Malformed> {
    let same_bytes =
        named.0 == found.0 && (named.1.crc, named.1.record_count) == (found.1.crc, found.1.record_count);
    if !same_bytes {
        return None;
    }
    if found.1.last_offset != named.1.last_offset {
        let expected = format!("a batch that ends at offset {}", named.1.last_offset);
        return Some(Malformed::new("base offset", 0, expected, found.1.last_offset));
    }
    if found.1.leader_epoch < named.1.leader_epoch {
        let at = crate::format::batch::LEADER_EPOCH_AT as u64;
        return Some(Malformed::new(
            "partition leader epoch",
            at,
            named.1.leader_epoch.0,
            found.1.leader_epoch.0,
        ));
    }
    None
}

/// Whether any batch of any segment has a later leader epoch. Reads headers, of each segment up to the first that is
/// none: a truncation that was begun leaves no damage, so behind damage nobody appended.
pub(in super::super) fn later_epoch_anywhere(
    files: &LogFiles<'_>,
    leader_epoch: LeaderEpoch,
) -> Result<bool, Error> {
    let mut later = false;
    for index in 0..files.count() {
        let base = files.get(index).map_or(Offset::ZERO, |segment| segment.base);
        let route = Route {
            from: Place::start_of(index, base),
            until_segment: index,
            limit: None,
            depth: Depth::Headers,
            density: Density::Sparse,
            progress: None,
        };
        walk::<Error>(files, route, |visit| {
            later |= visit.header.leader_epoch > leader_epoch;
            Ok(Seen::Taken)
        })?;
    }
    Ok(later)
}

/// Whether a valid batch at or above the cut of a pending truncation has a later leader epoch than the log had when it
/// began: another program appended there since.
pub(in super::super) fn appended_since_intent(
    files: &LogFiles<'_>,
    from: &Place,
    manifest: &Manifest,
) -> Result<bool, Error> {
    let Some(intent) = manifest.intent else { return Ok(false) };
    let mut later = false;
    // Segments above the cut may be there in part: each is looked at by itself.
    for index in from.segment..files.count() {
        let base = files.get(index).map_or(Offset::ZERO, |segment| segment.base);
        let start = if index == from.segment { *from } else { Place::start_of(index, base) };
        let route = Route {
            from: start,
            until_segment: index,
            limit: None,
            depth: Depth::Checked,
            density: Density::Sparse,
            progress: None,
        };
        let outcome = walk::<Halt>(files, route, |visit| {
            later |=
                visit.header.next_offset() > intent.cut && visit.header.leader_epoch > intent.leader_epoch;
            Ok(Seen::Taken)
        });
        match outcome {
            Ok(_) => {}
            Err(Halt::Error(error) | Halt::Chain(error)) => return Err(error),
        }
    }
    Ok(later)
}
