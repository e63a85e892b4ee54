//! `checkpoint`: how long appends take while checkpoints are made in the background, beside the same appends without.
//!
//! The log knows many producers; a set of them, which looks random, writes round robin. With checkpoints, each one ends
//! the set: the next set writes while the run of the last one is made. Without, sets end after as many appends.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use oncelog::{Durability, Log, LogConfig, RawBatch};

use super::{Bench, Case, batch, record, rounds};
use crate::bench::batches::Producers;
use crate::bench::engine;
use crate::bench::idle::{self, Idle};
use crate::bench::report::{Row, Target};
use crate::bench::rounds::{Sample, quantile};
use crate::bench::settings::Setting;

pub(super) const CASE: Case = Case {
    name: "checkpoint",
    what: "one thread appends, Buffered, while checkpoints are made; limit: the same without checkpoints",
    settings: &[
        Setting::new("producers", "producers in the base", 1_000_000, 1000..=10_000_000),
        Setting::new(
            "changed",
            "producers that change from one checkpoint to the next",
            10_000,
            1..=1_000_000,
        ),
        Setting::new("checkpoints", "checkpoints in a round", 10, 1..=1000),
        batch(1 << 10),
        record(1 << 10),
        rounds(6),
    ],
    run,
};

/// Large, so that a roll, which makes a checkpoint of its own, comes seldom.
const SEGMENT: u32 = 0x7fff_ffff;
/// The least part of the samples that must lie inside a checkpoint, else the case says nothing.
const LEAST_INSIDE: f64 = 0.1;

struct Load {
    log: Log,
    idle: Idle,
    /// Sets that have written.
    sets: u64,
    changed: u64,
    /// Appends of a set.
    appends: u64,
    /// Bytes in the active segment.
    segment: u64,
    origin: Instant,
}

/// One append: when it began and how long it took, in nanoseconds.
#[derive(Clone, Copy)]
struct Append {
    at: u64,
    took: u64,
}

/// What a round found.
struct Round {
    p999: f64,
    max: f64,
    /// Of the appends that overlap a checkpoint.
    inside_p999: f64,
    inside: f64,
    /// Mean duration of a checkpoint, in milliseconds.
    checkpoint: f64,
}

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let (known, changed) = (bench.settings.count("producers"), bench.settings.value("changed"));
    ensure!(changed <= known as u64, "changed={changed}: accepted is 1 to producers={known}");
    let scratch = bench.scratch()?;
    bench.progress.set_message("making a log with producers");
    idle::build(&scratch.log_dir(), Producers { first: 1, count: known }, known as u64)?;
    // Checkpoints are made when this case asks for them only.
    let config = LogConfig {
        segment_bytes: SEGMENT,
        checkpoint_bytes: u64::MAX,
        checkpoint_producers: usize::MAX,
        ..engine::config()
    };
    let mut load = Load {
        log: engine::open(&scratch.log_dir(), config)?,
        idle: Idle::new(bench.shape(), known)?,
        sets: 0,
        changed,
        appends: 2 * changed,
        segment: known as u64 * idle::FIRST.batch as u64,
        origin: Instant::now(),
    };
    let checkpoints = bench.settings.value("checkpoints");
    let mut without = |load: &mut Load| load.without(checkpoints);
    let mut with = |load: &mut Load| load.with(checkpoints);
    let figures = bench.interleaved(&mut load, &mut [&mut without, &mut with])?;
    drop(load);
    scratch.remove()?;
    let of = |contender: usize, figure: fn(&Round) -> f64| {
        Sample::new(figures.get(contender).into_iter().flatten().map(figure).collect())
    };
    let inside = of(1, |round| round.inside);
    ensure!(
        inside.median() >= LEAST_INSIDE,
        "{:.1} % of the appends lay inside a checkpoint; that says nothing: choose more changed producers",
        inside.median() * 100.0
    );
    let without = |figure| ("no checkpoints", of(0, figure));
    let p999: fn(&Round) -> f64 = |round| round.p999;
    let max: fn(&Round) -> f64 = |round| round.max;
    Ok(vec![
        Row::ratio("p999", "us", without(p999), of(1, p999)).must_be(Target::AtMost(2.0)),
        Row::ratio("p999", "us", without(p999), of(1, |round| round.inside_p999)).of("inside one"),
        Row::ratio("max", "us", without(max), of(1, max)),
        Row::alone("inside", "of the samples", inside),
        Row::alone("checkpoint", "ms", of(1, |round| round.checkpoint)),
    ])
}

impl Load {
    fn without(&mut self, sets: u64) -> Result<Round> {
        self.make_room(sets)?;
        let mut appends = Vec::new();
        for _ in 0..sets {
            for place in 0..self.appends {
                appends.push(self.append(place)?);
            }
            self.sets += 1;
        }
        // What this phase changed is not the next one's to write.
        self.log.checkpoint()?;
        Ok(Round::new(&appends, &[]))
    }

