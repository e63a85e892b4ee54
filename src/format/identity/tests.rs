use proptest::prelude::*;

use super::*;

#[test]
fn an_id_has_the_text_that_kafka_gives_it() {
    // Kafka: `UuidTest`, and a directory formatted by Kafka 4.3.1.
    assert_eq!(Id([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(Id([0xff; 16]).to_string(), "_____________________w");
    let mut one = [0; 16];
    one[15] = 1;
    assert_eq!(Id(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
}

#[test]
fn an_id_with_another_length_letter_or_end_is_refused() {
    assert_eq!(Id::parse("AAAA").unwrap_err().found, "4 bytes");
    assert_eq!(Id::parse("AAAAAAAAAAAAAAAA+AAAAA").unwrap_err().at, 16);
    assert_eq!(Id::parse("AAAAAAAAAAAAAAAAAAAAAB").unwrap_err().expected, "A, Q, g or w");
}

#[test]
fn the_properties_of_a_root_read_back() {
    let identity = RootIdentity {
        cluster_id: "MkU3OEVBNTcwNTJENDM2Qg".to_owned(),
        node_id: 1,
        directory_id: Some(Id([7; 16])),
    };
    let text = identity.to_string();
    assert_eq!(
        text,
        "#\nversion=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\nnode.id=1\ndirectory.id=BwcHBwcHBwcHBwcHBwcHBw\n"
    );
    assert_eq!(RootIdentity::parse(text.as_bytes()), Ok(identity));
}

#[test]
fn the_properties_of_an_old_broker_are_read_too() {
    let text = b"#Fri Nov 20 10:00:00 UTC 2020\nbroker.id=3\nversion=0\ncluster.id=abc\n";
    let expected = RootIdentity { cluster_id: "abc".to_owned(), node_id: 3, directory_id: None };
    assert_eq!(RootIdentity::parse(text), Ok(expected));
}

#[test]
fn properties_without_a_cluster_or_with_a_strange_node_are_refused() {
    assert_eq!(RootIdentity::parse(b"version=1\nnode.id=1\n").unwrap_err().field, "cluster.id");
    assert_eq!(RootIdentity::parse(b"cluster.id=a\nnode.id=x\n").unwrap_err().at, 13);
    assert_eq!(RootIdentity::parse(b"nonsense\n").unwrap_err().field, "property");
}

#[test]
fn the_topic_id_of_a_partition_reads_back() {
    let text = partition_metadata(Id([7; 16]));
    assert_eq!(text, "version: 0\ntopic_id: BwcHBwcHBwcHBwcHBwcHBw");
    assert_eq!(parse_partition_metadata(text.as_bytes()), Ok(Id([7; 16])));
    assert_eq!(parse_partition_metadata(b"version: 1\n").unwrap_err().found, "1");
    assert_eq!(parse_partition_metadata(b"").unwrap_err().field, "version");
}

proptest! {
    #[test]
    fn every_id_reads_back(bytes: [u8; 16]) {
        prop_assert_eq!(Id::parse(&Id(bytes).to_string()), Ok(Id(bytes)));
    }
}
