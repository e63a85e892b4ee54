//! Reading a decoder to its end, but never past a limit.
//!
//! Invariant: the result has at most `limit` bytes, and no more than one byte beyond is ever asked of the decoder.

use std::fmt;
use std::io::Read;

use super::CompressionError;
use crate::error::Malformed;

/// Everything that `decoder` gives.
///
/// # Errors
///
/// [`CompressionError::TooLarge`] past `limit`; [`CompressionError::Malformed`] naming `codec` if the decoder fails.
pub(super) fn read_all(
    decoder: &mut impl Read,
    codec: &'static str,
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(one_more).read_to_end(&mut out).map_err(|e| failed(codec, &e))?;
    if out.len() > limit { Err(CompressionError::TooLarge { limit }) } else { Ok(out) }
}

/// What a codec's library said. It does not tell the place, so the place is the start.
pub(super) fn failed(codec: &'static str, error: &dyn fmt::Display) -> CompressionError {
    CompressionError::Malformed(Malformed::new(codec, 0, "a valid stream", error))
}
