//! Records inside a batch, once its payload is decompressed.
//!
//! ```text
//! length            varint      bytes behind this field
//! attributes        1 byte      unused
//! timestamp delta   varlong     against the batch's base timestamp
//! offset delta      varint      against the batch's base offset
//! key length, key   varint, bytes; -1: no key
//! value length, value           -1: no value (a tombstone)
//! header count      varint
//!   key length, key             UTF-8, never absent
//!   value length, value         -1: no value
//!
//! key "a", no value, both deltas 0, no headers:   0e  00  00  00  02 61  01  00
//! ```
//!
//! Invariant: a record is exactly as long as it says, and a payload is exactly as many records as the batch header
//! says, with no byte behind them. Varints are zig-zag. Kafka's class is `DefaultRecord`.

use super::batch::{BatchHeader, TimestampType};
use super::cursor::Cursor;
use crate::error::Malformed;
use crate::types::Offset;

mod skim;
mod span;
#[cfg(test)]
mod tests;

use skim::Skimmed;
pub use span::{RecordSpan, for_each_span};

/// Fewest bytes that a record can have: seven fields of one byte each.
pub const SMALLEST_RECORD: usize = 7;

/// One record; key, value and headers point into the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unused by Kafka, kept as it stands.
    pub attributes: i8,
    /// Timestamp less the batch's base timestamp, in milliseconds.
    pub timestamp_delta: i64,
    /// Offset less the batch's base offset; 0 or more.
    pub offset_delta: i32,
    /// `None` and empty are two things.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone to compaction.
    pub value: Option<&'a [u8]>,
    /// In the order in which they stand; a key may appear twice.
    pub headers: Vec<RecordHeader<'a>>,
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordHeader<'a> {
    /// May be empty, never absent.
    pub key: &'a str,
    /// `None` and empty are two things.
    pub value: Option<&'a [u8]>,
}

impl Record<'_> {
    /// Offset of the record in the batch with this header.
    #[must_use]
    pub fn offset(&self, batch: &BatchHeader) -> Offset {
        batch.base_offset.saturating_add(i64::from(self.offset_delta))
    }

    /// Timestamp of the record in the batch with this header, in milliseconds.
    ///
    /// `LogAppendTime` gives every record the batch's max timestamp. A delete horizon stands in the place of the base
    /// timestamp, and compaction has turned the deltas to fit it, so the sum holds there too.
    #[must_use]
    pub fn timestamp(&self, batch: &BatchHeader) -> i64 {
        match batch.attributes.timestamp_type() {
            TimestampType::CreateTime => batch.base_timestamp.saturating_add(self.timestamp_delta),
            TimestampType::LogAppendTime => batch.max_timestamp,
        }
    }
}

/// Reads the next record.
///
/// # Errors
///
/// [`Malformed`] with the byte, counted from the start of the cursor, if the record is cut off, is not exactly as long
/// as it says, or has a header key that is absent or not UTF-8.
pub fn parse_record<'a>(payload: &mut Cursor<'a>) -> Result<Record<'a>, Malformed> {
    let mut c = record_body(payload)?;
    let attributes = c.i8("record attributes")?;
    let timestamp_delta = c.varlong("timestamp delta")?;
    let offset_delta = length(&mut c, "offset delta")?;
    let key = optional(&mut c, "record key")?;
    let value = optional(&mut c, "record value")?;
    let headers = parse_headers(&mut c)?;
    c.finish("record length")?;
    Ok(Record { attributes, timestamp_delta, offset_delta, key, value, headers })
}

/// All records of a decompressed payload, one after the other.
///
/// Yields exactly the stated number of records, or an error as the last item; bytes behind the last record are an
/// error too. Offset deltas are not compared: compaction leaves gaps.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    payload: Cursor<'a>,
    left: u32,
    done: bool,
}

impl<'a> Records<'a> {
    /// The records of `payload`, which the batch header says are `record_count`; a negative count is none.
    #[must_use]
    pub fn new(payload: &'a [u8], record_count: i32) -> Self {
        Self { payload: Cursor::new(payload), left: u32::try_from(record_count).unwrap_or(0), done: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = if self.left > 0 {
            self.left -= 1;
            Some(parse_record(&mut self.payload))
        } else {
            self.done = true;
            self.payload.clone().finish("record count").err().map(Err)
        };
        self.done |= matches!(item, Some(Err(_)));
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more than the records: bytes behind the last one make an error.
        (0, usize::try_from(self.left).ok().and_then(|left| left.checked_add(1)).filter(|_| !self.done))
    }
}

impl std::iter::FusedIterator for Records<'_> {}

/// What a validator needs to know of records that it does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// Smallest timestamp delta; 0 if there are no records.
    pub min_timestamp_delta: i64,
    /// Largest timestamp delta; 0 if there are no records.
    pub max_timestamp_delta: i64,
    /// Offset delta of the first record without a key, which a compacted topic refuses.
    pub first_without_key: Option<i32>,
}

