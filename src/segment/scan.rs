//! Walks the batches of a segment file, from one to the next.
//!
//! Invariant: a scan visits an unbroken run of batches that begins where the caller says, and ends exactly where the
//! first batch is that does not parse, does not fit into the file, or (in [`scan_checked`]) does not match its CRC.
//! It never reads behind `end`, never asks for more memory than the file has bytes or a batch has proven ones, and
//! never decides what the end means: a torn tail and rot look alike from here.

use std::io;
use std::ops::ControlFlow;

use crc_fast::{CrcAlgorithm, Digest};

use crate::error::Malformed;
use crate::format::batch::{
    ATTRIBUTES_AT, BatchHeader, CRC_AT, HEADER_SIZE, LEADER_EPOCH_AT, LENGTH_AT, LOG_OVERHEAD, verify_crc,
};
use crate::storage::File;
use crate::types::{LeaderEpoch, Offset, Position};

/// Where and why a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanEnd {
    /// The byte behind the last batch of the run: the end of the file, the first damaged byte, or the first byte of
    /// the batch at which the visitor stopped.
    pub position: Position,
    /// What stands there.
    pub reason: EndReason,
}

/// Why a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Every byte up to the end of the scan, or of a file that is shorter, belongs to a batch.
    EndOfFile,
    /// The visitor broke off; the batch it was shown is not part of the run.
    Stopped,
    /// The bytes at the end of the run are not a batch.
    Damage(Damage),
}

/// What is wrong with the bytes at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The shape of the damage.
    pub kind: DamageKind,
    /// The rule that is broken; its byte counts from the position at which the scan ended.
    pub malformed: Malformed,
}

/// The shapes that damage has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// The file ends inside a header.
    ShortHeader,
    /// The header is whole, but the file ends before the batch does (or the length is wrong).
    ShortBatch,
    /// Nothing but zeros up to the end: blocks that were allocated or lengthened and never written. Zeros with data
    /// behind them are a lost page, and a [`Self::BadHeader`].
    Zeros,
    /// The header breaks a rule of the format.
    BadHeader,
    /// The bytes do not match the CRC in the header.
    BadCrc,
}

/// Visits the header of every batch from `from` on, without reading payloads: nothing but the headers is proven.
///
/// Large batches cost one read of a header each; where batches are small, one read covers many headers.
///
/// # Errors
///
/// That of a failing read. Damage is not an error but an [`EndReason`].
pub fn scan_headers(
    file: &dyn File,
    from: Position,
    end: u64,
    mut visit: impl FnMut(Position, &BatchHeader) -> ControlFlow<()>,
) -> io::Result<ScanEnd> {
    let mut window = Window::new(file, end)?;
    let mut pace = Pace::default();
    let mut at = from;
    loop {
        let header = match window.header(at, pace.read_ahead())? {
            Ok(header) => header,
            Err(reason) => return Ok(ScanEnd { position: at, reason }),
        };
        if visit(at, &header).is_break() {
            return Ok(ScanEnd { position: at, reason: EndReason::Stopped });
        }
        pace.saw(header.size());
        at = at.saturating_add(header.size() as u64);
    }
}

/// Visits every batch from `from` on and proves its CRC before the visitor sees it.
///
/// The file is read once, in order, in chunks of 1 MiB into one buffer that grows only for a larger batch. A batch of
/// more than 8 MiB is read twice: a damaged length must not make this ask for a gigabyte, so its CRC is proven in
/// pieces first.
///
/// # Errors
///
/// That of a failing read. Damage is not an error but an [`EndReason`].
pub fn scan_checked(
    file: &dyn File,
    from: Position,
    end: u64,
    mut visit: impl FnMut(Position, &BatchHeader, &[u8]) -> ControlFlow<()>,
) -> io::Result<ScanEnd> {
    let mut window = Window::new(file, end)?;
    let mut at = from;
    loop {
        let (header, batch) = match window.batch(at, CHUNK)? {
            Ok(batch) => batch,
            Err(reason) => return Ok(ScanEnd { position: at, reason }),
        };
        if visit(at, &header, batch).is_break() {
            return Ok(ScanEnd { position: at, reason: EndReason::Stopped });
        }
        at = at.saturating_add(header.size() as u64);
    }
}

/// The header of the one batch at `at` if it ends at or below `end` and its CRC is right; else `None`.
///
/// # Errors
///
/// That of a failing read.
pub(super) fn check_batch(file: &dyn File, at: Position, end: u64) -> io::Result<Option<BatchHeader>> {
    Ok(Window::new(file, end)?.batch(at, HEADER_SIZE)?.ok().map(|(header, _)| header))
}

/// Whether the offsets of a log follow each other without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Density {
    /// Every batch begins at the offset behind the one before and holds a record for each of its offsets.
    Dense,
    /// Compaction may have taken records and batches out: offsets only rise.
    Sparse,
    /// Written as a follower of a log that was compacted: offsets only rise, but a segment begins where the one before it
    /// ends, or so far behind that no index entry could have expressed it ([`super::roll::next_base`]).
    Followed,
}

