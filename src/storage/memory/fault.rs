//! What happens on a simulated disk, and what can be made to go wrong there.
//!
//! Invariant: a fault decides before its operation touches any state, so that a failed operation changed nothing but
//! what the fault says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperationKind {
    /// Opening an existing file.
    Open,
    /// Making a new file, by opening it or by locking it.
    Create,
    /// A positional read.
    Read,
    /// A positional write.
    Write,
    /// Mapping a file.
    Map,
    /// Cutting or extending a file.
    SetLen,
    /// Reserving blocks.
    Allocate,
    /// `fdatasync`.
    SyncData,
    /// `fsync` of a file.
    SyncAll,
    /// Giving a file another name.
    Rename,
    /// Removing a name.
    Unlink,
    /// Listing a directory.
    List,
    /// Making a directory, missing parents included.
    CreateDir,
    /// Removing an empty directory.
    RemoveDir,
    /// `fsync` of a directory.
    SyncDir,
    /// Taking a lock.
    Lock,
}

impl OperationKind {
    /// Whether the operation changes what is on the disk or in its cache. Only these are counted and observed.
    #[must_use]
    pub fn is_mutation(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Map | Self::List | Self::Lock)
    }

    fn is_sync(self) -> bool {
        matches!(self, Self::SyncData | Self::SyncAll | Self::SyncDir)
    }
}

/// A mutating operation that was carried out, or that a fault or a full disk has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Operation {
    /// How many mutating operations there were, this one included.
    pub number: u64,
    /// What it did.
    pub kind: OperationKind,
    /// The file or directory, by the name under which it was opened or named; the old name of a rename.
    pub path: Arc<Path>,
    /// The new name of a rename.
    pub to: Option<Arc<Path>>,
    /// First byte of a write or of blocks that were allocated; 0 for all others.
    pub position: u64,
    /// Bytes that were written or allocated, the new length of a `SetLen`; 0 for all others.
    pub len: u64,
    /// Why it failed, if it did.
    pub error: Option<io::ErrorKind>,
}

impl Operation {
    pub(super) fn new(kind: OperationKind, path: Arc<Path>) -> Self {
        Self { number: 0, kind, path, to: None, position: 0, len: 0, error: None }
    }

    /// Notes why the operation failed: by a fault or for want of space, so that it counts all the same.
    pub(super) fn failed(&mut self, failure: io::Error) -> io::Error {
        self.error = Some(failure.kind());
        failure
    }

    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        file_name(&self.path)
    }
}

/// A fault to come: which operation meets it, how often, and what it does.
///
/// Unless told otherwise a fault meets the first operation that it fits, once, and fails it with `EIO`.
#[derive(Clone, Debug)]
pub struct Fault {
    fits: Fits,
    name: Option<String>,
    /// How many fitting operations go well before.
    pass: u64,
    /// Whether it stays after it struck.
    lasting: bool,
    effect: Effect,
}

#[derive(Clone, Copy, Debug)]
enum Fits {
    Kind(OperationKind),
    Mutations,
    Syncs,
}

/// What a fault does to its operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// Nothing is done and the error is returned. A sync of a file also marks its dirty bytes as clean.
    Fail(Cause),
    /// A read or write moves at most so many bytes and returns their number.
    Short(usize),
    /// A write writes at most so many bytes and then returns the error.
    Tear(usize, Cause),
}

/// The error that a fault returns.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Kind(io::ErrorKind),
    Errno(i32),
}

impl Fault {
    /// Meets an operation of this kind.
    #[must_use]
    pub fn on(kind: OperationKind) -> Self {
        Self::new(Fits::Kind(kind))
    }

    /// Meets any mutating operation: with [`Fault::nth`], the one of that number from now on.
    #[must_use]
    pub fn on_any_mutation() -> Self {
        Self::new(Fits::Mutations)
    }

    /// Meets a sync of a file or of a directory.
    #[must_use]
    pub fn on_any_sync() -> Self {
        Self::new(Fits::Syncs)
    }

