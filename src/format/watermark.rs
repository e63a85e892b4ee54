//! One slot of `oncelog.watermark`: how far the log is durable.
//!
//! ```text
//! byte  size  field
//!    0     8  magic = "ONCEWMRK"
//!    8     4  version = 1
//!   12     8  counter               rises with every write; the greater of two valid slots is the newer
//!   20     8  truncation generation a slot is void under any other generation than the manifest's
//!   28    53  log point             the durable end (see `log_point`)
//!   81     4  CRC-32                of bytes 0 to 80
//!   85  4011  zeros
//! ```
//!
//! Invariant: a slot is one page of which only the first sector ever differs from zero, so that a torn write leaves the
//! old slot, the new one, or one that its CRC refuses.

use super::cursor::Cursor;
use super::log_point::{LOG_POINT_SIZE, put_log_point, read_log_point};
use crate::error::Malformed;
use crate::types::LogPoint;

/// Size of a slot in bytes.
pub const SLOT_SIZE: usize = 4096;
/// How many slots the file has; they are written in turn.
pub const SLOT_COUNT: usize = 2;

const MAGIC: [u8; 8] = *b"ONCEWMRK";
const VERSION: u32 = 1;
const CRC_AT: usize = 8 + 4 + 8 + 8 + LOG_POINT_SIZE;

const _: () = assert!(CRC_AT + 4 <= 512);

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How many slots were written before and with this one.
    pub counter: u64,
    /// Truncation generation under which the point was durable.
    pub generation: u64,
    /// The log is durable up to here.
    pub point: LogPoint,
}

impl Slot {
    /// Writes the slot over `page`, whose bytes behind the CRC are left as they are: zeros, if it was a slot or zeros.
    pub fn encode_into(&self, page: &mut [u8; SLOT_SIZE]) {
        let mut bytes = Vec::with_capacity(CRC_AT + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.counter.to_be_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        put_log_point(&mut bytes, &self.point);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        for (to, from) in page.iter_mut().zip(&bytes) {
            *to = *from;
        }
    }

    /// Reads a slot.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is not [`SLOT_SIZE`] bytes long, was never written, is of another version or fails its CRC.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != SLOT_SIZE {
            return Err(Malformed::new("watermark slot", 0, format!("{SLOT_SIZE} bytes"), bytes.len()));
        }
        let mut cursor = Cursor::new(bytes);
        let magic: [u8; 8] = cursor.array("watermark magic")?;
        if magic != MAGIC {
            return Err(Malformed::new("watermark magic", 0, "ONCEWMRK", magic.escape_ascii()));
        }
        let version = cursor.u32("watermark version")?;
        if version != VERSION {
            return Err(Malformed::new("watermark version", 8, VERSION, version));
        }
        let (covered, stored) = bytes.split_at(CRC_AT);
        let found = Cursor::new(stored).u32("watermark CRC")?;
        let expected = crc32fast::hash(covered);
        if found != expected {
            let at = CRC_AT as u64;
            return Err(Malformed::new(
                "watermark CRC",
                at,
                format!("{expected:08x}"),
                format!("{found:08x}"),
            ));
        }
        let slot = Self {
            counter: cursor.u64("watermark counter")?,
            generation: cursor.u64("watermark generation")?,
            point: read_log_point(&mut cursor)?,
        };
        cursor.u32("watermark CRC")?;
        let padding = cursor.take(cursor.remaining(), "watermark padding")?;
        match padding.iter().position(|byte| *byte != 0) {
            None => Ok(slot),
            Some(at) => {
                Err(Malformed::new("watermark padding", (CRC_AT + 4 + at) as u64, "zeros", "another byte"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Fingerprint, LeaderEpoch, Offset, Position};

    fn slot() -> Slot {
        let fingerprint =
            Fingerprint { last_offset: Offset(41), leader_epoch: LeaderEpoch(3), record_count: 2, crc: 7 };
        let point = LogPoint {
            segment: Offset(0),
            position: Position(900),
            offset: Offset(42),
            last_batch: Some((Position(800), fingerprint)),
        };
        Slot { counter: 5, generation: 2, point }
    }

    fn page(slot: &Slot) -> [u8; SLOT_SIZE] {
        let mut page = [0; SLOT_SIZE];
        slot.encode_into(&mut page);
        page
    }

    #[test]
    fn a_slot_survives_the_round_trip() {
        assert_eq!(Slot::decode(&page(&slot())), Ok(slot()));
    }

    #[test]
    fn a_slot_written_over_another_leaves_nothing_of_it() {
        let mut page = page(&slot());
        let start = Slot { counter: 6, generation: 3, point: LogPoint::segment_start(Offset(0)) };
        start.encode_into(&mut page);
        assert_eq!(Slot::decode(&page), Ok(start));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = page(&slot());
        for bit in 0..SLOT_SIZE * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let good = page(&slot());
        for len in 0..SLOT_SIZE {
            assert_eq!(Slot::decode(&good[..len]).unwrap_err().field, "watermark slot");
        }
        assert_eq!(Slot::decode(&[good, good].concat()).unwrap_err().field, "watermark slot");
    }

    #[test]
    fn a_page_of_zeros_was_never_written() {
        assert_eq!(Slot::decode(&[0; SLOT_SIZE]).unwrap_err().field, "watermark magic");
    }

    #[test]
    fn a_slot_that_is_torn_at_a_sector_is_the_old_or_the_new_one() {
        let old = page(&slot());
        let new_slot = Slot { counter: 7, ..slot() };
        let new = page(&new_slot);
        for cut in (0..=SLOT_SIZE).step_by(512) {
            let torn = [&new[..cut], &old[cut..]].concat();
            assert_eq!(Slot::decode(&torn), Ok(if cut == 0 { slot() } else { new_slot }));
        }
    }
}
