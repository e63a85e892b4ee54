//! Goes through the batches of a `.log` file, damaged ones included.
//!
//! Invariant: a batch whose header parses is visited even if its bytes do not match its CRC, so that what stands behind
//! it is seen too; the walk ends where no header stands. Nothing is guessed behind that.

use std::io;
use std::ops::ControlFlow;

use oncelog::error::Malformed;
use oncelog::format::batch::{BatchHeader, HEADER_SIZE, verify_crc};
use oncelog::format::compression::{Codec, CompressionError, decompress};
use oncelog::format::cursor::Cursor;
use oncelog::format::record::{Record, parse_record};
use oncelog::segment::scan::{EndReason, ScanEnd, scan_headers};
use oncelog::storage::File;
use oncelog::types::Position;

/// Decompressed, no batch of a sane broker has more records than this: some 250 times the largest default batch.
const MOST_RECORD_BYTES: usize = 256 << 20;

/// A batch on the way.
pub(super) struct Seen<'a> {
    pub(super) position: Position,
    pub(super) header: &'a BatchHeader,
    /// All its bytes, right or wrong.
    pub(super) bytes: &'a [u8],
    /// What its CRC says.
    pub(super) crc: Result<(), Malformed>,
}

/// Shows every batch from the start of `file` to its end or to the first bytes that are no batch.
pub(super) fn walk(
    file: &dyn File,
    mut visit: impl FnMut(Seen<'_>) -> Result<(), io::Error>,
) -> io::Result<ScanEnd> {
    let len = file.len()?;
    let mut bytes = Vec::new();
    let mut failed = None;
    let end = scan_headers(file, Position::ZERO, len, |position, header| {
        bytes.clear();
        let seen = read_whole(file, &mut bytes, header.size(), position)
            .and_then(|()| visit(Seen { position, header, bytes: &bytes, crc: verify_crc(header, &bytes) }));
        match seen {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(end), Err)
}

fn read_whole(file: &dyn File, bytes: &mut Vec<u8>, len: usize, position: Position) -> io::Result<()> {
    while bytes.len() < len {
        let at = position.0.saturating_add(bytes.len() as u64);
        match file.read_to(bytes, len - bytes.len(), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The rule that the bytes at the end of a walk break; `None` at the end of the file.
pub(super) fn damage_of(end: &ScanEnd) -> Option<&Malformed> {
    match &end.reason {
        EndReason::Damage(damage) => Some(&damage.malformed),
        EndReason::EndOfFile | EndReason::Stopped => None,
    }
}

/// Why records were not shown.
pub(super) enum Closed {
    /// The bytes of the records are damaged, or are not what their codec writes.
    Malformed(Malformed),
    /// This build cannot open them.
    Unsupported(String),
}

impl From<Malformed> for Closed {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Shows each record of a batch with its size in bytes, its length field included. The byte of an error counts from the
/// start of the records, decompressed.
pub(super) fn each_record(
    header: &BatchHeader,
    batch: &[u8],
    mut visit: impl FnMut(&Record<'_>, usize) -> Result<(), Malformed>,
) -> Result<(), Closed> {
    let payload = batch.get(HEADER_SIZE..).unwrap_or_default();
    let codec = Codec::from_id(header.attributes.codec()).map_err(closed)?;
    // Compaction takes the codec's bytes with the last record and may leave its number.
    let records = if payload.is_empty() && header.record_count == 0 {
        payload.into()
    } else {
        decompress(codec, payload, MOST_RECORD_BYTES).map_err(closed)?
    };
    let mut cursor = Cursor::new(&records);
    for _ in 0..header.record_count {
        let start = cursor.position();
        let record = parse_record(&mut cursor)?;
        visit(&record, cursor.position() - start)?;
    }
    cursor.finish("record count")?;
    Ok(())
}

fn closed(error: CompressionError) -> Closed {
    match error {
        CompressionError::Malformed(malformed) => Closed::Malformed(malformed),
        CompressionError::TooLarge { limit } => {
            let expected = format!("at most {limit} bytes of records");
            Closed::Malformed(Malformed::new("compressed records", 0, expected, "more"))
        }
        unsupported @ CompressionError::Unsupported { .. } => Closed::Unsupported(unsupported.to_string()),
    }
}
