//! The process that writes a log, so that it can be killed.
//!
//! Invariant: everything between the two processes goes through the child's standard input (batches) and output
//! (acknowledgements); the child knows nothing of the plan.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use oncelog::{
    Appended, Cleanup, CompactionConfig, CoordinatorEpoch, Durability, EndTransaction, EndTxn, Log,
    LogConfig, Outcome, ProducerEpoch, ProducerId, RawBatch, TransactionVersion, UnknownProducerPolicy,
};

use crate::ledger::Ledger;
use crate::plan::{Batch, Marker};

/// The first argument of the child.
pub(crate) const COMMAND: &str = "write";
const BUFFERED: u8 = 0;
const DURABLE: u8 = 1;
const COMMIT: u8 = 2;
const ABORT: u8 = 3;
/// Appends that the child has under way at most.
const UNDER_WAY: usize = 24;

/// Segments as small as Kafka allows a topic to have them.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        preallocate_bytes: 1 << 20,
        // One of the producers begins near the greatest sequence.
        unknown_producer: UnknownProducerPolicy::Accept,
        // There is no coordinator that could be asked.
        verify_transactions: false,
        ..LogConfig::default()
    }
}

/// The same of a log that is compacted when the test says so.
pub(crate) fn compacting() -> LogConfig {
    let never = CompactionConfig { min_dirty_ratio: 1.0, ..CompactionConfig::default() };
    LogConfig { cleanup: Cleanup::Compact, compaction: never, ..config() }
}

/// The child: appends what comes in, says what is acknowledged as soon as it is, closes the log when nothing more comes.
pub(crate) fn child(dir: &Path) -> Result<()> {
    let (log, _) = Log::open(dir, config())?;
    let mut input = std::io::stdin().lock();
    let (take, give) = sync_channel(UNDER_WAY);
    let give = Arc::new(Mutex::new(give));
    let mut frame = [0; 5];
    while input.read_exact(&mut frame).is_ok() {
        let [kind, length @ ..] = frame;
        let mut batch = vec![0; u32::from_be_bytes(length) as usize];
        input.read_exact(&mut batch)?;
        take.send(())?;
        let completion = match kind {
            BUFFERED => log.submit(RawBatch(batch.into()), Durability::Buffered)?,
            DURABLE => log.submit(RawBatch(batch.into()), Durability::Durable)?,
            commit_or_abort => {
                let (id, epoch) = batch.split_first_chunk().context("a marker without producer")?;
                let end = EndTransaction {
                    producer: ProducerId(i64::from_be_bytes(*id)),
                    epoch: ProducerEpoch(i16::from_be_bytes(epoch.try_into()?)),
                    coordinator_epoch: CoordinatorEpoch(0),
                    outcome: if commit_or_abort == COMMIT { EndTxn::Commit } else { EndTxn::Abort },
                    version: TransactionVersion::One,
                };
                log.submit_end_transaction(end, Durability::Buffered)?
            }
        };
        let give = Arc::clone(&give);
        completion.on_complete(move |answer| {
            match answer {
                Ok(Appended { outcome: Outcome::Appended, last_offset, .. }) => {
                    // Somebody who does not listen any more is about to kill us.
                    let _ = writeln!(std::io::stdout(), "acknowledged {last_offset}");
                }
                other => eprintln!("the writer: {other:?}"),
            }
            let _ = give.lock().map(|give| give.recv());
        });
    }
    log.close()?;
    Ok(())
}

/// Has a child append `batches` and close the log, and places them in the ledger.
pub(crate) fn write_and_close(dir: &Path, ledger: &mut Ledger, batches: Vec<Batch>) -> Result<()> {
    let mut child = Running::start(dir, &batches)?;
    let mut acknowledged = Vec::new();
    while let Some(offset) = child.next_acknowledged()? {
        acknowledged.push(offset);
    }
    let status = child.process.wait()?;
    ensure!(status.success(), "the writer ended with {status}");
    // A durable batch may be acknowledged behind a later one that is not.
    acknowledged.sort_unstable();
    let mut expected = Vec::new();
    for batch in batches {
        ledger.place(batch);
        expected.push(ledger.end() - 1);
    }
    ensure!(acknowledged == expected, "acknowledged {acknowledged:?}, expected {expected:?}");
    Ok(())
}

/// Has a child append `batches`, kills it in the middle of that, and leaves in the ledger what is not certain.
pub(crate) fn write_and_kill(
    dir: &Path,
    ledger: &mut Ledger,
    batches: Vec<Batch>,
    kill_after: usize,
) -> Result<()> {
    let mut child = Running::start(dir, &batches)?;
    let mut seen = 0;
    let mut last = None;
    // Acknowledgements that were on their way when the child died count as well.
    while let Some(acknowledged) = child.next_acknowledged()? {
        last = last.max(Some(acknowledged));
        seen += 1;
        if seen == kill_after {
            child.process.kill()?;
        }
    }
    let status = child.process.wait()?;
    if seen < kill_after || status.code().is_some() {
        bail!("the writer ended with {status} after {seen} acknowledgements instead of being killed");
    }
    // What lies below an acknowledged batch was written before it.
    let mut batches = batches.into_iter();
    while last >= Some(ledger.end()) {
        ledger.place(batches.next().context("more was acknowledged than was sent")?);
    }
    ensure!(last == Some(ledger.end() - 1), "acknowledged {last:?}, inside of a batch");
    ledger.leave_unanswered(batches.collect());
    Ok(())
}

/// What the child is given for a batch or a marker: its kind, and the bytes.
fn frame(at: usize, batch: &Batch) -> (u8, Bytes) {
    match batch.marker {
        None => (if at.is_multiple_of(8) { DURABLE } else { BUFFERED }, batch.bytes.clone()),
        Some(Marker { id, epoch, commits }) => {
            let bytes = [&id.to_be_bytes()[..], &epoch.to_be_bytes()].concat();
            (if commits { COMMIT } else { ABORT }, bytes.into())
        }
    }
}

struct Running {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(dir: &Path, batches: &[Batch]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(COMMAND)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the writer")?;
        let mut input = process.stdin.take().context("the writer's input")?;
        let answers = BufReader::new(process.stdout.take().context("the writer's output")?);
        let batches: Vec<(u8, Bytes)> =
            batches.iter().enumerate().map(|(at, batch)| frame(at, batch)).collect();
        std::thread::spawn(move || -> Result<()> {
            for (kind, batch) in &batches {
                input.write_all(&[*kind])?;
                input.write_all(&u32::try_from(batch.len())?.to_be_bytes())?;
                // An error is a writer that was killed: that is judged by who waits for its answers.
                input.write_all(batch)?;
            }
            Ok(())
        });
        Ok(Self { process, answers })
    }

    /// Last offset of a batch that is acknowledged now; `None` when the child has ended.
    fn next_acknowledged(&mut self) -> Result<Option<i64>> {
        let mut line = String::new();
        // A line without its end was cut by the kill.
        if self.answers.read_line(&mut line)? == 0 || !line.ends_with('\n') {
            return Ok(None);
        }
        let offset = line.trim().strip_prefix("acknowledged ").context("the writer said something else")?;
        Ok(Some(offset.parse()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless a check failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
