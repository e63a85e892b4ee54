//! What can go wrong, grouped by who is to blame, with the Kafka error code that tells a client the truth.
//!
//! Invariant: an error of a producing client maps to exactly one Kafka code; an error about bytes names the file, the
//! byte range, what was expected, what was found and what to do. `Display` is for people.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::{CoordinatorEpoch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Everything the engine answers instead of a result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Refused by a rule of the protocol: certainly not in the log, and the log is unchanged.
    #[error("rejected: {0}")]
    Rejected(#[from] Rejection),
    /// Certainly not in the log; the same request may succeed later. Kafka code 56.
    #[error("unavailable: {why}")]
    Unavailable {
        /// What stood in the way.
        why: String,
    },
    /// May or may not be in the log after a restart. Retry it: the answer will be true. Kafka code 56.
    #[error("indeterminate: {why}; the batch may be in the log, a retry after reopening tells")]
    Indeterminate {
        /// What failed.
        why: String,
    },
    /// Bytes on disk are not what they must be.
    #[error(transparent)]
    Corrupt(#[from] Box<Corruption>),
    /// The operating system refused an operation.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// Another log, process or Kafka broker has the directory.
    #[error("{} is locked: {holder}; close the other user or choose another directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Who can be holding it.
        holder: String,
    },
    /// An offset outside of what the log holds. Kafka code 1.
    #[error(
        "offset {asked} is outside of the log, which holds {log_start_offset} to {log_end_offset} (exclusive)"
    )]
    OffsetOutOfRange {
        /// The offset that was asked for.
        asked: Offset,
        /// First readable offset.
        log_start_offset: Offset,
        /// Next offset to be assigned.
        log_end_offset: Offset,
    },
    /// A truncation to an offset below which the log keeps no producer state. Kafka code 1.
    #[error(
        "the log cannot be cut at offset {asked}: its producers are not known at any offset below {lowest}, and its \
         beginning is gone; start it fully at an offset (Log::truncate_fully_and_start_at) and fetch it from a replica"
    )]
    TruncationTooLow {
        /// The offset that was asked for.
        asked: Offset,
        /// The lowest offset at which the producers are known.
        lowest: Offset,
    },
    /// The bytes of a fetch were cut from the log by a truncation, or the log was closed and may have been cut since.
    /// Fetch again. Kafka code 56.
    #[error("the log was truncated or closed since the fetch; fetch again")]
    Truncated,
    /// A follower's batches do not continue its log. Kafka code 1.
    #[error(
        "batches of offsets {first} to {last} cannot be appended to a log that ends at offset {log_end_offset}"
    )]
    UnexpectedAppendOffset {
        /// Offset of the first record of the batches.
        first: Offset,
        /// Offset of their last record.
        last: Offset,
        /// Where the log ends.
        log_end_offset: Offset,
    },
    /// A follower's batch carries an older leader epoch than the log. Kafka code 74.
    #[error("a batch of leader epoch {} cannot follow one of epoch {}", found.0, newest.0)]
    FencedLeaderEpoch {
        /// Epoch of the last batch of the log.
        newest: LeaderEpoch,
        /// Epoch of the batch.
        found: LeaderEpoch,
    },
    /// The embedder called with something that can never work.
    #[error("misuse: {0}")]
    Misuse(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Wraps what the system said about `operation` on `path`.
    #[must_use]
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// The Kafka error code that a broker sends for this error.
    ///
    /// Never -1 (`UNKNOWN_SERVER_ERROR`): clients mishandle it. `docs/ERRORS.md` has the table.
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::Rejected(rejection) => rejection.kafka_code(),
            Self::OffsetOutOfRange { .. }
            | Self::TruncationTooLow { .. }
            | Self::UnexpectedAppendOffset { .. } => 1,
            Self::FencedLeaderEpoch { .. } => 74,
            Self::Unavailable { .. }
            | Self::Indeterminate { .. }
            | Self::Corrupt(_)
            | Self::Io { .. }
            | Self::Locked { .. }
            | Self::Truncated
            | Self::Misuse(_)
            | Self::Closed => 56,
        }
    }
}

