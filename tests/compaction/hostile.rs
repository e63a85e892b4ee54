//! What nobody does who wishes the log well.

use std::path::Path;
use std::sync::{Arc, Mutex};

use oncelog::checkpoint::{ManifestState, read_manifest};
use oncelog::format::names::run_name;
use oncelog::format::txn_index_note::TxnIndexNote;
use oncelog::recovery::RecoveryKind;
use oncelog::storage::{Fault, Image, MemoryStorage, OpenMode, OperationKind, Storage, read_all};
use oncelog::{BatchBuilder, Codec, EndTxn, Error, Isolation, LeaderEpoch, LogConfig, Offset, Outcome};

use crate::world::{DIR, End, NOW, RETENTION, World, of, puts, small, txn};

const ENOSPC: i32 = 28;

fn remove_all(world: &World, names: impl IntoIterator<Item = String>) {
    for name in names {
        world.memory.unlink(&Path::new(DIR).join(name)).unwrap();
    }
}

/// A compacted log that has lost everything but its two oldest segments, and was salvaged: its end lies below what rounds
/// have reached.
fn salvaged_below_the_last_round() -> World {
    let mut world = World::with(LogConfig { segment_bytes: 300, ..small() });
    for n in 0..12 {
        world.add(of(1, n, &format!("unique-{n}"), &"x".repeat(60)));
    }
    for n in 0..6 {
        world.put("same", &n.to_string());
    }
    world.fill("end");
    let done = world.compact();
    world.close();
    remove_all(&world, world.names(".log").split_off(2));
    world.salvage().unwrap();
    assert!(world.log().log_end_offset() < done.to, "{done:?}");
    world
}

#[test]
fn a_log_that_was_salvaged_below_the_last_round_opens_again() {
    for end in [End::Kill, End::PowerCut, End::Close] {
        let mut world = salvaged_below_the_last_round();
        world.put("more", "1");
        world.restart(end);
        assert_eq!(world.of_key("more").len(), 1);
        world.log().checkpoint().unwrap();
        world.put("more", "2");
        world.restart(end);
        assert_eq!(world.of_key("more").len(), 2);
    }
}

/// A tombstone goes once no older record of its key is left: rounds must see again what was written in the place of what
/// they had seen.
#[test]
fn no_key_comes_back_in_a_log_that_was_salvaged_below_the_last_round() {
    let mut world = salvaged_below_the_last_round();
    world.remove("unique-0");
    world.fill("one");
    assert_eq!(world.log().compact().unwrap().map(|done| done.removed.records), Some(1));
    world.advance(RETENTION);
    world.fill("two");
    world.log().compact().unwrap();
    assert_eq!(world.of_key("unique-0"), []);
    world.restart(End::Kill);
    assert_eq!(world.of_key("unique-0"), []);
}

