//! Names of producers that outlive them: whoever claims a name writes on where the holder before ended, and that holder
//! is fenced.
//!
//! Invariant: no two holders ever have the same id and epoch. The file says so durably before anything is fenced, and all
//! fences are durable before the claim returns; what a crash interrupts in between has used up an epoch that nobody
//! holds. Epoch 32767 is never given out: it fences the last holder of an id.
//!
//! Kafka's transaction coordinator does this for a transactional id (`InitProducerId`; `TransactionCoordinator`,
//! `TransactionMetadata.prepareIncrementProducerEpoch`). Here it is for one root and needs no transactions.

mod fence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Rejection};
use crate::format::names::PRODUCER_NAMES;
use crate::format::producer_names::{
    MAX_NAME_LENGTH, MAX_NAMES_SIZE, NamedProducer, Names, decode_names, encode_names,
};
use crate::log_dir::Partition;
use crate::producer_ids::ProducerIds;
use crate::storage;
use crate::testing::{Break, Point, broken, cross};
use crate::types::{ProducerEpoch, ProducerId};

pub use fence::LastWritten;

/// The epoch that no holder gets.
const FENCE: ProducerEpoch = ProducerEpoch(i16::MAX);

/// Durable names of producers under one root.
///
/// All methods take `&self` and may be called from many threads. A claim replaces the whole file of names: meant for
/// thousands of them, not for one of each client that comes by.
#[derive(Debug)]
pub struct ProducerNames {
    ids: Arc<ProducerIds>,
    names: Mutex<Held>,
    /// Below which epoch each id is fenced: what [`Self::check`] looks at.
    current: RwLock<BTreeMap<ProducerId, ProducerEpoch>>,
}

#[derive(Debug)]
struct Held {
    /// As they are in the file, or as they will be: an epoch that may stand there is never given out again.
    names: Names,
    /// Why no name can be claimed any more.
    latched: Option<String>,
}

/// A name that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Id to write with.
    pub producer: ProducerId,
    /// Epoch to write with; sequences begin at 0 in every partition.
    pub epoch: ProducerEpoch,
    /// What the holders before have written last, for each partition that knows them.
    pub written: Vec<LastWritten>,
}

impl ProducerNames {
    /// Reads the names of the root whose ids `ids` gives out. That one is taken, not shared, because it holds the lock
    /// that keeps a second file of names in memory away; [`Self::ids`] lends it.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the file is damaged: nothing but a copy of it knows which ids and epochs are held;
    /// [`Error::Io`].
    pub fn open(ids: ProducerIds) -> Result<Self, Error> {
        let path = ids.root().join(PRODUCER_NAMES);
        let bytes = storage::read_all(&**ids.storage(), &path, MAX_NAMES_SIZE)
            .map_err(|error| Error::io("read", &path, error))?;
        let names = match bytes {
            None => Names::new(),
            Some(bytes) => decode_names(&bytes).map_err(|malformed| {
                let advice = "restore it from a copy; or remove it: every name then gets a new id, and holders from before \
                              are not fenced";
                Box::new(malformed.in_file(&path, 0, bytes.len() as u64, advice))
            })?,
        };
        let mut current = BTreeMap::new();
        for named in names.values() {
            current.extend(fences_of(named));
        }
        let names = Mutex::new(Held { names, latched: None });
        Ok(Self { ids: Arc::new(ids), names, current: RwLock::new(current) })
    }

    /// The allocator below, for producers without a name.
    #[must_use]
    pub fn ids(&self) -> &ProducerIds {
        &self.ids
    }

