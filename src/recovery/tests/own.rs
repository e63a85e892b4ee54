//! Logs that we wrote: what is kept, cut and refused.

use super::world::{World, checkpointed, corrupt, state};
use crate::recovery::RecoveryKind;
use crate::types::{History, LeaderEpoch, Offset};

#[test]
fn a_log_closed_in_order_is_opened_without_a_write() {
    let world = checkpointed();
    let mut manifest = world.manifest(world.end());
    let end = world.end();
    manifest.chain = vec![world.run(7, -1, end)];
    manifest.clean_close = Some(world.end_point());
    world.put_manifest(&manifest);
    let operations = world.memory.operations();
    let recovered = world.open().unwrap();
    assert_eq!(world.memory.operations(), operations);
    assert_eq!(recovered.report.kind, RecoveryKind::Clean);
    assert_eq!(recovered.report.scanned_bytes, 0);
    assert_eq!(recovered.manifest, manifest);
    assert_eq!(recovered.end, world.end_point());
    assert!(recovered.clean && recovered.producers.is_empty());
    assert_eq!(state(&recovered), world.fold(end));
}

#[test]
fn an_unclean_log_is_its_chain_and_the_batches_behind_it() {
    let world = checkpointed();
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::Unclean);
    assert_eq!(recovered.end, world.end_point());
    assert_eq!(state(&recovered), world.fold(world.end()));
    assert_eq!(recovered.report.chain.as_ref().unwrap().runs, [1, 2]);
    assert_eq!(recovered.report.checkpoint(), Some(Offset(22)));
    assert_eq!(recovered.manifest.watermark, world.end_point());
    assert_eq!(recovered.report.cuts, []);
    let open = crate::producer::OpenTxn {
        producer: crate::types::ProducerId(22),
        epoch: crate::types::ProducerEpoch(0),
        first_offset: Offset(30),
        started: crate::types::EngineTime(0),
    };
    assert_eq!(recovered.open_txns, [open]);
    let durable = world.bytes_of(2).len() as u64;
    assert_eq!(recovered.report.rewritten_bytes, durable);
    let behind: usize = world
        .batches
        .iter()
        .filter(|batch| batch.header.base_offset.0 >= 22)
        .map(|batch| batch.header.size())
        .sum();
    assert_eq!(recovered.report.scanned_bytes, behind as u64);
    assert_eq!(recovered.report.replayed_bytes, behind as u64);
}

#[test]
fn a_torn_tail_is_cut_at_every_byte_and_kept_aside() {
    let world = World::mixed();
    let last = world.batches.last().unwrap().clone();
    let whole = world.bytes_of(2);
    for len in last.position..whole.len() {
        let world = checkpointed();
        world.put(&world.log(2), &whole[..len]);
        let recovered = world.open().unwrap();
        assert_eq!(recovered.end, world.point(last.header.base_offset.0), "cut at {len}");
        assert_eq!(state(&recovered), world.fold(last.header.base_offset.0));
        let kept = world.bytes_of(2)[last.position..len].to_vec();
        if kept.is_empty() {
            assert_eq!(recovered.report.cuts, []);
            continue;
        }
        let [cut] = &recovered.report.cuts[..] else { panic!("{:?}", recovered.report.cuts) };
        assert_eq!(cut.bytes, last.position as u64..len as u64);
        let zeros = kept.iter().all(|byte| *byte == 0);
        assert_eq!(cut.keepsake.is_none(), zeros);
        if let Some(name) = &cut.keepsake {
            assert_eq!(world.everything()[&world.path(name)], kept);
        }
        assert!(!cut.suspicious);
        assert_eq!(world.everything()[&world.path(&world.log(2))], whole[..last.position]);
    }
}

#[test]
fn a_torn_batch_that_begins_right_at_the_watermark_is_a_tail() {
    let world = checkpointed();
    let last = world.batches.last().unwrap().clone();
    let at = last.header.base_offset.0;
    let mut manifest = world.manifest(at);
    manifest.chain = vec![world.run(11, -1, 16), world.run(12, 16, 22)];
    world.put_manifest(&manifest);
    let whole = world.bytes_of(2);
    world.put(&world.log(2), &whole[..whole.len() - 1]);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.end, world.point(at));
    assert_eq!(state(&recovered), world.fold(at));
}

#[test]
fn zeros_behind_the_log_are_cut_without_a_keepsake() {
    let world = checkpointed();
    let mut bytes = world.bytes_of(2);
    bytes.resize(bytes.len() + 4096, 0);
    world.put(&world.log(2), &bytes);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.end, world.end_point());
    assert_eq!(recovered.report.cuts[0].keepsake, None);
    assert_eq!(world.everything()[&world.path(&world.log(2))], world.bytes_of(2));
}

