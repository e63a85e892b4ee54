//! `leader-epoch-checkpoint`: a file for Kafka, compared with the log before anybody trusts it.
//!
//! Invariant: of a log that we wrote, run headers and batches say where epochs begin, and the file is made to agree. Of
//! a log that Kafka wrote the file may know more (epochs whose first batches were compacted away) and counts as long as
//! no batch contradicts it. What is not believed is named in the report.

use std::path::Path;

use super::plan::Context;
use super::report::{RecoveryKind, RecoveryReport};
use crate::error::Error;
use crate::format::checkpoint_file::{format_leader_epochs, parse_leader_epochs};
use crate::format::names::LEADER_EPOCHS;
use crate::leader_epoch::LeaderEpochs;
use crate::storage::{Storage, read_all, replace};
use crate::types::Offset;

/// Room for more than a million epochs.
const MAX_SIZE: u64 = 32 << 20;

/// The epochs of the log, and whether the file must be told.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) epochs: LeaderEpochs,
    /// What to write; `None` if the file says it, or if nothing is to be written.
    pub(super) write: Option<LeaderEpochs>,
}

/// Decides between the file and `derived`, which is what run headers and batches say of a log that ends at `log_end`.
pub(super) fn settle(
    context: &Context<'_>,
    derived: LeaderEpochs,
    log_end: Offset,
    clean: bool,
    report: &mut RecoveryReport,
) -> Result<Settled, Error> {
    // Kafka does the same at load: an epoch without a batch is assigned anew by whoever leads.
    let mut derived = derived.below(log_end);
    // What was deleted has no epoch any more: the log may start inside a segment.
    derived.truncate_from_start(report.log_start_offset);
    if clean {
        return Ok(Settled { epochs: derived, write: None });
    }
    let foreign = matches!(
        report.kind,
        RecoveryKind::KafkaClean | RecoveryKind::KafkaUnclean | RecoveryKind::AnotherProgramWrote
    );
    let found = match read(context)? {
        Read::Missing if foreign && !derived.is_empty() => {
            report.note(format!("{LEADER_EPOCHS} was missing: put together from the batches"));
            None
        }
        Read::Missing => None,
        Read::Damaged(why) => {
            report.reject(LEADER_EPOCHS, format!("{why}; put together from the batches"));
            None
        }
        Read::Epochs(found) => Some(found),
    };
    let believed = found.as_ref().filter(|_| foreign).map(|found| found.below(log_end));
    let epochs = match believed.map(|file| contradiction(&file, &derived).map_or(Ok(file), Err)) {
        Some(Ok(file)) => file,
        Some(Err(why)) => {
            report.reject(LEADER_EPOCHS, why);
            derived
        }
        None => derived,
    };
    let write = match &found {
        Some(found) => (*found != epochs).then(|| epochs.clone()),
        None => (!epochs.is_empty()).then(|| epochs.clone()),
    };
    Ok(Settled { epochs, write })
}

/// Replaces the file.
///
/// # Errors
///
/// [`Error::Io`] with what failed: either list may stand in the file then.
pub fn write_leader_epochs(storage: &dyn Storage, dir: &Path, epochs: &LeaderEpochs) -> Result<(), Error> {
    let text = format_leader_epochs(epochs.starts());
    replace(storage, dir, LEADER_EPOCHS, text.as_bytes())
        .map_err(|e| Error::io("replace", &dir.join(LEADER_EPOCHS), e))
}

enum Read {
    Missing,
    Damaged(String),
    Epochs(LeaderEpochs),
}

fn read(context: &Context<'_>) -> Result<Read, Error> {
    let path = context.dir.join(LEADER_EPOCHS);
    let bytes = match read_all(&**context.storage, &path, MAX_SIZE) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Read::Missing),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => return Ok(Read::Damaged(e.to_string())),
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    let starts = match parse_leader_epochs(&bytes) {
        Ok(starts) => starts,
        Err(malformed) => return Ok(Read::Damaged(malformed.to_string())),
    };
    let epochs = LeaderEpochs::from_starts(starts.iter().map(|start| (start.epoch, start.start_offset)));
    Ok(if epochs.starts() == starts {
        Read::Epochs(epochs)
    } else {
        Read::Damaged("its epochs and offsets do not both rise".to_owned())
    })
}

/// A batch that is not of the epoch that the file says.
fn contradiction(file: &LeaderEpochs, derived: &LeaderEpochs) -> Option<String> {
    derived.starts().iter().find_map(|start| {
        let said = file.epoch_for(start.start_offset);
        (said != Some(start.epoch)).then(|| {
            let said = said.map_or_else(|| "none".to_owned(), |epoch| epoch.0.to_string());
            let (epoch, offset) = (start.epoch.0, start.start_offset);
            format!("it gives offset {offset} leader epoch {said}, the batch there has {epoch}")
        })
    })
}
