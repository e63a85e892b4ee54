//! `oncelog.producer-names` in the root: which producer id and epoch each name was given last.
//!
//! ```text
//! size  field
//!    8  magic = "ONCENAMS"
//!    4  version = 1
//!    4  number of names, then each by ascending name:
//!    2    length of the name in bytes, 1 to 1024
//!    -    name, UTF-8
//!    8    producer id
//!    2    epoch                  0 to 32766; 32767 is left to fence with
//!    8    retired producer id    -1: none; the id whose epochs were used up before this one
//!    4  CRC-32                   of all bytes before
//! ```
//!
//! Invariant: a file that decodes is byte for byte one that was encoded.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use crate::error::Malformed;
use crate::types::{ProducerEpoch, ProducerId};

/// The longest name, in bytes.
pub const MAX_NAME_LENGTH: usize = 1024;

/// A greater file is none of ours; the bound on what a reader allocates. Room for 60 000 of the longest names.
pub const MAX_NAMES_SIZE: u64 = 64 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"ONCENAMS";
const VERSION: u32 = 1;
const CRC_SIZE: usize = 4;

/// What one name was given last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedProducer {
    /// The id of its holder.
    pub producer: ProducerId,
    /// The epoch of its holder.
    pub epoch: ProducerEpoch,
    /// The id that earlier holders had until its epochs were used up.
    pub retired: Option<ProducerId>,
}

/// All names.
pub type Names = BTreeMap<String, NamedProducer>;

/// The bytes of the file; `None` if there are too many names for one.
#[must_use]
pub fn encode_names(names: &Names) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&u32::try_from(names.len()).ok()?.to_be_bytes());
    for (name, named) in names {
        out.extend_from_slice(&u16::try_from(name.len()).ok()?.to_be_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&named.producer.0.to_be_bytes());
        out.extend_from_slice(&named.epoch.0.to_be_bytes());
        out.extend_from_slice(&named.retired.map_or(-1, |id| id.0).to_be_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_be_bytes());
    (out.len() as u64 <= MAX_NAMES_SIZE).then_some(out)
}

/// Reads the file.
///
/// # Errors
///
/// [`Malformed`] at the first field that breaks the format.
pub fn decode_names(bytes: &[u8]) -> Result<Names, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let magic: [u8; 8] = cursor.array("producer names magic")?;
    if magic != MAGIC {
        return Err(Malformed::new("producer names magic", 0, "ONCENAMS", magic.escape_ascii()));
    }
    let version = cursor.u32("producer names version")?;
    if version != VERSION {
        return Err(Malformed::new("producer names version", 8, VERSION, version));
    }
    let crc_at = bytes.len().saturating_sub(CRC_SIZE);
    let (covered, stored) = bytes.split_at_checked(crc_at).unwrap_or((bytes, &[]));
    let found = Cursor::new(stored).u32("producer names CRC")?;
    let expected = crc32fast::hash(covered);
    if found != expected {
        let (expected, found) = (format!("{expected:08x}"), format!("{found:08x}"));
        return Err(Malformed::new("producer names CRC", crc_at as u64, expected, found));
    }
    let count = cursor.u32("number of producer names")?;
    let mut names = Names::new();
    for _ in 0..count {
        let at = (bytes.len() - cursor.remaining()) as u64;
        let (name, named) = read_name(&mut cursor, at)?;
        if names.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(Malformed::new(
                "producer name",
                at,
                "one behind the name before",
                format!("{name:?}"),
            ));
        }
        names.insert(name, named);
    }
    cursor.u32("producer names CRC")?;
    match cursor.remaining() {
        0 => Ok(names),
        more => Err(Malformed::new("producer names", (bytes.len() - more) as u64, "the end", "more bytes")),
    }
}

fn read_name(cursor: &mut Cursor<'_>, at: u64) -> Result<(String, NamedProducer), Malformed> {
    let len = usize::from(u16::from_be_bytes(cursor.array("length of a producer name")?));
    if !(1..=MAX_NAME_LENGTH).contains(&len) {
        let expected = format!("1 to {MAX_NAME_LENGTH}");
        return Err(Malformed::new("length of a producer name", at, expected, len));
    }
    let name = std::str::from_utf8(cursor.take(len, "producer name")?)
        .map_err(|_| Malformed::new("producer name", at, "UTF-8", "other bytes"))?;
    let producer = ProducerId(cursor.i64("producer id")?);
    let epoch = ProducerEpoch(i16::from_be_bytes(cursor.array("producer epoch")?));
    let retired = cursor.i64("retired producer id")?;
    if producer.0 < 0 || !(0..i16::MAX).contains(&epoch.0) || retired < -1 {
        let found = format!("id {producer}, epoch {epoch}, retired {retired}");
        return Err(Malformed::new("producer of a name", at, "ids from 0 on, epochs 0 to 32766", found));
    }
    let retired = (retired >= 0).then_some(ProducerId(retired));
    Ok((name.to_owned(), NamedProducer { producer, epoch, retired }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let named = |producer, epoch, retired: Option<i64>| NamedProducer {
            producer: ProducerId(producer),
            epoch: ProducerEpoch(epoch),
            retired: retired.map(ProducerId),
        };
        let all = [("orders", named(7, 3, None)), ("zähler", named(1000, 32766, Some(8)))];
        all.into_iter().map(|(name, named)| (name.to_owned(), named)).collect()
    }

    #[test]
    fn names_survive_the_round_trip() {
        assert_eq!(decode_names(&encode_names(&names()).unwrap()), Ok(names()));
        assert_eq!(decode_names(&encode_names(&Names::new()).unwrap()), Ok(Names::new()));
    }

    #[test]
    fn the_bytes_are_those_of_the_format_page() {
        let page = include_str!("../../docs/FORMAT.md");
        let section = page.split("## `oncelog.producer-names`").nth(1).unwrap();
        let bytes: Vec<u8> = section
            .split("```")
            .nth(1)
            .unwrap()
            .lines()
            .flat_map(|line| line.split(' ').skip(1).filter(|text| !text.is_empty()))
            .filter_map(|text| u8::from_str_radix(text, 16).ok())
            .collect();
        let mut expected = names();
        expected.retain(|name, _| name == "orders");
        assert_eq!(decode_names(&bytes), Ok(expected));
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_is_refused() {
        let good = encode_names(&names()).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_names(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(decode_names(&good[..len]).is_err(), "{len} bytes");
        }
        assert!(decode_names(&[good, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_sound_crc_does_not_excuse_a_field() {
        for (epoch, producer, field) in [(-1, 0, "producer of a name"), (0, -5, "producer of a name")] {
            let mut bad = names();
            bad.get_mut("orders").unwrap().epoch = ProducerEpoch(epoch);
            bad.get_mut("orders").unwrap().producer = ProducerId(producer);
            assert_eq!(decode_names(&encode_names(&bad).unwrap()).unwrap_err().field, field);
        }
        let long = [("x".repeat(MAX_NAME_LENGTH + 1), names()["orders"])].into();
        let refused = decode_names(&encode_names(&long).unwrap()).unwrap_err();
        assert_eq!(refused.field, "length of a producer name");
    }
}
