//! Opens the records of a batch that stands in the log.

use std::borrow::Cow;

use crate::error::{Error, Malformed};
use crate::format::batch::{BatchHeader, HEADER_SIZE};
use crate::format::compression::{self, Codec, CompressionError};

/// Most bytes that one compressed batch is opened to: what is in the log was bounded when it was appended.
const MOST_OPENED: usize = 1 << 30;

/// Why a batch cannot be compacted. The log is left as it is.
#[derive(Debug)]
pub enum BatchFailure {
    /// Its records do not parse, although its CRC is right.
    Malformed(Malformed),
    /// Its codec is unknown or not built in.
    Codec(CompressionError),
    /// What is asked about producers is not known.
    Other(Error),
}

impl From<Malformed> for BatchFailure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<CompressionError> for BatchFailure {
    fn from(error: CompressionError) -> Self {
        match error {
            CompressionError::Malformed(malformed) => Self::Malformed(malformed),
            other => Self::Codec(other),
        }
    }
}

/// The records of a batch, decompressed, with the codec that they came in.
pub(super) fn open<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
) -> Result<(Codec, Cow<'a, [u8]>), CompressionError> {
    let payload = batch.get(HEADER_SIZE..).unwrap_or_default();
    if header.record_count == 0 {
        // Compaction takes the codec's bytes with the last record and may leave its number.
        return Ok((Codec::None, Cow::Borrowed(&[])));
    }
    let codec = Codec::from_id(header.attributes.codec())?;
    Ok((codec, compression::decompress(codec, payload, MOST_OPENED)?))
}
