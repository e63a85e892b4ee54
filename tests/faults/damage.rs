//! Damaged and lost files: below what is known durable nothing is dropped without the caller's word, and no producer is
//! forgotten for want of a checkpoint.

use std::path::Path;
use std::sync::Arc;

use oncelog::format::manifest::Manifest;
use oncelog::format::names::{MANIFEST, WATERMARK};
use oncelog::recovery::RecoveryReport;
use oncelog::storage::{Image, MemoryStorage, OpenMode, Storage};
use oncelog::{
    Durability, Environment, Error, Isolation, Log, Offset, Outcome, ProducerId, Rejection, Salvage,
};

use super::stand::{Stand, all_files, file, flip, names, outcome, path, remove, unavailable};
use crate::common::check::{self, DIR, environment, small_config};
use crate::common::ledger::Issued;

const LOG: &str = "00000000000000000000.log";

/// A log of one segment with 21 durable batches, whose process was killed: the watermark slots are exact then. Returns
/// the disk and the length of a batch.
fn crashed() -> (MemoryStorage, u64) {
    let Stand { disk, log, .. } = Stand::with_history();
    let image = disk.kill();
    drop(log);
    let batch = Issued::new(1, 0, 0, 1).bytes.len() as u64;
    assert_eq!(image.read(&path(LOG)).unwrap().len() as u64, 21 * batch);
    (MemoryStorage::from_image(&image), batch)
}

fn salvage(disk: &MemoryStorage) -> Result<(Log, RecoveryReport), Error> {
    let environment = Environment { salvage: Salvage::Cut, ..environment(disk) };
    Log::open_with(Path::new(DIR), small_config(), environment)
}

#[test]
fn damage_below_the_watermark_is_refused_with_file_bytes_expected_and_found_and_nothing_is_changed() {
    let (disk, batch) = crashed();
    let last = 20 * batch;
    flip(&disk, LOG, last + 80);
    let before = all_files(&disk);
    let error = check::open(&disk).unwrap_err();
    let Error::Corrupt(corruption) = &error else { panic!("{error:?}") };
    assert_eq!(corruption.path, path(LOG));
    assert_eq!(corruption.bytes, last..21 * batch);
    assert_eq!(corruption.offsets, Some(Offset(20)..Offset(21)));
    assert!(corruption.what.starts_with("CRC"), "{corruption}");
    assert!(corruption.expected.starts_with("0x") && corruption.found.starts_with("0x"), "{corruption}");
    assert_ne!(corruption.expected, corruption.found);
    assert!(corruption.advice.contains("Salvage::Cut"), "{corruption}");
    let message = error.to_string();
    assert!(message.contains(LOG) && message.contains("are damaged"), "{message}");
    assert_eq!(all_files(&disk), before);
    assert_eq!(check::open(&disk).unwrap_err().to_string(), message, "the second answer is the first");
}

#[test]
fn a_log_that_is_shorter_than_its_watermark_is_refused_and_nothing_is_changed() {
    let (disk, batch) = crashed();
    let shorter = file(&disk, LOG);
    shorter.set_len(20 * batch).unwrap();
    shorter.sync_all().unwrap();
    let before = all_files(&disk);
    let error = check::open(&disk).unwrap_err();
    let Error::Corrupt(corruption) = &error else { panic!("{error:?}") };
    assert_eq!((&corruption.path, corruption.bytes.start), (&path(LOG), 20 * batch));
    assert!(corruption.advice.contains("another program cut the log back"), "{corruption}");
    assert_eq!(all_files(&disk), before);
    remove(&disk, LOG);
    let error = check::open(&disk).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains(LOG), "{error}");
}

#[test]
fn damage_in_a_segment_that_was_rolled_away_is_no_torn_tail_even_when_the_watermark_slots_are_lost() {
    let stand = Stand::with_history();
    let mut sequence = 7;
    while names(&stand.disk, |name| name.ends_with(".log")).len() < 2 {
        stand.append(1, sequence).unwrap();
        sequence += 1;
    }
    stand.append(1, sequence).unwrap();
    let disk = MemoryStorage::from_image(&stand.disk.power_cut());
    drop(stand);
    // Slots are synced once a second only: what tells is the manifest that ended the roll.
    remove(&disk, WATERMARK);
    let end = file(&disk, LOG).len().unwrap();
    flip(&disk, LOG, end - 20);
    let before = all_files(&disk);
    let error = check::open(&disk).unwrap_err();
    let Error::Corrupt(corruption) = &error else { panic!("{error:?}") };
    assert_eq!((&corruption.path, corruption.bytes.end), (&path(LOG), end));
    assert_eq!(all_files(&disk), before);
}

