use super::*;
use crate::format::names::{index_name, time_index_name};
use crate::index::IndexSize;
use crate::segment::indexes::load;
use crate::segment::test_log::{TestLog, disk, index, put};
use crate::storage::{Fault, MemoryStorage, OperationKind};
use crate::types::LeaderEpoch;

const LIMITS: IndexLimits = IndexLimits { interval_bytes: 300, size: IndexSize(1 << 16) };

fn append(segment: &mut ActiveSegment, log: &TestLog, batches: std::ops::Range<usize>) {
    for (position, header) in &log.batches()[batches] {
        let at = index(*position);
        segment.file().write_all_at(&log.bytes[at..at + header.size()], *position).unwrap();
        segment.batch_appended(Position(*position), header);
    }
}

fn file_bytes(storage: &dyn Storage, path: &Path) -> Vec<u8> {
    let file = storage.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn a_new_segment_is_empty_and_has_no_index_files() {
    let (storage, dir) = disk();
    let segment = ActiveSegment::create(&*storage, &dir, Offset(60), 5, LIMITS).unwrap();
    assert_eq!(segment.point(), LogPoint::segment_start(Offset(60)));
    assert!(segment.is_empty());
    let names: Vec<String> = storage.list(&dir).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["00000000000000000060.log"]);
}

#[test]
fn a_segment_is_not_made_over_one_that_exists() {
    let (storage, dir) = disk();
    let _first = ActiveSegment::create(&*storage, &dir, Offset(60), 5, LIMITS).unwrap();
    let error = ActiveSegment::create(&*storage, &dir, Offset(60), 5, LIMITS).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

/// Kafka: `LogSegmentTest.testNextOffsetCalculation`.
#[test]
fn an_appended_batch_moves_the_end() {
    let (storage, dir) = disk();
    let log = TestLog::varied(9);
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..9);
    let (position, last) = log.batches()[8];
    assert_eq!(
        segment.point(),
        LogPoint {
            segment: Offset::ZERO,
            position: Position(log.len()),
            offset: log.next_offset(),
            last_batch: Some((Position(position), last.fingerprint())),
        }
    );
    assert_eq!(last.leader_epoch, LeaderEpoch(5));
    assert_eq!(
        segment.newest().unwrap().timestamp,
        log.headers().iter().map(|h| h.max_timestamp).max().unwrap()
    );
    assert_eq!(segment.roll_state().first_timestamp, Some(log.headers()[0].max_timestamp));
    assert_eq!((segment.roll_state().created_ms, segment.roll_state().len), (5, segment.len()));
}

#[test]
fn every_offset_and_timestamp_is_found_through_the_view() {
    let (storage, dir) = disk();
    let log = TestLog::varied(80);
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..80);
    let (view, limit) = (segment.view(), segment.len());
    for target in 0..log.next_offset().0 {
        let found = view.locate(segment.claim(Offset(target)), limit, Offset(target)).unwrap().unwrap();
        let wanted = log.batches().iter().find(|(_, h)| h.last_offset().0 >= target).unwrap();
        assert_eq!((found.position().0, *found.header()), *wanted);
        let most = found.position().saturating_add(1_000);
        let range = view.range_end(segment.claim_position(most), &found, limit, 1_000).unwrap();
        assert_eq!(range, view.range_end(None, &found, limit, 1_000).unwrap());
    }
    for timestamp in 900..1_300 {
        let start = segment.claim_timestamp(timestamp);
        let found = view.locate_timestamp(start, limit, timestamp).unwrap();
        let wanted = log.batches().iter().find(|(_, h)| h.max_timestamp >= timestamp);
        assert_eq!(found.map(|batch| batch.position().0), wanted.map(|(at, _)| *at));
    }
}

#[test]
fn index_entries_are_appended_to_the_files_and_read_back() {
    let (storage, dir) = disk();
    let log = TestLog::varied(80);
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..30);
    segment.take_unwritten_indexes().write(&*storage, &dir, Offset::ZERO).unwrap();
    append(&mut segment, &log, 30..80);
    segment.take_unwritten_indexes().write(&*storage, &dir, Offset::ZERO).unwrap();
    assert_eq!(
        file_bytes(&*storage, &dir.join(index_name(Offset::ZERO))),
        segment.indexes.offsets().to_bytes()
    );
    assert_eq!(
        file_bytes(&*storage, &dir.join(time_index_name(Offset::ZERO))),
        segment.indexes.times().to_bytes()
    );
}

