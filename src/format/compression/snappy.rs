//! Snappy as Kafka's clients write it: blocks behind a header of sixteen bytes, or one bare block.
//!
//! Invariant: a block is decompressed only after the length that it states was found to fit the limit, so a block of a
//! few bytes cannot make a large allocation.

use super::CompressionError;
use crate::error::Malformed;
use crate::format::cursor::Cursor;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const VERSION: i32 = 1;
/// The block size of `snappy-java`.
const BLOCK_SIZE: usize = 32 * 1024;

pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut records = Vec::new();
    if !payload.starts_with(&MAGIC) {
        append_block(payload, 0, limit, &mut records)?;
        return Ok(records);
    }
    let mut c = Cursor::new(payload);
    while c.remaining() > 0 {
        if payload.get(c.position()..).is_some_and(|rest| rest.starts_with(&MAGIC)) {
            skip_header(&mut c)?;
            continue;
        }
        let at = c.position() as u64;
        let stated = c.i32("snappy block length")?;
        let Ok(length) = usize::try_from(stated) else {
            return Err(Malformed::new("snappy block length", at, "0 or more", stated).into());
        };
        append_block(c.take(length, "snappy block")?, at + 4, limit, &mut records)?;
    }
    Ok(records)
}

fn skip_header(c: &mut Cursor<'_>) -> Result<(), Malformed> {
    c.array::<{ MAGIC.len() }>("snappy magic")?;
    c.i32("snappy version")?;
    let at = c.position() as u64;
    let lowest = c.i32("snappy lowest version")?;
    if lowest > VERSION {
        return Err(Malformed::new("snappy lowest version", at, format!("at most {VERSION}"), lowest));
    }
    Ok(())
}

fn append_block(block: &[u8], at: u64, limit: usize, records: &mut Vec<u8>) -> Result<(), CompressionError> {
    let bad = |error: snap::Error| Malformed::new("snappy block", at, "a valid block", error);
    let start = records.len();
    let length = snap::raw::decompress_len(block).map_err(bad)?;
    let end =
        start.checked_add(length).filter(|end| *end <= limit).ok_or(CompressionError::TooLarge { limit })?;
    records.resize(end, 0);
    let place = records.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, place).map_err(bad)?;
    Ok(())
}

pub(super) fn compress(records: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in records.chunks(BLOCK_SIZE) {
        let bad = |error: snap::Error| Malformed::new("snappy block", 0, "room for it", error);
        let block = encoder.compress_vec(chunk).map_err(bad)?;
        let length = i32::try_from(block.len());
        let length = length.map_err(|_| Malformed::new("snappy block length", 0, "32 bits", block.len()))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
