//! The newest offset of each key, in bounded memory.
//!
//! Invariant: a key is told from another by 128 bits of a keyed hash (SipHash-1-3-128 under a key drawn at random for
//! each map), not by its bytes. Two keys with one hash would lose a record without a word, so the hash must be one that
//! neither chance nor a client can make collide: among a thousand million keys chance does so once in 10^21 rounds, and
//! without the random key nobody can search for a pair. Kafka's map is `SkimpyOffsetMap`, with MD5, for which pairs are
//! published.

use std::hash::{BuildHasher, Hasher, RandomState};

use siphasher::sip128::{Hash128, SipHasher13};

use crate::types::Offset;

/// Bytes that a key takes, whatever its length.
const SLOT_SIZE: usize = size_of::<Slot>();
/// Marks a free slot. No record has it.
const FREE: i64 = -1;

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: [u64; 2],
    offset: i64,
}

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapFull;

/// The newest offset of each key that was put in.
pub struct OffsetMap {
    slots: Vec<Slot>,
    /// Number of keys.
    len: usize,
    most: usize,
    hasher: SipHasher13,
}

impl std::fmt::Debug for OffsetMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OffsetMap").field("len", &self.len).field("most", &self.most).finish_non_exhaustive()
    }
}

impl OffsetMap {
    /// A map of at most `bytes` bytes that is nine tenths full at most. It is made smaller where fewer than `records`
    /// keys can come.
    #[must_use]
    pub fn with_budget(bytes: usize, records: u64) -> Self {
        let needed = usize::try_from(records.saturating_mul(10) / 9).unwrap_or(usize::MAX).saturating_add(2);
        let count = (bytes / SLOT_SIZE).min(needed).max(2);
        let random = RandomState::new();
        let key = |number: u64| {
            let mut hasher = random.build_hasher();
            hasher.write_u64(number);
            hasher.finish()
        };
        Self {
            slots: vec![Slot { hash: [0; 2], offset: FREE }; count],
            len: 0,
            most: (count - count.div_ceil(10)).max(1),
            hasher: SipHasher13::new_with_keys(key(0), key(1)),
        }
    }

    /// Notes that a record with `key` stands at `offset`. A later one stays.
    ///
    /// # Errors
    ///
    /// [`MapFull`] if the key is new and there is no room; the map is left as it was.
    pub fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), MapFull> {
        let hash = self.hash(key);
        let at = self.find(hash);
        let full = self.len >= self.most;
        let Some(slot) = self.slots.get_mut(at) else { return Err(MapFull) };
        if slot.offset == FREE {
            if full {
                return Err(MapFull);
            }
            *slot = Slot { hash, offset: offset.0 };
            self.len += 1;
        } else {
            slot.offset = slot.offset.max(offset.0);
        }
        Ok(())
    }

    /// The newest offset that was noted for `key`.
    #[must_use]
    pub fn newest(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots.get(self.find(self.hash(key)))?;
        (slot.offset != FREE).then_some(Offset(slot.offset))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let Hash128 { h1, h2 } = self.hasher.hash(key);
        [h1, h2]
    }

    /// The slot of the hash, or the free one where it belongs. One is free always.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len();
        // The upper half of the product spreads the hash over the slots without a division.
        let start = usize::try_from((u128::from(hash[0]) * count as u128) >> 64).unwrap_or(0);
        let (before, from) = self.slots.split_at(start.min(count));
        let stands = |slot: &Slot| slot.offset == FREE || slot.hash == hash;
        match from.iter().position(stands) {
            Some(distance) => start + distance,
            None => before.iter().position(stands).unwrap_or(0),
        }
    }
}
