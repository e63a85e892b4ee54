//! Logs for tests: batches with sound CRCs, and files that hold them.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::format::batch::{
    ATTRIBUTES_AT, Attributes, BatchHeader, CRC_AT, HEADER_SIZE, LOG_OVERHEAD, crc32c,
};
use crate::storage::{File, Mapping, MemoryStorage, OpenMode, Storage};
use crate::types::{LeaderEpoch, Offset};

/// The bytes of a segment and where its batches are.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestLog {
    pub(crate) bytes: Vec<u8>,
    batches: Vec<(u64, BatchHeader)>,
    next_offset: i64,
}

impl TestLog {
    /// Batch number n has n + 1 records (after the tenth it begins again at one) and the timestamp 1000 + n.
    pub(crate) fn with_payloads(sizes: &[usize]) -> Self {
        let mut log = Self::default();
        for (n, size) in (0i64..).zip(sizes) {
            let noise = (n..).map(|i| i.to_be_bytes()[7] ^ 0x5a);
            let payload: Vec<u8> = noise.take(*size).collect();
            log.push(i32::try_from(n % 10).unwrap() + 1, 1_000 + n, &payload);
        }
        log
    }

    pub(crate) fn starting_at(base: i64) -> Self {
        Self { next_offset: base, ..Self::default() }
    }

    /// Appends a batch of `records` offsets.
    pub(crate) fn push(&mut self, records: i32, max_timestamp: i64, payload: &[u8]) {
        let header = BatchHeader {
            base_offset: Offset(self.next_offset),
            batch_length: i32::try_from(HEADER_SIZE - LOG_OVERHEAD + payload.len()).unwrap(),
            leader_epoch: LeaderEpoch(5),
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: records - 1,
            base_timestamp: max_timestamp,
            max_timestamp,
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: records,
        };
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(payload);
        let crc = crc32c(&self.bytes[at + ATTRIBUTES_AT..]);
        self.bytes[at + CRC_AT..at + ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        self.batches.push((at as u64, BatchHeader { crc, ..header }));
        self.next_offset += i64::from(records);
    }

    /// `count` batches of one to four records and of very different sizes, with timestamps that jump; every fifth batch
    /// carries a stored log in its payload.
    pub(crate) fn varied(count: u8) -> Self {
        let mut log = Self::default();
        for n in 0..count {
            let timestamp = 1_000 + i64::from(n) * 3 - i64::from(n % 7) * 11;
            if n % 5 == 4 {
                let mut stored = Self::starting_at(log.next_offset);
                stored.push(1 + i32::from(n % 4), timestamp, b"stored");
                stored.push(1, timestamp + 1, b"stored");
                log.push(1 + i32::from(n % 4), timestamp, &stored.bytes);
            } else {
                log.push(1 + i32::from(n % 4), timestamp, &vec![n; usize::from(n % 3) * 150]);
            }
        }
        log
    }

    /// Leaves offsets out, as compaction does.
    pub(crate) fn skip(&mut self, offsets: i64) {
        self.next_offset += offsets;
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.next_offset)
    }

    pub(crate) fn batches(&self) -> &[(u64, BatchHeader)] {
        &self.batches
    }

    pub(crate) fn positions(&self) -> Vec<u64> {
        self.batches.iter().map(|(at, _)| *at).collect()
    }

    pub(crate) fn ends(&self) -> Vec<u64> {
        self.batches.iter().map(|(at, header)| at + header.size() as u64).collect()
    }

    pub(crate) fn headers(&self) -> Vec<BatchHeader> {
        self.batches.iter().map(|(_, header)| *header).collect()
    }
}

/// A file in memory.
pub(crate) fn file_of(bytes: &[u8]) -> Arc<dyn File> {
    let storage = MemoryStorage::new();
    put(&storage, Path::new("/file.log"), bytes)
}

/// A disk with an empty directory.
pub(crate) fn disk() -> (Arc<dyn Storage>, PathBuf) {
    let (storage, dir) = (MemoryStorage::new(), PathBuf::from("/topic-0"));
    storage.create_dir_all(&dir).unwrap();
    (Arc::new(storage), dir)
}

/// Makes or replaces a file.
pub(crate) fn put(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = storage.open(path, OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// A position as an index into the bytes of a log.
pub(crate) fn index(position: u64) -> usize {
    usize::try_from(position).unwrap()
}

/// A file that notes how it is read.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    file: Arc<dyn File>,
    pub(crate) reads: AtomicUsize,
    pub(crate) largest_read: AtomicUsize,
}

impl WatchedFile {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { file: file_of(bytes), reads: AtomicUsize::new(0), largest_read: AtomicUsize::new(0) }
    }

    fn note(&self, len: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.largest_read.fetch_max(len, Ordering::Relaxed);
    }
}

impl File for WatchedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.note(buf.len());
        self.file.read_at(buf, position)
    }
    fn read_to(&self, buf: &mut Vec<u8>, len: usize, position: u64) -> io::Result<usize> {
        self.note(len);
        self.file.read_to(buf, len, position)
    }
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.file.write_vectored_at(bufs, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn allocate(&self, position: u64, len: u64) -> io::Result<()> {
        self.file.allocate(position, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn map(&self, len: u64) -> io::Result<Mapping> {
        self.file.map(len)
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
