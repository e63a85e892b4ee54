//! The loop: start a child, check what it found, let it append, kill it, damage the directory, again.
//!
//! Invariant: after the first violation nothing more is started, because a book that no longer agrees with the log would
//! only show the same fault again and again.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use oncelog::format::names::PartitionName;
use oncelog::storage::{OsStorage, Storage};
use oncelog::testing::Break;

use super::args::{Args, BreakArg, DEFAULT_KILLS};
use super::breaks;
use super::cycle::Cycle;
use super::inspect::Inspected;
use super::ledger::Ledger;
use super::medium::Medium;
use super::opening::Since;
use super::partitions::{self, Books};
use super::report::{Tally, Violation};
use super::schedule::{Ending, Schedule, Session};
use super::settle::Loss;
use super::tamper::{Done, Place};
use super::transcript::Transcript;

/// The log's directory under the one that is worked in: a root as Kafka lays it out, with one partition.
const PARTITION: &str = "root/crash-0";
/// One of so many sessions reads the whole log and not only what is new.
const FULL_DUMP_EVERY: u64 = 25;
/// From so many kills on, a point that was never hit is a fault of the test, and is told.
const KILLS_FOR_EVERY_POINT: u64 = 300;

/// Runs the test.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let broken = match args.broken {
        Some(BreakArg::List) => {
            print!("{}", breaks::list());
            return Ok(ExitCode::SUCCESS);
        }
        Some(BreakArg::Rule(rule)) => Some(rule),
        None => None,
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..=i64::MAX.unsigned_abs()));
    let (dir, temporary) = work_dir(args)?;
    let progress = progress(args);
    progress.set_message(format!("seed {seed}"));
    let mut test = Test::new(args, broken, seed, &dir)?;
    let started = Instant::now();
    let result = test.run(&progress, started);
    progress.finish_and_clear();
    test.tally.took(started.elapsed());
    test.tally.take_stock(args.profile());
    test.transcript.flush()?;
    if let Err(error) = result {
        let kept = temporary.map_or(dir, tempfile::TempDir::keep);
        return Err(error.context(format!("seed {seed}, kept: {}", kept.display())));
    }
    let failed = test.tally.violations > 0;
    if failed || args.dir.is_some() {
        let kept = if failed { temporary.map_or(dir, tempfile::TempDir::keep) } else { dir };
        test.tally.dir = Some(kept.display().to_string());
    }
    if args.json {
        println!("{}", serde_json::to_string(&test.tally)?);
    } else {
        println!("{}", test.tally.text());
    }
    Ok(if test.tally.verdict == "pass" { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn work_dir(args: &Args) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let Some(dir) = &args.dir else {
        let temporary = tempfile::Builder::new()
            .prefix("oncelog-crash-")
            .tempdir()
            .context("make a temporary directory")?;
        return Ok((temporary.path().to_path_buf(), Some(temporary)));
    };
    let storage = OsStorage::new();
    storage.create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    if !storage.list(dir).with_context(|| format!("list {}", dir.display()))?.is_empty() {
        bail!("{} is not empty; --dir accepts a directory that is missing or empty", dir.display());
    }
    let dir = std::path::absolute(dir).with_context(|| format!("resolve {}", dir.display()))?;
    Ok((dir, None))
}

fn progress(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let kills = args.kills.unwrap_or(DEFAULT_KILLS);
    let bar = match args.seconds {
        Some(seconds) => ProgressBar::new(u64::from(seconds)),
        None => ProgressBar::new(u64::from(kills)),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    let what = if args.seconds.is_some() { "seconds" } else { "kills" };
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {what}, {{msg}}"));
    // A template that does not parse costs the looks of the bar only.
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
enum Until {
    Kills(u64),
    Time(Duration),
}

/// The whole test.
pub(super) struct Test {
    pub(super) seed: u64,
    pub(super) broken: Option<Break>,
    until: Until,
    pub(super) program: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) dir: PathBuf,
    pub(super) ledger: Ledger,
    pub(super) books: Books,
    pub(super) medium: Medium,
    pub(super) tally: Tally,
    pub(super) transcript: Transcript,
    pub(super) random: fastrand::Rng,
    schedule: Schedule,
    /// The producers that append; each place is taken by another id now and then.
    pub(super) active: Vec<i64>,
    pub(super) next_producer: i64,
    pub(super) since: Since,
    /// Runs that were ever damaged; no number is used twice.
    pub(super) lost_runs: BTreeSet<u64>,
    pub(super) loss: Loss,
    sessions: u64,
}

impl Test {
    fn new(args: &Args, broken: Option<Break>, seed: u64, root: &Path) -> Result<Self> {
        let storage: Arc<dyn Storage> = Arc::new(OsStorage::new());
        let dir = root.join(PARTITION);
        storage.create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let active: Vec<i64> = (0..i64::from(args.producers)).collect();
        let profile = args.profile();
        let until = match args.seconds {
            Some(seconds) => Until::Time(Duration::from_secs(u64::from(seconds))),
            None => Until::Kills(u64::from(args.kills.unwrap_or(DEFAULT_KILLS))),
        };
        Ok(Self {
            seed,
            broken,
            until,
            program: std::env::current_exe().context("find this program")?,
            ledger: Ledger::new(seed, active.iter().copied()),
            books: Books::new(seed),
            medium: Medium::default(),
            tally: Tally::new(seed, profile, broken.map(Break::name), args.replay(seed)),
            transcript: Transcript::create(Arc::clone(&storage), root)?,
            storage,
            dir,
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
            schedule: Schedule::new(seed, breaks::focus(broken), args.durability, profile),
            next_producer: i64::from(args.producers),
            active,
            since: Since::default(),
            lost_runs: BTreeSet::new(),
            loss: Loss::default(),
            sessions: 0,
        })
    }

    fn run(&mut self, progress: &ProgressBar, started: Instant) -> Result<()> {
        let mut session = self.schedule.next_session(false);
        while self.goes_on(started) {
            self.session(&session, self.sessions.is_multiple_of(FULL_DUMP_EVERY))?;
            let closed = self.since.closed;
            session = self.schedule.next_session(closed);
            if self.tally.violations == 0 {
                self.tamper(&session, closed)?;
            }
            self.transcript.flush()?;
            progress.set_position(match self.until {
                Until::Kills(_) => self.tally.kills,
                Until::Time(_) => started.elapsed().as_secs(),
            });
        }
        if self.tally.violations == 0 {
            self.last_session(session)?;
        }
        Ok(())
    }

    fn goes_on(&self, started: Instant) -> bool {
        self.tally.violations == 0
            && match self.until {
                Until::Kills(kills) => self.tally.kills < kills,
                Until::Time(time) => started.elapsed() < time,
            }
    }

    /// Reads everything once more and closes the log.
    fn last_session(&mut self, session: Session) -> Result<()> {
        let session = Session { ending: Ending::Close(Duration::ZERO), failures: None, ..session };
        self.session(&session, true)?;
        let never = self.schedule.never_hit();
        let enough = self.tally.kills >= KILLS_FOR_EVERY_POINT && self.broken.is_none();
        if enough && !never.is_empty() {
            self.tally.violated([Violation::new("an armed point was never hit", never.join(", "))]);
        }
        Ok(())
    }

    fn session(&mut self, session: &Session, full_dump: bool) -> Result<()> {
        self.sessions += 1;
        self.transcript.note(format_args!("session {}: {session:?}", self.sessions));
        self.books.go_on();
        let before = Inspected::read(&*self.storage, &self.dir)?;
        if let Some(point) = Cycle::start(self, session, before)?.run(full_dump)? {
            self.schedule.hit(point);
        }
        let root = self.dir.parent().unwrap_or(&self.dir);
        let path = |name: &str| if name.contains('/') { root.join(name) } else { self.dir.join(name) };
        self.medium.reconcile(|name| self.storage.identity(&path(name)).is_ok());
        if session.full.is_some() && self.tally.violations == 0 {
            let judged = partitions::judge_root(&*self.storage, &self.dir, &self.medium, &self.books)?;
            self.transcript.note(format_args!("the root's files: {judged:?}"));
            self.tally.violated(judged);
        }
        Ok(())
    }

    /// The power went for the whole root.
    fn cut_power_around(&mut self) -> Result<()> {
        let Some(root) = self.dir.parent() else { return Ok(()) };
        for entry in self.storage.list(root)? {
            let dir = root.join(&entry.name);
            if dir != self.dir && PartitionName::parse(&entry.name).is_ok() {
                let prefix = format!("{}/", entry.name);
                self.medium.cut_power(&*self.storage, &dir, &prefix, &mut self.random)?;
            }
        }
        self.books.power = true;
        Ok(())
    }

    /// Does to the directory what is next in turn.
    fn tamper(&mut self, next: &Session, closed: bool) -> Result<()> {
        let tampering = self.schedule.tamperings(next, closed || self.since.perhaps_closed);
        let mut done = 0;
        for tamper in tampering.wishes {
            if done == tampering.most {
                break;
            }
            if tamper == super::tamper::Tamper::AnotherProgram && self.loss.cut.is_some() {
                continue;
            }
            let mut place = Place {
                storage: &*self.storage,
                dir: &self.dir,
                ledger: &mut self.ledger,
                medium: &mut self.medium,
                random: &mut self.random,
            };
            let Some(what) = place.apply(tamper)? else { continue };
            self.transcript.note(format_args!("{what:?}"));
            done += 1;
            self.schedule.tampered(tamper);
            *self.tally.tampered.entry(tamper.name()).or_default() += 1;
            match what {
                Done::PowerCut(_) => {
                    self.loss.power = true;
                    self.cut_power_around()?;
                }
                Done::AnotherProgram(cut) => self.loss.cut = Some(cut),
                Done::IndexesScrambled => self.books.scrambled = true,
                Done::RunDamaged(number) => {
                    self.lost_runs.insert(number);
                }
                _ => {}
            }
            self.since.done.push(what);
            if matches!(what, Done::AnotherProgram(_)) {
                // What it left is whole and synced; more damage at once would be damage to its log, not to ours.
                break;
            }
        }
        Ok(())
    }
}
