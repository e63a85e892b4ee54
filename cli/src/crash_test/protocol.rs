//! What parent and child say to each other over the child's standard input and output.
//!
//! Invariant: a frame is a length (4 bytes, little endian) and that many bytes; what was written to the pipe before a
//! `SIGKILL` can still be read after it, so the parent knows everything that the child had said. A frame that the kill
//! cut short is no frame. The frames that a child sends thousands of times are spelled in bytes, the rest in JSON.

mod compact;
mod orders;
#[cfg(test)]
mod tests;
mod upkeep;

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, Bytes, TryGetError};
use oncelog::types::Durability;
use serde::{Deserialize, Serialize};

pub(super) use self::orders::{Armed, Failures, Probe, Producer, Start, Work};
pub(super) use self::upkeep::{Decided, Deletions, Upkeep};
use super::batch::Spec;
use super::partitions::{Asked, Deed, Outcome, Seen};

/// The greatest frame that is accepted: a bound on what a damaged length can allocate.
const MAX_FRAME: usize = 64 << 20;

/// What the parent asks of the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Command {
    /// Open the log.
    Start(Box<Start>),
    /// Send every batch from this offset on, and the ends of the log.
    Dump { from: i64 },
    /// Send what is known of transactions, and what a reader of committed records sees from this offset on.
    Decide { from: i64 },
    /// Truncate or delete, and die at this point of it.
    Upkeep(Upkeep, Option<Armed>),
    /// Append these batches as a follower, all at once.
    Follow(Vec<Probe>),
    /// Make all durable.
    Flush,
    /// Send the batch that holds each of these offsets.
    Fetch(Vec<i64>),
    /// Submit these batches in this order.
    Probe(Vec<Probe>),
    /// Show the other partitions of the root.
    Survey,
    /// Submit these to the other partitions, one after the other.
    Ask(Vec<Asked>),
    /// Append until killed.
    Work(Box<Work>),
    /// Stop appending, close the log, end.
    Close,
}

/// What the child tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Opened(Box<Opened>),
    OpenFailed(String),
    /// A batch of a dump, as stored.
    Batch(Bytes),
    DumpEnd(Ends),
    /// About to submit. Comes before anything the submit can cause.
    Intent(Intent),
    Answer {
        id: u32,
        answer: Answer,
    },
    /// All was fetched.
    Fetched,
    Decided(Box<Decided>),
    /// Ranges of offsets (both ends inclusive) that a reader of committed records was shown.
    Committed(Vec<(i64, i64)>),
    /// About to delete the records before this offset.
    Deleting {
        to: i64,
    },
    /// The log start after that, or why not.
    Deleted(Result<i64, String>),
    /// The log end after a truncation; the error begins with "too low" if that is the reason.
    Cut(Result<i64, String>),
    Flushed,
    ProbesDone,
    /// The batches since the last of these are this partition's.
    Seen(Box<Seen>),
    /// All partitions were shown.
    Surveyed,
    /// The answers to all that was asked, in that order.
    Replies(Vec<Answer>),
    /// About to do this to the root.
    Deed(Box<Deed>),
    Outcome(Box<Outcome>),
    /// The first new batch comes next.
    Working,
    Disk(Disk),
    Closed,
    /// The child could not do what it was asked, which is a violation unless the log was made to fail.
    Fault(String),
}

/// What the recovery report said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// The kind of recovery, in the words of the library's `Debug`.
    pub(super) kind: String,
    /// Numbers of the runs in use, base first.
    pub(super) runs: Vec<u64>,
    pub(super) previous_chain: bool,
    pub(super) snapshot: Option<String>,
    /// Names of the files that were not believed, with the reason.
    pub(super) rejected: Vec<(String, String)>,
    pub(super) scanned_bytes: u64,
    pub(super) unverified_bytes: u64,
    pub(super) replayed_bytes: u64,
    pub(super) cuts: Vec<String>,
    pub(super) text: String,
}

/// The ends of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ends {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) high_watermark: i64,
}

/// What a submit is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The producer's next batch.
    Fresh,
    /// A batch that was answered `Unavailable`, or refused because one before it was.
    Again,
    /// One of the producer's last five batches, answered or still in flight.
    Repeat,
    /// A sequence that leaves one out.
    Gap,
    /// An epoch that is over.
    OldEpoch,
    /// The marker that ends the producer's transaction.
    End,
    /// A batch of the transaction that was aborted just now.
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Intent {
    pub(super) id: u32,
    pub(super) lane: u8,
    pub(super) purpose: Purpose,
    pub(super) durability: Durability,
    pub(super) spec: Spec,
}

/// What the log answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Appended(Place),
    Duplicate(Place),
    DuplicateBeyondWindow,
    OutOfOrder {
        expected: i32,
    },
    Fenced {
        current: i16,
    },
    SequenceOverlap,
    SequenceUnknown,
    UnknownProducer,
    AbortedRetry,
    CoordinatorFenced {
        current: i32,
    },
    /// Another rejection.
    Rejected(String),
    Unavailable(String),
    Indeterminate(String),
    /// Any other error.
    Failed(String),
}

/// Where a batch is, by the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) timestamp: i64,
}

/// What happened to the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// The first `len` bytes are on the medium.
    Synced {
        name: String,
        len: u64,
    },
    Renamed {
        from: String,
        to: String,
    },
    Removed {
        name: String,
    },
    /// The file was cut to this length.
    Cut {
        name: String,
        len: u64,
    },
    /// All names in this directory are on the medium.
    DirSynced {
        name: String,
    },
    /// A write was made to fail.
    Failed {
        name: String,
    },
}

