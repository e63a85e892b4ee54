//! `oncelog bench`: the log beside the raw limit of the same work, in the same run.
//!
//! Invariant: batches are made outside of the timed region; limit and engine handle the same number of bytes in fresh,
//! equally allocated files, in turn; what is reported is the median over the rounds with its range. Figures of a shared
//! machine mean little by themselves, ratios within a run do.

mod command;
mod settings;

mod cases;
mod rounds;

mod batches;
mod engine;
mod heap;
mod idle;
mod raw;
mod scratch;
mod threads;

mod emit;
mod report;

pub(crate) use command::{Args, run};
