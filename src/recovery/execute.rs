//! Carries a plan out.
//!
//! Invariant: the order of steps is that of the checked model, and each may be the last before a crash: directory
//! synced; what is to be cut kept aside, durably; unlinked; cut; what stays above the watermark written once more and
//! synced; directory synced; manifest with the watermark at the log end. Only then is the log handed out. Whatever a
//! crash leaves in between, planning again comes to the same log.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aborted::SegmentAborted;
use super::epoch_file::write_leader_epochs;
use super::options::{RecoveryOptions, RecoveryProgress};
use super::outcome::{Recovered, SegmentFacts};
use super::plan::{Cut, FirstBase, Plan, plan};
use crate::checkpoint::{BaseInputs, Chain, RunDraft, RunPlace, write_base, write_manifest};
use crate::error::{Corruption, Error, Malformed};
use crate::format::names::{CLEAN_SHUTDOWN, log_name, txn_index_name};
use crate::format::run::RunKind;
use crate::index::Unwritten;
use crate::producer::ProducerMap;
use crate::segment::replace;
use crate::segment::scan::{EndReason, scan_checked};
use crate::storage::{EntryKind, File, OpenMode, Storage};
use crate::testing::{Point, cross};
use crate::types::{LogPoint, Offset, Position};

/// Bytes that one write puts in place.
const WRITE_SIZE: usize = 1 << 20;

/// Carries `plan` out and hands the log over. Of a log that was closed in order nothing is written.
///
/// # Errors
///
/// [`Error::Io`] with the step that failed: the log is not handed out, and opening again starts anew.
/// [`Error::Corrupt`] if bytes that were sound when the plan was made are not any more, twice.
pub fn execute(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    plan_made: Plan,
    options: &RecoveryOptions,
) -> Result<Recovered, Error> {
    match carry_out(storage, dir, plan_made, options)? {
        Outcome::Done(recovered) => Ok(*recovered),
        Outcome::Damaged(damage) => {
            let note = format!("bytes went bad while they were written again: {damage}; planned anew");
            let mut again = plan(storage, dir, options)?;
            again.outcome.report.note(note);
            match carry_out(storage, dir, again, options)? {
                Outcome::Done(recovered) => Ok(*recovered),
                Outcome::Damaged(damage) => Err(Error::Corrupt(Box::new(damage))),
            }
        }
    }
}

enum Outcome {
    Done(Box<Recovered>),
    /// Bytes to be rewritten are not what they were when the plan was made.
    Damaged(Corruption),
}

fn carry_out(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    made: Plan,
    options: &RecoveryOptions,
) -> Result<Outcome, Error> {
    cross(Point::RecoveryPlanned);
    if made.outcome.clean {
        return Ok(Outcome::Done(Box::new(made.outcome)));
    }
    let disk = Disk { storage, dir };
    if made.takes_away() {
        // The manifest that was read may be in the page cache alone: nothing is deleted on the word of a name that a crash
        // can take back.
        disk.sync_dir()?;
    }
    match (&options.root, &made.clean_shutdown) {
        (Some(root), _) => (root.leave_clean)()?,
        (None, Some(path)) => disk.forget_clean_shutdown(path)?,
        (None, None) => {}
    }
    if let Some(end) = &made.finish {
        disk.finish_replacement(end)?;
    }
    disk.keep_aside(&made.cuts)?;
    disk.unlink_segments(&made.cuts)?;
    for name in &made.unlinks {
        disk.unlink(name)?;
    }
    if !made.unlinks.is_empty() || made.cuts.iter().any(|cut| cut.whole) {
        // Before anything is cut: after a power cut no segment may come back behind one that is shorter now.
        cross(Point::TruncateUnlinked);
        disk.sync_dir()?;
    }
    disk.cut(&made.cuts)?;
    if let Some(base) = made.create_segment {
        disk.create_segment(base)?;
    }
    cross(Point::RecoveryCut);

    if let Some(damage) = disk.rewrite(&made, options)? {
        return Ok(Outcome::Damaged(damage));
    }
    disk.sync_segments(&made)?;
    disk.write_aborted(&made.outcome.aborted)?;
    disk.sync_dir()?;
    cross(Point::RecoveryRewritten);

    let Plan { mut outcome, leftovers, create_segment, first_base, epoch_file, .. } = made;
    if let Some(epochs) = &epoch_file {
        write_leader_epochs(&**storage, dir, epochs)?;
    }
    for segment in &mut outcome.aborted {
        segment.stored = true;
    }
    if let Some(base) = create_segment {
        outcome.segments.push(SegmentFacts { base, len: 0, next_offset: base });
    }
    if first_base == FirstBase::Needed {
        disk.write_first_base(&mut outcome)?;
        // A power cut may keep the manifest's new name without the run's, and here no other chain could take its place.
        disk.sync_dir()?;
    }
    write_manifest(&**storage, dir, &outcome.manifest)?;
    cross(Point::RecoveryNamed);
    for name in &leftovers {
        disk.unlink(name)?;
    }
    Ok(Outcome::Done(Box::new(outcome)))
}

