//! What one file holds, read up to the first damage.

use oncelog::checkpoint::Run;
use oncelog::error::{Error, Malformed};
use oncelog::format::checkpoint_file::{parse_leader_epochs, parse_partition_offsets};
use oncelog::format::manifest;
use oncelog::format::names::{self, FileName};
use oncelog::format::snapshot;
use oncelog::format::watermark::{self, SLOT_COUNT, SLOT_SIZE};
use oncelog::types::Offset;
use serde::Serialize;

use super::Depth;
use crate::inspect::batches::{Closed, Seen, damage_of, each_record, walk};
use crate::inspect::indexes::{Entries, aborted_entries, offset_entries, time_entries};
use crate::inspect::json::{
    self, AbortedTxn, Batch, Damage, Epoch, PartitionLine, Producer, Record, Segment, SnapshotProducer,
};
use crate::inspect::source::{Named, ROOT_FILES, Source, topic_id};

const ADVICE: &str = "`oncelog verify` on the directory shows what else is damaged and what can be done";

/// Of more records than this in one batch, some are shown: the first and last [`EDGE`], and every 997th between.
const MOST_RECORDS: i32 = 500;
const EDGE: i32 = 20;

/// A file.
#[derive(Debug, Serialize)]
pub(super) struct FileDump {
    pub(super) file: String,
    pub(super) size: u64,
    #[serde(flatten)]
    pub(super) content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) damage: Option<Damage>,
}

/// What it holds, by kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Log { segment: Segment },
    Index { base_offset: i64, index: Vec<(i64, u64)>, zero_bytes: u64 },
    TimeIndex { base_offset: i64, timeindex: Vec<(i64, i64)>, zero_bytes: u64 },
    TxnIndex { aborted_txns: Vec<AbortedTxn> },
    Snapshot { snapshot: json::Snapshot },
    Run { run: Option<Box<json::Run>> },
    Manifest { manifest: Option<Box<json::Manifest>> },
    Watermark { watermark: json::Watermark },
    LeaderEpochs { leader_epochs: Vec<Epoch> },
    Topic { topic_id: Option<String> },
    RootCheckpoint { partitions: Vec<PartitionLine> },
    Text { text: String },
}

/// Reads a file; `None` if its name says nothing that could be shown.
pub(super) fn read(source: &Source, file: &Named, depth: Depth) -> Result<Option<FileDump>, Error> {
    let (content, damage) = match file.meaning {
        FileName::Log(base) => (Content::Log { segment: segment(source, file, base, depth)? }, None),
        FileName::Keepsake { offset, .. } => {
            (Content::Log { segment: segment(source, file, offset, depth)? }, None)
        }
        FileName::NextSegment => {
            (Content::Log { segment: segment(source, file, Offset::ZERO, depth)? }, None)
        }
        FileName::Run(number) => run(source, number)?,
        _ => {
            let Some(bytes) = source.read(&file.name)? else {
                return Err(Error::io("open", &source.path(&file.name), std::io::ErrorKind::NotFound.into()));
            };
            match small(source, file, &bytes) {
                Some(parts) => parts,
                None => return Ok(None),
            }
        }
    };
    Ok(Some(FileDump { file: file.name.clone(), size: file.len, content, damage }))
}

