//! The batches that stand in the files of a directory, and the producers that follow from them.
//!
//! Invariant: files are read by the naive reader, and the state is the plainest reading of the rules: all batches of an
//! unbroken stretch are kept, and the window is their last five.

use std::collections::BTreeMap;

use oncelog::producer::{CachedBatch, Entry};
use oncelog::storage::Image;
use oncelog::{BatchHeader, Offset, ProducerEpoch, ProducerId};

use super::super::naive::{self, array};
use super::DIR;

/// A batch in a file.
pub(super) struct Stored {
    pub(super) header: BatchHeader,
    /// The bytes that a leader does not change.
    pub(super) unstamped: Vec<u8>,
}

/// All batches of a directory in the order of its segments.
pub(super) struct Standing {
    pub(super) batches: Vec<Stored>,
    /// Whether there is nothing else in the `.log` files.
    pub(super) whole: bool,
    last_base: Option<Offset>,
}

impl Standing {
    pub(super) fn read(image: &Image) -> Self {
        let mut standing = Self { batches: Vec::new(), whole: true, last_base: None };
        let mut segments: Vec<_> = Vec::new();
        for path in image.files() {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let base = name.strip_suffix(".log").filter(|stem| stem.len() == 20);
            if let Some(base) = base.and_then(|stem| stem.parse().ok()).filter(|_| path.starts_with(DIR)) {
                segments.push((base, path.clone()));
            }
        }
        segments.sort_unstable();
        for (base, path) in segments {
            standing.last_base = Some(Offset(base));
            standing.read_segment(&image.read(&path).unwrap_or_default());
        }
        standing
    }

    fn read_segment(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(header) = naive::header(rest) {
            let Some((batch, behind)) = rest.split_at_checked(header.size()) else { break };
            if naive::batch(batch).is_none() {
                break;
            }
            self.batches.push(Stored { header, unstamped: batch[16..].to_vec() });
            rest = behind;
        }
        self.whole &= rest.is_empty();
    }

    /// The offset behind the last batch, or where an empty last segment begins.
    pub(super) fn end(&self) -> Option<Offset> {
        self.batches.last().map(|batch| batch.header.next_offset()).max(self.last_base)
    }

    /// Whether readers can be given all of it.
    pub(super) fn is_sound(&self) -> bool {
        self.whole && rises(self.batches.iter().map(|batch| &batch.header))
    }

    /// The newest so many batches; what a checkpoint covers is not read by an opening.
    pub(super) fn assert_rises(&self, newest: u64) {
        let unread = usize::try_from(newest).map_or(0, |newest| self.batches.len().saturating_sub(newest));
        let rises = rises(self.batches[unread..].iter().map(|batch| &batch.header));
        assert!(rises || !self.whole, "offsets do not rise");
    }

    pub(super) fn assert_dense(&self) {
        let dense =
            self.batches.is_sorted_by(|one, next| one.header.next_offset() == next.header.base_offset);
        assert!(dense, "offsets have gaps");
    }
}

/// Whether each batch lies behind the one before it.
pub(super) fn rises<'a>(headers: impl Iterator<Item = &'a BatchHeader>) -> bool {
    headers.is_sorted_by(|one, next| one.next_offset() <= next.base_offset)
}

/// What is known of a producer, without the time at which it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    proven: u32,
    txn_first_offset: Option<Offset>,
    batches: Vec<CachedBatch>,
}

impl Known {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            epoch: entry.epoch,
            coordinator_epoch: entry.coordinator_epoch.0,
            proven: entry.proven,
            txn_first_offset: entry.txn_first_offset,
            batches: entry.batches().to_vec(),
        }
    }

    fn new(epoch: ProducerEpoch) -> Self {
        Self { epoch, coordinator_epoch: -1, proven: 0, txn_first_offset: None, batches: Vec::new() }
    }

    fn raise(&mut self, epoch: ProducerEpoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.batches.clear();
        self.proven = 0;
    }
}

/// Producers by id.
#[derive(Default)]
pub(super) struct Fold(BTreeMap<ProducerId, Known>);

impl Fold {
    pub(super) fn over(standing: &Standing) -> Self {
        let mut fold = Self::default();
        for batch in &standing.batches {
            let header = &batch.header;
            let Some((id, epoch)) = header.producer() else { continue };
            if header.attributes.is_control() {
                // Behind the CRC and what follows it: 61 bytes of header less 16.
                fold.marker(id, epoch, header, batch.unstamped.get(45..).unwrap_or_default());
            } else {
                fold.data(id, epoch, header);
            }
        }
        fold
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ProducerId> {
        self.0.keys().copied()
    }

    /// The producer with the window that is kept.
    pub(super) fn get(&self, id: ProducerId) -> Option<Known> {
        let known = self.0.get(&id)?;
        let older = known.batches.len().saturating_sub(5);
        Some(Known { batches: known.batches[older..].to_vec(), ..known.clone() })
    }

    fn data(&mut self, id: ProducerId, epoch: ProducerEpoch, header: &BatchHeader) {
        let known = self.0.entry(id).or_insert_with(|| Known::new(epoch));
        known.raise(epoch);
        if let Some((first_sequence, last_sequence)) = header.sequences().filter(|_| epoch == known.epoch) {
            if known.batches.last().is_some_and(|newest| newest.last_sequence.next() != first_sequence) {
                known.forget();
            }
            let length = header.last_offset_delta.unsigned_abs().saturating_add(1);
            known.proven = known.proven.saturating_add(length).min(1 << 30);
            known.batches.push(CachedBatch {
                first_sequence,
                last_sequence,
                first_offset: header.base_offset,
                last_offset: header.last_offset(),
                max_timestamp: header.max_timestamp,
                aborted: false,
            });
        }
        if header.attributes.is_transactional() {
            known.txn_first_offset.get_or_insert(header.base_offset);
        }
    }

    fn marker(&mut self, id: ProducerId, epoch: ProducerEpoch, header: &BatchHeader, payload: &[u8]) {
        if header.record_count == 0 {
            return;
        }
        // One record is read, whatever stands behind it.
        let (records, _) = naive::records(payload, 1);
        let Some((commit, coordinator_epoch)) = records.first().and_then(end_of_txn) else { return };
        let known = self.0.entry(id).or_insert_with(|| Known::new(epoch));
        known.coordinator_epoch = known.coordinator_epoch.max(coordinator_epoch);
        known.raise(epoch);
        let Some(first) = known.txn_first_offset.take() else { return };
        if !commit {
            known.proven = 0;
            for batch in known.batches.iter_mut().filter(|batch| batch.first_offset >= first) {
                batch.aborted = true;
            }
        }
    }
}

/// Whether a control record commits, and who ordered it; `None` if it ends no transaction.
fn end_of_txn(record: &naive::OwnedRecord) -> Option<(bool, i32)> {
    let key = record.key.as_deref()?;
    let (version, kind) = (i16::from_be_bytes(array(key, 0)?), i16::from_be_bytes(array(key, 2)?));
    if version < 0 || !(0..=1).contains(&kind) {
        return None;
    }
    let value = record.value.as_deref()?;
    if i16::from_be_bytes(array(value, 0)?) < 0 {
        return None;
    }
    Some((kind == 1, i32::from_be_bytes(array(value, 2)?)))
}