#[test]
fn salvage_keeps_the_cut_bytes_aside_and_remembers_that_producers_may_be_unknown() {
    let (disk, batch) = crashed();
    let from = 18 * batch;
    flip(&disk, LOG, from + 80);
    flip(&disk, LOG, 20 * batch + 80);
    let cut = disk.kill().read(&path(LOG)).unwrap().split_off(usize::try_from(from).unwrap());
    let (log, report) = salvage(&disk).unwrap();
    assert!(report.salvaged, "{report}");
    assert_eq!((report.log_end_offset, log.log_end_offset()), (Offset(18), Offset(18)));
    let [only] = report.cuts.as_slice() else { panic!("{report}") };
    assert_eq!((only.file.as_str(), only.bytes.clone(), only.offset), (LOG, from..21 * batch, Offset(18)));
    assert_eq!(only.valid_batches, 1, "offset 19 is whole: {report}");
    let keepsake = only.keepsake.clone().expect("there was something to keep");
    assert!(keepsake.starts_with("salvage.18."), "{keepsake}");
    assert_eq!(disk.power_cut().read(&path(&keepsake)), Some(cut), "durable, byte by byte");

    // An id of which nothing is known may have been in what was cut.
    let unknown = |log: &Log| match log.append(Issued::new(77, 0, 4, 1).raw(), Durability::Durable) {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    };
    let stranger = Issued::new(77, 0, 4, 1);
    let expected = Rejection::SequenceUnknown {
        producer: ProducerId(77),
        found: stranger.first,
        expected: oncelog::Sequence::ZERO,
    };
    assert_eq!(unknown(&log), expected);
    assert_eq!(expected.kafka_code(), 87);
    let fresh = log.append(Issued::new(78, 0, 0, 1).raw(), Durability::Durable);
    assert_eq!(outcome(fresh), (Outcome::Appended, Some(18)));
    // Those whose batches are still there answer as before.
    let retry = log.append(Issued::new(1, 0, 5, 1).raw(), Durability::Durable);
    assert_eq!(outcome(retry), (Outcome::Duplicate, Some(15)));
    drop(log);

    let (log, report) = check::open(&disk).expect("what is left is sound");
    assert!(!report.salvaged);
    assert_eq!(unknown(&log), expected, "it is remembered");
    assert!(disk.power_cut().read(&path(&keepsake)).is_some());
    log.close().unwrap();
    let (log, _) = check::open(&disk).unwrap();
    assert_eq!(unknown(&log), expected, "after a clean close too");
}

/// A log with a chain of a base and a delta and batches behind it, crashed; the stand still knows what was promised.
fn with_chain() -> (Stand, Image) {
    let stand = Stand::new();
    for producer in 1..=12 {
        stand.append(producer, 0).unwrap();
    }
    stand.log.checkpoint().unwrap();
    for sequence in 1..7 {
        stand.append(1, sequence).unwrap();
        stand.append(2, sequence).unwrap();
    }
    stand.log.checkpoint().unwrap();
    for sequence in 7..9 {
        stand.append(1, sequence).unwrap();
    }
    let image = stand.disk.kill();
    let manifest = manifest_of(&image);
    assert_eq!(manifest.chain.len(), 2, "a base and a delta");
    (stand, image)
}

fn manifest_of(image: &Image) -> Manifest {
    Manifest::decode(&image.read(&path(MANIFEST)).expect("there is one")).expect("it is sound")
}

/// Checks what is left after `harm`, both with the image as it is and after a clean close of what it became.
fn survives(name: &str, harm: impl Fn(&MemoryStorage)) -> RecoveryReport {
    let (stand, image) = with_chain();
    let disk = MemoryStorage::from_image(&image);
    harm(&disk);
    println!("{name}");
    let checked = stand.check(&disk.power_cut());
    // The same harm to a log that was closed in order.
    let closed = MemoryStorage::from_image(&image);
    check::open(&closed).unwrap().0.close().unwrap();
    harm(&closed);
    stand.check(&closed.power_cut());
    checked.report
}

fn runs(disk: &MemoryStorage) -> Vec<String> {
    names(disk, |name| name.ends_with(".run"))
}

#[test]
fn a_lost_manifest_means_adopting_runs_never_no_producers() {
    let report = survives("lost manifest", |disk| remove(disk, MANIFEST));
    assert_eq!(report.kind, oncelog::recovery::RecoveryKind::ManifestLost);
    assert!(report.rejected.iter().any(|rejected| rejected.file == MANIFEST), "{report}");
    assert!(report.chain.is_some(), "{report}");
    let report = survives("damaged manifest", |disk| flip(disk, MANIFEST, 30));
    assert_eq!(report.kind, oncelog::recovery::RecoveryKind::ManifestLost);
}