/// A small file out of its bytes.
fn small(source: &Source, file: &Named, bytes: &[u8]) -> Option<(Content, Option<Damage>)> {
    let damaged = |malformed: Malformed| in_file(source, &file.name, malformed, bytes.len() as u64);
    let name = file.name.as_str();
    Some(match file.meaning {
        FileName::Index(base) => {
            let Entries { entries, padding, damage } = offset_entries(bytes);
            let index =
                entries.iter().map(|(_, entry)| (entry.last_offset(base).0, entry.position().0)).collect();
            (Content::Index { base_offset: base.0, index, zero_bytes: padding }, damage.map(damaged))
        }
        FileName::TimeIndex(base) => {
            let Entries { entries, padding, damage } = time_entries(bytes);
            let timeindex =
                entries.iter().map(|(_, entry)| (entry.timestamp(), entry.last_offset(base).0)).collect();
            (Content::TimeIndex { base_offset: base.0, timeindex, zero_bytes: padding }, damage.map(damaged))
        }
        FileName::TxnIndex(_) => {
            let Entries { entries, damage, .. } = aborted_entries(bytes);
            let aborted_txns = entries.iter().map(|(_, txn)| AbortedTxn::of(txn, name)).collect();
            (Content::TxnIndex { aborted_txns }, damage.map(damaged))
        }
        FileName::Snapshot(_) => {
            let snapshot = match snapshot::parse(bytes) {
                Ok(entries) => json::Snapshot {
                    valid: true,
                    damage: None,
                    producers: Some(entries.iter().map(SnapshotProducer::from).collect()),
                },
                Err(malformed) => {
                    json::Snapshot { valid: false, damage: Some(damaged(malformed)), producers: None }
                }
            };
            (Content::Snapshot { snapshot }, None)
        }
        FileName::Manifest => match manifest::Manifest::decode(bytes) {
            Ok(manifest) => (Content::Manifest { manifest: Some(Box::new((&manifest).into())) }, None),
            Err(malformed) => (Content::Manifest { manifest: None }, Some(damaged(malformed))),
        },
        FileName::Watermark => (Content::Watermark { watermark: slots(source, bytes) }, None),
        FileName::LeaderEpochs => match parse_leader_epochs(bytes) {
            Ok(starts) => {
                (Content::LeaderEpochs { leader_epochs: starts.iter().map(Epoch::from).collect() }, None)
            }
            Err(malformed) => (Content::LeaderEpochs { leader_epochs: Vec::new() }, Some(damaged(malformed))),
        },
        FileName::PartitionMetadata => (Content::Topic { topic_id: topic_id(bytes) }, None),
        FileName::Unknown if ROOT_FILES.contains(&name) => match parse_partition_offsets(bytes) {
            Ok(lines) => (
                Content::RootCheckpoint { partitions: lines.iter().map(PartitionLine::from).collect() },
                None,
            ),
            Err(malformed) => (Content::RootCheckpoint { partitions: Vec::new() }, Some(damaged(malformed))),
        },
        FileName::Unknown if name == names::CLEAN_SHUTDOWN => {
            (Content::Text { text: String::from_utf8_lossy(bytes).into_owned() }, None)
        }
        _ => return None,
    })
}

/// Damage in a file, from its first bad byte to `len`.
fn in_file(source: &Source, name: &str, malformed: Malformed, len: u64) -> Damage {
    let len = len.max(malformed.at);
    (&malformed.in_file(&source.path(name), 0, len, ADVICE)).into()
}

fn slots(source: &Source, bytes: &[u8]) -> json::Watermark {
    let mut slots = Vec::with_capacity(SLOT_COUNT);
    for place in 0..SLOT_COUNT {
        let start = place * SLOT_SIZE;
        let page = bytes.get(start..).unwrap_or_default();
        let page = page.get(..SLOT_SIZE).unwrap_or(page);
        slots.push(match watermark::Slot::decode(page) {
            Ok(slot) => (&slot).into(),
            // Never written.
            Err(_) if page.len() == SLOT_SIZE && page.iter().all(|byte| *byte == 0) => json::Slot::default(),
            Err(malformed) => {
                let malformed = Malformed { at: malformed.at + start as u64, ..malformed };
                let end = (start + page.len()) as u64;
                json::Slot::damaged(in_file(source, names::WATERMARK, malformed, end))
            }
        });
    }
    json::Watermark { slots }
}

