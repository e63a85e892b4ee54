//! The three files of offsets in the root: recovery points, log start offsets, high watermarks.
//!
//! Invariant: each file is replaced as a whole and says of a partition only what is true of its durable log: a line is
//! lowered before its log is cut, and gone before another partition takes the name. Lines of partitions that are not open
//! here are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::inner::Inner;
use super::slot::{Life, Slot};
use crate::error::Error;
use crate::format::checkpoint_file::{PartitionOffset, format_partition_offsets};
use crate::format::names::{HIGH_WATERMARKS, LOG_START_OFFSETS, PartitionName, RECOVERY_POINTS};
use crate::log::{Heads, HighWatermark, Log, Lowered, Quiet};
use crate::recovery::{RootFiles, offsets_in};
use crate::storage::{self, Storage};
use crate::testing::{Break, Point, broken, cross};
use crate::types::Offset;

type Lines = BTreeMap<PartitionName, Offset>;

/// The files as they stand.
pub(super) struct OffsetFiles {
    storage: Arc<dyn Storage>,
    root: PathBuf,
    recovery_points: OffsetFile,
    log_starts: OffsetFile,
    high_watermarks: OffsetFile,
    pub(super) offsets_at: Duration,
    pub(super) high_watermarks_at: Duration,
}

struct OffsetFile {
    name: &'static str,
    /// What stands there, or will once it can be written.
    lines: Lines,
    standing: Standing,
}

/// How `lines` and the file compare.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// They were found there; the file may be missing, or say the same in other words.
    Found,
    Written,
    /// The file has older lines, or a replacement has failed half way.
    Unsure,
}

impl OffsetFile {
    fn new(name: &'static str, lines: Lines) -> Self {
        Self { name, lines, standing: Standing::Found }
    }

    /// Says of the partitions what is known now. Where nothing is, the line stays.
    fn write(
        &mut self,
        storage: &dyn Storage,
        root: &Path,
        ours: &[(PartitionName, Known)],
    ) -> Result<(), Error> {
        let mut lines = self.lines.clone();
        for (name, known) in ours {
            match known {
                Known::At(offset) => drop(lines.insert(name.clone(), *offset)),
                Known::NoLine => drop(lines.remove(name)),
                Known::Unknown => {}
            }
        }
        if self.standing == Standing::Written && self.lines == lines {
            return Ok(());
        }
        self.replace(storage, root, lines)
    }

    /// Takes the line of a partition out.
    fn drop_line(
        &mut self,
        storage: &dyn Storage,
        root: &Path,
        partition: &PartitionName,
    ) -> Result<(), Error> {
        let mut lines = self.lines.clone();
        if lines.remove(partition).is_none() && self.standing != Standing::Unsure {
            return Ok(());
        }
        self.replace(storage, root, lines)
    }

    /// Lets the line of a partition say no more than `most`, if it says more than `over`.
    fn lower(
        &mut self,
        storage: &dyn Storage,
        root: &Path,
        partition: &PartitionName,
        over: Offset,
        most: Offset,
    ) -> Result<(), Error> {
        if self.lines.get(partition).is_none_or(|line| *line <= over) && self.standing != Standing::Unsure {
            return Ok(());
        }
        let mut lines = self.lines.clone();
        if let Some(line) = lines.get_mut(partition) {
            *line = most.min(*line);
        }
        self.replace(storage, root, lines)
    }

    fn replace(&mut self, storage: &dyn Storage, root: &Path, lines: Lines) -> Result<(), Error> {
        let listed = lines
            .iter()
            .map(|(partition, offset)| PartitionOffset { partition: partition.clone(), offset: *offset });
        let text = format_partition_offsets(&listed.collect::<Vec<_>>());
        // What stands there is not known while it is replaced, but it is to be this.
        self.lines = lines;
        self.standing = Standing::Unsure;
        storage::replace(storage, root, self.name, text.as_bytes())
            .map_err(|error| Error::io("write", &root.join(self.name), error))?;
        self.standing = Standing::Written;
        Ok(())
    }
}

/// What is to stand in a file for a partition.
#[derive(Clone, Copy)]
enum Known {
    At(Offset),
    NoLine,
    /// The partition is not open: what stands there stays.
    Unknown,
}

impl OffsetFiles {
    pub(super) fn read(
        storage: &Arc<dyn Storage>,
        root: &Path,
        found: &RootFiles,
        now: Duration,
    ) -> Result<Self, Error> {
        // Notes about the first two are in the report already; a file that does not parse has no lines to keep.
        let high_watermarks = offsets_in(storage, root, HIGH_WATERMARKS, &mut Vec::new())?;
        Ok(Self {
            storage: Arc::clone(storage),
            root: root.to_path_buf(),
            recovery_points: OffsetFile::new(RECOVERY_POINTS, found.recovery_points.clone()),
            log_starts: OffsetFile::new(LOG_START_OFFSETS, found.log_start_offsets.clone()),
            high_watermarks: OffsetFile::new(HIGH_WATERMARKS, high_watermarks),
            offsets_at: now,
            high_watermarks_at: now,
        })
    }

    /// What the file says.
    pub(super) fn high_watermark(&self, name: &PartitionName) -> Option<Offset> {
        self.high_watermarks.lines.get(name).copied()
    }

    /// Whether the file says of a partition what its log is not long enough for.
    pub(super) fn exceed(&self, name: &PartitionName, end: Offset) -> bool {
        self.recovery_points.lines.get(name).is_some_and(|line| *line > end)
    }

