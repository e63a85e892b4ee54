//! Record batch v2: the 61-byte header and what must hold between its fields and the bytes behind it.
//!
//! ```text
//! byte  size  field                 in CRC
//!    0     8  base offset           no     given by the leader
//!    8     4  batch length          no     bytes behind this field
//!   12     4  partition leader epoch no    stamped by the leader
//!   16     1  magic = 2             no
//!   17     4  CRC-32C               -      over bytes 21 to the end
//!   21     2  attributes            yes    0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//!   23     4  last offset delta     yes    also the last sequence delta; compaction leaves it
//!   27     8  base timestamp        yes
//!   35     8  max timestamp         yes
//!   43     8  producer id           yes    -1: none
//!   51     2  producer epoch        yes    -1: none
//!   53     4  base sequence         yes    -1: none
//!   57     4  record count          yes    0 only after compaction
//!   61     -  records               yes    one compressed stream if a codec is set
//! ```
//!
//! Invariant: a [`CheckedBatch`] is exactly one batch whose length, magic and CRC were proven; only this module makes
//! one. The source of the format is Kafka's `DefaultRecordBatch`.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use super::cursor::{Cursor, put};
use crate::error::Malformed;
use crate::types::{Fingerprint, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

#[cfg(test)]
mod tests;

/// Bytes before the batch length counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Where the batch length stands.
pub const LENGTH_AT: usize = 8;
/// Where the leader epoch stands.
pub const LEADER_EPOCH_AT: usize = LENGTH_AT + 4;
/// Where the magic stands.
pub const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
/// Where the CRC stands.
pub const CRC_AT: usize = MAGIC_AT + 1;
/// Where the bytes that the CRC covers begin.
pub const ATTRIBUTES_AT: usize = CRC_AT + 4;
/// Where the largest timestamp stands.
pub const MAX_TIMESTAMP_AT: usize = ATTRIBUTES_AT + 2 + 4 + 8;
/// Size of the header: also the size of the smallest batch.
pub const HEADER_SIZE: usize = MAX_TIMESTAMP_AT + 8 + 8 + 2 + 4 + 4;
/// The only magic that is written here.
pub const MAGIC: i8 = 2;

const _: () = assert!(HEADER_SIZE == 61 && ATTRIBUTES_AT == 21);

/// What a header says about timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// Given by the client.
    #[default]
    CreateTime,
    /// Given by the broker: every record has the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    /// Bit 3: timestamps are the broker's.
    pub const LOG_APPEND_TIME: i16 = 0x08;
    /// Bit 4: part of a transaction.
    pub const TRANSACTIONAL: i16 = 0x10;
    /// Bit 5: control records.
    pub const CONTROL: i16 = 0x20;
    /// Bit 6: the base timestamp is a delete horizon.
    pub const DELETE_HORIZON: i16 = 0x40;

    /// Codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd, the rest unknown.
    #[must_use]
    pub fn codec(self) -> u8 {
        (self.0.cast_unsigned() & 0x07) as u8
    }
    /// Who gave the timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }
    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }
    /// Whether the batch holds control records.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }
    /// Whether the base timestamp is a delete horizon (set by compaction).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// The header of a batch, field by field as it stands on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes behind the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// Version of the format.
    pub magic: i8,
    /// CRC-32C as stored.
    pub crc: u32,
    /// Attribute bits.
    pub attributes: Attributes,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, or the delete horizon; milliseconds.
    pub base_timestamp: i64,
    /// Largest timestamp; milliseconds.
    pub max_timestamp: i64,
    /// Producer id as stored; -1 for none.
    pub producer_id: i64,
    /// Producer epoch as stored; -1 for none.
    pub producer_epoch: i16,
    /// First sequence as stored; -1 for none.
    pub base_sequence: i32,
    /// Number of records.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header from the first [`HEADER_SIZE`] bytes and checks what one header can show by itself: magic 2, a
    /// length that holds the header, a delta and count that are not negative, sequences that fit the producer id.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with the first field that breaks a rule, its byte counted from the start of the batch.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let bytes: [u8; HEADER_SIZE] = cursor.array("batch header")?;
        Self::from_array(&bytes)
    }

    /// [`Self::parse`] of exactly one header.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    #[inline]
    pub fn from_array(bytes: &[u8; HEADER_SIZE]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(bytes);
        let header = Self {
            base_offset: Offset(c.i64("base offset")?),
            batch_length: c.i32("batch length")?,
            leader_epoch: LeaderEpoch(c.i32("partition leader epoch")?),
            magic: c.i8("magic")?,
            crc: c.u32("CRC")?,
            attributes: Attributes(c.i16("attributes")?),
            last_offset_delta: c.i32("last offset delta")?,
            base_timestamp: c.i64("base timestamp")?,
            max_timestamp: c.i64("max timestamp")?,
            producer_id: c.i64("producer id")?,
            producer_epoch: c.i16("producer epoch")?,
            base_sequence: c.i32("base sequence")?,
            record_count: c.i32("record count")?,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Malformed> {
        // Magic first: another magic has another layout, so every other complaint would be noise.
        if self.magic != MAGIC {
            return Err(Malformed::new("magic", MAGIC_AT as u64, MAGIC, self.magic));
        }
        if !usize::try_from(self.batch_length).is_ok_and(|length| length >= HEADER_SIZE - LOG_OVERHEAD) {
            return Err(Malformed::new("batch length", LENGTH_AT as u64, "at least 49", self.batch_length));
        }
        if self.base_offset.0 < 0 {
            return Err(Malformed::new("base offset", 0, "0 or more", self.base_offset));
        }
        if self.last_offset_delta < 0 {
            return Err(Malformed::new("last offset delta", 23, "0 or more", self.last_offset_delta));
        }
        if self.base_offset.checked_add(i64::from(self.last_offset_delta) + 1).is_none() {
            return Err(Malformed::new("base offset", 0, "room for the last offset", self.base_offset));
        }
        if self.record_count < 0 || i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1 {
            let most = i64::from(self.last_offset_delta) + 1;
            return Err(Malformed::new("record count", 57, format!("0 to {most}"), self.record_count));
        }
        if self.producer_id >= 0 && self.producer_epoch < 0 {
            return Err(Malformed::new(
                "producer epoch",
                51,
                "0 or more beside a producer id",
                self.producer_epoch,
            ));
        }
        Ok(())
    }

    /// Size of the whole batch, in bytes.
    #[must_use]
    #[inline]
    pub fn size(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record.
    #[must_use]
    #[inline]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset behind the last record.
    #[must_use]
    #[inline]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    /// The producer, if the batch has one.
    #[must_use]
    #[inline]
    pub fn producer(&self) -> Option<(ProducerId, ProducerEpoch)> {
        (self.producer_id >= 0).then_some((ProducerId(self.producer_id), ProducerEpoch(self.producer_epoch)))
    }

    /// First and last sequence, if the batch has any.
    #[must_use]
    #[inline]
    pub fn sequences(&self) -> Option<(Sequence, Sequence)> {
        let first = Sequence::new(self.base_sequence)?;
        Some((first, first.wrapping_add(self.last_offset_delta.unsigned_abs())))
    }

    /// What tells this batch from every other.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            last_offset: self.last_offset(),
            leader_epoch: self.leader_epoch,
            record_count: self.record_count,
            crc: self.crc,
        }
    }

    /// The header as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let mut rest = bytes.as_mut_slice();
        put(&mut rest, self.base_offset.0.to_be_bytes());
        put(&mut rest, self.batch_length.to_be_bytes());
        put(&mut rest, self.leader_epoch.0.to_be_bytes());
        put(&mut rest, self.magic.to_be_bytes());
        put(&mut rest, self.crc.to_be_bytes());
        put(&mut rest, self.attributes.0.to_be_bytes());
        put(&mut rest, self.last_offset_delta.to_be_bytes());
        put(&mut rest, self.base_timestamp.to_be_bytes());
        put(&mut rest, self.max_timestamp.to_be_bytes());
        put(&mut rest, self.producer_id.to_be_bytes());
        put(&mut rest, self.producer_epoch.to_be_bytes());
        put(&mut rest, self.base_sequence.to_be_bytes());
        put(&mut rest, self.record_count.to_be_bytes());
        bytes
    }
}

