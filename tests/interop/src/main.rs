//! Lets a real Kafka broker and oncelog take turns on one directory, and compares what each says with what was written.
//!
//! `README.md` beside this crate says what is checked. Exit code 0: every check passed, or Kafka cannot be run here
//! (then the last line begins with `SKIPPED:`); 1: a check failed.

#![expect(
    clippy::disallowed_methods,
    reason = "the test arranges files of a root and looks at them from outside; the log itself is oncelog's"
)]

mod dump;
mod kafka;
mod ledger;
mod ours;
mod place;
mod plan;
mod theirs;
mod verdicts;
mod wire;
mod writer;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::kafka::{Kafka, Missing};
use crate::ledger::Ledger;
use crate::ours::Leave;
use crate::place::{Place, TOPIC, TOPIC_ID};
use crate::plan::{Batch, Keys, Planner};
use crate::theirs::{Before, Left};
use crate::verdicts::Verdicts;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let outcome = match arguments.next() {
        Some(command) if command == writer::COMMAND => {
            let dir = arguments.next().map(PathBuf::from).context("no directory");
            dir.and_then(|dir| writer::child(&dir)).map(|()| true)
        }
        _ => run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let began = Instant::now();
    let work = tempfile::Builder::new().prefix("oncelog-interop-").tempdir()?;
    let kafka = match Kafka::prepare(work.path())? {
        Ok(kafka) => kafka,
        Err(Missing(why)) => {
            println!("SKIPPED: {why}; nothing was compared with a real Kafka");
            return Ok(true);
        }
    };
    let mut verdicts = Verdicts::default();
    for scenario in Scenario::ALL {
        if let Err(error) = scenario.run(&kafka, work.path(), &mut verdicts) {
            verdicts.judge("the scenario could be carried through", Err(error));
        }
    }
    let (passed, failed) = verdicts.count();
    println!("{passed} checks passed, {failed} failed, {} seconds", began.elapsed().as_secs());
    if failed > 0 {
        println!("the directories are kept in {}", work.keep().display());
    }
    Ok(failed == 0)
}

/// What happens to the log, and how the turns end. The first two have all four ways of one engine handing over to the
/// other at least once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// oncelog closes its log, Kafka stops in order; in the second round Kafka is killed.
    Closed,
    /// oncelog is killed, and so is Kafka; in the second round Kafka stops in order.
    Killed,
    /// As `Closed`; before it hands over, oncelog truncates the log and deletes its beginning.
    Cut,
    /// As `Closed`; before it hands over, oncelog compacts the log.
    Compacted,
}

impl Scenario {
    const ALL: [Self; 4] = [Self::Closed, Self::Killed, Self::Cut, Self::Compacted];

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Killed => "killed",
            Self::Cut => "cut",
            Self::Compacted => "compacted",
        }
    }

    fn run(self, kafka: &Kafka, work: &Path, verdicts: &mut Verdicts) -> Result<()> {
        let name = self.name();
        let left = if self == Self::Killed { Left::Killed } else { Left::Closed };
        let keys = if self == Self::Compacted { Keys::Always } else { Keys::Some };
        let place = Place::make(&work.join(name))?;
        let ports = kafka::free_ports()?;
        let properties = work.join(format!("{name}.properties"));
        fs::write(&properties, kafka::server_properties(&place.root, ports))?;
        let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let mut planner = Planner::new(7, now_ms, keys);
        let mut ledger = Ledger::default();

        for round in 1..=2 {
            self.write(name, round, &place, (&mut ledger, &mut planner), verdicts)?;
            verdicts.scene(format!("{name}, round {round}, Kafka after oncelog"));
            match left {
                Left::Closed => place.mark_clean(ledger.start(), ledger.end())?,
                Left::Killed => place.unmark_clean()?,
            }
            // A copy: the tool makes files that it misses.
            let copy = place.copy(&work.join(format!("{name}-{round}-dumped")))?;
            dump::judge(kafka, &copy, &ledger, left, verdicts)?;
            if round == 1 {
                kafka.adopt(&properties, &place.root, TOPIC, TOPIC_ID, 0)?;
            }
            let before = Before { start: ledger.start(), end: ledger.end(), sealed: place.sealed_files()? };
            let broker = kafka.start(&properties, ports[0])?;
            theirs::visit(kafka, &broker, &mut ledger, &mut planner, verdicts)?;
            let stops = (round == 2) == (self == Self::Killed);
            let log = if stops { broker.stop()? } else { broker.kill()? };
            fs::write(work.join(format!("{name}-{round}.log")), log.join("\n"))?;
            theirs::judge_loading(&log, left, &before, &place, verdicts)?;

            let how = if stops { "stopped" } else { "killed" };
            verdicts.scene(format!("{name}, round {round}, oncelog after a {how} Kafka"));
            place.unmark_clean()?;
            let leave = if round == 1 { Leave::AsAfterACrash } else { Leave::Closed };
            ours::visit(&place.partition, &ledger, leave, verdicts)?;
        }
        Ok(())
    }

    /// oncelog's turn: two lives, so that a broker also sees what oncelog made of its own recovery.
    fn write(
        self,
        name: &str,
        round: usize,
        place: &Place,
        (ledger, planner): (&mut Ledger, &mut Planner),
        verdicts: &mut Verdicts,
    ) -> Result<()> {
        for life in 0..2 {
            let batches = plan(planner, ledger, 150)?;
            if self != Self::Killed {
                writer::write_and_close(&place.partition, ledger, batches)?;
                continue;
            }
            writer::write_and_kill(&place.partition, ledger, batches, 100)?;
            if life == 0 {
                verdicts.scene(format!("{name}, round {round}, oncelog after its own kill -9"));
                ours::settle(&place.partition, ledger, verdicts)?;
            }
        }
        verdicts.scene(format!("{name}, round {round}, oncelog before it hands over"));
        match self {
            Self::Closed | Self::Killed => Ok(()),
            Self::Cut => ours::cut(&place.partition, ledger, verdicts),
            Self::Compacted => ours::compact(&place.partition, ledger, verdicts),
        }
    }
}

/// The next batches after those of the ledger.
fn plan(planner: &mut Planner, ledger: &Ledger, count: usize) -> Result<Vec<Batch>> {
    let mut ahead = ledger.clone();
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        let batch = planner.batch(&ahead)?;
        ahead.place(batch.clone());
        batches.push(batch);
    }
    Ok(batches)
}
