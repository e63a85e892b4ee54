//! The parent's book of the other partitions, of the names, and of the ids that were given out.
//!
//! Invariant: what is in a book was acknowledged, or found by a survey and sent before. One deed at most is in doubt.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use oncelog::types::Durability;

use super::super::batch::{Kind, Spec};
use super::super::decided;
use super::super::judge::{Circumstances, judge};
use super::super::ledger::{Attempt, Expected, Ledger, Producer, Stored};
use super::super::protocol::{Answer, Place};
use super::super::report::Violation;
use super::deed::{Crew, Deed, Favour, Known, Outcome, RootSettings, Seen, Writer};
use super::missing::{self, Found};

const PARTITIONS: [&str; 4] = ["plain-0", "plain-1", "keyed-0", "keyed-1"];
const NAMES: [&str; 2] = ["one", "other"];

/// What must be true of the mark of a clean stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Mark {
    /// The root was closed in order and not written since.
    Stands,
    /// Something was written since.
    Gone,
    /// Nobody can tell.
    Either,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) ledger: Ledger,
    pub(super) exists: bool,
    /// What lies below was acknowledged as durable.
    pub(super) durable: i64,
    /// It may have been closed in order since it was written last, by hand or to save descriptors.
    perhaps_clean: bool,
    /// Up to where compaction may have been.
    compacted: i64,
    /// The records that it has taken.
    gone: HashSet<i64>,
}

/// A name and who holds it.
#[derive(Debug, Default)]
struct Name {
    /// Its id, once it is known.
    producer: Option<i64>,
    /// The newest epoch that was given out, or may have been.
    epoch: i16,
    /// Whether the last claim came to its end.
    certain: bool,
}

/// All of them.
#[derive(Debug)]
pub(in super::super) struct Books {
    seed: u64,
    pub(super) partitions: BTreeMap<String, Book>,
    names: BTreeMap<String, Name>,
    ids: BTreeSet<i64>,
    /// The deed that was begun and not answered.
    pub(super) pending: Option<Deed>,
    pub(in super::super) mark: Mark,
    /// Unsynced bytes were taken away since the last survey.
    pub(in super::super) power: bool,
    /// Index files of the main log were scrambled since the root was closed in order.
    pub(in super::super) scrambled: bool,
    /// Records that compaction has taken, over all.
    pub(in super::super) records_compacted: u64,
    /// It was opened, and its partitions not looked at since.
    opening: bool,
    /// Partitions may be put to rest at any time.
    tight: bool,
}

impl Book {
    fn new(seed: u64, exists: bool) -> Self {
        Self {
            ledger: Ledger::new(seed, []),
            exists,
            durable: 0,
            perhaps_clean: true,
            compacted: 0,
            gone: HashSet::new(),
        }
    }

    /// What a claim must find of a producer, as sequence and offset of its last record; what it has `found` where that may
    /// be right. Compaction keeps the last batch of the present epoch; where a marker has raised the epoch since, there is
    /// none, and what was written before may be gone.
    fn last_written(&self, known: &Producer, found: Option<(i32, i64)>) -> Option<(i32, i64)> {
        let last = |stored: &Stored| {
            let behind = stored.spec.next();
            (if behind == 0 { i32::MAX } else { behind - 1 }, stored.spec.last_offset(stored.base))
        };
        let mut data = known.stored.iter().rev().filter(|stored| !stored.spec.is_marker()).map(last);
        let may_be_gone = self.compacted > 0 && known.newest().is_none();
        if may_be_gone && found.is_none_or(|found| data.clone().any(|last| last == found)) {
            return found;
        }
        data.next()
    }

    /// Appends what is known to stand at the end.
    fn store(&mut self, spec: Spec) {
        self.ledger.store(self.ledger.end, spec);
    }
}

impl Books {
    pub(in super::super) fn new(seed: u64) -> Self {
        Self {
            seed,
            partitions: PARTITIONS.iter().map(|name| ((*name).to_owned(), Book::new(seed, false))).collect(),
            names: NAMES.iter().map(|name| ((*name).to_owned(), Name::default())).collect(),
            ids: BTreeSet::new(),
            pending: None,
            mark: Mark::Either,
            power: false,
            scrambled: false,
            records_compacted: 0,
            opening: false,
            tight: false,
        }
    }

