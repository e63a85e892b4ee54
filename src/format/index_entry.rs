//! Entries of the three indexes that stand beside a segment.
//!
//! ```text
//! .index      8 bytes    0  4  relative offset     last offset of a batch, less the segment's base offset
//!                        4  4  position            first byte of that batch in the .log
//! .timeindex 12 bytes    0  8  timestamp           largest one up to and including the batch; milliseconds
//!                        8  4  relative offset     last offset of the batch
//! .txnindex  34 bytes    0  2  version = 0
//!                        2  8  producer id
//!                       10  8  first offset        of the aborted transaction
//!                       18  8  last offset         of its marker
//!                       26  8  last stable offset  when it was aborted
//!
//! .index  00 00 00 0a  00 00 04 03                 offset 10 of segment 0 is in the batch at byte 1027
//! ```
//!
//! Invariant: what is decoded has no negative field, so adding a base offset to it never goes back. The files have no
//! header and no checksum, so an entry proves nothing: whoever follows one checks the batch that it points to.
//! Kafka's classes are `OffsetIndex`, `TimeIndex` and `AbortedTxn`.

use super::cursor::Cursor;
use crate::error::Malformed;
use crate::types::{Offset, Position, ProducerId};

/// Where the batch with a last offset begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetIndexEntry {
    relative_offset: i32,
    position: i32,
}

impl OffsetIndexEntry {
    /// Bytes of an entry.
    pub const SIZE: usize = 4 + 4;

    /// An entry of the segment that begins at `base`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the offset is below `base`, or if offset or position lies more than 2147483647 further on
    /// (Kafka's `IndexOffsetOverflowException`): the segment must be rolled before.
    pub fn new(base: Offset, last_offset: Offset, position: Position) -> Result<Self, Malformed> {
        let in_range = i32::try_from(position.0);
        Ok(Self {
            relative_offset: relative(base, last_offset)?,
            position: in_range.map_err(|_| Malformed::new("position", 4, "at most 2147483647", position))?,
        })
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if a field is negative.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(bytes);
        Ok(Self {
            relative_offset: not_negative(&mut c, "relative offset")?,
            position: not_negative(&mut c, "position")?,
        })
    }

    /// The entry as it stands in the file.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (offset, position) = bytes.split_at_mut(4);
        offset.copy_from_slice(&self.relative_offset.to_be_bytes());
        position.copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    /// Last offset of the batch, in a segment that begins at `base`.
    #[must_use]
    #[inline]
    pub fn last_offset(self, base: Offset) -> Offset {
        base.saturating_add(i64::from(self.relative_offset))
    }

    /// First byte of the batch.
    #[must_use]
    #[inline]
    pub fn position(self) -> Position {
        Position(u64::from(self.position.unsigned_abs()))
    }
}

/// Largest timestamp up to and including the batch with a last offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeIndexEntry {
    timestamp: i64,
    relative_offset: i32,
}

impl TimeIndexEntry {
    /// Bytes of an entry.
    pub const SIZE: usize = 8 + 4;

    /// An entry of the segment that begins at `base`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the offset is below `base` or lies more than 2147483647 above it.
    pub fn new(base: Offset, timestamp: i64, last_offset: Offset) -> Result<Self, Malformed> {
        Ok(Self { timestamp, relative_offset: relative(base, last_offset)? })
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the offset is negative. Any timestamp is accepted: -1 stands for a batch without one.
    #[inline]
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(bytes);
        Ok(Self { timestamp: c.i64("timestamp")?, relative_offset: not_negative(&mut c, "relative offset")? })
    }

    /// The entry as it stands in the file.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (timestamp, offset) = bytes.split_at_mut(8);
        timestamp.copy_from_slice(&self.timestamp.to_be_bytes());
        offset.copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }

    /// The timestamp, in milliseconds.
    #[must_use]
    #[inline]
    pub fn timestamp(self) -> i64 {
        self.timestamp
    }

    /// Last offset of the batch, in a segment that begins at `base`.
    #[must_use]
    #[inline]
    pub fn last_offset(self, base: Offset) -> Offset {
        base.saturating_add(i64::from(self.relative_offset))
    }
}