    /// Says of a partition, durably, what is true of its log as it was closed.
    pub(super) fn put_lines_of(&mut self, name: &PartitionName, heads: &Heads) -> Result<(), Error> {
        let (storage, root) = (&*self.storage, &self.root);
        let line = |known| [(name.clone(), known)];
        self.recovery_points.write(storage, root, &line(Known::At(heads.recovery_point)))?;
        self.log_starts.write(storage, root, &line(log_start_line(heads)))?;
        self.high_watermarks.write(storage, root, &line(Known::At(heads.high_watermark)))
    }

    /// Takes what the files say of a partition out of them, durably.
    pub(super) fn drop_lines_of(&mut self, name: &PartitionName) -> Result<(), Error> {
        if broken(Break::KeepDeletedLines) {
            return Ok(());
        }
        let (storage, root) = (&*self.storage, &self.root);
        self.recovery_points.drop_line(storage, root, name)?;
        self.log_starts.drop_line(storage, root, name)?;
        self.high_watermarks.drop_line(storage, root, name)
    }

    /// Lets the files say no more of a partition than will be true when it is cut. Durable when it returns.
    pub(super) fn lower(&mut self, name: &PartitionName, to: Lowered) -> Result<(), Error> {
        let (storage, root) = (&*self.storage, &self.root);
        // A segment may begin at the new end, behind index files that are not durable.
        let below = to.end.saturating_add(-1);
        self.recovery_points.lower(storage, root, name, below, to.recovery_point)?;
        self.log_starts.lower(storage, root, name, to.end, to.end)?;
        self.high_watermarks.lower(storage, root, name, to.end, to.end)
    }
}

impl Inner {
    /// Writes recovery points and log start offsets.
    pub(super) fn write_offsets(&self) -> Result<(), Error> {
        if self.is_untouched() {
            return Ok(());
        }
        let _quiet = Quiet::begin();
        // Taken first: who deletes or cuts a partition meanwhile writes after this.
        let mut files = self.offsets.lock();
        let heads = self.all_heads();
        files.offsets_at = self.clock.monotonic();
        self.host.mark.leave()?;
        let ahead = broken(Break::RecoveryPointsAhead);
        let points = lines_of(&heads, |heads| {
            Known::At(if ahead { heads.log_end_offset } else { heads.recovery_point })
        });
        files.recovery_points.write(&*self.storage, &self.root, &points)?;
        cross(Point::RootPointsWritten);
        let starts = lines_of(&heads, log_start_line);
        files.log_starts.write(&*self.storage, &self.root, &starts)
    }

    /// Writes high watermarks.
    pub(super) fn write_high_watermarks(&self) -> Result<(), Error> {
        if self.is_untouched() && !self.has_higher_marks() {
            return Ok(());
        }
        let _quiet = Quiet::begin();
        let mut files = self.offsets.lock();
        let heads = self.all_heads_but_recovery_points();
        files.high_watermarks_at = self.clock.monotonic();
        self.host.mark.leave()?;
        let marks = lines_of(&heads, |heads| Known::At(heads.high_watermark));
        files.high_watermarks.write(&*self.storage, &self.root, &marks)
    }

    /// Whether the embedder has set a high watermark that stands in no file yet. No log need be written for that.
    pub(super) fn has_higher_marks(&self) -> bool {
        let _quiet = Quiet::begin();
        let files = self.offsets.lock();
        let set = |slot: &&Arc<Slot>| slot.config.high_watermark == HighWatermark::External;
        self.all_slots().iter().filter(set).any(|slot| {
            let heads = heads_of(slot, |log| Ok(log.heads_at(Offset::ZERO)));
            heads.is_some_and(|heads| {
                heads.high_watermark > files.high_watermark(&slot.name).unwrap_or(heads.log_start_offset)
            })
        })
    }

    /// Nothing was written since the root was opened clean: its files are as they must be.
    pub(super) fn is_untouched(&self) -> bool {
        self.found.clean_shutdown && !self.host.mark.is_gone()
    }

    fn all_heads(&self) -> Vec<(PartitionName, Option<Heads>)> {
        self.heads_by(|log| log.heads())
    }

    fn all_heads_but_recovery_points(&self) -> Vec<(PartitionName, Option<Heads>)> {
        self.heads_by(|log| Ok(log.heads_at(Offset::ZERO)))
    }

    fn heads_by(
        &self,
        of_open: impl Fn(&Log) -> Result<Heads, Error>,
    ) -> Vec<(PartitionName, Option<Heads>)> {
        let slots = self.all_slots();
        slots.iter().map(|slot| (slot.name.clone(), heads_of(slot, &of_open))).collect()
    }
}

/// What is known of a partition, if it is open or rests.
fn heads_of(slot: &Slot, of_open: impl Fn(&Log) -> Result<Heads, Error>) -> Option<Heads> {
    let log = match &*slot.lock() {
        Life::Open(log) => Arc::clone(log),
        Life::Resting { heads, .. } | Life::Moving(heads) => return Some(*heads),
        Life::Failed(_) | Life::Gone => return None,
    };
    of_open(&log)
        .inspect_err(|error| {
            tracing::warn!(partition = %slot.name, %error, "its recovery point stays where it is");
        })
        .ok()
}

/// Kafka writes a line only where the first segment does not say it.
fn log_start_line(heads: &Heads) -> Known {
    if heads.log_start_offset > heads.first_base { Known::At(heads.log_start_offset) } else { Known::NoLine }
}

fn lines_of(
    heads: &[(PartitionName, Option<Heads>)],
    known: impl Fn(&Heads) -> Known,
) -> Vec<(PartitionName, Known)> {
    heads.iter().map(|(name, heads)| (name.clone(), heads.as_ref().map_or(Known::Unknown, &known))).collect()
}