    /// What the next child has to know.
    pub(in super::super) fn crew(&self, durable_percent: u8, favour: Option<Favour>) -> Crew {
        let partitions = self.partitions.iter().map(|(name, book)| Known {
            name: name.clone(),
            exists: book.exists,
            batches: book.ledger.log.len(),
            producers: self.writers(book),
        });
        let names = self.names.iter().map(|(name, known)| {
            (name.clone(), known.producer.filter(|_| known.certain).map(|id| (id, known.epoch)))
        });
        Crew { partitions: partitions.collect(), names: names.collect(), durable_percent, favour }
    }

    fn writers(&self, book: &Book) -> Vec<Writer> {
        let writer = |(id, producer): (&i64, &Producer)| {
            let epoch = producer.log_epoch()?;
            let named = self.names.values().find(|name| name.producer == Some(*id));
            if named.is_some_and(|name| !name.certain) {
                return None;
            }
            let held = named.map_or(epoch, |name| name.epoch);
            let next = producer.newest().filter(|_| held == epoch).map_or(0, |newest| newest.spec.next());
            Some(Writer {
                id: *id,
                epoch: held,
                next,
                in_txn: producer.open_txn().is_some(),
                coordinator: producer.coordinator().map_or(0, |epoch| epoch.saturating_add(1)),
            })
        };
        book.ledger.producers.iter().filter_map(writer).collect()
    }

    /// All partitions were told to close.
    pub(in super::super) fn perhaps_close(&mut self) {
        self.mark = Mark::Either;
        self.partitions.values_mut().for_each(|book| book.perhaps_clean = true);
    }

    /// All partitions were closed in order.
    pub(in super::super) fn close(&mut self) {
        self.scrambled = false;
        for book in self.partitions.values_mut() {
            (book.perhaps_clean, book.durable) = (true, book.ledger.end);
        }
    }

    /// Another child begins, and may write.
    pub(in super::super) fn go_on(&mut self) {
        if self.mark == Mark::Stands {
            self.mark = Mark::Either;
        }
    }

    /// The root is about to be opened. Whoever dies on the way may have recovered a partition and put it to rest.
    pub(in super::super) fn open(&mut self, settings: RootSettings) {
        self.tight = settings.is_tight();
        if std::mem::replace(&mut self.opening, true) {
            self.partitions.values_mut().for_each(|book| book.perhaps_clean = true);
        }
    }

    /// A deed is about to be done.
    pub(in super::super) fn begin(&mut self, deed: &Deed) {
        if self.tight || *deed == Deed::Rest {
            self.partitions.values_mut().for_each(|book| book.perhaps_clean = true);
        }
        if let Deed::Compact(name) = deed
            && let Some(book) = self.partitions.get_mut(name)
        {
            book.compacted = book.ledger.end;
        }
        self.pending = Some(deed.clone());
    }

    /// A deed was done.
    pub(in super::super) fn end(&mut self, outcome: &Outcome) -> Vec<Violation> {
        let Some(deed) = self.pending.take() else { return Vec::new() };
        match (&deed, outcome) {
            (Deed::Append { partition, spec, durable }, Outcome::Answered(answer)) => {
                self.appended(partition, *spec, *durable, answer)
            }
            (Deed::Create(name), Outcome::Done) => {
                self.partitions.insert(name.clone(), Book::new(self.seed, true));
                self.mark = Mark::Gone;
                Vec::new()
            }
            (Deed::Delete(name), Outcome::Done) => {
                self.partitions.insert(name.clone(), Book::new(self.seed, false));
                self.mark = Mark::Gone;
                Vec::new()
            }
            (Deed::Rest | Deed::WriteOffsets, Outcome::Done) | (Deed::Compact(_), Outcome::Compacted(_)) => {
                Vec::new()
            }
            (Deed::Allocate, Outcome::Allocated(id)) => self.allocated(*id).into_iter().collect(),
            (Deed::Claim(name), Outcome::Claimed { producer, epoch, written }) => {
                self.claimed(name, *producer, *epoch, written)
            }
            (deed, outcome) => {
                vec![Violation::new("a root did not do what it was asked", format!("{deed:?}: {outcome:?}"))]
            }
        }
    }

