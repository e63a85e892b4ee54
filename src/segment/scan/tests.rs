use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::segment::test_log::{TestLog, WatchedFile, file_of, index};

fn headers(bytes: &[u8]) -> (Vec<u64>, ScanEnd) {
    let mut seen = Vec::new();
    let end = scan_headers(&*file_of(bytes), Position::ZERO, bytes.len() as u64, |at, _| {
        seen.push(at.0);
        ControlFlow::Continue(())
    });
    (seen, end.unwrap())
}

fn checked(bytes: &[u8]) -> (Vec<u64>, ScanEnd) {
    let mut seen = Vec::new();
    let end = scan_checked(&*file_of(bytes), Position::ZERO, bytes.len() as u64, |at, header, batch| {
        assert_eq!(batch.len(), header.size());
        assert_eq!(batch, &bytes[index(at.0)..index(at.0) + batch.len()]);
        seen.push(at.0);
        ControlFlow::Continue(())
    });
    (seen, end.unwrap())
}

fn kind(end: &ScanEnd) -> Option<DamageKind> {
    match &end.reason {
        EndReason::Damage(damage) => Some(damage.kind),
        EndReason::EndOfFile | EndReason::Stopped => None,
    }
}

#[test]
fn both_scans_visit_every_batch_of_a_sound_log() {
    let log = TestLog::with_payloads(&[0, 17, 5_000, 70_000, 1, 1 << 20, 3, 2_000_000, 9]);
    for (seen, end) in [headers(&log.bytes), checked(&log.bytes)] {
        assert_eq!(seen, log.positions());
        assert_eq!(end, ScanEnd { position: Position(log.len()), reason: EndReason::EndOfFile });
    }
}

#[test]
fn both_scans_visit_thousands_of_tiny_batches() {
    let log = TestLog::with_payloads(&[7; 5_000]);
    for (seen, end) in [headers(&log.bytes), checked(&log.bytes)] {
        assert_eq!(seen, log.positions());
        assert_eq!(end.position, Position(log.len()));
    }
}

#[test]
fn a_scan_that_begins_at_a_later_batch_visits_the_rest() {
    let log = TestLog::with_payloads(&[40; 300]);
    let from = log.positions()[200];
    let mut seen = Vec::new();
    let end = scan_headers(&*file_of(&log.bytes), Position(from), log.len(), |at, _| {
        seen.push(at.0);
        ControlFlow::Continue(())
    });
    assert_eq!(seen, log.positions()[200..]);
    assert_eq!(end.unwrap().reason, EndReason::EndOfFile);
}

#[test]
fn the_batch_at_which_the_visitor_stops_is_not_part_of_the_run() {
    let log = TestLog::with_payloads(&[40; 30]);
    let stop = Position(log.positions()[11]);
    let flow = |at: Position| if at == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let file = file_of(&log.bytes);
    let expected = ScanEnd { position: stop, reason: EndReason::Stopped };
    assert_eq!(scan_headers(&*file, Position::ZERO, log.len(), |at, _| flow(at)).unwrap(), expected);
    assert_eq!(scan_checked(&*file, Position::ZERO, log.len(), |at, _, _| flow(at)).unwrap(), expected);
}

#[test]
fn a_scan_reads_nothing_behind_its_end() {
    let log = TestLog::with_payloads(&[40; 30]);
    let end = log.positions()[20];
    let mut seen = Vec::new();
    let result = scan_headers(&*file_of(&log.bytes), Position::ZERO, end, |at, _| {
        seen.push(at.0);
        ControlFlow::Continue(())
    });
    assert_eq!(seen, log.positions()[..20]);
    assert_eq!(result.unwrap(), ScanEnd { position: Position(end), reason: EndReason::EndOfFile });
}

