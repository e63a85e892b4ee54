//! Few descriptors for many partitions, on the real file system.

#![expect(clippy::disallowed_methods, reason = "it counts the descriptors of the process")]

use std::fs;

use oncelog::{Background, Durability, Environment, LogConfig, LogDir, LogDirConfig};

use crate::world::{append, batch, content_of, log_config, name};

const PARTITIONS: i32 = 120;
const BUDGET: usize = 40;

fn open_under(root: &std::path::Path) -> usize {
    let root = root.to_str().unwrap();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_str().is_some_and(|target| target.starts_with(root))).count()
}

fn config() -> LogDirConfig {
    let log = LogConfig { background: Background::Threads, ..log_config() };
    LogDirConfig { log, descriptors: Some(BUDGET), open_threads: 2, ..LogDirConfig::default() }
}

#[test]
fn a_hundred_partitions_are_used_in_turn_with_a_few_descriptors() {
    let root = tempfile::tempdir().unwrap();
    let (dir, _) = LogDir::open(root.path(), config(), Environment::default()).unwrap();
    let mut most = 0;
    for partition in 0..PARTITIONS {
        append(&dir.create(&name("t", partition), log_config()).unwrap().log().unwrap(), 1, [0]);
        most = most.max(open_under(root.path()));
    }
    for sequence in [1, 2] {
        for partition in (0..PARTITIONS).step_by(3) {
            append(&dir.get(&name("t", partition)).unwrap().log().unwrap(), 1, [sequence]);
            most = most.max(open_under(root.path()));
        }
    }
    // The root's lock, and what a checkpoint or a close opens for a moment.
    assert!(most <= BUDGET + 12, "{most} descriptors");
    assert_eq!(content_of(&dir, &name("t", 3)), [0, 1, 2]);
    assert_eq!(content_of(&dir, &name("t", 4)), [0]);
    dir.rest();
    assert!(open_under(root.path()) <= 1, "an idle log costs none, the root its lock");
    dir.close().unwrap();
    assert_eq!(open_under(root.path()), 0);
    let (dir, report) = LogDir::open(root.path(), config(), Environment::default()).unwrap();
    assert!(report.clean_shutdown && report.failed().count() == 0);
    assert_eq!(dir.partitions().len(), usize::try_from(PARTITIONS).unwrap());
    let retry = dir.get(&name("t", 3)).unwrap().log().unwrap().append(batch(1, 1), Durability::Durable);
    assert_eq!(retry.unwrap().base_offset, Some(oncelog::Offset(1)));
}
