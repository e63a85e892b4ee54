//! Whole directories: what a recovery makes of anything that can stand in one.
//!
//! Invariant under test: opening answers with a log or with a corruption, never with anything else; a refusal changes
//! nothing; what is served is what stands in the files, batch by batch, and nothing that was never written; the end and
//! the producers are those of a plain fold over the batches; and they are the same after a second opening, after a
//! clean close, and after a power cut that takes all that was not synced.

mod files;
mod fold;
mod history;

use std::path::Path;
use std::sync::Arc;

use oncelog::producer::Entry;
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{Image, ManualClock, MemoryStorage};
use oncelog::{
    Background, BatchBuilder, BatchHeader, Durability, Environment, Error, Isolation, Log, LogConfig, Offset,
    Outcome, ProducerEpoch, ProducerId, RawBatch, RecoveryReport, Salvage, Sequence,
};

use self::fold::{Fold, Known, Standing};
use super::disk::sync_all;
use super::input::Input;

const ROOT: &str = "/logs";
const DIR: &str = "/logs/t-0";
/// Offsets above this leave no room for the appends of a target.
const NO_ROOM: i64 = i64::MAX - 1_000_000;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let scene = match input.below(2) {
        0 => history::read(&mut input),
        _ => files::read(&mut input),
    };
    sync_all(&scene.disk);
    let before = scene.disk.kill();
    match open(&scene.disk, Salvage::Refuse) {
        Ok((log, report)) => judge_opened(&scene, log, &report),
        Err(error) => {
            assert_is_refusal(&error);
            assert!(scene.damaged, "an undamaged directory is refused: {error}");
            assert_unchanged(&before, &scene.disk.kill());
            let again = open(&scene.disk, Salvage::Refuse).map(drop);
            assert_eq!(again.map_err(|error| error.to_string()), Err(error.to_string()));
        }
    }
    judge_salvaged(&before);
}

/// A directory and what is known of it.
struct Scene {
    disk: MemoryStorage,
    config: LogConfig,
    /// Whether the directory is other than a crash or a close of this library leaves it.
    damaged: bool,
    /// Whether anything but this library's own appends can stand in the `.log` files.
    foreign: bool,
    /// All batches ever appended, without what the leader stamps, if the log is ours.
    written: Vec<Vec<u8>>,
    /// What was acknowledged as durable: producer, first and last sequence, base offset.
    durable: Vec<(ProducerId, Sequence, u32, Offset)>,
}

fn config() -> LogConfig {
    LogConfig {
        background: Background::Caller,
        preallocate_bytes: 0,
        timestamp_after_max_ms: None,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

fn environment(disk: &MemoryStorage, salvage: Salvage) -> Environment {
    Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::new(1_000_000)),
        salvage,
        progress: None,
    }
}

fn open(disk: &MemoryStorage, salvage: Salvage) -> Result<(Log, RecoveryReport), Error> {
    Log::open_with(DIR, config(), environment(disk, salvage))
}

fn assert_is_refusal(error: &Error) {
    assert!(matches!(error, Error::Corrupt(_)), "not a corruption: {error:?}");
}

fn assert_unchanged(before: &Image, after: &Image) {
    assert_eq!(before.files(), after.files(), "a refusal made or removed a file");
    for path in before.files() {
        assert!(before.read(&path) == after.read(&path), "a refusal changed {}", path.display());
    }
}

fn judge_opened(scene: &Scene, log: Log, report: &RecoveryReport) {
    let found = Found::of(&log, &scene.disk.kill());
    found.assert_sound(scene, &log, report);
    let unsynced = MemoryStorage::from_image(&scene.disk.power_cut());
    drop(log);

    // What was published is on the medium.
    let _ = found.opens_again(&unsynced, "after a power cut");
    // A log that is dropped is one whose process died.
    let Some(log) = found.opens_again(&scene.disk, "after a kill") else { return };
    if let Err(error) = log.close() {
        // A damaged run that neither the runs before it nor the log can replace.
        assert_is_refusal(&error);
        assert!(!found.standing.is_sound(), "a sound log is not closed: {error}");
        let _ = found.opens_again(&scene.disk, "after a close that failed");
        return;
    }
    if let Some(log) = found.opens_again(&scene.disk, "after a close") {
        found.assert_goes_on(&log);
    }
}

