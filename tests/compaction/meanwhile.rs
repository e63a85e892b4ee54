//! What goes on while a round does: it holds up nobody, and is given up if what it reads is cut or deleted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use oncelog::checkpoint::{ManifestState, read_manifest};
use oncelog::storage::{Operation, OperationKind};
use oncelog::{
    Background, BatchHeader, Compacted, Error, HighWatermark, Isolation, LogConfig, Offset, Outcome,
};

use crate::world::{DIR, End, World, of, small};

/// Makes a round, holds it up behind the first operation that fits, and does something else in between.
fn meanwhile(
    world: &World,
    fits: impl Fn(&Operation) -> bool + Send + Sync + 'static,
    act: impl FnOnce(),
) -> Result<Option<Compacted>, Error> {
    let (come, arrived) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let held = Mutex::new(Some((come, gone)));
    world.memory.on_operation(move |operation, _| {
        let first = if fits(operation) { held.lock().unwrap().take() } else { None };
        if let Some((come, gone)) = first {
            come.send(()).unwrap();
            gone.recv().unwrap();
        }
    });
    let done = thread::scope(|scope| {
        // Gone with a panic, so that the round ends too.
        let go = go;
        let round = scope.spawn(|| world.log().compact());
        arrived.recv_timeout(Duration::from_secs(20)).unwrap();
        act();
        go.send(()).unwrap();
        round.join().unwrap()
    });
    world.memory.forget_observer();
    done
}

/// The `nth` new segment is begun; none of the round's locks is held that others need.
fn begins_segment(nth: usize) -> impl Fn(&Operation) -> bool + Send + Sync + 'static {
    let met = Mutex::new(0);
    move |operation| {
        let begun = operation.kind == OperationKind::Create && operation.name().ends_with(".log.cleaned");
        let mut met = met.lock().unwrap();
        *met += usize::from(begun);
        begun && *met == nth
    }
}

/// The new segment has its name and the directory is not synced.
fn is_put_in_place(operation: &Operation) -> bool {
    operation.kind == OperationKind::Rename && operation.name().ends_with(".log.swap")
}

fn filled(world: &World) {
    for round in 0..9 {
        for producer in 1..=3 {
            world.add(of(producer, round, &format!("key-{producer}"), &round.to_string()));
        }
    }
    world.fill("end");
}

fn assert_given_up(answer: Result<Option<Compacted>, Error>, reason: &str) {
    let said = matches!(&answer, Err(Error::Unavailable { why }) if why.contains(reason));
    assert!(said, "{answer:?}");
}

fn assert_nothing_unfinished(world: &World) {
    for unfinished in [".cleaned", ".swap", ".deleted"] {
        assert_eq!(world.names(unfinished), Vec::<String>::new());
    }
}

#[test]
fn appends_reads_and_checkpoints_wait_for_no_round() {
    for end in [End::Close, End::Kill, End::PowerCut] {
        for held in [begins_segment(1), begins_segment(2)] {
            let mut world = World::new();
            filled(&world);
            let before = world.log().fetch(Offset(0), 10_000, Isolation::LogEnd).unwrap();
            let mut table = None;
            let done = meanwhile(&world, held, || {
                world.put("key-1", "meanwhile");
                world.log().checkpoint().unwrap();
                world.fill("more");
                let retried = world.append(of(2, 7, "key-2", "7")).unwrap();
                assert_eq!((retried.outcome, retried.base_offset), (Outcome::Duplicate, Some(Offset(22))));
                table = Some(world.table());
            });
            assert!(done.unwrap().unwrap().removed.records > 15);
            assert_eq!(Some(world.table()), table);
            assert_eq!(before.records().unwrap()[0].offset, Offset(0), "given out before");
            world.restart(end);
            assert_eq!(Some(world.table()), table);
            assert_nothing_unfinished(&world);
        }
    }
}

#[test]
fn appends_and_reads_go_on_while_a_segment_is_put_in_place() {
    let world = World::new();
    filled(&world);
    let before = world.table();
    let (mut then, mut given_out) = (None, None);
    let done = meanwhile(&world, is_put_in_place, || {
        assert_eq!(world.table(), before, "by the files that were there");
        given_out = Some(world.log().fetch(Offset(0), 10_000, Isolation::LogEnd).unwrap());
        world.put("key-1", "meanwhile");
        then = Some(world.table());
    });
    assert!(done.unwrap().is_some());
    assert_eq!(Some(world.table()), then);
    let offsets: Vec<_> =
        given_out.unwrap().records().unwrap().iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets[..3], [0, 1, 2]);
}

#[test]
fn a_round_is_given_up_if_the_log_is_cut_and_can_be_made_again() {
    for end in [End::Close, End::Kill, End::PowerCut] {
        let mut world = World::with(LogConfig { high_watermark: HighWatermark::External, ..small() });
        filled(&world);
        let end_offset = world.log().log_end_offset();
        world.log().set_high_watermark(end_offset).unwrap();
        world.log().checkpoint().unwrap();
        let table = world.table();
        world.put("cut off", "1");
        let answer = meanwhile(&world, begins_segment(2), || {
            assert_eq!(world.log().truncate_to(end_offset).unwrap(), end_offset);
        });
        assert_given_up(answer, "the log was cut");
        assert_eq!(world.table(), table);
        assert_nothing_unfinished(&world);
        world.restart(end);
        world.log().set_high_watermark(end_offset).unwrap();
        assert_eq!(world.table(), table);
        assert!(world.log().compact().unwrap().is_some());
        assert_eq!(world.table(), table);
    }
}

