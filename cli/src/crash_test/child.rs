//! The child: opens the log and does what the parent asks, until it is killed.
//!
//! Invariant: it judges nothing. What the log says goes to the parent as it is; before every submit goes what is about to
//! be submitted.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use oncelog::format::batch::RawBatch;
use oncelog::producer::UnknownProducerPolicy;
use oncelog::storage::{Storage, SystemClock};
use oncelog::testing::{self, Break, Point};
use oncelog::types::{CoordinatorEpoch, Durability, Offset, ProducerEpoch, ProducerId};
use oncelog::{
    Appended, EndTransaction, EndTxn, Environment, Error, Isolation, Log, LogConfig, Outcome, PinnedLog,
    RecoveryReport, Rejection, Retention, Salvage, TransactionVersion,
};

use super::batch::{Kind, Spec};
use super::emitter::Emitter;
use super::partitions::{self, Root};
use super::protocol::{Answer, Armed, Command, Deletions, Ends, Event, Opened, Place, Probe, Start};
use super::upkeep;
use super::watched::{Faults, WatchedStorage};
use super::workload;

/// Bytes of one fetch of a dump.
const DUMP_FETCH: usize = 1 << 20;

/// What a child works with.
pub(super) struct Served {
    pub(super) log: Held,
    pub(super) emitter: Arc<Emitter>,
    pub(super) faults: Arc<Faults>,
    pub(super) seed: u64,
}

/// The log, alone or as one of a root.
pub(super) enum Held {
    Alone(Log),
    Together(Root, PinnedLog),
}

impl Deref for Held {
    type Target = Log;

    fn deref(&self) -> &Log {
        match self {
            Self::Alone(log) => log,
            Self::Together(_, log) => log,
        }
    }
}

/// Serves the parent over standard input and output.
pub(crate) fn run() -> Result<()> {
    let emitter = Arc::new(Emitter::to_stdout().context("take over standard output")?);
    if let Err(error) = serve(&emitter) {
        emitter.send(&Event::Fault(format!("{error:#}")));
        return Err(error);
    }
    Ok(())
}

fn serve(emitter: &Arc<Emitter>) -> Result<()> {
    let mut commands = io::stdin().lock();
    let Some(Command::Start(start)) = Command::receive(&mut commands)? else {
        bail!("the first command must be to start")
    };
    let Some(child) = open(&start, emitter)? else { return Ok(()) };
    loop {
        match Command::receive(&mut commands)? {
            None => return Ok(()),
            Some(Command::Start(_)) => bail!("the log is open already"),
            Some(Command::Dump { from }) => child.dump(from)?,
            Some(Command::Fetch(offsets)) => child.fetch(&offsets)?,
            Some(Command::Decide { from }) => upkeep::decide(&child, from)?,
            Some(Command::Follow(batches)) => upkeep::follow(&child, &batches)?,
            Some(Command::Flush) => {
                child.log.flush()?;
                emitter.send(&Event::Flushed);
            }
            Some(Command::Upkeep(what, armed)) => {
                arm(armed.as_ref())?;
                upkeep::serve(&child, what);
            }
            Some(Command::Probe(probes)) => child.probe(&probes)?,
            Some(Command::Survey) => partitions::survey(child.root()?, emitter)?,
            Some(Command::Ask(asked)) => partitions::answer(&child, child.root()?, &asked)?,
            Some(Command::Work(work)) => {
                arm(work.armed.as_ref())?;
                if let Some(failures) = work.failures {
                    child.faults.begin(failures);
                }
                emitter.send(&Event::Working);
                workload::run(&child, &work, &mut commands)?;
                return child.close();
            }
            Some(Command::Close) => return child.close(),
        }
    }
}

