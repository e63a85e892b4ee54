//! Entries of index files, up to the first that is none.
//!
//! Invariant: the files have no count and no checksum, and a broker that was killed leaves them longer than their
//! entries: what begins with an entry of zeros is padding if nothing but zeros follows, and damage otherwise.

use oncelog::error::Malformed;
use oncelog::format::index_entry::{AbortedTxn, OffsetIndexEntry, TimeIndexEntry};

/// What an index file holds.
#[derive(Debug)]
pub(super) struct Entries<T> {
    /// Each with its byte in the file.
    pub(super) entries: Vec<(u64, T)>,
    /// Zeros at the end.
    pub(super) padding: u64,
    /// What stands behind the entries, if that is neither the end nor padding; its byte counts from the file's start.
    pub(super) damage: Option<Malformed>,
}

pub(super) fn offset_entries(bytes: &[u8]) -> Entries<OffsetIndexEntry> {
    entries(bytes, OffsetIndexEntry::from_bytes)
}

pub(super) fn time_entries(bytes: &[u8]) -> Entries<TimeIndexEntry> {
    entries(bytes, TimeIndexEntry::from_bytes)
}

pub(super) fn aborted_entries(bytes: &[u8]) -> Entries<AbortedTxn> {
    entries(bytes, AbortedTxn::from_bytes)
}

fn entries<T, const N: usize>(bytes: &[u8], parse: impl Fn(&[u8; N]) -> Result<T, Malformed>) -> Entries<T> {
    let mut found = Entries { entries: Vec::new(), padding: 0, damage: None };
    let mut rest = bytes;
    while let Some((entry, behind)) = rest.split_first_chunk::<N>() {
        let at = (bytes.len() - rest.len()) as u64;
        if entry.iter().all(|byte| *byte == 0) {
            break;
        }
        match parse(entry) {
            Ok(entry) => found.entries.push((at, entry)),
            Err(malformed) => {
                found.damage = Some(Malformed { at: at + malformed.at, ..malformed });
                return found;
            }
        }
        rest = behind;
    }
    let at = (bytes.len() - rest.len()) as u64;
    match rest.iter().position(|byte| *byte != 0) {
        None => found.padding = rest.len() as u64,
        Some(_) if rest.len() < N => {
            let left = format!("{} bytes", rest.len());
            found.damage = Some(Malformed::new("index entry", at, format!("{N} bytes, or the end"), left));
        }
        Some(zeros) => {
            let at = at + zeros as u64;
            found.damage = Some(Malformed::new("index padding", at, "zeros to the end", "another byte"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use oncelog::types::{Offset, Position};

    fn entry(offset: i64, position: u64) -> [u8; 8] {
        OffsetIndexEntry::new(Offset(0), Offset(offset), Position(position)).unwrap().to_bytes()
    }

    #[test]
    fn zeros_behind_the_entries_are_padding() {
        let bytes = [&entry(5, 100)[..], &[0; 20]].concat();
        let found = offset_entries(&bytes);
        assert_eq!((found.entries.len(), found.padding, found.damage), (1, 20, None));
    }

    #[test]
    fn an_entry_behind_zeros_is_damage_at_its_first_byte() {
        let bytes = [&entry(5, 100)[..], &[0; 8], &entry(9, 200)].concat();
        let found = offset_entries(&bytes);
        assert_eq!(found.entries.len(), 1);
        assert_eq!(found.damage.unwrap().at, 19);
    }

    #[test]
    fn a_part_of_an_entry_at_the_end_is_damage() {
        let bytes = [&entry(5, 100)[..], &[1, 2, 3]].concat();
        let damage = offset_entries(&bytes).damage.unwrap();
        assert_eq!((damage.field, damage.at, damage.found.as_str()), ("index entry", 8, "3 bytes"));
    }

    #[test]
    fn an_entry_that_breaks_a_rule_is_damage_at_the_byte_of_its_field() {
        let bytes = [&entry(5, 100)[..], &[0, 0, 0, 1, 0xff, 0, 0, 0]].concat();
        let damage = offset_entries(&bytes).damage.unwrap();
        assert_eq!((damage.field, damage.at), ("position", 12));
    }
}