    /// Takes a name over: gives its id with a new epoch and fences whoever held it, by an abort marker in each of
    /// `partitions` that knows the id. A name that is new gets a new id, and so does one whose epochs are used up.
    ///
    /// `partitions` are those that holders of the name may have written to; to be sure, all of the root. One that has
    /// never heard of the id cannot fence it: before a batch is appended, ask [`Self::check`]. A partition in which nothing
    /// was written since the last fence is read from its beginning, to find what was written before.
    ///
    /// Durability: when it returns, no holder before can write to a partition that it had written to, and no crash can
    /// give the epoch to another.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for an empty name or one of more than 1024 bytes; [`Error::Rejected`] with
    /// [`Rejection::Fenced`] if the name was claimed again meanwhile; what a partition answers that cannot take the
    /// marker, [`Error::Closed`] if it was moved or its root closed (one that was deleted is left out); [`Error::Io`] if
    /// the file cannot be replaced, after which (but for a full disk) no name can be claimed before the next open. The name
    /// can be claimed again: the epoch in between is lost, no more.
    pub fn claim(&self, name: &str, partitions: &[Partition]) -> Result<Claim, Error> {
        if !(1..=MAX_NAME_LENGTH).contains(&name.len()) {
            let len = name.len();
            return Err(Error::Misuse(format!("a name of {len} bytes; accepted is 1 to {MAX_NAME_LENGTH}")));
        }
        let (before, now) = self.take(name)?;
        cross(Point::NamesTaken);
        if broken(Break::ClaimWithoutFence) {
            return Ok(Claim { producer: now.producer, epoch: now.epoch, written: Vec::new() });
        }
        let mut written = Vec::new();
        if let Some(retired) = now.retired {
            written.extend(fence::fence(partitions, retired, FENCE)?);
        }
        if before.is_some_and(|before| before.producer == now.producer) {
            written.extend(fence::fence(partitions, now.producer, now.epoch)?);
        }
        Ok(Claim { producer: now.producer, epoch: now.epoch, written })
    }

    /// Whether `epoch` of `producer` may still write: for a broker to ask before it appends a batch, because a partition
    /// that the producer has never written to knows of no fence. Ids without a name may.
    ///
    /// # Errors
    ///
    /// [`Rejection::Fenced`] if the name was claimed since, or a claim has begun.
    pub fn check(&self, producer: ProducerId, epoch: ProducerEpoch) -> Result<(), Rejection> {
        match self.current.read().get(&producer) {
            Some(current) if epoch < *current => {
                Err(Rejection::Fenced { producer, current: *current, found: epoch })
            }
            _ => Ok(()),
        }
    }

    /// Makes the next holder of a name durable; answers the one before, too.
    fn take(&self, name: &str) -> Result<(Option<NamedProducer>, NamedProducer), Error> {
        let mut held = self.names.lock();
        let path = self.ids.root().join(PRODUCER_NAMES);
        if let Some(why) = &held.latched {
            let why = format!("no name can be claimed since {why}; open the names again");
            return Err(Error::Unavailable { why });
        }
        let before = held.names.get(name).copied();
        let now = self.next_holder(before)?;
        let mut names = held.names.clone();
        names.insert(name.to_owned(), now);
        let bytes = encode_names(&names).ok_or_else(|| {
            Error::Misuse(format!("{} would be larger than {MAX_NAMES_SIZE} bytes", path.display()))
        })?;
        let replaced = storage::replace(&**self.ids.storage(), self.ids.root(), PRODUCER_NAMES, &bytes);
        replaced.map_err(|error| {
            // A full disk left the old file. After anything else it is not known which file a crash will leave.
            if error.kind() != io::ErrorKind::StorageFull {
                held.latched = Some(format!("{} could not be replaced: {error}", path.display()));
            }
            Error::io("write", &path, error)
        })?;
        held.names = names;
        // Under the lock, so that a later claim's is not overtaken by this one.
        self.current.write().extend(fences_of(&now));
        Ok((before, now))
    }

    fn next_holder(&self, before: Option<NamedProducer>) -> Result<NamedProducer, Error> {
        let fresh =
            |retired| Ok(NamedProducer { producer: self.ids.allocate()?, epoch: ProducerEpoch(0), retired });
        match before {
            None => fresh(None),
            Some(before) => match before.epoch.0.checked_add(1) {
                Some(next) if next < FENCE.0 => Ok(NamedProducer { epoch: ProducerEpoch(next), ..before }),
                _ => fresh(Some(before.producer)),
            },
        }
    }
}

/// Each id of a name with the lowest epoch that may write.
fn fences_of(named: &NamedProducer) -> impl Iterator<Item = (ProducerId, ProducerEpoch)> {
    named.retired.map(|id| (id, FENCE)).into_iter().chain([(named.producer, named.epoch)])
}