/// A transaction that was aborted; the entry stands in the segment that holds its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AbortedTxn {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its abort marker.
    pub last_offset: Offset,
    /// First offset that was still undecided once this transaction was decided.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    /// Bytes of an entry.
    pub const SIZE: usize = 2 + 8 + 8 + 8 + 8;
    /// The only version.
    pub const VERSION: i16 = 0;

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the version is another, an id or offset is negative, or the marker is not behind the first
    /// record.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(bytes);
        let version = c.i16("version")?;
        if version != Self::VERSION {
            return Err(Malformed::new("version", 0, Self::VERSION, version));
        }
        let txn = Self {
            producer: ProducerId(c.i64("producer id")?),
            first_offset: Offset(c.i64("first offset")?),
            last_offset: Offset(c.i64("last offset")?),
            last_stable_offset: Offset(c.i64("last stable offset")?),
        };
        if txn.producer.0 < 0 {
            return Err(Malformed::new("producer id", 2, "0 or more", txn.producer.0));
        }
        if txn.first_offset < Offset::ZERO {
            return Err(Malformed::new("first offset", 10, "0 or more", txn.first_offset));
        }
        if txn.last_offset <= txn.first_offset {
            return Err(Malformed::new(
                "last offset",
                18,
                format!("more than {}", txn.first_offset),
                txn.last_offset,
            ));
        }
        if txn.last_stable_offset < Offset::ZERO {
            return Err(Malformed::new("last stable offset", 26, "0 or more", txn.last_stable_offset));
        }
        Ok(txn)
    }

    /// The entry as it stands in the file.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (version, fields) = bytes.split_at_mut(2);
        version.copy_from_slice(&Self::VERSION.to_be_bytes());
        let values = [self.producer.0, self.first_offset.0, self.last_offset.0, self.last_stable_offset.0];
        for (field, value) in fields.chunks_exact_mut(8).zip(values) {
            field.copy_from_slice(&value.to_be_bytes());
        }
        bytes
    }
}

fn relative(base: Offset, offset: Offset) -> Result<i32, Malformed> {
    let in_range = i32::try_from(offset.distance_from(base)).ok().filter(|distance| *distance >= 0);
    in_range.ok_or_else(|| {
        let expected = format!("{base} to {}", base.saturating_add(i64::from(i32::MAX)));
        Malformed::new("relative offset", 0, expected, offset)
    })
}