#[test]
fn a_segment_that_was_closed_goes_on_where_it_was() {
    let (storage, dir) = disk();
    let log = TestLog::varied(80);
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..47);
    segment.flush_indexes(&*storage, &dir).unwrap();
    let (point, path) = (segment.point(), segment.path().to_path_buf());
    let file = storage.open(&path, OpenMode::Write).unwrap();
    let end = crate::index::OffsetEntry { last_offset: point.offset, position: point.position };
    let loaded = load(&*storage, &dir, &*file, Offset::ZERO, end, LIMITS).unwrap();
    assert!(!loaded.rebuilt);
    let mut reopened = ActiveSegment::open_at(file, path, point, loaded.indexes, 9, LIMITS);
    assert_eq!((reopened.newest(), reopened.point()), (segment.newest(), segment.point()));
    append(&mut reopened, &log, 47..80);
    append(&mut segment, &log, 47..80);
    assert_eq!(reopened.indexes.offsets().to_bytes(), segment.indexes.offsets().to_bytes());
    assert_eq!(reopened.newest(), segment.newest());
}

#[test]
fn entries_whose_write_failed_are_written_by_the_next_flush() {
    let storage = MemoryStorage::new();
    let dir = Path::new("/topic-0");
    storage.create_dir_all(dir).unwrap();
    let log = TestLog::varied(80);
    let mut segment = ActiveSegment::create(&storage, dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..80);
    storage.fail(Fault::on(OperationKind::Write).named(".timeindex").after_bytes(5));
    assert_eq!(segment.flush_indexes(&storage, dir).unwrap_err().raw_os_error(), Some(5));
    segment.flush_indexes(&storage, dir).unwrap();
    assert_eq!(
        file_bytes(&storage, &dir.join(index_name(Offset::ZERO))),
        segment.indexes.offsets().to_bytes()
    );
    assert_eq!(
        file_bytes(&storage, &dir.join(time_index_name(Offset::ZERO))),
        segment.indexes.times().to_bytes()
    );
}

#[test]
fn a_close_leaves_the_newest_batch_as_the_last_time_entry() {
    let (storage, dir) = disk();
    let mut log = TestLog::varied(20);
    log.push(1, 9_999, b"x");
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..21);
    segment.flush_indexes(&*storage, &dir).unwrap();
    let bytes = file_bytes(&*storage, &dir.join(time_index_name(Offset::ZERO)));
    assert_eq!(i64::from_be_bytes(*bytes[bytes.len() - 12..].first_chunk().unwrap()), 9_999);
}

#[test]
fn the_index_files_of_an_earlier_life_are_trimmed() {
    let (storage, dir) = disk();
    let log = TestLog::varied(20);
    put(&*storage, &dir.join(index_name(Offset::ZERO)), &[0; 4_096]);
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..20);
    segment.flush_indexes(&*storage, &dir).unwrap();
    assert_eq!(
        file_bytes(&*storage, &dir.join(index_name(Offset::ZERO))),
        segment.indexes.offsets().to_bytes()
    );
}

#[test]
fn sealing_forces_the_newest_batch_into_the_time_index() {
    let (storage, dir) = disk();
    let log = TestLog::varied(50);
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    append(&mut segment, &log, 0..50);
    let newest = segment.newest().unwrap();
    let Sealed { segment, tail } = segment.seal(&storage);
    tail.write(&*storage, &dir, Offset::ZERO).unwrap();
    let bytes = file_bytes(&*storage, &dir.join(time_index_name(Offset::ZERO)));
    let last: [u8; 12] = *bytes.last_chunk().unwrap();
    assert_eq!(i64::from_be_bytes(*last.first_chunk().unwrap()), newest.timestamp);
    assert_eq!(segment.newest().unwrap(), Some(newest));
    assert_eq!(
        (segment.base(), segment.next_offset(), segment.len().0),
        (Offset::ZERO, log.next_offset(), log.len())
    );
}

#[test]
fn sealing_gives_all_aborted_transactions_again_because_those_on_their_way_may_not_have_arrived() {
    let (storage, dir) = disk();
    let mut segment = ActiveSegment::create(&*storage, &dir, Offset::ZERO, 5, LIMITS).unwrap();
    let aborted = |first: i64| AbortedTxn {
        producer: crate::types::ProducerId(1),
        first_offset: Offset(first),
        last_offset: Offset(first + 1),
        last_stable_offset: Offset(first + 2),
    };
    segment.txn_aborted(aborted(0));
    let _lost_on_its_way = segment.take_unwritten_aborted();
    segment.txn_aborted(aborted(2));
    let sealed = segment.seal(&storage);
    sealed.tail.write(&*storage, &dir, Offset::ZERO).unwrap();
    let expected = [aborted(0), aborted(2)];
    let bytes: Vec<u8> = expected.iter().flat_map(|entry| entry.to_bytes()).collect();
    assert_eq!(file_bytes(&*storage, &dir.join(crate::format::names::txn_index_name(Offset::ZERO))), bytes);
    let mut found = Vec::new();
    sealed.segment.collect_aborted(Offset::ZERO, Offset(9), &mut found).unwrap();
    assert_eq!(found, expected);
}
