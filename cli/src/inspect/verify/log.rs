//! The segments: every CRC, every record, and that each batch continues the one before.

use oncelog::error::{Error, Malformed};
use oncelog::format::batch::{BatchHeader, HEADER_SIZE, TimestampType};
use oncelog::format::checkpoint_file::EpochStart;
use oncelog::format::control::ControlRecord;
use oncelog::format::names::FileName;
use oncelog::segment::scan::{Continuity, Density};
use oncelog::types::{LeaderEpoch, Offset};
use serde::Serialize;

use super::claims::Claims;
use super::findings::Findings;
use super::indexes::{self, Layout};
use super::theirs::Epochs;
use crate::inspect::batches::{Closed, Seen, damage_of, each_record, walk};
use crate::inspect::source::{Named, Source};

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Checked {
    pub(super) segments: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) index_entries: u64,
    pub(super) claims: usize,
}

/// One pass over the log, oldest batch first.
pub(super) struct LogCheck<'a> {
    source: &'a Source,
    density: Density,
    /// Our own compaction has gone through the log up to here.
    compacted: Offset,
    epochs: Epochs,
    claims: Claims,
    checked: Checked,
    /// What the next batch has to continue; `None` where damage hides it.
    continuity: Option<Continuity>,
    leader_epoch: LeaderEpoch,
    end: Offset,
}

impl<'a> LogCheck<'a> {
    pub(super) fn new(
        source: &'a Source,
        gaps: bool,
        compacted: Offset,
        epochs: Epochs,
        claims: Claims,
    ) -> Self {
        let checked = Checked { claims: claims.len(), ..Checked::default() };
        let density = if gaps { Density::Sparse } else { Density::Dense };
        Self {
            source,
            density,
            compacted,
            epochs,
            claims,
            checked,
            continuity: None,
            leader_epoch: LeaderEpoch::NONE,
            end: Offset::ZERO,
        }
    }

    /// Checks all segments with their indexes.
    pub(super) fn segments(&mut self, files: &[Named], findings: &mut Findings<'_>) -> Result<(), Error> {
        let mut logs: Vec<(Offset, &Named)> = files
            .iter()
            .filter_map(|file| match file.meaning {
                FileName::Log(base) => Some((base, file)),
                _ => None,
            })
            .collect();
        logs.sort_by_key(|(base, _)| *base);
        let ends = logs.iter().skip(1).map(|(base, _)| *base).chain([Offset(i64::MAX)]);
        for ((base, file), until) in logs.iter().zip(ends) {
            let layout = self.segment(*base, until, file, findings)?;
            self.checked.index_entries +=
                indexes::check(self.source, files, &layout, self.density_at(*base), findings)?;
        }
        Ok(())
    }

    /// The log end and how much was looked at.
    pub(super) fn finish(self, findings: &mut Findings<'_>) -> (Offset, Checked) {
        self.epochs.finish(self.end, findings);
        (self.end, self.checked)
    }

    fn segment(
        &mut self,
        base: Offset,
        until: Offset,
        file: &Named,
        findings: &mut Findings<'_>,
    ) -> Result<Layout, Error> {
        self.begin(base, file, findings);
        let compacted = self.compacted;
        let mut continuity =
            Continuity::new(base, self.density, self.leader_epoch).until(until).compacted_below(compacted);
        let mut layout = Layout::new(base, until, file);
        let opened = self.source.open(&file.name)?;
        let walked = walk(&*opened, |seen| {
            let header = seen.header;
            let bytes = seen.position.0..seen.position.0 + header.size() as u64;
            let offsets = Some(header.base_offset..header.next_offset());
            let continues = continuity.check(header);
            if continues.is_err() {
                let epoch = continuity.leader_epoch().max(header.leader_epoch);
                continuity = Continuity::new(header.next_offset(), self.density, epoch)
                    .until(until)
                    .compacted_below(compacted);
            }
            let sound = seen.crc.is_ok() && continues.is_ok();
            for malformed in [continues.err(), seen.crc.as_ref().err().cloned()].into_iter().flatten() {
                findings.add_in_log(&file.name, malformed, bytes.clone(), offsets.clone());
            }
            if seen.crc.is_ok() {
                self.records(&seen, file, findings);
                self.epochs.meet(header, findings);
            }
            if sound {
                let sparse = self.density_at(header.base_offset) == Density::Sparse;
                self.claims.meet(header, sparse, findings);
            } else {
                // Its header may be what is damaged.
                self.claims.skip_below(header.next_offset().max(self.end));
            }
            layout.push(seen.position, header);
            self.checked.batches += 1;
            self.end = self.end.max(header.next_offset());
            Ok(())
        });
        let walked = walked.map_err(|e| Error::io("read", &self.source.path(&file.name), e))?;
        self.checked.bytes += walked.position.0;
        self.checked.segments += 1;
        self.end = self.end.max(base);
        self.leader_epoch = continuity.leader_epoch();
        self.continuity = Some(continuity);
        if let Some(malformed) = damage_of(&walked) {
            let bytes = walked.position.0..file.len;
            findings.add_in_log(&file.name, malformed.clone(), bytes, None);
            layout.known_to = walked.position;
            self.continuity = None;
            self.claims.skip_below(until);
        }
        Ok(layout)
    }

