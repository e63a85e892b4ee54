//! The `.txnindex` files themselves: lost, short or damaged, they are made anew, and nobody sees an aborted record.

use oncelog::EndTxn;
use oncelog::storage::{OpenMode, Storage};
use oncelog::{AbortedTxn, Error, Isolation, Offset, OwnedRecord};

use crate::world::{End, World, plain, txn};

/// Aborts in several segments, a checkpoint, and aborts behind it.
fn many_aborts() -> World {
    let world = World::new();
    for first in 0..12 {
        world.add(txn(1, 0, first, 1));
        world.end(1, 0, EndTxn::Abort);
        world.add(plain("between"));
        if first == 8 {
            world.log().checkpoint().unwrap();
        }
    }
    world
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Lost,
    Empty,
    WithoutItsLastEntry,
    AnotherFirstOffset,
    NoVersion,
}

impl Harm {
    const ALL: [Self; 5] =
        [Self::Lost, Self::Empty, Self::WithoutItsLastEntry, Self::AnotherFirstOffset, Self::NoVersion];

    fn befall(self, world: &World, name: &str) {
        let path = World::path(name);
        if matches!(self, Self::Lost) {
            world.memory.unlink(&path).unwrap();
            return world.memory.sync_dir(path.parent().unwrap()).unwrap();
        }
        let file = world.memory.open(&path, OpenMode::Write).unwrap();
        match self {
            Self::Lost | Self::Empty => file.set_len(0).unwrap(),
            Self::WithoutItsLastEntry => file.set_len(file.len().unwrap() - 34).unwrap(),
            // The lowest byte of the first entry's first offset: an entry as good as any other.
            Self::AnotherFirstOffset => file.write_all_at(&[0x7f], 17).unwrap(),
            Self::NoVersion => file.write_all_at(&[9], 1).unwrap(),
        }
        file.sync_all().unwrap();
    }
}

fn shown(world: &World) -> (Vec<OwnedRecord>, Vec<AbortedTxn>) {
    world.read(Isolation::ReadCommitted, 1)
}

#[test]
fn a_file_that_is_not_what_was_written_is_made_anew_and_the_report_names_it() {
    for end in [End::Close, End::Kill] {
        let count = { many_aborts().names(".txnindex") }.len();
        assert!(count > 2);
        for which in 0..count {
            for harm in Harm::ALL {
                let mut world = many_aborts();
                let before = shown(&world);
                assert_eq!(before.1.len(), 12);
                world.restart(end);
                world.restart(end);
                // A kill that nothing follows: the files are those of the opening before.
                world.restart(End::Kill);
                let name = world.names(".txnindex").swap_remove(which);
                let what = format!("{harm:?} of {name} after {end:?}");
                if end == End::Close {
                    world.close();
                }
                harm.befall(&world, &name);
                let report = if end == End::Close { world.open().unwrap() } else { world.restart(end) };
                assert!(report.rejected.iter().any(|one| one.file == name), "{what}: {report}");
                assert_eq!(shown(&world), before, "{what}");
                let report = world.restart(End::PowerCut);
                assert_eq!(report.rejected, [], "{what}: it was made durable");
                assert_eq!(shown(&world), before, "{what}");
            }
        }
    }
}

#[test]
fn a_file_that_is_damaged_while_the_log_is_open_is_an_error_and_not_an_empty_list() {
    let mut world = many_aborts();
    world.restart(End::Close);
    Harm::NoVersion.befall(&world, "00000000000000000000.txnindex");
    match world.log().fetch(Offset(0), 1, Isolation::ReadCommitted).unwrap_err() {
        Error::Corrupt(corruption) => {
            assert_eq!(corruption.path, World::path("00000000000000000000.txnindex"));
            assert_eq!(corruption.what, "version");
        }
        other => panic!("{other}"),
    }
    assert!(world.log().fetch(Offset(0), 1, Isolation::HighWatermark).is_ok());
}

/// Retention drops the notes with the segments: what is gone is not asked for, and what is left is still looked after.
#[test]
fn after_a_deletion_only_the_files_that_are_left_are_looked_after() {
    let mut world = many_aborts();
    world.log().checkpoint().unwrap();
    world.log().delete_records_before(Offset(20)).unwrap();
    let before = shown(&world);
    assert_eq!(world.restart(End::Kill).rejected, []);
    let name = world.names(".txnindex").swap_remove(0);
    Harm::Lost.befall(&world, &name);
    let report = world.restart(End::Kill);
    assert!(report.rejected.iter().any(|one| one.file == name), "{report}");
    assert_eq!(shown(&world).0, before.0);
}

#[test]
fn after_a_truncation_the_entries_that_are_left_are_looked_after() {
    let mut world = many_aborts();
    world.log().checkpoint().unwrap();
    world.log().truncate_to(Offset(20)).unwrap();
    let before = shown(&world);
    assert_eq!(world.restart(End::Kill).rejected, []);
    assert_eq!(world.restart(End::PowerCut).rejected, []);
    let name = world.names(".txnindex").pop().unwrap();
    Harm::WithoutItsLastEntry.befall(&world, &name);
    let report = world.restart(End::Kill);
    assert!(report.rejected.iter().any(|one| one.file == name), "{report}");
    assert_eq!(shown(&world), before);
}
