//! Builds batches: for tests, tools, and embedders that write records of their own.
//!
//! Invariant: what [`BatchBuilder::build`] returns passes [`super::batch::RawBatch::check`] and holds the records that
//! were given, in that order; a mistake shows as an error of `build`, never as a batch that says something else.

use bytes::Bytes;

use super::batch::{
    Attributes, BatchHeader, CheckedBatch, HEADER_SIZE, LOG_OVERHEAD, MAGIC, RawBatch, TimestampType, seal,
};
use super::compression::{Codec, CompressionError, compress};
use super::cursor::put_varlong;
use crate::error::Malformed;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

#[cfg(test)]
mod tests;

/// A batch in the making. Each method takes the builder and gives it back.
///
/// ```
/// use oncelog::{BatchBuilder, ProducerEpoch, ProducerId, Sequence};
///
/// let batch = BatchBuilder::new()
///     .producer(ProducerId(7), ProducerEpoch(0), Sequence::ZERO)
///     .record(Some(b"key"), Some(b"value"))
///     .record_at(1_700_000_000_000, None, Some(b"later"))
///     .build()?;
/// assert_eq!(&batch[..8], [0; 8]);
/// # Ok::<(), oncelog::Malformed>(())
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    delete_horizon: Option<i64>,
    last_offset_delta: Option<i32>,
    records: Vec<OwnedRecord>,
    next_offset_delta: i64,
    timestamp: i64,
}

#[derive(Clone, Debug)]
struct OwnedRecord {
    timestamp: i64,
    offset_delta: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch: base offset 0, no leader epoch, no producer, no codec, timestamps 0 given by the client.
    #[must_use]
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::NONE,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self {
            header,
            codec: Codec::None,
            delete_horizon: None,
            last_offset_delta: None,
            records: Vec::new(),
            next_offset_delta: 0,
            timestamp: 0,
        }
    }

    /// Offset of the first record. A client leaves it 0.
    #[must_use]
    pub fn base_offset(mut self, offset: Offset) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Epoch of the leader. A client leaves it out.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.leader_epoch = epoch;
        self
    }

    /// The idempotent producer and the sequence of the first record.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: Sequence) -> Self {
        self = self.producer_without_sequence(id, epoch);
        self.header.base_sequence = base_sequence.value();
        self
    }

    /// A producer whose batch has no sequence, as a coordinator writes it.
    #[must_use]
    pub fn producer_without_sequence(mut self, id: ProducerId, epoch: ProducerEpoch) -> Self {
        self.header.producer_id = id.0;
        self.header.producer_epoch = epoch.0;
        self.header.base_sequence = -1;
        self
    }

    /// How the records are compressed.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Who gives the timestamps; clients give [`TimestampType::CreateTime`].
    #[must_use]
    pub fn timestamp_type(mut self, kind: TimestampType) -> Self {
        let others = self.header.attributes.0 & !Attributes::LOG_APPEND_TIME;
        self.header.attributes = Attributes(match kind {
            TimestampType::CreateTime => others,
            TimestampType::LogAppendTime => others | Attributes::LOG_APPEND_TIME,
        });
        self
    }

    /// Makes the batch part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes.0 |= Attributes::TRANSACTIONAL;
        self
    }

    /// Says that the records are control records. [`super::control::EndTxnMarker`] builds whole markers.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.header.attributes.0 |= Attributes::CONTROL;
        self
    }

    /// Sets the delete horizon, in milliseconds, as compaction does.
    #[must_use]
    pub fn delete_horizon(mut self, at: i64) -> Self {
        self.header.attributes.0 |= Attributes::DELETE_HORIZON;
        self.delete_horizon = Some(at);
        self
    }

    /// Adds a record with the timestamp of the one before (0 for the first).
    #[must_use]
    pub fn record(self, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        let timestamp = self.timestamp;
        self.record_with_headers(timestamp, key, value, &[])
    }

    /// Adds a record with a timestamp in milliseconds.
    #[must_use]
    pub fn record_at(self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.record_with_headers(timestamp, key, value, &[])
    }

    /// Adds a record with a timestamp in milliseconds and headers.
    #[must_use]
    pub fn record_with_headers(
        mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Self {
        let headers =
            headers.iter().map(|(key, value)| ((*key).to_owned(), value.map(<[u8]>::to_vec))).collect();
        self.records.push(OwnedRecord {
            timestamp,
            offset_delta: self.next_offset_delta,
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers,
        });
        self.next_offset_delta = self.next_offset_delta.saturating_add(1);
        self.timestamp = timestamp;
        self
    }

    /// Leaves out the next `count` offsets, as compaction does.
    #[must_use]
    pub fn skip_offsets(mut self, count: u32) -> Self {
        self.next_offset_delta = self.next_offset_delta.saturating_add(i64::from(count));
        self
    }

    /// Sets the last offset delta, which is otherwise that of the last record or of the last skipped offset.
    #[must_use]
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = Some(delta);
        self
    }

    /// The bytes of the batch. Without records it is what compaction leaves of one: a bare header.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if a field does not fit the format (a batch of more than 2147483647 bytes or offsets, timestamps
    /// too far apart, a negative offset, epoch or producer id), or if the codec is not built in.
    pub fn build(self) -> Result<Bytes, Malformed> {
        let mut header = self.header;
        let first = self.records.first().map_or(-1, |record| record.timestamp);
        header.base_timestamp = self.delete_horizon.unwrap_or(first);
        header.max_timestamp = self.records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
        header.record_count = narrow(self.records.len(), "record count")?;
        let last = narrow(self.next_offset_delta.saturating_sub(1).max(0), "last offset delta")?;
        header.last_offset_delta = self.last_offset_delta.unwrap_or(last);
        let mut payload = Vec::new();
        for record in &self.records {
            record.encode(header.base_timestamp, &mut payload)?;
        }
        if self.records.is_empty() {
            return checked(seal(header, &[]));
        }
        header.attributes.0 |= i16::from(self.codec.id());
        let payload = compress(self.codec, &payload).map_err(|error| match error {
            CompressionError::Malformed(malformed) => malformed,
            other => Malformed::new("codec", 0, "one that is built in", other),
        })?;
        narrow(payload.len().saturating_add(HEADER_SIZE - LOG_OVERHEAD), "batch length")?;
        checked(seal(header, &payload))
    }
}

