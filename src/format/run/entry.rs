//! One producer's entry in a block, and how it is spelled.
//!
//! ```text
//! size  field
//!    1  flags                 bits 0-2 number of batches, 3 open transaction, 4 coordinator epoch, 5 aborted batches
//!    v  producer epoch
//!    v  coordinator epoch     if flagged; else -1
//!    v  proven
//!    v  last seen             engine time, ms
//!    v  open transaction      its first offset, if flagged
//!    1  aborted batches       if flagged: bit n for the nth batch, oldest first
//!       then for each batch, oldest first:
//!    v  first sequence        minus the last sequence of the batch before, less one; of the first: as it is
//!    v  last sequence         minus first sequence, modulo 2^31
//!    v  first offset          minus the last offset of the batch before, less one; of the first: as it is
//!    v  last offset           minus first offset
//!    v  max timestamp         minus that of the batch before; of the first: as it is
//! ```
//!
//! `v` is a zig-zag varint; differences wrap, so every value has a spelling. Batches that follow each other cost about
//! ten bytes, which is why the window is spelled by differences.
//!
//! Invariant: decoding gives back what was encoded, for every value of every field.

use crate::error::Malformed;
use crate::format::cursor::{Cursor, put_varlong};
use crate::types::{CoordinatorEpoch, EngineTime, Offset, ProducerEpoch, Sequence};

/// How many batches an entry can hold: as many requests as a producer may have in flight.
pub const MAX_RUN_BATCHES: usize = 5;

const COUNT_MASK: u8 = 0x07;
const HAS_OPEN_TXN: u8 = 0x08;
const HAS_COORDINATOR: u8 = 0x10;
const HAS_ABORTED: u8 = 0x20;
const KNOWN_FLAGS: u8 = COUNT_MASK | HAS_OPEN_TXN | HAS_COORDINATOR | HAS_ABORTED;

const _: () = assert!(MAX_RUN_BATCHES <= COUNT_MASK as usize);

/// What a run keeps of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Highest producer epoch seen.
    pub epoch: ProducerEpoch,
    /// Coordinator epoch of the last marker.
    pub coordinator_epoch: CoordinatorEpoch,
    /// How many sequences that end at the newest are known to be stored without a gap.
    pub proven: u32,
    /// When the producer was last heard of.
    pub last_seen: EngineTime,
    /// First offset of the open transaction.
    pub open_txn: Option<Offset>,
    batches: [RunBatch; MAX_RUN_BATCHES],
    len: u8,
}

/// What a run keeps of one batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RunBatch {
    /// Sequence of the first record.
    pub first_sequence: Sequence,
    /// Sequence of the last record.
    pub last_sequence: Sequence,
    /// Offset of the first record.
    pub first_offset: Offset,
    /// Offset of the last record.
    pub last_offset: Offset,
    /// Largest timestamp, ms.
    pub max_timestamp: i64,
    /// Whether the batch's transaction was aborted.
    pub aborted: bool,
}

