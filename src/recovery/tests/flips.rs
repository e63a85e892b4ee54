//! One wrong byte anywhere: what opens is right, what is refused is untouched.

use std::path::Path;
use std::sync::Arc;

use super::world::{DIR, World, everything, open, state};
use crate::error::Error;
use crate::recovery::Salvage;
use crate::storage::{MemoryStorage, OpenMode, Storage};
use crate::types::Offset;

/// Offsets up to `watermark` are durable, up to 22 they are in runs.
fn world(watermark: i64) -> World {
    let world = World::mixed();
    world.put_segments();
    let mut manifest = world.manifest(watermark);
    manifest.chain = vec![world.run(1, -1, 16), world.run(2, 16, 22)];
    manifest.previous_chain = vec![world.run(0, -1, 8)];
    world.put_manifest(&manifest);
    world.put_slot(watermark, 2);
    world
}

/// Damages the bytes of a file, one at a time, and opens; counts what was (opened, refused).
fn at_every_byte(watermark: i64, name: &str, damage: u8) -> (usize, usize) {
    let world = world(watermark);
    let image = world.memory.kill();
    let path = Path::new(DIR).join(name);
    let bytes = image.read(&path).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        // Runs are padded with pages of zeros, of which every byte is like the next.
        if *byte == 0 && at % 8 != 0 {
            continue;
        }
        let memory = MemoryStorage::from_image(&image);
        let file = memory.open(&path, OpenMode::Write).unwrap();
        file.write_all_at(&[*byte ^ damage], at as u64).unwrap();
        file.sync_all().unwrap();
        let before = everything(&memory.kill());
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        match open(&storage, Salvage::Refuse) {
            Err(Error::Corrupt(_)) => {
                assert_eq!(everything(&memory.kill()), before, "{name} byte {at}: refused, so untouched");
                refused += 1;
            }
            Err(other) => panic!("{name} byte {at}: {other}"),
            Ok(recovered) => {
                let end = recovered.end.offset;
                assert!(end >= Offset(watermark), "{name} byte {at}: durable batches are gone");
                // Leader epochs are in no CRC and in no entry; all else must be as it was.
                assert_eq!(state(&recovered), world.fold(end.0), "{name} byte {at}");
                opened += 1;
            }
        }
    }
    (opened, refused)
}

#[test]
fn of_a_segment_whose_producers_are_in_runs() {
    let (opened, refused) = at_every_byte(31, "00000000000000000000.log", 0x01);
    // Nothing of it is read but the batch at the end of the oldest usable chain: none is needed.
    assert!(opened > 0 && refused == 0, "{opened} opened, {refused} refused");
}

#[test]
fn of_a_segment_that_is_durable() {
    let (opened, refused) = at_every_byte(31, "00000000000000000019.log", 0x01);
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}

#[test]
fn of_a_segment_that_is_not_known_to_be_durable() {
    let (opened, refused) = at_every_byte(31, "00000000000000000031.log", 0x10);
    assert!(opened > 0 && refused == 0, "{opened} opened, {refused} refused");
}

#[test]
fn of_the_files_that_are_ours() {
    for name in ["oncelog.manifest", "producers.1.run", "producers.2.run"] {
        let (opened, refused) = at_every_byte(31, name, 0x04);
        assert!(opened > 0 && refused == 0, "{name}: {opened} opened, {refused} refused");
    }
}

#[test]
fn of_a_segment_that_is_durable_up_to_its_middle() {
    for watermark in [32, 34, 36] {
        let (opened, refused) = at_every_byte(watermark, "00000000000000000031.log", 0x10);
        assert!(opened > 0 && refused > 0, "{watermark}: {opened} opened, {refused} refused");
    }
}

#[test]
fn a_file_cut_short_at_any_byte_is_a_tail_above_the_watermark_and_corruption_below() {
    for watermark in [31, 32, 34, 37] {
        let world = world(watermark);
        let image = world.memory.kill();
        let path = Path::new(DIR).join("00000000000000000031.log");
        let durable = if watermark == 31 { 0 } else { world.point(watermark).position.0 };
        for len in 0..=world.bytes_of(2).len() as u64 {
            let memory = MemoryStorage::from_image(&image);
            memory.open(&path, OpenMode::Write).unwrap().set_len(len).unwrap();
            let storage: Arc<dyn Storage> = Arc::new(memory.clone());
            match open(&storage, Salvage::Refuse) {
                Ok(recovered) => {
                    assert!(len >= durable, "watermark {watermark}, {len} bytes");
                    let end = recovered.end;
                    assert_eq!(state(&recovered), world.fold(end.offset.0));
                    let kept = world.borders().into_iter().filter(|border| *border > 31);
                    let fitting = kept.filter(|border| world.point(*border).position.0 <= len).max();
                    assert_eq!(
                        end.offset,
                        Offset(fitting.unwrap_or(31)),
                        "watermark {watermark}, {len} bytes"
                    );
                }
                Err(error) => assert!(len < durable, "watermark {watermark}, {len} bytes: {error}"),
            }
        }
    }
}

#[test]
fn half_a_header_right_behind_the_watermark_is_a_tail() {
    // A sector ends inside the header: the power cut left the new bytes behind it and the old zeros before it.
    for lost in 1..=16 {
        let world = world(34);
        let mut bytes = world.bytes_of(2);
        let at = usize::try_from(world.point(34).position.0).unwrap();
        bytes[at..at + lost].fill(0);
        world.put("00000000000000000031.log", &bytes);
        let recovered = open(&world.storage, Salvage::Refuse).unwrap();
        assert!(recovered.end.offset >= Offset(34), "{lost} bytes");
        assert_eq!(state(&recovered), world.fold(recovered.end.offset.0));
    }
}
