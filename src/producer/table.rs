//! The producers that wrote lately, in memory: since the last checkpoint, and before it since the one before.
//!
//! Invariant: the maps hide one another, newest first, and what the oldest says stands in a run too: it may be dropped
//! at any time and only saves look-ups on disk. An entry that was inserted stays at its address until its map is dropped, and no insertion touches more
//! than one shard's index. So no append ever pays for moving what a million others have left.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::entry::Entry;
use crate::types::ProducerId;

/// Most producers of a map that is kept behind its checkpoint: about 20 MiB.
const MOST_RECENT: usize = 1 << 16;

/// Three maps: the active one, which is written to; at most one frozen one, which a checkpoint is writing out; and the
/// one that the newest checkpoint has written, because who wrote lately mostly goes on.
#[derive(Debug, Default)]
pub struct ProducerTable {
    active: ProducerMap,
    frozen: Option<Arc<ProducerMap>>,
    recent: Option<Arc<ProducerMap>>,
}

impl ProducerTable {
    /// An empty table. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A table whose active map holds what a recovery has replayed.
    #[must_use]
    pub fn starting_with(active: ProducerMap) -> Self {
        Self { active, frozen: None, recent: None }
    }

    /// What is known of a producer here. `None` means: look in the runs.
    #[inline]
    #[must_use]
    pub fn get(&self, id: ProducerId) -> Option<&Entry> {
        self.active.get(id).or_else(|| {
            [&self.frozen, &self.recent].into_iter().flatten().find_map(|checkpointed| checkpointed.get(id))
        })
    }

    /// Remembers an entry; it hides older ones of the same producer.
    #[inline]
    pub fn insert(&mut self, id: ProducerId, entry: Entry) {
        self.active.insert(id, entry);
    }

    /// Freezes what is active, for a checkpoint, and starts a new active map. Takes the same time however many
    /// producers there are.
    ///
    /// `None` if nothing is active or a frozen map is still being written: a failed checkpoint is tried again with the
    /// map that it had (see [`frozen`](Self::frozen)).
    pub fn freeze(&mut self) -> Option<Arc<ProducerMap>> {
        if self.active.is_empty() || self.frozen.is_some() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// The map that a checkpoint is writing out.
    #[must_use]
    pub fn frozen(&self) -> Option<&Arc<ProducerMap>> {
        self.frozen.as_ref()
    }

    /// The run that holds the frozen map's entries is published: the map only saves look-ups from now on, and is not
    /// kept if it is large. What it takes the place of is handed out because freeing it takes long: drop it without a
    /// lock.
    #[must_use]
    pub fn frozen_is_written(&mut self) -> [Option<Arc<ProducerMap>>; 2] {
        let written = self.frozen.take();
        let (kept, large) = match written {
            Some(map) if map.len() > MOST_RECENT => (None, Some(map)),
            kept => (kept, None),
        };
        [std::mem::replace(&mut self.recent, kept), large]
    }

    /// The greatest id that is known here. Takes as long as there are entries.
    #[must_use]
    pub fn greatest(&self) -> Option<ProducerId> {
        let checkpointed = [&self.frozen, &self.recent].into_iter().flatten();
        let maps = checkpointed.map(|map| &**map).chain([&self.active]);
        maps.flat_map(|map| map.iter().map(|(id, _)| id)).max()
    }

    /// How many producers wrote since the last freeze.
    #[must_use]
    pub fn dirty(&self) -> usize {
        self.active.len()
    }
}

/// Shards of the index. One of them grows at a time, so a growth moves a 64th of the index, never an entry.
const SHARDS: usize = 64;
/// The bits of a hash that choose the shard: hashbrown takes its place from the lowest and its tag from the highest.
const SHARD_SHIFT: u32 = 40;
/// Entries in the first chunk; the next ones double until [`CHUNK`], so that an idle partition costs little.
const FIRST_CHUNK: usize = 16;
/// Entries in every later chunk.
const CHUNK: usize = 1024;
/// How many chunks are smaller than [`CHUNK`].
const SMALL_CHUNKS: usize = (CHUNK.ilog2() - FIRST_CHUNK.ilog2()) as usize;

/// A map from producer id to entry that grows without moving its entries.
#[derive(Default)]
pub struct ProducerMap {
    /// Places by hash of the id. Empty until the first insertion, then [`SHARDS`] long.
    shards: Vec<HashTable<Place>>,
    /// The entries in order of first insertion, in chunks that never grow beyond their capacity.
    chunks: Vec<Vec<(ProducerId, Entry)>>,
    len: usize,
    hasher: DefaultHashBuilder,
}

/// Where the entry of a producer is. The id stands here too, so that neither a probe nor a growth reads the chunks.
#[derive(Clone, Copy)]
struct Place {
    id: ProducerId,
    index: usize,
}

impl ProducerMap {
    /// An empty map. Allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry of a producer.
    #[inline]
    #[must_use]
    pub fn get(&self, id: ProducerId) -> Option<&Entry> {
        let hash = self.hasher.hash_one(id);
        let place = self.shards.get(shard_of(hash))?.find(hash, |place| place.id == id)?;
        let (chunk, slot) = chunk_and_slot(place.index);
        self.chunks.get(chunk)?.get(slot).map(|(_, entry)| entry)
    }

    /// Inserts the entry of a producer or replaces it in its place.
    #[inline]
    pub fn insert(&mut self, id: ProducerId, entry: Entry) {
        let hash = self.hasher.hash_one(id);
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashTable::new);
        }
        let Some(shard) = self.shards.get_mut(shard_of(hash)) else { return };
        if let Some(place) = shard.find(hash, |place| place.id == id) {
            let (chunk, slot) = chunk_and_slot(place.index);
            if let Some(known) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(slot)) {
                known.1 = entry;
            }
            return;
        }
        let hasher = &self.hasher;
        shard.insert_unique(hash, Place { id, index: self.len }, |place| hasher.hash_one(place.id));
        self.push(id, entry);
    }

    fn push(&mut self, id: ProducerId, entry: Entry) {
        let (chunk, slot) = chunk_and_slot(self.len);
        if slot == 0 {
            self.chunks.push(Vec::with_capacity(chunk_size(chunk)));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.push((id, entry));
        }
        self.len += 1;
    }

    /// How many producers there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in order of their first insertion.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Entry)> {
        self.chunks.iter().flatten().map(|(id, entry)| (*id, entry))
    }

    /// All entries by rising producer id, as a run holds them. Sorts 16 bytes a producer, not the entries.
    #[must_use]
    pub fn sorted(&self) -> Vec<(ProducerId, &Entry)> {
        let mut entries = Vec::with_capacity(self.len);
        entries.extend(self.iter());
        entries.sort_unstable_by_key(|(id, _)| *id);
        entries
    }
}

impl std::fmt::Debug for ProducerMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[inline]
fn shard_of(hash: u64) -> usize {
    usize::from((hash >> SHARD_SHIFT).to_le_bytes()[0]) % SHARDS
}

/// Where the entry inserted as number `index` stands: doubling chunks first, equal ones then.
#[inline]
fn chunk_and_slot(index: usize) -> (usize, usize) {
    let shifted = index + FIRST_CHUNK;
    if shifted < CHUNK {
        let power = shifted.ilog2();
        ((power - FIRST_CHUNK.ilog2()) as usize, shifted - (1 << power))
    } else {
        (SMALL_CHUNKS - 1 + shifted / CHUNK, shifted % CHUNK)
    }
}

fn chunk_size(chunk: usize) -> usize {
    if chunk < SMALL_CHUNKS { FIRST_CHUNK << chunk } else { CHUNK }
}
