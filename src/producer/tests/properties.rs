//! Random histories against a reference that keeps every batch it ever stored and looks through all of them.
//!
//! The reference knows no window, no count of proven sequences and no distance between sequences: it lists the
//! records of each batch and compares the lists.

use proptest::prelude::*;

use super::super::{Verdict, check};
use super::*;
use crate::error::Rejection;
use crate::types::Origin;

const SEQUENCES: i64 = 1 << 31;
const PRODUCERS: usize = 3;

/// One step of a history. Sequences are relative to the one that comes next, so that most steps matter.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends a batch: checked, then stored if it is new.
    Send { who: usize, epoch: i16, distance: i64, length: u32, transactional: bool },
    /// A client sends a stored batch again, counted from the newest.
    Retry { who: usize, back: usize },
    /// A leader has stored it, after a gap or not; this follower does not ask.
    Follow { who: usize, gap: i64, length: u32 },
    /// The producer's transaction ends, with this epoch relative to the current one.
    End { who: usize, epoch: i16, how: EndTxn },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..PRODUCERS;
    let epoch = prop_oneof![12 => Just(0_i16), 1 => Just(1), 1 => Just(-1)];
    let distance = prop_oneof![6 => Just(0_i64), 4 => -60..20_i64, 1 => Just(-(1 << 30)), 1 => Just(1 << 30)];
    let how = prop_oneof![Just(EndTxn::Commit), Just(EndTxn::Abort)];
    prop_oneof![
        12 => (who.clone(), epoch, distance, 1..9_u32, prop::bool::weighted(0.3)).prop_map(
            |(who, epoch, distance, length, transactional)| Step::Send {
                who, epoch, distance, length, transactional
            }
        ),
        6 => (who.clone(), 0..12_usize).prop_map(|(who, back)| Step::Retry { who, back }),
        1 => (who.clone(), 0..5_i64, 1..9_u32).prop_map(|(who, gap, length)| Step::Follow { who, gap, length }),
        3 => (who, 0..2_i16, how).prop_map(|(who, epoch, how)| Step::End { who, epoch, how }),
    ]
}

/// A history, and for each producer the sequence it would like to begin at: 0, or shortly before the wrap.
fn history() -> impl Strategy<Value = (Vec<Step>, [i64; PRODUCERS])> {
    let start = prop_oneof![Just(0), SEQUENCES - 30..SEQUENCES];
    (prop::collection::vec(step(), 1..120), [start.clone(), start.clone(), start])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Plain,
    Open,
    Committed,
    Aborted,
}

/// A batch as the reference keeps it.
#[derive(Clone, Debug)]
struct Stored {
    epoch: i16,
    records: Vec<i64>,
    first_offset: i64,
    fate: Fate,
}

impl Stored {
    fn as_cached(&self) -> CachedBatch {
        let last_offset = self.first_offset + i64::try_from(self.records.len()).expect("small") - 1;
        let sequence =
            |record: Option<&i64>| i32::try_from(*record.expect("never empty")).expect("below 2^31");
        let (first, last) = (sequence(self.records.first()), sequence(self.records.last()));
        CachedBatch {
            aborted: self.fate == Fate::Aborted,
            ..cached(first, last, self.first_offset, last_offset)
        }
    }
}

/// All that one producer ever did.
#[derive(Clone, Debug, Default)]
struct Reference {
    epoch: Option<i16>,
    stored: Vec<Stored>,
}

impl Reference {
    fn of_epoch(&self, epoch: i16) -> impl DoubleEndedIterator<Item = &Stored> {
        self.stored.iter().filter(move |batch| batch.epoch == epoch)
    }

    fn next(&self, epoch: i16) -> i64 {
        let newest = self.of_epoch(epoch).next_back().and_then(|batch| batch.records.last());
        newest.map_or(0, |last| (last + 1) % SEQUENCES)
    }

    fn has_open(&self) -> bool {
        self.stored.iter().any(|batch| batch.fate == Fate::Open)
    }