/// CRC-32C (Castagnoli), the checksum of batches and snapshots.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    (crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) & 0xffff_ffff) as u32
}

/// Bytes that claim to be one batch. Nothing is known of them yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBatch(pub Bytes);

impl RawBatch {
    /// Proves frame and CRC, and consumes the weaker type.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are short, long, of another magic, inconsistent, or do not match their CRC.
    pub fn check(self) -> Result<CheckedBatch, Malformed> {
        let header = BatchHeader::parse(&self.0)?;
        if header.size() != self.0.len() {
            let expected =
                format!("{} (the bytes given, less 12)", self.0.len().saturating_sub(LOG_OVERHEAD));
            return Err(Malformed::new("batch length", LENGTH_AT as u64, expected, header.batch_length));
        }
        verify_crc(&header, &self.0)?;
        Ok(CheckedBatch { header, bytes: self.0 })
    }
}

/// Compares the CRC of a batch's bytes with the one in its header.
///
/// # Errors
///
/// [`Malformed`] with both values.
#[inline]
pub fn verify_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), Malformed> {
    let covered =
        Cursor::new(batch).take(ATTRIBUTES_AT, "batch header").map(|_| batch.get(ATTRIBUTES_AT..))?;
    let found = crc32c(covered.unwrap_or_default());
    if found == header.crc {
        Ok(())
    } else {
        Err(Malformed::new(
            "CRC",
            CRC_AT as u64,
            format!("{:#010x}", header.crc),
            format!("{found:#010x} over the bytes"),
        ))
    }
}

