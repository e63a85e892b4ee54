use super::*;
use crate::format::run::CompletedTxn;

fn draft() -> RunDraft {
    RunDraft::new(RunKind::Base, Offset(0), point(10), EngineTime(7))
}

#[test]
fn a_run_gives_back_every_entry_one_by_one_and_in_order_written_or_opened() {
    let disk = Disk::new();
    let entries = many(10_000);
    let written = disk.run(5, RunKind::Base, 0, 10, &entries);
    let opened = Run::open(&disk.memory, &disk.dir, written.reference()).unwrap();
    assert!(opened.header().block_count > 64, "more than one read of a stream");
    assert_eq!(opened.header(), written.header());
    for run in [written, opened] {
        assert_eq!(collect(run.entries()), entries);
        for (id, entry) in &entries {
            assert_eq!(run.get(*id).unwrap(), Some(*entry));
            assert_eq!(run.get(ProducerId(id.0 + 1)).unwrap(), None);
        }
        assert_eq!(run.get(ProducerId(-1)).unwrap(), None);
        run.verify().unwrap();
    }
}

#[test]
fn a_run_without_entries_knows_nobody() {
    let disk = Disk::new();
    let run = disk.run(0, RunKind::Base, 0, 0, &Entries::new());
    let opened = Run::open(&disk.memory, &disk.dir, run.reference()).unwrap();
    assert_eq!(opened.header().producers, None);
    assert_eq!(opened.get(ProducerId(0)).unwrap(), None);
    assert_eq!(opened.entries().count(), 0);
    opened.verify().unwrap();
}

#[test]
fn a_run_keeps_epochs_and_transactions_even_if_they_need_a_second_page() {
    let disk = Disk::new();
    let txn = CompletedTxn { producer: ProducerId(9), first_offset: Offset(3), marker_offset: Offset(8) };
    let draft = RunDraft {
        leader_epochs: vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(6))],
        open_txns: (0..500).map(|id| (ProducerId(id), Offset(id))).collect(),
        completed_txns: vec![txn],
        ..draft()
    };
    let mut writer = RunWriter::create(&disk.storage, &disk.dir, 1, draft.clone()).unwrap();
    writer.push(ProducerId(4), &entry(4)).unwrap();
    let reference = writer.finish().unwrap().reference();
    let run = Run::open(&disk.memory, &disk.dir, reference).unwrap();
    assert_eq!(RunDraft::ending_like(&run, RunKind::Base, Offset(0)), draft);
    assert_eq!(run.get(ProducerId(4)).unwrap(), Some(entry(4)));
}

#[test]
fn an_id_that_does_not_ascend_is_misuse() {
    let disk = Disk::new();
    let mut writer = RunWriter::create(&disk.storage, &disk.dir, 1, draft()).unwrap();
    writer.push(ProducerId(4), &entry(4)).unwrap();
    for id in [4, 3] {
        assert!(matches!(writer.push(ProducerId(id), &entry(4)), Err(Error::Misuse(_))));
    }
}

#[test]
fn a_run_that_ends_before_it_begins_is_misuse_and_makes_no_file() {
    let disk = Disk::new();
    let draft = RunDraft { from: Offset(11), ..draft() };
    let error = RunWriter::create(&disk.storage, &disk.dir, 1, draft).unwrap_err();
    assert!(matches!(error, Error::Misuse(_)), "{error:?}");
    assert_eq!(disk.names(), Vec::<String>::new());
}

#[test]
fn a_number_is_never_used_twice() {
    let disk = Disk::new();
    disk.run(1, RunKind::Base, 0, 10, &entries([(1, 1)]));
    let error = RunWriter::create(&disk.storage, &disk.dir, 1, draft()).unwrap_err();
    assert!(matches!(error, Error::Io { operation: "create", .. }), "{error:?}");
    assert_eq!(disk.names(), ["producers.1.run"]);
}

#[test]
fn a_writer_that_is_dropped_takes_its_file_away() {
    let disk = Disk::new();
    let mut writer = RunWriter::create(&disk.storage, &disk.dir, 1, draft()).unwrap();
    writer.push(ProducerId(4), &entry(4)).unwrap();
    drop(writer);
    assert_eq!(disk.names(), Vec::<String>::new());
}

