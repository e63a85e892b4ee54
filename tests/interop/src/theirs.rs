//! What Kafka says of the directory that oncelog left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use oncelog::format::batch::crc32c;

use crate::kafka::{Broker, Kafka};
use crate::ledger::{Ledger, Level};
use crate::place::{Place, TOPIC, number};
use crate::plan::{PRODUCERS, Planner, Record};
use crate::verdicts::Verdicts;
use crate::wire::{Answer, Wire};

/// How oncelog left the directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Closed,
    Killed,
}

/// The directory as Kafka found it.
pub(crate) struct Before {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Files of sealed segments with length and CRC-32C.
    pub(crate) sealed: BTreeMap<PathBuf, (usize, u32)>,
}

/// What Kafka's consumer said at one isolation level.
struct Consumed {
    start: i64,
    end: i64,
    records: Vec<String>,
}

/// Lets clients loose on the broker: they read everything, retry, and go on writing.
pub(crate) fn visit(
    kafka: &Kafka,
    broker: &Broker,
    ledger: &mut Ledger,
    planner: &mut Planner,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let consumed = consumed(&kafka.consume(broker.port, TOPIC)?)?;
    let end = consumed.get("read_uncommitted").context("nothing at read_uncommitted")?.end;
    let settled = ledger.settle(end).map(|more| format!("offset {end}, {more} batches nobody was told of"));
    let certain = settled.is_ok();
    verdicts.judge("every acknowledged batch is there, up to the border of a batch", settled);
    for (name, level) in [("read_uncommitted", Level::All), ("read_committed", Level::Committed)] {
        let consumed = consumed.get(name).with_context(|| format!("nothing at {name}"))?;
        let what = format!("a consumer at {name} reads every record that it is owed, and no other");
        verdicts.judge(&what, all_records(consumed, ledger, level));
    }
    if !certain {
        return Ok(());
    }
    let mut wire = Wire::connect(broker.port)?;
    verdicts.judge(
        "the last batch of every producer is answered as a duplicate, with its first offset",
        retries(&mut wire, ledger),
    );
    verdicts.judge("every producer goes on at the log end", next_batches(&mut wire, ledger, planner));
    verdicts.judge("and these batches are known at once", retries(&mut wire, ledger));
    Ok(())
}

fn consumed(text: &str) -> Result<BTreeMap<String, Consumed>> {
    let mut levels = BTreeMap::new();
    let mut level = String::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("isolation ") {
            let mut words = head.split(' ');
            level = words.next().context("a level")?.to_owned();
            let mut number = || -> Result<i64> { Ok(words.next().context("an offset")?.parse()?) };
            let consumed = Consumed { start: number()?, end: number()?, records: Vec::new() };
            levels.insert(level.clone(), consumed);
        } else if let Some(record) = line.strip_prefix("record ") {
            levels.get_mut(&level).context("a record before its level")?.records.push(record.to_owned());
        }
    }
    Ok(levels)
}

fn all_records(consumed: &Consumed, ledger: &Ledger, level: Level) -> Result<String> {
    let Consumed { start, end, records } = consumed;
    let (owed, owed_end) = ledger.records(level);
    let expected = (ledger.start(), owed_end);
    ensure!((*start, *end) == expected, "{start} to {end}, expected {expected:?}");
    let read: Vec<(i64, &str)> = records.iter().map(|record| numbered(record)).collect::<Result<_>>()?;
    let read: Vec<(i64, String)> =
        read.into_iter().map(|(offset, record)| (offset, record.to_owned())).collect();
    let missing = ledger.judge_read(level, &read, spelled)?;
    Ok(match missing {
        0 => format!("{} records", read.len()),
        gone => format!("{} records; {gone} of {} were compacted away", read.len(), owed.len()),
    })
}

/// A record as it was printed, with its offset, which comes first.
fn numbered(record: &str) -> Result<(i64, &str)> {
    let offset = record.split(' ').next().context("a record without an offset")?;
    Ok((offset.parse()?, record))
}

