//! The end of a step of compaction: a segment that was written anew takes the place of others, in a log that is open.
//!
//! Invariant: the order is that of `segment::replace`, and `background` is held, so no truncation and no deletion is at
//! work. After the intent a failure latches the log: which segments count is then for the next open to say. Readers go
//! on with the files that they have open; the list of segments changes when the new one has its name.

use std::sync::Arc;
use std::time::Duration;

use super::compact::{Round, given_up};
use super::retain::Doomed;
use super::segments::index_limits;
use super::shared::Shared;
use crate::checkpoint::Chain;
use crate::error::Error;
use crate::format::names;
use crate::format::txn_index_note::TxnIndexNote;
use crate::segment::replace;
use crate::segment::sealed::SealedSegment;
use crate::storage::EntryKind;
use crate::testing::{Break, Point, broken, cross};
use crate::types::{LogPoint, Offset};

impl Shared {
    /// Lets the new segment that ends at `end` take the place of `group`.
    pub(super) fn put_in_place(
        &self,
        round: &Round,
        group: &[Arc<SealedSegment>],
        end: LogPoint,
        note: Option<TxnIndexNote>,
        to: Offset,
    ) -> Result<(), Error> {
        let _background = self.lock_background();
        self.go_on(&round.generation)?;
        let view = self.view.read().clone();
        let present: Vec<_> = view
            .sealed()
            .iter()
            .skip_while(|segment| segment.base() < end.segment)
            .take(group.len())
            .collect();
        let same = |(now, then): (&&Arc<SealedSegment>, &Arc<SealedSegment>)| {
            now.base() == then.base() && now.len() == then.len() && now.next_offset() == then.next_offset()
        };
        let unchanged = present.len() == group.len() && present.iter().zip(group).all(same);
        if !unchanged || self.bound_from()? < end.offset {
            return Err(given_up("segments were deleted, or the runs reach less far than before"));
        }
        // Whoever reads one of them goes on with what it has open.
        present.iter().try_for_each(|segment| segment.pin())?;
        self.write_manifest_or_latch(|manifest| {
            let compaction = &mut manifest.compaction;
            compaction.reached = compaction.reached.max(end.offset.min(to));
            compaction.replacement = Some(end).filter(|_| !broken(Break::CompactionWithoutIntent));
        })?;
        cross(Point::CompactionIntended);
        self.take_place(&end).inspect_err(|error| {
            // Which segments count is for the next open to say.
            let mut done = Vec::new();
            self.latch(&format!("a compacted segment could not be put in place: {error}"), &mut done);
            self.deliver(done);
        })?;
        let path = self.dir.join(names::log_name(end.segment));
        let limits = index_limits(&self.config);
        let segment =
            Arc::new(SealedSegment::new(&self.storage, path, end.segment..end.offset, end.position, limits));
        {
            let mut view = self.view.write();
            *view = view.compacted(&segment);
        }
        // Nothing is left to finish: the next manifest, whatever it is written for, says so.
        let mut manifest = self.manifest.lock();
        manifest.compaction.replacement = None;
        let notes = &mut manifest.txn_indexes;
        notes.retain(|old| old.base < end.segment || old.base >= end.offset);
        if let Some(note) = note {
            let at = notes.partition_point(|old| old.base < note.base);
            notes.insert(at, note);
        }
        drop(manifest);
        self.unlink_doomed(Some(self.clock.monotonic()));
        Ok(())
    }

    /// The steps of `segment::replace` behind the intent.
    fn take_place(&self, end: &LogPoint) -> Result<(), Error> {
        replace::swap(&*self.storage, &self.dir, end.segment)?;
        replace::put_in_place(&*self.storage, &self.dir, end.segment)?;
        let entries = self.storage.list(&self.dir).map_err(|e| Error::io("list", &self.dir, e))?;
        let due = self.clock.monotonic() + Duration::from_millis(self.config.delete_delay_ms);
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            if replace::is_replaced(&entry.name, end) {
                let from = self.dir.join(&entry.name);
                let path = self.dir.join(names::deleted_name(&entry.name));
                self.storage.rename(&from, &path).map_err(|e| Error::io("rename", &from, e))?;
                self.doomed.lock().push(Doomed { path, due });
            }
        }
        cross(Point::CompactionReplaced);
        self.storage.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        replace::forget(&*self.storage, &self.dir, end.segment)
    }

    /// The lowest segment that holds the last batch under the end of a chain that is counted on: the base of the present
    /// one, and the end of the one before.
    pub(super) fn bound_from(&self) -> Result<Offset, Error> {
        let chain = Arc::clone(&self.lock_tail().chain);
        let named = self.manifest.lock().previous_chain.clone();
        let previous = Chain::open_longest(&*self.storage, &self.dir, &named)?.chain;
        let bound = |end: &LogPoint| if end.last_batch.is_some() { end.segment } else { end.offset };
        let base = chain.base().map_or(Offset::ZERO, |base| bound(base.to()));
        Ok(base.min(previous.end().map_or(Offset::ZERO, bound)))
    }
}
