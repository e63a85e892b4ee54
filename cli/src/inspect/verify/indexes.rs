//! The indexes of a segment, entry by entry, against its batches.
//!
//! Invariant: what makes a look-up begin too late is a finding; what only costs time is none: neither such an entry nor an
//! index file that is missing, as those of the segments rolled since the last checkpoint are after a kill. The next close
//! makes them anew.

use oncelog::error::{Error, Malformed};
use oncelog::format::batch::BatchHeader;
use oncelog::format::index_entry::{AbortedTxn, OffsetIndexEntry, TimeIndexEntry};
use oncelog::format::names::FileName;
use oncelog::segment::scan::Density;
use oncelog::types::{Offset, Position};

use super::findings::{Findings, advice};
use crate::inspect::indexes::{Entries, aborted_entries, offset_entries, time_entries};
use crate::inspect::source::{Named, Source};

/// Where the batches of a segment are.
pub(super) struct Layout {
    base: Offset,
    until: Offset,
    batches: Vec<Place>,
    /// Behind this nothing is known of batches.
    pub(super) known_to: Position,
    /// End of the last batch.
    end: Offset,
}

struct Place {
    position: Position,
    base_offset: Offset,
    last_offset: Offset,
    /// Of this batch and all before it in the segment.
    max_timestamp: i64,
}

impl Layout {
    pub(super) fn new(base: Offset, until: Offset, file: &Named) -> Self {
        Self { base, until, batches: Vec::new(), known_to: Position(file.len), end: base }
    }

    pub(super) fn push(&mut self, position: Position, header: &BatchHeader) {
        let before = self.batches.last().map_or(i64::MIN, |place| place.max_timestamp);
        self.batches.push(Place {
            position,
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            max_timestamp: before.max(header.max_timestamp),
        });
        self.end = self.end.max(header.next_offset());
    }

    /// Whether all batches up to the segment's end are known.
    fn is_whole(&self, len: u64) -> bool {
        self.known_to.0 >= len
    }
}

/// Checks the three index files of a segment, as far as they exist; gives the number of entries.
pub(super) fn check(
    source: &Source,
    files: &[Named],
    layout: &Layout,
    density: Density,
    findings: &mut Findings<'_>,
) -> Result<u64, Error> {
    let log_len =
        files.iter().find(|file| file.meaning == FileName::Log(layout.base)).map_or(0, |file| file.len);
    let whole = layout.is_whole(log_len);
    let mut entries = 0;
    for file in files {
        let name = file.name.as_str();
        let bytes = match file.meaning {
            FileName::Index(base) | FileName::TimeIndex(base) | FileName::TxnIndex(base)
                if base == layout.base =>
            {
                source.read(name)?.unwrap_or_default()
            }
            _ => continue,
        };
        entries += match file.meaning {
            FileName::Index(_) => {
                let found = offset_entries(&bytes);
                each(name, found, OffsetIndexEntry::SIZE, advice::INDEX, findings, |before, entry| {
                    offset_entry(layout, before, entry, whole)
                })
            }
            FileName::TimeIndex(_) => {
                let found = time_entries(&bytes);
                each(name, found, TimeIndexEntry::SIZE, advice::TIME_INDEX, findings, |before, entry| {
                    time_entry(layout, before, entry, whole)
                })
            }
            _ => {
                let found = aborted_entries(&bytes);
                each(name, found, AbortedTxn::SIZE, advice::TXN_INDEX, findings, |before, entry| {
                    aborted(layout, before, entry, density)
                })
            }
        };
    }
    Ok(entries)
}

fn each<T>(
    name: &str,
    found: Entries<T>,
    size: usize,
    advice: &str,
    findings: &mut Findings<'_>,
    check: impl Fn(Option<&T>, &T) -> Result<(), Malformed>,
) -> u64 {
    let mut before = None;
    for (at, entry) in &found.entries {
        if let Err(malformed) = check(before, entry) {
            findings.add(name, malformed, *at, *at + size as u64, advice);
        }
        before = Some(entry);
    }
    if let Some(malformed) = found.damage {
        let at = malformed.at;
        findings.add(name, malformed, 0, at + 1, advice);
    }
    found.entries.len() as u64
}

