//! Which batches there are, and what is in each.
//!
//! Invariant: the bytes of a batch are a function of the seed and its [`Spec`] alone, so that a child can send a batch
//! that a dead one sent before, and the parent can compare what is in the log with what was meant to be there.

use bytes::Bytes;
use oncelog::error::Malformed;
use oncelog::format::batch::BatchHeader;
use oncelog::format::batch_builder::BatchBuilder;
use oncelog::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use serde::{Deserialize, Serialize};

/// Timestamps lie within a day of this, so that no segment is rolled by age.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;
const TIMESTAMP_RANGE: u64 = 86_400_000;
/// Values are small: the test is about how often things happen, not about how many bytes go by.
const VALUE_BYTES: u64 = 96;

/// What a producer wants to have written: identity of a batch and, with the seed, its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Producer id.
    pub(super) producer: i64,
    pub(super) epoch: i16,
    /// Sequence of the first record.
    pub(super) first: i32,
    /// Number of records.
    pub(super) count: u8,
}

impl Spec {
    /// Sequence of the record behind the last one.
    pub(super) fn next(&self) -> i32 {
        sequence(self.first).wrapping_add(u32::from(self.count)).value()
    }

    /// Offset of the last record if the first has `base`.
    pub(super) fn last_offset(&self, base: i64) -> i64 {
        base.saturating_add(i64::from(self.count)).saturating_sub(1)
    }

    /// The batch as a client sends it.
    pub(super) fn bytes(&self, seed: u64) -> Result<Bytes, Malformed> {
        self.stamped(seed, Offset::ZERO, LeaderEpoch::NONE)
    }

    /// The batch as a leader stores it.
    pub(super) fn stamped(
        &self,
        seed: u64,
        base: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Result<Bytes, Malformed> {
        let mut random = self.randomness(seed);
        let timestamp = self.timestamp(seed);
        let mut builder = BatchBuilder::new().base_offset(base).leader_epoch(leader_epoch).producer(
            ProducerId(self.producer),
            ProducerEpoch(self.epoch),
            sequence(self.first),
        );
        for _ in 0..self.count {
            let len = 1 + random.u64(..VALUE_BYTES);
            let value: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            let key = random.bool().then(|| random.u64(..).to_be_bytes());
            builder = builder.record_at(timestamp, key.as_ref().map(<[u8; 8]>::as_slice), Some(&value));
        }
        builder.build()
    }

    /// The timestamp of all its records, which a duplicate must be answered with.
    pub(super) fn timestamp(&self, seed: u64) -> i64 {
        FIRST_TIMESTAMP.saturating_add_unsigned(self.randomness(!seed).u64(..TIMESTAMP_RANGE))
    }

    fn randomness(&self, seed: u64) -> fastrand::Rng {
        let identity = (self.producer, self.epoch, self.first, self.count);
        let words = [
            identity.0.cast_unsigned(),
            u64::from(identity.1.cast_unsigned()),
            u64::from(identity.2.cast_unsigned()),
            u64::from(identity.3),
        ];
        fastrand::Rng::with_seed(
            words
                .iter()
                .fold(seed, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)),
        )
    }

    /// What the header of a stored batch says it is.
    pub(super) fn of(header: &BatchHeader) -> Option<Self> {
        Some(Self {
            producer: header.producer_id,
            epoch: header.producer_epoch,
            first: header.base_sequence,
            count: u8::try_from(header.record_count).ok()?,
        })
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "producer {} epoch {} sequence {} ({} records)",
            self.producer, self.epoch, self.first, self.count
        )
    }
}

/// A sequence that is known not to be negative; 0 if it is after all.
pub(super) fn sequence(value: i32) -> Sequence {
    Sequence::new(value).unwrap_or(Sequence::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec { producer: 7, epoch: 2, first: i32::MAX, count: 3 };

    #[test]
    fn a_batch_has_the_same_bytes_every_time_and_others_with_another_seed_or_sequence() {
        let bytes = SPEC.bytes(1).unwrap();
        assert_eq!(bytes, SPEC.bytes(1).unwrap());
        assert_ne!(bytes, SPEC.bytes(2).unwrap());
        assert_ne!(bytes, Spec { first: 5, ..SPEC }.bytes(1).unwrap());
    }

    #[test]
    fn the_header_gives_the_identity_and_the_timestamp_back() {
        let header = BatchHeader::parse(&SPEC.bytes(9).unwrap()).unwrap();
        assert_eq!(Spec::of(&header), Some(SPEC));
        assert_eq!(header.max_timestamp, SPEC.timestamp(9));
    }

    #[test]
    fn the_sequence_behind_a_batch_wraps_to_0() {
        assert_eq!(SPEC.next(), 2);
        assert_eq!(Spec { first: i32::MAX, count: 1, ..SPEC }.next(), 0);
        assert_eq!(Spec { first: 10, count: 4, ..SPEC }.next(), 14);
    }

    #[test]
    fn only_offsets_and_leader_epoch_differ_between_what_is_sent_and_what_is_stored() {
        let sent = SPEC.bytes(3).unwrap();
        let stored = SPEC.stamped(3, Offset(77), LeaderEpoch(4)).unwrap();
        assert_eq!((&sent[8..12], &sent[16..]), (&stored[8..12], &stored[16..]));
        assert_ne!(sent[..8], stored[..8]);
    }
}
