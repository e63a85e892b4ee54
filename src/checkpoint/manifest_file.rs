//! The manifest as a file.
//!
//! Invariant: after any crash the file is a whole manifest, the old one or the new one; when
//! [`write_manifest`] returned `Ok`, it is the new one, and every name made in the directory before is durable too.

use std::io;
use std::path::Path;

use crate::error::{Corruption, Error, Malformed};
use crate::format::manifest::{MAX_MANIFEST_SIZE, Manifest};
use crate::format::names::MANIFEST;
use crate::storage::{Storage, read_all, replace};

const ADVICE: &str =
    "runs that touch are adopted by fingerprint and the log is scanned from where they end; check the medium";

/// What stands where the manifest should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestState {
    /// No file: a directory that was never ours, or one that lost it.
    Missing,
    /// A file that is no manifest.
    Damaged(Box<Corruption>),
    /// The manifest.
    Present(Box<Manifest>),
}

/// Reads the manifest of a partition's directory. What it returns may stand only in the page cache: sync the directory
/// before anything is deleted on its word.
///
/// # Errors
///
/// [`Error::Io`] if the file is there and cannot be read.
pub fn read_manifest(storage: &dyn Storage, dir: &Path) -> Result<ManifestState, Error> {
    let path = dir.join(MANIFEST);
    let bytes = match read_all(storage, &path, MAX_MANIFEST_SIZE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(ManifestState::Missing),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            let malformed =
                Malformed::new("manifest length", 0, format!("at most {MAX_MANIFEST_SIZE} bytes"), e);
            return Ok(ManifestState::Damaged(Box::new(malformed.in_file(
                &path,
                0,
                MAX_MANIFEST_SIZE,
                ADVICE,
            ))));
        }
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    Ok(match Manifest::decode(&bytes) {
        Ok(manifest) => ManifestState::Present(Box::new(manifest)),
        Err(malformed) => {
            ManifestState::Damaged(Box::new(malformed.in_file(&path, 0, bytes.len() as u64, ADVICE)))
        }
    })
}

/// Replaces the manifest: temporary file, sync, rename, directory sync.
///
/// # Errors
///
/// [`Error::Io`] with what failed. Which manifest a crash leaves is not known then: keep the runs of both, and latch if
/// it was the directory sync.
pub fn write_manifest(storage: &dyn Storage, dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    replace(storage, dir, MANIFEST, &manifest.encode())
        .map_err(|e| Error::io("replace", &dir.join(MANIFEST), e))
}
