//! Files that others read: index files, and the `.snapshot` for Kafka and its tools.
//!
//! Invariant: nothing of ours depends on them. Indexes are rebuilt when they are missing; a `.snapshot` is an export,
//! read back only in a directory that another program has written.

use std::io;
use std::sync::Arc;

use super::shared::Shared;
use crate::error::Error;
use crate::format::names;
use crate::format::snapshot::{HEADER_SIZE, SnapshotBatch, SnapshotEncoder, SnapshotEntry};
use crate::producer::Entry;
use crate::segment::indexes::IndexTail;
use crate::segment::sealed::SealedSegment;
use crate::storage::{self, OpenMode};
use crate::types::{EngineTime, LogPoint, Offset, ProducerId};

#[cfg(test)]
mod tests;

/// How far index files can be counted on after a power cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexesDurable {
    /// Those of all segments below this one are complete, trimmed and synced.
    pub(super) below: Offset,
    /// A sync of those behind, or of their names, has failed.
    pub(super) sync_failed: bool,
}

impl Shared {
    /// Writes the index files of segments that were rolled away, and frees the heap that held the entries.
    pub(super) fn write_sealed_indexes(&self) -> Result<(), Error> {
        loop {
            let next = self.sealed_unwritten.lock().last().cloned();
            let Some((segment, tail)) = next else { return Ok(()) };
            let base = segment.base();
            let written = tail.write(&*self.storage, &self.dir, base);
            written
                .and_then(|files| files.sync_aborted())
                .map_err(|error| Error::io("write", &self.dir.join(names::index_name(base)), error))?;
            self.note_aborted(base, tail.aborted());
            // Only now: who asks meanwhile whether the files are complete must find that they are not.
            self.sealed_unwritten.lock().retain(|(other, _)| other.base() != base);
            let mut view = self.view.write();
            *view = view.releasing(&segment);
        }
    }

    /// Writes the index files of sealed segments that a crash took, or that were found wrong: they are written when a
    /// checkpoint is made, so those of the segments rolled since the last one are missing after a kill. Only a log that
    /// was not opened clean can lack any.
    pub(super) fn write_lost_indexes(&self) -> Result<(), Error> {
        if self.opened_clean {
            return Ok(());
        }
        let view = self.view.read().clone();
        for segment in view.sealed() {
            let lost = match segment.lost_indexes() {
                Ok(Some(lost)) => lost,
                Ok(None) => continue,
                Err(error) => {
                    // Damage that no reader has met yet: the indexes end where they end, and `verify` tells.
                    tracing::warn!(path = %segment.path().display(), %error, "indexes cannot be made anew");
                    continue;
                }
            };
            self.replace_indexes(segment.base(), &lost)?;
        }
        Ok(())
    }

    /// Puts index files in the place of others, durably. The segment may lie below a recovery point: then Kafka believes what
    /// stands under their names, and no file that is not on the medium may.
    fn replace_indexes(&self, base: Offset, tail: &IndexTail) -> Result<(), Error> {
        let incomplete =
            || Error::Unavailable { why: format!("the indexes of segment {base} are being written") };
        for (name, bytes) in tail.whole(base).ok_or_else(incomplete)? {
            // A reader may have the wrong file mapped: it keeps that one.
            storage::replace(&*self.storage, &self.dir, &name, bytes)
                .map_err(|error| Error::io("write", &self.dir.join(name), error))?;
        }
        Ok(())
    }

    /// Makes the index files of sealed segments durable, which were written before. A `.txnindex` is synced by whoever
    /// writes it, because checkpoints count on it.
    ///
    /// A sync that has failed, that of their directory included, is not tried again: it would answer that all is well and
    /// write nothing. The files that it was to cover are written once more.
    pub(super) fn sync_sealed_indexes(&self) -> Result<(), Error> {
        let mut durable = self.indexes_durable.lock();
        let view = self.view.read().clone();
        let active = view.active().base();
        let unwritten: Vec<_> =
            self.sealed_unwritten.lock().iter().map(|(segment, _)| segment.base()).collect();
        let to = unwritten.into_iter().min().unwrap_or(active);
        if durable.below >= to {
            return Ok(());
        }
        let above = durable.below..to;
        let synced = view
            .sealed()
            .iter()
            .filter(|segment| above.contains(&segment.base()))
            .try_for_each(|segment| {
                if durable.sync_failed {
                    self.make_indexes_anew(segment)?;
                }
                self.sync_indexes(segment.base())
            })
            .and_then(|()| {
                self.storage.sync_dir(&self.dir).map_err(|error| Error::io("sync", &self.dir, error))
            });
        *durable = match synced {
            Ok(()) => IndexesDurable { below: to, sync_failed: false },
            Err(_) => IndexesDurable { sync_failed: true, ..*durable },
        };
        synced
    }