#[test]
fn damage_above_the_watermark_is_cut_even_where_valid_batches_and_segments_follow() {
    let world = checkpointed();
    let mut manifest = world.manifest(22);
    manifest.chain = vec![world.run(3, -1, 16)];
    world.put_manifest(&manifest);
    let hit = world.batches.iter().find(|batch| batch.header.base_offset.0 == 24).unwrap().clone();
    let mut bytes = world.bytes_of(1);
    bytes[hit.position + 70] ^= 1;
    world.put(&world.log(1), &bytes);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.end, world.point(24));
    assert_eq!(state(&recovered), world.fold(24));
    let behind =
        world.batches.iter().filter(|batch| batch.segment == 1 && batch.header.base_offset.0 > 24).count();
    let [first, second] = &recovered.report.cuts[..] else { panic!("{:?}", recovered.report.cuts) };
    assert_eq!(first.valid_batches, behind as u64);
    assert_eq!(second.valid_batches, world.batches.iter().filter(|batch| batch.segment == 2).count() as u64);
    assert!(first.suspicious, "same boot, and more than a file that ends inside its last batch");
    assert_eq!(recovered.segments.len(), 2);
    assert!(!world.everything().contains_key(&world.path(&world.log(2))));
    let kept = second.keepsake.as_ref().unwrap();
    assert_eq!(world.everything()[&world.path(kept)], world.bytes_of(2));
}

#[test]
fn damage_below_the_watermark_is_refused_and_nothing_is_changed() {
    let world = checkpointed();
    let hit = world.batches.iter().find(|batch| batch.header.base_offset.0 == 25).unwrap().clone();
    let mut bytes = world.bytes_of(1);
    bytes[hit.position + 70] ^= 1;
    world.put(&world.log(1), &bytes);
    let before = world.everything();
    let found = corrupt(world.open().unwrap_err());
    assert_eq!(world.everything(), before);
    assert_eq!(found.path, world.path(&world.log(1)));
    assert_eq!(found.bytes.start, hit.position as u64);
    assert_eq!(found.offsets.as_ref().unwrap().start, Offset(25));
    assert!(found.advice.contains("Salvage::Cut") && found.advice.contains("another program"));

    let recovered = world.salvage().unwrap();
    assert_eq!(recovered.end, world.point(25));
    assert_eq!(state(&recovered), world.fold(25));
    assert_eq!(recovered.manifest.history, History::Salvaged);
    assert_eq!(recovered.manifest.truncation_generation, 3);
    assert!(recovered.report.salvaged);
    assert_eq!(recovered.report.cuts.len(), 2);
}

#[test]
fn a_log_that_ends_below_the_watermark_is_refused() {
    let world = checkpointed();
    world.remove(&world.log(2));
    let last = world.batches.iter().rfind(|batch| batch.segment == 1).unwrap();
    world.put(&world.log(1), &world.bytes_of(1)[..last.position]);
    let before = world.everything();
    let found = corrupt(world.open().unwrap_err());
    assert_eq!(world.everything(), before);
    assert_eq!(found.offsets, Some(last.header.base_offset..Offset(world.segments[2].0)));
}

#[test]
fn a_slot_above_the_manifest_raises_the_watermark_and_one_of_another_generation_does_not() {
    for (generation, refused) in [(2, true), (1, false), (3, false)] {
        let world = checkpointed();
        world.put_slot(world.end(), generation);
        let last = world.batches.last().unwrap();
        world.put(&world.log(2), &world.bytes_of(2)[..last.position + 20]);
        assert_eq!(world.open().is_err(), refused, "generation {generation}");
    }
}

#[test]
fn an_empty_directory_becomes_a_new_log() {
    let world = World::new();
    let recovered = world.open().unwrap();
    assert_eq!(recovered.report.kind, RecoveryKind::NewLog);
    assert_eq!(recovered.end.offset, Offset::ZERO);
    assert_eq!(recovered.segments.len(), 1);
    assert!(!recovered.ever_written);
    let again = world.open().unwrap();
    assert_eq!(again.report.kind, RecoveryKind::Unclean);
    assert_eq!(again.segments, recovered.segments);
}

