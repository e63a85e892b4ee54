//! When and where the next child dies, how it works until then, and what is done to the directory afterwards.
//!
//! Invariant: every choice comes from the seed and from what has happened so far; kinds of kills and damage that are
//! behind their share come first, so that no run of some hundred kills leaves one out.

use std::collections::BTreeMap;
use std::time::Duration;

use oncelog::testing::Point;

use super::args::{DurabilityMix, Profile};
use super::breaks::Focus;
use super::maintenance::care_of;
use super::partitions::{Favour, RootSettings};
use super::points::{favour_of, is_of_merge, is_of_recovery, is_of_root, is_of_state, planned_points};
use super::protocol::{Deletions, Failures};
use super::shares;
use super::tamper::Tamper;

/// Of a hundred kills, so many at armed points.
const ARMED_PERCENT: u8 = 45;
/// The same in the full profile, which has more points.
const FULL_ARMED_PERCENT: u8 = 65;
/// Of a hundred sessions, so many end with a clean close.
const CLOSE_PERCENT: u8 = 5;
/// Of a hundred timed kills, so many while the answers after an open are checked.
const EARLY_PERCENT: u8 = 12;
/// The longest that a child works before a timed kill.
const LONGEST: Duration = Duration::from_millis(30);

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Killed by the parent so long after the first new batch.
    Timer(Duration),
    /// Killed by the parent so long after the open, wherever the child is then.
    Early(Duration),
    /// Kills itself here while it opens the log.
    OpeningPoint(Point, u32),
    /// Kills itself here while it appends.
    WorkingPoint(Point, u32),
    /// Kills itself here while it truncates or deletes.
    UpkeepPoint(Point),
    /// Kills itself here while it closes the root after so long.
    ClosingPoint(Point, Duration),
    /// Closes the log after so long.
    Close(Duration),
}

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) ending: Ending,
    pub(super) segment_bytes: u32,
    pub(super) checkpoint_bytes: u64,
    pub(super) checkpoint_producers: usize,
    pub(super) whole_base_producers: u64,
    /// Producers that nothing is known of may start anywhere; some begin near the wrap of sequences.
    pub(super) lenient: bool,
    pub(super) durable_percent: u8,
    pub(super) odd_percent: u8,
    pub(super) repeat_percent: u8,
    /// One thread each; `true`: it waits for every answer.
    pub(super) lanes: Vec<bool>,
    /// Of a hundred producers, so many append in this session.
    pub(super) active_percent: u8,
    pub(super) failures: Option<Failures>,
    pub(super) seed: u64,
    /// What the full profile does beside.
    pub(super) full: Option<Full>,
}

/// What a session of the full profile does beside; a third of its producers have transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) deletions: Deletions,
    /// Once all is checked, and before appends go on.
    pub(super) care: Option<Care>,
    /// Delete records while others append.
    pub(super) delete_meanwhile: bool,
    /// How the root that the log is in is opened; `None`: the log is opened alone.
    pub(super) root: Option<RootSettings>,
    /// What is done often to the root.
    pub(super) favour: Option<Favour>,
}

/// Work on a log that nobody appends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    Truncate,
    BeginAnew,
    Delete,
    Retain,
}

/// Draws sessions and tamperings.
#[derive(Debug)]
pub(super) struct Schedule {
    random: fastrand::Rng,
    focus: Focus,
    mix: DurabilityMix,
    profile: Profile,
    /// How often each point was planned, and how often it was hit.
    points: BTreeMap<&'static str, (u64, u64)>,
    tampered: BTreeMap<Tamper, u64>,
    turns: u64,
}

