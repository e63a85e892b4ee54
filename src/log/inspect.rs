//! A log looked at without opening it: what is there, what a recovery would do, and how a retry would be answered.
//!
//! Invariant: nothing is created, written, cut or deleted here. Lock files that exist are locked against writers, those
//! that do not exist stay away; of recovery only `plan` runs, so every answer is the one that the next open would give.

use std::collections::BTreeMap;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::MergedEntries;
use crate::error::{Error, Rejection};
use crate::format::batch::BatchHeader;
use crate::format::names::{self, DirName, FileName};
use crate::producer::{self, BatchFacts, Entry, EverWritten, Policy, UnknownProducerPolicy, Verdict};
use crate::recovery::{self, Recovered, RecoveryOptions};
use crate::storage::{self, EntryKind, LockGuard, LockKind, OsStorage, RootLock, Storage};
use crate::types::{LogPoint, Offset, Origin, ProducerId};

#[cfg(test)]
mod tests;

/// A partition directory under shared locks, and the plan of its recovery.
#[derive(Debug)]
pub struct Inspection {
    dir: PathBuf,
    locks: ReadLocks,
    segments: Vec<SegmentFile>,
    plan: Result<Intended, Error>,
}

/// A `.log` file of the directory, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Base offset, from the name.
    pub base: Offset,
    /// Length in bytes, damaged bytes included.
    pub len: u64,
}

/// What the next open would make of the directory.
#[derive(Debug)]
pub struct Intended {
    /// The log as it would be, with the report. What the plan cuts is still in the files, behind the ends given here.
    pub log: Recovered,
    /// Names of files that would be deleted, apart from whole segments among the report's cuts.
    pub deletes: Vec<String>,
    /// From here to the log end the bytes would be written in place once more; `None` if none would.
    pub rewrite_from: Option<LogPoint>,
}

impl Intended {
    /// First offset of the oldest open transaction, or the log end: a reader of committed records stops here.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        let oldest = self.log.open_txns.iter().map(|txn| txn.first_offset).min();
        oldest.unwrap_or(self.log.report.log_end_offset)
    }
}

impl Inspection {
    /// Looks at the log in `dir`.
    ///
    /// A recovery that would be refused is no error here: [`Self::plan`] has it.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if a log or a Kafka broker has the directory or the root open; [`Error::Misuse`] if `dir` is
    /// no partition directory; [`Error::Io`] if it is missing or cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        // The root, whose lock and checkpoint files are read too, is the parent: a relative path may hide it.
        let dir = dir.as_ref();
        let absolute = std::path::absolute(dir).map_err(|e| Error::io("find", dir, e))?;
        Self::open_with(Arc::new(OsStorage::new()), absolute)
    }

    /// [`Self::open`] on another storage.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_with(storage: Arc<dyn Storage>, dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let segments = segments_of(&storage, dir)?;
        let locks = ReadLocks::take(&storage, dir)?;
        let plan = match recovery::plan(&storage, dir, &RecoveryOptions::default()) {
            Ok(plan) if plan.finishes_compaction() => Err(Error::Unavailable {
                why: "a compaction was not finished: open the log once, which finishes it".to_owned(),
            }),
            Ok(plan) => {
                let deletes = plan.unlinks().map(str::to_owned).collect();
                let rewrite_from = plan.rewrite_from().copied();
                Ok(Intended { log: plan.into_unexecuted(), deletes, rewrite_from })
            }
            Err(refusal @ Error::Corrupt(_)) => Err(refusal),
            Err(other) => return Err(other),
        };
        Ok(Self { dir: dir.to_path_buf(), locks, segments, plan })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The locks that are held, and those that could not be taken because their file does not exist.
    #[must_use]
    pub fn locks(&self) -> &ReadLocks {
        &self.locks
    }

    /// All `.log` files, oldest first, whatever a recovery would make of them.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFile] {
        &self.segments
    }

    /// What the next open would do.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if it would be refused, with what the refusal says.
    pub fn plan(&self) -> Result<&Intended, Error> {
        self.plan.as_ref().map_err(Clone::clone)
    }

    /// All producers with their windows by ascending id: those of the runs, and over them what the log says since.
    ///
    /// # Errors
    ///
    /// As [`Self::plan`], and what the first read of each run may answer. A later failure is the last item.
    pub fn producers(&self) -> Result<Producers<'_>, Error> {
        let log = &self.plan()?.log;
        Ok(Producers {
            runs: log.chain.entries()?.peekable(),
            recent: log.producers.sorted().into_iter().peekable(),
        })
    }

    /// What is known of one producer.
    ///
    /// # Errors
    ///
    /// As [`Self::plan`]; [`Error::Corrupt`] or [`Error::Io`] if the run that may know the producer cannot be read.
    pub fn entry(&self, id: ProducerId) -> Result<Option<Entry>, Error> {
        let log = &self.plan()?.log;
        match log.producers.get(id) {
            Some(entry) => Ok(Some(*entry)),
            None => log.chain.get(id),
        }
    }

    /// How a client's batch with this header would be answered, were it sent to the log now: the rule that an append
    /// asks, with the default policy for unknown producers. Batches without a producer are always new.
    ///
    /// # Errors
    ///
    /// As [`Self::entry`], when nothing can be said. What the rule refuses is no error of this function.
    pub fn judge(&self, header: &BatchHeader) -> Result<Result<Verdict, Rejection>, Error> {
        let log = &self.plan()?.log;
        let Some(facts) = BatchFacts::of(header) else { return Ok(Ok(Verdict::Append)) };
        let policy = Policy {
            unknown: UnknownProducerPolicy::default(),
            log_start_offset: log.log_start_offset,
            ever_written: EverWritten::from(log.ever_written),
            history: log.manifest.history,
        };
        let entry = self.entry(facts.producer)?;
        Ok(producer::check(entry.as_ref(), &facts, Origin::Client, &policy))
    }
}

