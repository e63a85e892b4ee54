//! The answer to a fetch: a file range that stays valid, and from it bytes, batches or records.
//!
//! Invariant: what it reads belongs to the log as it was at the fetch; once the log was cut since, it reads nothing.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::batches::Batches;
use super::committed::AbortedFilter;
use super::generation::Ticket;
use super::records::OwnedRecord;
use crate::error::Error;
use crate::format::batch::BatchHeader;
use crate::format::index_entry::AbortedTxn;
use crate::storage::File;
use crate::types::Offset;

/// Up to where a fetch may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Up to the high watermark, which is the durable end of the log. The default: what is read cannot be undone.
    #[default]
    HighWatermark,
    /// Up to the last written batch. A power cut may take back what is above the durable end.
    LogEnd,
    /// Up to the last stable offset, without the records of aborted transactions.
    ReadCommitted,
}

/// A range of whole batches in one segment.
///
/// It keeps the file open: the bytes stay readable after the segment is deleted.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) range: Range<u64>,
    pub(super) first: Option<BatchHeader>,
    /// No batch in it ends behind this offset.
    pub(super) end: Offset,
    pub(super) requested: Offset,
    pub(super) high_watermark: Offset,
    pub(super) last_stable_offset: Offset,
    pub(super) log_start_offset: Offset,
    pub(super) aborted: Vec<AbortedTxn>,
    pub(super) generation: Ticket,
}

impl Fetched {
    /// Whether there was nothing to read below the bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The file and the bytes in it, for `sendfile`.
    ///
    /// They begin with the batch that holds the requested offset, so the first records may lie before it.
    #[must_use]
    pub fn file_range(&self) -> (&Arc<dyn File>, Range<u64>) {
        (&self.file, self.range.clone())
    }

    /// Header of the first batch.
    #[must_use]
    pub fn first_batch(&self) -> Option<&BatchHeader> {
        self.first.as_ref()
    }

    /// The offset that was asked for.
    #[must_use]
    pub fn requested(&self) -> Offset {
        self.requested
    }

    /// The high watermark at the time of the fetch: the end (exclusive) of what is durable.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The last stable offset at the time of the fetch: the end (exclusive) of what is decided.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.last_stable_offset
    }

    /// The aborted transactions that reach into the range, for a consumer that filters for itself: a broker sends producer
    /// and first offset of each. Only for [`Isolation::ReadCommitted`]; ordered by their markers.
    #[must_use]
    pub fn aborted(&self) -> &[AbortedTxn] {
        &self.aborted
    }

    /// First readable offset at the time of the fetch.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    /// Whether the bytes of [`Self::file_range`] still belong to the log. To be asked after they were sent: on an error
    /// the receiver may have got others, and the connection is to be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] if the log was cut since the fetch, wherever it was cut, or closed for good.
    pub fn check_not_truncated(&self) -> Result<(), Error> {
        self.generation.check()
    }

    /// Reads the batches, unchecked, as a consumer gets them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read or ends early; [`Error::Truncated`] if the log was cut since the fetch.
    pub fn bytes(&self) -> Result<Bytes, Error> {
        let mut buffer = Vec::new();
        self.read_into(&mut buffer)?;
        Ok(buffer.into())
    }

    /// Appends the batches to `buffer`, so that a caller can use one buffer again and again.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`].
    pub fn read_into(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.generation.check()?;
        let before = buffer.len();
        let read = self.read_range(buffer);
        // A truncation in between explains every failure, and taints every success.
        if let Err(truncated) = self.generation.check() {
            buffer.truncate(before);
            return Err(truncated);
        }
        read
    }

    fn read_range(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut at = self.range.start;
        while at < self.range.end {
            let wanted = usize::try_from(self.range.end - at).unwrap_or(usize::MAX);
            let read = self.file.read_to(buffer, wanted, at);
            match read.map_err(|error| Error::io("read", &self.path, error))? {
                0 => return Err(Error::io("read", &self.path, std::io::ErrorKind::UnexpectedEof.into())),
                read => at += read as u64,
            }
        }
        Ok(())
    }

    /// Reads the batches and checks each CRC.
    ///
    /// # Errors
    ///
    /// As [`Self::bytes`]; [`Error::Corrupt`] with the place of a damaged batch.
    pub fn batches(&self) -> Result<Batches, Error> {
        Ok(Batches::new(self.bytes()?, self.path.clone(), self.range.start, self.end))
    }

    /// Reads the records from the requested offset on: those of data batches, and with [`Isolation::ReadCommitted`] none
    /// of an aborted transaction. Control records are for [`Self::batches`].
    ///
    /// # Errors
    ///
    /// As [`Self::batches`]; a batch whose codec is not built in is an error.
    pub fn records(&self) -> Result<Vec<OwnedRecord>, Error> {
        let mut records = Vec::new();
        let mut aborted = AbortedFilter::new(&self.aborted);
        for batch in self.batches()? {
            let batch = batch?;
            if aborted.is_void(&batch) || batch.header.attributes.is_control() {
                continue;
            }
            records.extend(batch.records()?.into_iter().filter(|record| record.offset >= self.requested));
        }
        Ok(records)
    }
}