/// Goes through a decompressed payload without keeping keys and values: exactly `record_count` records, no byte behind
/// them, offset deltas 0, 1, 2 and so on.
///
/// It accepts exactly what [`Records`] accepts, as long as the offset deltas are consecutive; it runs on each append,
/// so records that hold take a short way (the module `skim`).
///
/// # Errors
///
/// [`Malformed`] with the first field that breaks a rule.
pub fn validate_records(payload: &[u8], record_count: i32) -> Result<RecordSummary, Malformed> {
    if record_count < 0 {
        return Err(Malformed::new("record count", 0, "0 or more", record_count));
    }
    let mut at = 0;
    let mut timestamps: Option<(i64, i64)> = None;
    let mut first_without_key = None;
    for expected in 0..record_count {
        let record = match skim::record(payload, at, expected) {
            Some(record) => record,
            None => careful(payload, at, expected)?,
        };
        let (least, most) = timestamps.unwrap_or((record.timestamp_delta, record.timestamp_delta));
        timestamps = Some((least.min(record.timestamp_delta), most.max(record.timestamp_delta)));
        if !record.has_key && first_without_key.is_none() {
            first_without_key = Some(expected);
        }
        at = record.end;
    }
    starting_at(payload, at)?.finish("record count")?;
    let (min_timestamp_delta, max_timestamp_delta) = timestamps.unwrap_or_default();
    Ok(RecordSummary { min_timestamp_delta, max_timestamp_delta, first_without_key })
}

/// The full reader's word on a record that the short way did not take.
#[cold]
fn careful(payload: &[u8], at: usize, expected_delta: i32) -> Result<Skimmed, Malformed> {
    let mut c = starting_at(payload, at)?;
    let record = parse_record(&mut c)?;
    if record.offset_delta != expected_delta {
        let mut fields = starting_at(payload, at)?;
        fields.varint("record length")?;
        fields.i8("record attributes")?;
        fields.varlong("timestamp delta")?;
        let at = fields.position() as u64;
        return Err(Malformed::new("offset delta", at, expected_delta, record.offset_delta));
    }
    Ok(Skimmed { timestamp_delta: record.timestamp_delta, has_key: record.key.is_some(), end: c.position() })
}

fn starting_at(payload: &[u8], at: usize) -> Result<Cursor<'_>, Malformed> {
    let mut c = Cursor::new(payload);
    c.take(at, "records")?;
    Ok(c)
}

/// A cursor that ends where the record says it ends, so that no field reaches into the next one.
#[inline]
fn record_body<'a>(payload: &mut Cursor<'a>) -> Result<Cursor<'a>, Malformed> {
    let size = length(payload, "record length")?;
    payload.split(usize_of(size), "record")
}

fn parse_headers<'a>(c: &mut Cursor<'a>) -> Result<Vec<RecordHeader<'a>>, Malformed> {
    (0..header_count(c)?).map(|_| parse_header(c)).collect()
}

#[inline]
fn header_count(c: &mut Cursor<'_>) -> Result<i32, Malformed> {
    let at = c.position();
    let count = length(c, "header count")?;
    // Each header has two lengths, so a larger count is a lie; it would also be the size of an allocation.
    let most = c.remaining() / 2;
    if usize_of(count) > most {
        return Err(Malformed::new("header count", at as u64, format!("at most {most}"), count));
    }
    Ok(count)
}

fn parse_header<'a>(c: &mut Cursor<'a>) -> Result<RecordHeader<'a>, Malformed> {
    let size = length(c, "header key length")?;
    let at = c.position();
    let key = std::str::from_utf8(c.take(usize_of(size), "header key")?);
    let key =
        key.map_err(|e| Malformed::new("header key", (at + e.valid_up_to()) as u64, "UTF-8", "other bytes"))?;
    Ok(RecordHeader { key, value: optional(c, "header value")? })
}

/// A length that must not be absent.
#[inline]
fn length(c: &mut Cursor<'_>, field: &'static str) -> Result<i32, Malformed> {
    let at = c.position();
    let value = c.varint(field)?;
    if value < 0 { Err(Malformed::new(field, at as u64, "0 or more", value)) } else { Ok(value) }
}

/// Bytes behind their length; -1 says that there are none.
#[inline]
fn optional<'a>(c: &mut Cursor<'a>, field: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
    let at = c.position();
    match c.varint(field)? {
        -1 => Ok(None),
        size if size < -1 => Err(Malformed::new(field, at as u64, "a length of -1 or more", size)),
        size => c.take(usize_of(size), field).map(Some),
    }
}

/// A length that is known not to be negative. More than the address space can hold is more than any slice has left.
#[inline]
fn usize_of(length: i32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
