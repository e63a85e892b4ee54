//! Fences a producer in many partitions at once, and says what it has written last.
//!
//! Invariant: what is answered for a partition is true when its marker is durable: nothing of an older epoch can follow
//! the marker, and what came between the look at the producer and its marker is read from the log.

use crate::error::Error;
use crate::format::names::PartitionName;
use crate::log::{Completion, EndTransaction, Isolation};
use crate::log_dir::{Partition, PinnedLog};
use crate::producer::{EndTxn, Entry, TransactionVersion};
use crate::testing::{Point, cross};
use crate::types::{CoordinatorEpoch, Durability, Offset, ProducerEpoch, ProducerId, Sequence};

/// Bytes that are read at a time where the log has to be searched.
const READ_BYTES: usize = 1 << 20;

/// The last batch of a producer in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWritten {
    /// Where.
    pub partition: PartitionName,
    /// By which id: an earlier one, if its epochs were used up.
    pub producer: ProducerId,
    /// Sequence and offset of its last record; `None` if no batch of it is in the log any more. If it belonged to an open
    /// transaction, that was aborted by the claim.
    pub last: Option<(Sequence, Offset)>,
}

struct Fenced<'a> {
    partition: &'a Partition,
    log: PinnedLog,
    /// Where the log ended before the entry was looked up: the entry has all that lies below.
    known_to: Offset,
    entry: Entry,
    /// `None`: the partition has the fence already.
    marker: Option<Completion>,
}

/// Raises the epoch of `producer` to `epoch` in each partition that knows it. All markers are durable when it returns.
pub(super) fn fence(
    partitions: &[Partition],
    producer: ProducerId,
    epoch: ProducerEpoch,
) -> Result<Vec<LastWritten>, Error> {
    let mut fenced = Vec::new();
    for partition in partitions {
        fenced.extend(begin(partition, producer, epoch)?);
        cross(Point::NamesFencing);
    }
    let markers: Vec<_> = fenced.iter_mut().filter_map(|one| one.marker.take()).collect();
    for answer in Completion::wait_all(markers) {
        answer?;
    }
    fenced.iter().map(|one| one.written(producer)).collect()
}

fn begin(
    partition: &Partition,
    producer: ProducerId,
    epoch: ProducerEpoch,
) -> Result<Option<Fenced<'_>>, Error> {
    let log = match partition.log() {
        Ok(log) => log,
        // One that was moved, or whose root was closed, has what holders have written: it is to be asked where it is.
        Err(Error::Closed) if partition.was_deleted() => return Ok(None),
        Err(error) => return Err(error),
    };
    // A batch of the holder before may be on its way: it is to be known here.
    log.write_submitted();
    let known_to = log.log_end_offset();
    let Some(entry) = log.producer(producer)? else { return Ok(None) };
    let end = EndTransaction {
        producer,
        epoch,
        // As an operator's abort does it: the real coordinator is not fenced.
        coordinator_epoch: entry.coordinator_epoch.max(CoordinatorEpoch(0)),
        outcome: EndTxn::Abort,
        version: TransactionVersion::One,
    };
    let marker = Some(log.submit_end_transaction(end, Durability::Durable)?);
    Ok(Some(Fenced { partition, log, known_to, entry, marker }))
}

impl Fenced<'_> {
    fn written(&self, producer: ProducerId) -> Result<LastWritten, Error> {
        let since = last_in(&self.log, producer, self.known_to)?;
        let cached = self.entry.newest().map(|batch| (batch.last_sequence, batch.last_offset));
        let last = match since.or(cached) {
            Some(last) => Some(last),
            // A fence has emptied the window: what was written before it stands in the log alone.
            None => last_in(&self.log, producer, self.log.log_start_offset())?,
        };
        Ok(LastWritten { partition: self.partition.name().clone(), producer, last })
    }
}

/// Sequence and offset of the last record of `producer` at or above `from`.
fn last_in(log: &PinnedLog, producer: ProducerId, from: Offset) -> Result<Option<(Sequence, Offset)>, Error> {
    let mut next = from.max(log.log_start_offset());
    let end = log.log_end_offset();
    let mut last = None;
    while next < end {
        let before = next;
        for batch in log.fetch(next, READ_BYTES, Isolation::LogEnd)?.batches()? {
            let header = batch?.header;
            next = header.next_offset();
            let ours = header.producer_id == producer.0 && !header.attributes.is_control();
            if let Some((_, sequence)) = header.sequences().filter(|_| ours) {
                last = Some((sequence, header.last_offset()));
            }
        }
        if next == before {
            // Nothing but a gap, as a compacted leader leaves them, lies between here and the end.
            break;
        }
    }
    Ok(last)
}