#[test]
fn leftovers_of_ours_go_and_unknown_files_stay() {
    let world = checkpointed();
    world.put("producers.40.run", b"half a run");
    world.put("oncelog.next", &[0; 100]);
    world.put("oncelog.manifest.tmp", b"x");
    world.put("notes.txt", b"mine");
    let recovered = world.open().unwrap();
    let left = world.everything();
    for name in ["producers.40.run", "oncelog.next", "oncelog.manifest.tmp"] {
        assert!(!left.contains_key(&world.path(name)), "{name}");
        assert!(recovered.report.deleted.iter().any(|deleted| deleted == name));
    }
    assert!(left.contains_key(&world.path("notes.txt")));
    assert!(recovered.next_run_number > 40);
}

#[test]
fn two_keepsakes_of_the_same_place_do_not_overwrite_each_other() {
    let world = checkpointed();
    let last = world.batches.last().unwrap();
    let name = format!("salvage.{}.0.bin", last.header.base_offset);
    world.put(&name, b"from before");
    world.put(&world.log(2), &world.bytes_of(2)[..last.position + 30]);
    let recovered = world.open().unwrap();
    assert_eq!(world.everything()[&world.path(&name)], b"from before");
    assert!(recovered.report.cuts[0].keepsake.as_ref().unwrap().contains(".1."));
}

#[test]
fn an_offset_that_does_not_continue_the_log_is_damage_though_its_crc_is_right() {
    let world = checkpointed();
    let last = world.batches.last().unwrap();
    let mut bytes = world.bytes_of(2);
    bytes[last.position + 7] ^= 0x40;
    world.put(&world.log(2), &bytes);
    let recovered = world.open().unwrap();
    assert_eq!(recovered.end, world.point(last.header.base_offset.0));
    assert_eq!(recovered.report.cuts[0].valid_batches, 1);
    assert!(recovered.report.cuts[0].reason.contains("base offset"));
}

#[test]
fn a_report_names_what_was_cut_and_what_was_not_used() {
    let world = checkpointed();
    world.remove("producers.2.run");
    let last = world.batches.last().unwrap();
    world.put(&world.log(2), &world.bytes_of(2)[..last.position + 30]);
    let text = world.plan().unwrap().report().to_string();
    for part in [
        "not closed in order",
        "runs 1 up to offset 16",
        "producers.2.run",
        "cut 00000000000000000031.log",
        "kept in salvage.36.0.bin",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn the_leader_epoch_of_the_last_batch_is_known_where_the_active_segment_is_empty() {
    for clean in [true, false] {
        let mut world = World::mixed();
        world.roll();
        world.put_segments();
        let end = world.end();
        let start = crate::types::LogPoint::segment_start(Offset(end));
        let mut manifest = world.manifest(end);
        manifest.watermark = start;
        manifest.clean_close = clean.then_some(start);
        manifest.chain = vec![world.run(1, -1, end)];
        world.put_manifest(&manifest);
        let recovered = world.open().unwrap();
        assert_eq!(recovered.clean, clean);
        assert_eq!(recovered.end, start);
        assert_eq!(recovered.leader_epoch, LeaderEpoch(3));
        assert_eq!(state(&recovered), world.fold(end));
    }
}

#[test]
fn the_batch_at_the_watermark_is_proven_even_where_nothing_else_is_read() {
    let world = checkpointed();
    let mut manifest = world.manifest(31);
    manifest.chain = vec![world.run(7, -1, 31)];
    world.put_manifest(&manifest);
    let hit = world.batches.iter().find(|batch| batch.header.next_offset().0 == 31).unwrap();
    let mut bytes = world.bytes_of(1);
    bytes[hit.position + 70] ^= 1;
    world.put(&world.log(1), &bytes);
    assert_eq!(corrupt(world.open().unwrap_err()).bytes.start, hit.position as u64);
}

#[test]
fn a_durable_batch_that_is_gone_without_our_retention_is_refused() {
    let world = checkpointed();
    let mut manifest = world.manifest(31);
    manifest.chain = vec![world.run(7, -1, 31)];
    world.put_manifest(&manifest);
    world.remove(&world.log(0));
    world.remove(&world.log(1));
    let before = world.everything();
    let found = corrupt(world.open().unwrap_err());
    assert_eq!(found.path, world.path(&world.log(1)));
    assert_eq!(found.what, "segment, part of what is known to be durable");
    assert_eq!(world.everything(), before);
}

#[test]
fn the_log_starts_where_the_first_segment_does_if_older_ones_were_removed() {
    let world = checkpointed();
    world.remove(&world.log(0));
    let recovered = world.open().unwrap();
    assert_eq!(recovered.log_start_offset, Offset(world.segments[1].0));
    assert_eq!(recovered.manifest.log_start_offset, Offset(world.segments[1].0));
    assert!(recovered.report.notes.iter().any(|note| note.contains("removed by another program")));
    assert_eq!(state(&recovered), world.fold(world.end()));
}
