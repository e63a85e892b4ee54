//! Names of partition directories under a root.
//!
//! Invariant: a [`PartitionName`] can be joined to a path: its topic has only the characters that Kafka allows, so it
//! holds no separator and is neither `.` nor `..`. Source of the rules: Kafka's `Topic.validate` and
//! `LocalLog.parseTopicPartitionName`.

use std::fmt;

use super::canonical;
use crate::error::Malformed;

/// Longest topic name, in characters (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const MAX_TOPIC_LENGTH: usize = 249;

/// Longest name of a directory.
const MAX_NAME_LENGTH: usize = 255;

/// Topic and number of a partition. `Display` gives the name of its directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    topic: String,
    partition: i32,
}

impl PartitionName {
    /// A partition of a topic.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the topic is empty, longer than [`MAX_TOPIC_LENGTH`], `.` or `..`, has a character other than
    /// ASCII letters, digits, `.`, `_` and `-`, or if the partition is negative.
    pub fn new(topic: &str, partition: i32) -> Result<Self, Malformed> {
        if topic.is_empty() || topic.len() > MAX_TOPIC_LENGTH {
            let expected = format!("1 to {MAX_TOPIC_LENGTH} characters");
            return Err(Malformed::new("topic", 0, expected, format!("{} bytes", topic.len())));
        }
        if topic == "." || topic == ".." {
            return Err(Malformed::new("topic", 0, "a name that is not a step in a path", topic));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if let Some(at) = topic.bytes().position(|byte| !allowed(byte)) {
            return Err(Malformed::new(
                "topic",
                at as u64,
                "letters, digits, '.', '_' and '-'",
                format!("{topic:?}"),
            ));
        }
        if partition < 0 {
            return Err(Malformed::new("partition", topic.len() as u64 + 1, "0 or more", partition));
        }
        Ok(Self { topic: topic.to_owned(), partition })
    }

    /// Reads the name of a directory, `<topic>-<partition>`, divided at the last `-`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if there is no `-`, if either part is missing or breaks a rule of [`Self::new`], or if the number
    /// has a spelling other than the one that is written (`007`, `+1`).
    pub fn parse(name: &str) -> Result<Self, Malformed> {
        let Some((topic, digits)) = name.rsplit_once('-') else {
            return Err(Malformed::new("partition directory", 0, "<topic>-<partition>", format!("{name:?}")));
        };
        match canonical(digits).and_then(|number| i32::try_from(number).ok()) {
            Some(partition) => Self::new(topic, partition),
            None => {
                let at = topic.len() as u64 + 1;
                Err(Malformed::new("partition", at, "a number from 0 to 2147483647", format!("{digits:?}")))
            }
        }
    }

    /// Name of the directory of a partition that is being deleted: `<topic>-<partition>.<id>-delete`, the topic
    /// shortened so that the name fits a file system. Kafka: `LocalLog.logDeleteDirName`.
    #[must_use]
    pub fn deleting_name(&self, id: u128) -> String {
        self.leaving_name(id, "delete")
    }

    /// Name of the directory of a copy that is made in another root: `<topic>-<partition>.<id>-future`, shortened as above.
    /// Kafka: `LocalLog.logFutureDirName`, which does not shorten.
    #[must_use]
    pub fn future_name(&self, id: u128) -> String {
        self.leaving_name(id, "future")
    }

    fn leaving_name(&self, id: u128, life: &str) -> String {
        let suffix = format!("-{}.{id:032x}-{life}", self.partition);
        let most = MAX_NAME_LENGTH.saturating_sub(suffix.len());
        // A topic is ASCII: every byte is a boundary.
        let topic = self.topic.get(..most).unwrap_or(&self.topic);
        format!("{topic}{suffix}")
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The number of the partition.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What the name of a directory under a root says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DirName {
    /// A partition.
    Partition(PartitionName),
    /// `.<id>-delete`: a partition that Kafka is deleting; its topic may have been shortened.
    Deleting(PartitionName),
    /// `.<id>-stray`: a partition that Kafka found no owner for; its topic may have been shortened.
    Stray(PartitionName),
    /// `.<id>-future`: a copy that Kafka is moving here from another root.
    Future(PartitionName),
    /// Not a partition: left alone.
    Other,
}

impl DirName {
    /// Reads a name; never fails, because a root may hold anybody's directories.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        if let Ok(partition) = PartitionName::parse(name) {
            return Self::Partition(partition);
        }
        Self::parse_leaving(name).unwrap_or(Self::Other)
    }

    fn parse_leaving(name: &str) -> Option<Self> {
        let (front, life) = name.rsplit_once('-')?;
        let make = match life {
            "delete" => Self::Deleting,
            "stray" => Self::Stray,
            "future" => Self::Future,
            _ => return None,
        };
        let (partition, id) = front.rsplit_once('.')?;
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { PartitionName::parse(partition).ok().map(make) } else { None }
    }
}