/// All producers of a log by ascending id; ends after the first error.
#[derive(Debug)]
pub struct Producers<'a> {
    runs: Peekable<MergedEntries<'static>>,
    recent: Peekable<std::vec::IntoIter<(ProducerId, &'a Entry)>>,
}

impl Iterator for Producers<'_> {
    type Item = Result<(ProducerId, Entry), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let recent = self.recent.peek().map(|(id, _)| *id);
        let in_runs = match self.runs.peek() {
            Some(Ok((id, _))) => Some(*id),
            // What failed is told before anything that could be read behind it.
            Some(Err(_)) => return self.runs.next(),
            None => None,
        };
        match (in_runs, recent) {
            (Some(old), Some(new)) if old < new => self.runs.next(),
            (Some(old), Some(new)) => {
                if old == new {
                    self.runs.next();
                }
                self.next_recent()
            }
            (Some(_), None) => self.runs.next(),
            (None, _) => self.next_recent(),
        }
    }
}

impl Producers<'_> {
    fn next_recent(&mut self) -> Option<Result<(ProducerId, Entry), Error>> {
        self.recent.next().map(|(id, entry)| Ok((id, *entry)))
    }
}

/// Shared locks on the lock files of a partition directory and of its root, for as long as this value lives.
#[derive(Debug)]
pub struct ReadLocks {
    log: Option<LockGuard>,
    root: Option<RootLock>,
    missing: Vec<PathBuf>,
}

impl ReadLocks {
    /// Locks writers out of `dir`, as far as there are files to lock. Creates none.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if a writer has one of them; [`Error::Io`] if a file is there and cannot be locked.
    pub fn take(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Self, Error> {
        let mut locks = match dir.parent() {
            Some(root) => Self::take_root(storage, root)?,
            None => Self { log: None, root: None, missing: Vec::new() },
        };
        let path = dir.join(names::LOG_LOCK);
        let holder = "a log is open on this directory, in this process or another";
        locks.log = existing(storage.lock(&path, LockKind::Shared), &path, holder, &mut locks.missing)?;
        Ok(locks)
    }

    /// Locks writers out of everything under `root`, if there is a file to lock: for its own checkpoint files.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn take_root(storage: &Arc<dyn Storage>, root: &Path) -> Result<Self, Error> {
        let mut missing = Vec::new();
        let path = root.join(names::ROOT_LOCK);
        let holder = "a Kafka broker or another process has logs open under this root";
        let root = existing(storage::lock_root_shared(storage, &path), &path, holder, &mut missing)?;
        Ok(Self { log: None, root, missing })
    }

    /// The files that are locked.
    pub fn held(&self) -> impl Iterator<Item = &Path> {
        self.log.iter().map(LockGuard::path).chain(self.root.iter().map(RootLock::path))
    }

    /// The files that do not exist: who would lock them is not kept out.
    #[must_use]
    pub fn missing(&self) -> &[PathBuf] {
        &self.missing
    }
}

fn existing<T>(
    locked: io::Result<T>,
    path: &Path,
    holder: &str,
    missing: &mut Vec<PathBuf>,
) -> Result<Option<T>, Error> {
    match locked {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            missing.push(path.to_path_buf());
            Ok(None)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::Locked { path: path.to_path_buf(), holder: holder.to_owned() })
        }
        Err(e) => Err(Error::io("lock", path, e)),
    }
}

/// The `.log` files of a directory that holds a log, or why it does not.
fn segments_of(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Vec<SegmentFile>, Error> {
    let mut segments = BTreeMap::new();
    let mut partitions = Vec::new();
    let mut known = false;
    let listed = storage.list(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotADirectory => {
            Error::Misuse(format!("{} is a file: give the partition directory that it is in", dir.display()))
        }
        _ => Error::io("list", dir, e),
    });
    for entry in listed? {
        match (entry.kind, FileName::parse(&entry.name)) {
            (EntryKind::Directory, _) if matches!(DirName::parse(&entry.name), DirName::Partition(_)) => {
                partitions.push(entry.name);
            }
            (EntryKind::File, FileName::Log(base)) => {
                segments.insert(base, entry.len);
            }
            (EntryKind::File, FileName::Unknown) => {}
            (EntryKind::File, _) => known = true,
            _ => {}
        }
    }
    if segments.is_empty() && !known {
        partitions.sort();
        let hint = match partitions.first() {
            Some(first) => format!("it is a root of {}: name one of them, such as {first}", partitions.len()),
            None => "it has no segment (20 digits and .log) and no other file of a log".to_owned(),
        };
        return Err(Error::Misuse(format!("{} is not a partition directory: {hint}", dir.display())));
    }
    Ok(segments.into_iter().map(|(base, len)| SegmentFile { base, len }).collect())
}