    /// What may be missing behind an offset.
    fn density_at(&self, offset: Offset) -> Density {
        if offset < self.compacted { Density::Sparse } else { self.density }
    }

    /// Whether the segment begins where the one before ends.
    fn begin(&mut self, base: Offset, file: &Named, findings: &mut Findings<'_>) {
        match self.continuity {
            // The first one begins wherever retention has left it, and behind damage nothing is known.
            None => self.claims.skip_below(base),
            Some(continuity) => {
                let expected = continuity.expected();
                let fits = match self.density_at(expected) {
                    Density::Dense => base == expected,
                    Density::Sparse | Density::Followed => base >= expected,
                };
                if !fits {
                    let malformed = Malformed::new("base offset of the segment", 0, expected, base);
                    findings.add_in_log(&file.name, malformed, 0..0, None);
                    self.claims.skip_below(base);
                }
            }
        }
    }

    fn records(&mut self, seen: &Seen<'_>, file: &Named, findings: &mut Findings<'_>) {
        let header = seen.header;
        let mut expected = RecordRules { last_delta: -1, max_timestamp: None };
        let opened = each_record(header, seen.bytes, |record, _| {
            self.checked.records += 1;
            expected.check(header, record)
        });
        let opened = opened.and_then(|()| Ok(expected.finish(header)?));
        let malformed = match opened {
            Ok(()) => return,
            Err(Closed::Malformed(malformed)) => malformed,
            Err(Closed::Unsupported(why)) => {
                Malformed::new("compression codec", 0, "one that this build opens", why)
            }
        };
        let start = seen.position.0;
        let bytes = start..start + header.size() as u64;
        let malformed = if header.attributes.codec() == 0 {
            Malformed { at: malformed.at + HEADER_SIZE as u64, ..malformed }
        } else {
            // The byte is one of the decompressed records: in the file, only the batch can be named.
            let found = format!("{} at byte {} of the decompressed records", malformed.found, malformed.at);
            Malformed { at: HEADER_SIZE as u64, found, ..malformed }
        };
        let offsets = Some(header.base_offset..header.next_offset());
        findings.add_in_log(&file.name, malformed, bytes, offsets);
    }
}

/// What the records of a batch must be, by its header.
struct RecordRules {
    last_delta: i32,
    max_timestamp: Option<i64>,
}

impl RecordRules {
    fn check(
        &mut self,
        header: &BatchHeader,
        record: &oncelog::format::record::Record<'_>,
    ) -> Result<(), Malformed> {
        if record.offset_delta <= self.last_delta || record.offset_delta > header.last_offset_delta {
            let expected = format!("{} to {}", self.last_delta + 1, header.last_offset_delta);
            return Err(Malformed::new("offset delta", 0, expected, record.offset_delta));
        }
        self.last_delta = record.offset_delta;
        let timestamp = record.timestamp(header);
        self.max_timestamp = Some(self.max_timestamp.map_or(timestamp, |greatest| greatest.max(timestamp)));
        if header.attributes.is_control() {
            ControlRecord::parse(record)?;
        }
        Ok(())
    }

    /// A search by time trusts the header's largest timestamp.
    fn finish(self, header: &BatchHeader) -> Result<(), Malformed> {
        let given_by_client = header.attributes.timestamp_type() == TimestampType::CreateTime;
        match self.max_timestamp.filter(|_| given_by_client) {
            Some(greatest) if greatest > header.max_timestamp => Err(Malformed::new(
                "max timestamp",
                0,
                format!("{greatest}, as a record has"),
                header.max_timestamp,
            )),
            _ => Ok(()),
        }
    }
}

/// Where an epoch begins, as the file has it.
pub(super) fn epoch_of(starts: &[EpochStart], offset: Offset) -> Option<EpochStart> {
    let index = starts.partition_point(|start| start.start_offset <= offset);
    starts.get(index.checked_sub(1)?).copied()
}