    fn new(fits: Fits) -> Self {
        let effect = Effect::Fail(Cause::Errno(Errno::IO.raw_os_error()));
        Self { fits, name: None, pass: 0, lasting: false, effect }
    }

    /// Meets only files, or directories, whose name contains `part`; of a rename either name.
    #[must_use]
    pub fn named(mut self, part: &str) -> Self {
        self.name = Some(part.to_owned());
        self
    }

    /// Meets the `n`-th fitting operation, counted from 1 and from now on.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.pass = n.saturating_sub(1);
        self
    }

    /// Stays: every fitting operation from the chosen one on meets it.
    #[must_use]
    pub fn from_then_on(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// Fails with an error of this kind.
    #[must_use]
    pub fn with(self, kind: io::ErrorKind) -> Self {
        self.caused_by(Cause::Kind(kind))
    }

    /// Fails with this error of the operating system (28 is `ENOSPC`, 5 is `EIO`).
    #[must_use]
    pub fn with_errno(self, errno: i32) -> Self {
        self.caused_by(Cause::Errno(errno))
    }

    fn caused_by(mut self, cause: Cause) -> Self {
        self.effect = match self.effect {
            Effect::Tear(bytes, _) => Effect::Tear(bytes, cause),
            Effect::Fail(_) | Effect::Short(_) => Effect::Fail(cause),
        };
        self
    }

    /// Does not fail: the read or write moves `bytes` at most and returns their number. Operations of other kinds are
    /// not changed.
    #[must_use]
    pub fn short(mut self, bytes: usize) -> Self {
        self.effect = Effect::Short(bytes);
        self
    }

    /// Writes `bytes` at most before it fails. Operations of other kinds fail without having done anything.
    #[must_use]
    pub fn after_bytes(mut self, bytes: usize) -> Self {
        let cause = match self.effect {
            Effect::Fail(cause) | Effect::Tear(_, cause) => cause,
            Effect::Short(_) => Cause::Errno(Errno::IO.raw_os_error()),
        };
        self.effect = Effect::Tear(bytes, cause);
        self
    }

    fn fits(&self, kind: OperationKind, path: &Path, to: Option<&Path>) -> bool {
        let kind_fits = match self.fits {
            Fits::Kind(wanted) => wanted == kind,
            Fits::Mutations => kind.is_mutation(),
            Fits::Syncs => kind.is_sync(),
        };
        let has = |path: &Path| self.name.as_deref().is_none_or(|part| file_name(path).contains(part));
        kind_fits && (has(path) || to.is_some_and(has))
    }
}

impl Cause {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Kind(kind) => kind.into(),
            Self::Errno(errno) => io::Error::from_raw_os_error(errno),
        }
    }
}

/// The faults that are armed.
#[derive(Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    struck: u64,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.armed.clear();
    }

    pub(super) fn struck(&self) -> u64 {
        self.struck
    }

    /// What an operation meets. Every fault counts the operation if it fits; the first that is due decides.
    pub(super) fn meet(&mut self, kind: OperationKind, path: &Path, to: Option<&Path>) -> Option<Effect> {
        let mut met = None;
        self.armed.retain_mut(|fault| {
            if !fault.fits(kind, path, to) {
                return true;
            }
            if fault.pass > 0 {
                fault.pass -= 1;
                return true;
            }
            if met.is_some() {
                return true;
            }
            met = Some(fault.effect);
            fault.lasting
        });
        self.struck += u64::from(met.is_some());
        met
    }

    /// What an operation meets that either happens or does not.
    pub(super) fn fail(&mut self, kind: OperationKind, path: &Path, to: Option<&Path>) -> io::Result<()> {
        match self.meet(kind, path, to) {
            Some(Effect::Fail(cause) | Effect::Tear(_, cause)) => Err(cause.error()),
            Some(Effect::Short(_)) | None => Ok(()),
        }
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