/// Damage found in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}: bytes {}..{} are damaged: {what}: expected {expected}, found {found}{}; {advice}",
    path.display(), bytes.start, bytes.end, offsets_text(offsets.as_ref())
)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// The damaged bytes, end exclusive.
    pub bytes: Range<u64>,
    /// The offsets that are affected, end exclusive, where they are known.
    pub offsets: Option<Range<Offset>>,
    /// The rule that is broken.
    pub what: String,
    /// What the rule asks for.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// What the reader of this message can do.
    pub advice: String,
}

fn offsets_text(offsets: Option<&Range<Offset>>) -> String {
    offsets.map_or_else(String::new, |range| format!(" (offsets {} to {})", range.start, range.end))
}

/// Bytes that do not parse, as a format module sees them: it knows the place, not the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} at byte {at}: expected {expected}, found {found}")]
pub struct Malformed {
    /// The field or rule, in the words of `docs/FORMAT.md`.
    pub field: &'static str,
    /// Byte within what was parsed.
    pub at: u64,
    /// What the format asks for.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl Malformed {
    /// A field that breaks the format.
    pub fn new(field: &'static str, at: u64, expected: impl ToString, found: impl ToString) -> Self {
        Self { field, at, expected: expected.to_string(), found: found.to_string() }
    }

    /// The same with the file it was found in, `base` bytes into it.
    #[must_use]
    pub fn in_file(self, path: &Path, base: u64, len: u64, advice: impl ToString) -> Corruption {
        let start = base.saturating_add(self.at);
        Corruption {
            path: path.to_path_buf(),
            bytes: start..base.saturating_add(len).max(start),
            offsets: None,
            what: self.field.to_owned(),
            expected: self.expected,
            found: self.found,
            advice: advice.to_string(),
        }
    }
}

/// A batch that a rule of the protocol refuses, with what the rule expected.
///
/// Each variant has one Kafka code. Codes 45 and 59 make clients write the batch again, so they are given only when
/// nothing of it is stored; 87 fails the record visibly and nothing is written twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// A batch before this one is certainly missing (`OUT_OF_ORDER_SEQUENCE_NUMBER`).
    #[error(
        "producer {producer} sent sequence {found}, but {expected} is next: a batch is missing before it"
    )]
    OutOfOrder {
        /// Whose batch.
        producer: ProducerId,
        /// The sequence that would append.
        expected: Sequence,
        /// The first sequence of the batch.
        found: Sequence,
    },
    /// The same sequences are stored, but in a transaction that was aborted (`OUT_OF_ORDER_SEQUENCE_NUMBER`).
    #[error("producer {producer} retried sequence {found} of an aborted transaction; {expected} is next")]
    AbortedRetry {
        /// Whose batch.
        producer: ProducerId,
        /// The sequence that would append.
        expected: Sequence,
        /// The first sequence of the batch.
        found: Sequence,
    },
    /// A part of the batch is stored, with other borders (`INVALID_RECORD`).
    #[error(
        "producer {producer} sent sequences {first} to {last}, which overlap stored ones without being equal; {expected} is next"
    )]
    SequenceOverlap {
        /// Whose batch.
        producer: ProducerId,
        /// First sequence of the batch.
        first: Sequence,
        /// Last sequence of the batch.
        last: Sequence,
        /// The sequence that would append.
        expected: Sequence,
    },
    /// Older than the window, and it can be neither proven nor excluded that it is stored (`INVALID_RECORD`).
    #[error(
        "producer {producer} sent sequence {found}, older than all that is known; it can be neither proven nor excluded that it is stored; {expected} is next"
    )]
    SequenceUnknown {
        /// Whose batch.
        producer: ProducerId,
        /// The first sequence of the batch.
        found: Sequence,
        /// The sequence that would append.
        expected: Sequence,
    },
    /// A newer incarnation of the producer has written (`INVALID_PRODUCER_EPOCH`).
    #[error("producer {producer} sent epoch {found}, but epoch {current} has written since: it is fenced")]
    Fenced {
        /// Whose batch.
        producer: ProducerId,
        /// The newest epoch seen.
        current: ProducerEpoch,
        /// The epoch of the batch.
        found: ProducerEpoch,
    },
    /// A newer incarnation of the transaction coordinator has written a marker (`TRANSACTION_COORDINATOR_FENCED`).
    #[error("a marker for producer {producer} comes from coordinator epoch {}, but epoch {} has written since", found.0, current.0)]
    CoordinatorFenced {
        /// Whose transaction.
        producer: ProducerId,
        /// The newest coordinator epoch seen.
        current: CoordinatorEpoch,
        /// The coordinator epoch of the marker.
        found: CoordinatorEpoch,
    },
    /// Nothing is known of the producer and the batch is not its first (`UNKNOWN_PRODUCER_ID`).
    #[error(
        "producer {producer} is unknown here and sent sequence {found}; it must start at 0 (log starts at {log_start_offset})"
    )]
    UnknownProducer {
        /// Whose batch.
        producer: ProducerId,
        /// The first sequence of the batch.
        found: Sequence,
        /// First readable offset: a client resets itself by it.
        log_start_offset: Offset,
    },
    /// The bytes are damaged or badly framed (`CORRUPT_MESSAGE`).
    #[error("corrupt batch: {0}")]
    CorruptMessage(Malformed),
    /// The batch breaks a rule for records (`INVALID_RECORD`).
    #[error("invalid record: {0}")]
    InvalidRecord(Malformed),
    /// A timestamp lies outside of the accepted range (`INVALID_TIMESTAMP`).
    #[error("invalid timestamp: {0}")]
    InvalidTimestamp(Malformed),
    /// Larger than `max_batch_bytes` (`MESSAGE_TOO_LARGE`).
    #[error("batch of {found} bytes; at most {limit} are accepted")]
    BatchTooLarge {
        /// The configured limit, in bytes.
        limit: u64,
        /// Size of the batch, in bytes.
        found: u64,
    },
    /// Larger than a whole segment (`RECORD_LIST_TOO_LARGE`).
    #[error("batch of {found} bytes; a segment holds {limit}")]
    SegmentTooSmall {
        /// The configured segment size, in bytes.
        limit: u64,
        /// Size of the batch, in bytes.
        found: u64,
    },
    /// Compressed with a codec that this build does not know (`UNSUPPORTED_COMPRESSION_TYPE`).
    #[error("compression codec {codec} is not supported: {why}")]
    UnsupportedCompression {
        /// Codec number in the attributes.
        codec: u8,
        /// Whether it is unknown or not built in.
        why: String,
    },
    /// Against the rules of transactions (`INVALID_TXN_STATE`).
    #[error("invalid transaction state: {0}")]
    InvalidTxnState(String),
}

