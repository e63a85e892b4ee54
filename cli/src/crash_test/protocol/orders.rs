//! What the parent's longer orders hold: how to open, what to submit, how to work.
//!
//! Invariant: a child knows nothing but what stands here; it has no book of its own.

use oncelog::testing::Point;
use serde::{Deserialize, Serialize};

use super::super::batch::Spec;
use super::super::partitions::{Crew, RootSettings};
use super::Deletions;

/// How to open the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Start {
    pub(in super::super) dir: std::path::PathBuf,
    pub(in super::super) seed: u64,
    pub(in super::super) segment_bytes: u32,
    pub(in super::super) checkpoint_bytes: u64,
    pub(in super::super) checkpoint_producers: usize,
    pub(in super::super) whole_base_producers: u64,
    /// Whether producers that nothing is known of may start anywhere.
    pub(in super::super) accept_unknown: bool,
    /// `None`: everything is kept and no transaction begun.
    pub(in super::super) deletions: Option<Deletions>,
    /// Open the root that the log is in; `None`: the log alone.
    pub(in super::super) root: Option<RootSettings>,
    /// Name of the rule to switch off.
    pub(in super::super) broken: Option<String>,
    /// Die here while opening.
    pub(in super::super) armed: Option<Armed>,
}

/// A point and the crossing at which the child dies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Armed {
    pub(in super::super) point: String,
    pub(in super::super) crossing: u32,
}

impl Armed {
    pub(in super::super) fn at(point: Point, crossing: u32) -> Self {
        Self { point: point.name().to_owned(), crossing }
    }
}

/// One batch to submit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct Probe {
    pub(in super::super) id: u32,
    pub(in super::super) spec: Spec,
    pub(in super::super) durable: bool,
}

/// How to append.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Work {
    /// Seed of the choices of this session.
    pub(in super::super) seed: u64,
    /// Number of the first intent.
    pub(in super::super) first_id: u32,
    /// One thread each; `true`: it waits for every answer.
    pub(in super::super) lanes: Vec<bool>,
    /// Dealt out to the lanes in turn.
    pub(in super::super) producers: Vec<Producer>,
    /// Percentage of batches that ask for `Durable`.
    pub(in super::super) durable_percent: u8,
    /// Percentage of submits that are not new batches (retries, gaps, old epochs).
    pub(in super::super) odd_percent: u8,
    /// Percentage of those that send a batch again that is still in flight.
    pub(in super::super) repeat_percent: u8,
    pub(in super::super) failures: Option<Failures>,
    pub(in super::super) armed: Option<Armed>,
    /// Delete records meanwhile, but none at or above this offset.
    pub(in super::super) delete_below: Option<i64>,
    /// What to do to the other partitions meanwhile.
    pub(in super::super) crew: Option<Crew>,
}

/// A producer, as the parent knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) struct Producer {
    pub(in super::super) id: i64,
    pub(in super::super) epoch: i16,
    pub(in super::super) next: i32,
    /// Its last batches, newest last, all answered, and whether their transaction was aborted.
    pub(in super::super) recent: Vec<(Spec, bool)>,
    /// How many of them are of its open transaction, and the coordinator's epoch for the next marker; `None` if all its
    /// batches are outside of transactions.
    pub(in super::super) txn: Option<(usize, i32)>,
}

/// Which writes the storage makes fail with "no space", after a part of the bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in super::super) struct Failures {
    /// One of so many writes to `.log` files.
    pub(in super::super) log_every: Option<u32>,
    /// One of so many writes to producer runs.
    pub(in super::super) run_every: Option<u32>,
}