/// A record as `Consume.java` prints it.
fn spelled(offset: i64, record: &Record) -> String {
    let sum = |bytes: &[u8]| format!("{}:{}", bytes.len(), crc32c(bytes));
    let optional = |bytes: Option<&[u8]>| bytes.map_or("-".to_owned(), sum);
    let mut headers = Vec::new();
    if let Some((name, value)) = &record.header {
        headers.extend_from_slice(name.as_bytes());
        headers.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let (key, value) = (optional(record.key.as_deref()), optional(record.value.as_deref()));
    format!("{offset} {} {key} {value} {}", record.timestamp, sum(&headers))
}

fn retries(wire: &mut Wire, ledger: &Ledger) -> Result<String> {
    for id in PRODUCERS {
        let newest = ledger.newest(id, 1);
        let placed = newest.first().with_context(|| format!("producer {id} has written nothing"))?;
        let answer = wire.produce(TOPIC, &placed.batch.bytes)?;
        let expected = Answer { code: 0, base_offset: placed.base_offset };
        ensure!(answer == expected, "producer {id}: {answer:?}, expected {expected:?}");
    }
    Ok(format!("{} producers", PRODUCERS.len()))
}

/// That each lands at the log end also shows that no retry was written.
fn next_batches(wire: &mut Wire, ledger: &mut Ledger, planner: &mut Planner) -> Result<String> {
    for id in PRODUCERS {
        let batch = planner.batch_of(id, ledger.last(id))?;
        let expected = Answer { code: 0, base_offset: ledger.end() };
        let answer = wire.produce(TOPIC, &batch.bytes)?;
        ensure!(answer == expected, "producer {id}: {answer:?}, expected {expected:?}");
        ledger.place(batch);
    }
    Ok(format!("{} producers", PRODUCERS.len()))
}

/// What the broker logged while it loaded the partition, and what it made of the files.
pub(crate) fn judge_loading(
    log: &[String],
    left: Left,
    before: &Before,
    place: &Place,
    verdicts: &mut Verdicts,
) -> Result<()> {
    let Before { start, end, sealed: before } = before;
    verdicts.judge("the broker logged no error and nothing odd about the partition", nothing_odd(log, left));
    if left == Left::Closed {
        verdicts
            .judge("the broker recovered no segment and rebuilt no index or state", no_recovery(log, *end));
        let after = place.sealed_files()?;
        // Kafka deletes what says something of offsets below the log start.
        let outdated = |path: &Path| {
            path.extension().is_some_and(|ending| ending == "snapshot")
                && number(path).is_ok_and(|at| at < *start)
        };
        let changed: Vec<_> =
            before.iter().filter(|(path, sum)| after.get(*path) != Some(sum) && !outdated(path)).collect();
        let verdict = match changed.as_slice() {
            [] => Ok(format!("{} files", before.len())),
            [(path, sum), ..] => {
                Err(anyhow::anyhow!("{} was {sum:?}, is {:?}", path.display(), after.get(*path)))
            }
        };
        verdicts.judge("the broker left every file of a sealed segment as it was", verdict);
    }
    Ok(())
}

/// Lines of the broker's storage layer about our partition.
fn about_the_partition(log: &[String]) -> impl Iterator<Item = &String> {
    let name = format!("{TOPIC}-0");
    log.iter().filter(move |line| line.contains(&name))
}

fn nothing_odd(log: &[String], left: Left) -> Result<String> {
    if let Some(error) = log.iter().find(|line| line.starts_with("[ERROR]")) {
        anyhow::bail!("{error}");
    }
    let odd = about_the_partition(log).find(|line| {
        // A log that was not closed has indexes that are not finished.
        line.starts_with("[WARN]") && (left == Left::Closed || !line.contains("index"))
    });
    ensure!(odd.is_none(), "{}", odd.map_or("", String::as_str));
    Ok(format!("{} lines", about_the_partition(log).count()))
}

/// The lines up to the end of the load: behind it comes what the broker does with a loaded log.
fn no_recovery(log: &[String], end: i64) -> Result<String> {
    let complaints = [
        "Recovering",
        "orrupt",
        "runcating",
        "Could not find",
        "not exist",
        "unclean",
        "Wrote producer snapshot",
    ];
    let state_from = format!("for segment recovery from offset {end}");
    let mut state = None;
    for line in about_the_partition(log) {
        if line.contains("Completed load of Log") {
            ensure!(line.contains(&format!("logEndOffset={end})")), "{line}");
            state.context("the broker says nothing of the producer state")?;
            return Ok(format!("loaded at offset {end} as it was"));
        }
        ensure!(!complaints.iter().any(|word| line.contains(word)), "{line}");
        if line.contains("Producer state recovery took") {
            ensure!(line.ends_with(&state_from), "{line}");
            state = Some(());
        }
    }
    anyhow::bail!("the broker does not say that it has loaded the partition")
}