/// With salvage a directory may still be refused (nobody else can finish a compaction); what is opened is sound.
fn judge_salvaged(before: &Image) {
    let disk = MemoryStorage::from_image(before);
    match open(&disk, Salvage::Cut) {
        Ok((log, report)) => {
            let found = Found::of(&log, &disk.kill());
            found.standing.assert_rises(report.replayed_batches);
            drop(log);
            let _ = found.opens_again(&disk, "after a salvage");
        }
        Err(error) => {
            assert_is_refusal(&error);
            assert_unchanged(before, &disk.kill());
        }
    }
}

/// What an open log says, and what stands in its files.
struct Found {
    start: Offset,
    end: Offset,
    standing: Standing,
    fold: Fold,
    entries: Vec<(ProducerId, Option<Entry>)>,
    served: Vec<BatchHeader>,
    /// Whether all that was asked for was served.
    whole: bool,
}

impl Found {
    fn of(log: &Log, image: &Image) -> Self {
        let standing = Standing::read(image);
        let fold = Fold::over(&standing);
        let known = fold.ids().chain((0..6).map(ProducerId));
        let mut ids: Vec<_> = known.collect();
        ids.sort_unstable();
        ids.dedup();
        let entries = ids.into_iter().map(|id| (id, known_of(log, id))).collect();
        let (served, whole) = serve(log);
        assert!(fold::rises(served.iter()), "batches are served whose offsets do not rise");
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        Self { start, end, standing, fold, entries, served, whole }
    }

    fn assert_sound(&self, scene: &Scene, log: &Log, report: &RecoveryReport) {
        assert_eq!((report.log_start_offset, report.log_end_offset), (self.start, self.end));
        assert_eq!(log.high_watermark(), self.end, "all that recovery keeps is durable");
        if !self.standing.is_sound() {
            // Damage in what opening does not read. Readers meet it.
            assert!(scene.damaged, "an undamaged log does not parse");
            return;
        }
        if let Some(end) = self.standing.end() {
            assert_eq!(end, self.end, "the files end elsewhere");
        }
        let expected = self.standing.batches.iter().map(|batch| batch.header);
        let expected: Vec<_> = expected.filter(|header| header.next_offset() > self.start).collect();
        assert!(self.whole, "a sound log is not served");
        assert_eq!(self.served, expected);
        if !scene.foreign {
            for batch in &self.standing.batches {
                assert!(scene.written.contains(&batch.unstamped), "never written: {:?}", batch.header);
            }
        }
        if !scene.damaged {
            self.standing.assert_rises(u64::MAX);
            self.standing.assert_dense();
            for (id, first, length, offset) in &scene.durable {
                let kept = self.served.iter().any(|header| {
                    header.base_offset == *offset
                        && header.producer().map(|(id, _)| id) == Some(*id)
                        && header.sequences().map(|(first, _)| first) == Some(*first)
                        && header.record_count.unsigned_abs() == *length
                });
                assert!(kept, "{id:?} lost durable sequence {first}");
            }
        }
        let plain = report.snapshot.is_none() && (report.chain.is_none() || !scene.damaged);
        // A log that ended below its start was begun anew: its batches are gone, what they said of producers is not.
        let begun_anew = report.deleted.iter().any(|name| name.ends_with(".log"));
        if !begun_anew && (plain && report.kind != RecoveryKind::Clean || !scene.damaged) {
            for (id, entry) in &self.entries {
                let found = entry.as_ref().map(Known::of);
                assert_eq!(found, self.fold.get(*id), "{id:?}, {report}");
            }
        }
    }

