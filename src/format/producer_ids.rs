//! `oncelog.producer-ids` in the root: which producer ids were given to an allocator.
//!
//! ```text
//! byte  size  field
//!    0     8  magic = "ONCEPIDS"
//!    8     4  version = 1
//!   12     8  next id               first id that is in no block that was ever taken; 0 to 2^63 - 1
//!   20     4  CRC-32                of bytes 0 to 19
//! ```
//!
//! Invariant: a file of any other length, or with any flipped bit, is refused. Kafka keeps such blocks in its metadata
//! log (KIP-730, `ProducerIdsRecord`); without that log they need a file.

use super::cursor::Cursor;
use crate::error::Malformed;

/// Size of the file in bytes.
pub const PRODUCER_IDS_SIZE: usize = CRC_AT + 4;

/// The field that [`ProducerIdsFile::decode`] names if the file is of a later version.
pub const VERSION_FIELD: &str = "producer ids version";

const MAGIC: [u8; 8] = *b"ONCEPIDS";
const VERSION: u32 = 1;
const CRC_AT: usize = 8 + 4 + 8;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdsFile {
    /// First id that is in no block that was ever taken. Never negative.
    pub next: i64,
}

impl ProducerIdsFile {
    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PRODUCER_IDS_SIZE);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.next.to_be_bytes());
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is not [`PRODUCER_IDS_SIZE`] bytes long, fails its CRC or holds a negative id; with
    /// [`VERSION_FIELD`] if it is of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let magic: [u8; 8] = cursor.array("producer ids magic")?;
        if magic != MAGIC {
            return Err(Malformed::new("producer ids magic", 0, "ONCEPIDS", magic.escape_ascii()));
        }
        let version = cursor.u32(VERSION_FIELD)?;
        if version != VERSION {
            return Err(Malformed::new(VERSION_FIELD, 8, VERSION, version));
        }
        let next = cursor.i64("next producer id")?;
        let found = cursor.u32("producer ids CRC")?;
        if cursor.remaining() != 0 {
            let expected = format!("{PRODUCER_IDS_SIZE} bytes");
            return Err(Malformed::new("producer ids file", PRODUCER_IDS_SIZE as u64, expected, bytes.len()));
        }
        let covered = bytes.get(..CRC_AT).unwrap_or_default();
        let expected = crc32fast::hash(covered);
        if found != expected {
            let (expected, found) = (format!("{expected:08x}"), format!("{found:08x}"));
            return Err(Malformed::new("producer ids CRC", CRC_AT as u64, expected, found));
        }
        if next < 0 {
            return Err(Malformed::new("next producer id", 12, "0 or more", next));
        }
        Ok(Self { next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_survives_the_round_trip() {
        for next in [0, 1000, i64::MAX] {
            let file = ProducerIdsFile { next };
            assert_eq!(ProducerIdsFile::decode(&file.encode()), Ok(file));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let page = include_str!("../../docs/FORMAT.md");
        let section = page.split("## `oncelog.producer-ids`").nth(1).unwrap();
        let bytes: Vec<u8> = section
            .lines()
            .filter(|line| line.starts_with("000000"))
            .flat_map(|line| line.split(' ').skip(1).filter(|text| !text.is_empty()))
            .take(PRODUCER_IDS_SIZE)
            .map(|text| u8::from_str_radix(text, 16).unwrap())
            .collect();
        assert_eq!(ProducerIdsFile::decode(&bytes), Ok(ProducerIdsFile { next: 3000 }));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = ProducerIdsFile { next: 5000 }.encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(ProducerIdsFile::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let good = ProducerIdsFile { next: 5000 }.encode();
        for len in 0..good.len() {
            assert!(ProducerIdsFile::decode(&good[..len]).is_err(), "{len} bytes");
        }
        let long = [good, vec![0]].concat();
        assert_eq!(ProducerIdsFile::decode(&long).unwrap_err().field, "producer ids file");
    }

    #[test]
    fn a_negative_id_and_a_later_version_are_refused_by_name() {
        let negative = ProducerIdsFile { next: -1 }.encode();
        assert_eq!(ProducerIdsFile::decode(&negative).unwrap_err().field, "next producer id");
        let mut later = ProducerIdsFile { next: 0 }.encode();
        later[11] = 2;
        assert_eq!(ProducerIdsFile::decode(&later).unwrap_err().field, VERSION_FIELD);
    }
}
