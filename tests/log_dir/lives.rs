//! A root from its beginning to its end.

use std::sync::{Arc, Mutex};

use oncelog::recovery::RecoveryKind;
use oncelog::storage::{MemoryStorage, OperationKind};
use oncelog::{
    Durability, Error, Id, Log, LogDir, LogDirConfig, Offset, Outcome, PartitionState, RootIdentity,
};

use crate::world::{
    ROOT, append, batch, config, content_of, environment, filled, image_text, is_marked, log_config, name,
    names, open, open_with, text,
};

#[test]
fn what_was_closed_in_order_is_opened_without_a_write_and_closed_without_one() {
    let disk = MemoryStorage::new();
    filled(&disk, &[3, 0, 20]).close().unwrap();
    assert!(is_marked(&disk));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    disk.on_operation(move |operation, _| told.lock().unwrap().push(operation.kind));
    let (dir, report) = open(&disk);
    assert!(report.clean_shutdown);
    let kinds: Vec<_> = report.partitions.values().map(|found| found.as_ref().unwrap().kind).collect();
    assert_eq!(kinds, [RecoveryKind::Clean; 3]);
    assert_eq!(content_of(&dir, &name("t", 0)), [0, 1, 2]);
    assert_eq!(content_of(&dir, &name("t", 1)), []);
    assert_eq!(content_of(&dir, &name("t", 2)), (0..20).collect::<Vec<_>>());
    dir.rest();
    dir.close().unwrap();
    // The name of the root may have been made by a process that died before it synced it.
    assert_eq!(
        *seen.lock().unwrap(),
        [OperationKind::CreateDir, OperationKind::SyncDir, OperationKind::SyncDir]
    );
    assert!(is_marked(&disk));
}

#[test]
fn the_mark_goes_durably_before_the_first_write_and_comes_back_as_the_last() {
    let disk = MemoryStorage::new();
    filled(&disk, &[1, 1]).close().unwrap();
    let (dir, _) = open(&disk);
    append(&dir.get(&name("t", 1)).unwrap().log().unwrap(), 1, [1]);
    assert_eq!(image_text(&disk.power_cut(), ".kafka_cleanshutdown"), None);
    dir.close().unwrap();
    assert_eq!(text(&disk, ".kafka_cleanshutdown").unwrap(), "{\"version\":0,\"brokerEpoch\":-1}");
    // The slots of the watermark are a lower bound; the manifest says it better by now.
    let pending: Vec<_> = disk
        .pending()
        .into_iter()
        .filter(|change| !format!("{change:?}").contains("oncelog.watermark"))
        .collect();
    assert_eq!(pending, []);
}

#[test]
fn a_root_that_was_dropped_is_recovered_and_has_every_acknowledged_batch() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[5]);
    let buffered = dir.get(&name("t", 0)).unwrap().log().unwrap();
    buffered.append(batch(1, 5), Durability::Buffered).unwrap();
    drop(buffered);
    drop(dir);
    assert!(!is_marked(&disk));
    let (dir, report) = open(&disk);
    assert!(!report.clean_shutdown);
    assert_eq!(report.partitions[&name("t", 0)].as_ref().unwrap().kind, RecoveryKind::Unclean);
    assert_eq!(content_of(&dir, &name("t", 0)), [0, 1, 2, 3, 4, 5]);
    let retry =
        dir.get(&name("t", 0)).unwrap().log().unwrap().append(batch(1, 3), Durability::Durable).unwrap();
    assert_eq!((retry.outcome, retry.base_offset), (Outcome::Duplicate, Some(Offset(3))));
}

#[test]
fn a_log_that_rests_is_opened_by_its_next_use_and_keeps_its_epoch() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[4]);
    let partition = dir.get(&name("t", 0)).unwrap();
    partition.log().unwrap().begin_leader_epoch(oncelog::LeaderEpoch(7)).unwrap();
    let held = partition.log().unwrap();
    dir.rest();
    assert!(matches!(partition.state(), PartitionState::Open { .. }), "somebody holds it");
    drop(held);
    dir.rest();
    let PartitionState::Resting { log_start_offset, log_end_offset } = partition.state() else {
        panic!("{:?}", partition.state())
    };
    assert_eq!((log_start_offset, log_end_offset), (Offset(0), Offset(4)));
    assert_eq!(dir.descriptors().0, 0);
    append(&partition.log().unwrap(), 1, [4]);
    assert!(dir.descriptors().0 > 0);
    let fetched = partition.log().unwrap().fetch(Offset(4), 1 << 20, oncelog::Isolation::LogEnd).unwrap();
    assert_eq!(fetched.first_batch().unwrap().leader_epoch, oncelog::LeaderEpoch(7));
}

#[test]
fn whoever_holds_a_log_of_a_closed_root_is_told_that_it_is_closed() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[2]);
    let partition = dir.get(&name("t", 0)).unwrap();
    let log = partition.log().unwrap();
    dir.close().unwrap();
    let before = disk.operations();
    assert!(matches!(log.append(batch(1, 2), Durability::Durable), Err(Error::Closed)));
    assert!(matches!(log.fetch(Offset(0), 100, oncelog::Isolation::LogEnd), Err(Error::Closed)));
    assert!(log.checkpoint().is_err());
    log.maintain().ok();
    log.flush().ok();
    assert!(matches!(partition.log(), Err(Error::Closed)));
    drop(log);
    assert_eq!(disk.operations(), before, "its directory may be another's");
}