    /// The batches up to the newest between which no record is missing, newest first.
    fn unbroken(&self, epoch: i16) -> Vec<&Stored> {
        let mut found: Vec<&Stored> = Vec::new();
        for batch in self.of_epoch(epoch).rev() {
            let continues = |later: &&Stored| {
                batch.records.last().map(|last| (last + 1) % SEQUENCES) == later.records.first().copied()
            };
            if !found.last().is_none_or(continues) {
                break;
            }
            found.push(batch);
        }
        found
    }

    fn window(&self, epoch: i16) -> Vec<CachedBatch> {
        let mut newest: Vec<_> = self.unbroken(epoch).into_iter().take(5).map(Stored::as_cached).collect();
        newest.reverse();
        newest
    }

    fn proven(&self, epoch: i16) -> usize {
        let unbroken = self.unbroken(epoch);
        unbroken.iter().take_while(|batch| batch.fate != Fate::Aborted).map(|batch| batch.records.len()).sum()
    }

    /// Whether a record of this epoch is in the log, be it void.
    fn holds(&self, epoch: i16, record: i64) -> bool {
        self.of_epoch(epoch).any(|batch| batch.records.contains(&record))
    }

    fn holds_to_count(&self, epoch: i16, record: i64) -> bool {
        self.of_epoch(epoch).any(|batch| batch.fate != Fate::Aborted && batch.records.contains(&record))
    }

    fn store(&mut self, facts: &BatchFacts, records: Vec<i64>, first_offset: i64) {
        let fate = if facts.transactional { Fate::Open } else { Fate::Plain };
        self.epoch = self.epoch.max(Some(facts.epoch.0));
        self.stored.push(Stored { epoch: facts.epoch.0, records, first_offset, fate });
    }

    fn end(&mut self, epoch: i16, how: EndTxn) {
        self.epoch = self.epoch.max(Some(epoch));
        let fate = if how == EndTxn::Abort { Fate::Aborted } else { Fate::Committed };
        self.stored.iter_mut().filter(|batch| batch.fate == Fate::Open).for_each(|batch| batch.fate = fate);
    }
}

#[derive(Clone, Copy, Debug)]
enum Logged {
    Data(BatchFacts, OffsetSpan),
    Marker(MarkerFacts, Offset),
}

/// What stands in the log, by whom, and at which engine time it was applied.
type Log = Vec<(usize, EngineTime, Logged)>;
type Entries = [Option<Entry>; PRODUCERS];

fn apply(entries: &mut Entries, (who, seen, logged): &(usize, EngineTime, Logged)) {
    let Some(entry) = entries.get_mut(*who) else { return };
    *entry = Some(match logged {
        Logged::Data(facts, offsets) => apply_data(entry.as_ref(), facts, *offsets, *seen),
        Logged::Marker(facts, offset) => apply_marker(entry.as_ref(), facts, *offset, *seen),
    });
}

fn fold(mut entries: Entries, log: &[(usize, EngineTime, Logged)]) -> Entries {
    log.iter().for_each(|logged| apply(&mut entries, logged));
    entries
}

/// Engine and reference, side by side.
#[derive(Default)]
struct Both {
    log: Log,
    end: i64,
    entries: Entries,
    references: [Reference; PRODUCERS],
}

impl Both {
    fn run(&mut self, step: &Step, starts: &[i64; PRODUCERS]) -> Result<(), TestCaseError> {
        match *step {
            Step::Send { who, epoch, distance, length, transactional } => {
                let known = &self.references[who];
                let epoch_now = known.epoch.unwrap_or(1);
                let epoch = epoch_now + epoch;
                let next = if known.epoch.is_none() { starts[who] } else { known.next(epoch) };
                let (facts, records) = batch(epoch, next + distance, length, transactional);
                self.send(who, facts, records)
            }
            Step::Retry { who, back } => {
                let Some(stored) = self.references[who].stored.iter().rev().nth(back).cloned() else {
                    return Ok(());
                };
                let length = u32::try_from(stored.records.len()).expect("small");
                let transactional = stored.fate != Fate::Plain;
                let (facts, records) = batch(stored.epoch, stored.records[0], length, transactional);
                self.send(who, facts, records)
            }
            Step::Follow { who, gap, length } => {
                let known = &self.references[who];
                let epoch = known.epoch.unwrap_or(1);
                let (facts, records) = batch(epoch, known.next(epoch) + gap, length, known.has_open());
                self.store(who, facts, records);
                self.compare(who)
            }
            Step::End { who, epoch, how } => {
                let epoch = self.references[who].epoch.unwrap_or(1) + epoch;
                self.log(who, Logged::Marker(marker(epoch, 1, how), Offset(self.end)));
                self.end += 1;
                self.references[who].end(epoch, how);
                self.compare(who)
            }
        }
    }