impl Rejection {
    /// The Kafka error code (`org.apache.kafka.common.protocol.Errors`).
    #[must_use]
    pub fn kafka_code(&self) -> i16 {
        match self {
            Self::CorruptMessage(_) => 2,
            Self::BatchTooLarge { .. } => 10,
            Self::SegmentTooSmall { .. } => 18,
            Self::InvalidTimestamp(_) => 32,
            Self::OutOfOrder { .. } | Self::AbortedRetry { .. } => 45,
            Self::Fenced { .. } => 47,
            Self::InvalidTxnState(_) => 48,
            Self::CoordinatorFenced { .. } => 52,
            Self::UnknownProducer { .. } => 59,
            Self::UnsupportedCompression { .. } => 76,
            Self::InvalidRecord(_) | Self::SequenceOverlap { .. } | Self::SequenceUnknown { .. } => 87,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_says_that_its_number_is_a_producers() {
        let (producer, first) = (ProducerId(7), Sequence::ZERO);
        let (current, found) = (ProducerEpoch(2), ProducerEpoch(1));
        let old = CoordinatorEpoch(3);
        let all = [
            Rejection::OutOfOrder { producer, expected: first, found: first },
            Rejection::AbortedRetry { producer, expected: first, found: first },
            Rejection::SequenceOverlap { producer, first, last: first, expected: first },
            Rejection::SequenceUnknown { producer, found: first, expected: first },
            Rejection::Fenced { producer, current, found },
            Rejection::CoordinatorFenced { producer, current: CoordinatorEpoch(4), found: old },
            Rejection::UnknownProducer { producer, found: first, log_start_offset: Offset::ZERO },
        ];
        for rejection in all {
            assert!(rejection.to_string().contains("producer 7 "), "{rejection}");
        }
    }
}