    fn with(&mut self, checkpoints: u64) -> Result<Round> {
        self.make_room(checkpoints)?;
        let (set, in_set, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let (first_set, changed, origin) = (self.sets, self.changed, self.origin);
        let mut appends = Vec::with_capacity(1 << 20);
        let (mut now, mut place) = (0, 0);
        let this = &mut *self;
        let (log, idle) = (&this.log, &mut this.idle);
        let spans = std::thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let spans = make_checkpoints(log, checkpoints, changed, &set, &in_set, origin);
                stop.store(true, Ordering::Release);
                spans
            });
            let outcome = append_until(&stop, || {
                let wanted = set.load(Ordering::Acquire);
                if wanted != now {
                    (now, place) = (wanted, 0);
                }
                let batch = idle.batch((first_set + now) * changed + place % changed)?;
                appends.push(timed(log, batch, origin)?);
                place += 1;
                in_set.store(place, Ordering::Release);
                Ok(())
            });
            // After an error, nobody may wait for appends that do not come.
            in_set.fetch_max(u64::MAX, Ordering::AcqRel);
            outcome?;
            maker.join().map_err(|_| anyhow!("the thread that makes checkpoints panicked"))?
        })?;
        self.sets += checkpoints + 1;
        self.segment += appends.len() as u64 * self.batch_bytes();
        self.appends = (appends.len() as u64 / checkpoints).max(self.changed);
        Ok(Round::new(&appends, &spans))
    }

    fn append(&mut self, place: u64) -> Result<Append> {
        let batch = self.idle.batch(self.sets * self.changed + place % self.changed)?;
        self.segment += batch.len() as u64;
        timed(&self.log, batch, self.origin)
    }

    /// Rolls now, if a roll would fall into a phase of this many sets.
    fn make_room(&mut self, sets: u64) -> Result<()> {
        let wanted = 2 * sets * self.appends * self.batch_bytes();
        if self.segment + wanted < u64::from(SEGMENT) {
            return Ok(());
        }
        while self.segment + self.batch_bytes() <= u64::from(SEGMENT) {
            self.append(0)?;
        }
        self.append(0)?;
        self.segment = self.batch_bytes();
        Ok(self.log.checkpoint()?)
    }

    fn batch_bytes(&self) -> u64 {
        self.idle.anonymous().len() as u64
    }
}

fn append_until(stop: &AtomicBool, mut append: impl FnMut() -> Result<()>) -> Result<()> {
    while !stop.load(Ordering::Acquire) {
        append()?;
    }
    Ok(())
}

/// Makes checkpoints, each when the producers of the present set have written, and notes from when to when.
fn make_checkpoints(
    log: &Log,
    checkpoints: u64,
    changed: u64,
    set: &AtomicU64,
    in_set: &AtomicU64,
    origin: Instant,
) -> Result<Vec<Range<u64>>> {
    let mut spans = Vec::new();
    for number in 1..=checkpoints {
        // The first look may see the count of the set before; the next one does not.
        std::thread::sleep(Duration::from_micros(100));
        while in_set.load(Ordering::Acquire) < changed {
            std::thread::sleep(Duration::from_micros(100));
        }
        set.store(number, Ordering::Release);
        let from = nanos(origin.elapsed())?;
        log.checkpoint().context("a checkpoint")?;
        spans.push(from..nanos(origin.elapsed())?);
    }
    Ok(spans)
}

fn timed(log: &Log, batch: bytes::Bytes, origin: Instant) -> Result<Append> {
    let from = Instant::now();
    log.append(RawBatch(batch), Durability::Buffered)?;
    Ok(Append { at: nanos(from - origin)?, took: nanos(from.elapsed())? })
}

fn nanos(time: Duration) -> Result<u64> {
    Ok(u64::try_from(time.as_nanos())?)
}

impl Round {
    fn new(appends: &[Append], checkpoints: &[Range<u64>]) -> Self {
        let is_inside = |append: &Append| {
            // The first span that ends behind the beginning of the append.
            let at = checkpoints.partition_point(|span| span.end <= append.at);
            checkpoints.get(at).is_some_and(|span| span.start < append.at + append.took)
        };
        let sorted = |appends: &mut dyn Iterator<Item = &Append>| {
            let mut times: Vec<u64> = appends.map(|append| append.took).collect();
            times.sort_unstable();
            times
        };
        let all = sorted(&mut appends.iter());
        let inside = sorted(&mut appends.iter().filter(|append| is_inside(append)));
        let micros = |times: &[u64], part| quantile(times, part) as f64 / 1e3;
        let durations: u64 = checkpoints.iter().map(|span| span.end - span.start).sum();
        Self {
            p999: micros(&all, 999),
            max: micros(&all, 1000),
            inside_p999: micros(&inside, 999),
            inside: inside.len() as f64 / all.len().max(1) as f64,
            checkpoint: durations as f64 / 1e6 / checkpoints.len().max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_that_overlaps_a_checkpoint_lies_inside_it() {
        let append = |at, took| Append { at, took };
        let appends =
            [append(0, 9), append(5, 20), append(12, 3), append(30, 5), append(48, 4), append(60, 1)];
        let round = Round::new(&appends, &[10..20, 50..60]);
        assert_eq!(round.inside, 3.0 / 6.0);
        assert_eq!((round.max, round.inside_p999), (0.02, 0.02));
        assert_eq!(round.checkpoint, 1e-5);
    }
}
