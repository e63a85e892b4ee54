//! What a batch in one of these partitions holds: records with keys, of which there are few.
//!
//! Invariant: a function of the seed and the [`Spec`] alone. Every record has a key, some have no value.

use bytes::Bytes;
use oncelog::error::Malformed;
use oncelog::format::batch::{BatchHeader, HEADER_SIZE};
use oncelog::format::batch_builder::BatchBuilder;
use oncelog::format::record::Records;
use oncelog::types::{ProducerEpoch, ProducerId};

use super::super::batch::{Kind, Spec, sequence};

/// Keys of a partition.
const KEYS: u8 = 24;
const VALUE_BYTES: usize = 60;
/// One of so many records is a tombstone.
const TOMBSTONES: u8 = 8;

/// A record that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) key: u8,
    /// `None`: a tombstone.
    pub(super) value: Option<Vec<u8>>,
}

/// The records of a batch; none of a marker.
pub(super) fn records(spec: &Spec, seed: u64) -> Vec<Sent> {
    if spec.is_marker() {
        return Vec::new();
    }
    let mut random = spec.randomness(seed ^ 0x6b65_7973);
    let mut one = |_| {
        let key = random.u8(..KEYS);
        let len = random.usize(1..VALUE_BYTES);
        let value = (random.u8(..TOMBSTONES) > 0).then(|| (0..len).map(|_| random.u8(..)).collect());
        Sent { key, value }
    };
    (0..spec.count).map(&mut one).collect()
}

/// The batch as a client sends it.
pub(super) fn bytes(spec: &Spec, seed: u64) -> Result<Bytes, Malformed> {
    let timestamp = spec.timestamp(seed);
    let mut builder = BatchBuilder::new().producer(
        ProducerId(spec.producer),
        ProducerEpoch(spec.epoch),
        sequence(spec.first),
    );
    if spec.kind == Kind::Transactional {
        builder = builder.transactional();
    }
    for Sent { key, value } in records(spec, seed) {
        builder = builder.record_at(timestamp, Some(&[key]), value.as_deref());
    }
    builder.build()
}

/// The offsets of the records that a stored batch still has, if all of them are those that were sent.
pub(super) fn compare(
    spec: &Spec,
    seed: u64,
    header: &BatchHeader,
    batch: &[u8],
) -> Result<Vec<i64>, String> {
    let stored = (header.producer_id, header.producer_epoch, header.last_offset().0);
    let base = header.base_offset.0;
    if stored != (spec.producer, spec.epoch, spec.last_offset(base)) {
        return Err(format!("its header says {header:?}"));
    }
    let payload = batch.get(HEADER_SIZE..).unwrap_or_default();
    if spec.is_marker() {
        let is_it = header.record_count == 0 || Spec::of(header, batch) == Some(*spec);
        return if is_it && header.attributes.is_control() {
            Ok(Vec::new())
        } else {
            Err(format!("it is no such marker: {header:?}"))
        };
    }
    if header.base_sequence != spec.first
        || header.attributes.is_control()
        || header.attributes.is_transactional() != (spec.kind == Kind::Transactional)
    {
        return Err(format!("its header says {header:?}"));
    }
    let sent = records(spec, seed);
    let mut found = Vec::new();
    for record in Records::new(payload, header.record_count) {
        let record = record.map_err(|error| error.to_string())?;
        let nth = usize::try_from(record.offset_delta).unwrap_or(usize::MAX);
        let same = sent.get(nth).is_some_and(|sent| {
            record.key == Some(&[sent.key][..])
                && record.value == sent.value.as_deref()
                && record.timestamp(header) == spec.timestamp(seed)
        });
        if !same {
            return Err(format!("record {nth} is another than was sent"));
        }
        found.push(record.offset(header).0);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec = Spec { producer: 7, epoch: 2, first: 9, count: 4, kind: Kind::Plain };

    #[test]
    fn a_batch_that_was_sent_compares_equal_and_another_does_not() {
        let batch = bytes(&SPEC, 1).unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        assert_eq!(compare(&SPEC, 1, &header, &batch), Ok(vec![0, 1, 2, 3]));
        assert_eq!(compare(&SPEC, 2, &header, &batch), Err("record 0 is another than was sent".to_owned()));
        let other = Spec { kind: Kind::Transactional, ..SPEC };
        assert!(compare(&other, 1, &header, &batch).is_err());
        assert!(compare(&Spec { count: 3, ..SPEC }, 1, &header, &batch).is_err());
    }

    #[test]
    fn some_records_are_tombstones_and_few_keys_are_used() {
        let sent: Vec<Sent> = (0..200).flat_map(|first| records(&Spec { first, ..SPEC }, 1)).collect();
        assert!(sent.iter().any(|record| record.value.is_none()));
        assert!(sent.iter().filter(|record| record.value.is_some()).count() > sent.len() / 2);
        assert!(sent.iter().all(|record| record.key < KEYS));
    }
}
