//! The bytes of a simulated file, and which of them a power cut takes away.
//!
//! Invariant of [`Content`]: a byte at or beyond its length is zero, so that growing needs no clearing. Invariant of
//! [`FileBytes`]: a sector in which the cached and the durable bytes differ is either `dirty` (the next sync writes
//! it) or `lost` (a failed sync has marked it clean: no later sync writes it, until it is written again).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes as a whole: a torn write ends at a multiple of this.
pub(super) const SECTOR: usize = 512;
/// What is copied when a write meets a page that a durable state or an image shares.
const PAGE: usize = 4096;
const SECTORS_PER_PAGE: u64 = (PAGE / SECTOR) as u64;

type Page = [u8; PAGE];

/// A page where nothing was ever written.
const HOLE: &Page = &[0; PAGE];

/// Bytes in shared pages under a shared table, so that an image costs next to nothing; a page that was never written is
/// a hole.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
    len: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Hands the bytes from `position` on to `take`, piece by piece, at most `len`; returns how many there were.
    pub(super) fn visit(&self, position: u64, len: usize, mut take: impl FnMut(&[u8])) -> usize {
        let left = self.len.saturating_sub(position);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        for (page, within) in pieces(position, len) {
            take(self.page(page).get(within).unwrap_or_default());
        }
        len
    }

    fn page(&self, page: u64) -> &Page {
        self.pages.get(&page).map_or(HOLE, |page| page)
    }

    fn page_mut(&mut self, page: u64) -> &mut Page {
        Arc::make_mut(Arc::make_mut(&mut self.pages).entry(page).or_insert_with(|| Arc::new([0; PAGE])))
    }

    fn write(&mut self, position: u64, mut bytes: &[u8]) {
        let end = position.saturating_add(bytes.len() as u64);
        for (page, within) in pieces(position, bytes.len()) {
            let (now, rest) = bytes.split_at_checked(within.len()).unwrap_or((bytes, &[]));
            bytes = rest;
            if let Some(place) = self.page_mut(page).get_mut(within) {
                place.copy_from_slice(now);
            }
        }
        self.len = self.len.max(end);
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages = Arc::make_mut(&mut self.pages);
            pages.split_off(&len.div_ceil(PAGE as u64));
            let tail = within_page(len);
            if let Some(last) = pages.get_mut(&(len / PAGE as u64))
                && let Some(cut) = Arc::make_mut(last).get_mut(tail..)
            {
                cut.fill(0);
            }
        }
        self.len = len;
    }

    /// Takes over one sector of `from`, without regard to lengths.
    fn take_sector(&mut self, from: &Self, sector: u64) {
        let page = sector / SECTORS_PER_PAGE;
        let start = within_page(sector * SECTOR as u64);
        let range = start..start + SECTOR;
        let source = from.page(page).get(range.clone());
        if let (Some(to), Some(from)) = (self.page_mut(page).get_mut(range), source) {
            to.copy_from_slice(from);
        }
    }

    /// Takes over one whole page of `from` by sharing it, without regard to lengths.
    fn take_page(&mut self, from: &Self, page: u64) {
        let pages = Arc::make_mut(&mut self.pages);
        match from.pages.get(&page) {
            Some(shared) => pages.insert(page, Arc::clone(shared)),
            None => pages.remove(&page),
        };
    }
}

/// Sectors, as one bit each in a byte for every page that has one.
#[derive(Clone, Debug, Default)]
struct Sectors(BTreeMap<u64, u8>);

impl Sectors {
    /// Calls `change` with the bits of each page that the bytes touch.
    fn over(&mut self, bytes: &Range<u64>, change: impl Fn(&mut u8, u8)) {
        let first = bytes.start / SECTOR as u64;
        let end = bytes.end.div_ceil(SECTOR as u64);
        let mut at = first;
        while at < end {
            let page = at / SECTORS_PER_PAGE;
            let until = end.min((page + 1) * SECTORS_PER_PAGE);
            let bits = (at..until).fold(0, |bits, sector| bits | 1_u8 << (sector % SECTORS_PER_PAGE));
            change(self.0.entry(page).or_default(), bits);
            at = until;
        }
    }

    fn insert(&mut self, bytes: &Range<u64>) {
        self.over(bytes, |bits, new| *bits |= new);
    }

    fn remove(&mut self, bytes: &Range<u64>) {
        if !self.0.is_empty() {
            self.over(bytes, |bits, gone| *bits &= !gone);
            self.0.retain(|_, bits| *bits != 0);
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(page, bits)| {
            let base = page * SECTORS_PER_PAGE;
            (0..SECTORS_PER_PAGE).filter(move |bit| bits & (1_u8 << bit) != 0).map(move |bit| base + bit)
        })
    }
}

/// A part of a file's change that a power cut may or may not take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// The new bytes of the sector of this number.
    Sector(u64),
    /// The new length.
    Length { durable: u64, cached: u64 },
}

/// A file as the page cache shows it and as the medium has it.
#[derive(Clone, Debug, Default)]
pub(super) struct FileBytes {
    cached: Content,
    durable: Content,
    dirty: Sectors,
    lost: Sectors,
    /// End of the blocks that were allocated, whatever the length.
    reserved: u64,
}

