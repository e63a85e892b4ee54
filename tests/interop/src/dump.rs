//! What `DumpLogSegments` says of the files that oncelog wrote.
//!
//! Invariant: every file that is there is looked at, and every line that Kafka's tool prints of a batch or a producer is
//! compared with the ledger; a line that is neither known as content nor as praise is a complaint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oncelog::format::control::MARKER_SIZE;

use crate::kafka::Kafka;
use crate::ledger::{Aborted, Ledger, Placed};
use crate::place::{Place, number};
use crate::plan::{PRODUCERS, TRANSACTIONAL};
use crate::theirs::Left;
use crate::verdicts::Verdicts;

/// Looks at all files of the partition.
pub(crate) fn judge(
    kafka: &Kafka,
    place: &Place,
    ledger: &Ledger,
    left: Left,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let segments = place.segments()?;
    verdicts.judge("the log has several segments", several(&segments));
    if left == Left::Closed {
        verdicts.judge("no file that Kafka looks for is missing", nothing_missing(place, &segments, ledger));
    }
    let logs = place.files("log")?;
    let said = kafka.dump(&logs, &["--deep-iteration"]);
    verdicts.judge("DumpLogSegments: .log", said.and_then(|said| batches(&said, ledger, left)));
    for ending in ["index", "timeindex"] {
        let files = place.files(ending)?;
        let what = format!("DumpLogSegments: .{ending}");
        verdicts.judge(&what, index(kafka, &files, (ledger, left)));
    }
    verdicts.judge("DumpLogSegments: .txnindex", aborted(kafka, place, ledger, left));
    let snapshots = place.files("snapshot")?;
    if !snapshots.is_empty() {
        let what = "DumpLogSegments: .snapshot";
        let said = kafka.dump(&snapshots, &[]);
        verdicts.judge(what, said.and_then(|said| producers(&said, ledger, snapshots.len(), left)));
    }
    Ok(())
}

fn several(segments: &[i64]) -> Result<String> {
    ensure!(segments.len() >= 4, "{} segments", segments.len());
    Ok(format!("{} segments", segments.len()))
}

fn nothing_missing(place: &Place, segments: &[i64], ledger: &Ledger) -> Result<String> {
    let numbers =
        |ending: &str| -> Result<Vec<i64>> { place.files(ending)?.iter().map(|path| number(path)).collect() };
    for ending in ["index", "timeindex"] {
        let found = numbers(ending)?;
        ensure!(found == segments, ".{ending} of {found:?}, segments {segments:?}");
    }
    let snapshots = numbers("snapshot")?;
    ensure!(snapshots.last() == Some(&ledger.end()), "no snapshot at the log end {}", ledger.end());
    Ok(format!("{} snapshots", snapshots.len()))
}

/// The fields `name: value` of a line.
fn fields(line: &str) -> BTreeMap<&str, &str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).filter_map(|pair| Some((pair[0].strip_suffix(':')?, pair[1]))).collect()
}

