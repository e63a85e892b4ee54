//! Kafka's small files: snapshots, leader epochs, and what the root says.

use oncelog::error::{Error, Malformed};
use oncelog::format::batch::BatchHeader;
use oncelog::format::checkpoint_file::{EpochStart, parse_leader_epochs};
use oncelog::format::names::{self, FileName};
use oncelog::format::snapshot::{self, ENTRY_SIZE, HEADER_SIZE};
use oncelog::types::Offset;

use super::claims::{About, Claim, ClaimedEnd, Claims};
use super::findings::{Findings, advice};
use super::log::epoch_of;
use crate::inspect::source::{Named, ROOT_FILES, Source};

/// Reads every `.snapshot`; gives the log ends that they claim.
pub(super) fn snapshots(
    source: &Source,
    files: &[Named],
    claims: &mut Claims,
    findings: &mut Findings<'_>,
) -> Result<Vec<ClaimedEnd>, Error> {
    let mut ends = Vec::new();
    for file in files {
        let FileName::Snapshot(end) = file.meaning else { continue };
        let bytes = source.read(&file.name)?.unwrap_or_default();
        let parsed = snapshot::parse(&bytes).and_then(|entries| {
            snapshot::validate_at(&entries, end)?;
            Ok(entries)
        });
        let entries = match parsed {
            Ok(entries) => entries,
            Err(malformed) => {
                findings.add(&file.name, malformed, 0, file.len, advice::SNAPSHOT);
                continue;
            }
        };
        ends.push(ClaimedEnd { name: file.name.clone(), what: "offset in the name", at: 0, offset: end });
        let number = claims.file(&file.name, advice::SNAPSHOT);
        for (nth, entry) in entries.iter().enumerate() {
            let Some(batch) = entry.last_batch else { continue };
            let start = (HEADER_SIZE + nth * ENTRY_SIZE) as u64;
            claims.push(Claim {
                last_offset: batch.last_offset,
                file: number,
                bytes: (start, start + ENTRY_SIZE as u64),
                about: About::Producer {
                    producer: entry.producer,
                    epoch: entry.epoch,
                    first_offset: batch.first_offset(),
                    last_sequence: batch.last_sequence,
                },
            });
        }
    }
    Ok(ends)
}

/// Reads `leader-epoch-checkpoint`, if it is there.
pub(super) fn leader_epochs(source: &Source, findings: &mut Findings<'_>) -> Result<Epochs, Error> {
    let mut epochs = Epochs::default();
    let Some(bytes) = source.read(names::LEADER_EPOCHS)? else { return Ok(epochs) };
    match parse_leader_epochs(&bytes) {
        Ok(starts) => epochs.starts = starts,
        Err(malformed) => {
            findings.add(names::LEADER_EPOCHS, malformed, 0, bytes.len() as u64, advice::EPOCHS);
        }
    }
    for pair in epochs.starts.windows(2) {
        let [before, after] = pair else { continue };
        if after.epoch <= before.epoch || after.start_offset < before.start_offset {
            let expected = format!("an entry behind \"{before}\"");
            let malformed = Malformed::new("leader epoch", 0, expected, format!("\"{after}\""));
            findings.add(names::LEADER_EPOCHS, malformed, 0, bytes.len() as u64, advice::EPOCHS);
        }
    }
    epochs.len = bytes.len() as u64;
    Ok(epochs)
}

/// Where leader epochs begin, by the file.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    starts: Vec<EpochStart>,
    len: u64,
    told: bool,
}

impl Epochs {
    /// A batch below an epoch of the file that began before it. A later epoch is none: the file may be behind, and
    /// is caught up at the next start.
    pub(super) fn meet(&mut self, header: &BatchHeader, findings: &mut Findings<'_>) {
        let Some(start) = epoch_of(&self.starts, header.base_offset) else { return };
        if header.leader_epoch < start.epoch && !self.told {
            self.told = true;
            let expected =
                format!("no epoch {} before the batch at offset {}", start.epoch.0, header.base_offset);
            let found = format!("\"{start}\", but the batch has epoch {}", header.leader_epoch.0);
            let malformed = Malformed::new("leader epoch", 0, expected, found);
            findings.add(names::LEADER_EPOCHS, malformed, 0, self.len, advice::EPOCHS);
        }
    }

    /// An epoch that begins behind the log end.
    pub(super) fn finish(&self, end: Offset, findings: &mut Findings<'_>) {
        if let Some(last) = self.starts.last().filter(|last| last.start_offset > end) {
            let malformed =
                Malformed::new("leader epoch", 0, format!("starts up to the log end, {end}"), last);
            findings.add(names::LEADER_EPOCHS, malformed, 0, self.len, advice::LOST_END);
        }
    }
}

/// Holds what the root says of this partition against the log end.
pub(super) fn root_checkpoints(
    source: &Source,
    end: Offset,
    findings: &mut Findings<'_>,
) -> Result<(), Error> {
    for name in ROOT_FILES {
        let Some(bytes) = source.read_in_root(name)? else { continue };
        let len = bytes.len() as u64;
        match source.root_offset(name)? {
            Err(malformed) => findings.add(name, malformed, 0, len, advice::ROOT),
            Ok(Some(offset)) if offset > end => {
                let line = source.partition().map(|it| format!("{} {} ", it.topic(), it.partition()));
                let (start, stop) = line_of(&bytes, &line.unwrap_or_default());
                let malformed = Malformed::new(what(name), 0, format!("at most the log end, {end}"), offset);
                findings.add(name, malformed, start, stop, advice::LOST_END);
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

fn what(name: &str) -> &'static str {
    match name {
        names::RECOVERY_POINTS => "recovery point",
        names::LOG_START_OFFSETS => "log start offset",
        names::HIGH_WATERMARKS => "high watermark",
        _ => "offset up to which the log was cleaned",
    }
}

/// First byte of the line that begins with `front`, and the byte behind its end.
fn line_of(bytes: &[u8], front: &str) -> (u64, u64) {
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len() as u64;
        if line.starts_with(front.as_bytes()) {
            return (start, end);
        }
        start = end;
    }
    (0, bytes.len() as u64)
}