    fn appended(&mut self, partition: &str, spec: Spec, durable: bool, answer: &Answer) -> Vec<Violation> {
        let Some(book) = self.partitions.get_mut(partition) else { return Vec::new() };
        let durability = if durable { Durability::Durable } else { Durability::Buffered };
        let attempt = Attempt { spec, lane: 0, durability, expected: Expected::Appended, answer: None };
        let circumstances = Circumstances { seed: self.seed, failures: false, stumbled: false };
        if let Err(violation) = judge(&attempt, answer, circumstances) {
            let detail = format!("{partition}: {}", violation.detail);
            return vec![Violation::new(violation.what, detail)];
        }
        self.mark = Mark::Gone;
        book.perhaps_clean = false;
        let end = book.ledger.end;
        book.store(spec);
        if durable {
            book.durable = book.ledger.end;
        }
        match answer {
            Answer::Appended(Place { base, .. }) if *base != end => {
                let detail = format!("{partition}: {spec} is at offset {base}; the log ended at {end}");
                vec![Violation::new("a partition ends elsewhere", detail)]
            }
            _ => Vec::new(),
        }
    }

    fn allocated(&mut self, id: i64) -> Option<Violation> {
        let twice = !self.ids.insert(id);
        twice.then(|| Violation::new("a producer id was given out twice", format!("{id}")))
    }

    fn claimed(
        &mut self,
        name: &str,
        producer: i64,
        epoch: i16,
        written: &[(String, Option<(i32, i64)>)],
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        self.mark = Mark::Gone;
        let Some(known) = self.names.get(name) else { return violations };
        if known.producer != Some(producer) {
            violations.extend(self.allocated(producer));
        } else if epoch <= known.epoch {
            let detail =
                format!("{name}: producer {producer} epoch {epoch}; epoch {} was given out", known.epoch);
            violations.push(Violation::new("an epoch of a name was given out twice", detail));
        }
        self.names.insert(name.to_owned(), Name { producer: Some(producer), epoch, certain: true });
        let mut expected = Vec::new();
        for (partition, book) in self.partitions.iter_mut().filter(|(_, book)| book.exists) {
            let Some(known) = book.ledger.producers.get(&producer).filter(|known| !known.stored.is_empty())
            else {
                continue;
            };
            let found = written.iter().find(|(name, _)| name == partition).and_then(|(_, last)| *last);
            expected.push((partition.clone(), book.last_written(known, found)));
            let first = known.coordinator().unwrap_or(0);
            book.perhaps_clean = self.tight;
            book.store(Spec { producer, epoch, first, count: 1, kind: Kind::Abort });
            book.durable = book.ledger.end;
        }
        if expected != written {
            let detail = format!("{name}: producer {producer}: found {written:?}, by the logs {expected:?}");
            violations.push(Violation::new("a claim did not find what was written", detail));
        }
        violations
    }

    /// Compares what a fresh process shows with what must be there, and takes what is there into the book.
    pub(in super::super) fn settle(&mut self, seen: &[(Seen, Vec<Bytes>)]) -> Vec<Violation> {
        let mut violations = Vec::new();
        let pending = self.pending.take();
        let claimed = match &pending {
            Some(Deed::Claim(name)) => self.names.get_mut(name).and_then(|name| {
                name.certain = false;
                name.producer
            }),
            _ => None,
        };
        for (name, book) in &mut self.partitions {
            let shown = seen.iter().find(|(seen, _)| seen.name == *name);
            let in_doubt =
                matches!(&pending, Some(Deed::Create(doubt) | Deed::Delete(doubt)) if doubt == name);
            let Some((seen, batches)) = shown else {
                if book.exists && !in_doubt {
                    violations.push(Violation::new("a partition is gone", name.clone()));
                }
                *book = Book::new(self.seed, false);
                continue;
            };
            if !book.exists && !in_doubt {
                violations.push(Violation::new("a deleted partition is there", name.clone()));
                continue;
            }
            book.exists = true;
            let sent = match &pending {
                Some(Deed::Append { partition, spec, .. }) if partition == name => Some(*spec),
                _ => None,
            };
            let maybe = Maybe { sent, claimed, power: self.power };
            let before = book.gone.len();
            let settled = book.settle(self.seed, seen, batches, maybe);
            self.records_compacted += book.gone.len().saturating_sub(before) as u64;
            if let Err(violation) = settled {
                let detail = format!("{name}: {}", violation.detail);
                violations.push(Violation::new(violation.what, detail));
            }
        }
        let known = |name: &String| self.partitions.contains_key(name);
        if let Some((strange, _)) = seen.iter().find(|(seen, _)| !known(&seen.name)) {
            violations.push(Violation::new("a partition is there that nobody made", strange.name.clone()));
        }
        // An epoch that stands in a marker is held by nobody, but was given out.
        for name in self.names.values_mut() {
            let fenced = self
                .partitions
                .values()
                .filter_map(|book| book.ledger.producers.get(&name.producer?).and_then(Producer::log_epoch));
            name.epoch = fenced.fold(name.epoch, i16::max);
        }
        (self.power, self.opening) = (false, false);
        violations
    }
}