impl RunEntry {
    /// An entry without batches.
    #[must_use]
    pub fn new(epoch: ProducerEpoch, coordinator_epoch: CoordinatorEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch,
            proven: 0,
            last_seen: EngineTime(0),
            open_txn: None,
            batches: [RunBatch::default(); MAX_RUN_BATCHES],
            len: 0,
        }
    }

    /// Adds a batch newer than those that are there. `false`, without effect, if there are [`MAX_RUN_BATCHES`].
    #[must_use]
    pub fn push(&mut self, batch: RunBatch) -> bool {
        match self.batches.get_mut(usize::from(self.len)) {
            Some(slot) => {
                *slot = batch;
                self.len += 1;
                true
            }
            None => false,
        }
    }

    /// The batches, oldest first.
    #[must_use]
    pub fn batches(&self) -> &[RunBatch] {
        self.batches.get(..usize::from(self.len)).unwrap_or(&[])
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let batches = self.batches();
        let mut aborted = 0u8;
        for (nth, _) in batches.iter().enumerate().filter(|(_, batch)| batch.aborted) {
            aborted |= 1 << nth;
        }
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        out.push(
            self.len
                | flag(self.open_txn.is_some(), HAS_OPEN_TXN)
                | flag(self.coordinator_epoch != CoordinatorEpoch::NONE, HAS_COORDINATOR)
                | flag(aborted != 0, HAS_ABORTED),
        );
        put_varlong(out, i64::from(self.epoch.0));
        if self.coordinator_epoch != CoordinatorEpoch::NONE {
            put_varlong(out, i64::from(self.coordinator_epoch.0));
        }
        put_varlong(out, i64::from(self.proven));
        put_varlong(out, self.last_seen.0.cast_signed());
        if let Some(offset) = self.open_txn {
            put_varlong(out, offset.0);
        }
        if aborted != 0 {
            out.push(aborted);
        }
        let mut before = Before::FIRST;
        for batch in batches {
            put_varlong(out, i64::from(batch.first_sequence.steps_from(before.next_sequence)));
            put_varlong(out, i64::from(batch.last_sequence.steps_from(batch.first_sequence)));
            put_varlong(out, batch.first_offset.0.wrapping_sub(before.next_offset));
            put_varlong(out, batch.last_offset.0.wrapping_sub(batch.first_offset.0));
            put_varlong(out, batch.max_timestamp.wrapping_sub(before.timestamp));
            before = Before::after(batch);
        }
    }

    pub(super) fn decode(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let start = cursor.position() as u64;
        let flags = cursor.u8("entry flags")?;
        let count = flags & COUNT_MASK;
        if flags & !KNOWN_FLAGS != 0 || usize::from(count) > MAX_RUN_BATCHES {
            let expected = "at most 5 batches and no flag above 0x20";
            return Err(Malformed::new("entry flags", start, expected, format!("{flags:#04x}")));
        }
        let epoch = ProducerEpoch(narrow(cursor, "producer epoch")?);
        let coordinator_epoch = if flags & HAS_COORDINATOR == 0 {
            CoordinatorEpoch::NONE
        } else {
            CoordinatorEpoch(narrow(cursor, "coordinator epoch")?)
        };
        let mut entry = Self::new(epoch, coordinator_epoch);
        entry.proven = narrow(cursor, "proven")?;
        entry.last_seen = EngineTime(cursor.varlong("last seen")?.cast_unsigned());
        entry.open_txn = (flags & HAS_OPEN_TXN != 0)
            .then(|| cursor.varlong("open transaction").map(Offset))
            .transpose()?;
        let aborted = if flags & HAS_ABORTED == 0 { 0 } else { cursor.u8("aborted batches")? };
        let mut before = Before::FIRST;
        for nth in 0..count {
            let first_sequence = before.next_sequence.wrapping_add(narrow(cursor, "first sequence")?);
            let last_sequence = first_sequence.wrapping_add(narrow(cursor, "last sequence")?);
            let first_offset = cursor.varlong("first offset")?.wrapping_add(before.next_offset);
            let last_offset = cursor.varlong("last offset")?.wrapping_add(first_offset);
            let batch = RunBatch {
                first_sequence,
                last_sequence,
                first_offset: Offset(first_offset),
                last_offset: Offset(last_offset),
                max_timestamp: cursor.varlong("max timestamp")?.wrapping_add(before.timestamp),
                aborted: aborted & (1 << nth) != 0,
            };
            before = Before::after(&batch);
            // The count was bounded above, so there is room.
            let _ = entry.push(batch);
        }
        Ok(entry)
    }
}

/// What the fields of a batch are counted from.
struct Before {
    next_sequence: Sequence,
    next_offset: i64,
    timestamp: i64,
}

impl Before {
    const FIRST: Self = Self { next_sequence: Sequence::ZERO, next_offset: 0, timestamp: 0 };

    fn after(batch: &RunBatch) -> Self {
        Self {
            next_sequence: batch.last_sequence.next(),
            next_offset: batch.last_offset.0.wrapping_add(1),
            timestamp: batch.max_timestamp,
        }
    }
}

fn narrow<T: TryFrom<i64>>(cursor: &mut Cursor<'_>, field: &'static str) -> Result<T, Malformed> {
    let start = cursor.position() as u64;
    let value = cursor.varlong(field)?;
    T::try_from(value).map_err(|_| Malformed::new(field, start, "a value in the field's range", value))
}

#[cfg(test)]
pub(super) mod strategy {
    use proptest::prelude::*;

    use super::*;

    fn any_sequence() -> impl Strategy<Value = Sequence> {
        prop_oneof![Just(0), Just(i32::MAX), 0..=i32::MAX].prop_map(|value| Sequence::new(value).unwrap())
    }

    fn any_batch() -> impl Strategy<Value = RunBatch> {
        (any_sequence(), any_sequence(), any::<i64>(), any::<i64>(), any::<i64>(), any::<bool>()).prop_map(
            |(first_sequence, last_sequence, first_offset, last_offset, max_timestamp, aborted)| RunBatch {
                first_sequence,
                last_sequence,
                first_offset: Offset(first_offset),
                last_offset: Offset(last_offset),
                max_timestamp,
                aborted,
            },
        )
    }

    /// Any entry at all, likely or not.
    pub fn run_entry() -> impl Strategy<Value = RunEntry> {
        let batches = proptest::collection::vec(any_batch(), 0..=MAX_RUN_BATCHES);
        let rest = (any::<i16>(), any::<i32>(), any::<u32>(), any::<u64>(), any::<Option<i64>>());
        (rest, batches).prop_map(|((epoch, coordinator, proven, seen, open_txn), batches)| {
            let mut entry = RunEntry::new(ProducerEpoch(epoch), CoordinatorEpoch(coordinator));
            entry.proven = proven;
            entry.last_seen = EngineTime(seen);
            entry.open_txn = open_txn.map(Offset);
            for batch in batches {
                assert!(entry.push(batch));
            }
            entry
        })
    }
}
