//! Many threads that append to one log, pass by pass.
//!
//! Invariant: all threads begin a pass together, with their batches ready; its time runs from the first that begins to
//! the last that ends, taken by the threads themselves, so that no waking of another thread is in it.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use oncelog::{Durability, Log, RawBatch};

use super::batches::{Pool, Producers, Shape};

/// How a thread waits for its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Up to this many batches are submitted and not answered; then it waits for the oldest.
    Submits(usize),
    /// Each append waits for its answer.
    Blocking,
}

/// What all the threads do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew {
    pub(super) style: Style,
    pub(super) durability: Durability,
}

/// One pool a thread; no producer is in two of them.
///
/// # Errors
///
/// No values make a batch of this size.
pub(super) fn pools(shape: Shape, producers: Producers, threads: usize) -> Result<Vec<Pool>> {
    let each = producers.count.div_ceil(threads);
    (0..threads)
        .map(|thread| Producers { first: producers.first + (thread * each) as u64, count: each })
        .map(|share| Pool::part(shape, share, threads))
        .collect()
}

/// Lets the crew append at least `total` bytes to the log, and answers how many it were and how long they took.
///
/// # Errors
///
/// The first append that fails.
pub(super) fn append(log: &Log, pools: &mut [Pool], crew: Crew, total: u64) -> Result<(u64, Duration)> {
    let mut each = total.div_ceil(pools.len().max(1) as u64);
    let (mut bytes, mut took) = (0, Duration::ZERO);
    for pool in pools.iter_mut() {
        pool.rewind()?;
    }
    while each > 0 {
        let passes = pass(log, pools, crew, each);
        let mut spans = Vec::new();
        let mut left = each;
        for outcome in passes {
            let done = outcome?;
            bytes += done.bytes;
            left = left.min(each.saturating_sub(done.bytes));
            spans.push((done.from, done.to));
        }
        let from = spans.iter().map(|span| span.0).min();
        let to = spans.iter().map(|span| span.1).max();
        took += from.zip(to).map_or(Duration::ZERO, |(from, to)| to - from);
        each = left;
    }
    Ok((bytes, took))
}

struct Pass {
    bytes: u64,
    from: Instant,
    to: Instant,
}

fn pass(log: &Log, pools: &mut [Pool], crew: Crew, each: u64) -> Vec<Result<Pass>> {
    let ready = Barrier::new(pools.len());
    let failed = AtomicBool::new(false);
    let work = |pool: &mut Pool| {
        let (batches, bytes) = pool.pass(each);
        ready.wait();
        let from = Instant::now();
        let outcome = append_pass(log, batches, crew, &failed);
        let to = Instant::now();
        failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome.and_then(|()| pool.restamp()).map(|()| Pass { bytes, from, to })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = pools.iter_mut().map(|pool| scope.spawn(|| work(pool))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the benchmark panicked")))
            })
            .collect()
    })
}

fn append_pass(log: &Log, batches: &[Bytes], crew: Crew, failed: &AtomicBool) -> Result<()> {
    let mut waiting = VecDeque::new();
    for batch in batches {
        match crew.style {
            Style::Blocking => {
                log.append(RawBatch(batch.clone()), crew.durability)?;
            }
            Style::Submits(most) => {
                if waiting.len() >= most
                    && let Some(oldest) = waiting.pop_front()
                {
                    oncelog::Completion::wait(oldest)?;
                }
                waiting.push_back(log.submit(RawBatch(batch.clone()), crew.durability)?);
            }
        }
        if failed.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
    for completion in waiting {
        completion.wait()?;
    }
    Ok(())
}