impl FileBytes {
    pub(super) fn cached(&self) -> &Content {
        &self.cached
    }

    /// Bytes that the file takes from the disk's capacity.
    pub(super) fn occupied(&self) -> u64 {
        self.cached.len.max(self.reserved)
    }

    pub(super) fn reserve(&mut self, end: u64) {
        self.reserved = self.reserved.max(end);
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.grow(position);
        self.cached.write(position, bytes);
        self.mark_dirty(position..position.saturating_add(bytes.len() as u64));
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.cached.len {
            self.cached.set_len(len);
            self.reserved = self.reserved.min(len);
            // Writing back what lies behind the end is not a thing a sync does.
            let behind = len.div_ceil(SECTOR as u64) * SECTOR as u64..u64::MAX;
            self.forget(&behind);
        }
        self.grow(len);
    }

    /// Makes the file at least `len` long, by zeros. Where the medium still has bytes behind the old end, from before
    /// an unsynced cut, the zeros are unsynced writes.
    fn grow(&mut self, len: u64) {
        let old = self.cached.len;
        if len > old {
            self.cached.set_len(len);
            let stale = old..len.min(self.durable.len);
            if !stale.is_empty() {
                self.mark_dirty(stale);
            }
        }
    }

    fn mark_dirty(&mut self, bytes: Range<u64>) {
        self.lost.remove(&bytes);
        self.dirty.insert(&bytes);
    }

    fn forget(&mut self, behind: &Range<u64>) {
        let page = behind.start / PAGE as u64;
        for sectors in [&mut self.dirty, &mut self.lost] {
            sectors.0.split_off(&(page + 1));
            let until = (page + 1) * PAGE as u64;
            sectors.remove(&(behind.start..until));
        }
    }

    /// Makes every dirty sector and the length durable.
    pub(super) fn sync(&mut self) {
        for (page, bits) in std::mem::take(&mut self.dirty).0 {
            if self.lost.0.contains_key(&page) {
                let base = page * SECTORS_PER_PAGE;
                for bit in (0..SECTORS_PER_PAGE).filter(|bit| bits & (1_u8 << bit) != 0) {
                    self.durable.take_sector(&self.cached, base + bit);
                }
            } else {
                self.durable.take_page(&self.cached, page);
            }
        }
        self.durable.set_len(self.cached.len);
    }

    /// What a failed write-back leaves: the pages count as clean, the cache shows the new bytes, the medium has the
    /// old ones. The length stays to be written: a later sync makes the file longer, by zeros.
    pub(super) fn fail_sync(&mut self) {
        for (page, bits) in std::mem::take(&mut self.dirty).0 {
            *self.lost.0.entry(page).or_default() |= bits;
        }
    }

    /// What memory pressure does to clean pages: they are read again from the medium, which never got the lost ones.
    pub(super) fn drop_clean(&mut self) {
        for sector in std::mem::take(&mut self.lost).iter() {
            self.cached.take_sector(&self.durable, sector);
        }
        // The medium may have bytes behind the end, from before an unsynced cut.
        let len = self.cached.len;
        self.cached.len = u64::MAX;
        self.cached.set_len(len);
    }

    /// Whether a power cut can take anything away.
    pub(super) fn has_unsynced(&self) -> bool {
        !self.dirty.0.is_empty() || self.cached.len != self.durable.len
    }

    /// What the medium has after a power cut: of the dirty sectors and the new length those that `keep` names. A kept
    /// sector behind the old end carries the length with it.
    pub(super) fn after_power_cut(&self, mut keep: impl FnMut(Part) -> bool) -> Self {
        let mut medium = self.durable.clone();
        let mut kept_end = 0;
        for sector in self.dirty.iter() {
            if keep(Part::Sector(sector)) {
                medium.take_sector(&self.cached, sector);
                kept_end = ((sector + 1) * SECTOR as u64).min(self.cached.len);
            }
        }
        let len_changed = self.cached.len != self.durable.len;
        let len = if len_changed && keep(Part::Length { durable: self.durable.len, cached: self.cached.len })
        {
            self.cached.len
        } else {
            self.durable.len.max(kept_end)
        };
        medium.set_len(len);
        Self::durable_as(medium)
    }

    /// A file whose bytes are on the medium and nowhere else.
    pub(super) fn durable_as(content: Content) -> Self {
        Self { cached: content.clone(), durable: content, ..Self::default() }
    }
}

/// The page numbers that `len` bytes from `position` touch, each with the touched range within the page.
fn pieces(position: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut at = position;
    let mut left = len;
    std::iter::from_fn(move || {
        let start = within_page(at);
        let now = left.min(PAGE - start);
        let piece = (at / PAGE as u64, start..start + now);
        at += now as u64;
        left -= now;
        (now > 0).then_some(piece)
    })
}

/// Where in its page a byte stands.
fn within_page(position: u64) -> usize {
    usize::try_from(position % PAGE as u64).unwrap_or_default()
}