impl Schedule {
    pub(super) fn new(seed: u64, focus: Focus, mix: DurabilityMix, profile: Profile) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            focus,
            mix,
            profile,
            points: planned_points(profile).map(|point| (point.name(), (0, 0))).collect(),
            tampered: BTreeMap::new(),
            turns: 0,
        }
    }

    /// The next session. After a clean close nothing is recovered, so no point of a recovery is armed.
    pub(super) fn next_session(&mut self, after_close: bool) -> Session {
        let ending = self.ending(after_close);
        let full = self.full(ending);
        let random = &mut self.random;
        // A close that finds no space is no clean close, and a point behind a write is not reached without it.
        let may_fail = !matches!(
            ending,
            Ending::Close(_) | Ending::ClosingPoint(..) | Ending::WorkingPoint(..) | Ending::UpkeepPoint(_)
        );
        let failures =
            may_fail && random.u8(..100) < if self.focus == Focus::WriteFailures { 70 } else { 20 };
        // With writes that fail, a producer that may start anywhere could leave its first batch out.
        let lenient = !failures && random.u8(..100) < 6;
        let durable_percent = match self.mix {
            DurabilityMix::Durable => 100,
            DurabilityMix::Buffered => 0,
            DurabilityMix::Mixed => [0, 10, 30, 100][random.usize(..4)],
        };
        let eager = self.focus == Focus::PowerLoss;
        let merging = matches!(ending, Ending::WorkingPoint(point, _) if is_of_merge(point));
        Session {
            ending,
            segment_bytes: [16, 24, 32, 64][random.usize(..4)] << 10,
            checkpoint_bytes: if merging { 8 } else { [16, 32, 64][random.usize(..3)] } << 10,
            checkpoint_producers: [50, 100_000][random.usize(..2)],
            // Where every checkpoint is a whole base, there is nothing to merge.
            whole_base_producers: if merging { 0 } else { [16, 16, 16, 65_536][random.usize(..4)] },
            lenient,
            durable_percent,
            odd_percent: if eager { 40 } else { 12 },
            repeat_percent: if failures {
                0
            } else if eager {
                90
            } else {
                40
            },
            lanes: [vec![false], vec![false, false], vec![false, true, true], vec![true; 4]]
                [random.usize(..4)]
            .clone(),
            active_percent: [5, 20, 50, 100][random.usize(..4)],
            failures: failures.then(|| Failures {
                log_every: Some(random.u32(3..=30)),
                run_every: random.bool().then(|| random.u32(2..=6)),
            }),
            seed: random.u64(..),
            full,
        }
    }

    fn full(&mut self, ending: Ending) -> Option<Full> {
        if self.profile == Profile::Core {
            return None;
        }
        let random = &mut self.random;
        let care = match (ending, self.focus) {
            (Ending::UpkeepPoint(point), _) => care_of(point)
                .map(|care| if care == Care::Delete && random.bool() { Care::Retain } else { care }),
            (_, Focus::Truncation) => Some(Care::Truncate),
            (_, Focus::Deletion) => Some(Care::Delete),
            _ => match random.u8(..100) {
                0..15 => Some(Care::Truncate),
                15..17 => Some(Care::BeginAnew),
                17..27 => Some(Care::Delete),
                27..35 => Some(Care::Retain),
                _ => None,
            },
        };
        let deletions = Deletions {
            // Little, where files have to go.
            keep_bytes: if matches!(ending, Ending::UpkeepPoint(_)) {
                16
            } else {
                [48, 128, 256][random.usize(..3)]
            } << 10,
            delay_ms: [0, 5, 60_000][random.usize(..3)],
        };
        let of_root = match ending {
            Ending::OpeningPoint(point, _)
            | Ending::WorkingPoint(point, _)
            | Ending::ClosingPoint(point, _) => is_of_root(point),
            _ => false,
        };
        let favour = match ending {
            Ending::WorkingPoint(point, _) => favour_of(point),
            _ => None,
        };
        let favour = favour.or_else(|| favour_of_focus(self.focus));
        let settings = RootSettings {
            descriptors: [32, 1000][random.usize(..2)],
            segment_bytes: [2, 4, 8][random.usize(..3)] << 10,
            checkpoint_bytes: [2, 8, 64][random.usize(..3)] << 10,
            delete_delay_ms: [0, 5, 60_000][random.usize(..3)],
            map_bytes: [1024, 1 << 20][random.usize(..2)],
            delete_retention_ms: [0, 20, 3_600_000][random.usize(..3)],
        };
        // A log that is cut while it is open alone leaves the root's files as they were.
        let cuts = matches!(care, Some(Care::Truncate | Care::BeginAnew));
        let alone = random.u8(..5) == 0 && !of_root && !cuts && favour.is_none();
        Some(Full {
            deletions,
            care,
            delete_meanwhile: random.u8(..4) == 0,
            root: (!alone).then_some(settings),
            favour,
        })
    }

    fn ending(&mut self, after_close: bool) -> Ending {
        self.turns += 1;
        let roll = self.random.u8(..100);
        let working = LONGEST.mul_f64(self.random.f64());
        if roll < if self.focus == Focus::Closing { 40 } else { CLOSE_PERCENT } {
            return Ending::Close(working);
        }
        let armed_percent = match self.profile {
            Profile::Core => ARMED_PERCENT,
            Profile::Full => FULL_ARMED_PERCENT,
        };
        if roll < CLOSE_PERCENT + armed_percent
            && let Some(point) = self.next_point(after_close)
        {
            self.points.entry(point.name()).or_default().0 += 1;
            if care_of(point).is_some() {
                return Ending::UpkeepPoint(point);
            }
            match point {
                Point::RootClosed => return Ending::ClosingPoint(point, working),
                // It comes with the first write, which may be a retry of what was lost.
                Point::RootUnmarked => return Ending::OpeningPoint(point, 1),
                _ => {}
            }
            let opening =
                is_of_recovery(point) || (is_of_state(point) && !after_close && self.random.u8(..4) == 0);
            return if opening {
                Ending::OpeningPoint(point, 1)
            } else {
                let often = if is_of_merge(point) || is_of_root(point) { 1 } else { 3 };
                Ending::WorkingPoint(point, self.random.u32(1..=often))
            };
        }
        if self.random.u8(..100) < EARLY_PERCENT {
            return Ending::Early(LONGEST.mul_f64(self.random.f64() / 3.0));
        }
        Ending::Timer(working)
    }

    /// One of an operation that is behind its share first; among those one that was never hit, then the one that was
    /// planned least.
    fn next_point(&mut self, after_close: bool) -> Option<Point> {
        let mut points: Vec<Point> = planned_points(self.profile).collect();
        match self.focus {
            Focus::Truncation => points.retain(|point| care_of(*point) == Some(Care::Truncate)),
            Focus::Compaction => points.retain(|point| shares::operation(point.name()) == "compaction"),
            Focus::Deletion => points.retain(|point| care_of(*point) == Some(Care::Delete)),
            _ => {}
        }
        points.retain(|point| !(after_close && is_of_recovery(*point)));
        points.retain(|point| after_close || *point != Point::RootUnmarked);
        self.random.shuffle(&mut points);
        let score = |point: &Point| {
            let (planned, hit) = self.points.get(point.name()).copied().unwrap_or_default();
            // A point that is hard to come by gets more tries, but never all of them.
            if hit == 0 { planned / 3 } else { planned }
        };
        points.into_iter().min_by_key(|point| (!self.is_behind(*point), score(point)))
    }

    /// Whether too few children died inside of the operation that has this point. Every second turn it is the turn of all,
    /// so that an operation that is hard to come by leaves room for the others.
    fn is_behind(&self, point: Point) -> bool {
        let operation = shares::operation(point.name());
        let of_it = self.points.iter().filter(|(name, _)| shares::operation(name) == operation);
        let hit = of_it.map(|(_, (_, hit))| hit).sum();
        self.turns.is_multiple_of(2) && shares::is_behind(self.profile, operation, hit, self.turns)
    }

    /// A child died at a point.
    pub(super) fn hit(&mut self, point: Point) {
        self.points.entry(point.name()).or_default().1 += 1;
    }

    /// What to try on the directory before the next open, in this order, until `most` have been done.
    pub(super) fn tamperings(&mut self, next: &Session, after_close: bool) -> Tampering {
        if after_close {
            return Tampering { wishes: Vec::new(), most: 0 };
        }
        let mut wishes: Vec<Tamper> = Tamper::ALL.to_vec();
        self.random.shuffle(&mut wishes);
        // Of transactions and of a moved log start another program's leavings say too little to judge what follows.
        wishes.retain(|tamper| self.profile == Profile::Core || *tamper != Tamper::AnotherProgram);
        wishes.retain(|tamper| {
            let done = self.tampered.get(tamper).copied().unwrap_or(0);
            done * 100 < self.turns * u64::from(share(*tamper, self.focus)) + 50
        });
        let must_cut = matches!(next.ending, Ending::OpeningPoint(Point::RecoveryCut, _));
        if must_cut {
            wishes.retain(|tamper| {
                !matches!(tamper, Tamper::TearTail | Tamper::AnotherProgram | Tamper::CutPower)
            });
            wishes.insert(0, Tamper::TearTail);
        }
        Tampering { wishes, most: if must_cut { 1 } else { 1 + usize::from(self.random.u8(..5) == 0) } }
    }

    /// It was done.
    pub(super) fn tampered(&mut self, tamper: Tamper) {
        *self.tampered.entry(tamper).or_default() += 1;
    }

    /// Points that were planned and never hit.
    pub(super) fn never_hit(&self) -> Vec<&'static str> {
        self.points.iter().filter(|(_, (_, hit))| *hit == 0).map(|(name, _)| *name).collect()
    }
}

/// What to do to the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tampering {
    pub(super) wishes: Vec<Tamper>,
    pub(super) most: usize,
}

/// Of a hundred sessions, so many are followed by this.
fn share(tamper: Tamper, focus: Focus) -> u8 {
    match (tamper, focus) {
        (Tamper::AnotherProgram, Focus::AnotherProgram) | (Tamper::CutPower, Focus::PowerLoss) => 70,
        (_, Focus::AnotherProgram | Focus::PowerLoss | Focus::Truncation | Focus::Deletion) => 3,
        (Tamper::DamageNewestRun | Tamper::RemovePrefix, _) => 16,
        (Tamper::CutPower, _) => 15,
        (Tamper::TearTail, _) => 8,
        (Tamper::AnotherProgram, _) => 5,
        (Tamper::ScrambleIndexes, _) => 6,
    }
}

fn favour_of_focus(focus: Focus) -> Option<Favour> {
    match focus {
        Focus::Often(favour) => Some(favour),
        Focus::Compaction => Some(Favour::Compact),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