impl Command {
    pub(super) fn send(&self, to: &mut impl Write) -> io::Result<()> {
        let body = serde_json::to_vec(self)?;
        let mut frame = Vec::with_capacity(body.len() + 4);
        frame.put_u32_le(u32::try_from(body.len()).map_err(io::Error::other)?);
        frame.extend_from_slice(&body);
        to.write_all(&frame)
    }

    /// The next command; `None` if the parent is gone.
    pub(super) fn receive(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(body) = read_frame(from)? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

/// The next whole frame; `None` at the end, also inside of a frame.
fn read_frame(from: &mut impl Read) -> io::Result<Option<Bytes>> {
    let mut len = [0; 4];
    if !read_whole(from, &mut len)? {
        return Ok(None);
    }
    let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes")));
    }
    let mut body = vec![0; len];
    Ok(read_whole(from, &mut body)?.then(|| body.into()))
}

fn read_whole(from: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(into) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

impl Event {
    /// The next event; `None` if the child is gone.
    pub(super) fn receive(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(mut body) = read_frame(from)? else { return Ok(None) };
        let event =
            Self::decode(&mut body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some(event))
    }

    /// The whole frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        match self {
            Self::Opened(opened) => put_json(&mut out, 0, &**opened),
            Self::OpenFailed(text) => put_json(&mut out, 1, text),
            Self::Batch(bytes) => {
                out.put_u8(2);
                out.extend_from_slice(bytes);
            }
            Self::DumpEnd(ends) => put_json(&mut out, 3, ends),
            Self::Intent(intent) => {
                out.put_u8(4);
                intent.put(&mut out);
            }
            Self::Answer { id, answer } => {
                out.put_u8(5);
                out.put_u32_le(*id);
                answer.put(&mut out);
            }
            Self::ProbesDone => out.put_u8(6),
            Self::Working => out.put_u8(7),
            Self::Disk(disk) => {
                out.put_u8(8);
                disk.put(&mut out);
            }
            Self::Closed => out.put_u8(9),
            Self::Fault(text) => put_json(&mut out, 10, text),
            Self::Fetched => out.put_u8(11),
            Self::Decided(decided) => put_json(&mut out, 12, &**decided),
            Self::Committed(ranges) => put_json(&mut out, 13, ranges),
            Self::Deleting { to } => {
                out.put_u8(14);
                out.put_i64_le(*to);
            }
            Self::Deleted(outcome) => put_json(&mut out, 15, outcome),
            Self::Cut(outcome) => put_json(&mut out, 16, outcome),
            Self::Flushed => out.put_u8(17),
            Self::Seen(seen) => put_json(&mut out, 18, &**seen),
            Self::Surveyed => out.put_u8(19),
            Self::Replies(answers) => put_json(&mut out, 20, answers),
            Self::Deed(deed) => put_json(&mut out, 21, &**deed),
            Self::Outcome(outcome) => put_json(&mut out, 22, &**outcome),
        }
        let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        for (to, from) in out.iter_mut().zip(len.to_le_bytes()) {
            *to = from;
        }
        out
    }

    fn decode(body: &mut Bytes) -> Result<Self, Unreadable> {
        Ok(match body.try_get_u8()? {
            0 => Self::Opened(serde_json::from_slice(body)?),
            1 => Self::OpenFailed(serde_json::from_slice(body)?),
            2 => Self::Batch(body.clone()),
            3 => Self::DumpEnd(serde_json::from_slice(body)?),
            4 => Self::Intent(Intent::get(body)?),
            5 => Self::Answer { id: body.try_get_u32_le()?, answer: Answer::get(body)? },
            6 => Self::ProbesDone,
            7 => Self::Working,
            8 => Self::Disk(Disk::get(body)?),
            9 => Self::Closed,
            10 => Self::Fault(serde_json::from_slice(body)?),
            11 => Self::Fetched,
            12 => Self::Decided(serde_json::from_slice(body)?),
            13 => Self::Committed(serde_json::from_slice(body)?),
            14 => Self::Deleting { to: body.try_get_i64_le()? },
            15 => Self::Deleted(serde_json::from_slice(body)?),
            16 => Self::Cut(serde_json::from_slice(body)?),
            17 => Self::Flushed,
            18 => Self::Seen(serde_json::from_slice(body)?),
            19 => Self::Surveyed,
            20 => Self::Replies(serde_json::from_slice(body)?),
            21 => Self::Deed(serde_json::from_slice(body)?),
            22 => Self::Outcome(serde_json::from_slice(body)?),
            tag => return Err(Unreadable::Tag(tag)),
        })
    }
}

fn put_json(out: &mut Vec<u8>, tag: u8, value: &impl Serialize) {
    out.put_u8(tag);
    match serde_json::to_vec(value) {
        Ok(body) => out.extend_from_slice(&body),
        // Only numbers and strings are ever told, and those can always be spelled.
        Err(error) => out.extend_from_slice(format!("\"{error}\"").as_bytes()),
    }
}

/// A frame that makes no sense.
#[derive(Debug)]
enum Unreadable {
    Short(TryGetError),
    Json(serde_json::Error),
    Tag(u8),
}

impl std::error::Error for Unreadable {}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(error) => write!(f, "a frame is too short: {error}"),
            Self::Json(error) => write!(f, "a frame is no JSON: {error}"),
            Self::Tag(tag) => write!(f, "a frame has the unknown tag {tag}"),
        }
    }
}

impl From<TryGetError> for Unreadable {
    fn from(error: TryGetError) -> Self {
        Self::Short(error)
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}
