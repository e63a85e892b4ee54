//! The child's part: it opens the root, shows its partitions, answers, and does one deed after the other.
//!
//! Invariant: as everywhere in the child nothing is judged here, and the parent hears of every deed before it begins.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use oncelog::format::names::PartitionName;
use oncelog::{
    Cleanup, CompactionConfig, Durability, Environment, Error, Isolation, LogConfig, LogDir, LogDirConfig,
    Offset, Partition, PinnedLog, ProducerIds, ProducerNames, RawBatch, RecoveryReport,
};

use super::super::child::{Served, end_of, spell};
use super::super::emitter::Emitter;
use super::super::protocol::{Answer, Event};
use super::choice::Choice;
use super::content;
use super::deed::{Asked, Crew, Deed, Outcome, RootSettings, Seen};

/// Bytes of one fetch.
const FETCH: usize = 1 << 20;

/// An open root.
pub(in super::super) struct Root {
    dir: LogDir,
    names: ProducerNames,
    /// The partition that the rest of the test is about.
    main: PartitionName,
    /// How each partition was opened.
    kinds: BTreeMap<PartitionName, String>,
    settings: RootSettings,
}

/// Opens the root that `dir` is in, and the log in `dir`, which has settings of its own.
pub(in super::super) fn open(
    dir: &Path,
    settings: RootSettings,
    main_config: LogConfig,
    environment: Environment,
) -> Result<Result<(Root, PinnedLog, RecoveryReport), Error>> {
    let root = dir.parent().context("the log's directory is in none")?;
    let name = dir.file_name().context("the log's directory has no name")?.to_string_lossy();
    let main = PartitionName::parse(&name)?;
    let of_main = main.clone();
    let config_of = move |name: &PartitionName| {
        if *name == of_main { main_config.clone() } else { config(settings, name) }
    };
    let config = LogDirConfig {
        log: config(settings, &main),
        config_of: Some(Arc::new(config_of)),
        descriptors: Some(settings.descriptors),
        ..LogDirConfig::default()
    };
    let storage = Arc::clone(&environment.storage);
    Ok((|| {
        let (dir, report) = LogDir::open(root, config, environment)?;
        if let Some((name, error)) = report.failed().next() {
            tell_failed(name);
            return Err(error.clone());
        }
        let recovery = match report.partitions.get(&main) {
            Some(Ok(recovery)) => recovery.clone(),
            _ => return Err(Error::Misuse(format!("{main} was not found in the root"))),
        };
        let log = dir.get(&main).ok_or(Error::Closed)?.log()?;
        let ids = ProducerIds::open(root, storage, || dir.highest_producer_id())?;
        let names = ProducerNames::open(ids)?;
        let kinds = report
            .partitions
            .iter()
            .filter_map(|(name, found)| Some((name.clone(), format!("{:?}", found.as_ref().ok()?.kind))));
        let kinds = kinds.collect();
        Ok((Root { dir, names, main: main.clone(), kinds, settings }, log, recovery))
    })())
}

fn tell_failed(name: &PartitionName) {
    // The parent shows what a child writes to standard error if it ends by itself.
    eprintln!("partition {name} could not be opened");
}

/// Whether a partition keeps the newest record of each key only.
fn is_compacted(name: &PartitionName) -> bool {
    name.topic() == "keyed"
}

fn config(settings: RootSettings, name: &PartitionName) -> LogConfig {
    LogConfig {
        cleanup: if is_compacted(name) { Cleanup::Compact } else { Cleanup::Delete },
        compaction: CompactionConfig {
            delete_retention_ms: settings.delete_retention_ms,
            map_bytes: settings.map_bytes,
            // Only when it is asked for.
            check_ms: u64::MAX,
            ..CompactionConfig::default()
        },
        segment_bytes: settings.segment_bytes,
        index_interval_bytes: 256,
        checkpoint_bytes: settings.checkpoint_bytes,
        whole_base_producers: 4,
        preallocate_bytes: 0,
        delete_delay_ms: settings.delete_delay_ms,
        retention_check_ms: u64::MAX,
        verify_transactions: false,
        ..LogConfig::default()
    }
}

impl Root {
    /// Closes everything in order.
    pub(in super::super) fn close(self) -> Result<(), Error> {
        drop(self.names);
        self.dir.close()
    }

    /// All partitions but the one that the rest of the test is about.
    fn others(&self) -> Vec<Partition> {
        let mut partitions = self.dir.partitions();
        partitions.retain(|partition| *partition.name() != self.main);
        partitions
    }

    fn log(&self, name: &str) -> Result<PinnedLog, Error> {
        let name = PartitionName::parse(name).map_err(|error| Error::Misuse(error.to_string()))?;
        let partition = self.dir.get(&name);
        partition.ok_or_else(|| Error::Misuse(format!("there is no partition {name}")))?.log()
    }
}

