use proptest::prelude::*;

use super::*;

#[test]
fn every_name_reads_back_as_what_it_was_made_of() {
    let at = Offset(60);
    assert_eq!(log_name(at), "00000000000000000060.log");
    assert_eq!(FileName::parse(&log_name(at)), FileName::Log(at));
    assert_eq!(FileName::parse(&index_name(at)), FileName::Index(at));
    assert_eq!(FileName::parse(&time_index_name(at)), FileName::TimeIndex(at));
    assert_eq!(FileName::parse(&txn_index_name(at)), FileName::TxnIndex(at));
    assert_eq!(FileName::parse(&snapshot_name(at)), FileName::Snapshot(at));
    assert_eq!(FileName::parse(&run_name(7)), FileName::Run(7));
    assert_eq!(FileName::parse(&keepsake_name(at, 2)), FileName::Keepsake { offset: at, number: 2 });
    assert_eq!(FileName::parse(MANIFEST), FileName::Manifest);
    assert_eq!(FileName::parse(WATERMARK), FileName::Watermark);
    assert_eq!(FileName::parse(LOG_LOCK), FileName::LogLock);
    assert_eq!(FileName::parse(NEXT_SEGMENT), FileName::NextSegment);
    assert_eq!(FileName::parse(MOVE), FileName::Move);
    assert_eq!(FileName::parse(LEADER_EPOCHS), FileName::LeaderEpochs);
    assert_eq!(FileName::parse(PARTITION_METADATA), FileName::PartitionMetadata);
}

/// Kafka: `LocalLogTest.testOffsetFromFile`.
#[test]
fn the_offset_of_a_file_is_the_number_in_its_name() {
    assert_eq!(FileName::parse("00000000000023423423.log"), FileName::Log(Offset(23_423_423)));
    assert_eq!(FileName::parse("09223372036854775807.snapshot"), FileName::Snapshot(Offset(i64::MAX)));
    assert_eq!(FileName::parse("09223372036854775808.log"), FileName::Unknown, "past the last offset");
}

#[test]
fn a_name_that_is_spelled_otherwise_is_nobodys() {
    for name in [
        "",
        ".",
        "60.log",
        "000000000000000000060.log",
        "-0000000000000000060.log",
        "+0000000000000000060.log",
        "00000000000000000060.log ",
        "00000000000000000060.LOG",
        "00000000000000000060",
        "00000000000000000060.",
        "00000000000000000060.log.bak",
        "producers.07.run",
        "producers..run",
        "producers.-1.run",
        "producers.18446744073709551616.run",
        "producers.1.2.run",
        "salvage.1.bin",
        "salvage.1.01.bin",
        "salvage.9223372036854775808.0.bin",
        "oncelog.tmp",
        ".tmp",
        "oncelog.manifest.tmp.tmp",
        "salvage.1.0.bin.tmp",
        "oncelog.manifest2",
    ] {
        assert_eq!(FileName::parse(name), FileName::Unknown, "{name:?}");
    }
}

#[test]
fn leftovers_of_kafka_keep_the_name_they_had() {
    let name = "00000000000000000060.log.swap";
    assert_eq!(FileName::parse(name), FileName::KafkaLeftover(LeftoverSuffix::Swap));
    assert_eq!(LeftoverSuffix::Swap.stem(name), Some("00000000000000000060.log"));
    assert_eq!(LeftoverSuffix::Cleaned.stem(name), None);
    let deleted = FileName::parse("00000000000000000060.snapshot.deleted");
    assert_eq!(deleted, FileName::KafkaLeftover(LeftoverSuffix::Deleted));
    let cleaned = FileName::parse("00000000000000000060.timeindex.cleaned");
    assert_eq!(cleaned, FileName::KafkaLeftover(LeftoverSuffix::Cleaned));
}

#[test]
fn a_file_in_the_making_is_known_by_what_it_becomes() {
    assert_eq!(temporary_name(MANIFEST), "oncelog.manifest.tmp");
    assert_eq!(temporary_name(&run_name(3)), "producers.3.run.tmp");
    for name in [MANIFEST, WATERMARK, LEADER_EPOCHS, &run_name(3), &snapshot_name(Offset(9))] {
        assert_eq!(FileName::parse(&temporary_name(name)), FileName::Temporary, "{name}");
    }
}

#[test]
fn kafka_leaves_every_name_of_ours_alone() {
    let suffixes =
        [".log", ".index", ".timeindex", ".txnindex", ".snapshot", ".deleted", ".cleaned", ".swap"];
    let ours =
        [MANIFEST, WATERMARK, LOG_LOCK, NEXT_SEGMENT, MOVE, PRODUCER_IDS, PRODUCER_IDS_LOCK, PRODUCER_NAMES]
            .map(str::to_owned);
    let made = [run_name(0), keepsake_name(Offset(5), 0), temporary_name(&run_name(5))];
    for name in ours.into_iter().chain(made) {
        assert!(!name.starts_with(|first: char| first.is_ascii_digit()), "{name}");
        assert!(!suffixes.iter().any(|suffix| name.ends_with(suffix)), "{name}");
    }
}

fn partition(topic: &str, partition: i32) -> PartitionName {
    PartitionName::new(topic, partition).unwrap()
}

