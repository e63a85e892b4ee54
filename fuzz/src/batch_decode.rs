//! Batches and their records: what is accepted, what is read, what is written again.
//!
//! Invariant under test: a batch is accepted exactly if the naive reader accepts it, says the same, and is the same
//! bytes when it is written again; what a builder wrote is read back; the short way through records agrees with the
//! long one; and no payload yields or takes more memory than its reader allows.

use std::borrow::Cow;

use bytes::Bytes;
use oncelog::format::batch::{HEADER_SIZE, seal};
use oncelog::format::compression::{CompressionError, decompress};
use oncelog::format::control::ControlRecord;
use oncelog::format::record::{RecordSummary, Records, validate_records};
use oncelog::{
    BatchBuilder, BatchHeader, Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId, RawBatch, Sequence,
};

use super::input::{Input, mutate};
use super::naive::{self, OwnedRecord};

/// Most bytes that a payload may open to here.
const LIMIT: usize = 1 << 16;
/// A decoder's own growth may be ahead of its output by doubling, never by what a header claims.
const MOST_CAPACITY: usize = 4 * LIMIT;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(5) {
        0 => judge(input.rest()),
        4 => {
            let count = i32::from(input.number::<i8>());
            judge_records(input.rest(), count);
        }
        1 => {
            let mut bytes = input.rest().to_vec();
            naive::repair_batch(&mut bytes);
            judge(&bytes);
        }
        mode => {
            let planned = Planned::read(&mut input);
            let Some(built) = planned.build() else { return };
            planned.assert_is_read_back(&built);
            let mut bytes = built.to_vec();
            mutate(&mut input, &mut bytes, 6);
            if mode == 3 {
                naive::repair_batch(&mut bytes);
            }
            judge(&bytes);
        }
    }
}

/// A batch that is given to the builder, in the words of the naive reader.
struct Planned {
    records: Vec<OwnedRecord>,
    base_timestamp: i64,
    codec: Codec,
    producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    transactional: bool,
}

impl Planned {
    fn read(input: &mut Input<'_>) -> Self {
        let codec = Codec::ALL[input.below(Codec::ALL.len())];
        let flags: u8 = input.number();
        let sequence = Sequence::new(input.number::<i32>() & i32::MAX).unwrap_or_default();
        let producer = (flags & 1 == 1).then(|| {
            let epoch = input.number::<i16>() & i16::MAX;
            (ProducerId(input.number::<i64>() & i64::MAX), ProducerEpoch(epoch), sequence)
        });
        let base_timestamp = i64::from(input.number::<i32>());
        let mut records = Vec::new();
        for offset_delta in 0..=i32::from(input.number::<u8>() % 12) {
            let timestamp_delta = if offset_delta == 0 { 0 } else { i64::from(input.number::<i32>()) };
            let mut record = OwnedRecord { timestamp_delta, offset_delta, ..OwnedRecord::default() };
            record.key = input.optional_bytes().map(<[u8]>::to_vec);
            record.value = input.optional_bytes().map(<[u8]>::to_vec);
            for _ in 0..input.below(3) {
                let key = String::from_utf8_lossy(input.optional_bytes().unwrap_or_default()).into_owned();
                record.headers.push((key, input.optional_bytes().map(<[u8]>::to_vec)));
            }
            records.push(record);
        }
        let base_offset = Offset(i64::from(input.number::<u32>()));
        let leader_epoch = LeaderEpoch(input.number());
        let transactional = flags & 2 == 2;
        Self { records, base_timestamp, codec, producer, base_offset, leader_epoch, transactional }
    }

    /// The batch, unless its codec is left out of this build.
    fn build(&self) -> Option<Bytes> {
        let mut builder = BatchBuilder::new()
            .codec(self.codec)
            .base_offset(self.base_offset)
            .leader_epoch(self.leader_epoch);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(id, epoch, sequence);
        }
        if self.transactional {
            builder = builder.transactional();
        }
        for record in &self.records {
            let headers: Vec<(&str, Option<&[u8]>)> =
                record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let timestamp = self.base_timestamp + record.timestamp_delta;
            builder = builder.record_with_headers(
                timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &headers,
            );
        }
        builder.build().ok()
    }

    fn assert_is_read_back(&self, built: &Bytes) {
        let checked = RawBatch(built.clone()).check();
        let Ok(checked) = checked else { unreachable!("a built batch is refused: {checked:?}") };
        let header = checked.header();
        let most = self.records.iter().map(|record| record.timestamp_delta).max().unwrap_or(0);
        assert_eq!(header.base_offset, self.base_offset);
        assert_eq!(header.leader_epoch, self.leader_epoch);
        assert_eq!(header.base_timestamp, self.base_timestamp);
        assert_eq!(header.max_timestamp, self.base_timestamp + most);
        assert_eq!(header.attributes.codec(), self.codec.id());
        assert_eq!(header.attributes.is_transactional(), self.transactional);
        assert_eq!(header.producer(), self.producer.map(|(id, epoch, _)| (id, epoch)));
        assert_eq!(header.sequences().map(|(first, _)| first), self.producer.map(|(_, _, first)| first));
        let payload = decompress(self.codec, checked.payload(), LIMIT);
        let Ok(payload) = payload else { unreachable!("a built payload is not opened: {payload:?}") };
        let read: Vec<_> = Records::new(&payload, header.record_count)
            .map(|record| record.map(|record| OwnedRecord::of(&record)))
            .collect();
        assert_eq!(read, self.records.iter().cloned().map(Ok).collect::<Vec<_>>());
    }
}