fn batches(said: &str, ledger: &Ledger, left: Left) -> Result<String> {
    let (mut seen, mut unanswered, mut next) = (0, 0, None);
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("baseOffset: ") {
            let fields = fields(line);
            ensure!(fields.get("isvalid") == Some(&"true"), "{line}");
            let base_offset: i64 = fields.get("baseOffset").context("a base offset")?.parse()?;
            if base_offset >= ledger.end() {
                unanswered += 1;
                continue;
            }
            let placed = ledger.at(base_offset)?;
            // A deletion inside of a segment leaves the batches before it there.
            let follows = match next {
                Some(next) if base_offset < ledger.compacted() => base_offset >= next,
                Some(next) => base_offset == next,
                None => base_offset <= ledger.start() || base_offset < ledger.compacted(),
            };
            ensure!(follows, "expected a batch at {next:?}: {line}");
            next = Some(placed.next_offset());
            seen += 1;
            for (name, value) in spelled(placed) {
                let rewritten =
                    base_offset < ledger.compacted() && ["count", "size", "compresscodec"].contains(&name);
                ensure!(
                    rewritten || fields.get(name) == Some(&value.as_str()),
                    "expected {name} {value}: {line}"
                );
            }
        } else if let Some(file) = line.strip_prefix("Non-consecutive offsets in ") {
            // The tool counts from -1 and so complains of the first offset of every file but that of segment 0. Behind a
            // compaction it complains of every gap.
            let first = "  -1 is followed by ";
            while let Some(pair) = lines.next_if(|line| line.starts_with("  ")) {
                let follower: i64 = pair.rsplit(' ').next().context("an offset")?.parse()?;
                let at_first = pair.starts_with(first) && follower == number(Path::new(file))?;
                ensure!(at_first || follower < ledger.compacted(), "{file}: {}", pair.trim());
            }
        } else if !["Dumping ", "Log starting offset: ", "| offset: "]
            .iter()
            .any(|head| line.starts_with(head))
        {
            bail!("{line}");
        }
    }
    ensure!(next == Some(ledger.end()), "the last batch ends at {next:?}, the log at {}", ledger.end());
    ensure!(unanswered == 0 || left == Left::Killed, "{unanswered} batches too many");
    Ok(format!("{} batches", seen + unanswered))
}

/// What the tool must print of a batch.
fn spelled(placed: &Placed) -> Vec<(&'static str, String)> {
    let batch = &placed.batch;
    let stamp = batch.stamp;
    let control = batch.marker;
    let size = if control.is_some() { MARKER_SIZE } else { batch.bytes.len() };
    let id = stamp.map(|stamp| stamp.id).or(control.map(|marker| marker.id));
    let epoch = stamp.map(|stamp| stamp.epoch).or(control.map(|marker| marker.epoch));
    let transactional = control.is_some() || batch.transaction().is_some();
    let sequence = |sequence: Option<oncelog::Sequence>| sequence.map_or(-1, oncelog::Sequence::value);
    vec![
        ("baseOffset", placed.base_offset.to_string()),
        ("lastOffset", (placed.next_offset() - 1).to_string()),
        ("count", batch.count().to_string()),
        ("baseSequence", sequence(stamp.map(|stamp| stamp.sequence)).to_string()),
        ("lastSequence", sequence(batch.last_sequence()).to_string()),
        ("producerId", id.unwrap_or(-1).to_string()),
        ("producerEpoch", epoch.unwrap_or(-1).to_string()),
        ("isTransactional", transactional.to_string()),
        ("isControl", control.is_some().to_string()),
        ("size", size.to_string()),
        ("compresscodec", format!("{:?}", batch.codec).to_lowercase()),
    ]
}

/// The contents are compared with the log by the tool itself; then the check that a broker makes at start.
fn index(kafka: &Kafka, files: &[PathBuf], (ledger, left): (&Ledger, Left)) -> Result<String> {
    // The last segment may be too small for an entry, and so may a compacted one; a kill may come between making a file
    // and writing it.
    let compacted = |file: &Path| number(file).is_ok_and(|base| base < ledger.compacted());
    let may_be_empty: Vec<String> = files
        .iter()
        .filter(|file| left == Left::Killed || Some(*file) == files.last() || compacted(file))
        .map(|file| format!("{} is empty.", file.display()))
        .collect();
    let said = kafka.dump(files, &[])?;
    let mut entries = 0;
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(file) = line.strip_prefix("Found timestamp mismatch in :") {
            // A batch that compaction has emptied keeps its largest timestamp, in Kafka's own logs too; the tool asks its
            // records.
            while let Some(pair) = lines.next_if(|line| line.starts_with("  ")) {
                let without_records = pair.ends_with(", log timestamp: -1") && compacted(Path::new(file));
                ensure!(without_records, "{file}: {}", pair.trim());
            }
            continue;
        }
        if ["offset: ", "timestamp: "].iter().any(|head| line.starts_with(head)) {
            entries += 1;
        } else if !line.starts_with("Dumping ") && !may_be_empty.iter().any(|empty| empty == line) {
            bail!("{line}");
        }
    }
    let said = kafka.dump(files, &["--index-sanity-check"])?;
    for line in said.lines() {
        let fine = line.starts_with("Dumping ")
            || line.ends_with(" passed sanity check.")
            || may_be_empty.iter().any(|empty| empty == line);
        ensure!(fine, "{line}");
    }
    Ok(format!("{} files, {entries} entries", files.len()))
}

