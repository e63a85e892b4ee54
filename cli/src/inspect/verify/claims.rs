//! What other files say about batches of the log.
//!
//! Invariant: claims are met in one pass over the log, in the order of offsets. A claim about a batch that was deleted,
//! compacted away, or lies behind damage is not held against anybody.

use oncelog::error::Malformed;
use oncelog::format::batch::BatchHeader;
use oncelog::types::{Fingerprint, Offset, ProducerEpoch, ProducerId, Sequence};

use super::findings::{Findings, advice};

/// One claim: a batch ends at `last_offset`, and this is what it is.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) last_offset: Offset,
    /// Index into the names of the files.
    pub(super) file: usize,
    /// First byte of the claim and the byte behind it.
    pub(super) bytes: (u64, u64),
    pub(super) about: About,
}

/// What is claimed of the batch.
#[derive(Clone, Debug)]
pub(super) enum About {
    Producer {
        producer: ProducerId,
        epoch: ProducerEpoch,
        first_offset: Offset,
        /// `None`: it has none.
        last_sequence: Option<Sequence>,
    },
    /// The batch before a place that a mark, a slot or a run names.
    Place { what: &'static str, fingerprint: Fingerprint },
}

/// A place that a file says the log reaches.
#[derive(Debug)]
pub(super) struct ClaimedEnd {
    pub(super) name: String,
    pub(super) what: &'static str,
    pub(super) at: u64,
    pub(super) offset: Offset,
}

impl ClaimedEnd {
    pub(super) fn hold_against(self, end: Offset, findings: &mut Findings<'_>) {
        if self.offset > end {
            let expected = format!("at most the log end, {end}");
            let malformed = Malformed::new(self.what, self.at, expected, self.offset);
            findings.add(&self.name, malformed, 0, self.at, advice::LOST_END);
        }
    }
}

/// All claims, in the order of the log once they are sorted.
#[derive(Debug, Default)]
pub(super) struct Claims {
    files: Vec<(String, &'static str)>,
    list: Vec<Claim>,
    next: usize,
}

impl Claims {
    /// A file that claims come from, with what to do if they are wrong.
    pub(super) fn file(&mut self, name: &str, advice: &'static str) -> usize {
        self.files.push((name.to_owned(), advice));
        self.files.len() - 1
    }

    pub(super) fn push(&mut self, claim: Claim) {
        self.list.push(claim);
    }

    pub(super) fn sort(&mut self) {
        self.list.sort_by_key(|claim| claim.last_offset);
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Drops the claims about offsets below `offset`, of which nothing can be said.
    pub(super) fn skip_below(&mut self, offset: Offset) {
        let rest = self.list.get(self.next..).unwrap_or_default();
        self.next += rest.partition_point(|claim| claim.last_offset < offset);
    }

    /// The next batch of the log. Claims about offsets before it find no batch, which is a finding unless compaction
    /// takes batches out.
    pub(super) fn meet(&mut self, header: &BatchHeader, compacted: bool, findings: &mut Findings<'_>) {
        while let Some(claim) =
            self.list.get(self.next).filter(|claim| claim.last_offset <= header.last_offset())
        {
            self.next += 1;
            let missing = claim.last_offset < header.last_offset();
            if missing && compacted {
                continue;
            }
            let wrong = if missing {
                Some(("batch", "no batch that ends there".to_owned()))
            } else {
                claim.about.differs_from(header)
            };
            if let (Some((what, found)), Some((name, advice))) = (wrong, self.files.get(claim.file)) {
                let expected = claim.about.text(claim.last_offset);
                let malformed = Malformed::new(what, 0, expected, found);
                findings.add(name, malformed, claim.bytes.0, claim.bytes.1, advice);
            }
        }
    }
}

impl About {
    fn differs_from(&self, header: &BatchHeader) -> Option<(&'static str, String)> {
        match self {
            Self::Producer { producer, epoch, first_offset, last_sequence } => {
                let sequence = header.sequences().map(|(_, last)| last);
                let same = header.producer() == Some((*producer, *epoch))
                    && sequence == *last_sequence
                    && header.base_offset == *first_offset;
                let found = || {
                    let last = sequence.map_or(-1, Sequence::value);
                    let (id, epoch) = (header.producer_id, header.producer_epoch);
                    format!(
                        "one of producer {id}, epoch {epoch}, last sequence {last}, from offset {}",
                        header.base_offset
                    )
                };
                (!same).then(|| ("producer's batch", found()))
            }
            Self::Place { what, fingerprint } => {
                let found = header.fingerprint();
                (found != *fingerprint).then(|| (*what, text_of(&found)))
            }
        }
    }

    fn text(&self, last_offset: Offset) -> String {
        match self {
            Self::Producer { producer, epoch, first_offset, last_sequence } => format!(
                "a batch from offset {first_offset} to {last_offset} of producer {producer}, epoch {epoch}, last sequence {}",
                last_sequence.map_or(-1, Sequence::value)
            ),
            Self::Place { fingerprint, .. } => text_of(fingerprint),
        }
    }
}

fn text_of(fingerprint: &Fingerprint) -> String {
    format!(
        "a batch that ends at offset {} with CRC {:#010x}, leader epoch {}, {} records",
        fingerprint.last_offset, fingerprint.crc, fingerprint.leader_epoch.0, fingerprint.record_count
    )
}