#[test]
fn a_round_is_given_up_if_its_segments_are_deleted() {
    let mut world = World::new();
    filled(&world);
    let answer = meanwhile(&world, begins_segment(1), || {
        world.log().delete_records_before(Offset(12)).unwrap();
    });
    assert_given_up(answer, "segments were deleted");
    assert_eq!(world.log().log_start_offset(), Offset(12));
    let table = world.table();
    world.restart(End::Kill);
    assert_eq!(world.table(), table);
    assert_nothing_unfinished(&world);
    world.compact();
    assert_eq!(world.table(), table);
}

/// Otherwise whoever opens it next would be told of a compaction to finish, and a look from outside refused.
#[test]
fn a_log_that_is_closed_after_a_round_was_given_up_has_nothing_to_finish() {
    let mut world = World::new();
    filled(&world);
    world.memory.fail(oncelog::storage::Fault::on(OperationKind::Create).named(".log.cleaned").nth(2));
    assert!(matches!(world.log().compact(), Err(Error::Io { .. })));
    world.close();
    let ManifestState::Present(manifest) = read_manifest(&world.memory, DIR.as_ref()).unwrap() else {
        panic!("it was closed in order")
    };
    assert!(manifest.compaction.reached > Offset(0), "one segment was put in place");
    assert_eq!(manifest.compaction.replacement, None);
    assert_eq!(world.open().unwrap().notes, Vec::<String>::new());
}

#[test]
fn a_crowd_appends_reads_deletes_and_checkpoints_while_rounds_go_on() {
    const KEYS: i32 = 7;
    const APPENDS: i32 = 400;
    let mut world = World::with(LogConfig { background: Background::Threads, ..small() });
    let over = AtomicBool::new(false);
    let going = || !over.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let log = world.log();
        scope.spawn(|| {
            while going() {
                match log.compact() {
                    Ok(_) | Err(Error::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        scope.spawn(|| {
            while going() {
                log.checkpoint().unwrap();
                let start = log.log_end_offset().0 - 150;
                match log.delete_records_before(Offset(start.max(0))) {
                    Ok(_) | Err(Error::Unavailable { .. } | Error::OffsetOutOfRange { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while going() {
                    let start = log.log_start_offset();
                    let fetched = match log.fetch(start, 2_000, Isolation::LogEnd) {
                        Ok(fetched) => fetched,
                        // Deleted since.
                        Err(Error::OffsetOutOfRange { .. }) => continue,
                        Err(error) => panic!("{error}"),
                    };
                    for record in fetched.records().unwrap() {
                        // The value says which offset it was written at.
                        assert_eq!(record.value.unwrap(), record.offset.0.to_string().as_bytes());
                    }
                }
            });
        }
        for nth in 0..APPENDS {
            assert_eq!(world.add(of(1, nth, &(nth % KEYS).to_string(), &nth.to_string())), i64::from(nth));
        }
        over.store(true, Ordering::Relaxed);
    });
    for end in [End::PowerCut, End::Kill, End::Close] {
        let table = world.table();
        let newest: Vec<i64> = table.values().map(|(offset, _)| *offset).collect();
        assert_eq!(newest.iter().copied().max(), Some(i64::from(APPENDS - 1)));
        assert_eq!(newest.len(), KEYS.unsigned_abs() as usize);
        for nth in APPENDS - 5..APPENDS {
            let retried = world.append(of(1, nth, &(nth % KEYS).to_string(), &nth.to_string())).unwrap();
            assert_eq!(
                (retried.outcome, retried.base_offset.unwrap().0),
                (Outcome::Duplicate, i64::from(nth))
            );
        }
        world.restart(end);
    }
}

/// Its files have the names of others by the time that the state at its end is made.
#[test]
fn a_segment_that_is_compacted_while_it_is_exported_leaves_as_it_was() {
    let world = World::new();
    filled(&world);
    let segment = world.log().sealed_segments()[0];
    let (come, arrived) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let held = Mutex::new(Some((come, gone)));
    world.memory.on_operation(move |operation, _| {
        let makes_state = operation.kind == OperationKind::Create && operation.name().ends_with(".run");
        let first = if makes_state { held.lock().unwrap().take() } else { None };
        if let Some((come, gone)) = first {
            come.send(()).unwrap();
            gone.recv().unwrap();
        }
    });
    let exported = thread::scope(|scope| {
        let go = go;
        let export = scope.spawn(|| world.log().export(segment.base_offset));
        arrived.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(world.compact().removed.records > 15);
        go.send(()).unwrap();
        export.join().unwrap()
    });
    world.memory.forget_observer();
    let exported = exported.unwrap();
    let (log, index) = (exported.log.read().unwrap(), exported.offset_index.read().unwrap());
    assert_eq!(log.len() as u64, segment.bytes);
    assert!(!index.is_empty());
    for entry in index.chunks(8) {
        let position = u32::from_be_bytes(entry[4..].try_into().unwrap()) as usize;
        let header = BatchHeader::parse(&log[position..]).unwrap();
        let delta = u32::from_be_bytes(entry[..4].try_into().unwrap());
        assert_eq!(header.last_offset(), Offset(segment.base_offset.0 + i64::from(delta)));
    }
}
