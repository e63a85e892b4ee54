use proptest::prelude::*;

use super::*;
use crate::format::names::{index_name, time_index_name};
use crate::index::IndexSize;
use crate::segment::test_log::{TestLog, disk, file_of, index, put};

const LIMITS: IndexLimits = IndexLimits { interval_bytes: 300, size: IndexSize(1 << 16) };

struct Files {
    log: TestLog,
    offsets: Vec<u8>,
    times: Vec<u8>,
}

/// A log with the index files that a roll leaves.
fn files() -> Files {
    let log = TestLog::varied(120);
    let (mut indexes, _) = rebuild(&*file_of(&log.bytes), Offset::ZERO, Position(log.len()), LIMITS).unwrap();
    indexes.seal_entry();
    Files { log, offsets: indexes.offsets().to_bytes(), times: indexes.times().to_bytes() }
}

impl Files {
    fn open(&self) -> SealedSegment {
        let (storage, dir) = disk();
        put(&*storage, &dir.join(index_name(Offset::ZERO)), &self.offsets);
        put(&*storage, &dir.join(time_index_name(Offset::ZERO)), &self.times);
        self.open_in(&storage, &dir)
    }

    fn open_in(&self, storage: &Arc<dyn Storage>, dir: &Path) -> SealedSegment {
        let path = dir.join(crate::format::names::log_name(Offset::ZERO));
        put(&**storage, &path, &self.log.bytes);
        SealedSegment::new(
            storage,
            path,
            Offset::ZERO..self.log.next_offset(),
            Position(self.log.len()),
            LIMITS,
        )
    }

    /// Every answer of the segment against a walk over all batches.
    fn assert_right(&self, segment: &SealedSegment) {
        let batches = self.log.batches();
        for target in 0..=self.log.next_offset().0 {
            let wanted = batches.iter().find(|(_, header)| header.last_offset().0 >= target);
            let found = segment.locate(Offset(target)).unwrap();
            assert_eq!(found.map(|batch| batch.position().0), wanted.map(|(at, _)| *at), "offset {target}");
            if let Some(from) = found.filter(|_| target % 7 == 0) {
                let most = from.position().0 + 900;
                let fits =
                    batches.iter().map(|(at, h)| at + h.size() as u64).filter(|end| *end <= most).max();
                let wanted = fits.unwrap_or(0).max(from.end().0);
                assert_eq!(segment.range_end(&from, segment.len(), 900).unwrap().position, Position(wanted));
            }
        }
        for timestamp in 930..1_400 {
            let wanted = batches.iter().find(|(_, header)| header.max_timestamp >= timestamp);
            let found = segment.locate_timestamp(timestamp).unwrap();
            assert_eq!(
                found.map(|batch| batch.position().0),
                wanted.map(|(at, _)| *at),
                "timestamp {timestamp}"
            );
        }
        let mut newest = &batches[0].1;
        for (_, header) in batches {
            newest = if header.max_timestamp > newest.max_timestamp { header } else { newest };
        }
        let newest = TimeEntry { timestamp: newest.max_timestamp, last_offset: newest.last_offset() };
        assert_eq!(segment.newest().unwrap(), Some(newest));
    }
}

#[test]
fn sound_index_files_are_used_and_not_made_anew() {
    let files = files();
    let segment = files.open();
    assert!(!segment.is_open());
    files.assert_right(&segment);
    assert!(segment.is_open() && !segment.indexes_rebuilt());
}

#[test]
fn missing_index_files_are_made_anew_once() {
    let files = files();
    let (storage, dir) = disk();
    let segment = files.open_in(&storage, &dir);
    files.assert_right(&segment);
    assert!(segment.indexes_rebuilt());
    assert_eq!(storage.list(&dir).unwrap().len(), 1);
}

#[test]
fn index_files_of_a_wrong_length_are_made_anew() {
    for (offsets_cut, times_cut) in [(1, 0), (0, 1)] {
        let mut files = files();
        files.offsets.truncate(files.offsets.len() - offsets_cut);
        files.times.truncate(files.times.len() - times_cut);
        let segment = files.open();
        files.assert_right(&segment);
        assert!(segment.indexes_rebuilt());
    }
}

#[test]
fn an_entry_caught_lying_has_the_indexes_made_anew() {
    let mut files = files();
    files.offsets[8 * 5 + 7] ^= 0x10;
    let segment = files.open();
    files.assert_right(&segment);
    assert!(segment.indexes_rebuilt());
}

/// Every fifth batch of the log carries a stored log with offsets of its own in its payload.
#[test]
fn an_entry_that_points_at_a_stored_batch_in_a_payload_gives_no_wrong_answer() {
    for number in 0..files().offsets.len() / 8 {
        let mut files = files();
        let entry = u32::from_be_bytes(*files.offsets[number * 8 + 4..].first_chunk().unwrap());
        let carrier =
            (4..120).step_by(5).find(|n| files.log.positions()[*n] >= u64::from(entry)).unwrap_or(119);
        let (at, header) = files.log.batches()[carrier];
        let inside = u32::try_from(at).unwrap() + 61;
        let lie =
            [u32::try_from(header.last_offset().0).unwrap().to_be_bytes(), inside.to_be_bytes()].concat();
        files.offsets[number * 8..number * 8 + 8].copy_from_slice(&lie);
        files.assert_right(&files.open());
    }
}