/// The same where another program cuts the log and appends to it.
#[test]
fn no_key_comes_back_in_a_log_that_another_program_wrote_to() {
    let mut world = World::with(LogConfig { segment_bytes: 300, ..small() });
    for n in 0..12 {
        world.put(&format!("unique-{n}"), &"x".repeat(60));
    }
    world.fill("end");
    let done = world.compact();
    world.close();
    let logs = world.names(".log");
    let base = |name: &str| name.trim_end_matches(".log").parse::<i64>().unwrap();
    assert!(base(&logs[3]) <= done.to.0, "{done:?}");
    let rewrite = |name: &str, count: i64, key: &str, value: Option<&[u8]>| {
        let batches: Vec<u8> = (0..count)
            .flat_map(|n| {
                let batch =
                    BatchBuilder::new().base_offset(Offset(base(name) + n)).leader_epoch(LeaderEpoch(1));
                batch.record_at(NOW, Some(key.as_bytes()), value).build().unwrap()
            })
            .collect();
        world.memory.unlink(&Path::new(DIR).join(name)).unwrap();
        let file = world.memory.open(&Path::new(DIR).join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(&batches, 0).unwrap();
    };
    rewrite(&logs[2], base(&logs[3]) - base(&logs[2]), "unique-0", None);
    rewrite(logs.last().unwrap(), 9, "another program's", Some(b"a value of another length"));
    let report = world.open().unwrap();
    assert_eq!(report.kind, RecoveryKind::AnotherProgramWrote);
    for name in ["one", "two"] {
        world.fill(name);
        world.log().compact().unwrap();
        assert_eq!(world.table().get(&b"unique-0"[..]), None, "{name}");
        world.advance(RETENTION);
    }
    assert_eq!(world.of_key("unique-0"), []);
}

/// The times are a client's: they may be anything.
#[test]
fn no_timestamp_of_a_client_stops_compaction() {
    for (first, second) in [
        (i64::MIN, i64::MIN),
        (i64::MIN, -1),
        (-1, -1),
        (-1, i64::MAX - 1),
        (i64::MAX, 0),
        (i64::MAX, i64::MAX),
    ] {
        for delete_retention_ms in [RETENTION, u64::MAX] {
            let mut config = LogConfig { timestamp_after_max_ms: None, ..small() };
            config.compaction.delete_retention_ms = delete_retention_ms;
            let world = World::with(config);
            let batch = BatchBuilder::new()
                .record_at(first, Some(b"a"), None)
                .record_at(second, Some(b"b"), None)
                .build()
                .unwrap();
            world.add(batch);
            world.put("b", "newer");
            world.fill("end");
            let done = world.log().compact();
            assert!(done.is_ok(), "{first} {second} {delete_retention_ms}: {done:?}");
        }
    }
}

#[test]
fn what_a_round_has_written_on_a_full_disk_is_removed() {
    for (kind, name) in [
        (OperationKind::Write, ".log.cleaned"),
        (OperationKind::SyncAll, ".log.cleaned"),
        (OperationKind::Create, ".index.cleaned"),
        (OperationKind::Write, ".timeindex.cleaned"),
        (OperationKind::Create, ".txnindex.cleaned"),
    ] {
        let world = World::new();
        for n in 0..10 {
            world.put("a", &n.to_string());
        }
        world.fill("end");
        world.memory.fail(Fault::on(kind).named(name).with_errno(ENOSPC).from_then_on());
        let failed = world.log().compact();
        assert!(failed.is_err(), "{kind:?} {name}: {failed:?}");
        assert_eq!(world.names(".cleaned"), Vec::<String>::new(), "{kind:?} {name}");
        world.memory.clear_faults();
        assert!(world.log().compact().unwrap().unwrap().removed.records > 0);
    }
}

/// Every codec, headers, keys and batches of more than a megabyte, and a map with room for few of the keys.
#[test]
fn large_keys_and_every_codec_are_compacted_in_as_many_rounds_as_it_takes() {
    let large = |n: u8| vec![n; 1 << 20];
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut config = LogConfig { segment_bytes: 3 << 20, max_batch_bytes: 3 << 20, ..small() };
        config.compaction.map_bytes = 1024;
        let mut world = World::with(config);
        for round in 0..3_u8 {
            for n in 0..6_u8 {
                let unique = (0..3_u8).fold(BatchBuilder::new().codec(codec), |builder, nth| {
                    builder.record_at(NOW, Some(&[n, round, nth]), Some(b"unique"))
                });
                let batch = unique
                    .record_with_headers(
                        NOW,
                        Some(&large(n)),
                        Some(&[round]),
                        &[("h", Some(b"1")), ("h", None)],
                    )
                    .record_at(NOW + 1, Some(&[n]), (n % 2 == 1).then_some(&[round]))
                    .build()
                    .unwrap();
                world.add(batch);
            }
        }
        for n in 0..3 {
            let filler = of(9, n, &format!("filler-{n}"), &"x".repeat(2 << 20));
            world.add(filler);
        }
        let mut rounds = 0;
        while let Some(done) = world.log().compact().unwrap() {
            assert!(done.to > done.from, "{done:?}");
            rounds += 1;
        }
        assert!(rounds > 1, "{rounds}");
        for end in [End::Kill, End::Close] {
            let records = world.records(Isolation::ReadCommitted);
            let mut seen: Vec<_> = records.iter().filter(|record| record.headers.len() == 2).collect();
            seen.sort_by_key(|record| record.offset);
            let seen: Vec<_> = seen
                .iter()
                .map(|record| (record.offset.0, record.timestamp, record.value.as_deref().unwrap()[0]))
                .collect();
            assert_eq!(seen, [63, 68, 73, 78, 83, 88].map(|offset| (offset, NOW, 2)), "{codec:?}");
            world.restart(end);
        }
    }
}

