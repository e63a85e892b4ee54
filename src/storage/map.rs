//! Read-only views of whole files, for index files whose every entry is looked at alone.
//!
//! Invariant: no reference into a mapping leaves this module; callers get copies of whole entries, and an access
//! beyond the mapped length is answered `None` or `false`. All unsafe code of the crate is here.
//!
//! A mapping of a file that gets shorter raises `SIGBUS` at the first access behind the new end, and so does a medium
//! that cannot read a page. Against the first, a file that is mapped is never shortened by this crate: it is replaced
//! by a new one under the same name, and the old one lives on under its mapping. Against a foreign truncation, or a
//! dying medium, there is no defence but not mapping: [`Mapping::in_memory`] serves the same bytes from the heap.
#![expect(
    unsafe_code,
    reason = "a mapped file is memory that another process may change: no reference may exist"
)]

use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use memmap2::{MmapOptions, MmapRaw};

/// How many bytes one volatile read of [`Mapping::copy_to`] moves.
const CHUNK: usize = 64;

/// The first bytes of a file, readable in copies.
pub struct Mapping {
    bytes: Bytes,
}

enum Bytes {
    Mapped(MmapRaw),
    Heap(Arc<[u8]>),
}

impl Mapping {
    /// Bytes that stand in memory anyway, or should stand there.
    #[must_use]
    pub fn in_memory(bytes: Arc<[u8]>) -> Self {
        Self { bytes: Bytes::Heap(bytes) }
    }

    /// Maps the first `len` bytes of a file that has `file_len`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the file is shorter than `len`: an access there would raise `SIGBUS`.
    pub(super) fn of_descriptor(descriptor: BorrowedFd<'_>, len: u64, file_len: u64) -> io::Result<Self> {
        let len = checked_len(len, file_len)?;
        if len == 0 {
            // The system refuses an empty mapping.
            return Ok(Self::in_memory(Arc::from([])));
        }
        let mapped = MmapOptions::new().len(len).map_raw_read_only(&descriptor)?;
        Ok(Self { bytes: Bytes::Mapped(mapped) })
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.size() as u64
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// The `N` bytes from `at`, or `None` if they do not lie wholly inside.
    #[must_use]
    pub fn read<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let at = self.place(at, N)?;
        match &self.bytes {
            Bytes::Heap(bytes) => bytes.get(at..)?.first_chunk().copied(),
            // SAFETY: `place` has checked that `at + N` is at most the mapped length.
            Bytes::Mapped(mapped) => Some(unsafe { read_mapped(mapped, at) }),
        }
    }

    /// Copies the bytes from `at` into all of `out`; `false`, and `out` as it was, if they do not lie wholly inside.
    #[must_use]
    pub fn copy_to(&self, at: u64, out: &mut [u8]) -> bool {
        let Some(at) = self.place(at, out.len()) else { return false };
        match &self.bytes {
            Bytes::Heap(bytes) => {
                let Some(source) = bytes.get(at..at + out.len()) else { return false };
                out.copy_from_slice(source);
            }
            Bytes::Mapped(mapped) => {
                let mut from = at;
                let (chunks, rest) = out.as_chunks_mut::<CHUNK>();
                for chunk in chunks {
                    // SAFETY: `place` has checked the whole range, and this chunk lies in it.
                    *chunk = unsafe { read_mapped(mapped, from) };
                    from += CHUNK;
                }
                for byte in rest {
                    // SAFETY: as above; this byte lies in the checked range.
                    [*byte] = unsafe { read_mapped(mapped, from) };
                    from += 1;
                }
            }
        }
        true
    }

    fn size(&self) -> usize {
        match &self.bytes {
            Bytes::Mapped(mapped) => mapped.len(),
            Bytes::Heap(bytes) => bytes.len(),
        }
    }

    /// `at` as an index, if `len` bytes from there lie inside.
    fn place(&self, at: u64, len: usize) -> Option<usize> {
        let at = usize::try_from(at).ok()?;
        (at.checked_add(len)? <= self.size()).then_some(at)
    }
}

/// The length of a mapping of the first `len` bytes of a file that has `file_len`.
pub(super) fn checked_len(len: u64, file_len: u64) -> io::Result<usize> {
    if len > file_len {
        let message = format!("cannot map {len} bytes of a file that has {file_len}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Copies `N` bytes out of a mapping.
///
/// The read is volatile and no reference to the bytes is made: another process may write to the file at any time, so
/// the compiler must neither read twice nor assume that two reads agree.
///
/// # Safety
///
/// - `at + N` is at most `mapped.len()`;
/// - the file has not become shorter than that since it was mapped, or the process takes a `SIGBUS` (a crash, never a
///   read of other memory).
///
/// Alignment does not matter: an array of bytes has none.
unsafe fn read_mapped<const N: usize>(mapped: &MmapRaw, at: usize) -> [u8; N] {
    debug_assert!(at.checked_add(size_of::<[u8; N]>()).is_some_and(|end| end <= mapped.len()));
    // SAFETY: the caller keeps `at + N` inside of the mapping, which lives as long as the borrow of `mapped`.
    unsafe { mapped.as_ptr().add(at).cast::<[u8; N]>().read_volatile() }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.bytes {
            Bytes::Mapped(_) => "mapped",
            Bytes::Heap(_) => "heap",
        };
        write!(f, "Mapping({} bytes, {place})", self.size())
    }
}

#[cfg(test)]
mod tests;
