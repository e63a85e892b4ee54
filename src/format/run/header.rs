//! The first part of a run: which stretch of the log it covers and what else was true at its end.
//!
//! ```text
//! size  field
//!    8  magic = "ONCERUNS"
//!    4  version = 1
//!    4  length of the header in bytes, a multiple of 4096
//!    8  number                 as in the file's name
//!    1  kind                   0 base, 1 delta
//!    8  from                   first offset covered
//!   53  to                     a log point: the place behind the last batch covered
//!    8  engine time, ms        when the run's entries were frozen
//!    8  number of entries
//!    4  number of blocks
//!    8  least producer id      -1 without entries
//!    8  greatest producer id   -1 without entries
//!    4  CRC-32 of the index
//!    4  number of leader epochs,          then 12 bytes each: epoch, first offset
//!    4  number of open transactions,      then 16 bytes each: producer id, first offset
//!    4  number of completed transactions, then 24 bytes each: producer id, first offset, offset of the marker
//!       zeros
//!    4  CRC-32                 the last bytes of the header, of all before
//! ```
//!
//! Invariant: written last, over zeros, so that a run whose writing was cut short has no magic.

use super::block::BLOCK_SIZE;
use super::index::INDEX_ENTRY_SIZE;
use crate::error::Malformed;
use crate::format::cursor::Cursor;
use crate::format::log_point::{LOG_POINT_SIZE, put_log_point, read_log_point};
use crate::types::{EngineTime, LeaderEpoch, LogPoint, Offset, ProducerId};

/// The header's length in bytes is a multiple of this.
pub const HEADER_UNIT: usize = 4096;

const MAGIC: [u8; 8] = *b"ONCERUNS";
const VERSION: u32 = 1;
const LENGTH_AT: u64 = 8 + 4;
const CRC_SIZE: usize = 4;
/// Everything but what the three lists hold.
const FIXED_SIZE: usize = 8 + 4 + 4 + 8 + 1 + 8 + LOG_POINT_SIZE + 8 + 8 + 4 + 8 + 8 + 4 + 3 * 4 + CRC_SIZE;
const EPOCH_SIZE: usize = 4 + 8;
const OPEN_TXN_SIZE: usize = 8 + 8;
const COMPLETED_TXN_SIZE: usize = 8 + 8 + 8;

/// What a run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunKind {
    /// Every producer known at its end, but for expired ones.
    Base,
    /// Every producer that changed between its two ends.
    Delta,
}

/// A transaction that was ended by a marker which is not replicated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CompletedTxn {
    /// Whose transaction.
    pub producer: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub marker_offset: Offset,
}

/// The header of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// Number in the file's name.
    pub number: u64,
    /// Base or delta.
    pub kind: RunKind,
    /// First offset covered.
    pub from: Offset,
    /// The place behind the last batch covered, with that batch's fingerprint.
    pub to: LogPoint,
    /// When the entries were frozen.
    pub engine_time: EngineTime,
    /// How many entries there are.
    pub entry_count: u64,
    /// How many blocks there are.
    pub block_count: u32,
    /// Least and greatest producer id; `None` if there are no entries.
    pub producers: Option<(ProducerId, ProducerId)>,
    /// CRC-32 of the index.
    pub index_crc: u32,
    /// All leader epochs of the log up to the end, with the first offset of each.
    pub leader_epochs: Vec<(LeaderEpoch, Offset)>,
    /// All transactions open at the end, with the first offset of each.
    pub open_txns: Vec<(ProducerId, Offset)>,
    /// Ended transactions whose marker was at or above the high watermark.
    pub completed_txns: Vec<CompletedTxn>,
}

