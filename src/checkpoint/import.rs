//! A run that came from another log.
//!
//! Invariant: a run is imported only if every byte of it is proven, and only if it says of no batch that it stands here.

use std::path::Path;
use std::sync::Arc;

use super::run_reader::Run;
use crate::error::{Error, Malformed};
use crate::format::names::run_name;
use crate::format::run::{RunHeader, RunKind};
use crate::storage::{OpenMode, Storage};
use crate::types::LogPoint;

const ADVICE: &str = "export the state again, or fetch it again from where it was kept";

/// The header of an exported state; nothing behind the header is looked at.
///
/// # Errors
///
/// [`Error::Corrupt`] if the bytes are no run, or a run of a log that was not exported.
pub fn check_exported(dir: &Path, bytes: &[u8]) -> Result<RunHeader, Error> {
    let refuse = |malformed: Malformed| {
        let path = dir.join("exported state");
        Error::Corrupt(Box::new(malformed.in_file(&path, 0, bytes.len() as u64, ADVICE)))
    };
    let len = RunHeader::peek_len(bytes, bytes.len() as u64).map_err(refuse)?;
    let (header, _) = RunHeader::decode(bytes.get(..len).unwrap_or_default()).map_err(refuse)?;
    if header.file_len() != bytes.len() as u64 {
        return Err(refuse(Malformed::new("length of the run", 0, header.file_len(), bytes.len())));
    }
    let exported = header.kind == RunKind::Base
        && header.from == header.to.offset
        && header.to == LogPoint::segment_start(header.to.offset);
    if !exported {
        let found = format!("a {:?} from offset {} to {:?}", header.kind, header.from, header.to);
        return Err(refuse(Malformed::new(
            "range of the run",
            24,
            "a base that begins where it ends",
            found,
        )));
    }
    Ok(header)
}

/// Writes an exported state as a run of `dir`, synced, and reads it back to its last byte. Its name is not durable yet.
///
/// # Errors
///
/// [`Error::Corrupt`] if a byte of it is damaged: the file is taken away again; [`Error::Io`].
pub fn import_run(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    bytes: &[u8],
    header: &RunHeader,
) -> Result<Arc<Run>, Error> {
    let path = dir.join(run_name(header.number));
    let written = storage
        .open(&path, OpenMode::CreateNew)
        .and_then(|file| file.write_all_at(bytes, 0).and_then(|()| file.sync_data()))
        .map_err(|error| Error::io("write", &path, error));
    let read = written.and_then(|()| {
        let run = Run::open_unnamed(&**storage, dir, header.number)?;
        run.verify().map(|()| run)
    });
    read.inspect_err(|_| {
        // If this fails too, the next import takes the file away.
        let _ = storage.unlink(&path);
    })
}