fn open(start: &Start, emitter: &Arc<Emitter>) -> Result<Option<Served>> {
    if let Some(rule) = &start.broken {
        testing::break_rule(Break::from_name(rule).context("unknown rule")?);
    }
    arm(start.armed.as_ref())?;
    let faults = Arc::new(Faults::default());
    let storage: Arc<dyn Storage> =
        Arc::new(WatchedStorage::new(Arc::clone(emitter), Arc::clone(&faults), &start.dir));
    let environment = Environment {
        storage,
        clock: Arc::new(SystemClock::new()),
        salvage: Salvage::Refuse,
        progress: None,
    };
    let opened_log = match start.root {
        None => Log::open_with(&start.dir, config(start), environment)
            .map(|(log, report)| (Held::Alone(log), report)),
        Some(settings) => partitions::open(&start.dir, settings, config(start), environment)?
            .map(|(root, log, report)| (Held::Together(root, log), report)),
    };
    match opened_log {
        Ok((log, report)) => {
            emitter.send(&Event::Opened(Box::new(opened(&report))));
            Ok(Some(Served { log, emitter: Arc::clone(emitter), faults, seed: start.seed }))
        }
        Err(error) => {
            emitter.send(&Event::OpenFailed(error.to_string()));
            Ok(None)
        }
    }
}

fn arm(armed: Option<&Armed>) -> Result<()> {
    if let Some(Armed { point, crossing }) = armed {
        testing::arm(Point::from_name(point).context("unknown point")?, *crossing);
    }
    Ok(())
}

fn config(start: &Start) -> LogConfig {
    let mut config = LogConfig {
        segment_bytes: start.segment_bytes,
        index_interval_bytes: 512,
        checkpoint_bytes: start.checkpoint_bytes,
        checkpoint_producers: start.checkpoint_producers,
        whole_base_producers: start.whole_base_producers,
        preallocate_bytes: u64::from(start.segment_bytes),
        unknown_producer: if start.accept_unknown {
            UnknownProducerPolicy::Accept
        } else {
            UnknownProducerPolicy::Reject
        },
        ..LogConfig::default()
    };
    if let Some(Deletions { keep_bytes, delay_ms }) = start.deletions {
        config.retention = Retention { max_age_ms: None, max_bytes: Some(keep_bytes) };
        // Only when the parent asks for it.
        config.retention_check_ms = u64::MAX;
        config.delete_delay_ms = delay_ms;
        config.verify_transactions = false;
    }
    config
}

fn opened(report: &RecoveryReport) -> Opened {
    Opened {
        kind: format!("{:?}", report.kind),
        runs: report.chain.as_ref().map(|chain| chain.runs.clone()).unwrap_or_default(),
        previous_chain: report.chain.as_ref().is_some_and(|chain| chain.previous),
        snapshot: report.snapshot.clone(),
        rejected: report.rejected.iter().map(|file| (file.file.clone(), file.reason.clone())).collect(),
        scanned_bytes: report.scanned_bytes,
        unverified_bytes: report.unverified_bytes,
        replayed_bytes: report.replayed_bytes,
        cuts: report.cuts.iter().map(ToString::to_string).collect(),
        text: report.to_string(),
    }
}

impl Served {
    /// Sends every batch from `from` on.
    fn dump(&self, from: i64) -> Result<()> {
        let mut next = Offset(from.max(self.log.log_start_offset().0));
        let end = self.log.log_end_offset();
        while next < end {
            let fetched = self.log.fetch(next, DUMP_FETCH, Isolation::LogEnd)?;
            if fetched.is_empty() {
                bail!("a fetch at offset {next} shows nothing although the log ends at {end}");
            }
            for batch in fetched.batches()? {
                let batch = batch?;
                next = batch.header.next_offset();
                self.emitter.send(&Event::Batch(batch.bytes));
            }
        }
        self.emitter.send(&Event::DumpEnd(Ends {
            start: self.log.log_start_offset().0,
            end: end.0,
            high_watermark: self.log.high_watermark().0,
        }));
        Ok(())
    }

    /// Sends the batch that holds each of these offsets.
    fn fetch(&self, offsets: &[i64]) -> Result<()> {
        for offset in offsets {
            let fetched = self.log.fetch(Offset(*offset), 1, Isolation::HighWatermark)?;
            for batch in fetched.batches()? {
                self.emitter.send(&Event::Batch(batch?.bytes));
            }
        }
        self.emitter.send(&Event::Fetched);
        Ok(())
    }

    /// Submits in order; answers come in any.
    fn probe(&self, probes: &[Probe]) -> Result<()> {
        let (done, answers) = mpsc::channel();
        for probe in probes {
            let durability = if probe.durable { Durability::Durable } else { Durability::Buffered };
            let (emitter, done, id) = (Arc::clone(&self.emitter), done.clone(), probe.id);
            self.submit(&probe.spec, durability, move |answer| {
                emitter.send(&Event::Answer { id, answer: spell(answer) });
                // The receiver outlives every answer unless the process ends.
                let _ = done.send(());
            })?;
        }
        drop(done);
        while answers.recv().is_ok() {}
        self.emitter.send(&Event::ProbesDone);
        Ok(())
    }

