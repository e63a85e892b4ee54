//! A log that begins where another one's exported state ends.
//!
//! Invariant: no crash leaves a log that begins at the state's end and does not know its producers. The order gives that:
//! the run, synced under its name; the empty segment; the manifest. Without a manifest an open adopts the run, which ends
//! where the segment begins; without the run there is nothing, and the directory is a new one.

use std::path::Path;
use std::sync::Arc;

use super::inventory::Inventory;
use crate::checkpoint::{check_exported, import_run, write_manifest};
use crate::error::Error;
use crate::format::manifest::{CompactionState, Manifest};
use crate::format::names::{log_name, run_name};
use crate::storage::{OpenMode, Storage};
use crate::types::{Gaps, History, LogPoint, Offset};

/// Makes a log in `dir` that begins, empty, at the end of `state`, the bytes of an exported run, and knows its producers.
/// What an import that was interrupted has left there is replaced.
///
/// # Errors
///
/// [`Error::Misuse`] if the directory holds a log; [`Error::Corrupt`] if the bytes are no exported state: nothing has
/// changed then; [`Error::Io`].
pub fn import(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    state: &[u8],
    history: History,
) -> Result<Offset, Error> {
    let header = check_exported(dir, state)?;
    let start = header.to.offset;
    let inventory = Inventory::take(storage, dir)?;
    let written = inventory.segments.iter().any(|segment| segment.len > 0);
    if written || inventory.has_manifest || inventory.has_watermark || !inventory.snapshots.is_empty() {
        return Err(Error::Misuse(format!(
            "{} holds a log: a state is imported into a new directory; open the log, or delete it first",
            dir.display()
        )));
    }
    let sync_dir = || storage.sync_dir(dir).map_err(|error| Error::io("sync", dir, error));
    let leftovers = inventory.runs.iter().map(|number| run_name(*number));
    let leftovers = leftovers.chain(inventory.segments.iter().map(|segment| log_name(segment.base)));
    for name in leftovers.chain(inventory.temporaries) {
        let path = dir.join(name);
        storage.unlink(&path).map_err(|error| Error::io("unlink", &path, error))?;
    }
    // Old names must not come back beside the new ones.
    sync_dir()?;
    let run = import_run(storage, dir, state, &header)?;
    sync_dir()?;
    let path = dir.join(log_name(start));
    storage
        .open(&path, OpenMode::CreateNew)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::io("create", &path, error))?;
    sync_dir()?;
    let manifest = Manifest {
        sequence: 1,
        chain: vec![run.reference()],
        previous_chain: Vec::new(),
        next_run_number: header.number.saturating_add(1),
        watermark: LogPoint::segment_start(start),
        truncation_generation: 0,
        log_start_offset: start,
        intent: None,
        failed_sync: None,
        // Never behind the times at which the producers were last seen.
        engine_time: header.engine_time,
        boot_id: storage.boot_id(),
        history,
        gaps: Gaps::None,
        compaction: CompactionState::default(),
        clean_close: None,
        txn_indexes: Vec::new(),
    };
    write_manifest(&**storage, dir, &manifest)?;
    Ok(start)
}