/// The first record of a time is asked for, and the batch that had it is gone.
#[test]
fn a_timestamp_that_compaction_took_is_answered_with_the_next_record() {
    let mut world = World::new();
    let at = |ms: i64, key: &str| {
        BatchBuilder::new().record_at(NOW + ms, Some(key.as_bytes()), Some(b"v")).build().unwrap()
    };
    for n in 0..10 {
        world.add(at(n * 10, if n == 5 || n == 9 { "b" } else { "a" }));
    }
    world.fill("end");
    world.compact();
    for end in [End::Kill, End::Close, End::PowerCut] {
        let ask = |ms: i64| world.log().offset_for_timestamp(NOW + ms, Isolation::HighWatermark).unwrap();
        assert_eq!(ask(20), Some((Offset(8), NOW + 80)));
        assert_eq!(ask(81), Some((Offset(9), NOW + 90)));
        assert_eq!(ask(91), None);
        world.restart(end);
    }
}

/// A window is no deeper nor less deep for it: not after any number of rounds, nor by what a crash leaves.
#[test]
fn windows_outlive_round_after_round_and_crash_after_crash() {
    let mut world =
        World::with(LogConfig { segment_bytes: 250, whole_base_producers: 1, max_deltas: 2, ..small() });
    let mut sequence = 0;
    for round in 0..12 {
        for _ in 0..4 {
            for producer in 1..4 {
                world.add(of(producer, sequence, "same", &sequence.to_string()));
            }
            sequence += 1;
        }
        if round % 3 == 0 {
            world.append(puts(&[("same", None)])).unwrap();
        }
        world.fill("end");
        world.log().compact().unwrap();
        world.restart([End::Kill, End::PowerCut, End::Close][round % 3]);
        for producer in 1..4 {
            for back in 1..=5.min(sequence) {
                let answer = world.append(of(producer, sequence - back, "same", "retried")).unwrap();
                assert_eq!(answer.outcome, Outcome::Duplicate, "{round} {producer} {back}");
            }
        }
    }
}

/// What the map of keys has no room for is left to the next round, in a segment that is written anew none the less.
#[test]
fn what_was_aborted_behind_the_end_of_a_round_stays_aborted() {
    // However many batches stand in the segment before and behind the end of the round.
    for replaced in 1..6 {
        let mut world = World::new();
        for _ in 0..replaced {
            world.put("same", "replaced");
        }
        for n in 0..60 {
            world.put(&format!("key-{n}"), "unique");
            world.add(txn(1, n, &format!("key-{n}"), Some("aborted")));
            world.end(1, EndTxn::Abort);
        }
        let table = world.table();
        world.close();
        world.config.segment_bytes = 1 << 20;
        world.config.compaction.map_bytes = 1024;
        world.open().unwrap();
        let done = world.compact();
        assert!(done.segments_before > 3 && done.segments_after == 1 && done.to < Offset(150), "{done:?}");
        for end in [End::Kill, End::PowerCut, End::Close] {
            assert_eq!(world.table(), table);
            world.restart(end);
        }
        assert_eq!(world.table(), table);
    }
}

/// The entry of a `.txnindex` goes with the marker: that the file is shorter then is no damage, at whatever moment a crash
/// shows it.
#[test]
fn a_crash_while_the_last_trace_of_an_aborted_transaction_goes_is_no_damage() {
    let world = World::with(LogConfig { segment_bytes: 300, ..small() });
    for n in 0..6 {
        world.add(txn(1, n, &format!("key-{n}"), Some("1")));
        world.end(1, if n % 2 == 0 { EndTxn::Abort } else { EndTxn::Commit });
    }
    world.add(txn(1, 6, "last", Some("1")));
    world.end(1, EndTxn::Commit);
    for name in ["one", "two"] {
        world.fill(name);
        world.compact();
        world.advance(RETENTION);
    }
    world.fill("three");
    let images: Arc<Mutex<Vec<Image>>> = Arc::default();
    let keep = Arc::clone(&images);
    world.memory.on_operation(move |_, disk| keep.lock().unwrap().extend([disk.kill(), disk.power_cut()]));
    assert!(world.compact().removed.markers > 1);
    world.memory.forget_observer();
    let table = world.table();
    let notes = |world: &World| match read_manifest(&world.memory, DIR.as_ref()).unwrap() {
        ManifestState::Present(manifest) => manifest.txn_indexes,
        other => panic!("{other:?}"),
    };
    let mut finished = 0;
    for (number, image) in std::mem::take(&mut *images.lock().unwrap()).iter().enumerate() {
        let (mut world, report) = World::opened(MemoryStorage::from_image(image), world.config.clone());
        assert_eq!(report.rejected, [], "image {number}");
        finished += usize::from(report.notes.iter().any(|note| note.contains("compaction")));
        assert_eq!(world.table(), table, "image {number}");
        for note in notes(&world) {
            let name = format!("{:020}.txnindex", note.base.0);
            let bytes = read_all(&world.memory, &Path::new(DIR).join(&name), 1 << 20).unwrap();
            assert_eq!(TxnIndexNote::of(note.base, &bytes.unwrap_or_default()), Some(note), "image {number}");
        }
        assert_eq!(world.restart(End::Kill).rejected, [], "image {number}, opened again");
        assert_eq!(world.table(), table, "image {number}, opened again");
    }
    assert!(finished > 4, "{finished}");
}

