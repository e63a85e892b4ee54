use super::super::batch::Kind;
use super::*;

fn round_trip(event: &Event) -> Option<Event> {
    Event::receive(&mut event.encode().as_slice()).unwrap()
}

#[test]
fn every_event_survives_the_pipe() {
    let spec = Spec { producer: 3, epoch: 1, first: i32::MAX, count: 4, kind: Kind::Transactional };
    let place = Place { base: 10, last: 13, timestamp: -1 };
    let name = || "00000000000000000000.log".to_owned();
    let intent = |purpose| Intent { id: 9, lane: 2, purpose, durability: Durability::Durable, spec };
    let answer = |answer| Event::Answer { id: 70_000, answer };
    let events = [
        Event::OpenFailed("no \"way\"".to_owned()),
        Event::Batch(Bytes::from_static(b"\x00batch\xff")),
        Event::DumpEnd(Ends { start: 1, end: 5, high_watermark: 4 }),
        Event::Intent(intent(Purpose::Fresh)),
        Event::Intent(intent(Purpose::OldEpoch)),
        answer(Answer::Appended(place)),
        answer(Answer::Duplicate(place)),
        answer(Answer::DuplicateBeyondWindow),
        answer(Answer::OutOfOrder { expected: 7 }),
        answer(Answer::Fenced { current: 3 }),
        answer(Answer::SequenceOverlap),
        answer(Answer::SequenceUnknown),
        answer(Answer::UnknownProducer),
        answer(Answer::AbortedRetry),
        answer(Answer::CoordinatorFenced { current: 8 }),
        answer(Answer::Rejected("r".to_owned())),
        answer(Answer::Unavailable("u".to_owned())),
        answer(Answer::Indeterminate("i".to_owned())),
        answer(Answer::Failed(String::new())),
        Event::Deleting { to: 7 },
        Event::Deleted(Ok(7)),
        Event::Deleted(Err("no".to_owned())),
        Event::Cut(Ok(3)),
        Event::Decided(Box::new(Decided { open: vec![(1, 2, 3)], last_stable: 3, first_unstable: Some(3) })),
        Event::Committed(vec![(1, 4), (6, 6)]),
        Event::ProbesDone,
        Event::Fetched,
        Event::Working,
        Event::Disk(Disk::Synced { name: name(), len: 1 << 40 }),
        Event::Disk(Disk::Renamed { from: "oncelog.next".to_owned(), to: name() }),
        Event::Disk(Disk::Removed { name: name() }),
        Event::Disk(Disk::Cut { name: name(), len: 5 }),
        Event::Disk(Disk::DirSynced { name: "plain-0".to_owned() }),
        Event::Disk(Disk::Failed { name: name() }),
        Event::Closed,
        Event::Fault("f".to_owned()),
    ];
    for event in events {
        assert_eq!(round_trip(&event), Some(event));
    }
}

#[test]
fn a_frame_that_a_kill_cut_short_is_no_frame() {
    let frame = Event::Fault("something happened".to_owned()).encode();
    for len in 0..frame.len() {
        assert_eq!(Event::receive(&mut &frame[..len]).unwrap(), None, "{len} bytes");
    }
}

#[test]
fn a_length_beyond_all_measure_is_an_error_and_no_allocation() {
    let error = Event::receive(&mut [0xff, 0xff, 0xff, 0xff, 1].as_slice()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn an_unknown_tag_is_an_error() {
    let error = Event::receive(&mut [1, 0, 0, 0, 99].as_slice()).unwrap_err();
    assert_eq!(error.to_string(), "a frame has the unknown tag 99");
}