#[test]
fn lost_or_damaged_runs_mean_replay_never_no_producers() {
    let report = survives("all runs lost", |disk| runs(disk).iter().for_each(|name| remove(disk, name)));
    assert!(report.chain.is_none() && !report.rejected.is_empty(), "{report}");
    assert!(report.replayed_batches >= 26, "{report}");
    let newest_lost = survives("newest run lost", |disk| remove(disk, runs(disk).last().unwrap()));
    assert_eq!(newest_lost.chain.map(|chain| chain.runs.len()), Some(1));
    let newest_damaged =
        survives("head of the newest run damaged", |disk| flip(disk, runs(disk).last().unwrap(), 20));
    assert_eq!(newest_damaged.chain.map(|chain| chain.runs.len()), Some(1));
    let oldest_lost = survives("oldest run lost", |disk| remove(disk, runs(disk).first().unwrap()));
    assert!(oldest_lost.chain.is_none());
}

#[test]
fn runs_and_manifest_lost_together_mean_replay_of_the_whole_log() {
    let report = survives("runs and manifest lost", |disk| {
        runs(disk).iter().for_each(|name| remove(disk, name));
        remove(disk, MANIFEST);
    });
    assert!(report.chain.is_none() && report.replayed_batches >= 26, "{report}");
}

#[test]
fn a_lost_or_damaged_watermark_file_costs_a_longer_scan_and_nothing_else() {
    survives("lost watermark", |disk| {
        if names(disk, |name| name == WATERMARK).len() == 1 {
            remove(disk, WATERMARK);
        }
    });
    survives("damaged watermark", |disk| {
        // Neither slot is believed any more, as many as there are.
        for slot in (0..file(disk, WATERMARK).len().unwrap()).step_by(4_096) {
            flip(disk, WATERMARK, slot + 10);
        }
    });
}

#[test]
fn lost_indexes_are_made_anew() {
    let (stand, image) = with_chain();
    let disk = MemoryStorage::from_image(&image);
    let (log, _) = check::open(&disk).unwrap();
    log.close().unwrap();
    let indexes = names(&disk, |name| name.ends_with("index"));
    assert!(!indexes.is_empty());
    indexes.iter().for_each(|name| remove(&disk, name));
    stand.check(&disk.power_cut());
}

#[test]
fn a_block_that_is_damaged_while_the_log_is_open_is_unavailable_until_it_is_made_anew() {
    let (stand, image) = with_chain();
    let disk = MemoryStorage::from_image(&image);
    drop(stand);
    let (log, _) = check::open(&disk).unwrap();
    let manifest = manifest_of(&disk.kill());
    let base = format!("producers.{}.run", manifest.chain[0].number);
    // Every block of the base, whatever is where: behind the header and before the index.
    flip(&disk, &base, 4_096 + 40);
    let first = |producer| Issued::new(producer, 0, 0, 1).raw();
    let message = unavailable(log.append(first(9), Durability::Durable));
    assert!(message.contains(&base), "{message}");
    unavailable(log.producer(ProducerId(9)));
    let stranger = log.append(Issued::new(10, 0, 5, 1).raw(), Durability::Durable);
    unavailable(stranger);
    // Those in memory answer as ever.
    assert_eq!(outcome(log.append(Issued::new(1, 0, 8, 1).raw(), Durability::Durable)).0, Outcome::Duplicate);
    log.checkpoint().unwrap();
    for producer in 3..=12 {
        let retry = log.append(first(producer), Durability::Durable);
        assert_eq!(outcome(retry), (Outcome::Duplicate, Some(producer - 1)));
    }
    assert_eq!(outcome(log.append(Issued::new(9, 0, 1, 1).raw(), Durability::Durable)).0, Outcome::Appended);
    let log = Arc::new(log);
    assert!(log.producer(ProducerId(9)).unwrap().is_some());
}