/// Shows every partition: its batches, then what else there is to see.
pub(in super::super) fn survey(root: &Root, emitter: &Emitter) -> Result<()> {
    for partition in root.others() {
        let log = partition.log()?;
        let mut next = log.log_start_offset();
        while next < log.log_end_offset() {
            let before = next;
            for batch in log.fetch(next, FETCH, Isolation::LogEnd)?.batches()? {
                let batch = batch?;
                next = batch.header.next_offset();
                emitter.send(&Event::Batch(batch.bytes));
            }
            if next == before {
                break;
            }
        }
        let kind = root.kinds.get(partition.name()).cloned().unwrap_or_default();
        emitter.send(&Event::Seen(Box::new(Seen {
            name: partition.name().to_string(),
            kind,
            start: log.log_start_offset().0,
            end: log.log_end_offset().0,
            last_stable: log.last_stable_offset().0,
            committed: committed(&log)?,
        })));
    }
    emitter.send(&Event::Surveyed);
    Ok(())
}

fn committed(log: &PinnedLog) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    let (mut next, stable) = (log.log_start_offset(), log.last_stable_offset());
    while next < stable {
        let fetched = log.fetch(next, FETCH, Isolation::ReadCommitted)?;
        found.extend(fetched.records()?.iter().map(|record| record.offset.0));
        let mut end = next;
        for batch in fetched.batches()? {
            end = batch?.header.next_offset();
        }
        if end == next {
            break;
        }
        next = Offset(end.0);
    }
    Ok(found)
}

/// Sends batches again, or such as must be refused, and tells what was answered.
pub(in super::super) fn answer(child: &Served, root: &Root, asked: &[Asked]) -> Result<()> {
    let mut answers = Vec::new();
    for Asked { partition, spec, durable } in asked {
        answers.push(append(child, root, partition, spec, *durable)?);
    }
    child.emitter.send(&Event::Replies(answers));
    Ok(())
}

fn append(
    child: &Served,
    root: &Root,
    partition: &str,
    spec: &super::super::batch::Spec,
    durable: bool,
) -> Result<Answer> {
    let durability = if durable { Durability::Durable } else { Durability::Buffered };
    let log = match root.log(partition) {
        Ok(log) => log,
        Err(error) => return Ok(spell(Err(error))),
    };
    Ok(spell(match end_of(spec) {
        Some(end) => log.end_transaction(end, durability),
        None => log.append(RawBatch(content::bytes(spec, child.seed)?), durability),
    }))
}

/// Does deeds until the parent asks for an end.
pub(in super::super) fn work(
    child: &Served,
    root: &Root,
    crew: &Crew,
    seed: u64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut choice = Choice::new(crew.clone(), seed);
    while !stop.load(Ordering::Relaxed) {
        let deed = choice.next();
        child.emitter.send(&Event::Deed(Box::new(deed.clone())));
        let outcome = carry_out(child, root, &deed)?;
        child.emitter.send(&Event::Outcome(Box::new(outcome.clone())));
        choice.learn(&deed, &outcome);
    }
    Ok(())
}

fn carry_out(child: &Served, root: &Root, deed: &Deed) -> Result<Outcome> {
    let named = |name: &str| PartitionName::parse(name);
    let done = |done: Result<(), Error>| match done {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    Ok(match deed {
        Deed::Append { partition, spec, durable } => {
            Outcome::Answered(append(child, root, partition, spec, *durable)?)
        }
        Deed::Create(name) => {
            let name = named(name)?;
            let made = root.dir.create(&name, config(root.settings, &name));
            done(made.map(drop))
        }
        Deed::Compact(name) => match root.log(name).and_then(|log| log.compact()) {
            Ok(done) => Outcome::Compacted(done.is_some()),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        Deed::Delete(name) => done(root.dir.delete(&named(name)?)),
        Deed::Rest => {
            root.dir.rest();
            Outcome::Done
        }
        Deed::WriteOffsets => done(root.dir.write_offsets()),
        Deed::Allocate => match root.names.ids().allocate() {
            Ok(id) => Outcome::Allocated(id.0),
            Err(error) => Outcome::Failed(error.to_string()),
        },
        Deed::Claim(name) => match root.names.claim(name, &root.others()) {
            Ok(claim) => {
                let written = claim.written.iter().map(|written| {
                    let last = written.last.map(|(sequence, offset)| (sequence.value(), offset.0));
                    (written.partition.to_string(), last)
                });
                Outcome::Claimed {
                    producer: claim.producer.0,
                    epoch: claim.epoch.0,
                    written: written.collect(),
                }
            }
            Err(error) => Outcome::Failed(error.to_string()),
        },
    })
}
