//! The parent's book: what is in the log, what was sent, what was answered.
//!
//! Invariant: [`Ledger::log`] is what a dump showed and the oracle accepted, never what the engine claims to remember;
//! attempts are only ever added, until a dump settles them all at once (`settle.rs`).

use std::collections::{BTreeMap, HashMap};

use oncelog::types::Durability;

use super::batch::{Kind, Spec, sequence};
use super::protocol::{Answer, Place};

/// How many batches of a producer the log remembers.
pub(super) const WINDOW: usize = 5;

/// The lane of submits that open a session, to check what the log remembers.
pub(super) const CHECK_LANE: u8 = 255;
/// The lane of what is appended as a follower.
pub(super) const FOLLOW_LANE: u8 = 253;
/// The lane of what another program wrote.
pub(super) const FOREIGN_LANE: u8 = 254;

/// A batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) base: i64,
    pub(super) spec: Spec,
    /// The log may know of this batch only that it was there: its producer's state came from a Kafka `.snapshot`,
    /// which keeps one batch a producer.
    pub(super) blurred: bool,
    /// Its transaction was aborted.
    pub(super) aborted: bool,
}

/// A truncation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The log ends here afterwards.
    At(i64),
    /// It begins anew here, empty.
    Anew(i64),
}

/// One submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) spec: Spec,
    /// The thread that sent it; submits of one thread are judged in their order.
    pub(super) lane: u8,
    pub(super) durability: Durability,
    pub(super) expected: Expected,
    pub(super) answer: Option<Answer>,
}

/// What the answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It is new and the next one.
    Appended,
    /// It is one of the last five; at this offset, or where it turns out to be.
    Duplicate(Option<i64>),
    /// A duplicate of the batch at this offset, or "unknown", because the state came from Kafka's `.snapshot`.
    DuplicateOrUnknown(i64),
    /// Older than the last five; `true`: the log may also say that it does not know.
    BeyondWindow(bool),
    /// The sequence that would be next, if that is certain.
    OutOfOrder(Option<i32>),
    Fenced(i16),
    /// The marker of a coordinator that is over; the present one's epoch.
    CoordinatorFenced(i32),
    /// One of the last five, and its transaction was aborted.
    AbortedRetry,
    /// Its transaction was aborted, and it is older than the last five: anything but a success and a write.
    Void,
    Overlap,
    UnknownProducer,
}

impl Expected {
    /// Whether the batch is a real one, which may come to be in the log.
    pub(super) fn is_data(self) -> bool {
        matches!(self, Self::Appended | Self::Duplicate(_))
    }
}

impl Attempt {
    /// Where the log said that the batch is.
    pub(super) fn place(&self) -> Option<Place> {
        match self.answer {
            Some(Answer::Appended(place) | Answer::Duplicate(place)) => Some(place),
            _ => None,
        }
    }

    /// Whether the log said that this submit put nothing into it.
    pub(super) fn is_refused(&self) -> bool {
        !matches!(
            self.answer,
            None | Some(
                Answer::Appended(_) | Answer::Duplicate(_) | Answer::Indeterminate(_) | Answer::Failed(_)
            )
        )
    }
}

/// What the parent knows of a producer.
#[derive(Clone, Debug, Default)]
pub(super) struct Producer {
    /// Its batches and markers in the log, oldest first; those of a prefix that was removed too.
    pub(super) stored: Vec<Stored>,
    /// Sent, not in the log, and owed another try; in the order of sending.
    pub(super) owed: Vec<Spec>,
    /// What its next new batch has.
    pub(super) epoch: i16,
    pub(super) next: i32,
    /// Where it began if not at 0.
    pub(super) began_at: i32,
    /// Its last batches in the order of sending, newest last.
    pub(super) sent: Vec<Spec>,
    /// A submit of it failed since the last dump, so that later ones may fail in its wake.
    pub(super) stumbled: bool,
}

impl Producer {
    /// A producer that has sent nothing.
    pub(super) fn beginning_at(sequence: i32) -> Self {
        Self { next: sequence, began_at: sequence, ..Self::default() }
    }

    /// The epoch that batch or marker has written here last; none is older than one before it.
    pub(super) fn log_epoch(&self) -> Option<i16> {
        self.stored.last().map(|stored| stored.spec.epoch)
    }

    /// The newest batch of that epoch: none if it is a marker that raised the epoch.
    pub(super) fn newest(&self) -> Option<&Stored> {
        self.present_epoch().next()
    }

    /// The stored batches of its newest epoch, newest first.
    pub(super) fn present_epoch(&self) -> impl Iterator<Item = &Stored> {
        let epoch = self.log_epoch();
        let present = self.stored.iter().rev().take_while(move |stored| Some(stored.spec.epoch) == epoch);
        present.filter(|stored| !stored.spec.is_marker())
    }