    fn send(&mut self, who: usize, facts: BatchFacts, records: Vec<i64>) -> Result<(), TestCaseError> {
        let policy = policy(UnknownProducerPolicy::Accept);
        let verdict = check(self.entries[who].as_ref(), &facts, Origin::Client, &policy);
        judge(&self.references[who], &facts, &records, &verdict)?;
        if verdict == Ok(Verdict::Append) {
            self.store(who, facts, records);
        }
        self.compare(who)
    }

    fn store(&mut self, who: usize, facts: BatchFacts, records: Vec<i64>) {
        let last = self.end + i64::from(facts.length()) - 1;
        self.log(who, Logged::Data(facts, OffsetSpan { first: Offset(self.end), last: Offset(last) }));
        self.references[who].store(&facts, records, self.end);
        self.end = last + 1;
    }

    fn log(&mut self, who: usize, logged: Logged) {
        let seen = EngineTime(u64::try_from(self.log.len()).expect("small"));
        self.log.push((who, seen, logged));
        apply(&mut self.entries, &(who, seen, logged));
    }

    /// What the entry claims is what the reference finds in all that was stored.
    fn compare(&self, who: usize) -> Result<(), TestCaseError> {
        let (Some(entry), known) = (&self.entries[who], &self.references[who]) else { return Ok(()) };
        let epoch = entry.epoch.0;
        prop_assert_eq!(Some(epoch), known.epoch);
        prop_assert_eq!(entry.batches(), known.window(epoch));
        prop_assert_eq!(usize::try_from(entry.proven).expect("small"), known.proven(epoch));
        let open = known.stored.iter().find(|batch| batch.fate == Fate::Open);
        prop_assert_eq!(entry.txn_first_offset, open.map(|batch| Offset(batch.first_offset)));
        Ok(())
    }
}

fn batch(epoch: i16, first: i64, length: u32, transactional: bool) -> (BatchFacts, Vec<i64>) {
    let records: Vec<i64> = (0..i64::from(length)).map(|n| (first + n).rem_euclid(SEQUENCES)).collect();
    let first = i32::try_from(records[0]).expect("below 2^31");
    (BatchFacts { transactional, ..facts(epoch, first, length) }, records)
}

/// Whether a verdict is true, from all that was ever stored.
fn judge(
    known: &Reference,
    facts: &BatchFacts,
    records: &[i64],
    verdict: &Result<Verdict, Rejection>,
) -> Result<(), TestCaseError> {
    let epoch = facts.epoch.0;
    let any_stored = records.iter().any(|record| known.holds(epoch, *record));
    let all_count = records.iter().all(|record| known.holds_to_count(epoch, *record));
    let older = known.epoch.is_some_and(|current| epoch < current);
    let next = known.epoch.is_none() || records[0] == known.next(epoch);
    let conflict = known.has_open() && !facts.transactional;
    let window = known.window(epoch);
    let equal = window.iter().find(|batch| {
        (Some(batch.first_sequence), Some(batch.last_sequence)) == (facts.first_sequence, facts.last_sequence)
    });

    // What must be answered.
    prop_assert_eq!(matches!(verdict, Err(Rejection::Fenced { .. })), older, "{:?}", verdict);
    if older {
        return Ok(());
    }
    prop_assert_eq!(*verdict == Ok(Verdict::Append), next && !conflict, "{:?}", verdict);
    prop_assert_eq!(matches!(verdict, Err(Rejection::InvalidTxnState(_))), next && conflict, "{:?}", verdict);
    if next {
        return Ok(());
    }
    if let Some(batch) = equal {
        match verdict {
            Ok(Verdict::Duplicate(stored)) => prop_assert_eq!(stored, batch),
            Err(Rejection::AbortedRetry { .. }) => prop_assert!(batch.aborted),
            other => prop_assert!(false, "stored in the window, answered {:?}", other),
        }
    }

    // What may be answered.
    match verdict {
        Ok(Verdict::Append) | Err(Rejection::InvalidTxnState(_) | Rejection::Fenced { .. }) => {}
        Ok(Verdict::Duplicate(batch)) => {
            prop_assert!(!batch.aborted);
            prop_assert_eq!(Some(batch), equal);
        }
        Ok(Verdict::DuplicateBeyondWindow { oldest }) => {
            prop_assert!(all_count, "not all of it is stored");
            prop_assert_eq!(Some(oldest), window.first());
        }
        Err(Rejection::OutOfOrder { expected, .. }) => {
            prop_assert!(!any_stored, "some of it is stored");
            prop_assert_eq!(i64::from(expected.value()), known.next(epoch));
        }
        Err(Rejection::AbortedRetry { .. }) => prop_assert!(equal.is_some_and(|batch| batch.aborted)),
        Err(Rejection::SequenceOverlap { .. }) => {
            prop_assert!(any_stored, "nothing of it is stored");
            prop_assert_eq!(equal, None);
        }
        Err(Rejection::SequenceUnknown { .. }) => {
            let proven: Vec<i64> = known
                .unbroken(epoch)
                .into_iter()
                .take_while(|batch| batch.fate != Fate::Aborted)
                .flat_map(|batch| batch.records.clone())
                .collect();
            prop_assert!(!records.iter().all(|record| proven.contains(record)), "it is proven");
        }
        other => prop_assert!(false, "no rule gives {:?}", other),
    }
    Ok(())
}

