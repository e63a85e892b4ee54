//! Batches and checksums read a second time, as plainly as possible.
//!
//! Invariant: no function of the library that reads bytes is called here. Slow is fine; clever is not.

use oncelog::format::batch::Attributes;
use oncelog::format::record::Record;
use oncelog::{BatchHeader, LeaderEpoch, Offset};

const CASTAGNOLI: u32 = 0x82f6_3b78;
const IEEE: u32 = 0xedb8_8320;

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0u8;
    loop {
        // Widened by hand, because `From` is not there in a constant.
        let mut rest = u32::from_le_bytes([n, 0, 0, 0]);
        let mut bit = 0;
        while bit < 8 {
            rest = if rest & 1 == 1 { (rest >> 1) ^ polynomial } else { rest >> 1 };
            bit += 1;
        }
        table[n as usize] = rest;
        if n == u8::MAX {
            return table;
        }
        n += 1;
    }
}

static CASTAGNOLI_TABLE: [u32; 256] = table(CASTAGNOLI);
static IEEE_TABLE: [u32; 256] = table(IEEE);

fn crc(table: &[u32; 256], bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |rest: u32, byte| {
        let [low, ..] = rest.to_le_bytes();
        (rest >> 8) ^ table[usize::from(low ^ byte)]
    })
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc(&CASTAGNOLI_TABLE, bytes)
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc(&IEEE_TABLE, bytes)
}

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Writes the CRC that the bytes ask for, if they are as long as a header.
pub(crate) fn repair_batch(bytes: &mut [u8]) {
    if bytes.len() >= 61 {
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The header at the front of `bytes`, if it holds by itself.
pub(crate) fn header(bytes: &[u8]) -> Option<BatchHeader> {
    let header = BatchHeader {
        base_offset: Offset(i64::from_be_bytes(array(bytes, 0)?)),
        batch_length: i32::from_be_bytes(array(bytes, 8)?),
        leader_epoch: LeaderEpoch(i32::from_be_bytes(array(bytes, 12)?)),
        magic: i8::from_be_bytes(array(bytes, 16)?),
        crc: u32::from_be_bytes(array(bytes, 17)?),
        attributes: Attributes(i16::from_be_bytes(array(bytes, 21)?)),
        last_offset_delta: i32::from_be_bytes(array(bytes, 23)?),
        base_timestamp: i64::from_be_bytes(array(bytes, 27)?),
        max_timestamp: i64::from_be_bytes(array(bytes, 35)?),
        producer_id: i64::from_be_bytes(array(bytes, 43)?),
        producer_epoch: i16::from_be_bytes(array(bytes, 51)?),
        base_sequence: i32::from_be_bytes(array(bytes, 53)?),
        record_count: i32::from_be_bytes(array(bytes, 57)?),
    };
    let offsets = i128::from(header.last_offset_delta) + 1;
    let holds = header.magic == 2
        && header.batch_length >= 49
        && header.base_offset.0 >= 0
        && header.last_offset_delta >= 0
        && i128::from(header.base_offset.0) + offsets <= i128::from(i64::MAX)
        && header.record_count >= 0
        && i128::from(header.record_count) <= offsets
        && (header.producer_id < 0 || header.producer_epoch >= 0);
    holds.then_some(header)
}

/// The header of `bytes`, if they are exactly one batch with a right CRC.
pub(crate) fn batch(bytes: &[u8]) -> Option<BatchHeader> {
    let header = header(bytes)?;
    let length = usize::try_from(header.batch_length).ok()?;
    (bytes.len() == length + 12 && crc32c(&bytes[21..]) == header.crc).then_some(header)
}

/// A record that owns what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnedRecord {
    pub(crate) attributes: i8,
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub(crate) fn of(record: &Record<'_>) -> Self {
        let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        Self {
            attributes: record.attributes,
            timestamp_delta: record.timestamp_delta,
            offset_delta: record.offset_delta,
            key: own(record.key),
            value: own(record.value),
            headers: record.headers.iter().map(|header| (header.key.to_owned(), own(header.value))).collect(),
        }
    }
}

/// The records that can be read one after the other, and whether they are `count` and nothing follows them.
pub(crate) fn records(mut payload: &[u8], count: i32) -> (Vec<OwnedRecord>, bool) {
    let mut records = Vec::new();
    for _ in 0..count.max(0) {
        let Some(record) = record(&mut payload) else { return (records, false) };
        records.push(record);
    }
    (records, payload.is_empty())
}

fn record(payload: &mut &[u8]) -> Option<OwnedRecord> {
    let length = varint(payload)?;
    let mut body = take(payload, length)?;
    let body = &mut body;
    let [attributes, ..] = *take(body, 1)? else { return None };
    let mut record = OwnedRecord {
        attributes: i8::from_be_bytes([attributes]),
        timestamp_delta: varlong(body)?,
        offset_delta: varint(body).filter(|delta| *delta >= 0)?,
        key: optional(body)?,
        value: optional(body)?,
        headers: Vec::new(),
    };
    for _ in 0..varint(body).filter(|count| *count >= 0)? {
        let length = varint(body)?;
        let key = String::from_utf8(take(body, length)?.to_vec()).ok()?;
        record.headers.push((key, optional(body)?));
    }
    body.is_empty().then_some(record)
}

/// Bytes behind their length; the inner `None` says that there are none.
fn optional(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    match varint(bytes)? {
        -1 => Some(None),
        length => take(bytes, length).map(|taken| Some(taken.to_vec())),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: i32) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(varlong(bytes)?).ok()
}

/// Seven bits a byte, lowest first, into a number that is surely wide enough.
fn varlong(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u128;
    for place in 0..10 {
        let [byte, ..] = *take(bytes, 1)? else { return None };
        value |= u128::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            let value = u64::try_from(value).ok()?;
            let half = i64::try_from(value / 2).ok()?;
            return Some(if value % 2 == 0 { half } else { -half - 1 });
        }
    }
    None
}
