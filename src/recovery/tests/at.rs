//! The state of an open log, made anew without a damaged run.

use std::path::Path;

use super::world::{DIR, Entries, World};
use crate::checkpoint::Chain;
use crate::recovery::{StateAt, state_at};

fn entries(state: &StateAt) -> Entries {
    let mut all: Entries = state.chain.entries().unwrap().map(Result::unwrap).collect();
    all.extend(state.producers.iter().map(|(id, entry)| (id, *entry)));
    all
}

#[test]
fn a_damaged_block_is_made_up_for_by_older_runs_and_the_log() {
    for damaged in [0, 1] {
        let world = World::mixed();
        world.put_segments();
        let named = [world.run(1, -1, 16), world.run(2, 16, 22)];
        let mut manifest = world.manifest(31);
        manifest.chain = named.to_vec();
        world.put_manifest(&manifest);
        let chain = Chain::open(&*world.storage, Path::new(DIR), &named).unwrap();
        let name = format!("producers.{}.run", damaged + 1);
        let mut bytes = world.everything()[&world.path(&name)].clone();
        bytes[4096 + 50] ^= 1;
        world.put(&name, &bytes);
        let end = *chain.end().unwrap();
        let state = state_at(&world.storage, Path::new(DIR), &chain, &[], &end).unwrap();
        assert_eq!(state.chain.len(), damaged);
        assert_eq!(entries(&state), world.fold(22));
    }
}
