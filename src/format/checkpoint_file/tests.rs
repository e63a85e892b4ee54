use proptest::prelude::*;

use super::*;

fn start(epoch: i32, offset: i64) -> EpochStart {
    EpochStart { epoch: LeaderEpoch(epoch), start_offset: Offset(offset) }
}

fn at(topic: &str, partition: i32, offset: i64) -> PartitionOffset {
    PartitionOffset { partition: PartitionName::new(topic, partition).unwrap(), offset: Offset(offset) }
}

#[test]
fn leader_epochs_have_the_text_that_kafka_writes() {
    let entries = [start(0, 0), start(3, 92)];
    assert_eq!(format_leader_epochs(&entries), "0\n2\n0 0\n3 92\n");
    assert_eq!(parse_leader_epochs(b"0\n2\n0 0\n3 92\n"), Ok(entries.to_vec()));
    assert_eq!(format_leader_epochs(&[]), "0\n0\n");
    assert_eq!(parse_leader_epochs(b"0\n0\n"), Ok(vec![]));
}

#[test]
fn offsets_of_partitions_have_the_text_that_kafka_writes() {
    let entries = [at("orders", 7, 1203), at("a.b-c", 0, i64::MAX)];
    let text = "0\n2\norders 7 1203\na.b-c 0 9223372036854775807\n";
    assert_eq!(format_partition_offsets(&entries), text);
    assert_eq!(parse_partition_offsets(text.as_bytes()), Ok(entries.to_vec()));
}

#[test]
fn an_empty_file_is_an_empty_list() {
    assert_eq!(parse_leader_epochs(b""), Ok(vec![]));
    assert_eq!(parse_partition_offsets(b""), Ok(vec![]));
}

#[test]
fn line_ends_of_windows_are_read() {
    assert_eq!(parse_leader_epochs(b"0\r\n1\r\n4 5\r\n"), Ok(vec![start(4, 5)]));
}

#[test]
fn a_file_that_breaks_the_format_is_refused_at_the_line() {
    let refused = |text: &[u8]| {
        let error = parse_leader_epochs(text).unwrap_err();
        (error.field, error.at)
    };
    assert_eq!(refused(b"1\n0\n"), ("version", 0));
    assert_eq!(refused(b"x\n0\n"), ("version", 0));
    assert_eq!(refused(b"\n"), ("version", 0));
    assert_eq!(refused(b"0"), ("version", 0));
    assert_eq!(refused(b"0\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n-1\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n2\n0 0\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n1\n0 0\n1 1\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n99999999999999999999\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n18446744073709551615\n0 0\n"), ("number of entries", 2));
    assert_eq!(refused(b"0\n1\n0 0\n\n"), ("entry", 8));
    assert_eq!(refused(b"0\n1\n0 0 0\n"), ("entry", 4));
    assert_eq!(refused(b"0\n1\n0  0\n"), ("entry", 4));
    assert_eq!(refused(b"0\n1\n0\n"), ("entry", 4));
    assert_eq!(refused(b"0\n1\n-1 0\n"), ("entry", 4));
    assert_eq!(refused(b"0\n1\n0 +1\n"), ("entry", 4));
    assert_eq!(refused(b"0\n1\n2147483648 0\n"), ("entry", 4));
    assert_eq!(refused(b"0\n1\n0 \xff\n"), ("checkpoint file", 6));
}

#[test]
fn a_topic_that_is_no_topic_is_refused() {
    for line in ["../x 0 1", "a -1 1", "a 0", " 0 1"] {
        let text = format!("0\n1\n{line}\n");
        assert_eq!(parse_partition_offsets(text.as_bytes()).unwrap_err().field, "entry", "{line}");
    }
}

/// A reader that takes the last line without its end would take `3 9` for `3 92`.
#[test]
fn every_cut_is_noticed() {
    let text = b"0\n2\n0 0\n3 92\n";
    for len in 1..text.len() {
        assert!(parse_leader_epochs(&text[..len]).is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn any_entries_survive_the_round_trip(epochs in proptest::collection::vec((0..=i32::MAX, 0..=i64::MAX), 0..9)) {
        let entries: Vec<_> = epochs.iter().map(|(epoch, offset)| start(*epoch, *offset)).collect();
        prop_assert_eq!(parse_leader_epochs(format_leader_epochs(&entries).as_bytes()), Ok(entries));
        let offsets: Vec<_> = epochs.iter().map(|(partition, offset)| at("t.x-y", *partition, *offset)).collect();
        prop_assert_eq!(parse_partition_offsets(format_partition_offsets(&offsets).as_bytes()), Ok(offsets));
    }

    #[test]
    fn text_of_any_kind_never_makes_the_parser_panic(text in "0?\n?[0-9]{0,2}\n\\PC{0,20}\n?") {
        let _ = parse_leader_epochs(text.as_bytes());
        let _ = parse_partition_offsets(text.as_bytes());
    }
}
