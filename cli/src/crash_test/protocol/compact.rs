//! Byte spelling of the frames that come thousands of times a second.
//!
//! Invariant: `get` reads exactly what `put` wrote.

use bytes::{Buf, BufMut, Bytes};
use oncelog::types::Durability;

use super::super::batch::{Kind, Spec};
use super::{Answer, Disk, Intent, Place, Purpose, Unreadable};

impl Purpose {
    const ALL: [Self; 7] =
        [Self::Fresh, Self::Again, Self::Repeat, Self::Gap, Self::OldEpoch, Self::End, Self::Aborted];
}

impl Kind {
    const ALL: [Self; 4] = [Self::Plain, Self::Transactional, Self::Commit, Self::Abort];
}

impl Intent {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32_le(self.id);
        out.put_u8(self.lane);
        out.put_u8(self.purpose as u8);
        out.put_u8(u8::from(self.durability == Durability::Durable));
        out.put_i64_le(self.spec.producer);
        out.put_i16_le(self.spec.epoch);
        out.put_i32_le(self.spec.first);
        out.put_u8(self.spec.count);
        out.put_u8(self.spec.kind as u8);
    }

    pub(super) fn get(body: &mut Bytes) -> Result<Self, Unreadable> {
        let (id, lane, purpose) = (body.try_get_u32_le()?, body.try_get_u8()?, body.try_get_u8()?);
        let purpose = *Purpose::ALL.get(usize::from(purpose)).ok_or(Unreadable::Tag(purpose))?;
        let durability = if body.try_get_u8()? == 0 { Durability::Buffered } else { Durability::Durable };
        let (producer, epoch) = (body.try_get_i64_le()?, body.try_get_i16_le()?);
        let (first, count, kind) = (body.try_get_i32_le()?, body.try_get_u8()?, body.try_get_u8()?);
        let kind = *Kind::ALL.get(usize::from(kind)).ok_or(Unreadable::Tag(kind))?;
        let spec = Spec { producer, epoch, first, count, kind };
        Ok(Self { id, lane, purpose, durability, spec })
    }
}

impl Answer {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Appended(place) => put_place(out, 0, place),
            Self::Duplicate(place) => put_place(out, 1, place),
            Self::DuplicateBeyondWindow => out.put_u8(2),
            Self::OutOfOrder { expected } => {
                out.put_u8(3);
                out.put_i32_le(*expected);
            }
            Self::Fenced { current } => {
                out.put_u8(4);
                out.put_i16_le(*current);
            }
            Self::SequenceOverlap => out.put_u8(5),
            Self::SequenceUnknown => out.put_u8(6),
            Self::UnknownProducer => out.put_u8(7),
            Self::Rejected(text) => put_text(out, 8, text),
            Self::Unavailable(text) => put_text(out, 9, text),
            Self::Indeterminate(text) => put_text(out, 10, text),
            Self::Failed(text) => put_text(out, 11, text),
            Self::AbortedRetry => out.put_u8(12),
            Self::CoordinatorFenced { current } => {
                out.put_u8(13);
                out.put_i32_le(*current);
            }
        }
    }

    pub(super) fn get(body: &mut Bytes) -> Result<Self, Unreadable> {
        Ok(match body.try_get_u8()? {
            0 => Self::Appended(get_place(body)?),
            1 => Self::Duplicate(get_place(body)?),
            2 => Self::DuplicateBeyondWindow,
            3 => Self::OutOfOrder { expected: body.try_get_i32_le()? },
            4 => Self::Fenced { current: body.try_get_i16_le()? },
            5 => Self::SequenceOverlap,
            6 => Self::SequenceUnknown,
            7 => Self::UnknownProducer,
            8 => Self::Rejected(get_text(body)),
            9 => Self::Unavailable(get_text(body)),
            10 => Self::Indeterminate(get_text(body)),
            11 => Self::Failed(get_text(body)),
            12 => Self::AbortedRetry,
            13 => Self::CoordinatorFenced { current: body.try_get_i32_le()? },
            tag => return Err(Unreadable::Tag(tag)),
        })
    }
}

fn put_place(out: &mut Vec<u8>, tag: u8, place: &Place) {
    out.put_u8(tag);
    out.put_i64_le(place.base);
    out.put_i64_le(place.last);
    out.put_i64_le(place.timestamp);
}

fn get_place(body: &mut Bytes) -> Result<Place, Unreadable> {
    Ok(Place {
        base: body.try_get_i64_le()?,
        last: body.try_get_i64_le()?,
        timestamp: body.try_get_i64_le()?,
    })
}

fn put_text(out: &mut Vec<u8>, tag: u8, text: &str) {
    out.put_u8(tag);
    out.extend_from_slice(text.as_bytes());
}

/// All that is left of the frame.
fn get_text(body: &mut Bytes) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    body.clear();
    text
}

impl Disk {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Synced { name, len } => {
                out.put_u8(0);
                out.put_u64_le(*len);
                out.extend_from_slice(name.as_bytes());
            }
            Self::Renamed { from, to } => {
                out.put_u8(1);
                out.put_u16_le(u16::try_from(from.len()).unwrap_or(u16::MAX));
                out.extend_from_slice(from.as_bytes());
                out.extend_from_slice(to.as_bytes());
            }
            Self::Removed { name } => put_text(out, 2, name),
            Self::Cut { name, len } => {
                out.put_u8(3);
                out.put_u64_le(*len);
                out.extend_from_slice(name.as_bytes());
            }
            Self::DirSynced { name } => put_text(out, 4, name),
            Self::Failed { name } => put_text(out, 5, name),
        }
    }

    pub(super) fn get(body: &mut Bytes) -> Result<Self, Unreadable> {
        Ok(match body.try_get_u8()? {
            0 => Self::Synced { len: body.try_get_u64_le()?, name: get_text(body) },
            1 => {
                let len = usize::from(body.try_get_u16_le()?).min(body.len());
                let mut from = body.split_to(len);
                Self::Renamed { from: get_text(&mut from), to: get_text(body) }
            }
            2 => Self::Removed { name: get_text(body) },
            3 => Self::Cut { len: body.try_get_u64_le()?, name: get_text(body) },
            4 => Self::DirSynced { name: get_text(body) },
            5 => Self::Failed { name: get_text(body) },
            tag => return Err(Unreadable::Tag(tag)),
        })
    }
}
