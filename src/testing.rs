//! Armed crash points and deliberate faults, for the crash test alone.
//!
//! Invariant: without the feature `testing` every function here is empty or `false` and the compiler removes the call;
//! with it, nothing happens until a test arms a point or breaks a rule. A point stands between two steps whose order
//! matters; a break switches one rule off, so that anyone can see that the harness notices.

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$item_doc])* $variant,)* }

        impl $name {
            /// Every one of them, in the order of the declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the command line and in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|item| item.name() == name)
            }
        }
    };
}

named! {
    /// A place where the process can be made to kill itself.
    Point {
        /// Between two vectored writes of a turn.
        AppendWritten = "append.written",
        /// The made-ahead segment has its final name; nothing of the roll is durable.
        RollRenamed = "roll.renamed",
        /// The old segment is synced, the directory is not.
        RollOldSynced = "roll.old-synced",
        /// The directory is synced, the manifest does not know of the roll.
        RollDirSynced = "roll.dir-synced",
        /// The manifest names the old end as watermark; nothing waits for the roll any more.
        RollEnded = "roll.ended",
        /// The next segment has been created under its temporary name.
        RollMadeAhead = "roll.made-ahead",
        /// A watermark slot was written.
        SlotWritten = "sync.slot-written",
        /// The active map is frozen; its run does not exist.
        CheckpointFrozen = "checkpoint.frozen",
        /// The run is written and synced; the manifest does not name it.
        CheckpointRunWritten = "checkpoint.run-written",
        /// The manifest names the run; lookups do not use it yet.
        CheckpointNamed = "checkpoint.named",
        /// Lookups use the run; replaced runs are still there.
        CheckpointPublished = "checkpoint.published",
        /// A merged run is written and synced; the manifest does not name it.
        MergeRunWritten = "merge.run-written",
        /// The manifest names the merged run.
        MergeNamed = "merge.named",
        /// A small file is written under its temporary name; the name still means the old one.
        StateTemporaryWritten = "state.temporary-written",
        /// The small file has its name; the directory is not synced.
        StateRenamed = "state.renamed",
        /// The manifest has the intent of a truncation; nothing is cut.
        TruncateIntended = "truncate.intended",
        /// The segments above the cut are unlinked; the directory is not synced and the last one not cut.
        TruncateUnlinked = "truncate.unlinked",
        /// The truncation is carried out and the manifest has no intent any more; the running log does not know.
        TruncateDone = "truncate.done",
        /// Two chains of runs reach what a deletion keeps; the manifest does not name the new log start.
        RetainReached = "retain.reached",
        /// The manifest names the new log start; readers see the old one, and all files are there.
        RetainNamed = "retain.named",
        /// The files of deleted segments have other names; none is unlinked.
        RetainRenamed = "retain.renamed",
        /// The marker that ends a transaction is written; the state does not know it.
        TxnMarkerWritten = "txn.marker-written",
        /// Aborted transactions are in their index files, durably; the checkpoint that relies on it is not made.
        TxnAbortedWritten = "txn.aborted-written",
        /// A compacted segment and its indexes are durable under `.cleaned` names; the manifest does not know of them.
        CompactionWritten = "compaction.written",
        /// The manifest has the intent to put a compacted segment in the place of others; no name has changed.
        CompactionIntended = "compaction.intended",
        /// A compacted segment is called `.swap`; the directory is not synced.
        CompactionSwapped = "compaction.swapped",
        /// A compacted segment has its name; those that it replaces are still there and the directory is not synced.
        CompactionInPlace = "compaction.in-place",
        /// The replaced segments are gone; the directory is not synced and the manifest has the intent.
        CompactionReplaced = "compaction.replaced",
        /// The directory of a new partition is there, durably; its log is not.
        PartitionMade = "partition.made",
        /// A deleted partition has its other name; the root is not synced.
        PartitionRenamed = "partition.renamed",
        /// The files of a deleted partition are gone; its directory is there.
        PartitionEmptied = "partition.emptied",
        /// An idle log was closed in order; it counts as open.
        RootRested = "root.rested",
        /// The root's file of recovery points is the new one, that of log start offsets the old one.
        RootPointsWritten = "root.points-written",
        /// The mark of a clean stop is unlinked, and not yet durably.
        RootUnmarked = "root.unmarked",
        /// All partitions are closed in order; there is no mark yet.
        RootClosed = "root.closed",
        /// A block of producer ids is taken, durably; none of its ids was given out.
        IdsTaken = "ids.taken",
        /// The next holder of a name is known, durably; the one before can still write.
        NamesTaken = "names.taken",
        /// The one before is fenced in some partitions.
        NamesFencing = "names.fencing",
        /// Recovery has decided and changed nothing.
        RecoveryPlanned = "recovery.planned",
        /// Recovery has cut the tail; nothing is rewritten.
        RecoveryCut = "recovery.cut",
        /// Recovery has rewritten and synced the kept tail; the manifest is the old one.
        RecoveryRewritten = "recovery.rewritten",
        /// Recovery has written its manifest; the log is not open.
        RecoveryNamed = "recovery.named",
    }
}

