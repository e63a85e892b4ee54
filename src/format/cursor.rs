//! The only way to read bytes that somebody else wrote.
//!
//! Invariant: a [`Cursor`] never reads past the end of what it was given and never panics; each failure names the
//! field, the byte, what was expected and what was found. All integers are big endian; varints are zig-zag as in
//! protobuf's `sint32`/`sint64` (Kafka `ByteUtils`).

use crate::error::Malformed;

/// A bounded reader over a byte slice.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// [`Malformed`] naming `field` if fewer bytes are left.
        #[inline]
        pub fn $name(&mut self, field: &'static str) -> Result<$type, Malformed> {
            self.array(field).map(<$type>::from_be_bytes)
        }
    )*};
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] naming `field` if fewer are left.
    #[inline]
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => Err(self.short(field, len)),
        }
    }

    /// The next `len` bytes as a cursor that ends with them and goes on counting positions from the same start.
    ///
    /// # Errors
    ///
    /// [`Malformed`] naming `field` if fewer are left.
    #[inline]
    pub fn split(&mut self, len: usize, field: &'static str) -> Result<Self, Malformed> {
        let start = self.at;
        self.take(len, field)?;
        Ok(Self { bytes: self.bytes.get(..self.at).unwrap_or_default(), at: start })
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    ///
    /// [`Malformed`] naming `field` if fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(taken) => {
                self.at += N;
                Ok(*taken)
            }
            None => Err(self.short(field, N)),
        }
    }

    fixed! {
        /// One signed byte.
        i8: i8;
        /// One byte.
        u8: u8;
        /// Two bytes, signed.
        i16: i16;
        /// Two bytes.
        u16: u16;
        /// Four bytes, signed.
        i32: i32;
        /// Four bytes.
        u32: u32;
        /// Eight bytes, signed.
        i64: i64;
        /// Eight bytes.
        u64: u64;
    }

    /// A zig-zag varint of at most 32 bits.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is cut off or longer than five bytes.
    #[inline]
    pub fn varint(&mut self, field: &'static str) -> Result<i32, Malformed> {
        let start = self.at;
        let value = self.varlong(field)?;
        i32::try_from(value).map_err(|_| Malformed::new(field, start as u64, "a varint of 32 bits", value))
    }

    /// A zig-zag varint of at most 64 bits.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if it is cut off or longer than ten bytes.
    #[inline]
    pub fn varlong(&mut self, field: &'static str) -> Result<i64, Malformed> {
        let start = self.at;
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::new(field, start as u64, "a varint of 64 bits", "more than 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let half = (value >> 1).cast_signed();
                return Ok(if value & 1 == 0 { half } else { !half });
            }
            shift += 7;
            if shift > 63 {
                return Err(Malformed::new(
                    field,
                    start as u64,
                    "a varint of 64 bits",
                    "more than ten bytes",
                ));
            }
        }
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Ends the reading: trailing bytes are an error.
    ///
    /// # Errors
    ///
    /// [`Malformed`] naming `field` if bytes are left.
    pub fn finish(self, field: &'static str) -> Result<(), Malformed> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(Malformed::new(field, self.at as u64, "the end", format!("{left} more bytes"))),
        }
    }

    #[cold]
    fn short(&self, field: &'static str, wanted: usize) -> Malformed {
        Malformed::new(field, self.at as u64, format!("{wanted} bytes"), format!("{} left", self.remaining()))
    }
}

/// Writes a field to the front of `rest` and moves `rest` behind it; writes nothing if it does not fit.
///
/// For arrays whose size is the sum of their fields, where it always fits and the check is compiled away.
#[inline]
pub fn put<const N: usize>(rest: &mut &mut [u8], field: [u8; N]) {
    if let Some((place, behind)) = std::mem::take(rest).split_first_chunk_mut::<N>() {
        *place = field;
        *rest = behind;
    }
}

/// Appends a zig-zag varint (at most ten bytes) to `out`.
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_the_round_trip_at_every_border() {
        for value in
            [0, 1, -1, 63, 64, -64, -65, i64::from(i32::MAX), i64::from(i32::MIN), i64::MAX, i64::MIN]
        {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.varlong("value"), Ok(value));
            assert_eq!(cursor.finish("value"), Ok(()));
        }
    }

    #[test]
    fn a_varint_of_more_than_ten_bytes_is_refused() {
        let error = Cursor::new(&[0xff; 11]).varlong("length").unwrap_err();
        assert_eq!(error.field, "length");
        assert_eq!(error.at, 0);
    }

    #[test]
    fn a_short_read_names_the_field_and_leaves_the_cursor_where_it_was() {
        let mut cursor = Cursor::new(&[1, 2, 3]);
        assert_eq!(cursor.u16("first"), Ok(0x0102));
        let error = cursor.i32("second").unwrap_err();
        assert_eq!((error.field, error.at), ("second", 2));
        assert_eq!(cursor.remaining(), 1);
    }
}