    fn sync_indexes(&self, base: Offset) -> Result<(), Error> {
        for name in [names::index_name(base), names::time_index_name(base)] {
            let path = self.dir.join(name);
            match self.storage.open(&path, OpenMode::Write).and_then(|file| file.sync_data()) {
                // Retention took the segment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|error| Error::io("sync", &path, error))?,
            }
        }
        Ok(())
    }

    fn make_indexes_anew(&self, segment: &Arc<SealedSegment>) -> Result<(), Error> {
        self.replace_indexes(segment.base(), &segment.indexes_from_headers()?)?;
        let mut view = self.view.write();
        *view = view.releasing(segment);
        Ok(())
    }

    /// Writes the index entries that the active segment has gathered.
    pub(super) fn write_active_index(&self) -> Result<(), Error> {
        let (base, unwritten) = {
            let mut tail = self.lock_tail();
            (tail.active.base(), tail.active.take_unwritten_indexes())
        };
        let written = unwritten.write(&*self.storage, &self.dir, base);
        let synced = written.and_then(|files| files.sync_aborted());
        synced.inspect(|()| self.note_aborted(base, unwritten.aborted())).map_err(|error| {
            let mut tail = self.lock_tail();
            if tail.active.base() == base {
                tail.active.give_back_indexes(&unwritten);
            }
            Error::io("write", &self.dir.join(names::index_name(base)), error)
        })
    }

    /// Writes the entries that are missing in the index files, the closing one included, and syncs them: Kafka trusts
    /// the indexes of a cleanly closed log. With `background` held: a checkpoint writes the same files.
    pub(super) fn write_last_indexes(&self) -> Result<(), Error> {
        self.write_sealed_indexes()?;
        self.write_lost_indexes()?;
        self.sync_sealed_indexes()?;
        let (base, unwritten) = {
            let mut tail = self.lock_tail();
            tail.active.seal_indexes();
            (tail.active.base(), tail.active.take_unwritten_indexes())
        };
        let path = self.dir.join(names::index_name(base));
        unwritten
            .write(&*self.storage, &self.dir, base)
            .and_then(|files| {
                files.offsets.sync_data()?;
                files.times.sync_data()?;
                files.sync_aborted()
            })
            .inspect(|()| self.note_aborted(base, unwritten.aborted()))
            .map_err(|error| Error::io("write", &path, error))
    }

    /// Writes the `.snapshot` that Kafka expects at the base of a segment, if the checkpoint was made at a roll.
    pub(super) fn export_snapshot_at_roll(&self, at: &LogPoint) -> Result<(), Error> {
        let (producers, is_base) = {
            let tail = self.lock_tail();
            (tail.chain.entry_count_upper_bound(), tail.active.base() == at.offset)
        };
        if !is_base || producers > self.config.snapshot_producers {
            return Ok(());
        }
        self.export_snapshot(at.offset)
    }

    /// Streams the state of the present chain into a `.snapshot` v1: one batch per producer, as Kafka keeps it.
    pub(super) fn export_snapshot(&self, offset: Offset) -> Result<(), Error> {
        let chain = Arc::clone(&self.lock_tail().chain);
        let now = (self.engine_time(), self.clock.wall_ms());
        let name = names::snapshot_name(offset);
        let path = self.dir.join(&name);
        let mut encoder = SnapshotEncoder::new();
        let mut bytes = vec![0; HEADER_SIZE];
        for entry in chain.entries()? {
            let (id, entry) = entry?;
            encoder.push(&snapshot_entry(id, &entry, now), &mut bytes);
        }
        let header = encoder.finish().map_err(|malformed| Error::Misuse(malformed.to_string()))?;
        if let Some(head) = bytes.get_mut(..HEADER_SIZE) {
            head.copy_from_slice(&header);
        }
        storage::replace(&*self.storage, &self.dir, &name, &bytes)
            .map_err(|error| Error::io("write", &path, error))
    }
}

/// What Kafka keeps of a producer. Its timestamp is the later of the newest batch's and the time the producer was last
/// seen, because Kafka expires producers by it when it loads the file.
fn snapshot_entry(id: ProducerId, entry: &Entry, (engine, wall_ms): (EngineTime, i64)) -> SnapshotEntry {
    let ago = i64::try_from(engine.0.saturating_sub(entry.last_seen.0)).unwrap_or(i64::MAX);
    let seen_ms = wall_ms.saturating_sub(ago);
    let newest = entry.newest();
    SnapshotEntry {
        producer: id,
        epoch: entry.epoch,
        last_batch: newest.map(|batch| SnapshotBatch {
            last_sequence: Some(batch.last_sequence),
            last_offset: batch.last_offset,
            offset_delta: i32::try_from(batch.last_offset.distance_from(batch.first_offset))
                .unwrap_or(i32::MAX),
        }),
        timestamp: newest.map_or(seen_ms, |batch| batch.max_timestamp.max(seen_ms)),
        coordinator_epoch: entry.coordinator_epoch,
        txn_first_offset: entry.txn_first_offset,
    }
}
