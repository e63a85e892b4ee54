//! Who a root and a partition belong to: `meta.properties` and `partition.metadata`, Kafka's text files.
//!
//! ```text
//! #                              meta.properties: Java properties, lines in any order, # begins a comment
//! version=1
//! cluster.id=MkU3OEVBNTcwNTJENDM2Qg
//! node.id=1
//! directory.id=WcXKBrsNQFGrXjJBKHJyYA
//!
//! version: 0                     partition.metadata
//! topic_id: p8TAnMO8RAiBGgAHAwcPtg
//! ```
//!
//! Invariant: an [`Id`] is written in the one way in which Kafka reads it: 22 characters of URL-safe base64 without
//! padding. Source: Kafka's `Uuid`, `MetaProperties`, `PartitionMetadataFile`.

use std::fmt;

use crate::error::Malformed;

#[cfg(test)]
mod tests;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Characters of an id.
const ID_LENGTH: usize = 22;

/// A 128-bit identifier, of a topic or a directory. Kafka: `Uuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// Reads the 22 characters.
    ///
    /// # Errors
    ///
    /// [`Malformed`] at the first character that does not belong there, or with the length.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() != ID_LENGTH {
            let found = format!("{} bytes", text.len());
            return Err(Malformed::new("id", 0, format!("{ID_LENGTH} characters"), found));
        }
        let mut value = 0_u128;
        let mut last = 0;
        for (at, byte) in text.bytes().enumerate() {
            let digit =
                ALPHABET.iter().position(|letter| *letter == byte).and_then(|at| u8::try_from(at).ok());
            last = digit.ok_or_else(|| {
                Malformed::new("id", at as u64, "letters, digits, '-' and '_'", format!("{text:?}"))
            })?;
            // The last character has two bits of the 128 and four that say nothing.
            value = if at + 1 == ID_LENGTH {
                (value << 2) | u128::from(last >> 4)
            } else {
                (value << 6) | u128::from(last)
            };
        }
        if last & 0xf != 0 {
            return Err(Malformed::new("id", 21, "A, Q, g or w", format!("{text:?}")));
        }
        Ok(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        for at in 0..ID_LENGTH {
            let digit = if at + 1 == ID_LENGTH { (value & 3) << 4 } else { value >> (122 - 6 * at) & 0x3f };
            let letter = usize::try_from(digit).ok().and_then(|digit| ALPHABET.get(digit));
            fmt::Write::write_char(f, char::from(letter.copied().unwrap_or(b'A')))?;
        }
        Ok(())
    }
}

/// Whose a root is, as a broker is formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootIdentity {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id`, if the directory has one.
    pub directory_id: Option<Id>,
}

impl RootIdentity {
    /// Reads `meta.properties`, as version 0 (`broker.id`) or 1 (`node.id`) writes it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] at the line that breaks the format, or at the end for a property that is missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes)
            .map_err(|e| Malformed::new("meta.properties", e.valid_up_to() as u64, "text", "other bytes"))?;
        let (mut cluster_id, mut node_id, mut directory_id) = (None, None, None);
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let place = at as u64;
            at += line.len();
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let Some((name, value)) = line.split_once(['=', ':']) else {
                return Err(Malformed::new("property", place, "name=value", format!("{line:?}")));
            };
            let value = value.trim();
            match name.trim() {
                "cluster.id" => cluster_id = Some(value.to_owned()),
                "node.id" | "broker.id" => {
                    let number = value.parse();
                    node_id =
                        Some(number.map_err(|_| {
                            Malformed::new("node.id", place, "a number", format!("{value:?}"))
                        })?);
                }
                "directory.id" => directory_id = Some(Id::parse(value)?),
                _ => {}
            }
        }
        let missing = |name| Malformed::new(name, at as u64, "a line with it", "none");
        Ok(Self {
            cluster_id: cluster_id.ok_or_else(|| missing("cluster.id"))?,
            node_id: node_id.ok_or_else(|| missing("node.id"))?,
            directory_id,
        })
    }
}

impl fmt::Display for RootIdentity {
    /// The text of `meta.properties`, version 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#\nversion=1\ncluster.id={}\nnode.id={}", self.cluster_id, self.node_id)?;
        match self.directory_id {
            Some(id) => writeln!(f, "directory.id={id}"),
            None => Ok(()),
        }
    }
}

/// The text of `partition.metadata`.
#[must_use]
pub fn partition_metadata(topic_id: Id) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

/// Reads the topic id in `partition.metadata`.
///
/// # Errors
///
/// [`Malformed`] if a line is missing or says something else.
pub fn parse_partition_metadata(bytes: &[u8]) -> Result<Id, Malformed> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Malformed::new("partition.metadata", e.valid_up_to() as u64, "text", "other bytes"))?;
    let mut lines = text.lines();
    let mut line = |name: &'static str| {
        let line = lines.next().unwrap_or_default();
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).map(str::trim);
        value.ok_or_else(|| Malformed::new(name, 0, format!("{name}: value"), format!("{line:?}")))
    };
    let version = line("version")?;
    if version != "0" {
        return Err(Malformed::new("version", 0, "0", version));
    }
    Id::parse(line("topic_id")?)
}