    /// Submits and has the answer called back, be it given at once.
    pub(super) fn submit(
        &self,
        spec: &Spec,
        durability: Durability,
        then: impl FnOnce(Result<Appended, Error>) + Send + 'static,
    ) -> Result<()> {
        let submitted = match end_of(spec) {
            Some(end) => self.log.submit_end_transaction(end, durability),
            None => self.log.submit(RawBatch(spec.bytes(self.seed)?), durability),
        };
        match submitted {
            Ok(completion) => completion.on_complete(then),
            Err(error) => then(Err(error)),
        }
        Ok(())
    }

    /// Submits and waits for the answer.
    pub(super) fn append(&self, spec: &Spec, durability: Durability) -> Result<Result<Appended, Error>> {
        Ok(match end_of(spec) {
            Some(end) => self.log.end_transaction(end, durability),
            None => self.log.append(RawBatch(spec.bytes(self.seed)?), durability),
        })
    }

    /// The root that was opened.
    pub(super) fn root(&self) -> Result<&Root> {
        match &self.log {
            Held::Together(root, _) => Ok(root),
            Held::Alone(_) => bail!("the log was opened alone"),
        }
    }

    fn close(self) -> Result<()> {
        match self.log {
            Held::Alone(log) => log.close().context("close the log")?,
            Held::Together(root, log) => {
                drop(log);
                root.close().context("close the root")?;
            }
        }
        self.emitter.send(&Event::Closed);
        Ok(())
    }
}

/// The order that makes the log write this marker; `None` if it is data.
pub(super) fn end_of(spec: &Spec) -> Option<EndTransaction> {
    let outcome = match spec.kind {
        Kind::Plain | Kind::Transactional => return None,
        Kind::Commit => EndTxn::Commit,
        Kind::Abort => EndTxn::Abort,
    };
    Some(EndTransaction {
        producer: ProducerId(spec.producer),
        epoch: ProducerEpoch(spec.epoch),
        coordinator_epoch: CoordinatorEpoch(spec.first),
        outcome,
        version: TransactionVersion::One,
    })
}

/// Waits for the parent's word to close; `false` if the parent is gone.
pub(super) fn wait_for_close(commands: &mut impl Read) -> Result<bool> {
    match Command::receive(commands)? {
        None => Ok(false),
        Some(Command::Close) => Ok(true),
        Some(_) => bail!("the only command to a working child is to close"),
    }
}

/// The log's answer in the words of the protocol.
pub(super) fn spell(answer: Result<Appended, Error>) -> Answer {
    match answer {
        Ok(Appended { outcome: Outcome::DuplicateBeyondWindow, .. }) => Answer::DuplicateBeyondWindow,
        Ok(appended) => {
            let base = appended.base_offset.map_or(-1, |offset| offset.0);
            let place = Place { base, last: appended.last_offset.0, timestamp: appended.timestamp };
            match appended.outcome {
                Outcome::Appended => Answer::Appended(place),
                _ => Answer::Duplicate(place),
            }
        }
        Err(Error::Rejected(rejection)) => match rejection {
            Rejection::OutOfOrder { expected, .. } => Answer::OutOfOrder { expected: expected.value() },
            Rejection::Fenced { current, .. } => Answer::Fenced { current: current.0 },
            Rejection::SequenceOverlap { .. } => Answer::SequenceOverlap,
            Rejection::SequenceUnknown { .. } => Answer::SequenceUnknown,
            Rejection::UnknownProducer { .. } => Answer::UnknownProducer,
            Rejection::AbortedRetry { .. } => Answer::AbortedRetry,
            Rejection::CoordinatorFenced { current, .. } => Answer::CoordinatorFenced { current: current.0 },
            other => Answer::Rejected(other.to_string()),
        },
        Err(Error::Unavailable { why }) => Answer::Unavailable(why),
        Err(Error::Indeterminate { why }) => Answer::Indeterminate(why),
        Err(other) => Answer::Failed(other.to_string()),
    }
}
