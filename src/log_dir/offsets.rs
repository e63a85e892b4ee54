//! The three files of offsets in the root: recovery points, log start offsets, high watermarks.
//!
//! Invariant: each file is replaced as a whole and says of a partition only what is true of its durable log. Lines of
//! partitions that are not open here are kept; those of a deleted one are gone before a new one takes its name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::inner::Inner;
use super::slot::Life;
use crate::error::Error;
use crate::format::checkpoint_file::{PartitionOffset, format_partition_offsets};
use crate::format::names::{HIGH_WATERMARKS, LOG_START_OFFSETS, PartitionName, RECOVERY_POINTS};
use crate::log::Heads;
use crate::recovery::{RootFiles, offsets_in};
use crate::storage::{self, Storage};
use crate::types::Offset;

type Lines = BTreeMap<PartitionName, Offset>;

/// The files as they were last written.
pub(super) struct OffsetFiles {
    recovery_points: OffsetFile,
    log_starts: OffsetFile,
    high_watermarks: OffsetFile,
    pub(super) offsets_at: Duration,
    pub(super) high_watermarks_at: Duration,
}

struct OffsetFile {
    name: &'static str,
    /// Lines that were there when the root was opened.
    found: Lines,
    written: Option<String>,
}

impl OffsetFile {
    fn new(name: &'static str, found: Lines) -> Self {
        Self { name, found, written: None }
    }

    fn write(
        &mut self,
        storage: &dyn Storage,
        root: &Path,
        ours: &[(PartitionName, Known)],
    ) -> Result<(), Error> {
        let mut lines = self.found.clone();
        for (name, known) in ours {
            match known {
                Known::At(offset) => drop(lines.insert(name.clone(), *offset)),
                Known::NoLine => drop(lines.remove(name)),
                Known::Unknown => {}
            }
        }
        let lines: Vec<_> =
            lines.into_iter().map(|(partition, offset)| PartitionOffset { partition, offset }).collect();
        let text = format_partition_offsets(&lines);
        if self.written.as_ref() == Some(&text) {
            return Ok(());
        }
        // What stands there is not known while it is replaced.
        self.written = None;
        storage::replace(storage, root, self.name, text.as_bytes())
            .map_err(|error| Error::io("write", &root.join(self.name), error))?;
        self.written = Some(text);
        Ok(())
    }
}

/// What is to stand in a file for a partition.
#[derive(Clone, Copy)]
enum Known {
    At(Offset),
    NoLine,
    /// The partition is not open: what was found there stays.
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
            recovery_points: OffsetFile::new(RECOVERY_POINTS, found.recovery_points.clone()),
            log_starts: OffsetFile::new(LOG_START_OFFSETS, found.log_start_offsets.clone()),
            high_watermarks: OffsetFile::new(HIGH_WATERMARKS, high_watermarks),
            offsets_at: now,
            high_watermarks_at: now,
        })
    }

    /// What the file said when the root was opened.
    pub(super) fn found_high_watermark(&self, name: &PartitionName) -> Option<Offset> {
        self.high_watermarks.found.get(name).copied()
    }

    /// What was found for a partition is not to be written again.
    pub(super) fn keep_no_line_of(&mut self, name: &PartitionName) {
        self.forget(name);
    }

    /// Forgets lines that were found for a partition; whether there were any.
    fn forget(&mut self, name: &PartitionName) -> bool {
        let files = [&mut self.recovery_points, &mut self.log_starts, &mut self.high_watermarks];
        files.into_iter().filter_map(|file| file.found.remove(name)).count() > 0
    }
}

impl Inner {
    /// Writes recovery points and log start offsets.
    pub(super) fn write_offsets(&self) -> Result<(), Error> {
        if self.is_untouched() {
            return Ok(());
        }
        // Taken first: who deletes a partition meanwhile writes after this.
        let mut files = self.offsets.lock();
        let heads = self.all_heads();
        files.offsets_at = self.clock.monotonic();
        let points = lines_of(&heads, |heads| Known::At(heads.recovery_point));
        files.recovery_points.write(&*self.storage, &self.root, &points)?;
        let starts = lines_of(&heads, |heads| {
            // Kafka writes a line only where the first segment does not say it.
            if heads.log_start_offset > heads.first_base {
                Known::At(heads.log_start_offset)
            } else {
                Known::NoLine
            }
        });
        files.log_starts.write(&*self.storage, &self.root, &starts)
    }

    /// Writes high watermarks.
    pub(super) fn write_high_watermarks(&self) -> Result<(), Error> {
        if self.is_untouched() {
            return Ok(());
        }
        let mut files = self.offsets.lock();
        let heads = self.all_heads_but_recovery_points();
        files.high_watermarks_at = self.clock.monotonic();
        let marks = lines_of(&heads, |heads| Known::At(heads.high_watermark));
        files.high_watermarks.write(&*self.storage, &self.root, &marks)
    }

    /// Takes what the files say of a partition out of them, before another one has its name.
    pub(super) fn forget_offsets(&self, name: &PartitionName) -> Result<(), Error> {
        if self.offsets.lock().forget(name) {
            self.write_offsets()?;
            self.write_high_watermarks()?;
        }
        Ok(())
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
        of_open: impl Fn(&crate::log::Log) -> Result<Heads, Error>,
    ) -> Vec<(PartitionName, Option<Heads>)> {
        let heads = |slot: &super::slot::Slot| {
            let log = match &*slot.state.lock() {
                Life::Open(log) => Arc::clone(log),
                Life::Resting { heads, .. } => return Some(*heads),
                Life::Failed(_) | Life::Gone => return None,
            };
            of_open(&log)
                .inspect_err(|error| {
                    tracing::warn!(partition = %slot.name, %error, "its recovery point stays where it is");
                })
                .ok()
        };
        self.all_slots().iter().map(|slot| (slot.name.clone(), heads(slot))).collect()
    }
}

fn lines_of(
    heads: &[(PartitionName, Option<Heads>)],
    known: impl Fn(&Heads) -> Known,
) -> Vec<(PartitionName, Known)> {
    heads.iter().map(|(name, heads)| (name.clone(), heads.as_ref().map_or(Known::Unknown, &known))).collect()
}