/// What may be there beside what was acknowledged, and what may be missing.
#[derive(Clone, Copy, Debug)]
struct Maybe {
    sent: Option<Spec>,
    /// The producer that was about to be fenced.
    claimed: Option<i64>,
    power: bool,
}

impl Book {
    fn settle(&mut self, seed: u64, seen: &Seen, batches: &[Bytes], maybe: Maybe) -> Result<(), Violation> {
        if seen.kind == "Clean" && !self.perhaps_clean {
            return Err(Violation::new("a clean close was believed after an unclean end", seen.kind.clone()));
        }
        if seen.end < self.ledger.end {
            if !maybe.power || seen.end < self.durable {
                let detail = format!(
                    "it ends at {}; acknowledged was up to {}, as durable up to {}",
                    seen.end, self.ledger.end, self.durable
                );
                return Err(Violation::new("acknowledged batches of a partition are missing", detail));
            }
            self.ledger.cut(seen.end);
            self.ledger.cut_away.clear();
        }
        let found = missing::read(&mut self.ledger, seed, batches, |ledger, spec| {
            let fences = spec.kind == Kind::Abort
                && Some(spec.producer) == maybe.claimed
                && ledger
                    .producers
                    .get(&spec.producer)
                    .is_some_and(|known| known.log_epoch().is_some_and(|epoch| epoch < spec.epoch));
            fences || Some(*spec) == maybe.sent
        })?;
        let ends = (seen.start, seen.end);
        if ends != (0, self.ledger.end) {
            let detail = format!("it goes from {} to {}, not from 0 to {}", ends.0, ends.1, self.ledger.end);
            return Err(Violation::new("a partition's ends are not where its batches are", detail));
        }
        let gone = missing::excuse(&self.ledger, seed, &found, self.compacted)?;
        if let Some(offset) = self.gone.iter().find(|offset| found.records.contains(offset)) {
            let detail = format!("the record at offset {offset}");
            return Err(Violation::new("what compaction took is back", detail));
        }
        self.gone = gone;
        self.compare_committed(seen, &found)?;
        self.durable = self.ledger.end;
        // At an open, too, what is too much is put to rest.
        self.perhaps_clean = true;
        Ok(())
    }

    fn compare_committed(&self, seen: &Seen, found: &Found) -> Result<(), Violation> {
        let stable = decided::expected(&self.ledger).last_stable;
        if seen.last_stable != stable {
            let detail = format!("by the log {stable}; it says {}", seen.last_stable);
            return Err(Violation::new("the last stable offset is wrong", detail));
        }
        let visible = decided::visible(&self.ledger, 0);
        let visible: Vec<i64> = visible
            .into_iter()
            .flat_map(|(first, last)| first..=last)
            .filter(|offset| found.records.contains(offset))
            .collect();
        if visible != seen.committed {
            let at = visible.iter().zip(&seen.committed).position(|(a, b)| a != b);
            let at = at.unwrap_or(visible.len().min(seen.committed.len()));
            let detail = format!(
                "record {at}: offset {:?} is committed, shown is {:?}",
                visible.get(at),
                seen.committed.get(at)
            );
            return Err(Violation::new("a reader of committed records sees others", detail));
        }
        Ok(())
    }
}
