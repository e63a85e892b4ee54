//! Which runs the state is built on, and when it can be built on none.

use super::world::{World, checkpointed, corrupt, state};
use crate::recovery::RecoveryKind;
use crate::types::{History, Offset};

#[test]
fn a_lost_or_damaged_newest_run_means_the_chain_without_it() {
    for damaged in [false, true] {
        let world = checkpointed();
        if damaged {
            let mut bytes = world.everything()[&world.path("producers.2.run")].clone();
            bytes[20] ^= 1;
            world.put("producers.2.run", &bytes);
        } else {
            world.remove("producers.2.run");
        }
        let recovered = world.open().unwrap();
        assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [1]);
        assert_eq!(recovered.report.rejected[0].file, "producers.2.run");
        assert_eq!(state(&recovered), world.fold(world.end()));
        assert_eq!(recovered.manifest.chain.len(), 1);
        assert_eq!(recovered.manifest.previous_chain.len(), 1);
    }
}

#[test]
fn a_lost_base_means_the_previous_chain() {
    let world = checkpointed();
    world.remove("producers.1.run");
    let recovered = world.open().unwrap();
    let chain = recovered.report.chain.as_ref().unwrap();
    assert_eq!((&chain.runs[..], chain.previous), (&[0][..], true));
    assert_eq!(state(&recovered), world.fold(world.end()));
    assert!(!world.everything().contains_key(&world.path("producers.2.run")), "named no more, so deleted");
}

#[test]
fn without_any_run_a_whole_log_is_replayed() {
    let world = checkpointed();
    for number in 0..3 {
        world.remove(&format!("producers.{number}.run"));
    }
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.chain, None);
    assert_eq!(state(&recovered), world.fold(world.end()));
    assert!(recovered.report.unverified_bytes > 0);
    assert_eq!(recovered.aborted.iter().map(|segment| segment.entries.len()).collect::<Vec<_>>(), [0, 1, 0]);
}

#[test]
fn without_any_run_a_log_without_its_beginning_is_refused_and_nothing_is_changed() {
    let world = checkpointed();
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.log_start_offset = Offset(world.segments[1].0);
    manifest.chain = vec![world.run(5, -1, 24)];
    world.put_manifest(&manifest);
    world.remove(&world.log(0));
    world.remove("producers.5.run");
    let before = world.everything();
    let found = corrupt(world.open().unwrap_err());
    assert_eq!(world.everything(), before);
    assert_eq!(found.what, "producer state");
    assert!(found.found.contains("producers.5.run"), "{}", found.found);

    let recovered = world.salvage().unwrap();
    assert_eq!(recovered.manifest.history, History::Salvaged);
    assert_eq!(state(&recovered), world.fold_from(world.segments[1].0, world.end()));
    assert_eq!(recovered.chain.len(), 1, "what was found is written down at once");
}

#[test]
fn a_chain_that_ends_where_our_own_retention_cut_needs_no_fingerprint() {
    let world = checkpointed();
    let start = world.segments[1].0;
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.chain = vec![world.run(5, -1, start)];
    manifest.log_start_offset = Offset(start);
    world.put_manifest(&manifest);
    // The crash came before the segment was unlinked: it is below the log start, and goes now.
    let recovered = world.open().unwrap();
    assert_eq!(state(&recovered), world.fold(world.end()));
    assert_eq!(recovered.segments[0].base, Offset(start));
    assert!(!world.everything().contains_key(&world.path(&world.log(0))));

    let mut manifest = recovered.manifest.clone();
    manifest.log_start_offset = Offset::ZERO;
    world.put_manifest(&manifest);
    assert_eq!(corrupt(world.open().unwrap_err()).what, "producer state");
}

#[test]
fn a_chain_whose_batch_is_another_is_not_used() {
    let world = checkpointed();
    let mut manifest = world.manifest(world.segments[2].0);
    manifest.chain = vec![world.run(6, -1, 24)];
    world.put_manifest(&manifest);
    // The batch that ends at 24 gets another CRC, and so do its bytes: a valid batch, but not that one.
    let hit = world.batches.iter().find(|batch| batch.header.next_offset().0 == 24).unwrap().clone();
    let mut bytes = world.bytes_of(1);
    let range = hit.position..hit.position + hit.header.size();
    bytes[range.start + 35 + 7] ^= 1;
    let crc = crate::format::batch::crc32c(&bytes[range.start + 21..range.end]);
    bytes[range.start + 17..range.start + 21].copy_from_slice(&crc.to_be_bytes());
    world.put(&world.log(1), &bytes);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.chain, None, "the whole log is there");
    assert_eq!(recovered.report.rejected[0].file, "producers.6.run");
}