    /// The batches behind its last marker, newest first.
    fn behind_marker(&self) -> impl Iterator<Item = &Stored> {
        self.stored.iter().rev().take_while(|stored| !stored.spec.is_marker())
    }

    /// First offset of its open transaction.
    pub(super) fn open_txn(&self) -> Option<i64> {
        // The others are never in one, and have long histories.
        self.stored.last().filter(|stored| stored.spec.kind == Kind::Transactional)?;
        let of_a_transaction = |stored: &&Stored| stored.spec.kind == Kind::Transactional;
        self.behind_marker().filter(of_a_transaction).last().map(|stored| stored.base)
    }

    /// The coordinator's epoch in its last marker.
    pub(super) fn coordinator(&self) -> Option<i32> {
        self.stored.iter().rev().find(|stored| stored.spec.is_marker()).map(|stored| stored.spec.first)
    }

    /// How many of the last batches that it sent no marker in the log has decided.
    pub(super) fn undecided(&self) -> usize {
        let before = self.stored.len() - self.behind_marker().count();
        let decided = self.stored.get(..before).unwrap_or_default();
        let is_open = |spec: &&Spec| !decided.iter().rev().any(|stored| stored.spec == **spec);
        self.sent.iter().rev().take_while(is_open).count()
    }

    /// What it sent last, newest last, and whether that was aborted.
    pub(super) fn recent(&self) -> Vec<(Spec, bool)> {
        let aborted = |spec: &Spec| self.window().any(|stored| stored.aborted && stored.spec == *spec);
        self.sent.iter().map(|spec| (*spec, aborted(spec))).collect()
    }

    /// Puts a batch or marker behind the others. What an abort ends is void.
    fn store(&mut self, stored: Stored) {
        if stored.spec.kind == Kind::Abort {
            let begun = self.stored.iter_mut().rev().take_while(|before| !before.spec.is_marker());
            for before in begun.filter(|before| before.spec.kind == Kind::Transactional) {
                before.aborted = true;
            }
        }
        self.stored.push(stored);
    }

    /// Forgets what stood at this offset and above.
    fn cut(&mut self, at: i64) {
        let kept = self.stored.partition_point(|stored| stored.base < at);
        if kept == self.stored.len() {
            return;
        }
        let all = std::mem::take(&mut self.stored);
        for stored in all.into_iter().take(kept) {
            // What an abort above the cut made void is open again.
            self.store(Stored { aborted: false, ..stored });
        }
    }

    /// The last five stored batches of its newest epoch, newest first.
    pub(super) fn window(&self) -> impl Iterator<Item = &Stored> {
        self.present_epoch().take(WINDOW)
    }

    /// Notes that a data batch is sent.
    pub(super) fn send(&mut self, spec: Spec) {
        if spec.is_marker() {
            if spec.epoch > self.epoch {
                self.sent.clear();
                (self.epoch, self.next) = (spec.epoch, 0);
            }
            return;
        }
        if self.sent.last().is_some_and(|last| last.epoch != spec.epoch) {
            self.sent.clear();
        }
        self.sent.push(spec);
        self.epoch = spec.epoch;
        self.next = spec.next();
        if self.sent.len() > WINDOW {
            self.sent.remove(0);
        }
    }

    /// Starts the next sends from what is in the log and what is owed.
    pub(super) fn resume(&mut self) {
        self.stumbled = false;
        self.sent = self.window().map(|stored| stored.spec).collect();
        self.sent.reverse();
        (self.epoch, self.next) = match (self.log_epoch(), self.newest()) {
            (Some(epoch), Some(newest)) => (epoch, newest.spec.next()),
            (Some(epoch), None) => (epoch, 0),
            (None, _) => (0, self.began_at),
        };
    }

    /// Whether it can only go on where producers that nothing is known of may start anywhere.
    pub(super) fn needs_leniency(&self) -> bool {
        self.stored.is_empty() && self.began_at != 0
    }
}

/// The book.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) seed: u64,
    /// First offset in the log; what lies below was removed.
    pub(super) start: i64,
    /// The offset behind the last batch of the newest dump.
    pub(super) end: i64,
    /// Every batch from `start` to `end`.
    pub(super) log: Vec<Stored>,
    pub(super) producers: BTreeMap<i64, Producer>,
    /// Submits since the newest dump, in the order in which they were announced.
    pub(super) attempts: Vec<Attempt>,
    /// Batches that were cut off and that nobody has sent again.
    pub(super) cut_away: Vec<Spec>,
    /// Up to where the log start may have moved: a deletion was begun, and nobody said how it ended.
    pub(super) start_at_most: i64,
    /// Where the log was about to be truncated when its process died.
    pub(super) cut_begun: Option<Cut>,
    by_id: HashMap<u32, usize>,
    next_id: u32,
}

