//! The batches that a fetch has read, one by one.
//!
//! Invariant: a batch is handed out only if it parses, lies wholly in what was read, and matches its CRC, and if its
//! offsets, which the CRC does not cover, lie behind those of the batch before and below the end of what was fetched.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::records::{OwnedRecord, copy_records};
use crate::error::{Corruption, Error, Malformed};
use crate::format::batch::{BatchHeader, HEADER_SIZE, verify_crc};
use crate::format::compression::{self, Codec, CompressionError};
use crate::types::{Offset, Position};

/// Most bytes that one compressed batch is opened to: what is in the log was bounded when it was appended.
const MOST_OPENED: usize = 1 << 30;

/// One batch of a fetch, its CRC checked.
#[derive(Clone, Debug)]
pub struct FetchedBatch {
    /// The header, with the offsets the log gave.
    pub header: BatchHeader,
    /// First byte in the segment file.
    pub position: Position,
    /// The whole batch.
    pub bytes: Bytes,
    path: PathBuf,
}

impl FetchedBatch {
    /// The records, opened if they are compressed.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if they do not parse; [`Error::Misuse`] if the codec is not built in.
    pub fn records(&self) -> Result<Vec<OwnedRecord>, Error> {
        let payload = self.bytes.get(HEADER_SIZE..).unwrap_or_default();
        let opened = Codec::from_id(self.header.attributes.codec())
            .and_then(|codec| compression::decompress(codec, payload, MOST_OPENED))
            .map_err(|error| match error {
                CompressionError::Malformed(malformed) => self.corrupt(malformed).into(),
                other => Error::Misuse(format!("batch at offset {}: {other}", self.header.base_offset)),
            })?;
        copy_records(&self.header, &opened).map_err(|malformed| self.corrupt(malformed).into())
    }

    fn corrupt(&self, malformed: Malformed) -> Box<Corruption> {
        Box::new(damaged(malformed, &self.path, self.position.0, self.bytes.len() as u64))
    }
}

/// The batches of a fetch, in order.
#[derive(Debug)]
pub struct Batches {
    bytes: Bytes,
    at: usize,
    path: PathBuf,
    start: u64,
    /// Where the offsets of what is left can lie.
    offsets: Range<Offset>,
}

impl Batches {
    /// Over `bytes`, which were read from the file at `path` from byte `start` on; no batch in them ends behind `end`.
    pub(super) fn new(bytes: Bytes, path: PathBuf, start: u64, end: Offset) -> Self {
        Self { bytes, at: 0, path, start, offsets: Offset::ZERO..end }
    }

    fn check_offsets(&self, header: &BatchHeader) -> Result<(), Malformed> {
        let Range { start, end } = self.offsets;
        if header.base_offset < start || header.next_offset() > end {
            let expected = format!("in a batch from {start} to {end}");
            return Err(Malformed::new("base offset", 0, expected, header.base_offset));
        }
        Ok(())
    }
}

impl Iterator for Batches {
    type Item = Result<FetchedBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let position = self.start + self.at as u64;
        let parsed = BatchHeader::parse(rest).and_then(|header| {
            let batch = rest.get(..header.size()).ok_or_else(|| {
                Malformed::new("batch length", 8, format!("at most {}", rest.len()), header.size())
            })?;
            verify_crc(&header, batch)?;
            self.check_offsets(&header)?;
            Ok(header)
        });
        match parsed {
            Ok(header) => {
                let bytes = self.bytes.slice(self.at..self.at + header.size());
                self.at += header.size();
                self.offsets.start = header.next_offset();
                Some(Ok(FetchedBatch {
                    header,
                    position: Position(position),
                    bytes,
                    path: self.path.clone(),
                }))
            }
            Err(malformed) => {
                let len = rest.len() as u64;
                self.at = self.bytes.len();
                Some(Err(Box::new(damaged(malformed, &self.path, position, len)).into()))
            }
        }
    }
}

fn damaged(malformed: Malformed, path: &std::path::Path, base: u64, len: u64) -> Corruption {
    malformed.in_file(path, base, len, "run `oncelog verify` on the directory to see what else is damaged")
}
