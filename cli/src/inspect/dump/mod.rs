//! `oncelog dump FILE|DIR`: what stands in the files, byte by byte, whatever it means.
//!
//! Invariant: no state is built and no recovery planned, so a directory that would be refused is shown as well as any
//! other; what is damaged is shown up to the damage.

mod content;
mod print;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use oncelog::ReadLocks;
use oncelog::error::Error;
use oncelog::format::names::{self, FileName};
use serde::{Serialize, Serializer};

use self::content::{Content, FileDump};
use super::json::{self, AbortedTxn, Damage, Epoch, RootCheckpoints};
use super::source::{Named, ROOT_FILES, Source};
use super::{Done, Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A partition directory, one of its files, or a checkpoint file of a root
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Open the batches and show their records
    #[arg(long)]
    records: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How deep batches are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Headers,
    Records,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Done {
    let depth = if arguments.records { Depth::Records } else { Depth::Headers };
    let source = Source::new(&arguments.path)?;
    match source.files() {
        Ok(files) => dump_dir(arguments, &source, &files, depth, out)?,
        Err(error) if is_a_file(&error) => dump_file(arguments, &source.dir, depth, out)?,
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn is_a_file(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotADirectory)
}

fn dump_file(arguments: &Arguments, path: &Path, depth: Depth, out: &mut impl Write) -> Result<(), Failure> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(Error::Misuse(format!("{} has no name of a file", path.display())).into());
    };
    let source = Source::new(dir)?;
    let in_root = ROOT_FILES.contains(&name) || name == names::CLEAN_SHUTDOWN;
    let _locks = if in_root {
        ReadLocks::take_root(&source.storage, dir)?
    } else {
        ReadLocks::take(&source.storage, dir)?
    };
    let file = source.open(name)?;
    let len = file.len().map_err(|e| Error::io("ask the length of", path, e))?;
    let named = Named { name: name.to_owned(), len, meaning: FileName::parse(name) };
    let Some(dump) = content::read(&source, &named, depth)? else {
        return Err(Error::Misuse(format!(
            "{name} is no file that can be dumped: give a .log, .index, .timeindex, .txnindex, .snapshot, \
             producers.N.run, salvage.*.bin, oncelog.manifest, oncelog.watermark, leader-epoch-checkpoint, \
             partition.metadata or a checkpoint file of a root"
        ))
        .into());
    };
    if arguments.json { json::print(out, &dump) } else { print::file(out, &dump) }
}

fn dump_dir(
    arguments: &Arguments,
    source: &Source,
    files: &[Named],
    depth: Depth,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let known = |file: &&Named| !matches!(file.meaning, FileName::Unknown | FileName::LogLock);
    if !files.iter().any(|file| known(&file)) {
        let dir = source.dir.display();
        return Err(
            Error::Misuse(format!("{dir} is not a partition directory: no file of a log is in it")).into()
        );
    }
    let _locks = ReadLocks::take(&source.storage, &source.dir)?;
    if !arguments.json {
        for file in files {
            match content::read(source, file, depth)? {
                Some(dump) => print::file(out, &dump)?,
                None => writeln!(out, "{}: {} bytes, not shown\n", file.name, file.len)?,
            }
        }
        return Ok(());
    }
    let segments = Segments { source, files, depth, failure: RefCell::new(None) };
    let dump = directory(source, files, &segments)?;
    json::print(out, &dump)?;
    segments.failure.into_inner().map_or(Ok(()), |failure| Err(failure.into()))
}

#[derive(Serialize)]
struct DirectoryDump<'a> {
    partition_dir: String,
    files: BTreeMap<&'a str, Size>,
    segments: &'a Segments<'a>,
    snapshots: BTreeMap<&'a str, json::Snapshot>,
    aborted_txns: Vec<AbortedTxn>,
    leader_epochs: Vec<Epoch>,
    topic_id: Option<String>,
    root_checkpoints: RootCheckpoints,
    manifest: Option<json::Manifest>,
    watermark: Option<json::Watermark>,
    runs: BTreeMap<&'a str, json::Run>,
    /// In the small files; that of segments stands with them.
    damage: Vec<Damage>,
}

#[derive(Serialize)]
struct Size {
    size: u64,
}

/// Everything but the segments, which are read while they are printed.
fn directory<'a>(
    source: &Source,
    files: &'a [Named],
    segments: &'a Segments<'a>,
) -> Result<DirectoryDump<'a>, Failure> {
    let mut dump = DirectoryDump {
        partition_dir: source.partition_dir(),
        files: files.iter().map(|file| (file.name.as_str(), Size { size: file.len })).collect(),
        segments,
        snapshots: BTreeMap::new(),
        aborted_txns: Vec::new(),
        leader_epochs: Vec::new(),
        topic_id: None,
        root_checkpoints: super::describe::root_checkpoints(source)?,
        manifest: None,
        watermark: None,
        runs: BTreeMap::new(),
        damage: Vec::new(),
    };
    for file in files {
        let in_segment = matches!(
            file.meaning,
            FileName::Log(_) | FileName::Index(_) | FileName::TimeIndex(_) | FileName::Keepsake { .. }
        );
        if in_segment {
            continue;
        }
        let Some(FileDump { content, damage, .. }) = content::read(source, file, Depth::Headers)? else {
            continue;
        };
        dump.damage.extend(damage);
        match content {
            Content::Snapshot { snapshot } => drop(dump.snapshots.insert(&file.name, snapshot)),
            Content::TxnIndex { aborted_txns } => dump.aborted_txns.extend(aborted_txns),
            Content::LeaderEpochs { leader_epochs } => dump.leader_epochs = leader_epochs,
            Content::Topic { topic_id } => dump.topic_id = topic_id,
            Content::Manifest { manifest } => dump.manifest = manifest.map(|manifest| *manifest),
            Content::Watermark { watermark } => dump.watermark = Some(watermark),
            Content::Run { run } => drop(run.map(|run| dump.runs.insert(&file.name, *run))),
            _ => {}
        }
    }
    Ok(dump)
}

/// The segments of a directory, read one after the other while they are printed: a log is larger than memory.
struct Segments<'a> {
    source: &'a Source,
    files: &'a [Named],
    depth: Depth,
    /// What kept one from being read. The list ends there.
    failure: RefCell<Option<Error>>,
}

impl Serialize for Segments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let logs = self.files.iter().filter_map(|file| match file.meaning {
            FileName::Log(base) => Some((file, base)),
            _ => None,
        });
        let segments = logs.map_while(|(file, base)| {
            match content::segment_with_indexes(self.source, file, base, self.files, self.depth) {
                Ok(segment) => Some(segment),
                Err(error) => {
                    *self.failure.borrow_mut() = Some(error);
                    None
                }
            }
        });
        serializer.collect_seq(segments)
    }
}
