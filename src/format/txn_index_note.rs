//! What a manifest notes of the `.txnindex` files: 16 bytes for each segment that has one.
//!
//! ```text
//! size  field
//!    8  base offset of the segment
//!    4  number of entries
//!    4  CRC-32 of their bytes
//! ```
//!
//! Invariant: a note names the beginning of a file that was durable when the note was made. Kafka's entries carry no
//! checksum and their number stands nowhere, so without the note a lost entry would show aborted records to readers of
//! committed ones.

use super::cursor::Cursor;
use crate::error::Malformed;
use crate::format::index_entry::AbortedTxn;
use crate::types::Offset;

/// The notes that a manifest has room for; those of the oldest segments go first.
pub const MAX_TXN_INDEX_NOTES: usize = 32 * 1024;

/// Bytes of a note.
pub(super) const NOTE_SIZE: usize = 8 + 4 + 4;

/// The beginning of one `.txnindex` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TxnIndexNote {
    /// Base offset of the segment, which is in the name of the file.
    pub base: Offset,
    /// How many entries there are at least.
    pub entries: u32,
    /// CRC-32 of the bytes of these entries.
    pub crc: u32,
}

impl TxnIndexNote {
    /// A note of all whole entries in `bytes`; `None` if there is no entry.
    #[must_use]
    pub fn of(base: Offset, bytes: &[u8]) -> Option<Self> {
        Self { base, entries: 0, crc: 0 }.continued(bytes).filter(|note| note.entries > 0)
    }

    /// Whether a file with the content `bytes` begins with the entries of the note.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with what differs: the number of entries or their CRC.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Malformed> {
        let there = bytes.len() / AbortedTxn::SIZE;
        let noted =
            usize::try_from(self.entries).ok().and_then(|entries| entries.checked_mul(AbortedTxn::SIZE));
        let Some(begin) = noted.and_then(|size| bytes.get(..size)) else {
            let expected = format!("{} or more, as the manifest notes", self.entries);
            return Err(Malformed::new("number of aborted transactions", 0, expected, there));
        };
        let found = crc32fast::hash(begin);
        if found != self.crc {
            let (expected, found) =
                (format!("{:08x}, as the manifest notes", self.crc), format!("{found:08x}"));
            return Err(Malformed::new("CRC of the aborted transactions", 0, expected, found));
        }
        Ok(())
    }

    /// The note of the same file once `bytes` stand behind what was noted.
    fn continued(self, bytes: &[u8]) -> Option<Self> {
        let whole = bytes.len() / AbortedTxn::SIZE;
        let mut hasher = crc32fast::Hasher::new_with_initial(self.crc);
        hasher.update(bytes.get(..whole * AbortedTxn::SIZE)?);
        let entries = self.entries.checked_add(u32::try_from(whole).ok()?)?;
        Some(Self { entries, crc: hasher.finalize(), ..self })
    }

    fn size(&self) -> u64 {
        u64::from(self.entries) * AbortedTxn::SIZE as u64
    }
}

/// Notes in `notes`, which is sorted by base, that `bytes` were written at `position` of the file of the segment that
/// begins at `base`, that nothing stands behind them, and that they are durable. Where the entries before `position` are
/// not known, no note is left.
pub fn note_written(notes: &mut Vec<TxnIndexNote>, base: Offset, position: u64, bytes: &[u8]) {
    let known = notes.binary_search_by_key(&base, |note| note.base);
    let before = match known {
        _ if position == 0 => Some(TxnIndexNote { base, entries: 0, crc: 0 }),
        Ok(at) => notes.get(at).copied().filter(|note| note.size() == position),
        Err(_) => None,
    };
    let note = before.and_then(|note| note.continued(bytes)).filter(|note| note.entries > 0);
    match (known, note) {
        (Ok(at), Some(note)) => notes.iter_mut().skip(at).take(1).for_each(|old| *old = note),
        (Ok(at), None) => drop(notes.remove(at)),
        (Err(at), Some(note)) => notes.insert(at, note),
        (Err(_), None) => {}
    }
    notes.drain(..notes.len().saturating_sub(MAX_TXN_INDEX_NOTES));
}

pub(super) fn put_notes(out: &mut Vec<u8>, notes: &[TxnIndexNote]) {
    out.extend_from_slice(&u32::try_from(notes.len()).unwrap_or(u32::MAX).to_be_bytes());
    for note in notes {
        out.extend_from_slice(&note.base.0.to_be_bytes());
        out.extend_from_slice(&note.entries.to_be_bytes());
        out.extend_from_slice(&note.crc.to_be_bytes());
    }
}

pub(super) fn read_notes(cursor: &mut Cursor<'_>) -> Result<Vec<TxnIndexNote>, Malformed> {
    let count = cursor.u32("number of noted indexes")?;
    let room = cursor.remaining() / NOTE_SIZE;
    let at = cursor.position().saturating_sub(4) as u64;
    let count = usize::try_from(count).ok().filter(|count| *count <= room.min(MAX_TXN_INDEX_NOTES));
    let Some(count) = count else {
        let expected = format!("at most {}", room.min(MAX_TXN_INDEX_NOTES));
        return Err(Malformed::new("number of noted indexes", at, expected, "more"));
    };
    let mut notes: Vec<TxnIndexNote> = Vec::with_capacity(count);
    for _ in 0..count {
        let at = cursor.position() as u64;
        let note = TxnIndexNote {
            base: Offset(cursor.i64("base of a noted index")?),
            entries: cursor.u32("entries of a noted index")?,
            crc: cursor.u32("CRC of a noted index")?,
        };
        let least = notes.last().map_or(Offset::ZERO, |last| last.base.saturating_add(1));
        if note.base < least {
            return Err(Malformed::new("base of a noted index", at, format!("{least} or more"), note.base));
        }
        notes.push(note);
    }
    Ok(notes)
}

#[cfg(test)]
mod tests;
