//! Durable is real: the power is cut after every single operation of a workload that does everything a log does, each
//! image is opened again, and every acknowledgement, every window and every refusal must still be right.
//!
//! The disk is simulated: a power cut takes every byte, length and name that was not synced (or, in the torn variants,
//! any subset of them). The same checks with syncs switched off must report a lost acknowledgement, or they prove
//! nothing.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "power_cut/workload.rs"]
mod workload;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use common::check::{Checked, DIR, Facts, Kept, Rule, Violation, check, content_of, open};
use common::ledger::{Ack, Issued, Ledger, SharedLedger};
use oncelog::Durability;
use oncelog::format::manifest::Manifest;
use oncelog::format::names;
use oncelog::storage::{Image, MemoryStorage, OperationKind};

/// What a crash right after one operation leaves, and what had been promised by then.
struct Moment {
    /// The operation, for people.
    after: String,
    /// All that is synced and nothing else.
    cut: Image,
    /// Random subsets of what is not synced on top of it.
    torn: Vec<Image>,
    /// All that is written.
    killed: Image,
    issued: usize,
    acks: usize,
}

struct History {
    moments: Vec<Moment>,
    ledger: Ledger,
    rolls: usize,
    deltas: usize,
    merges: usize,
}

/// Torn images per operation.
const TORN: u64 = 1;

fn record(disk: &MemoryStorage) -> History {
    let ledger = SharedLedger::default();
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (taken, known) = (Arc::clone(&moments), ledger.clone());
    let rolls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&rolls);
    disk.on_operation(move |operation, disk| {
        if operation.kind == OperationKind::Rename && operation.name() == names::NEXT_SEGMENT {
            *counted.lock().expect("one thread") += 1;
        }
        let torn = (0..TORN)
            .map(|variant| {
                let mut dice = Dice::new(operation.number * TORN + variant);
                let odds = [1, 4, 7][usize::try_from(operation.number % 3).expect("small")];
                disk.power_cut_with(|_| dice.below(8) < odds)
            })
            .collect();
        let known = known.lock();
        taken.lock().expect("one thread").push(Moment {
            after: format!("operation {}: {:?} {}", operation.number, operation.kind, operation.name()),
            cut: disk.power_cut(),
            torn,
            killed: disk.kill(),
            issued: known.issued.len(),
            acks: known.acks.len(),
        });
    });
    workload::run(disk, &ledger).expect("nothing is made to fail");
    disk.forget_observer();
    let moments = std::mem::take(&mut *moments.lock().expect("one thread"));
    let (deltas, merges) = count_runs(&moments);
    let rolls = *rolls.lock().expect("one thread");
    let ledger = ledger.lock().clone();
    History { moments, ledger, rolls, deltas, merges }
}

/// How often the manifest came to name a delta, and a chain that is shorter than the one before.
fn count_runs(moments: &[Moment]) -> (usize, usize) {
    let path = Path::new(DIR).join(names::MANIFEST);
    let chains = moments
        .iter()
        .filter_map(|moment| Manifest::decode(&moment.killed.read(&path)?).ok())
        .map(|manifest| manifest.chain.len());
    let (mut before, mut deltas, mut merges) = (0, 0, 0);
    for now in chains {
        deltas += usize::from(now > before && now > 1);
        merges += usize::from(now < before);
        before = now;
    }
    (deltas, merges)
}

/// The workload with syncs that work, run once for all tests.
fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| record(&MemoryStorage::new()))
}

impl History {
    fn facts<'a>(&'a self, moment: &Moment, must_survive: &'a [Ack]) -> Facts<'a> {
        Facts { issued: &self.ledger.issued[..moment.issued], must_survive, in_order: as_issued }
    }

    /// The acknowledgements that were given before a moment and must survive it.
    fn promised(&self, moment: &Moment, by: impl Fn(&Ack) -> bool) -> Vec<Ack> {
        self.ledger.acks[..moment.acks].iter().copied().filter(by).collect()
    }

    fn check(&self, moment: &Moment, image: &Image) -> Result<Checked, Violation> {
        check(image, self.facts(moment, &self.promised(moment, is_durable)))
    }
}

/// One thread sends, nothing is refused: the log is a prefix of what was sent.
fn as_issued(_issued: &[Issued], kept: &[Kept]) -> bool {
    kept.iter().map(|(at, _)| *at).eq(0..kept.len())
}

fn is_durable(ack: &Ack) -> bool {
    ack.level == Durability::Durable
}