#[derive(Clone, Copy, Debug)]
struct Disk<'a> {
    storage: &'a Arc<dyn Storage>,
    dir: &'a Path,
}

impl Disk<'_> {
    fn sync_dir(&self) -> Result<(), Error> {
        self.storage.sync_dir(self.dir).map_err(|e| Error::io("sync", self.dir, e))
    }

    fn unlink(&self, name: &str) -> Result<(), Error> {
        unlink_if_there(self.storage, &self.dir.join(name))
    }

    /// A compacted segment takes the place of those that it was made of.
    fn finish_replacement(&self, end: &LogPoint) -> Result<(), Error> {
        replace::put_in_place(&**self.storage, self.dir, end.segment)?;
        let mut gone = self.storage.list(self.dir).map_err(|e| Error::io("list", self.dir, e))?;
        gone.retain(|entry| entry.kind == EntryKind::File && replace::is_replaced(&entry.name, end));
        gone.iter().try_for_each(|entry| self.unlink(&entry.name))?;
        self.sync_dir()?;
        replace::forget(&**self.storage, self.dir, end.segment)
    }

    /// Kafka trusts its checkpoint files as long as this file is there; the first write under the root ends that.
    fn forget_clean_shutdown(&self, path: &Path) -> Result<(), Error> {
        unlink_if_there(self.storage, path)?;
        let Some(root) = path.parent() else { return Ok(()) };
        debug_assert!(path.ends_with(CLEAN_SHUTDOWN));
        self.storage.sync_dir(root).map_err(|e| Error::io("sync", root, e))
    }

    fn open(&self, base: Offset) -> Result<(PathBuf, Arc<dyn File>), Error> {
        let path = self.dir.join(log_name(base));
        let file = self.storage.open(&path, OpenMode::Write).map_err(|e| Error::io("open", &path, e))?;
        Ok((path, file))
    }

    /// Copies what will be cut, and makes the copies durable. A rename would be cheaper and could, on the disks we
    /// defend against, lose both names.
    fn keep_aside(&self, cuts: &[Cut]) -> Result<(), Error> {
        let mut kept = false;
        for cut in cuts {
            let Some(name) = &cut.keepsake else { continue };
            let (path, file) = self.open(cut.segment)?;
            let to_path = self.dir.join(name);
            let to = self
                .storage
                .open(&to_path, OpenMode::CreateNew)
                .map_err(|e| Error::io("create", &to_path, e))?;
            let mut at = cut.from;
            while at < cut.to {
                let mut bytes = Vec::new();
                let len = usize::try_from(cut.to - at).map_or(WRITE_SIZE, |left| left.min(WRITE_SIZE));
                file.read_to(&mut bytes, len, at).map_err(|e| Error::io("read", &path, e))?;
                if bytes.is_empty() {
                    break;
                }
                to.write_all_at(&bytes, at - cut.from).map_err(|e| Error::io("write", &to_path, e))?;
                at += bytes.len() as u64;
            }
            to.sync_all().map_err(|e| Error::io("sync", &to_path, e))?;
            kept = true;
        }
        if kept { self.sync_dir() } else { Ok(()) }
    }

    /// Highest first, so that what a crash leaves has no gap.
    fn unlink_segments(&self, cuts: &[Cut]) -> Result<(), Error> {
        cuts.iter().rev().filter(|cut| cut.whole).try_for_each(|cut| self.unlink(&log_name(cut.segment)))
    }

    fn cut(&self, cuts: &[Cut]) -> Result<(), Error> {
        for cut in cuts.iter().filter(|cut| !cut.whole) {
            let (path, file) = self.open(cut.segment)?;
            file.set_len(cut.from).map_err(|e| Error::io("cut", &path, e))?;
        }
        Ok(())
    }

    fn create_segment(&self, base: Offset) -> Result<(), Error> {
        let path = self.dir.join(log_name(base));
        // It has no bytes to be made durable, and its name is with those of the directory.
        self.storage.open(&path, OpenMode::Create).map(drop).map_err(|e| Error::io("create", &path, e))
    }

    /// Writes the kept bytes above the watermark in place, from a buffer whose batches were proven in the same pass:
    /// after a write-back error that a process now dead has seen, a sync alone would prove nothing.
    fn rewrite(&self, made: &Plan, options: &RecoveryOptions) -> Result<Option<Corruption>, Error> {
        let Some(from) = made.rewrite_from else { return Ok(None) };
        let mut start = from.position;
        for segment in made.outcome.segments.iter().filter(|segment| segment.base >= from.segment) {
            if let Some(damage) = self.rewrite_segment(segment, start, options)? {
                return Ok(Some(damage));
            }
            start = Position::ZERO;
        }
        Ok(None)
    }

    fn rewrite_segment(
        &self,
        segment: &SegmentFacts,
        from: Position,
        options: &RecoveryOptions,
    ) -> Result<Option<Corruption>, Error> {
        if from.0 >= segment.len {
            return Ok(None);
        }
        let (path, file) = self.open(segment.base)?;
        let mut buffer =
            Buffer { file: &file, bytes: Vec::with_capacity(WRITE_SIZE), at: from.0, failure: None };
        let scanned = scan_checked(&*file, from, segment.len, |_, _, batch| {
            let flow = buffer.push(batch);
            if flow.is_continue()
                && let Some(progress) = &options.progress
                && buffer.bytes.is_empty()
            {
                progress(RecoveryProgress {
                    segment: segment.base,
                    bytes_done: buffer.at,
                    bytes_total: segment.len,
                });
            }
            flow
        })
        .map_err(|e| Error::io("read", &path, e))?;
        if let Some(error) = buffer.finish() {
            return Err(Error::io("write", &path, error));
        }
        if scanned.position.0 == segment.len {
            return Ok(None);
        }
        let malformed = match scanned.reason {
            EndReason::Damage(damage) => damage.malformed,
            EndReason::EndOfFile | EndReason::Stopped => {
                Malformed::new("length", 0, segment.len, format!("{} bytes", scanned.position))
            }
        };
        let advice = "the medium or the page cache gives other bytes than a moment ago: check the machine";
        let len = segment.len.saturating_sub(scanned.position.0);
        Ok(Some(malformed.in_file(&path, scanned.position.0, len, advice)))
    }

    /// All segments that hold a cut or bytes that were not known to be durable.
    fn sync_segments(&self, made: &Plan) -> Result<(), Error> {
        let Some(from) = made.sync_from_segment else { return Ok(()) };
        for segment in made.outcome.segments.iter().filter(|segment| segment.base >= from) {
            let (path, file) = self.open(segment.base)?;
            file.sync_all().map_err(|e| Error::io("sync", &path, e))?;
        }
        Ok(())
    }

    /// Writes the `.txnindex` files that are not as they must be, and syncs them: the next checkpoint takes what stands
    /// below it for durable.
    fn write_aborted(&self, aborted: &[SegmentAborted]) -> Result<(), Error> {
        for segment in aborted.iter().filter(|segment| !segment.stored) {
            let name = txn_index_name(segment.base);
            if segment.entries.is_empty() {
                self.unlink(&name)?;
                continue;
            }
            let path = self.dir.join(name);
            let bytes = segment.entries.iter().flat_map(|entry| entry.to_bytes()).collect();
            let file = Unwritten { position: 0, bytes }.write(&**self.storage, &path);
            file.and_then(|file| file.sync_all()).map_err(|e| Error::io("write", &path, e))?;
        }
        Ok(())
    }

    /// Writes the state down as the first base of a chain, where neither log nor runs could tell it again.
    fn write_first_base(&self, outcome: &mut Recovered) -> Result<(), Error> {
        let number = outcome.next_run_number;
        let to = outcome.manifest.watermark;
        let draft = RunDraft {
            leader_epochs: outcome.leader_epochs.pairs(),
            open_txns: outcome.open_txns.iter().map(|txn| (txn.producer, txn.first_offset)).collect(),
            completed_txns: outcome.completed_txns.clone(),
            ..RunDraft::new(
                RunKind::Base,
                outcome.log_start_offset.min(to.offset),
                to,
                outcome.manifest.engine_time,
            )
        };
        let place = RunPlace { storage: self.storage, dir: self.dir, number };
        let entries = outcome.producers.sorted();
        let inputs = BaseInputs { chain: &outcome.chain, frozen: &entries, expiry: None };
        let run = write_base(place, inputs, draft)?;
        let chain = Chain::empty().with(run)?;
        outcome.next_run_number = number.saturating_add(1);
        outcome.manifest.next_run_number = outcome.next_run_number;
        outcome.manifest.chain = chain.references();
        outcome.manifest.previous_chain = Vec::new();
        outcome.previous_chain = Vec::new();
        outcome.chain = chain;
        outcome.producers = ProducerMap::new();
        outcome.report.note(format!("the producers were written down as run {number}"));
        outcome.report.dirty_producers = 0;
        Ok(())
    }
}

/// Collects proven batches for large writes.
struct Buffer<'a> {
    file: &'a Arc<dyn File>,
    bytes: Vec<u8>,
    at: u64,
    failure: Option<io::Error>,
}

impl Buffer<'_> {
    fn push(&mut self, batch: &[u8]) -> ControlFlow<()> {
        self.bytes.extend_from_slice(batch);
        if self.bytes.len() < WRITE_SIZE {
            return ControlFlow::Continue(());
        }
        self.flush()
    }

    /// Writes what is left, and says what failed.
    fn finish(mut self) -> Option<io::Error> {
        if self.failure.is_none() && self.flush().is_break() {
            debug_assert!(self.failure.is_some());
        }
        self.failure
    }

    fn flush(&mut self) -> ControlFlow<()> {
        match self.file.write_all_at(&self.bytes, self.at) {
            Ok(()) => {
                self.at += self.bytes.len() as u64;
                self.bytes.clear();
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

fn unlink_if_there(storage: &Arc<dyn Storage>, path: &Path) -> Result<(), Error> {
    match storage.unlink(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("unlink", path, e)),
        _ => Ok(()),
    }
}
