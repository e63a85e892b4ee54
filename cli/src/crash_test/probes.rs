//! The questions that a fresh process is asked before it goes on: retries, gaps, overlaps, old epochs, strangers.
//!
//! Invariant: every question has one right answer, which follows from what the dump before it showed. The last five
//! batches of every producer are among them, each time.

use oncelog::types::Durability;

use super::batch::{Kind, Spec, sequence};
use super::ledger::{Attempt, CHECK_LANE, Expected, Ledger, Producer, Stored, WINDOW};
use super::protocol::Probe;

/// Producers that nobody knows have ids from here on.
const STRANGERS: i64 = 3_000_000_000;
/// Idle producers that are asked for beside the active ones.
const IDLE_ASKED: usize = 20;
/// Of a hundred producers that owe a batch, so many give up and begin a new epoch instead.
const GIVE_UP_PERCENT: u8 = 4;

/// How the log was opened, and how to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// Producers that nothing is known of may start anywhere.
    pub(super) lenient: bool,
    pub(super) durable_percent: u8,
}

/// Announces the questions about the active producers and some idle ones, and returns them in order.
pub(super) fn ask(
    ledger: &mut Ledger,
    active: &[i64],
    random: &mut fastrand::Rng,
    asking: Asking,
) -> Vec<Probe> {
    let mut asked: Vec<i64> = active.to_vec();
    random.shuffle(&mut asked);
    let idle: Vec<i64> = ledger.producers.keys().copied().filter(|id| !active.contains(id)).collect();
    asked.extend(random.choose_multiple(idle, IDLE_ASKED));
    let mut questions = Vec::new();
    for id in &asked {
        about_stored(ledger, *id, random, &mut questions);
        about_owed(ledger, *id, random, asking, &mut questions);
    }
    if !asking.lenient {
        let first = random.i32(1..=1000);
        let stranger = Spec {
            producer: STRANGERS + random.i64(0..1_000_000),
            epoch: 0,
            first,
            count: 2,
            kind: Kind::Plain,
        };
        questions.push((stranger, Expected::UnknownProducer));
    }
    let mut probe = |(spec, expected): (Spec, Expected)| {
        let durable = random.u8(..100) < asking.durable_percent;
        let durability = if durable { Durability::Durable } else { Durability::Buffered };
        let id = ledger.announce(Attempt { spec, lane: CHECK_LANE, durability, expected, answer: None });
        Probe { id, spec, durable }
    };
    questions.into_iter().map(&mut probe).collect()
}

/// What a producer's batches in the log must be answered with, and what lies beside them.
pub(super) fn about_stored(
    ledger: &Ledger,
    id: i64,
    random: &mut fastrand::Rng,
    questions: &mut Vec<(Spec, Expected)>,
) {
    let Some(producer) = ledger.producers.get(&id) else { return };
    about_coordinator(producer, id, random, questions);
    let Some(newest) = producer.newest() else { return };
    for stored in producer.window() {
        let expected = if stored.aborted {
            Expected::AbortedRetry
        } else if stored.blurred {
            Expected::DuplicateOrUnknown(stored.base)
        } else {
            Expected::Duplicate(Some(stored.base))
        };
        questions.push((stored.spec, expected));
    }
    let newest = newest.spec;
    if random.u8(..4) == 0
        && let Some(older) = producer.present_epoch().nth(WINDOW + random.usize(..3))
    {
        // Where one batch of the window is uncertain, so is what was proven before it; and an abort ends what is proven.
        let aborted_since = |stored: &Stored| stored.aborted && stored.base >= older.base;
        let uncertain = producer.present_epoch().skip(1).any(|stored| stored.blurred)
            || producer.present_epoch().any(aborted_since);
        let expected = if older.aborted { Expected::Void } else { Expected::BeyondWindow(uncertain) };
        questions.push((older.spec, expected));
    }
    if random.u8(..4) == 0 {
        let first = sequence(newest.next()).wrapping_add(random.u32(1..=20)).value();
        questions.push((Spec { first, count: 1, ..newest }, Expected::OutOfOrder(Some(newest.next()))));
    }
    if random.u8(..8) == 0 {
        questions.push((Spec { count: newest.count.saturating_add(1), ..newest }, Expected::Overlap));
    }
    if newest.epoch > 0 && random.u8(..4) == 0 {
        questions.push((Spec { epoch: newest.epoch - 1, ..newest }, Expected::Fenced(newest.epoch)));
    }
}