#[test]
fn an_end_behind_the_file_counts_as_the_end_of_the_file() {
    let log = TestLog::with_payloads(&[40, 40]);
    let torn = &log.bytes[..log.bytes.len() - 1];
    let end =
        scan_headers(&*file_of(torn), Position::ZERO, 1 << 40, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!((end.position.0, kind(&end)), (log.positions()[1], Some(DamageKind::ShortBatch)));
}

#[test]
fn a_log_cut_at_any_byte_gives_the_batches_before_the_cut() {
    let log = TestLog::with_payloads(&[3, 100, 0, 33]);
    for cut in 0..=log.bytes.len() {
        let whole: Vec<u64> = log.ends().into_iter().filter(|end| *end <= cut as u64).collect();
        let run = whole.last().copied().unwrap_or(0);
        let expected = match cut as u64 - run {
            0 => None,
            left if left < HEADER_SIZE as u64 => Some(DamageKind::ShortHeader),
            _ => Some(DamageKind::ShortBatch),
        };
        for (seen, end) in [headers(&log.bytes[..cut]), checked(&log.bytes[..cut])] {
            assert_eq!(seen, log.positions()[..whole.len()], "cut at {cut}");
            assert_eq!(end.position, Position(run), "cut at {cut}");
            assert_eq!(kind(&end), zeros_if_zero(&log.bytes[index(run)..cut], expected), "cut at {cut}");
        }
    }
}

// The first bytes of a base offset are zeros: cut there, a batch cannot be told from blocks that were never written.
fn zeros_if_zero(rest: &[u8], otherwise: Option<DamageKind>) -> Option<DamageKind> {
    if !rest.is_empty() && rest.iter().all(|byte| *byte == 0) { Some(DamageKind::Zeros) } else { otherwise }
}

/// `LogSegmentTest.testRecoveryWithCorruptMessage`.
#[test]
fn a_flipped_bit_under_the_crc_ends_the_run_before_its_batch() {
    let log = TestLog::with_payloads(&[3, 60, 0, 33]);
    let starts = log.positions();
    for byte in 0..log.bytes.len() {
        let batch = starts.iter().rposition(|start| *start <= byte as u64).unwrap();
        let within = byte - index(starts[batch]);
        for bit in 0..8 {
            let mut bytes = log.bytes.clone();
            bytes[byte] ^= 1 << bit;
            let (seen, end) = checked(&bytes);
            // Base offset and leader epoch are outside of the CRC: continuity judges them, not the scan.
            if within < 8 && end.reason == EndReason::EndOfFile || (12..16).contains(&within) {
                assert_eq!(seen, starts, "bit {bit} of byte {byte}");
                continue;
            }
            assert_eq!(seen, starts[..batch], "bit {bit} of byte {byte}");
            assert_eq!(end.position.0, starts[batch], "bit {bit} of byte {byte}");
            assert!(kind(&end).is_some(), "bit {bit} of byte {byte}");
        }
    }
}

#[test]
fn every_flipped_bit_is_seen_by_the_crc_or_by_continuity() {
    let log = TestLog::with_payloads(&[3, 60, 0, 33]);
    let starts = log.positions();
    for bit in 0..log.bytes.len() * 8 {
        let mut bytes = log.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let batch = starts.iter().rposition(|start| index(*start) <= bit / 8).unwrap();
        let mut continuity = Continuity::new(Offset::ZERO, Density::Dense, LeaderEpoch(5));
        let end = scan_checked(&*file_of(&bytes), Position::ZERO, log.len(), |_, header, _| {
            if continuity.check(header).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
        // A leader epoch that rot made higher passes in its own batch and makes the next one a decrease.
        let in_epoch = (12..16).contains(&(bit / 8 - index(starts[batch])));
        let allowed = if in_epoch { [batch, (batch + 1).min(starts.len())] } else { [batch, batch] };
        let mut ends = starts.clone();
        ends.push(log.len());
        assert!(allowed.iter().any(|batch| ends[*batch] == end.position.0), "bit {bit}: {end:?}");
    }
}

#[test]
fn zeros_up_to_the_end_are_a_kind_of_their_own() {
    for zeros in [1, 60, 61, 4_096, 200_000] {
        let mut log = TestLog::with_payloads(&[40, 40]);
        let run = log.len();
        log.bytes.resize(log.bytes.len() + zeros, 0);
        for (seen, end) in [headers(&log.bytes), checked(&log.bytes)] {
            assert_eq!(seen.len(), 2);
            assert_eq!((end.position.0, kind(&end)), (run, Some(DamageKind::Zeros)), "{zeros} zeros");
        }
    }
}

#[test]
fn zeros_with_data_behind_them_are_a_bad_header() {
    for behind in [61, 4_096, 199_999] {
        let mut log = TestLog::with_payloads(&[40, 40]);
        let run = log.bytes.len();
        log.bytes.resize(run + 200_000, 0);
        log.bytes[run + behind] = 1;
        for (_, end) in [headers(&log.bytes), checked(&log.bytes)] {
            assert_eq!((end.position.0, kind(&end)), (run as u64, Some(DamageKind::BadHeader)));
        }
    }
}

#[test]
fn a_damaged_length_below_the_end_of_the_file_takes_no_memory_for_a_batch_that_is_none() {
    let mut log = TestLog::with_payloads(&[20 << 20]);
    log.bytes[(10 << 20) + 5] ^= 1;
    let file = WatchedFile::of(&log.bytes);
    let end =
        scan_checked(&file, Position::ZERO, log.len(), |_, _, _| panic!("the batch is damaged")).unwrap();
    assert_eq!((end.position.0, kind(&end)), (0, Some(DamageKind::BadCrc)));
    assert!(file.largest_read.load(Ordering::Relaxed) <= CHUNK);
}

#[test]
fn headers_of_large_batches_are_read_without_the_payload() {
    let log = TestLog::with_payloads(&[16 << 10; 50]);
    let file = WatchedFile::of(&log.bytes);
    scan_headers(&file, Position::ZERO, log.len(), |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(file.reads.load(Ordering::Relaxed), 50);
    assert_eq!(file.largest_read.load(Ordering::Relaxed), HEADER_SIZE);
}

#[test]
fn headers_of_small_batches_are_read_many_at_a_time() {
    let log = TestLog::with_payloads(&[39; 10_000]);
    let file = WatchedFile::of(&log.bytes);
    scan_headers(&file, Position::ZERO, log.len(), |_, _| ControlFlow::Continue(())).unwrap();
    assert!(file.reads.load(Ordering::Relaxed) < 30);
    assert_eq!(file.largest_read.load(Ordering::Relaxed), MOST_READ_AHEAD);
}

#[test]
fn a_walk_over_a_few_small_batches_does_not_read_far_ahead() {
    let log = TestLog::with_payloads(&[39; 10_000]);
    let file = WatchedFile::of(&log.bytes);
    let stop = Position(log.positions()[30]);
    let flow = |at| if at == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    scan_headers(&file, Position::ZERO, log.len(), |at, _| flow(at)).unwrap();
    assert_eq!(file.reads.load(Ordering::Relaxed), 2);
    assert_eq!(file.largest_read.load(Ordering::Relaxed), LEAST_READ_AHEAD);
}

#[test]
fn a_batch_larger_than_the_limit_for_unproven_memory_is_visited_whole() {
    let log = TestLog::with_payloads(&[1, 9 << 20, 1]);
    assert_eq!(checked(&log.bytes).0, log.positions());
}

#[test]
fn a_dense_log_refuses_a_gap_and_a_repeated_offset() {
    let log = TestLog::with_payloads(&[1, 1, 1]);
    let mut continuity = Continuity::new(Offset::ZERO, Density::Dense, LeaderEpoch::NONE);
    assert_eq!(continuity.check(&log.headers()[0]), Ok(()));
    let gap = continuity.check(&log.headers()[2]).unwrap_err();
    assert_eq!((gap.field, gap.expected.as_str(), gap.found.as_str()), ("base offset", "1", "3"));
    assert_eq!(continuity.check(&log.headers()[0]).unwrap_err().field, "base offset");
    assert_eq!(continuity.expected(), Offset(1));
    assert_eq!(continuity.check(&log.headers()[1]), Ok(()));
}

#[test]
fn a_sparse_log_may_leave_offsets_out_but_never_go_back() {
    let log = TestLog::with_payloads(&[1, 1, 1]);
    let mut continuity = Continuity::new(Offset::ZERO, Density::Sparse, LeaderEpoch::NONE);
    assert_eq!(continuity.check(&log.headers()[0]), Ok(()));
    assert_eq!(continuity.check(&log.headers()[2]), Ok(()));
    assert_eq!(continuity.check(&log.headers()[1]).unwrap_err().expected, "6 or more");
}

#[test]
fn below_what_compaction_has_reached_offsets_may_be_missing_and_above_they_may_not() {
    // Batches at the offsets 0, 1, 3 and 6.
    let headers = TestLog::with_payloads(&[1, 1, 1, 1]).headers();
    let start = Continuity::new(Offset::ZERO, Density::Dense, LeaderEpoch::NONE);
    let after = |reached: i64, taken: &[usize]| {
        let mut continuity = start.compacted_below(Offset(reached));
        taken.iter().try_for_each(|number| continuity.check(&headers[*number]))
    };
    assert_eq!(after(3, &[0, 2, 3]), Ok(()));
    assert_eq!(after(3, &[2, 3]), Ok(()));
    assert_eq!(after(3, &[0, 1, 3]).unwrap_err().expected, "3");
    assert_eq!(after(5, &[0, 3]).unwrap_err().expected, "1", "a gap must end where compaction did");
    assert_eq!(after(0, &[0, 2]).unwrap_err().expected, "1");
}

#[test]
fn only_a_sparse_log_may_hold_fewer_records_than_offsets() {
    let mut header = TestLog::with_payloads(&[1, 1]).headers()[1];
    header.record_count = 1;
    let mut dense = Continuity::new(Offset(1), Density::Dense, LeaderEpoch::NONE);
    assert_eq!(dense.check(&header).unwrap_err().field, "record count");
    let mut sparse = Continuity::new(Offset(1), Density::Sparse, LeaderEpoch::NONE);
    assert_eq!(sparse.check(&header), Ok(()));
}

#[test]
fn a_leader_epoch_that_decreases_is_a_stale_tail() {
    let header = TestLog::with_payloads(&[1]).headers()[0];
    let mut continuity = Continuity::new(Offset::ZERO, Density::Dense, LeaderEpoch(6));
    let error = continuity.check(&header).unwrap_err();
    assert_eq!((error.field, error.at, error.found.as_str()), ("partition leader epoch", 12, "5"));
}

/// `LogSegmentTest.testAppendForLogSegmentOffsetOverflowException`, for bytes that are already there.
#[test]
fn offsets_that_leave_the_segment_are_refused() {
    let headers = TestLog::with_payloads(&[1, 1]).headers();
    let mut continuity = Continuity::new(Offset(1), Density::Sparse, LeaderEpoch::NONE).until(Offset(2));
    assert_eq!(continuity.check(&headers[1]).unwrap_err().expected, "below 2 with the last record");
    assert_eq!(continuity.until(Offset(3)).check(&headers[1]), Ok(()));
}

proptest! {
    #[test]
    fn any_bytes_end_both_scans_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(headers(&bytes).1.position.0 <= bytes.len() as u64);
        prop_assert!(checked(&bytes).1.position.0 <= bytes.len() as u64);
    }

    #[test]
    fn damage_anywhere_leaves_the_run_before_it(
        sizes in proptest::collection::vec(0usize..6_000, 1..40),
        place in any::<prop::sample::Index>(),
        mask in 1u8..,
    ) {
        let log = TestLog::with_payloads(&sizes);
        let mut bytes = log.bytes.clone();
        let byte = place.index(bytes.len());
        bytes[byte] ^= mask;
        let intact = log.ends().iter().filter(|end| **end <= byte as u64).count();
        let (seen, _) = checked(&bytes);
        prop_assert!(seen.len() >= intact);
        prop_assert_eq!(&seen[..intact], &log.positions()[..intact]);
    }
}
