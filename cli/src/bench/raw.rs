//! The raw limits: the system calls that no log can do without, and nothing else.
//!
//! Invariant: files are made and allocated as the log does it (the first one without reserved blocks, later ones ahead
//! of time), outside of the timed region.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use rustix::fs::{FallocateFlags, Mode, OFlags};

/// Bytes in front of those that a batch's CRC covers.
const BEFORE_CRC: usize = 17;
const ATTRIBUTES_AT: usize = 21;
/// Bytes of a batch header.
const HEADER: usize = 61;
/// Where the length of what follows it stands, and where that begins.
const LENGTH_AT: usize = 8;
const LENGTH_END: usize = 12;

/// Files that are written one after another.
pub(super) struct RawLog {
    files: Vec<OwnedFd>,
    now: usize,
    at: u64,
    segment: u64,
}

impl RawLog {
    /// Makes the files for `total` bytes in segments of `segment` bytes.
    pub(super) fn create(dir: &Path, total: u64, segment: u64, allocate: u64) -> Result<Self> {
        let mut files = Vec::new();
        for number in 0..total.div_ceil(segment).max(1) + 1 {
            let file =
                open(&dir.join(format!("{number:020}.log")), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
            if number > 0 && allocate > 0 {
                rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, allocate.min(segment))?;
            }
            files.push(file);
        }
        Ok(Self { files, now: 0, at: 0, segment })
    }

    /// One positional write.
    pub(super) fn append(&mut self, batch: &[u8]) -> Result<()> {
        let at = self.place_for(batch.len() as u64);
        let mut rest = batch;
        let mut at = at;
        while !rest.is_empty() {
            let written = rustix::io::pwrite(self.file()?, rest, at)?;
            ensure!(written > 0, "the file takes no more bytes");
            at += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// One vectored positional write.
    pub(super) fn append_vectored(&mut self, batches: &[IoSlice<'_>]) -> Result<()> {
        let bytes = batches.iter().map(|batch| batch.len()).sum::<usize>();
        let at = self.place_for(bytes as u64);
        let written = rustix::io::pwritev(self.file()?, batches, at)?;
        ensure!(written == bytes, "{written} of {bytes} bytes were written");
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<()> {
        Ok(rustix::fs::fdatasync(self.file()?)?)
    }

    fn place_for(&mut self, bytes: u64) -> u64 {
        if self.at + bytes > self.segment {
            self.now += 1;
            self.at = 0;
        }
        let at = self.at;
        self.at += bytes;
        at
    }

    fn file(&self) -> Result<&OwnedFd> {
        match self.files.get(self.now) {
            Some(file) => Ok(file),
            None => bail!("more was written than the files were made for"),
        }
    }
}

/// Compares the CRC-32C of a batch with its header.
pub(super) fn check_crc(batch: &[u8]) -> Result<()> {
    let stored =
        batch.get(BEFORE_CRC..ATTRIBUTES_AT).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let covered = batch.get(ATTRIBUTES_AT..).unwrap_or_default();
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered);
    ensure!(stored.map(u64::from) == Some(sum), "the CRC of a batch is wrong");
    Ok(())
}

/// Walks over a segment by its batch headers alone, one small read each, and counts the batches.
pub(super) fn hop(path: &Path) -> Result<u64> {
    let file = open(path, OFlags::RDONLY)?;
    let mut header = [0; HEADER];
    let (mut at, mut batches) = (0, 0);
    loop {
        let read = rustix::io::pread(&file, &mut header, at)?;
        if read == 0 {
            return Ok(batches);
        }
        ensure!(read == HEADER, "{} ends inside a batch header", path.display());
        let length =
            header.get(LENGTH_AT..LENGTH_END).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        at += u64::from(length.unwrap_or_default()) + LENGTH_END as u64;
        batches += 1;
    }
}

/// Fills `buffer` from `at`.
pub(super) fn read(file: impl AsFd, buffer: &mut [u8], at: u64) -> Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let read = rustix::io::pread(&file, rest, at + done as u64)?;
        ensure!(read > 0, "the file ends early");
        done += read;
    }
    Ok(())
}

/// Reads a whole file and writes, of each megabyte, `part.0` of `part.1` bytes to a new one, which is synced. Answers the
/// bytes read.
pub(super) fn copy(from: &Path, to: &Path, part: (u64, u64)) -> Result<u64> {
    let from = open(from, OFlags::RDONLY)?;
    let to = open(to, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    let mut buffer = vec![0; 1 << 20];
    let (mut at, mut written) = (0, 0);
    loop {
        let read = rustix::io::pread(&from, &mut buffer, at)?;
        if read == 0 {
            rustix::fs::fsync(&to)?;
            return Ok(at);
        }
        let kept = usize::try_from(read as u64 * part.0 / part.1.max(1))?.min(read);
        let mut rest = buffer.get(..kept).unwrap_or_default();
        while !rest.is_empty() {
            let count = rustix::io::pwrite(&to, rest, written)?;
            ensure!(count > 0, "the file takes no more bytes");
            written += count as u64;
            rest = rest.get(count..).unwrap_or_default();
        }
        at += read as u64;
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644))?)
}