/// Markers of a coordinator that is over, or of an epoch that is.
fn about_coordinator(
    producer: &Producer,
    id: i64,
    random: &mut fastrand::Rng,
    questions: &mut Vec<(Spec, Expected)>,
) {
    let (Some(present), Some(epoch)) = (producer.coordinator(), producer.log_epoch()) else { return };
    let marker = Spec { producer: id, epoch, first: present, count: 1, kind: Kind::Abort };
    if present > 0 && random.u8(..4) == 0 {
        questions.push((Spec { first: present - 1, ..marker }, Expected::CoordinatorFenced(present)));
    }
    if epoch > 0 && random.u8(..4) == 0 {
        questions.push((Spec { epoch: epoch - 1, ..marker }, Expected::Fenced(epoch)));
    }
}

/// What a producer sent and a crash took: it is new, in order.
fn about_owed(
    ledger: &mut Ledger,
    id: i64,
    random: &mut fastrand::Rng,
    asking: Asking,
    questions: &mut Vec<(Spec, Expected)>,
) {
    let Some(producer) = ledger.producers.get_mut(&id) else { return };
    let owed = std::mem::take(&mut producer.owed);
    let Some(last) = owed.last().copied() else { return };
    if producer.needs_leniency() && !asking.lenient {
        if let Some(first) = owed.first().filter(|spec| spec.first != 0) {
            questions.push((*first, Expected::UnknownProducer));
        }
        return;
    }
    if random.u8(..100) < GIVE_UP_PERCENT && !producer.stored.is_empty() {
        producer.epoch = last.epoch.max(producer.epoch).saturating_add(1);
        producer.next = 0;
        producer.sent.clear();
        return;
    }
    questions.extend(owed.iter().map(|spec| (*spec, Expected::Appended)));
    if random.u8(..4) == 0 {
        questions.push((last, Expected::Duplicate(None)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(first: i32, epoch: i16) -> Spec {
        Spec { producer: 1, epoch, first, count: 1, kind: Kind::Plain }
    }

    fn ledger(stored: &[Spec]) -> Ledger {
        let mut ledger = Ledger::new(7, [1]);
        for (base, spec) in (0..).zip(stored) {
            ledger.store(base, *spec);
        }
        for producer in ledger.producers.values_mut() {
            producer.resume();
        }
        ledger
    }

    fn asked(ledger: &mut Ledger, seed: u64) -> Vec<(Spec, Expected)> {
        let asking = Asking { lenient: false, durable_percent: 50 };
        ask(ledger, &[1], &mut fastrand::Rng::with_seed(seed), asking);
        ledger.attempts.iter().map(|attempt| (attempt.spec, attempt.expected)).collect()
    }

    #[test]
    fn each_of_the_last_five_batches_is_asked_for_with_its_offset() {
        let stored: Vec<Spec> = (0..8).map(|first| spec(first, 0)).collect();
        for seed in 0..20 {
            let questions = asked(&mut ledger(&stored), seed);
            for base in 3..8 {
                let first = i32::try_from(base).unwrap();
                assert!(
                    questions.contains(&(spec(first, 0), Expected::Duplicate(Some(base)))),
                    "{questions:?}"
                );
            }
            let old = questions.iter().filter(|(_, expected)| *expected == Expected::BeyondWindow(false));
            assert!(old.clone().all(|(spec, _)| spec.first < 3));
        }
    }

    #[test]
    fn batches_of_an_epoch_that_is_over_are_no_part_of_the_window() {
        let stored = [spec(0, 0), spec(1, 0), spec(0, 1), spec(1, 1)];
        for seed in 0..20 {
            let questions = asked(&mut ledger(&stored), seed);
            let duplicates: Vec<Spec> = questions
                .iter()
                .filter(|(_, expected)| matches!(expected, Expected::Duplicate(_)))
                .map(|(spec, _)| *spec)
                .collect();
            assert_eq!(duplicates, [spec(1, 1), spec(0, 1)]);
        }
    }

    #[test]
    fn what_a_crash_took_is_sent_again_in_order_and_is_new() {
        for seed in 0..20 {
            let mut ledger = ledger(&[spec(0, 0)]);
            ledger.producers.get_mut(&1).unwrap().owed = vec![spec(1, 0), spec(2, 0)];
            let questions = asked(&mut ledger, seed);
            let new: Vec<Spec> = questions
                .iter()
                .filter(|(_, expected)| *expected == Expected::Appended)
                .map(|(spec, _)| *spec)
                .collect();
            let producer = &ledger.producers[&1];
            if new.is_empty() {
                assert_eq!((producer.epoch, producer.next), (1, 0), "it gave up");
            } else {
                assert_eq!(new, [spec(1, 0), spec(2, 0)]);
                assert_eq!((producer.epoch, producer.next), (0, 3));
            }
        }
    }
}