/// What a CRC cannot show: that each batch is the one that belongs behind the one before it.
///
/// Base offset and leader epoch stand outside of what the CRC covers, so rot in them, and the stale tail of an earlier
/// life of the file, show only here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuity {
    expected: Offset,
    until: Offset,
    density: Density,
    /// Compaction has gone through the log up to here.
    compacted: Offset,
    leader_epoch: LeaderEpoch,
}

impl Continuity {
    /// A log whose next batch begins at `expected` and whose last leader epoch was `leader_epoch`
    /// ([`LeaderEpoch::NONE`] if none is known).
    #[must_use]
    pub fn new(expected: Offset, density: Density, leader_epoch: LeaderEpoch) -> Self {
        Self { expected, until: Offset(i64::MAX), density, compacted: Offset::ZERO, leader_epoch }
    }

    /// The same, for batches that must end at or below the offset `until` (exclusive): the base offset of the next
    /// segment, or the first offset that an index entry of this one cannot express.
    #[must_use]
    pub fn until(self, until: Offset) -> Self {
        Self { until, ..self }
    }

    /// The same, for a log that compaction has gone through up to `offset`: below it offsets only rise, and a batch begins
    /// there or one ends there.
    #[must_use]
    pub fn compacted_below(self, offset: Offset) -> Self {
        Self { compacted: offset, ..self }
    }

    /// Takes the next batch.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if its offsets or its leader epoch do not continue the log; the checker is left as it was.
    pub fn check(&mut self, header: &BatchHeader) -> Result<(), Malformed> {
        let base = header.base_offset;
        let expected = self.expected;
        let compacted = expected < self.compacted && base <= self.compacted;
        let density = if compacted { Density::Sparse } else { self.density };
        match density {
            Density::Dense if base != expected => {
                return Err(Malformed::new("base offset", 0, expected, base));
            }
            Density::Sparse | Density::Followed if base < expected => {
                return Err(Malformed::new("base offset", 0, format!("{expected} or more"), base));
            }
            Density::Dense if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 => {
                let wanted = i64::from(header.last_offset_delta) + 1;
                return Err(Malformed::new("record count", RECORD_COUNT_AT, wanted, header.record_count));
            }
            Density::Dense | Density::Sparse | Density::Followed => {}
        }
        if header.next_offset() > self.until {
            let most = format!("below {} with the last record", self.until);
            return Err(Malformed::new("base offset", 0, most, header.last_offset()));
        }
        if header.leader_epoch < self.leader_epoch {
            let wanted = format!("{} or more", self.leader_epoch.0);
            return Err(Malformed::new(
                "partition leader epoch",
                LEADER_EPOCH_AT as u64,
                wanted,
                header.leader_epoch.0,
            ));
        }
        self.expected = header.next_offset();
        self.leader_epoch = header.leader_epoch;
        Ok(())
    }

    /// The offset that the next batch begins at, or is not below.
    #[must_use]
    pub fn expected(&self) -> Offset {
        self.expected
    }

    /// Leader epoch of the last batch taken.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }
}

