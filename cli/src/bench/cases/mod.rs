//! The cases, in the order of the table.

mod append;
mod append_shared;
mod checkpoint;
mod compact;
mod dedup;
mod durable;
mod durable_shared;
mod fetch;
mod log_dir;
mod log_dir_open;
mod open;
mod recover;

use std::path::PathBuf;

use anyhow::Result;
use indicatif::ProgressBar;

use super::batches::{Producers, Shape};
use super::report::Row;
use super::rounds::{Contender, interleaved};
use super::scratch::Scratch;
use super::settings::{Setting, Settings};

/// One row of the table, or a few that belong together.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) settings: &'static [Setting],
    pub(super) run: fn(&Bench) -> Result<Vec<Row>>,
}

/// All cases.
pub(super) const CASES: &[Case] = &[
    append::CASE,
    append_shared::CASE,
    dedup::CASE,
    durable::CASE,
    durable_shared::CASE,
    recover::CASE,
    open::CASE,
    checkpoint::CASE,
    compact::CASE,
    fetch::CASE,
    log_dir::CASE,
    log_dir_open::CASE,
];

/// What a case is given.
pub(super) struct Bench {
    pub(super) settings: Settings,
    pub(super) dir: PathBuf,
    pub(super) progress: ProgressBar,
}

impl Bench {
    fn shape(&self) -> Shape {
        Shape { batch: self.settings.count("batch"), record: self.settings.count("record") }
    }

    fn producers(&self) -> Producers {
        Producers { first: 1, count: self.settings.count("producers") }
    }

    /// A directory for one round.
    fn scratch(&self) -> Result<Scratch> {
        Scratch::new(&self.dir)
    }

    /// Lets the contenders take turns.
    fn interleaved<S, F>(
        &self,
        state: &mut S,
        contenders: &mut [Contender<'_, S, F>],
    ) -> Result<Vec<Vec<F>>> {
        interleaved(&self.progress, self.settings.value("rounds"), state, contenders)
    }
}

const fn batch(default: u64) -> Setting {
    Setting::new("batch", "bytes of a batch", default, 128..=1 << 20)
}

const fn record(default: u64) -> Setting {
    Setting::new(
        "record",
        "bytes of a record; a batch holds batch / record of them, at least one",
        default,
        16..=1 << 20,
    )
}

const fn producers(default: u64) -> Setting {
    Setting::new(
        "producers",
        "producers that write, round robin; 0: batches without producer",
        default,
        0..=10_000_000,
    )
}

const fn total(default: u64) -> Setting {
    Setting::new("total", "bytes that each contender handles in a round", default, 1 << 20..=1 << 40)
}

const fn rounds(default: u64) -> Setting {
    Setting::new("rounds", "counted rounds, after one to warm up", default, 1..=1000)
}

/// MB/s (10^6 bytes) of `bytes` in a time.
fn throughput(bytes: u64, took: std::time::Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

fn millis(took: std::time::Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