fn run(source: &Source, number: u64) -> Result<(Content, Option<Damage>), Error> {
    let run = match Run::open_unnamed(&*source.storage, &source.dir, number) {
        Ok(run) => run,
        Err(Error::Corrupt(corruption)) => {
            return Ok((Content::Run { run: None }, Some((&*corruption).into())));
        }
        Err(other) => return Err(other),
    };
    let mut dump = json::Run::of(run.header(), run.reference().header_crc);
    for entry in run.entries() {
        match entry {
            Ok((id, entry)) => dump.producers.push(Producer::of(id, &entry)),
            Err(Error::Corrupt(corruption)) => dump.damage = Some((&*corruption).into()),
            Err(other) => return Err(other),
        }
    }
    Ok((Content::Run { run: Some(Box::new(dump)) }, None))
}

/// A segment with the entries of its two indexes, as far as there are files.
pub(super) fn segment_with_indexes(
    source: &Source,
    file: &Named,
    base: Offset,
    files: &[Named],
    depth: Depth,
) -> Result<Segment, Error> {
    let mut segment = segment(source, file, base, depth)?;
    let beside = [FileName::Index(base), FileName::TimeIndex(base)];
    for file in files.iter().filter(|file| beside.contains(&file.meaning)) {
        let Some(FileDump { content, damage, .. }) = read(source, file, depth)? else { continue };
        match content {
            Content::Index { index, .. } => segment.index = Some(index),
            Content::TimeIndex { timeindex, .. } => segment.timeindex = Some(timeindex),
            _ => {}
        }
        segment.damage.extend(damage);
    }
    Ok(segment)
}

/// All batches that can be reached by hopping from header to header.
fn segment(source: &Source, file: &Named, base: Offset, depth: Depth) -> Result<Segment, Error> {
    let mut segment = Segment {
        base_offset: base.0,
        log: file.name.clone(),
        size: file.len,
        valid_bytes: 0,
        index: None,
        timeindex: None,
        batches: Vec::new(),
        damage: Vec::new(),
    };
    let opened = source.open(&file.name)?;
    let mut sound = true;
    let walked = walk(&*opened, |seen| {
        let end = seen.position.0 + seen.header.size() as u64;
        let mut batch = Batch::of(seen.position, seen.header, seen.crc.is_ok());
        sound &= seen.crc.is_ok();
        if sound {
            segment.valid_bytes = end;
        }
        match &seen.crc {
            Ok(()) if depth == Depth::Records => show_records(&seen, &mut batch),
            Ok(()) => {}
            Err(malformed) => segment.damage.push(in_batch(source, &file.name, &seen, malformed)),
        }
        segment.batches.push(batch);
        Ok(())
    });
    let end = walked.map_err(|e| Error::io("read", &source.path(&file.name), e))?;
    if let Some(malformed) = damage_of(&end) {
        let malformed = Malformed { at: malformed.at + end.position.0, ..malformed.clone() };
        segment.damage.push(in_file(source, &file.name, malformed, file.len));
    }
    Ok(segment)
}

fn in_batch(source: &Source, name: &str, seen: &Seen<'_>, malformed: &Malformed) -> Damage {
    let path = source.path(name);
    let len = seen.header.size() as u64;
    let mut corruption = malformed.clone().in_file(&path, seen.position.0, len, ADVICE);
    corruption.offsets = Some(seen.header.base_offset..seen.header.next_offset());
    (&corruption).into()
}

fn show_records(seen: &Seen<'_>, batch: &mut Batch) {
    let count = seen.header.record_count;
    let mut records = Vec::new();
    let mut nth = 0;
    let shown = each_record(seen.header, seen.bytes, |record, size| {
        if count <= MOST_RECORDS || nth < EDGE || nth >= count - EDGE || nth % 997 == 0 {
            records.push(Record::of(seen.header, record, size));
        }
        nth += 1;
        Ok(())
    });
    batch.records_sampled = count > MOST_RECORDS;
    batch.records = Some(records);
    batch.records_error = match shown {
        Ok(()) => None,
        Err(Closed::Malformed(malformed)) => Some(malformed.to_string()),
        Err(Closed::Unsupported(why)) => Some(why),
    };
}
