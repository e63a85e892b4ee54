//! What happens to the directory between a kill and the next open.
//!
//! Invariant: whatever is done, the engine has promised to open the directory with all that it acknowledged, but for
//! buffered batches after a power cut and for what another program cut off. A chain of runs, or the whole log, always
//! remains.

use std::path::Path;

use anyhow::{Context, Result};
use oncelog::format::names::{self, FileName};
use oncelog::storage::{OpenMode, Storage, read_all};
use oncelog::types::{LeaderEpoch, Offset};

use super::batch::Spec;
use super::foreign;
use super::inspect::Inspected;
use super::ledger::Ledger;
use super::medium::Medium;

/// A way to make the next open harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tamper {
    /// The newest run is damaged, cut or gone.
    DamageNewestRun,
    /// Segments below the end of the base are gone, as retention removes them.
    RemovePrefix,
    /// The log ends in the middle of a batch.
    TearTail,
    /// Bytes that no sync covered are gone.
    CutPower,
    /// Another program cut the log and appended to it.
    AnotherProgram,
    /// Index files hold anything.
    ScrambleIndexes,
}

impl Tamper {
    pub(super) const ALL: [Self; 6] = [
        Self::DamageNewestRun,
        Self::RemovePrefix,
        Self::TearTail,
        Self::CutPower,
        Self::AnotherProgram,
        Self::ScrambleIndexes,
    ];

    /// For tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DamageNewestRun => "newest run damaged",
            Self::RemovePrefix => "prefix of the log removed",
            Self::TearTail => "tail torn",
            Self::CutPower => "unsynced bytes lost",
            Self::AnotherProgram => "another program wrote",
            Self::ScrambleIndexes => "indexes scrambled",
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// This run is lost.
    RunDamaged(u64),
    /// The log begins here now.
    PrefixRemoved(i64),
    TailTorn,
    /// So many bytes were lost.
    PowerCut(u64),
    /// The log was cut at this offset and goes on otherwise.
    AnotherProgram(i64),
    IndexesScrambled,
}

/// The directory, and what is known of it.
pub(super) struct Place<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) dir: &'a Path,
    pub(super) ledger: &'a mut Ledger,
    pub(super) medium: &'a mut Medium,
    pub(super) random: &'a mut fastrand::Rng,
}

impl Place<'_> {
    /// Does it, if the directory is such that it can be done.
    pub(super) fn apply(&mut self, tamper: Tamper) -> Result<Option<Done>> {
        match tamper {
            Tamper::DamageNewestRun => self.damage_newest_run(),
            Tamper::RemovePrefix => self.remove_prefix(),
            Tamper::TearTail => self.tear_tail(),
            Tamper::CutPower => {
                let lost = self.medium.cut_power(self.storage, self.dir, "", self.random)?;
                Ok((lost > 0).then_some(Done::PowerCut(lost)))
            }
            Tamper::AnotherProgram => {
                let cut = foreign::write(self.storage, self.dir, self.ledger, self.medium, self.random)?;
                Ok(cut.map(Done::AnotherProgram))
            }
            Tamper::ScrambleIndexes => self.scramble_indexes(),
        }
    }

    fn damage_newest_run(&mut self) -> Result<Option<Done>> {
        let inspected = Inspected::read(self.storage, self.dir)?;
        let Some(newest) = inspected.chain.last() else { return Ok(None) };
        if !inspected.survives_without(newest.number) {
            return Ok(None);
        }
        let path = self.dir.join(names::run_name(newest.number));
        let what = || format!("damage {}", path.display());
        match self.random.u8(..10) {
            0 => self.storage.unlink(&path).with_context(what)?,
            1 => {
                let file = self.storage.open(&path, OpenMode::Write).with_context(what)?;
                file.set_len(self.random.u64(..file.len()?)).with_context(what)?;
            }
            _ => {
                // The header is one block: every bit of it counts.
                let place = self.random.u64(..4096);
                self.flip(&path, place)?;
            }
        }
        Ok(Some(Done::RunDamaged(newest.number)))
    }

    fn flip(&mut self, path: &Path, place: u64) -> Result<()> {
        let what = || format!("damage {}", path.display());
        let file = self.storage.open(path, OpenMode::Write).with_context(what)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).with_context(what)?;
        let flipped = byte.map(|byte| byte ^ (1 << self.random.u8(..8)));
        file.write_all_at(&flipped, place).with_context(what)
    }

    /// Oldest first, never the last, and only what lies wholly below the end of the present base.
    fn remove_prefix(&mut self) -> Result<Option<Done>> {
        let inspected = Inspected::read(self.storage, self.dir)?;
        let Some(base) = inspected.chain.first() else { return Ok(None) };
        let ends = inspected.segments.iter().skip(1).map(|(base, _)| *base);
        // The batch at the base's end stays, because it binds the base to the log. What was not yet read back and
        // compared stays too, or nobody would ever know whether it was right.
        let limit = base.end.offset.0.min(self.ledger.end);
        let below = inspected.segments.iter().zip(ends).take_while(|(_, end)| *end < limit);
        let below: Vec<(i64, i64)> = below.map(|((base, _), end)| (*base, end)).collect();
        if below.is_empty() {
            return Ok(None);
        }
        let count = self.random.usize(1..=below.len());
        let mut start = 0;
        for (base, end) in below.into_iter().take(count) {
            let of_a_segment = [
                names::log_name,
                names::index_name,
                names::time_index_name,
                names::txn_index_name,
                names::snapshot_name,
            ];
            for name in of_a_segment {
                let name = name(Offset(base));
                match self.storage.unlink(&self.dir.join(&name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                    _ => self.medium.remove(&name),
                }
            }
            start = end;
        }
        self.ledger.remove_prefix(start);
        Ok(Some(Done::PrefixRemoved(start)))
    }

    /// As a process leaves it that is killed inside of a write.
    fn tear_tail(&mut self) -> Result<Option<Done>> {
        let inspected = Inspected::read(self.storage, self.dir)?;
        let Some((base, len)) = inspected.segments.last() else { return Ok(None) };
        let path = self.dir.join(names::log_name(Offset(*base)));
        let Some(bytes) = read_all(self.storage, &path, u64::MAX)? else { return Ok(None) };
        let batches = foreign::walk(&bytes);
        let (next, end) = batches
            .last()
            .map_or((Offset(*base), 0), |(at, header)| (header.next_offset(), at + header.size() as u64));
        if end != *len {
            return Ok(None);
        }
        let spec = Spec { producer: self.random.i64(0..1000), count: 3, ..Spec::default() };
        let batch = spec.stamped(self.ledger.seed, next, LeaderEpoch(0))?;
        let torn = batch.get(..self.random.usize(1..batch.len())).unwrap_or_default();
        let file = self.storage.open(&path, OpenMode::Write)?;
        file.write_all_at(torn, end).with_context(|| format!("append to {}", path.display()))?;
        Ok(Some(Done::TailTorn))
    }

    fn scramble_indexes(&mut self) -> Result<Option<Done>> {
        let mut done = None;
        for entry in self.storage.list(self.dir)? {
            // Of aborted transactions the log has no second list below a checkpoint.
            let is_index =
                matches!(FileName::parse(&entry.name), FileName::Index(_) | FileName::TimeIndex(_))
                    && entry.len > 0;
            if is_index && self.random.bool() {
                let path = self.dir.join(&entry.name);
                for _ in 0..self.random.u8(1..=4) {
                    let place = self.random.u64(..entry.len);
                    self.flip(&path, place)?;
                }
                done = Some(Done::IndexesScrambled);
            }
        }
        Ok(done)
    }
}