impl Ledger {
    /// An empty log and these producers.
    pub(super) fn new(seed: u64, producers: impl IntoIterator<Item = i64>) -> Self {
        Self {
            seed,
            start: 0,
            end: 0,
            log: Vec::new(),
            producers: producers.into_iter().map(|id| (id, Producer::default())).collect(),
            attempts: Vec::new(),
            cut_away: Vec::new(),
            start_at_most: 0,
            cut_begun: None,
            by_id: HashMap::new(),
            next_id: 0,
        }
    }

    /// Notes a submit before it happens and gives it a number.
    pub(super) fn announce(&mut self, attempt: Attempt) -> u32 {
        let id = self.next_id;
        self.announce_as(id, attempt);
        id
    }

    /// Notes a submit that the child numbered.
    pub(super) fn announce_as(&mut self, id: u32, attempt: Attempt) {
        if attempt.expected == Expected::Appended
            && let Some(producer) = self.producers.get_mut(&attempt.spec.producer)
        {
            producer.send(attempt.spec);
        }
        self.by_id.insert(id, self.attempts.len());
        self.attempts.push(attempt);
        self.next_id = self.next_id.max(id.saturating_add(1));
    }

    /// First offset of the transaction that a producer has open.
    pub(super) fn open_txn(&self, producer: i64) -> Option<i64> {
        self.producers.get(&producer).and_then(Producer::open_txn)
    }

    /// Whether a batch of this producer that begins here was sent and is not known to be stored.
    pub(super) fn is_missing(&self, producer: i64, first: i32) -> bool {
        let mut sent = self.attempts.iter().rev().filter(|attempt| attempt.expected == Expected::Appended);
        sent.any(|attempt| {
            attempt.spec.producer == producer && attempt.spec.first == first && attempt.place().is_none()
        })
    }

    /// The number that the next submit gets.
    pub(super) fn next_id(&self) -> u32 {
        self.next_id
    }

    pub(super) fn attempt_mut(&mut self, id: u32) -> Option<&mut Attempt> {
        self.by_id.get(&id).and_then(|place| self.attempts.get_mut(*place))
    }

    pub(super) fn forget_attempts(&mut self) {
        self.attempts.clear();
        self.by_id.clear();
    }

    /// Puts a batch at the end of the log.
    pub(super) fn store(&mut self, base: i64, spec: Spec) {
        let stored = Stored { base, spec, blurred: false, aborted: false };
        self.log.push(stored);
        self.end = spec.last_offset(base).saturating_add(1);
        self.producers.entry(spec.producer).or_default().store(stored);
    }

    /// The log was cut here, by another program or as a follower's is: what was above never happened.
    pub(super) fn cut(&mut self, at: i64) {
        if at >= self.end {
            return;
        }
        self.end = at;
        // Where the log started inside of the batch that goes, it starts at its end now.
        self.start = self.start.min(at);
        self.start_at_most = self.start;
        let cut = self.log.iter().filter(|stored| stored.base >= at && !stored.spec.is_marker());
        self.cut_away.extend(cut.map(|stored| stored.spec));
        self.log.retain(|stored| stored.base < at);
        for producer in self.producers.values_mut() {
            producer.cut(at);
        }
    }

    /// All was taken out of the log, which begins anew here; nobody is known any more.
    pub(super) fn begin_anew(&mut self, at: i64) {
        (self.start, self.end, self.start_at_most) = (at, at, at);
        self.log.clear();
        self.cut_away.clear();
        for producer in self.producers.values_mut() {
            *producer = Producer::beginning_at(producer.began_at);
        }
    }

    /// The log's prefix was removed; what producers wrote in it is still known.
    pub(super) fn remove_prefix(&mut self, below: i64) {
        self.start = self.start.max(below);
        self.log.retain(|stored| stored.spec.last_offset(stored.base) >= below);
    }

    /// The state was put together from a `.snapshot` of Kafka: all but the newest batch of each producer is uncertain.
    pub(super) fn blur(&mut self) {
        for producer in self.producers.values_mut() {
            if let Some((newest, older)) = producer.stored.split_last_mut() {
                older.iter_mut().for_each(|stored| stored.blurred = true);
                // Its header is gone, and with it its timestamp: a snapshot knows when the producer was last seen.
                newest.blurred |= newest.base < self.start;
            }
        }
    }

    /// How many sequences lie from one to the other.
    pub(super) fn steps(from: i32, to: i32) -> u32 {
        sequence(to).steps_from(sequence(from))
    }
}

#[cfg(test)]
mod tests;