fn checked(bytes: Bytes) -> Result<Bytes, Malformed> {
    RawBatch(bytes).check().map(CheckedBatch::into_bytes)
}

impl OwnedRecord {
    fn encode(&self, base_timestamp: i64, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let Some(timestamp_delta) = self.timestamp.checked_sub(base_timestamp) else {
            let expected = format!("less than 2^63 ms from {base_timestamp}");
            return Err(Malformed::new("timestamp", 0, expected, self.timestamp));
        };
        let mut body = vec![0];
        put_varlong(&mut body, timestamp_delta);
        put_varlong(&mut body, i64::from(narrow(self.offset_delta, "offset delta")?));
        put_optional(&mut body, self.key.as_deref(), "record key")?;
        put_optional(&mut body, self.value.as_deref(), "record value")?;
        put_varlong(&mut body, i64::from(narrow(self.headers.len(), "header count")?));
        for (key, value) in &self.headers {
            put_optional(&mut body, Some(key.as_bytes()), "header key")?;
            put_optional(&mut body, value.as_deref(), "header value")?;
        }
        put_varlong(out, i64::from(narrow(body.len(), "record length")?));
        out.append(&mut body);
        Ok(())
    }
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>, field: &'static str) -> Result<(), Malformed> {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, i64::from(narrow(bytes.len(), field)?));
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

/// A number that the format keeps in 31 bits.
fn narrow<T: TryInto<i32> + ToString + Copy>(value: T, field: &'static str) -> Result<i32, Malformed> {
    value.try_into().map_err(|_| Malformed::new(field, 0, "at most 2147483647", value))
}

/// The same batch of another producer, epoch or sequence, with its CRC: makes many batches out of one cheaply.
///
/// # Errors
///
/// [`Malformed`] if `batch` is not one batch.
pub fn restamp(
    batch: &[u8],
    id: ProducerId,
    epoch: ProducerEpoch,
    base_sequence: Sequence,
) -> Result<Bytes, Malformed> {
    let mut header = BatchHeader::parse(batch)?;
    if header.size() != batch.len() {
        return Err(Malformed::new("batch length", 8, header.size(), batch.len()));
    }
    header.producer_id = id.0;
    header.producer_epoch = epoch.0;
    header.base_sequence = base_sequence.value();
    Ok(seal(header, batch.get(HEADER_SIZE..).unwrap_or_default()))
}
