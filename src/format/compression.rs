//! Codecs of batch payloads.
//!
//! Invariant: no input, however made, yields more than the limit that the caller set; and without the feature of a
//! codec everything here still works except that codec, which answers [`CompressionError::Unsupported`].
//!
//! ```text
//! 0 none     1 gzip     2 snappy, in blocks behind a header (below) or bare     3 lz4 frames     4 zstd frames
//!
//! snappy:  82 'S' 'N' 'A' 'P' 'P' 'Y' 00    version, 4    lowest version that can read it, 4
//!          then blocks: length, 4; a bare snappy stream of that length. The header may stand again before a block.
//! ```

use std::borrow::Cow;

use crate::error::{Malformed, Rejection};

#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
mod bounded;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(test)]
mod tests;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// As they are.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, in the framing of the Java library `snappy-java`.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// All of them, by number.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number in the attributes of a batch.
    ///
    /// # Errors
    ///
    /// [`CompressionError::Unsupported`] for 5 and more, which Kafka never gave out.
    pub fn from_id(id: u8) -> Result<Self, CompressionError> {
        let known = Self::ALL.into_iter().find(|codec| codec.id() == id);
        known.ok_or(CompressionError::Unsupported { codec: id, why: "no codec has this number" })
    }

    /// The number in the attributes of a batch.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// Why a payload was not opened or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The codec is unknown, or was left out of this build.
    #[error("compression codec {codec} is not supported: {why}")]
    Unsupported {
        /// Number of the codec.
        codec: u8,
        /// Which of the two.
        why: &'static str,
    },
    /// The bytes are not what the codec writes.
    #[error("compressed records: {0}")]
    Malformed(#[from] Malformed),
    /// Decompressed, the bytes would be more than the caller allows.
    #[error("decompressed records are more than the allowed {limit} bytes")]
    TooLarge {
        /// What the caller allows, in bytes.
        limit: usize,
    },
}

/// A batch whose records cannot be opened is refused: code 76 if the codec is to blame, 87 if the bytes are. Their CRC
/// was right, so sending them again would not help, which is what code 2 would ask for.
impl From<CompressionError> for Rejection {
    fn from(error: CompressionError) -> Self {
        match error {
            CompressionError::Unsupported { codec, why } => {
                Self::UnsupportedCompression { codec, why: why.to_owned() }
            }
            CompressionError::Malformed(malformed) => Self::InvalidRecord(malformed),
            CompressionError::TooLarge { limit } => {
                let expected = format!("at most {limit} bytes of records");
                Self::InvalidRecord(Malformed::new("compressed records", 0, expected, "more"))
            }
        }
    }
}

/// Decompresses the payload of a batch. Without codec it is lent as it is, whatever its length.
///
/// # Errors
///
/// [`CompressionError::TooLarge`] as soon as there is more than `limit` bytes of output; no more than that is ever
/// allocated for the output. What the decoder needs to work is bounded by its format and not by `limit`: a frame of zstd
/// may ask for a window of 128 MiB, which Kafka's highest level uses, one of lz4 for blocks of 4 MiB. It is freed before
/// this returns. The other variants as they say.
pub fn decompress(codec: Codec, payload: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, CompressionError> {
    match codec {
        Codec::None => Ok(Cow::Borrowed(payload)),
        Codec::Gzip => gzip::decompress(payload, limit).map(Cow::Owned),
        Codec::Snappy => snappy::decompress(payload, limit).map(Cow::Owned),
        Codec::Lz4 => lz4::decompress(payload, limit).map(Cow::Owned),
        Codec::Zstd => zstd_frames::decompress(payload, limit).map(Cow::Owned),
    }
}

/// Compresses records with the usual level of the codec, in a form that Kafka and its clients read.
///
/// # Errors
///
/// [`CompressionError::Unsupported`] without the codec's feature; [`CompressionError::Malformed`] if the codec fails.
pub fn compress(codec: Codec, records: &[u8]) -> Result<Cow<'_, [u8]>, CompressionError> {
    match codec {
        Codec::None => Ok(Cow::Borrowed(records)),
        Codec::Gzip => gzip::compress(records).map(Cow::Owned),
        Codec::Snappy => snappy::compress(records).map(Cow::Owned),
        Codec::Lz4 => lz4::compress(records).map(Cow::Owned),
        Codec::Zstd => zstd_frames::compress(records).map(Cow::Owned),
    }
}

/// Stands in for a codec that is not built in.
macro_rules! left_out {
    ($feature:literal, $module:ident, $codec:expr) => {
        #[cfg(not(feature = $feature))]
        mod $module {
            use super::{Codec, CompressionError};

            const LEFT_OUT: CompressionError = CompressionError::Unsupported {
                codec: $codec as u8,
                why: concat!("this build has no feature `", $feature, "`"),
            };

            pub(super) fn decompress(_: &[u8], _: usize) -> Result<Vec<u8>, CompressionError> {
                Err(LEFT_OUT)
            }

            pub(super) fn compress(_: &[u8]) -> Result<Vec<u8>, CompressionError> {
                Err(LEFT_OUT)
            }
        }
    };
}

left_out!("gzip", gzip, Codec::Gzip);
left_out!("snappy", snappy, Codec::Snappy);
left_out!("lz4", lz4, Codec::Lz4);
left_out!("zstd", zstd_frames, Codec::Zstd);

#[cfg(feature = "gzip")]
mod gzip {
    use std::io::Write;

    use super::CompressionError;
    use super::bounded::{failed, read_all};

    pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        // Members may follow one another, as in Java's `GZIPInputStream`.
        let mut reader = flate2::bufread::MultiGzDecoder::new(payload);
        read_all(&mut reader, "gzip", limit)
    }

    pub(super) fn compress(records: &[u8]) -> Result<Vec<u8>, CompressionError> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(records).and_then(|()| encoder.finish()).map_err(|e| failed("gzip", &e))
    }
}

#[cfg(feature = "lz4")]
mod lz4 {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

    use super::CompressionError;
    use super::bounded::{failed, read_all};

    pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        let mut rest = payload;
        let mut records = Vec::new();
        // The decoder answers the end of each frame like the end of the input.
        while !rest.is_empty() {
            let left = limit.saturating_sub(records.len());
            match read_all(&mut FrameDecoder::new(&mut rest), "lz4", left) {
                Ok(frame) => records.extend_from_slice(&frame),
                Err(CompressionError::TooLarge { .. }) => return Err(CompressionError::TooLarge { limit }),
                Err(other) => return Err(other),
            }
        }
        Ok(records)
    }

    pub(super) fn compress(records: &[u8]) -> Result<Vec<u8>, CompressionError> {
        // Kafka's reader refuses blocks that lean on one another.
        let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(records).map_err(|e| failed("lz4", &e))?;
        encoder.finish().map_err(|e| failed("lz4", &e))
    }
}

#[cfg(feature = "zstd")]
mod zstd_frames {
    use super::CompressionError;
    use super::bounded::{failed, read_all};

    pub(super) fn decompress(payload: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
        let mut reader = zstd::stream::read::Decoder::with_buffer(payload).map_err(|e| failed("zstd", &e))?;
        read_all(&mut reader, "zstd", limit)
    }

    pub(super) fn compress(records: &[u8]) -> Result<Vec<u8>, CompressionError> {
        zstd::stream::encode_all(records, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(|e| failed("zstd", &e))
    }
}
