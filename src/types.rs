//! Words of the field, as types that cannot be mixed.
//!
//! Invariant: every value here is plain data without I/O; arithmetic that can leave the range of the type is
//! checked or wraps by the rule written at the method. The names are those of Kafka where Kafka has one.

use std::fmt;

/// Record number in the partition. Never a byte count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of a partition that never lost its beginning.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records later, or `None` past `i64::MAX`.
    #[must_use]
    pub fn checked_add(self, count: i64) -> Option<Self> {
        self.0.checked_add(count).map(Self)
    }

    /// The offset `count` records later; stays at `i64::MAX` where the sum leaves the range.
    #[must_use]
    pub fn saturating_add(self, count: i64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many records lie between `earlier` and this offset; negative if `earlier` is later.
    #[must_use]
    pub fn distance_from(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Byte place in a segment file. Never an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The first byte of a file.
    pub const ZERO: Self = Self(0);

    /// The place `bytes` further on; stays at `u64::MAX` where the sum leaves the range.
    #[must_use]
    pub fn saturating_add(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Identity of an idempotent or transactional producer, given out by the broker. Never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {}", self.0)
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Incarnation of a producer id: a higher one fences every lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProducerEpoch(pub i16);

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Incarnation of the transaction coordinator that wrote a marker; -1 when none was ever seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoordinatorEpoch(pub i32);

impl CoordinatorEpoch {
    /// No coordinator wrote a marker for this producer yet.
    pub const NONE: Self = Self(-1);
}

/// Incarnation of the partition's leader; -1 when unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// Not stamped by any leader.
    pub const NONE: Self = Self(-1);
}

/// Number of a record within its producer id and epoch, from 0 to 2147483647, after which it wraps to 0
/// (`DefaultRecordBatch.incrementSequence` in Kafka).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sequence(i32);

impl Sequence {
    /// The first sequence of every epoch.
    pub const ZERO: Self = Self(0);
    /// The last sequence before the wrap.
    pub const MAX: Self = Self(i32::MAX);

    /// A sequence, or `None` if `value` is negative (-1 on disk means: this batch has none).
    #[must_use]
    pub fn new(value: i32) -> Option<Self> {
        (value >= 0).then_some(Self(value))
    }

    /// The number as it stands on disk.
    #[must_use]
    pub fn value(self) -> i32 {
        self.0
    }

    /// The sequence `count` records later, modulo 2^31.
    #[must_use]
    pub fn wrapping_add(self, count: u32) -> Self {
        let sum = (u64::from(self.0.unsigned_abs()) + u64::from(count)) & 0x7fff_ffff;
        Self(i32::try_from(sum).unwrap_or(0))
    }

    /// The sequence `count` records earlier, modulo 2^31.
    #[must_use]
    pub fn wrapping_sub(self, count: u32) -> Self {
        self.wrapping_add(0x8000_0000 - (count & 0x7fff_ffff))
    }

    /// How many steps forward, modulo 2^31, lead from `earlier` to this sequence.
    #[must_use]
    pub fn steps_from(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0).cast_unsigned() & 0x7fff_ffff
    }

    /// The sequence that follows this one: 0 after 2147483647.
    #[must_use]
    pub fn next(self) -> Self {
        self.wrapping_add(1)
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Milliseconds of time that the engine itself has lived through, summed over all openings. It never goes back, it
/// does not run while the log is closed, and no clock of the machine or of a client can move it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EngineTime(pub u64);

/// How certain a reply is: what a batch survives once its append has been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Durability {
    /// Handed to the operating system: survives the death of the process, not of the machine.
    Buffered,
    /// On the medium: a sync that covers the batch has returned. The default.
    #[default]
    Durable,
}

/// Who wrote a batch, which decides what rules it is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Origin {
    /// A producing client: all rules.
    #[default]
    Client,
    /// A coordinator inside the broker (group offsets): epochs are checked, sequences are not.
    Coordinator,
}

/// Whether everything that was ever acknowledged can still be accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum History {
    /// Nothing but what retention or compaction may remove is missing.
    #[default]
    Complete,
    /// Damaged bytes were cut on the caller's word, and with them perhaps the only trace of a producer: an unknown id
    /// that does not start at sequence 0 can then be neither trusted nor refused.
    Salvaged,
}

/// Whether offsets may be missing between batches of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Gaps {
    /// Every batch begins where the one before ends: a gap is a loss.
    #[default]
    None,
    /// The log follows the log of a leader that compaction went through, so offsets only rise.
    Possible,
}

/// Identifies one batch by what its header says, so that a log can be told from another log.
///
/// It is kept beside every claim about a log end (a watermark, a run, a clean-close mark): if the batch that is there
/// does not have the fingerprint, the claim speaks of another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Offset of the batch's last record.
    pub last_offset: Offset,
    /// Leader epoch stamped into the batch.
    pub leader_epoch: LeaderEpoch,
    /// Number of records the header states.
    pub record_count: i32,
    /// CRC-32C of the batch as stored in its header.
    pub crc: u32,
}

/// A place between two batches of a log: where it is in bytes and in offsets, and which batch ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogPoint {
    /// Base offset of the segment that holds the place.
    pub segment: Offset,
    /// The byte behind the batch that ends here.
    pub position: Position,
    /// The offset that the next batch gets.
    pub offset: Offset,
    /// The batch that ends here: its first byte in that segment and its fingerprint. `None` at the start of a segment.
    pub last_batch: Option<(Position, Fingerprint)>,
}

impl LogPoint {
    /// The start of a segment: nothing ends here.
    #[must_use]
    pub fn segment_start(segment: Offset) -> Self {
        Self { segment, position: Position::ZERO, offset: segment, last_batch: None }
    }
}