#[inline]
fn not_negative(c: &mut Cursor<'_>, field: &'static str) -> Result<i32, Malformed> {
    let at = c.position() as u64;
    let value = c.i32(field)?;
    if value >= 0 { Ok(value) } else { Err(Malformed::new(field, at, "0 or more", value)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_offset_entry_has_the_bytes_that_kafka_writes() {
        let entry = OffsetIndexEntry::new(Offset(60), Offset(70), Position(1027)).unwrap();
        assert_eq!(entry.to_bytes(), [0, 0, 0, 10, 0, 0, 4, 3]);
        assert_eq!(OffsetIndexEntry::from_bytes(&entry.to_bytes()), Ok(entry));
        assert_eq!((entry.last_offset(Offset(60)), entry.position()), (Offset(70), Position(1027)));
    }

    /// Kafka: `TimeIndexTest.testEntry`, `testParseEntry`, `testEntrySize`.
    #[test]
    fn a_time_entry_has_the_bytes_that_kafka_writes() {
        assert_eq!(TimeIndexEntry::SIZE, 12);
        let entry = TimeIndexEntry::new(Offset(60), 0x0102_0304, Offset(61)).unwrap();
        assert_eq!(entry.to_bytes(), [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 1]);
        assert_eq!(TimeIndexEntry::from_bytes(&entry.to_bytes()), Ok(entry));
        assert_eq!((entry.timestamp(), entry.last_offset(Offset(60))), (0x0102_0304, Offset(61)));
    }

    /// Kafka: `OffsetIndexTest.testEntryOverflow`, `TimeIndexTest.testEntryOverflow`.
    #[test]
    fn an_offset_too_far_from_the_base_is_refused() {
        let most = i64::from(i32::MAX);
        assert!(OffsetIndexEntry::new(Offset(5), Offset(5 + most), Position(0)).is_ok());
        let far = OffsetIndexEntry::new(Offset(5), Offset(6 + most), Position(0)).unwrap_err();
        assert_eq!((far.field, far.expected.as_str()), ("relative offset", "5 to 2147483652"));
        assert_eq!(OffsetIndexEntry::new(Offset(5), Offset(4), Position(0)).unwrap_err().found, "4");
        assert_eq!(TimeIndexEntry::new(Offset(5), 0, Offset(6 + most)).unwrap_err().field, "relative offset");
        let wide = OffsetIndexEntry::new(Offset(5), Offset(5), Position(1 << 31)).unwrap_err();
        assert_eq!((wide.field, wide.found.as_str()), ("position", "2147483648"));
    }

    /// Kafka: `OffsetIndexTest.testSanityLastOffsetEqualToBaseOffset`.
    #[test]
    fn the_last_offset_may_be_the_base_offset() {
        let entry = OffsetIndexEntry::new(Offset(60), Offset(60), Position(0)).unwrap();
        assert_eq!(entry.last_offset(Offset(60)), Offset(60));
    }

    #[test]
    fn a_negative_field_is_refused_with_its_place() {
        let error = OffsetIndexEntry::from_bytes(&[0, 0, 0, 1, 0xff, 0, 0, 0]).unwrap_err();
        assert_eq!((error.field, error.at), ("position", 4));
        let error = TimeIndexEntry::from_bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0]).unwrap_err();
        assert_eq!((error.field, error.at), ("relative offset", 8));
    }

    fn aborted() -> AbortedTxn {
        AbortedTxn {
            producer: ProducerId(4009),
            first_offset: Offset(7),
            last_offset: Offset(20),
            last_stable_offset: Offset(9),
        }
    }

    /// Kafka: `TransactionIndexTest.testAbortedTxnSerde`.
    #[test]
    fn an_aborted_transaction_has_the_bytes_that_kafka_writes() {
        let mut expected = [0; 34];
        (expected[8], expected[9], expected[17], expected[25], expected[33]) = (0x0f, 0xa9, 7, 20, 9);
        assert_eq!(aborted().to_bytes(), expected);
        assert_eq!(AbortedTxn::from_bytes(&expected), Ok(aborted()));
    }

    #[test]
    fn an_aborted_transaction_that_breaks_a_rule_is_refused() {
        let field = |change: fn(&mut AbortedTxn)| {
            let mut txn = aborted();
            change(&mut txn);
            AbortedTxn::from_bytes(&txn.to_bytes()).unwrap_err().field
        };
        assert_eq!(field(|txn| txn.producer = ProducerId(-1)), "producer id");
        assert_eq!(field(|txn| txn.first_offset = Offset(-1)), "first offset");
        assert_eq!(field(|txn| txn.last_offset = Offset(7)), "last offset");
        assert_eq!(field(|txn| txn.last_stable_offset = Offset(-1)), "last stable offset");
        let mut bytes = aborted().to_bytes();
        bytes[1] = 1;
        assert_eq!(AbortedTxn::from_bytes(&bytes).unwrap_err().field, "version");
    }

    proptest! {
        #[test]
        fn any_entry_survives_the_round_trip(base in 0..i64::MAX / 2, delta in 0..=i32::MAX, position in 0..1u64 << 31, timestamp: i64) {
            let offset = Offset(base + i64::from(delta));
            let entry = OffsetIndexEntry::new(Offset(base), offset, Position(position)).unwrap();
            prop_assert_eq!(OffsetIndexEntry::from_bytes(&entry.to_bytes()), Ok(entry));
            prop_assert_eq!((entry.last_offset(Offset(base)), entry.position()), (offset, Position(position)));
            let entry = TimeIndexEntry::new(Offset(base), timestamp, offset).unwrap();
            prop_assert_eq!(TimeIndexEntry::from_bytes(&entry.to_bytes()), Ok(entry));
            prop_assert_eq!((entry.timestamp(), entry.last_offset(Offset(base))), (timestamp, offset));
        }
    }
}