/// Of the chain before, too, only what ends above the last round counts: from an older base nobody can go on.
#[test]
fn a_base_below_the_last_round_is_no_beginning_if_all_later_runs_are_lost() {
    let mut world = World::with(LogConfig { whole_base_producers: 1, max_deltas: 8, ..small() });
    for sequence in 0..9 {
        for producer in 1..=3 {
            world.add(of(producer, sequence, "same", &sequence.to_string()));
        }
        if sequence % 3 == 0 {
            world.log().checkpoint().unwrap();
        }
    }
    world.fill("end");
    world.compact();
    world.close();
    let ManifestState::Present(manifest) = read_manifest(&world.memory, DIR.as_ref()).unwrap() else {
        panic!()
    };
    assert!(manifest.previous_chain.len() > 1, "{manifest:?}");
    let oldest = run_name(manifest.previous_chain[0].number);
    assert!(manifest.chain.iter().all(|run| run_name(run.number) != oldest));
    remove_all(&world, world.names(".run").into_iter().filter(|name| *name != oldest));
    let Err(Error::Corrupt(corruption)) = world.open() else { panic!("it was opened") };
    let reason = format!("{oldest}: it ends at offset");
    assert!(corruption.found.contains(&reason) && corruption.found.contains("compaction"), "{corruption}");
}

/// The blocks of a run rot, which an open does not read: nothing below the round can be replayed in its place.
#[test]
fn a_run_that_rots_after_a_round_makes_no_producer_unknown() {
    for also_previous in [false, true] {
        let mut world = World::new();
        for sequence in 0..9 {
            for producer in 1..=3 {
                world.add(of(producer, sequence, "same", &sequence.to_string()));
            }
        }
        world.fill("end");
        world.compact();
        world.go_on_with(&world.memory.kill());
        let ManifestState::Present(manifest) = read_manifest(&world.memory, DIR.as_ref()).unwrap() else {
            panic!()
        };
        let previous = manifest.previous_chain.iter().filter(|_| also_previous);
        for run in manifest.chain.iter().chain(previous) {
            let path = Path::new(DIR).join(run_name(run.number));
            let file = world.memory.open(&path, OpenMode::Write).unwrap();
            file.write_all_at(&[0xa5], 4096 + 5).unwrap();
        }
        world.open().unwrap();
        let mut refused = 0;
        for attempt in 0..3 {
            for (producer, sequence) in (1..=3).flat_map(|producer| (4..9).map(move |n| (producer, n))) {
                match world.append(of(producer, sequence, "same", "retried")) {
                    Ok(answer) => assert_eq!(answer.outcome, Outcome::Duplicate),
                    Err(Error::Unavailable { .. }) if attempt == 0 || also_previous => refused += 1,
                    Err(error) => panic!("{attempt} {producer} {sequence}: {error:?}"),
                }
            }
            let rebuilt = world.log().checkpoint();
            assert!(rebuilt.is_ok() || also_previous, "{rebuilt:?}");
        }
        assert!(refused > 0, "the rot was not met");
    }
}

#[test]
fn a_log_start_inside_of_a_batch_outlives_rounds() {
    let mut world = World::new();
    world.add(puts(&[("a", Some("0")), ("b", Some("1")), ("c", Some("2")), ("d", Some("3")), ("a", None)]));
    world.add(puts(&[("b", Some("5")), ("e", None), ("f", Some("7"))]));
    world.fill("end");
    world.log().delete_records_before(Offset(2)).unwrap();
    let table = |world: &World| {
        let mut table = world.table();
        table.retain(|key, _| !key.starts_with(b"end"));
        table
    };
    let before = table(&world);
    for round in 0..3 {
        world.log().compact().unwrap();
        world.restart([End::Kill, End::PowerCut, End::Close][round]);
        assert_eq!(world.log().log_start_offset(), Offset(2));
        assert_eq!(table(&world), before);
        world.advance(RETENTION);
        world.fill("end");
    }
    assert_eq!(world.of_key("e"), []);
    assert_eq!(world.table().get(&b"c"[..]).map(|(offset, _)| *offset), Some(2));
}