fn played(steps: &[Step], starts: &[i64; PRODUCERS]) -> Result<Both, TestCaseError> {
    let mut both = Both::default();
    for step in steps {
        both.run(step, starts)?;
    }
    Ok(both)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_verdict_is_true_and_every_entry_claims_what_is_stored((steps, starts) in history()) {
        played(&steps, &starts)?;
    }

    #[test]
    fn a_replay_from_anywhere_below_a_checkpoint_ends_in_the_same_state(
        (steps, starts) in history(),
        checkpoint in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
    ) {
        let both = played(&steps, &starts)?;
        let checkpoint = checkpoint.index(both.log.len() + 1);
        let from = from.index(checkpoint + 1);
        prop_assert_eq!(&fold(Entries::default(), &both.log), &both.entries);
        let at_checkpoint = fold(Entries::default(), &both.log[..checkpoint]);
        prop_assert_eq!(&fold(at_checkpoint, &both.log[from..]), &both.entries);
    }

    #[test]
    fn a_refill_of_a_window_one_deep_says_nothing_untrue_and_all_if_it_reads_all(
        (steps, starts) in history(),
        from in any::<prop::sample::Index>(),
    ) {
        let both = played(&steps, &starts)?;
        let from = from.index(both.log.len() + 1);
        let replayed = fold(Entries::default(), &both.log[from..]);
        let complete = fold(Entries::default(), &both.log);
        for (who, entry) in both.entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let one_deep = kafka_snapshot_of(entry);
            if let Some(replayed) = &replayed[who] {
                let mut refilled = one_deep;
                refilled.refill_from(replayed);
                let read_newest = replayed.newest().is_some_and(|batch| Some(batch) == entry.newest());
                let known = entry.batches().len() - refilled.batches().len();
                prop_assert!(!read_newest || refilled.batches() == &entry.batches()[known..]);
                prop_assert!(!read_newest || refilled.proven <= entry.proven);
            }
            let mut refilled = one_deep;
            refilled.refill_from(complete[who].as_ref().expect("it wrote"));
            prop_assert_eq!(&refilled, entry);
        }
    }
}

/// What Kafka's snapshot keeps of an entry: one batch, and nothing of aborts.
fn kafka_snapshot_of(entry: &Entry) -> Entry {
    let newest = entry.newest().map(|newest| CachedBatch { aborted: false, ..*newest });
    let mut one_deep = Entry::new(entry.epoch, entry.last_seen);
    one_deep.coordinator_epoch = entry.coordinator_epoch;
    one_deep.txn_first_offset = entry.txn_first_offset;
    one_deep.proven = newest.map_or(0, |newest| newest.length());
    one_deep.with_window(newest.as_slice()).expect("one batch is a window")
}
