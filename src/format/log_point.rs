//! A place in the log with the batch that ends there, as the manifest, the watermark and the runs keep it.
//!
//! ```text
//! byte  size  field
//!    0     8  segment               base offset of the segment that holds the place
//!    8     8  position              the byte behind the batch that ends here
//!   16     8  offset                the offset that the next batch gets
//!   24     1  has last batch        0 or 1; with 0 all that follows is zero
//!   25     8  last batch: position  its first byte in that segment
//!   33     8  last batch: last offset
//!   41     4  last batch: leader epoch
//!   45     4  last batch: record count
//!   49     4  last batch: CRC-32C
//! ```
//!
//! Invariant: 53 bytes, whatever the point, so that what stands behind it never moves; one point has one spelling.

use super::cursor::Cursor;
use crate::error::Malformed;
use crate::types::{Fingerprint, LeaderEpoch, LogPoint, Offset, Position};

/// Size of an encoded [`LogPoint`] in bytes.
pub const LOG_POINT_SIZE: usize = 8 + 8 + 8 + 1 + 8 + FINGERPRINT_SIZE;

const FINGERPRINT_SIZE: usize = 8 + 4 + 4 + 4;

const _: () = assert!(LOG_POINT_SIZE == 53);

/// Appends the [`LOG_POINT_SIZE`] bytes of `point` to `out`.
pub fn put_log_point(out: &mut Vec<u8>, point: &LogPoint) {
    debug_assert!(in_order(point), "{point:?}");
    out.extend_from_slice(&point.segment.0.to_be_bytes());
    out.extend_from_slice(&point.position.0.to_be_bytes());
    out.extend_from_slice(&point.offset.0.to_be_bytes());
    match &point.last_batch {
        None => out.extend_from_slice(&[0; 1 + 8 + FINGERPRINT_SIZE]),
        Some((position, fingerprint)) => {
            out.push(1);
            out.extend_from_slice(&position.0.to_be_bytes());
            out.extend_from_slice(&fingerprint.last_offset.0.to_be_bytes());
            out.extend_from_slice(&fingerprint.leader_epoch.0.to_be_bytes());
            out.extend_from_slice(&fingerprint.record_count.to_be_bytes());
            out.extend_from_slice(&fingerprint.crc.to_be_bytes());
        }
    }
}

/// Reads a point.
///
/// # Errors
///
/// [`Malformed`] if bytes are missing, if the flag is neither 0 nor 1, if something stands where a flag says that
/// nothing does, or if the numbers cannot be those of one place: the segment begins behind the offset, or the last
/// batch does not end here.
pub fn read_log_point(cursor: &mut Cursor<'_>) -> Result<LogPoint, Malformed> {
    let start = cursor.position() as u64;
    let segment = Offset(cursor.i64("segment of a log point")?);
    let position = Position(cursor.u64("position of a log point")?);
    let offset = Offset(cursor.i64("offset of a log point")?);
    let flag = cursor.u8("last batch flag of a log point")?;
    let batch_position = Position(cursor.u64("position of the last batch")?);
    let fingerprint = Fingerprint {
        last_offset: Offset(cursor.i64("last offset of the last batch")?),
        leader_epoch: LeaderEpoch(cursor.i32("leader epoch of the last batch")?),
        record_count: cursor.i32("record count of the last batch")?,
        crc: cursor.u32("CRC of the last batch")?,
    };
    let nothing =
        Fingerprint { last_offset: Offset::ZERO, leader_epoch: LeaderEpoch(0), record_count: 0, crc: 0 };
    let last_batch = match flag {
        0 if batch_position == Position::ZERO && fingerprint == nothing => None,
        0 => {
            let found = format!("{fingerprint:?} at {batch_position:?}");
            return Err(Malformed::new(
                "last batch of a log point",
                start,
                "zeros, as none is flagged",
                found,
            ));
        }
        1 => Some((batch_position, fingerprint)),
        _ => return Err(Malformed::new("last batch flag of a log point", start, "0 or 1", flag)),
    };
    let point = LogPoint { segment, position, offset, last_batch };
    if in_order(&point) {
        Ok(point)
    } else {
        Err(Malformed::new("log point", start, "a place between two batches", format!("{point:?}")))
    }
}

fn in_order(point: &LogPoint) -> bool {
    let inside = point.segment.0 >= 0 && point.segment <= point.offset;
    inside
        && match &point.last_batch {
            None => point.position == Position::ZERO,
            Some((position, batch)) => *position < point.position && batch.last_offset < point.offset,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point() -> LogPoint {
        LogPoint {
            segment: Offset(60),
            position: Position(4321),
            offset: Offset(77),
            last_batch: Some((
                Position(4200),
                Fingerprint {
                    last_offset: Offset(76),
                    leader_epoch: LeaderEpoch(-1),
                    record_count: 3,
                    crc: 0xdead_beef,
                },
            )),
        }
    }

    fn decode(bytes: &[u8]) -> Result<LogPoint, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let point = read_log_point(&mut cursor)?;
        cursor.finish("log point")?;
        Ok(point)
    }

    #[test]
    fn a_point_takes_53_bytes_and_survives_the_round_trip_with_and_without_a_batch() {
        for point in [point(), LogPoint::segment_start(Offset(0)), LogPoint::segment_start(Offset(i64::MAX))]
        {
            let mut bytes = Vec::new();
            put_log_point(&mut bytes, &point);
            assert_eq!(bytes.len(), 53);
            assert_eq!(decode(&bytes), Ok(point));
        }
    }

    #[test]
    fn a_point_without_a_batch_has_only_one_spelling() {
        let mut bytes = Vec::new();
        put_log_point(&mut bytes, &LogPoint::segment_start(Offset(9)));
        bytes[52] = 1;
        assert_eq!(decode(&bytes).unwrap_err().field, "last batch of a log point");
    }

    #[test]
    fn a_flag_other_than_0_and_1_is_refused() {
        let mut bytes = Vec::new();
        put_log_point(&mut bytes, &point());
        bytes[24] = 2;
        assert_eq!(decode(&bytes).unwrap_err().field, "last batch flag of a log point");
    }

    #[test]
    fn numbers_that_cannot_be_one_place_are_refused() {
        let mut bytes = Vec::new();
        put_log_point(&mut bytes, &point());
        for (at, value) in [(0, 78_i64), (0, -1), (8, 4200), (16, 76), (33, 77)] {
            let mut broken = bytes.clone();
            broken[at..at + 8].copy_from_slice(&value.to_be_bytes());
            assert_eq!(decode(&broken).unwrap_err().field, "log point", "byte {at} = {value}");
        }
    }
}