/// Kafka: `LocalLogTest.testParseTopicPartitionName`.
#[test]
fn a_partition_directory_is_divided_at_its_last_hyphen() {
    assert_eq!(PartitionName::parse("test_topic-143"), Ok(partition("test_topic", 143)));
    assert_eq!(PartitionName::parse("a-7-0"), Ok(partition("a-7", 0)));
    assert_eq!(PartitionName::parse("a--1"), Ok(partition("a-", 1)));
    assert_eq!(partition("foo.bar-testtopic", 42).to_string(), "foo.bar-testtopic-42");
    assert_eq!(DirName::parse("t-2147483647"), DirName::Partition(partition("t", i32::MAX)));
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameWithPeriodForDeletedTopic`.
#[test]
fn a_directory_that_kafka_is_deleting_moving_or_has_no_owner_for_is_recognised() {
    let id = "0123456789abcdef0123456789ABCDEF";
    let of = partition("foo.bar-testtopic", 42);
    assert_eq!(DirName::parse(&format!("{of}.{id}-delete")), DirName::Deleting(of.clone()));
    assert_eq!(DirName::parse(&format!("{of}.{id}-stray")), DirName::Stray(of.clone()));
    assert_eq!(DirName::parse(&format!("{of}.{id}-future")), DirName::Future(of));
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameForEmptyName`.
#[test]
fn an_empty_directory_name_is_refused() {
    let error = PartitionName::parse("").unwrap_err();
    assert_eq!((error.field, error.at), ("partition directory", 0));
    assert_eq!(DirName::parse(""), DirName::Other);
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameForMissingSeparator`.
#[test]
fn a_directory_name_without_a_hyphen_is_refused() {
    assert_eq!(PartitionName::parse("test_topic1999").unwrap_err().field, "partition directory");
    assert_eq!(DirName::parse("topic.0123456789abcdef0123456789abcdef-delete"), DirName::Other);
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameForMissingTopic`.
#[test]
fn a_directory_name_without_a_topic_is_refused() {
    let error = PartitionName::parse("-1999").unwrap_err();
    assert_eq!((error.field, error.found.as_str()), ("topic", "0 bytes"));
    assert_eq!(DirName::parse("-1999.0123456789abcdef0123456789abcdef-delete"), DirName::Other);
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameForMissingPartition`.
#[test]
fn a_directory_name_without_a_partition_is_refused() {
    let error = PartitionName::parse("test_topic-").unwrap_err();
    assert_eq!((error.field, error.at), ("partition", 11));
    assert_eq!(DirName::parse("test_topic-.0123456789abcdef0123456789abcdef-delete"), DirName::Other);
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameForNonNumericPartition`.
#[test]
fn a_partition_that_is_not_a_number_is_refused() {
    for name in ["test_topic-1999a", "t-+1", "t-007", "t- 1", "t-2147483648", "t-99999999999999999999"] {
        assert_eq!(PartitionName::parse(name).unwrap_err().field, "partition", "{name}");
    }
}

/// Kafka: `LocalLogTest.testParseTopicPartitionNameForExistingInvalidDir`.
#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    for name in [
        "non_kafka_dir",
        "non-kafka-dir-delete",
        "t-0.short-delete",
        "t-0.0123456789abcdef0123456789abcdef-gone",
    ] {
        assert_eq!(DirName::parse(name), DirName::Other, "{name}");
    }
}

#[test]
fn a_topic_cannot_lead_out_of_the_root() {
    for topic in ["", ".", "..", "a/b", "../a", "a\\b", "a b", "ä", "a\0"] {
        assert_eq!(PartitionName::new(topic, 0).unwrap_err().field, "topic", "{topic:?}");
    }
    assert_eq!(PartitionName::new(&"a".repeat(250), 0).unwrap_err().found, "250 bytes");
    assert_eq!(PartitionName::new("a", -1).unwrap_err().field, "partition");
}

proptest! {
    #[test]
    fn any_partition_reads_back(topic in "[a-zA-Z0-9._-]{1,40}", number in 0..=i32::MAX) {
        prop_assume!(topic != "." && topic != "..");
        let name = partition(&topic, number);
        prop_assert_eq!(PartitionName::parse(&name.to_string()), Ok(name));
    }

    #[test]
    fn no_name_makes_the_parser_panic_and_a_known_file_is_spelled_one_way(name in "\\PC{0,40}|[0-9]{18,21}\\.(log|index|run)") {
        let again = match FileName::parse(&name) {
            FileName::Log(base) => log_name(base),
            FileName::Index(base) => index_name(base),
            FileName::Run(number) => run_name(number),
            _ => name.clone(),
        };
        prop_assert_eq!(again, name.clone());
        let _ = DirName::parse(&name);
    }
}

/// Kafka: `LocalLogTest.testLogDeleteDirName`.
#[test]
fn the_name_of_a_deleted_partition_fits_and_says_what_it_was() {
    let short = PartitionName::new("orders", 3).unwrap();
    let name = short.deleting_name(0xab);
    assert_eq!(name, "orders-3.000000000000000000000000000000ab-delete");
    assert_eq!(DirName::parse(&name), DirName::Deleting(short));
    let long = PartitionName::new(&"n".repeat(MAX_TOPIC_LENGTH), 3).unwrap();
    let name = long.deleting_name(u128::MAX);
    assert_eq!(name.len(), 255);
    let shortened = PartitionName::new(&"n".repeat(255 - 42), 3).unwrap();
    assert_eq!(DirName::parse(&name), DirName::Deleting(shortened));
}