impl RunHeader {
    /// Length of the encoded header in bytes. It depends on the three lists alone, so it is known before the first
    /// entry is written.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let lists = self.leader_epochs.len() * EPOCH_SIZE
            + self.open_txns.len() * OPEN_TXN_SIZE
            + self.completed_txns.len() * COMPLETED_TXN_SIZE;
        (FIXED_SIZE + lists).next_multiple_of(HEADER_UNIT)
    }

    /// The header's bytes, and their CRC, which names the run.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let length = self.encoded_len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&count(length).to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.push(match self.kind {
            RunKind::Base => 0,
            RunKind::Delta => 1,
        });
        out.extend_from_slice(&self.from.0.to_be_bytes());
        put_log_point(&mut out, &self.to);
        out.extend_from_slice(&self.engine_time.0.to_be_bytes());
        out.extend_from_slice(&self.entry_count.to_be_bytes());
        out.extend_from_slice(&self.block_count.to_be_bytes());
        let (least, greatest) = self.producers.map_or((-1, -1), |(least, greatest)| (least.0, greatest.0));
        out.extend_from_slice(&least.to_be_bytes());
        out.extend_from_slice(&greatest.to_be_bytes());
        out.extend_from_slice(&self.index_crc.to_be_bytes());
        out.extend_from_slice(&count(self.leader_epochs.len()).to_be_bytes());
        for (epoch, first) in &self.leader_epochs {
            out.extend_from_slice(&epoch.0.to_be_bytes());
            out.extend_from_slice(&first.0.to_be_bytes());
        }
        out.extend_from_slice(&count(self.open_txns.len()).to_be_bytes());
        for (producer, first) in &self.open_txns {
            out.extend_from_slice(&producer.0.to_be_bytes());
            out.extend_from_slice(&first.0.to_be_bytes());
        }
        out.extend_from_slice(&count(self.completed_txns.len()).to_be_bytes());
        for txn in &self.completed_txns {
            out.extend_from_slice(&txn.producer.0.to_be_bytes());
            out.extend_from_slice(&txn.first_offset.0.to_be_bytes());
            out.extend_from_slice(&txn.marker_offset.0.to_be_bytes());
        }
        out.resize(length.saturating_sub(CRC_SIZE), 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        (out, crc)
    }

    /// Length of the header in bytes, from its first [`HEADER_UNIT`] bytes; nothing else is checked but magic and
    /// version.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if these are not the first bytes of a run, or if the length is not a multiple of [`HEADER_UNIT`]
    /// or more than `limit`.
    pub fn peek_len(bytes: &[u8], limit: u64) -> Result<usize, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let magic: [u8; 8] = cursor.array("run magic")?;
        if magic != MAGIC {
            return Err(Malformed::new("run magic", 0, "ONCERUNS", magic.escape_ascii()));
        }
        let version = cursor.u32("run version")?;
        if version != VERSION {
            return Err(Malformed::new("run version", 8, VERSION, version));
        }
        let length = cursor.u32("length of the run header")?;
        usize::try_from(length)
            .ok()
            .filter(|bytes| *bytes > 0 && bytes.is_multiple_of(HEADER_UNIT) && u64::from(length) <= limit)
            .ok_or_else(|| {
                let expected = format!("a multiple of {HEADER_UNIT}, at most {limit}");
                Malformed::new("length of the run header", LENGTH_AT, expected, length)
            })
    }

    /// Reads a whole header; also gives its CRC, which names the run.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with the first thing that is wrong, in this order: magic, version, length, CRC, fields.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u32), Malformed> {
        let length = Self::peek_len(bytes, bytes.len() as u64)?;
        let Some((body, stored)) = bytes.split_last_chunk::<CRC_SIZE>().filter(|_| length == bytes.len())
        else {
            return Err(Malformed::new("length of the run header", LENGTH_AT, bytes.len(), length));
        };
        let crc = u32::from_be_bytes(*stored);
        let expected = crc32fast::hash(body);
        if crc != expected {
            let at = body.len() as u64;
            return Err(Malformed::new("header CRC", at, format!("{expected:08x}"), format!("{crc:08x}")));
        }
        let mut cursor = Cursor::new(body);
        cursor.take(8 + 4 + 4, "head of the run")?;
        let header = Self::fields(&mut cursor)?;
        let at = cursor.position() as u64;
        let padding = cursor.take(cursor.remaining(), "padding of the run header")?;
        if padding.iter().any(|byte| *byte != 0) || length != header.encoded_len() {
            return Err(Malformed::new("padding of the run header", at, "zeros to the next 4096", "more"));
        }
        Ok((header, crc))
    }

    /// Length of the whole file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.encoded_len() as u64 + u64::from(self.block_count) * (BLOCK_SIZE + INDEX_ENTRY_SIZE) as u64
    }

    fn fields(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let number = cursor.u64("run number")?;
        let kind_at = cursor.position() as u64;
        let kind = match cursor.u8("run kind")? {
            0 => RunKind::Base,
            1 => RunKind::Delta,
            other => return Err(Malformed::new("run kind", kind_at, "0 or 1", other)),
        };
        let from = Offset(cursor.i64("first offset of the run")?);
        let to = read_log_point(cursor)?;
        let engine_time = EngineTime(cursor.u64("engine time")?);
        let count_at = cursor.position() as u64;
        let entry_count = cursor.u64("number of entries")?;
        let block_count = cursor.u32("number of blocks")?;
        let least = ProducerId(cursor.i64("least producer id")?);
        let greatest = ProducerId(cursor.i64("greatest producer id")?);
        let index_crc = cursor.u32("index CRC")?;
        let producers = (entry_count > 0).then_some((least, greatest));
        if from > to.offset
            || (entry_count == 0) != (block_count == 0)
            || u64::from(block_count) > entry_count
            || least > greatest
        {
            let found = format!(
                "{entry_count} in {block_count} blocks, ids {least} to {greatest}, from {from} to {to:?}"
            );
            return Err(Malformed::new("number of entries", count_at, "counts and ranges that fit", found));
        }
        let leader_epochs = list(cursor, "leader epochs", EPOCH_SIZE, |c| {
            Ok((LeaderEpoch(c.i32("leader epoch")?), Offset(c.i64("first offset of a leader epoch")?)))
        })?;
        let open_txns = list(cursor, "open transactions", OPEN_TXN_SIZE, |c| {
            Ok((
                ProducerId(c.i64("producer of a transaction")?),
                Offset(c.i64("first offset of a transaction")?),
            ))
        })?;
        let completed_txns = list(cursor, "completed transactions", COMPLETED_TXN_SIZE, |c| {
            Ok(CompletedTxn {
                producer: ProducerId(c.i64("producer of a transaction")?),
                first_offset: Offset(c.i64("first offset of a transaction")?),
                marker_offset: Offset(c.i64("marker of a transaction")?),
            })
        })?;
        Ok(Self {
            number,
            kind,
            from,
            to,
            engine_time,
            entry_count,
            block_count,
            producers,
            index_crc,
            leader_epochs,
            open_txns,
            completed_txns,
        })
    }
}

fn list<T>(
    cursor: &mut Cursor<'_>,
    field: &'static str,
    size: usize,
    mut item: impl FnMut(&mut Cursor<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let at = cursor.position() as u64;
    let count = cursor.u32(field)?;
    let room = cursor.remaining() / size;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= room)
        .ok_or_else(|| Malformed::new(field, at, format!("at most {room}, as bytes are left"), count))?;
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        items.push(item(cursor)?);
    }
    Ok(items)
}

/// A count or length as it is written. More than 2^32 transactions do not fit into memory to begin with.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