#[test]
fn a_damaged_run_in_a_log_closed_in_order_is_replaced_without_a_write() {
    let world = checkpointed();
    let mut manifest = world.manifest(world.end());
    manifest.chain = vec![world.run(7, -1, 22), world.run(8, 22, world.end())];
    manifest.clean_close = Some(world.end_point());
    world.put_manifest(&manifest);
    world.remove("producers.8.run");
    let operations = world.memory.operations();
    let recovered = world.open().unwrap();
    assert_eq!(world.memory.operations(), operations);
    assert_eq!(recovered.report.kind, RecoveryKind::Clean);
    assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [7]);
    assert_eq!(recovered.report.rejected[0].file, "producers.8.run");
    assert_eq!(state(&recovered), world.fold(world.end()));
}

#[test]
fn a_lost_or_damaged_manifest_is_put_together_from_the_runs() {
    for damaged in [false, true] {
        let world = checkpointed();
        world.put_slot(world.end(), 2);
        if damaged {
            world.put("oncelog.manifest", b"nonsense");
        } else {
            world.remove("oncelog.manifest");
        }
        let recovered = world.open().unwrap();
        assert_eq!(recovered.report.kind, RecoveryKind::ManifestLost);
        assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [1, 2]);
        assert_eq!(recovered.report.watermark, world.point(22));
        assert_eq!(recovered.manifest.truncation_generation, 3, "so that the slots do not count");
        assert_eq!(state(&recovered), world.fold(world.end()));
        assert!(recovered.report.rejected.iter().any(|rejected| rejected.file == "oncelog.watermark"));
    }
}

#[test]
fn a_compacted_log_without_its_runs_is_refused_and_one_that_never_had_any_is_replayed() {
    // A batch in the middle of the first segment is gone, as compaction leaves it.
    let full = World::mixed();
    let gone = full.batches[3].clone();
    let mut bytes = full.bytes_of(0);
    bytes.drain(gone.position..gone.position + gone.header.size());
    for had_runs in [true, false] {
        let mut world = World::mixed();
        world.segments[0].1 = bytes.clone();
        world.put_segments();
        let mut manifest = world.manifest(world.segments[2].0);
        if had_runs {
            manifest.chain = vec![world.run(1, -1, 22)];
        }
        world.put_manifest(&manifest);
        if had_runs {
            world.remove("producers.1.run");
        }
        let options = crate::recovery::RecoveryOptions {
            density: crate::segment::scan::Density::Sparse,
            ..crate::recovery::RecoveryOptions::default()
        };
        let made = crate::recovery::plan(&world.storage, std::path::Path::new(super::world::DIR), &options);
        if had_runs {
            let found = corrupt(made.unwrap_err());
            assert_eq!(found.what, "producer state");
            assert!(found.found.contains("compaction"), "{}", found.found);
        } else {
            assert_eq!(made.unwrap().log_end_offset(), Offset(world.end()));
        }
    }
}

#[test]
fn a_salvage_below_the_newest_run_uses_the_chain_without_it() {
    let world = checkpointed();
    let mut bytes = world.bytes_of(1);
    // The batch at the watermark, which is looked at, and one below the end of the newest run, which is not.
    for base in [30, 19] {
        let hit = world.batches.iter().find(|batch| batch.header.base_offset.0 == base).unwrap();
        bytes[hit.position + 70] ^= 1;
    }
    world.put(&world.log(1), &bytes);
    assert_eq!(corrupt(world.open().unwrap_err()).bytes.start, 0);
    let recovered = world.salvage().unwrap();
    assert_eq!(recovered.end.offset, Offset(19));
    assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [1]);
    assert_eq!(recovered.report.rejected[0].file, "producers.2.run");
    assert_eq!(state(&recovered), world.fold(19));
}

#[test]
fn a_lost_run_that_deltas_were_merged_into_means_the_deltas_and_not_the_base_alone() {
    let world = checkpointed();
    let mut manifest = world.manifest(world.segments[2].0);
    let base = world.run(3, -1, 16);
    manifest.chain = vec![base, world.run(5, 16, 22)];
    manifest.previous_chain = vec![base, world.run(4, 16, 22)];
    world.put_manifest(&manifest);
    world.remove("producers.5.run");
    let recovered = world.open().unwrap();
    let chain = recovered.report.chain.as_ref().unwrap();
    assert_eq!((&chain.runs[..], chain.end, chain.previous), (&[3, 4][..], Offset(22), true));
    assert_eq!(state(&recovered), world.fold(world.end()));
}