named! {
    /// A rule that can be switched off.
    Break {
        /// Keep one batch per producer across a restart, as Kafka's `.snapshot` does.
        WindowOfOne = "window-of-one",
        /// Forget every run at open: start from an empty state at the log's end.
        ForgetRuns = "forget-runs",
        /// Leave one delta out of the chain at open.
        IgnoreDelta = "ignore-delta",
        /// Use a chain although it ends above the log or does not match it.
        RunAboveEnd = "run-above-end",
        /// Apply a batch to the state before its write, and keep it there when the write fails.
        ApplyBeforeWrite = "apply-before-write",
        /// Acknowledge a duplicate before its original has the level asked for.
        DuplicateBeforeOriginal = "duplicate-before-original",
        /// Acknowledge Durable appends without a sync.
        AckBeforeSync = "ack-before-sync",
        /// Append whatever sequence comes.
        AcceptGap = "accept-gap",
        /// Let a lower epoch append.
        ForgetFence = "forget-fence",
        /// Scan the log from its start at every recovery, as if there were no checkpoint.
        ScanEverything = "scan-everything",
        /// Forget the open transactions at open.
        ForgetOpenTransactions = "forget-open-transactions",
        /// Answer the retry of an aborted batch as a duplicate.
        DuplicateAborted = "duplicate-aborted",
        /// Find no aborted transaction below the checkpoint at open.
        LoseAbortedIndex = "lose-aborted-index",
        /// Let the last stable offset run past open transactions.
        StableIgnoresOpen = "stable-ignores-open",
        /// Move the log start without the manifest.
        ForgetLogStart = "forget-log-start",
        /// Delete segments before two chains of runs reach what is kept.
        DeleteBeforeBase = "delete-before-base",
        /// Truncate without noting the intent.
        TruncateWithoutIntent = "truncate-without-intent",
        /// Keep the producers in memory as they were before a truncation.
        TruncateKeepsState = "truncate-keeps-state",
        /// Give out producer ids without noting which are taken.
        IdsWithoutFile = "ids-without-file",
        /// Write log ends into the root's file of recovery points.
        RecoveryPointsAhead = "recovery-points-ahead",
        /// Leave the mark of a clean stop where it is while logs are written.
        KeepCleanMark = "keep-clean-mark",
        /// Keep the root's lines of a deleted partition for the next one of its name.
        KeepDeletedLines = "keep-deleted-lines",
        /// Give a name to another holder without fencing the one before.
        ClaimWithoutFence = "claim-without-fence",
        /// Let compaction take the last batch of a producer.
        CompactionDropsLast = "compaction-drops-last",
        /// Put a compacted segment in the place of others without noting the intent.
        CompactionWithoutIntent = "compaction-without-intent",
        /// Put a compacted segment in the place of others before it is synced.
        CompactionUnsynced = "compaction-unsynced",
        /// Compact beyond the last stable offset.
        CompactionIgnoresOpen = "compaction-ignores-open",
    }
}

#[cfg(feature = "testing")]
mod armed {
    use super::{Break, Point};
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// The armed point, as its place in the list plus one; 0 when none is.
    static POINT: AtomicU32 = AtomicU32::new(0);
    static CROSSINGS_LEFT: AtomicU32 = AtomicU32::new(0);
    static BROKEN: AtomicU64 = AtomicU64::new(0);

    /// Kills this process with `SIGKILL` at the `crossing`th time (counted from 1) that it comes to `point`.
    pub fn arm(point: Point, crossing: u32) {
        CROSSINGS_LEFT.store(crossing, Ordering::SeqCst);
        POINT.store(point as u32 + 1, Ordering::SeqCst);
    }

    /// Switches `rule` off for the rest of the life of this process.
    pub fn break_rule(rule: Break) {
        BROKEN.fetch_or(1 << rule as u32, Ordering::SeqCst);
    }

    pub(crate) fn cross(point: Point) {
        if POINT.load(Ordering::Relaxed) == point as u32 + 1
            && CROSSINGS_LEFT.fetch_sub(1, Ordering::SeqCst) == 1
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    pub(crate) fn broken(rule: Break) -> bool {
        BROKEN.load(Ordering::Relaxed) & (1 << rule as u32) != 0
    }
}

#[cfg(feature = "testing")]
pub use armed::{arm, break_rule};
#[cfg(feature = "testing")]
pub(crate) use armed::{broken, cross};

/// Marks, for as long as it lives, that this thread holds the append lock of some log.
#[derive(Debug)]
pub(crate) struct AppendLockMark;

#[cfg(feature = "testing")]
mod append_lock {
    use super::AppendLockMark;
    use std::cell::Cell;

    thread_local!(static HELD: Cell<u32> = const { Cell::new(0) });

    impl AppendLockMark {
        pub(crate) fn new() -> Self {
            HELD.set(HELD.get() + 1);
            Self
        }
    }

    impl Drop for AppendLockMark {
        fn drop(&mut self) {
            HELD.set(HELD.get() - 1);
        }
    }

    /// Whether this thread holds an append lock: a storage in a test asserts by it what may be called then.
    #[must_use]
    pub fn holds_append_lock() -> bool {
        HELD.get() > 0
    }
}

#[cfg(feature = "testing")]
pub use append_lock::holds_append_lock;

#[cfg(not(feature = "testing"))]
impl AppendLockMark {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self
    }
}

/// Comes by `point`.
#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(crate) fn cross(_point: Point) {}

/// Whether `rule` is switched off: never in a normal build.
#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(crate) fn broken(_rule: Break) -> bool {
    false
}
