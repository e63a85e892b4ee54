//! Runs every kept input of the fuzz targets on stable Rust: the seeds in `fuzz/corpus`, and in `fuzz/regressions` each
//! input that once broke a promise.
//!
//! A finding also becomes a plain test with a name, below or beside the code it was in; the file alone would say that
//! something was wrong, not what.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its inputs fails")]
#![expect(clippy::disallowed_methods, reason = "it reads inputs, not a log")]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
pub mod targets;

type Target = fn(&[u8]);

/// Every target under its name in `fuzz/Cargo.toml`.
const TARGETS: &[(&str, Target)] = &[
    ("batch_decode", targets::batch_decode::run),
    ("dir_open", targets::dir_open::run),
    ("index_lookup", targets::index_lookup::run),
    ("run_parse", targets::run_parse::run),
    ("snapshot_parse", targets::snapshot_parse::run),
];

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn kept(kind: &str, target: &str) -> Vec<PathBuf> {
    let Ok(dir) = fs::read_dir(fuzz_dir().join(kind).join(target)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = dir.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str) {
    let run = TARGETS.iter().find(|(name, _)| *name == target).unwrap().1;
    let seeds = kept("corpus", target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for path in seeds.into_iter().chain(kept("regressions", target)) {
        let data = fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| run(&data));
        assert!(outcome.is_ok(), "{} breaks a promise; what it is stands above", path.display());
    }
}

#[test]
fn every_kept_batch_keeps_its_promises() {
    replay("batch_decode");
}

#[test]
fn every_kept_directory_keeps_its_promises() {
    replay("dir_open");
}

#[test]
fn every_kept_index_keeps_its_promises() {
    replay("index_lookup");
}

#[test]
fn every_kept_run_keeps_its_promises() {
    replay("run_parse");
}

#[test]
fn every_kept_snapshot_keeps_its_promises() {
    replay("snapshot_parse");
}

#[test]
fn every_target_of_the_fuzzer_is_replayed() {
    let manifest = fs::read_to_string(fuzz_dir().join("Cargo.toml")).unwrap();
    let mut named: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    named.sort_unstable();
    let replayed: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, replayed);
}