/// After a kill some may be missing: Kafka writes the index anew when it recovers the segment.
fn aborted(kafka: &Kafka, place: &Place, ledger: &Ledger, left: Left) -> Result<String> {
    let files = place.files("txnindex")?;
    let said = if files.is_empty() { String::new() } else { kafka.dump(&files, &[])? };
    let mut found = Vec::new();
    for line in said.lines().filter(|line| !line.starts_with("Dumping ")) {
        ensure!(line.starts_with("version: 0 "), "{line}");
        let fields = fields(line);
        let field = |name| -> Result<i64> { Ok(fields.get(name).with_context(|| line.to_owned())?.parse()?) };
        found.push(Aborted {
            id: field("producerId")?,
            first_offset: field("firstOffset")?,
            last_offset: field("lastOffset")?,
        });
    }
    let expected = ledger.aborted();
    // Those of deleted segments went with them, those whose records were compacted away need no entry.
    let first = place.segments()?.first().copied().unwrap_or(0).max(ledger.compacted());
    let missing = expected.iter().filter(|txn| txn.last_offset >= first && !found.contains(txn)).count();
    ensure!(missing == 0 || left == Left::Killed, "{missing} are missing of {expected:?}: {found:?}");
    let beyond = found.iter().find(|txn| txn.last_offset < ledger.end() && !expected.contains(txn));
    ensure!(beyond.is_none(), "never aborted: {beyond:?}");
    Ok(format!("{} of {} aborted transactions", found.len(), expected.len()))
}

fn producers(said: &str, ledger: &Ledger, files: usize, left: Left) -> Result<String> {
    let mut file = 0;
    let mut last = BTreeMap::new();
    for line in said.lines() {
        if line.starts_with("Dumping ") {
            file += 1;
            last.clear();
        } else if line.starts_with("producerId: ") {
            let fields = fields(line);
            let id: i64 = fields.get("producerId").context("a producer")?.parse()?;
            last.insert(id, line);
        } else {
            bail!("{line}");
        }
    }
    ensure!(file == files, "{file} files were looked at, there are {files}");
    if left == Left::Closed {
        for id in PRODUCERS.into_iter().chain(TRANSACTIONAL) {
            let newest = ledger.newest(id, 1);
            let placed = newest.first().with_context(|| format!("producer {id} has written nothing"))?;
            let line = last.get(&id).with_context(|| format!("producer {id} is not in the newest"))?;
            let fields = fields(line);
            let expected = [
                ("lastOffset", (placed.next_offset() - 1).to_string()),
                ("lastSequence", placed.batch.last_sequence().map_or(-1, |last| last.value()).to_string()),
                ("producerEpoch", placed.batch.stamp.map_or(-1, |stamp| stamp.epoch).to_string()),
                ("offsetDelta", (placed.batch.count() - 1).to_string()),
                (
                    "currentTxnFirstOffset",
                    ledger
                        .open_since(id)
                        .map_or("OptionalLong.empty".to_owned(), |at| format!("OptionalLong[{at}]")),
                ),
            ];
            for (name, value) in expected {
                ensure!(fields.get(name) == Some(&value.as_str()), "expected {name} {value}: {line}");
            }
        }
        ensure!(
            last.len() == PRODUCERS.len() + TRANSACTIONAL.len(),
            "{} producers in the newest",
            last.len()
        );
    }
    Ok(format!("{files} files, {} producers in the newest", last.len()))
}