    /// Opens the directory once more and compares. Only damage that the first opening did not read can be refused.
    fn opens_again(&self, disk: &MemoryStorage, when: &str) -> Option<Log> {
        let opened = open(disk, Salvage::Refuse);
        let (log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert_is_refusal(&error);
                assert!(!self.standing.is_sound(), "{when}: {error}");
                return None;
            }
        };
        let again = Self::of(&log, &disk.kill());
        assert_eq!((again.start, again.end), (self.start, self.end), "{when}: {report}");
        assert_eq!(again.served, self.served, "{when}");
        // The second opening may delete what lies below the log start, but no producer with it.
        for (id, entry) in again.entries.iter().chain(&self.entries) {
            let found = known_of(&log, *id).as_ref().map(Known::of);
            assert_eq!(found, entry.as_ref().map(Known::of), "{id:?} {when}: {report}");
        }
        Some(log)
    }

    /// A retry of each newest batch is a duplicate, and a new producer can begin.
    fn assert_goes_on(&self, log: &Log) {
        for (id, entry) in self.entries.iter().filter_map(|(id, entry)| Some((*id, entry.as_ref()?))) {
            let Some(newest) = entry.newest().filter(|newest| !newest.aborted && newest.length() < 50) else {
                continue;
            };
            let retry = batch(id, entry.epoch, newest.first_sequence, newest.length());
            let answer = log.append(RawBatch(retry), Durability::Durable);
            let same = answer.as_ref().is_ok_and(|answer| {
                answer.outcome == Outcome::Duplicate && answer.base_offset == Some(newest.first_offset)
            });
            assert!(same, "a retry of {newest:?} is answered {answer:?}");
        }
        if self.end.0 > NO_ROOM {
            return;
        }
        let fresh = ProducerId(1 << 40);
        if self.entries.iter().any(|(id, entry)| *id == fresh && entry.is_some()) {
            return;
        }
        let answer =
            log.append(RawBatch(batch(fresh, ProducerEpoch(0), Sequence::ZERO, 2)), Durability::Durable);
        assert!(
            answer.as_ref().is_ok_and(|answer| answer.base_offset == Some(self.end)),
            "a new producer at {} is answered {answer:?}",
            self.end
        );
    }
}

/// What the log knows of a producer, once a damaged run that would say it was made anew, if it can be.
fn known_of(log: &Log, id: ProducerId) -> Option<Entry> {
    if let Ok(entry) = log.producer(id) {
        return entry;
    }
    match log.checkpoint() {
        Ok(()) => {
            let entry = log.producer(id);
            let Ok(entry) = entry else { unreachable!("{id:?}: {entry:?}") };
            entry
        }
        Err(error) => {
            assert_is_refusal(&error);
            None
        }
    }
}

/// Everything from the log start on, and whether the end was reached.
fn serve(log: &Log) -> (Vec<BatchHeader>, bool) {
    let mut served: Vec<BatchHeader> = Vec::new();
    let mut next = log.log_start_offset();
    while next < log.log_end_offset() {
        let fetched = log.fetch(next, 300, Isolation::HighWatermark).and_then(|fetched| {
            let batches: Result<Vec<_>, _> = fetched.batches()?.collect();
            batches
        });
        let batches = match fetched {
            Ok(batches) => batches,
            Err(error) => {
                assert_is_refusal(&error);
                return (served, false);
            }
        };
        let Some(last) = batches.last() else { return (served, true) };
        assert!(last.header.next_offset() > next, "a fetch at {next} does not lead on");
        next = last.header.next_offset();
        for batch in &batches {
            let read = super::naive::batch(&batch.bytes);
            assert_eq!(read, Some(batch.header), "a batch is served that does not hold");
        }
        served.extend(batches.iter().map(|batch| batch.header));
    }
    (served, true)
}

fn batch(id: ProducerId, epoch: ProducerEpoch, sequence: Sequence, records: u32) -> bytes::Bytes {
    let builder = BatchBuilder::new().producer(id, epoch, sequence);
    let built =
        (0..records).fold(builder, |builder, n| builder.record_at(i64::from(n), None, Some(b"v"))).build();
    let Ok(built) = built else { unreachable!("{built:?}") };
    built
}

fn in_dir(name: &str) -> std::path::PathBuf {
    Path::new(DIR).join(name)
}