/// A part of a file in memory that moves forward with the scan.
struct Window<'a> {
    file: &'a dyn File,
    bytes: Vec<u8>,
    start: u64,
    /// The end of the scan.
    end: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File, end: u64) -> io::Result<Self> {
        // Where the file is shorter than the caller thinks, its own end counts: a hop over a batch that the file does
        // not hold to its last byte would look like the end.
        Ok(Self { file, bytes: Vec::new(), start: 0, end: end.min(file.len()?) })
    }

    /// The header at `at` of a batch that fits below the end, or why the scan ends here.
    fn header(&mut self, at: Position, ahead: usize) -> io::Result<Result<BatchHeader, EndReason>> {
        let bytes = self.view(at, HEADER_SIZE, ahead)?;
        let Some(bytes) = bytes.first_chunk::<HEADER_SIZE>() else {
            if bytes.is_empty() {
                return Ok(Err(EndReason::EndOfFile));
            }
            let zeros = is_zero(bytes);
            let malformed = Malformed::new(
                "batch header",
                0,
                format!("{HEADER_SIZE} bytes"),
                format!("{} left", bytes.len()),
            );
            let kind = if zeros { DamageKind::Zeros } else { DamageKind::ShortHeader };
            return Ok(Err(EndReason::Damage(Damage { kind, malformed })));
        };
        match BatchHeader::from_array(bytes) {
            Ok(header) => Ok(self.fits(at, header)),
            Err(malformed) => {
                let zeros = is_zero(bytes) && self.zeros_to_the_end(at)?;
                let kind = if zeros { DamageKind::Zeros } else { DamageKind::BadHeader };
                Ok(Err(EndReason::Damage(Damage { kind, malformed })))
            }
        }
    }

    /// The batch at `at`, whole and with a right CRC, or why the scan ends here.
    fn batch(&mut self, at: Position, ahead: usize) -> io::Result<Result<(BatchHeader, &[u8]), EndReason>> {
        let header = match self.header(at, ahead)? {
            Ok(header) => header,
            Err(reason) => return Ok(Err(reason)),
        };
        let large = header.size() > LARGE_BATCH;
        if large && let Err(malformed) = verify_crc_in_pieces(self.file, at, &header)? {
            return Ok(Err(EndReason::Damage(Damage { kind: DamageKind::BadCrc, malformed })));
        }
        let batch = self.view(at, header.size(), ahead)?;
        match verify_crc(&header, batch) {
            Ok(()) => Ok(Ok((header, batch))),
            Err(malformed) => Ok(Err(EndReason::Damage(Damage { kind: DamageKind::BadCrc, malformed }))),
        }
    }

    /// Passes on a header whose batch ends at or below the end.
    fn fits(&self, at: Position, header: BatchHeader) -> Result<BatchHeader, EndReason> {
        let left = self.end.saturating_sub(at.0);
        if header.size() as u64 <= left {
            return Ok(header);
        }
        let most = format!("at most {} (the bytes left, less 12)", left.saturating_sub(LOG_OVERHEAD as u64));
        let malformed = Malformed::new("batch length", LENGTH_AT as u64, most, header.batch_length);
        Err(EndReason::Damage(Damage { kind: DamageKind::ShortBatch, malformed }))
    }

    /// `len` bytes from `at`, or as many as there are up to the end. A read that is needed for them goes on to `ahead`
    /// bytes behind `at` if that is more.
    fn view(&mut self, at: Position, len: usize, ahead: usize) -> io::Result<&[u8]> {
        let have = self.start.saturating_add(self.bytes.len() as u64);
        let len = len.min(usize::try_from(self.end.saturating_sub(at.0)).unwrap_or(usize::MAX));
        if at.0 < self.start || at.0.saturating_add(len as u64) > have {
            self.refill(at, len.max(ahead))?;
        }
        let skip = usize::try_from(at.0.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// Moves the window to `at`, keeping what it already holds from there on.
    fn refill(&mut self, at: Position, len: usize) -> io::Result<()> {
        let kept = at.0.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        match kept.filter(|skip| *skip < self.bytes.len()) {
            Some(skip) => drop(self.bytes.drain(..skip)),
            None => self.bytes.clear(),
        }
        self.start = at.0;
        let len = len.min(usize::try_from(self.end.saturating_sub(at.0)).unwrap_or(usize::MAX));
        while self.bytes.len() < len {
            let missing = len - self.bytes.len();
            let from = at.0.saturating_add(self.bytes.len() as u64);
            match self.file.read_to(&mut self.bytes, missing, from) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn zeros_to_the_end(&mut self, from: Position) -> io::Result<bool> {
        let mut at = from;
        loop {
            let bytes = self.view(at, MOST_READ_AHEAD, MOST_READ_AHEAD)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if !is_zero(bytes) {
                return Ok(false);
            }
            at = at.saturating_add(bytes.len() as u64);
        }
    }
}

/// How far a header scan reads ahead.
///
/// A read of 61 bytes costs about as much as copying 4 KiB, so a window pays off when it holds many headers. It grows
/// with the way already gone: a look-up of one offset ends after a few batches and must not read 64 KiB for them.
#[derive(Default)]
struct Pace {
    walked: usize,
    average: usize,
}

impl Pace {
    fn saw(&mut self, size: usize) {
        self.average = if self.walked == 0 { size } else { (self.average / 4 * 3).saturating_add(size / 4) };
        self.walked = self.walked.saturating_add(size);
    }

    fn read_ahead(&self) -> usize {
        if self.walked == 0 || self.average > SMALL_BATCH {
            HEADER_SIZE
        } else {
            self.walked.clamp(LEAST_READ_AHEAD, MOST_READ_AHEAD)
        }
    }
}

/// [`verify_crc`] for a batch that is too large to be read before it is believed.
fn verify_crc_in_pieces(
    file: &dyn File,
    at: Position,
    header: &BatchHeader,
) -> io::Result<Result<(), Malformed>> {
    let end = at.saturating_add(header.size() as u64);
    let mut window = Window { file, bytes: Vec::new(), start: 0, end: end.0 };
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    let mut piece = at.saturating_add(ATTRIBUTES_AT as u64);
    while piece < end {
        let bytes = window.view(piece, CHUNK, CHUNK)?;
        if bytes.is_empty() {
            break;
        }
        digest.update(bytes);
        piece = piece.saturating_add(bytes.len() as u64);
    }
    let found = digest.finalize();
    if piece == end && found == u64::from(header.crc) {
        return Ok(Ok(()));
    }
    let expected = format!("{:#010x}", header.crc);
    Ok(Err(Malformed::new("CRC", CRC_AT as u64, expected, format!("{found:#010x} over the bytes"))))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Bytes of one sequential read.
const CHUNK: usize = 1 << 20;
/// The largest batch for which memory is taken before its CRC is known.
const LARGE_BATCH: usize = 8 << 20;
/// Up to this average size of a batch a header scan reads ahead.
const SMALL_BATCH: usize = 4 << 10;
const LEAST_READ_AHEAD: usize = 4 << 10;
const MOST_READ_AHEAD: usize = 64 << 10;
const RECORD_COUNT_AT: u64 = (HEADER_SIZE - 4) as u64;

#[cfg(test)]
mod tests;