#[test]
fn a_missing_run_is_an_io_error_of_kind_not_found() {
    let disk = Disk::new();
    match Run::open_unnamed(&disk.memory, &disk.dir, 3) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_run_than_the_one_named_is_refused() {
    let disk = Disk::new();
    let named = disk.run(1, RunKind::Base, 0, 10, &entries([(1, 1)])).reference();
    disk.run(2, RunKind::Base, 0, 10, &entries([(1, 2)]));
    let other = disk.read("producers.2.run");
    disk.write("producers.1.run", &other);
    assert_eq!(corruption(Run::open(&disk.memory, &disk.dir, named)).what, "run number");

    let again = Disk::new();
    again.run(1, RunKind::Base, 0, 10, &entries([(1, 3)]));
    disk.write("producers.1.run", &again.read("producers.1.run"));
    let found = corruption(Run::open(&disk.memory, &disk.dir, named));
    assert_eq!((found.what.as_str(), found.bytes), ("header CRC", 4092..4096));
}

#[test]
fn a_damaged_block_is_an_error_for_its_producers_and_for_no_others() {
    let disk = Disk::new();
    let entries = many(300);
    let reference = disk.run(1, RunKind::Base, 0, 10, &entries).reference();
    let mut bytes = disk.read("producers.1.run");
    let second_block = 4096 + 4096;
    bytes[second_block + 100] ^= 4;
    disk.write("producers.1.run", &bytes);

    let run = Run::open(&disk.memory, &disk.dir, reference).unwrap();
    let mut damaged = 0;
    for (id, entry) in &entries {
        match run.get(*id) {
            Ok(found) => assert_eq!(found, Some(*entry)),
            error => {
                let found = corruption(error);
                assert_eq!(found.what, "block CRC");
                assert_eq!(found.bytes, 8192..12288);
                assert_eq!(found.path, disk.dir.join("producers.1.run"));
                damaged += 1;
            }
        }
    }
    assert!(damaged > 10 && damaged < 300, "{damaged}");
    assert_eq!(corruption(run.verify()).bytes, 8192..12288);
    let mut stream = run.entries();
    assert!(stream.by_ref().take_while(Result::is_ok).count() > 10);
    assert!(stream.next().is_none(), "a stream ends after the first error");
}

#[test]
fn blocks_that_changed_places_are_refused_though_each_is_whole() {
    let disk = Disk::new();
    let reference = disk.run(1, RunKind::Base, 0, 10, &many(300)).reference();
    let mut bytes = disk.read("producers.1.run");
    let (first, second) = bytes[4096..12288].split_at_mut(4096);
    first.swap_with_slice(second);
    disk.write("producers.1.run", &bytes);
    let run = Run::open(&disk.memory, &disk.dir, reference).unwrap();
    assert_eq!(corruption(run.get(ProducerId(0))).what, "block CRC");
    assert_eq!(corruption(run.verify()).what, "block CRC");
}

#[test]
fn a_run_that_shrinks_while_it_is_open_is_damage_and_not_a_missing_id() {
    let disk = Disk::new();
    let run = disk.run(1, RunKind::Base, 0, 10, &entries([(1, 1)]));
    disk.memory.open(run.path(), OpenMode::Write).unwrap().set_len(4096 + 100).unwrap();
    let found = corruption(run.get(ProducerId(1)));
    assert_eq!((found.what.as_str(), found.bytes), ("length of the run", 4096..8192));
}

#[test]
fn every_flipped_bit_of_a_run_is_refused() {
    let disk = Disk::new();
    let entries = many(30);
    let reference = disk.run(1, RunKind::Base, 0, 10, &entries).reference();
    let good = disk.read("producers.1.run");
    let file = disk.memory.open(&disk.dir.join("producers.1.run"), OpenMode::Write).unwrap();
    for (at, byte) in good.iter().enumerate() {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ (1 << bit)], at as u64).unwrap();
            let opened = Run::open(&disk.memory, &disk.dir, reference).and_then(|run| run.verify());
            assert!(matches!(opened, Err(Error::Corrupt(_))), "byte {at} bit {bit}: {opened:?}");
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
    }
    Run::open(&disk.memory, &disk.dir, reference).unwrap().verify().unwrap();
}

#[test]
fn a_run_that_is_cut_or_has_grown_is_refused_at_every_length() {
    let disk = Disk::new();
    let reference = disk.run(1, RunKind::Base, 0, 10, &many(30)).reference();
    let good = disk.read("producers.1.run");
    let file = disk.memory.open(&disk.dir.join("producers.1.run"), OpenMode::Write).unwrap();
    for len in (0..good.len()).rev().chain([good.len() + 1, good.len() + 12, good.len() + 4096]) {
        file.set_len(len as u64).unwrap();
        file.write_all_at(&good[..len.min(good.len())], 0).unwrap();
        corruption(Run::open(&disk.memory, &disk.dir, reference));
    }
}

#[test]
fn a_whole_run_of_zeros_or_with_sectors_of_zeros_is_refused() {
    let disk = Disk::new();
    let reference = disk.run(1, RunKind::Base, 0, 10, &many(100)).reference();
    let good = disk.read("producers.1.run");
    for sector in 0..good.len() / 512 {
        let mut bad = good.clone();
        bad[sector * 512..(sector + 1) * 512].fill(0);
        disk.write("producers.1.run", &bad);
        let opened = Run::open(&disk.memory, &disk.dir, reference).and_then(|run| run.verify());
        if bad == good {
            opened.unwrap();
        } else {
            corruption(opened);
        }
    }
    disk.write("producers.1.run", &vec![0; good.len()]);
    assert_eq!(corruption(Run::open(&disk.memory, &disk.dir, reference)).what, "run magic");
}

proptest! {
    #[test]
    fn whatever_entries_there_are_a_run_gives_them_back(entries in any_entries()) {
        let disk = Disk::new();
        let reference = disk.run(1, RunKind::Delta, 0, 10, &entries).reference();
        let run = Run::open(&disk.memory, &disk.dir, reference).unwrap();
        prop_assert_eq!(collect(run.entries()), entries.clone());
        for id in (-1..61).map(ProducerId) {
            prop_assert_eq!(run.get(id).unwrap(), entries.get(&id).copied());
        }
    }
}
