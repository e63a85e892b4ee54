//! The short way through a record: for each append, so it builds no error and keeps no field.
//!
//! Invariant: what is accepted here, the full reader accepts with the same result; what is not accepted here is
//! decided by the full reader. So a mistake of omission here costs time only.

/// What is kept of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skimmed {
    pub(super) timestamp_delta: i64,
    pub(super) has_key: bool,
    /// The byte behind the record.
    pub(super) end: usize,
}

/// The record at byte `at`, if it holds and has the offset delta that is expected.
#[inline]
pub(super) fn record(payload: &[u8], mut at: usize, expected_delta: i32) -> Option<Skimmed> {
    let size = length(payload, &mut at)?;
    let end = at.checked_add(size)?;
    // From here on nothing can be read beyond the record.
    let body = payload.get(..end)?;
    at += 1;
    let timestamp_delta = varint(body, &mut at)?;
    if varint(body, &mut at)? != i64::from(expected_delta) {
        return None;
    }
    let has_key = skip_optional(body, &mut at)?;
    skip_optional(body, &mut at)?;
    let headers = length(body, &mut at)?;
    if headers > 0 {
        skip_headers(body, &mut at, headers)?;
    }
    (at == end).then_some(Skimmed { timestamp_delta, has_key, end })
}

fn skip_headers(body: &[u8], at: &mut usize, headers: usize) -> Option<()> {
    for _ in 0..headers {
        let size = length(body, at)?;
        let end = at.checked_add(size)?;
        std::str::from_utf8(body.get(*at..end)?).ok()?;
        *at = end;
        skip_optional(body, at)?;
    }
    Some(())
}

/// Whether the bytes are there. An end beyond the body is met by the next read, or by the last comparison.
#[inline]
fn skip_optional(body: &[u8], at: &mut usize) -> Option<bool> {
    match varint(body, at)? {
        -1 => Some(false),
        size => {
            *at = at.checked_add(usize::try_from(i32::try_from(size).ok()?).ok()?)?;
            Some(true)
        }
    }
}

#[inline]
fn length(body: &[u8], at: &mut usize) -> Option<usize> {
    usize::try_from(i32::try_from(varint(body, at)?).ok()?).ok()
}

/// A zig-zag varint. Most are of one or two bytes.
#[inline]
fn varint(body: &[u8], at: &mut usize) -> Option<i64> {
    let first = *body.get(*at)?;
    *at += 1;
    let mut value = u64::from(first & 0x7f);
    if first & 0x80 != 0 {
        let second = *body.get(*at)?;
        *at += 1;
        value |= u64::from(second & 0x7f) << 7;
        if second & 0x80 != 0 {
            value |= long_tail(body, at)?;
        }
    }
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// The bits from the third byte on.
fn long_tail(body: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (14..=63).step_by(7) {
        let byte = *body.get(*at)?;
        *at += 1;
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
