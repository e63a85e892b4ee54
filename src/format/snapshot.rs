//! Kafka's `.snapshot`, version 1: one batch of each producer. Written for Kafka and its tools; read where Kafka wrote.
//!
//! ```text
//! byte  size  field
//!    0     2  version = 1
//!    2     4  CRC-32C            over bytes 6 to the end
//!    6     4  number of entries
//!   10  46 n  entries:
//!         +0     8  producer id
//!         +8     2  producer epoch
//!        +10     4  last sequence               -1: the newest batch has none, or there is no batch
//!        +14     8  last offset                 -1: only a marker is known, no batch
//!        +22     4  last offset less first offset of that batch
//!        +26     8  timestamp, milliseconds
//!        +34     4  coordinator epoch           -1: no marker seen
//!        +38     8  first offset of the open transaction, -1: none
//!
//! an empty snapshot: 00 01  48 67 4b c7  00 00 00 00
//! ```
//!
//! Invariant: a parsed snapshot has exactly the stated number of entries under a CRC that covers them all, no producer
//! twice, and no entry whose fields contradict each other. Anything else is refused as a whole: the log is the better
//! source. The order of entries means nothing. Kafka's reader and writer are in `ProducerStateManager`.

use crc_fast::{CrcAlgorithm, Digest};
use hashbrown::HashSet;

use super::batch::crc32c;
use super::cursor::{Cursor, put};
use crate::error::Malformed;
use crate::types::{CoordinatorEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

#[cfg(test)]
mod tests;

/// The only version of the format.
pub const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const COUNT_AT: usize = CRC_AT + 4;
/// Bytes before the first entry.
pub const HEADER_SIZE: usize = COUNT_AT + 4;
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;

const _: () = assert!(HEADER_SIZE == 10 && ENTRY_SIZE == 46);

/// What Kafka keeps of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotEntry {
    /// Whose entry.
    pub producer: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// Its newest batch in that epoch, if there is one.
    pub last_batch: Option<SnapshotBatch>,
    /// Timestamp of the newest batch or marker, in milliseconds; Kafka expires the producer by it. -1: none.
    pub timestamp: i64,
    /// Epoch of the coordinator that wrote its newest marker.
    pub coordinator_epoch: CoordinatorEpoch,
    /// First offset of its open transaction.
    pub txn_first_offset: Option<Offset>,
}

/// The newest batch of a producer, as Kafka keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotBatch {
    /// Sequence of its last record; `None` for a batch that a coordinator wrote without sequence.
    pub last_sequence: Option<Sequence>,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Last offset less first offset: 0 or more.
    pub offset_delta: i32,
}

impl SnapshotBatch {
    /// Offset of its first record.
    #[must_use]
    pub fn first_offset(self) -> Offset {
        Offset(self.last_offset.0.saturating_sub(i64::from(self.offset_delta)))
    }

    /// Sequence of its first record, if it has any.
    #[must_use]
    pub fn first_sequence(self) -> Option<Sequence> {
        self.last_sequence.map(|last| last.wrapping_sub(self.offset_delta.unsigned_abs()))
    }
}

impl SnapshotEntry {
    /// The entry as it stands in the file.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_SIZE] {
        let (sequence, last_offset, delta) = match self.last_batch {
            Some(batch) => {
                (batch.last_sequence.map_or(-1, Sequence::value), batch.last_offset.0, batch.offset_delta)
            }
            None => (-1, -1, 0),
        };
        let txn = self.txn_first_offset.map_or(-1, |offset| offset.0);
        let mut bytes = [0; ENTRY_SIZE];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, self.producer.0.to_be_bytes());
        put(&mut rest, self.epoch.0.to_be_bytes());
        put(&mut rest, sequence.to_be_bytes());
        put(&mut rest, last_offset.to_be_bytes());
        put(&mut rest, delta.to_be_bytes());
        put(&mut rest, self.timestamp.to_be_bytes());
        put(&mut rest, self.coordinator_epoch.0.to_be_bytes());
        put(&mut rest, txn.to_be_bytes());
        bytes
    }

    fn parse(c: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let start = c.position() as u64;
        let producer = ProducerId(at_least(0, c.i64("producer id")?, "producer id", start)?);
        let epoch = ProducerEpoch(at_least(0, c.i16("producer epoch")?, "producer epoch", start + 8)?);
        let last_sequence = at_least(-1, c.i32("last sequence")?, "last sequence", start + 10)?;
        let last_offset = at_least(-1, c.i64("last offset")?, "last offset", start + 14)?;
        let offset_delta = at_least(0, c.i32("offset delta")?, "offset delta", start + 22)?;
        let timestamp = c.i64("timestamp")?;
        let coordinator = at_least(-1, c.i32("coordinator epoch")?, "coordinator epoch", start + 34)?;
        let txn_first =
            at_least(-1, c.i64("transaction's first offset")?, "transaction's first offset", start + 38)?;
        if last_offset >= 0 && i64::from(offset_delta) > last_offset {
            return Err(Malformed::new(
                "offset delta",
                start + 22,
                format!("at most {last_offset}"),
                offset_delta,
            ));
        }
        // Kafka makes a batch of these fields only if there is a last offset.
        let last_batch = (last_offset >= 0).then(|| SnapshotBatch {
            last_sequence: Sequence::new(last_sequence),
            last_offset: Offset(last_offset),
            offset_delta,
        });
        Ok(Self {
            producer,
            epoch,
            last_batch,
            timestamp,
            coordinator_epoch: CoordinatorEpoch(coordinator),
            txn_first_offset: (txn_first >= 0).then_some(Offset(txn_first)),
        })
    }
}