fn judge(bytes: &[u8]) {
    let expected = naive::batch(bytes);
    let checked = RawBatch(Bytes::copy_from_slice(bytes)).check();
    assert_eq!(checked.as_ref().ok().map(|batch| *batch.header()), expected, "{checked:?}");
    let Ok(checked) = checked else {
        // Payloads reach the records' reader only behind a right CRC; the reader must not rely on that.
        if let Some(payload) = bytes.get(HEADER_SIZE..) {
            judge_records(payload, i32::from(bytes[0]));
        }
        return;
    };
    let header = *checked.header();
    assert_eq!(header.to_bytes().as_slice(), &bytes[..HEADER_SIZE]);
    assert_eq!(seal(header, checked.payload()), bytes);
    judge_stamp(&header, bytes, &checked.stamped_prefix(Offset(7), LeaderEpoch(3)));
    let codec = Codec::from_id(header.attributes.codec());
    assert_eq!(codec.is_ok(), header.attributes.codec() < 5);
    let Ok(codec) = codec else { return };
    if let Some(payload) = open(codec, checked.payload()) {
        judge_records(&payload, header.record_count);
    }
}

/// The leader changes offset and epoch, and nothing of what the CRC covers.
fn judge_stamp(header: &BatchHeader, bytes: &[u8], prefix: &[u8]) {
    let mut stamped = prefix.to_vec();
    stamped.extend_from_slice(&bytes[prefix.len()..]);
    let read = RawBatch(stamped.into()).check();
    let wanted = BatchHeader { base_offset: Offset(7), leader_epoch: LeaderEpoch(3), ..*header };
    assert_eq!(read.map(|batch| *batch.header()), Ok(wanted));
}

/// The payload, if it opens; its size and memory are bounded either way, and a larger bound changes nothing else.
fn open(codec: Codec, payload: &[u8]) -> Option<Vec<u8>> {
    let opened = decompress(codec, payload, LIMIT);
    let twice = decompress(codec, payload, 2 * LIMIT);
    match opened {
        Ok(Cow::Borrowed(same)) => {
            assert_eq!((codec, same), (Codec::None, payload));
            Some(same.to_vec())
        }
        Ok(Cow::Owned(opened)) => {
            assert!(opened.len() <= LIMIT, "{} bytes", opened.len());
            assert!(opened.capacity() <= MOST_CAPACITY, "{} bytes are held", opened.capacity());
            assert_eq!(twice.as_deref(), Ok(opened.as_slice()));
            Some(opened)
        }
        Err(CompressionError::TooLarge { limit }) => {
            assert_eq!(limit, LIMIT);
            assert!(!twice.is_ok_and(|opened| opened.len() <= LIMIT), "too large, and then not");
            None
        }
        Err(CompressionError::Malformed(_)) => None,
        Err(other) => unreachable!("a codec that has a number: {other}"),
    }
}

fn judge_records(payload: &[u8], count: i32) {
    let (expected, whole) = naive::records(payload, count);
    let mut read = Vec::new();
    let mut failed = None;
    for record in Records::new(payload, count) {
        assert_eq!(failed, None, "an item behind an error");
        match record {
            Ok(record) => {
                // A control record may be anything; what is one is read without a panic.
                let _ = ControlRecord::parse(&record);
                read.push(OwnedRecord::of(&record));
            }
            Err(malformed) => failed = Some(malformed),
        }
    }
    assert_eq!(read, expected);
    assert_eq!(failed.is_none(), whole, "{failed:?}");

    let consecutive = (0..).zip(&expected).all(|(delta, record)| record.offset_delta == delta);
    let deltas = || expected.iter().map(|record| record.timestamp_delta);
    // A negative count is no records to a reader and a mistake to a validator.
    let summary = (count >= 0 && whole && consecutive).then(|| RecordSummary {
        min_timestamp_delta: deltas().min().unwrap_or(0),
        max_timestamp_delta: deltas().max().unwrap_or(0),
        first_without_key: expected
            .iter()
            .find(|record| record.key.is_none())
            .map(|record| record.offset_delta),
    });
    let validated = validate_records(payload, count);
    assert_eq!(validated.as_ref().ok(), summary.as_ref(), "{validated:?}");
}