/// A look-up of an offset at or above the entry's begins at its position: no such offset may stand before it.
fn offset_entry(
    layout: &Layout,
    before: Option<&OffsetIndexEntry>,
    entry: &OffsetIndexEntry,
    whole: bool,
) -> Result<(), Malformed> {
    let (offset, position) = (entry.last_offset(layout.base), entry.position());
    if let Some(before) = before {
        let last = before.last_offset(layout.base);
        if offset <= last {
            return Err(Malformed::new("index offset", 0, format!("more than {last}"), offset));
        }
        if position <= before.position() {
            return Err(Malformed::new(
                "index position",
                4,
                format!("more than {}", before.position()),
                position,
            ));
        }
    }
    let Ok(index) = layout.batches.binary_search_by_key(&position, |place| place.position) else {
        let hidden = !whole && position >= layout.known_to;
        let expected = "the first byte of a batch";
        return if hidden { Ok(()) } else { Err(Malformed::new("index position", 4, expected, position)) };
    };
    match layout.batches.get(index) {
        Some(place) if offset < place.base_offset => {
            let expected =
                format!("{} or more, as the batch at {position:?} begins there", place.base_offset);
            Err(Malformed::new("index offset", 0, expected, offset))
        }
        _ if offset >= layout.end && whole => {
            Err(Malformed::new("index offset", 0, format!("less than {}", layout.end), offset))
        }
        _ => Ok(()),
    }
}

/// A search for a timestamp above the entry's begins behind its offset: no greater one may stand up to there.
fn time_entry(
    layout: &Layout,
    before: Option<&TimeIndexEntry>,
    entry: &TimeIndexEntry,
    whole: bool,
) -> Result<(), Malformed> {
    let (timestamp, offset) = (entry.timestamp(), entry.last_offset(layout.base));
    if let Some(before) = before {
        if timestamp < before.timestamp() {
            let expected = format!("{} or more", before.timestamp());
            return Err(Malformed::new("index timestamp", 0, expected, timestamp));
        }
        let last = before.last_offset(layout.base);
        if offset < last {
            return Err(Malformed::new("index offset", 8, format!("{last} or more"), offset));
        }
    }
    if offset >= layout.end && whole && offset > layout.base {
        return Err(Malformed::new("index offset", 8, format!("less than {}", layout.end), offset));
    }
    let up_to = layout.batches.partition_point(|place| place.last_offset <= offset);
    let greatest =
        up_to.checked_sub(1).and_then(|last| layout.batches.get(last)).map(|place| place.max_timestamp);
    match greatest.filter(|greatest| *greatest > timestamp) {
        Some(greatest) => {
            let expected = format!("{greatest} or more, as a batch up to offset {offset} has");
            Err(Malformed::new("index timestamp", 0, expected, timestamp))
        }
        None => Ok(()),
    }
}

/// The marker of an aborted transaction stands in the segment, unless compaction took it.
fn aborted(
    layout: &Layout,
    before: Option<&AbortedTxn>,
    txn: &AbortedTxn,
    density: Density,
) -> Result<(), Malformed> {
    if let Some(before) = before.filter(|before| before.last_offset >= txn.last_offset) {
        let expected = format!("more than {}", before.last_offset);
        return Err(Malformed::new("last offset", 18, expected, txn.last_offset));
    }
    if txn.last_offset < layout.base || txn.last_offset >= layout.until {
        let expected = format!("{} to {} (exclusive), as the segment holds", layout.base, layout.until);
        return Err(Malformed::new("last offset", 18, expected, txn.last_offset));
    }
    let stands = layout.batches.iter().any(|place| place.last_offset == txn.last_offset);
    if density == Density::Dense && !stands {
        return Err(Malformed::new("last offset", 18, "the offset of a marker", txn.last_offset));
    }
    Ok(())
}
