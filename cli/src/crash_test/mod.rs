//! `oncelog crash-test`: kill a log again and again, and check every promise after each kill.
//!
//! Invariant: parent and child share no memory and trust each other with nothing. The child runs the engine and is killed;
//! the parent keeps the book and judges; both know only from the seed what a batch holds.
//!
//! In reading order: what is sent (`batch`), how they talk (`protocol`), the child (`child`, `workload`, `upkeep`, `watched`), the
//! parent's book (`ledger`, `settle`, `judge`, `probes`), the partitions beside the log (`partitions`), the directory in between (`inspect`, `medium`, `tamper`,
//! `foreign`), when what happens (`schedule`, `points`, `shares`, `breaks`), the loop (`session`, `cycle`, `opening`,
//! `checks`, `decided`, `maintenance`, `run`), the end (`report`).

mod args;
mod batch;
mod protocol;

mod child;
mod emitter;
mod upkeep;
mod watched;
mod workload;

mod judge;
mod ledger;
mod probes;
mod settle;

mod partitions;

mod foreign;
mod inspect;
mod medium;
mod tamper;

mod breaks;
mod points;
mod schedule;
mod shares;

mod checks;
mod cycle;
mod decided;
mod maintenance;
mod opening;
mod run;
mod session;
mod transcript;

mod report;

pub(crate) use args::Args;
pub(crate) use child::run as run_child;
pub(crate) use run::run;