#[test]
fn one_lock_keeps_everybody_else_out() {
    let disk = MemoryStorage::new();
    let dir = filled(&disk, &[1]);
    let log = |dir: &str| Log::open_with(dir, log_config(), environment(&disk)).map(drop);
    assert!(matches!(log("/data/t-0"), Err(Error::Locked { .. })));
    assert!(matches!(log("/data/new-0"), Err(Error::Locked { .. })));
    assert!(matches!(LogDir::open(ROOT, config(), environment(&disk)), Err(Error::Locked { .. })));
    dir.close().unwrap();
    let alone = Log::open_with("/data/t-0", log_config(), environment(&disk)).unwrap();
    assert!(matches!(LogDir::open(ROOT, config(), environment(&disk)), Err(Error::Locked { .. })));
    drop(alone);
    open(&disk);
}

#[test]
fn a_partition_is_made_once_and_may_have_settings_and_a_topic_id_of_its_own() {
    let disk = MemoryStorage::new();
    let (dir, _) = open(&disk);
    let config = oncelog::LogConfig { max_batch_bytes: 61, ..log_config() };
    dir.create_of_topic(&name("a", 0), config.clone(), Id([7; 16])).unwrap();
    let again = dir.create(&name("a", 0), log_config()).unwrap_err();
    assert_eq!(again.to_string(), "misuse: partition a-0 is there already");
    assert_eq!(
        text(&disk, "a-0/partition.metadata").unwrap(),
        "version: 0\ntopic_id: BwcHBwcHBwcHBwcHBwcHBw"
    );
    let log = dir.get(&name("a", 0)).unwrap().log().unwrap();
    assert!(matches!(log.append(batch(1, 0), Durability::Durable), Err(Error::Rejected(_))), "too large");
    assert_eq!(
        image_text(&disk.power_cut(), "a-0/partition.metadata"),
        text(&disk, "a-0/partition.metadata")
    );
    drop(log);
    dir.close().unwrap();
    let config_of: oncelog::ConfigOf = std::sync::Arc::new(move |_| config.clone());
    let (dir, _) = open_with(&disk, LogDirConfig { config_of: Some(config_of), ..crate::world::config() });
    assert_eq!(dir.get(&name("a", 0)).unwrap().topic_id().unwrap(), Some(Id([7; 16])));
    let log = dir.get(&name("a", 0)).unwrap().log().unwrap();
    assert!(
        matches!(log.append(batch(1, 0), Durability::Durable), Err(Error::Rejected(_))),
        "still too large"
    );
}

#[test]
fn a_root_of_another_node_is_refused_and_a_new_one_gets_its_identity() {
    let disk = MemoryStorage::new();
    let identity = RootIdentity { cluster_id: "c".to_owned(), node_id: 1, directory_id: Some(Id([1; 16])) };
    let with = |identity: RootIdentity| {
        let config = LogDirConfig { identity: Some(identity), ..config() };
        LogDir::open(ROOT, config, environment(&disk)).map(|(dir, _)| dir)
    };
    with(identity.clone()).unwrap().close().unwrap();
    assert_eq!(
        text(&disk, "meta.properties").unwrap(),
        "#\nversion=1\ncluster.id=c\nnode.id=1\ndirectory.id=AQEBAQEBAQEBAQEBAQEBAQ\n"
    );
    with(identity.clone()).unwrap().close().unwrap();
    let other = with(RootIdentity { node_id: 2, ..identity.clone() }).unwrap_err();
    assert_eq!(
        other.to_string(),
        "misuse: /data belongs to node 1 of cluster c; asked for is node 2 of cluster c"
    );
    assert!(with(RootIdentity { directory_id: Some(Id([2; 16])), ..identity }).is_err());
}

#[test]
fn an_empty_root_is_marked_too() {
    let disk = MemoryStorage::new();
    open(&disk).0.close().unwrap();
    assert_eq!(
        names(&disk),
        [
            ".kafka_cleanshutdown",
            ".lock",
            "log-start-offset-checkpoint",
            "recovery-point-offset-checkpoint",
            "replication-offset-checkpoint"
        ]
    );
}

#[test]
fn many_partitions_are_made_at_once_and_one_that_cannot_be_stops_no_other() {
    let disk = MemoryStorage::new();
    let log = oncelog::LogConfig { background: oncelog::Background::Threads, ..log_config() };
    let (dir, _) = open_with(&disk, LogDirConfig { log, descriptors: Some(64), ..config() });
    dir.create(&name("t", 3), log_config()).unwrap();
    let names: Vec<_> = (0..100).map(|partition| name("t", partition)).collect();
    let made = dir.create_all(&names, &log_config());
    for (partition, made) in names.iter().zip(made) {
        match made {
            Ok(made) => {
                assert_eq!(made.name(), partition);
                append(&made.log().unwrap(), 1, [0]);
            }
            Err(error) => assert_eq!(error.to_string(), "misuse: partition t-3 is there already"),
        }
    }
    assert!(dir.descriptors().0 <= 64 + 8, "{:?}", dir.descriptors());
    let after = MemoryStorage::from_image(&disk.power_cut());
    let (dir, report) = open(&after);
    assert_eq!((report.partitions.len(), report.failed().count()), (100, 0));
    assert_eq!(content_of(&dir, &name("t", 99)), [0]);
}