fn must_hold<T>(moment: &Moment, what: &str, result: Result<T, Violation>) -> T {
    match result {
        Ok(checked) => checked,
        Err(violation) => panic!("{what} after {}: {violation}", moment.after),
    }
}

#[test]
fn every_durable_ack_and_every_window_survive_a_power_cut_after_any_operation() {
    let history = history();
    assert!(history.moments.len() >= 200, "only {} operations", history.moments.len());
    assert!(history.rolls >= 1 && history.deltas >= 1 && history.merges >= 1, "the workload does too little");
    assert_eq!(history.ledger.errors.len(), 0, "{:?}", history.ledger.errors);
    let (mut retries, mut from_runs, mut from_deltas, mut cuts) = (0, 0, 0, 0);
    for moment in &history.moments {
        let checked = must_hold(moment, "power cut", history.check(moment, &moment.cut));
        retries += checked.retries;
        let runs = checked.report.chain.map_or(0, |chain| chain.runs.len());
        from_runs += usize::from(runs > 0);
        from_deltas += usize::from(runs > 1);
        cuts += usize::from(!checked.report.cuts.is_empty());
    }
    println!(
        "{} images, {} rolls, {} deltas, {} merges; {retries} retries, {from_runs} recoveries from runs, \
         {from_deltas} with deltas, {cuts} cuts",
        history.moments.len(),
        history.rolls,
        history.deltas,
        history.merges
    );
    assert!(
        retries >= 10_000 && from_runs >= 100 && from_deltas >= 30,
        "{retries} {from_runs} {from_deltas}"
    );
}

#[test]
fn whatever_subset_of_unsynced_sectors_and_names_is_kept_no_promise_is_broken() {
    let history = history();
    let (mut images, mut cuts) = (0, 0);
    for moment in &history.moments {
        for image in &moment.torn {
            let checked = must_hold(moment, "torn power cut", history.check(moment, image));
            images += 1;
            cuts += usize::from(!checked.report.cuts.is_empty());
        }
    }
    assert!(images >= 400, "only {images} images");
    assert!(cuts >= 20, "only {cuts} images had a tail to cut: the subsets are too tame");
}

#[test]
fn a_power_cut_at_any_operation_of_a_recovery_changes_nothing() {
    let history = history();
    let mut images = 0;
    for (number, moment) in history.moments.iter().enumerate().step_by(17) {
        let image = if number % 2 == 0 { &moment.cut } else { &moment.torn[0] };
        let disk = MemoryStorage::from_image(image);
        let nested = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&nested);
        disk.on_operation(move |operation, disk| {
            let mut dice = Dice::new(operation.number);
            let mut taken = taken.lock().expect("one thread");
            taken.push(disk.power_cut());
            taken.push(disk.power_cut_with(|_| dice.below(2) == 0));
        });
        let (log, _) = open(&disk).unwrap_or_else(|error| panic!("after {}: {error}", moment.after));
        disk.forget_observer();
        let recovered = must_hold(moment, "recovery", content_of(&log));
        let done = disk.power_cut();
        drop(log);
        let nested = std::mem::take(&mut *nested.lock().expect("one thread"));
        for image in &nested {
            must_hold(moment, "power cut in the recovery", history.check(moment, image));
        }
        images += nested.len();
        let (log, _) = open(&MemoryStorage::from_image(&done)).expect("it was recovered before");
        assert_eq!(content_of(&log).expect("readable"), recovered, "after {}", moment.after);
    }
    assert!(images >= 300, "only {images} images");
}

#[test]
fn the_death_of_the_process_takes_no_acknowledged_batch_buffered_ones_included() {
    let history = history();
    for moment in history.moments.iter().step_by(7) {
        let all = history.promised(moment, |_| true);
        let checked = check(&moment.killed, history.facts(moment, &all));
        must_hold(moment, "kill", checked);
    }
    let buffered = history.ledger.acks.iter().filter(|ack| !is_durable(ack)).count();
    assert!(buffered >= 5, "only {buffered} buffered acknowledgements");
}

#[test]
fn with_syncs_switched_off_the_same_check_reports_a_lost_ack() {
    let disk = MemoryStorage::new();
    disk.set_syncs(false);
    let history = record(&disk);
    let violations: Vec<Violation> =
        history.moments.iter().filter_map(|moment| history.check(moment, &moment.cut).err()).collect();
    assert!(violations.len() >= 100, "only {} of {}", violations.len(), history.moments.len());
    assert!(violations.iter().all(|violation| violation.rule == Rule::LostAck), "{:?}", violations[0]);
}

/// A small generator of numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % bound
    }
}
