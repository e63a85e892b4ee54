//! Which batches there are, and what is in each.
//!
//! Invariant: the bytes of a batch are a function of the seed and its [`Spec`] alone, so that a child can send a batch
//! that a dead one sent before, and the parent can compare what is in the log with what was meant to be there.

use bytes::Bytes;
use oncelog::error::Malformed;
use oncelog::format::batch::{BatchHeader, HEADER_SIZE};
use oncelog::format::batch_builder::BatchBuilder;
use oncelog::format::control::{ControlKind, ControlRecord, EndTxnMarker};
use oncelog::format::record::Records;
use oncelog::types::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use serde::{Deserialize, Serialize};

/// Timestamps lie within a day of this, so that no segment is rolled by age.
const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;
const TIMESTAMP_RANGE: u64 = 86_400_000;
/// Values are small: the test is about how often things happen, not about how many bytes go by.
const VALUE_BYTES: u64 = 96;

/// What a batch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Data outside of any transaction.
    #[default]
    Plain,
    /// Data of a transaction.
    Transactional,
    /// The marker that makes a transaction count.
    Commit,
    /// The marker that makes it void.
    Abort,
}

/// What a producer wants to have written: identity of a batch and, with the seed, its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Producer id.
    pub(super) producer: i64,
    pub(super) epoch: i16,
    /// Sequence of the first record; of a marker the epoch of its coordinator, which no two markers of a producer share.
    pub(super) first: i32,
    /// Number of records.
    pub(super) count: u8,
    pub(super) kind: Kind,
}

impl Spec {
    /// Whether it ends a transaction.
    pub(super) fn is_marker(&self) -> bool {
        matches!(self.kind, Kind::Commit | Kind::Abort)
    }

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
        if self.kind == Kind::Transactional {
            builder = builder.transactional();
        }
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

    /// The marker of that moment, as its coordinator orders it; `None` if this is data.
    pub(super) fn marker(&self, timestamp: i64) -> Option<EndTxnMarker> {
        let kind = match self.kind {
            Kind::Plain | Kind::Transactional => return None,
            Kind::Commit => ControlKind::Commit,
            Kind::Abort => ControlKind::Abort,
        };
        Some(EndTxnMarker {
            producer: ProducerId(self.producer),
            epoch: ProducerEpoch(self.epoch),
            kind,
            coordinator_epoch: CoordinatorEpoch(self.first),
            timestamp,
        })
    }

    pub(super) fn randomness(&self, seed: u64) -> fastrand::Rng {
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

    /// What a stored batch says it is: `None` if it is nothing that this test writes.
    pub(super) fn of(header: &BatchHeader, batch: &[u8]) -> Option<Self> {
        let (producer, epoch) = (header.producer_id, header.producer_epoch);
        if header.attributes.is_control() {
            let record = Records::new(batch.get(HEADER_SIZE..)?, header.record_count).next()?.ok()?;
            let control = ControlRecord::parse(&record).ok()?;
            let kind = match control.kind {
                ControlKind::Commit => Kind::Commit,
                ControlKind::Abort => Kind::Abort,
                ControlKind::Other(_) => return None,
            };
            return Some(Self { producer, epoch, first: control.coordinator_epoch.0, count: 1, kind });
        }
        let kind = if header.attributes.is_transactional() { Kind::Transactional } else { Kind::Plain };
        let count = u8::try_from(header.record_count).ok()?;
        Some(Self { producer, epoch, first: header.base_sequence, count, kind })
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (producer, epoch, first) = (self.producer, self.epoch, self.first);
        match self.kind {
            Kind::Commit => write!(f, "producer {producer} epoch {epoch} commit by coordinator {first}"),
            Kind::Abort => write!(f, "producer {producer} epoch {epoch} abort by coordinator {first}"),
            Kind::Plain => {
                write!(f, "producer {producer} epoch {epoch} sequence {first} ({} records)", self.count)
            }
            Kind::Transactional => write!(
                f,
                "producer {producer} epoch {epoch} sequence {first} ({} records of a transaction)",
                self.count
            ),
        }
    }
}

/// A sequence that is known not to be negative; 0 if it is after all.
pub(super) fn sequence(value: i32) -> Sequence {
    Sequence::new(value).unwrap_or(Sequence::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec { producer: 7, epoch: 2, first: i32::MAX, count: 3, kind: Kind::Plain };

    #[test]
    fn a_batch_has_the_same_bytes_every_time_and_others_with_another_seed_or_sequence() {
        let bytes = SPEC.bytes(1).unwrap();
        assert_eq!(bytes, SPEC.bytes(1).unwrap());
        assert_ne!(bytes, SPEC.bytes(2).unwrap());
        assert_ne!(bytes, Spec { first: 5, ..SPEC }.bytes(1).unwrap());
    }

    #[test]
    fn the_header_gives_the_identity_and_the_timestamp_back() {
        for kind in [Kind::Plain, Kind::Transactional] {
            let spec = Spec { kind, ..SPEC };
            let bytes = spec.bytes(9).unwrap();
            let header = BatchHeader::parse(&bytes).unwrap();
            assert_eq!(Spec::of(&header, &bytes), Some(spec));
            assert_eq!(header.max_timestamp, spec.timestamp(9));
        }
    }

    #[test]
    fn a_marker_is_known_by_its_coordinators_epoch() {
        for kind in [Kind::Commit, Kind::Abort] {
            let spec = Spec { first: 77, count: 1, kind, ..SPEC };
            let bytes = spec.marker(5).unwrap().to_batch();
            let header = BatchHeader::parse(&bytes).unwrap();
            assert_eq!(Spec::of(&header, &bytes), Some(spec));
        }
        assert_eq!(SPEC.marker(5), None);
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
