//! `oncelog.move`: what a partition directory says while it is copied into another root.
//!
//! ```text
//! version: 0
//! side: from                                which of the two directories this is: from, or to
//! partition: orders-7
//! id: 00c0ffee00c0ffee00c0ffee00c0ffee      32 hexadecimal digits, lower case: no two moves share one
//! from: /disk1/data                         the root that has the partition
//! to: /disk2/data                           the root that will have it
//! ```
//!
//! Invariant: both directories of a move have one, equal but for the side, so that either root can tell from the other
//! what became of it. All six lines, in this order, each ended by a line feed.

use std::path::{Path, PathBuf};

use super::names::PartitionName;
use crate::error::Malformed;

/// No root's path is as long as to need more.
pub const MAX_MOVE_SIZE: u64 = 16 << 10;

const HEX_DIGITS: usize = 32;

/// Which directory of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The original.
    From,
    /// The copy.
    To,
}

/// A partition on its way from one root to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMove {
    /// Whose note it is.
    pub side: Side,
    /// Which one.
    pub partition: PartitionName,
    /// Number of the move.
    pub id: u128,
    /// The root that has it.
    pub from: PathBuf,
    /// The root that will have it.
    pub to: PathBuf,
}

impl PartitionMove {
    /// The text of the file; `None` if a path cannot stand in it: it is not UTF-8, or has a line feed.
    #[must_use]
    pub fn encode(&self) -> Option<String> {
        let path = |path: &Path| path.to_str().filter(|path| !path.contains('\n')).map(str::to_owned);
        let (from, to) = (path(&self.from)?, path(&self.to)?);
        let side = match self.side {
            Side::From => "from",
            Side::To => "to",
        };
        Some(format!(
            "version: 0\nside: {side}\npartition: {}\nid: {:032x}\nfrom: {from}\nto: {to}\n",
            self.partition, self.id
        ))
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`Malformed`] with the first line that is not as it must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Malformed::new("move", error.valid_up_to() as u64, "UTF-8", "other bytes"))?;
        let mut rest = text;
        let mut line = |field: &'static str| {
            let at = (text.len() - rest.len()) as u64;
            let (line, behind) = rest
                .split_once('\n')
                .ok_or_else(|| Malformed::new(field, at, "a line that is ended", format!("{rest:?}")))?;
            rest = behind;
            let value = line.strip_prefix(field).and_then(|line| line.strip_prefix(": "));
            let value = value
                .ok_or_else(|| Malformed::new(field, at, format!("\"{field}: \""), format!("{line:?}")))?;
            Ok::<_, Malformed>((value, at))
        };
        let (version, at) = line("version")?;
        if version != "0" {
            return Err(Malformed::new("version", at, "0", format!("{version:?}")));
        }
        let (side, at) = line("side")?;
        let side = match side {
            "from" => Side::From,
            "to" => Side::To,
            other => return Err(Malformed::new("side", at, "from or to", format!("{other:?}"))),
        };
        let partition = PartitionName::parse(line("partition")?.0)?;
        let (digits, at) = line("id")?;
        let is_id = digits.len() == HEX_DIGITS
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let id = u128::from_str_radix(digits, 16).ok().filter(|_| is_id).ok_or_else(|| {
            Malformed::new("id", at, "32 hexadecimal digits in lower case", format!("{digits:?}"))
        })?;
        let from = PathBuf::from(line("from")?.0);
        let to = PathBuf::from(line("to")?.0);
        if !rest.is_empty() {
            let at = (text.len() - rest.len()) as u64;
            return Err(Malformed::new("move", at, "the end", format!("{} bytes", rest.len())));
        }
        Ok(Self { side, partition, id, from, to })
    }

    /// The copy, while it is made. Kafka: `LocalLog.logFutureDirName`.
    #[must_use]
    pub fn future_name(&self) -> String {
        self.partition.future_name(self.id)
    }

    /// Either directory, when it is not needed any more.
    #[must_use]
    pub fn deleting_name(&self) -> String {
        self.partition.deleting_name(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PartitionMove {
        PartitionMove {
            side: Side::From,
            partition: PartitionName::new("orders", 7).unwrap(),
            id: 0xc0_ffee,
            from: PathBuf::from("/disk 1/data"),
            to: PathBuf::from("/disk2"),
        }
    }

    const TEXT: &str = "version: 0\nside: from\npartition: orders-7\nid: 00000000000000000000000000c0ffee\n\
                        from: /disk 1/data\nto: /disk2\n";

    #[test]
    fn the_text_is_that_of_the_format_page_and_is_read_back() {
        assert_eq!(sample().encode().unwrap(), TEXT);
        assert_eq!(PartitionMove::decode(TEXT.as_bytes()).unwrap(), sample());
        let copy = PartitionMove { side: Side::To, ..sample() };
        assert_eq!(PartitionMove::decode(copy.encode().unwrap().as_bytes()).unwrap(), copy);
    }

    #[test]
    fn every_shorter_text_and_every_changed_label_is_refused() {
        for len in 0..TEXT.len() {
            assert!(PartitionMove::decode(&TEXT.as_bytes()[..len]).is_err(), "{len} bytes");
        }
        for (good, bad, field) in [
            ("version: 0", "version: 1", "version"),
            ("side: from", "side: For", "side"),
            ("orders-7", "orders-07", "partition"),
            ("c0ffee", "C0FFEE", "id"),
            ("\nfrom: ", "\nof: ", "from"),
            ("/disk2\n", "/disk2\nmore", "move"),
        ] {
            let refused = PartitionMove::decode(TEXT.replace(good, bad).as_bytes()).unwrap_err();
            assert_eq!(refused.field, field);
        }
    }

    #[test]
    fn a_path_of_two_lines_cannot_be_written() {
        let odd = PartitionMove { to: PathBuf::from("/a\nb"), ..sample() };
        assert_eq!(odd.encode(), None);
    }
}
