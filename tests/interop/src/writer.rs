//! The process that writes a log, so that it can be killed.
//!
//! Invariant: everything between the two processes goes through the child's standard input (batches) and output
//! (acknowledgements); the child knows nothing of the plan.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use oncelog::{Completion, Durability, Log, LogConfig, Outcome, RawBatch, UnknownProducerPolicy};

use crate::ledger::Ledger;
use crate::plan::Batch;

/// The first argument of the child.
pub(crate) const COMMAND: &str = "write";
/// Appends that the child has under way at most.
const UNDER_WAY: usize = 24;

/// Segments as small as Kafka allows a topic to have them.
pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        preallocate_bytes: 1 << 20,
        // One of the producers begins near the greatest sequence.
        unknown_producer: UnknownProducerPolicy::Accept,
        ..LogConfig::default()
    }
}

/// The child: appends what comes in, says what is acknowledged, closes the log when nothing more comes.
pub(crate) fn child(dir: &Path) -> Result<()> {
    let (log, _) = Log::open(dir, config())?;
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let mut under_way: VecDeque<Completion> = VecDeque::new();
    let mut acknowledge = |completion: Completion| -> Result<()> {
        let appended = completion.wait()?;
        ensure!(appended.outcome == Outcome::Appended, "{:?} of a new batch", appended.outcome);
        writeln!(output, "acknowledged {}", appended.last_offset)?;
        output.flush()?;
        Ok(())
    };
    let mut frame = [0; 5];
    while input.read_exact(&mut frame).is_ok() {
        let [durable, length @ ..] = frame;
        let mut batch = vec![0; u32::from_be_bytes(length) as usize];
        input.read_exact(&mut batch)?;
        let durability = if durable == 1 { Durability::Durable } else { Durability::Buffered };
        under_way.push_back(log.submit(RawBatch(batch.into()), durability)?);
        if under_way.len() > UNDER_WAY
            && let Some(oldest) = under_way.pop_front()
        {
            acknowledge(oldest)?;
        }
    }
    under_way.into_iter().try_for_each(acknowledge)?;
    log.close()?;
    Ok(())
}

/// Has a child append `batches` and close the log, and places them in the ledger.
pub(crate) fn write_and_close(dir: &Path, ledger: &mut Ledger, batches: Vec<Batch>) -> Result<()> {
    let mut child = Running::start(dir, &batches)?;
    for batch in batches {
        ledger.place(batch);
        let acknowledged = child.next_acknowledged()?.context("the writer ended early")?;
        ensure!(
            acknowledged == ledger.end() - 1,
            "acknowledged {acknowledged}, expected {}",
            ledger.end() - 1
        );
    }
    ensure!(child.next_acknowledged()?.is_none(), "more acknowledgements than batches");
    let status = child.process.wait()?;
    ensure!(status.success(), "the writer ended with {status}");
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
    let mut batches = batches.into_iter();
    let mut seen = 0;
    // Acknowledgements that were on their way when the child died count as well.
    while let Some(acknowledged) = child.next_acknowledged()? {
        ledger.place(batches.next().context("more acknowledgements than batches")?);
        ensure!(
            acknowledged == ledger.end() - 1,
            "acknowledged {acknowledged}, expected {}",
            ledger.end() - 1
        );
        seen += 1;
        if seen == kill_after {
            child.process.kill()?;
        }
    }
    let status = child.process.wait()?;
    if seen < kill_after || status.code().is_some() {
        bail!("the writer ended with {status} after {seen} acknowledgements instead of being killed");
    }
    ledger.leave_unanswered(batches.collect());
    Ok(())
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
        let batches: Vec<Bytes> = batches.iter().map(|batch| batch.bytes.clone()).collect();
        std::thread::spawn(move || -> Result<()> {
            for (number, batch) in batches.iter().enumerate() {
                let durable = u8::from(number % 8 == 0);
                input.write_all(&[durable])?;
                input.write_all(&u32::try_from(batch.len())?.to_be_bytes())?;
                // An error is a writer that was killed: that is judged by who waits for its answers.
                input.write_all(batch)?;
            }
            Ok(())
        });
        Ok(Self { process, answers })
    }

    /// Last offset of the next acknowledged batch; `None` when the child has ended.
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