fn at_least<T: PartialOrd + ToString>(
    least: T,
    value: T,
    field: &'static str,
    at: u64,
) -> Result<T, Malformed> {
    if value >= least {
        Ok(value)
    } else {
        Err(Malformed::new(field, at, format!("{} or more", least.to_string()), value))
    }
}

/// Reads a whole snapshot.
///
/// # Errors
///
/// [`Malformed`] if the version is not 1, the CRC does not match, the stated number of entries is not exactly what
/// stands there, a producer has two entries, or an entry contradicts itself. Nothing is allocated by a number that the
/// bytes do not back.
pub fn parse(bytes: &[u8]) -> Result<Vec<SnapshotEntry>, Malformed> {
    let mut c = Cursor::new(bytes);
    let version = c.i16("version")?;
    if version != VERSION {
        return Err(Malformed::new("version", 0, VERSION, version));
    }
    let crc = c.u32("CRC")?;
    let found = crc32c(bytes.get(COUNT_AT..).unwrap_or_default());
    if crc != found {
        return Err(Malformed::new(
            "CRC",
            CRC_AT as u64,
            format!("{crc:#010x}"),
            format!("{found:#010x} over the bytes"),
        ));
    }
    let count = c.i32("number of entries")?;
    let backed = c.remaining() / ENTRY_SIZE;
    if usize::try_from(count) != Ok(backed) || !c.remaining().is_multiple_of(ENTRY_SIZE) {
        let expected = format!("{backed} (from {} bytes of entries)", c.remaining());
        return Err(Malformed::new("number of entries", COUNT_AT as u64, expected, count));
    }
    let mut entries = Vec::with_capacity(backed);
    let mut seen = HashSet::with_capacity(backed);
    while c.remaining() > 0 {
        let at = c.position() as u64;
        let entry = SnapshotEntry::parse(&mut c)?;
        if !seen.insert(entry.producer) {
            return Err(Malformed::new(
                "producer id",
                at,
                "one entry a producer",
                format!("{} again", entry.producer),
            ));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Checks that a parsed snapshot speaks only of what lies below the offset in its name.
///
/// # Errors
///
/// [`Malformed`] with the first batch or transaction at or above `snapshot_offset`.
pub fn validate_at(entries: &[SnapshotEntry], snapshot_offset: Offset) -> Result<(), Malformed> {
    let mut start = HEADER_SIZE as u64;
    for entry in entries {
        let expected = || format!("less than {snapshot_offset}, the snapshot's end");
        if let Some(batch) = entry.last_batch.filter(|batch| batch.last_offset >= snapshot_offset) {
            return Err(Malformed::new("last offset", start + 14, expected(), batch.last_offset));
        }
        if let Some(first) = entry.txn_first_offset.filter(|first| *first >= snapshot_offset) {
            return Err(Malformed::new("transaction's first offset", start + 38, expected(), first));
        }
        start = start.saturating_add(ENTRY_SIZE as u64);
    }
    Ok(())
}

/// Writes a snapshot as a stream of entries whose number need not be known before.
///
/// Entries go to the file from byte [`HEADER_SIZE`] on, in pieces of any size; the header, which [`Self::finish`]
/// gives, is written last. Until then the file begins with zeros, which no reader takes for a snapshot.
#[derive(Debug)]
pub struct SnapshotEncoder {
    entries: Digest,
    count: u64,
}

impl Default for SnapshotEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotEncoder {
    /// A snapshot without entries.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: Digest::new(CrcAlgorithm::Crc32Iscsi), count: 0 }
    }

    /// Appends the bytes of one more entry to `out`. The caller gives each producer once.
    pub fn push(&mut self, entry: &SnapshotEntry, out: &mut Vec<u8>) {
        let bytes = entry.to_bytes();
        self.entries.update(&bytes);
        self.count += 1;
        out.extend_from_slice(&bytes);
    }

    /// The header that belongs to the entries pushed so far.
    ///
    /// # Errors
    ///
    /// [`Malformed`] past 2147483647 entries, which the format cannot count.
    pub fn finish(self) -> Result<[u8; HEADER_SIZE], Malformed> {
        let Ok(count) = i32::try_from(self.count) else {
            return Err(Malformed::new(
                "number of entries",
                COUNT_AT as u64,
                "at most 2147483647",
                self.count,
            ));
        };
        // The CRC covers the count first, which is known last: join the two parts.
        let of_count = u64::from(crc32c(&count.to_be_bytes()));
        let entry_bytes = self.count.saturating_mul(ENTRY_SIZE as u64);
        let joined = crc_fast::checksum_combine(
            CrcAlgorithm::Crc32Iscsi,
            of_count,
            self.entries.finalize(),
            entry_bytes,
        );
        let mut header = [0; HEADER_SIZE];
        let mut rest = header.as_mut_slice();
        put(&mut rest, VERSION.to_be_bytes());
        put(&mut rest, ((joined & 0xffff_ffff) as u32).to_be_bytes());
        put(&mut rest, count.to_be_bytes());
        Ok(header)
    }
}

/// A whole snapshot in one piece.
///
/// # Errors
///
/// As [`SnapshotEncoder::finish`].
pub fn encode<'a>(entries: impl IntoIterator<Item = &'a SnapshotEntry>) -> Result<Vec<u8>, Malformed> {
    let mut bytes = vec![0; HEADER_SIZE];
    let mut encoder = SnapshotEncoder::new();
    for entry in entries {
        encoder.push(entry, &mut bytes);
    }
    let header = encoder.finish()?;
    if let Some(place) = bytes.first_chunk_mut() {
        *place = header;
    }
    Ok(bytes)
}
