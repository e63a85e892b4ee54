//! Records as compaction needs them: key, whether there is a value, and the bytes, to be kept as they stand.
//!
//! Invariant: the spans of a payload are its bytes without a gap; a span copied behind another is again a record.

use super::{length, optional, record_body};
use crate::error::Malformed;
use crate::format::cursor::{Cursor, put_varlong};

/// One record, opened as far as compaction looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSpan<'a> {
    /// All of it, its length included.
    pub bytes: &'a [u8],
    /// As in [`super::Record::timestamp_delta`].
    pub timestamp_delta: i64,
    /// As in [`super::Record::offset_delta`].
    pub offset_delta: i32,
    /// As in [`super::Record::key`].
    pub key: Option<&'a [u8]>,
    /// Whether it is no tombstone.
    pub has_value: bool,
    attributes: i8,
    /// From the offset delta on.
    rest: &'a [u8],
}

impl RecordSpan<'_> {
    /// Appends the record with a timestamp that is `add` milliseconds further from the base timestamp.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if timestamp or length leave the range of the format.
    pub fn put_moved(&self, add: i64, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let out_of_range =
            |field, found: &dyn ToString| Malformed::new(field, 0, "a value in its range", found.to_string());
        let delta = self
            .timestamp_delta
            .checked_add(add)
            .ok_or_else(|| out_of_range("timestamp delta", &self.timestamp_delta))?;
        let mut head = vec![self.attributes.cast_unsigned()];
        put_varlong(&mut head, delta);
        let len = head.len().saturating_add(self.rest.len());
        let len = i32::try_from(len).map_err(|_| out_of_range("record length", &len))?;
        put_varlong(out, i64::from(len));
        out.extend_from_slice(&head);
        out.extend_from_slice(self.rest);
        Ok(())
    }
}

/// The records of `payload`, which the batch header says are `record_count`, each shown to `visit`.
///
/// # Errors
///
/// [`Malformed`] at the first record that is cut off or longer than it says, or for bytes behind the last one. Headers
/// of records are passed over unread.
pub fn for_each_span<'a>(
    payload: &'a [u8],
    record_count: i32,
    mut visit: impl FnMut(RecordSpan<'a>),
) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(payload);
    for _ in 0..record_count {
        let start = cursor.position();
        let mut body = record_body(&mut cursor)?;
        let end = cursor.position();
        let attributes = body.i8("record attributes")?;
        let timestamp_delta = body.varlong("timestamp delta")?;
        let rest = payload.get(body.position()..end).unwrap_or_default();
        let offset_delta = length(&mut body, "offset delta")?;
        let key = optional(&mut body, "record key")?;
        let has_value = optional(&mut body, "record value")?.is_some();
        let bytes = payload.get(start..end).unwrap_or_default();
        visit(RecordSpan { bytes, timestamp_delta, offset_delta, key, has_value, attributes, rest });
    }
    cursor.finish("record count")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::batch::{BatchHeader, HEADER_SIZE};
    use crate::format::batch_builder::BatchBuilder;

    fn batch() -> (BatchHeader, Vec<u8>) {
        let bytes = BatchBuilder::new()
            .record_at(1_000, Some(b"a"), Some(b"1"))
            .record_with_headers(1_007, Some(b"b"), None, &[("h", Some(b"x")), ("h", None)])
            .record_at(900, None, Some(b""))
            .build()
            .unwrap();
        (BatchHeader::parse(&bytes).unwrap(), bytes[HEADER_SIZE..].to_vec())
    }

    #[test]
    fn the_spans_of_a_payload_are_its_bytes() {
        let (header, payload) = batch();
        let (mut bytes, mut seen) = (Vec::new(), Vec::new());
        for_each_span(&payload, header.record_count, |span| {
            bytes.extend_from_slice(span.bytes);
            seen.push((
                span.timestamp_delta,
                span.offset_delta,
                span.key.map(<[u8]>::to_vec),
                span.has_value,
            ));
        })
        .unwrap();
        assert_eq!(bytes, payload);
        assert_eq!(
            seen,
            [(0, 0, Some(b"a".to_vec()), true), (7, 1, Some(b"b".to_vec()), false), (-100, 2, None, true)]
        );
    }

    #[test]
    fn a_moved_record_differs_in_its_timestamp_delta_alone() {
        let (header, payload) = batch();
        let mut moved = Vec::new();
        for_each_span(&payload, header.record_count, |span| span.put_moved(-5_000, &mut moved).unwrap())
            .unwrap();
        let records = |payload: &[u8], add: i64| {
            super::super::Records::new(payload, header.record_count)
                .map(|record| {
                    let record = record.unwrap();
                    let headers: Vec<_> = record
                        .headers
                        .iter()
                        .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                        .collect();
                    let bytes = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
                    (
                        record.timestamp_delta + add,
                        record.offset_delta,
                        bytes(record.key),
                        bytes(record.value),
                        headers,
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(records(&moved, 5_000), records(&payload, 0));
    }

    #[test]
    fn a_record_that_is_cut_off_and_bytes_behind_the_last_are_refused() {
        let (header, mut payload) = batch();
        let cut = for_each_span(&payload[..payload.len() - 1], header.record_count, |_| {});
        assert_eq!(cut.unwrap_err().field, "record");
        payload.push(0);
        assert_eq!(for_each_span(&payload, header.record_count, |_| {}).unwrap_err().field, "record count");
    }
}