/// Found by fuzzing: the merge of a close met the block, and neither it nor any later close made the run anew.
#[test]
fn a_block_that_is_damaged_where_no_retry_asks_is_made_anew_by_the_work_that_reads_it() {
    type Work = fn(&MemoryStorage, &Log);
    let works: [(&str, Work); 3] = [
        ("a merge", |disk, log| {
            damage_base(disk);
            for sequence in 9..14 {
                log.append(Issued::new(1, 0, sequence, 1).raw(), Durability::Durable).unwrap();
                log.checkpoint().unwrap();
            }
        }),
        ("a deletion", |disk, log| {
            for sequence in 9..40 {
                log.append(Issued::new(1, 0, sequence, 1).raw(), Durability::Durable).unwrap();
            }
            log.checkpoint().unwrap();
            damage_base(disk);
            log.delete_records_before(log.high_watermark()).unwrap();
        }),
        ("nothing but the close", |disk, _| damage_base(disk)),
    ];
    for (name, work) in works {
        let (stand, image) = with_chain();
        drop(stand);
        let disk = MemoryStorage::from_image(&image);
        let (log, _) = check::open(&disk).unwrap();
        work(&disk, &log);
        log.close().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (log, report) = check::open(&disk).unwrap();
        assert_eq!(report.kind, oncelog::recovery::RecoveryKind::Clean, "{name}: {report}");
        assert_eq!(report.rejected, [], "{name}");
        for producer in 3..=12 {
            let retry = log.append(Issued::new(producer, 0, 0, 1).raw(), Durability::Durable);
            assert_eq!(outcome(retry), (Outcome::Duplicate, Some(producer - 1)), "{name}");
        }
    }
}

/// Found by reading: the run was written and named while Kafka's mark of a clean stop still stood in the root, and with the
/// manifest's own mark gone no later write took it away.
#[test]
fn a_run_that_is_made_anew_after_a_clean_open_takes_the_marks_of_the_clean_stop_away_first() {
    let (stand, image) = with_chain();
    drop(stand);
    let disk = MemoryStorage::from_image(&image);
    check::open(&disk).unwrap().0.close().unwrap();
    let mark = Path::new(DIR).parent().unwrap().join(".kafka_cleanshutdown");
    disk.open(&mark, OpenMode::Create).unwrap().sync_all().unwrap();
    disk.sync_dir(mark.parent().unwrap()).unwrap();
    let (log, report) = check::open(&disk).unwrap();
    assert_eq!(report.kind, oncelog::recovery::RecoveryKind::Clean, "{report}");
    damage_base(&disk);
    unavailable(log.producer(ProducerId(9)));
    log.checkpoint().unwrap();
    assert!(log.producer(ProducerId(9)).unwrap().is_some());
    assert_eq!(disk.power_cut().read(&mark), None);
    log.append(Issued::new(9, 0, 1, 1).raw(), Durability::Durable).unwrap();
    assert_eq!(disk.power_cut().read(&mark), None);
}

/// Damages the first block of entries of the base that the manifest names.
fn damage_base(disk: &MemoryStorage) {
    let base = manifest_of(&disk.kill()).chain[0].number;
    flip(disk, &format!("producers.{base}.run"), 4_096 + 40);
}

/// Found by fuzzing: no checksum covers a base offset, and readers jumped over batches or were sent in a circle.
#[test]
fn an_offset_that_rots_below_a_checkpoint_is_damage_to_readers() {
    let (_, batch) = crashed();
    for rotten in [1, 4, 40, i64::MAX - 1, -1] {
        let (disk, _) = crashed();
        let (log, _) = check::open(&disk).unwrap();
        log.checkpoint().unwrap();
        drop(log);
        file(&disk, LOG).write_all_at(&i64::to_be_bytes(rotten), 3 * batch).unwrap();
        let (log, report) = check::open(&disk).unwrap();
        assert_eq!((report.replayed_batches, log.log_end_offset()), (0, Offset(21)), "it is not read");
        // Who sends the file's bytes is told so by the fetch, but for what only the next batch contradicts.
        for most in [1, 1 << 20] {
            let fetched = log.fetch(Offset(3), most, Isolation::LogEnd).map(drop);
            assert_eq!(
                fetched.is_ok(),
                (rotten, most) == (4, 1 << 20),
                "{rotten}, {most} bytes: {fetched:?}"
            );
        }
        let batches = |from, most| {
            let fetched = log.fetch(from, most, Isolation::LogEnd)?;
            fetched.batches()?.collect::<Result<Vec<_>, _>>()
        };
        for (from, most) in [(Offset(3), 1), (Offset(3), 1 << 20), (Offset(0), 1 << 20)] {
            let error = batches(from, most).unwrap_err();
            let Error::Corrupt(corruption) = &error else { panic!("{rotten}: {error:?}") };
            assert_eq!(corruption.path, path(LOG));
            assert!((3 * batch..5 * batch).contains(&corruption.bytes.start), "{rotten}: {corruption}");
            assert_eq!(corruption.what, "base offset", "{rotten}: {corruption}");
        }
        let before: Vec<_> =
            batches(Offset(0), 1).unwrap().iter().map(|batch| batch.header.base_offset).collect();
        assert_eq!(before, [Offset(0)]);
    }
}