#[test]
fn an_empty_segment_answers_nothing() {
    let files = Files { log: TestLog::default(), offsets: vec![], times: vec![] };
    let segment = files.open();
    assert_eq!((segment.locate(Offset::ZERO).unwrap(), segment.newest().unwrap()), (None, None));
    assert!(segment.is_empty());
}

#[test]
fn a_released_segment_has_nothing_open_and_answers_the_same() {
    let files = files();
    let segment = files.open();
    files.assert_right(&segment);
    let released = segment.released();
    assert!(segment.is_open() && !released.is_open());
    files.assert_right(&released);
}

#[test]
fn a_segment_that_is_pinned_answers_the_same_when_its_names_mean_other_files() {
    let files = files();
    let (storage, dir) = disk();
    let aborted = AbortedTxn {
        producer: crate::types::ProducerId(1),
        first_offset: Offset(2),
        last_offset: Offset(5),
        last_stable_offset: Offset(6),
    };
    let name = txn_index_name(Offset::ZERO);
    put(&*storage, &dir.join(&name), &aborted.to_bytes());
    let segment = files.open_in(&storage, &dir);
    segment.pin().unwrap();
    for name in [crate::format::names::log_name(Offset::ZERO), name] {
        put(&*storage, &dir.join("other"), b"compacted");
        storage.rename(&dir.join("other"), &dir.join(name)).unwrap();
    }
    files.assert_right(&segment);
    let mut found = Vec::new();
    segment.collect_aborted(Offset::ZERO, Offset(100), &mut found).unwrap();
    assert_eq!(found, [aborted]);
}

#[test]
fn a_reader_that_is_overtaken_by_compaction_between_two_steps_of_an_opening_gets_what_was_pinned() {
    let gone = || Error::Io {
        operation: "open",
        path: PathBuf::from("/topic-0/00000000000000000000.log"),
        source: Arc::new(io::ErrorKind::NotFound.into()),
    };
    for found in [Ok("of the segment that took the name"), Err(gone())] {
        let cell = OnceLock::new();
        let opened = unless_there(&cell, || {
            cell.set("pinned").unwrap();
            found
        });
        assert_eq!(opened.unwrap(), &"pinned");
    }
    let nobody = OnceLock::<&str>::new();
    assert!(matches!(unless_there(&nobody, || Err(gone())), Err(Error::Io { .. })));
}

#[test]
fn a_segment_that_was_deleted_before_it_was_opened_says_so() {
    let files = files();
    let (storage, dir) = disk();
    let segment = files.open_in(&storage, &dir);
    storage.unlink(segment.path()).unwrap();
    let Err(Error::Io { source, .. }) = segment.locate(Offset::ZERO) else { panic!("not an I/O error") };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
}

#[test]
fn damage_in_the_log_is_corruption_and_not_an_end() {
    let mut files = files();
    let (at, header) = files.log.batches()[60];
    files.log.bytes[index(at) + 16] ^= 0xff;
    let segment = files.open();
    let Err(Error::Corrupt(corruption)) = segment.locate(header.last_offset()) else { panic!("not corrupt") };
    assert_eq!((corruption.bytes.start, corruption.what.as_str()), (at + 16, "magic"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_index_bytes_give_the_answers_of_a_walk(
        offsets in proptest::collection::vec(any::<u8>(), 0..400),
        times in proptest::collection::vec(any::<u8>(), 0..400),
        whole in any::<bool>(),
    ) {
        let sound = files();
        let cut = |bytes: Vec<u8>, size: usize| if whole { bytes[..bytes.len() / size * size].to_vec() } else { bytes };
        let files = Files { log: sound.log, offsets: cut(offsets, 8), times: cut(times, 12) };
        files.assert_right(&files.open());
    }

    #[test]
    fn index_files_with_damaged_and_lost_entries_give_the_answers_of_a_walk(
        flips in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0u8..8), 0..6),
        lost_offsets in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        lost_times in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        sealed in any::<bool>(),
    ) {
        let mut files = files();
        if !sealed {
            files.times.truncate(files.times.len() - 12);
        }
        for (bytes, size, lost) in [(&mut files.offsets, 8, lost_offsets), (&mut files.times, 12, lost_times)] {
            for index in lost {
                let at = index.index(bytes.len() / size) * size;
                bytes.drain(at..at + size);
            }
        }
        for (in_times, index, bit) in flips {
            let bytes = if in_times { &mut files.times } else { &mut files.offsets };
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        files.assert_right(&files.open());
    }
}