/// Exactly one batch whose frame and CRC are proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl CheckedBatch {
    /// The parsed header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch, without the proof.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes behind the header: records, possibly compressed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_SIZE..).unwrap_or_default()
    }

    /// The first 21 bytes with offsets and leader epoch as the leader gives them; no CRC covers what changes.
    #[must_use]
    #[inline]
    pub fn stamped_prefix(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; ATTRIBUTES_AT] {
        let mut prefix = [0; ATTRIBUTES_AT];
        if let Some(head) = self.bytes.first_chunk::<ATTRIBUTES_AT>() {
            prefix = *head;
        }
        prefix[..LENGTH_AT].copy_from_slice(&base_offset.0.to_be_bytes());
        prefix[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.0.to_be_bytes());
        prefix
    }

    /// The same batch with broker timestamps (`LogAppendTime`): the bit, the max timestamp and the CRC are rewritten.
    #[must_use]
    pub fn with_log_append_time(self, now_ms: i64) -> Self {
        let attributes = Attributes(self.header.attributes.0 | Attributes::LOG_APPEND_TIME);
        let header = BatchHeader { attributes, max_timestamp: now_ms, ..self.header };
        self.with_header(header)
    }

    /// The same batch with the max timestamp that its records have, and the CRC that follows.
    #[must_use]
    pub fn with_max_timestamp(self, max_timestamp: i64) -> Self {
        let header = BatchHeader { max_timestamp, ..self.header };
        self.with_header(header)
    }

    fn with_header(&self, header: BatchHeader) -> Self {
        let (header, bytes) = join(header, self.payload());
        Self { header, bytes }
    }
}

/// Puts a header before its payload; batch length and CRC are computed, whatever the header says.
///
/// A payload of more than 2147483598 bytes does not fit the length field: the length is then the largest there is, and
/// the batch does not pass [`RawBatch::check`].
#[must_use]
pub fn seal(header: BatchHeader, payload: &[u8]) -> Bytes {
    join(header, payload).1
}

fn join(mut header: BatchHeader, payload: &[u8]) -> (BatchHeader, Bytes) {
    let behind_length = payload.len().saturating_add(HEADER_SIZE - LOG_OVERHEAD);
    header.batch_length = i32::try_from(behind_length).unwrap_or(i32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_SIZE.saturating_add(payload.len()));
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(payload);
    header.crc = crc32c(bytes.get(ATTRIBUTES_AT..).unwrap_or_default());
    if let Some(crc) = bytes.get_mut(CRC_AT..ATTRIBUTES_AT) {
        crc.copy_from_slice(&header.crc.to_be_bytes());
    }
    (header, bytes.into())
}
