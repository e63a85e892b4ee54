//! Callers that behave badly, or leave: nobody else suffers.

use std::sync::{Arc, Mutex, OnceLock};

use oncelog::storage::{MemoryStorage, OperationKind};
use oncelog::{Durability, Log, LogConfig, Outcome};

use super::stand::{Stand, outcome};
use crate::common::check::{DIR, environment, small_config};
use crate::common::ledger::Issued;

#[test]
fn a_panic_in_a_callback_is_caught_and_others_get_their_answers() {
    let stand = Stand::with_history();
    let first = stand.log.submit(Issued::new(1, 0, 7, 1).raw(), Durability::Durable).unwrap();
    first.on_complete(|_| panic!("a careless callback"));
    let batch = Issued::new(2, 0, 7, 1);
    let (raw, place) = (batch.raw(), stand.ledger.issue(batch));
    let second = stand.log.submit(raw, Durability::Durable).unwrap();
    stand.ledger.expect_answer(place, Durability::Durable, second);
    let end = stand.log.flush().unwrap();
    assert_eq!(end, stand.log.log_end_offset());
    let ledger = stand.ledger.lock().clone();
    let answered = ledger.acks.last().map(|ack| (ack.batch, ack.appended.outcome));
    assert_eq!((answered, ledger.errors.len()), (Some((place, Outcome::Appended)), 0));
    assert_eq!(outcome(stand.retry(1, 7)).0, Outcome::Duplicate, "the batch of the careless one counts too");
}

#[test]
fn a_panic_in_a_callback_is_caught_also_when_the_answer_is_there_already() {
    let stand = Stand::with_history();
    let done = stand.log.submit(Issued::new(1, 0, 7, 1).raw(), Durability::Buffered).unwrap();
    done.on_complete(|_| panic!("a careless callback"));
    assert_eq!(outcome(stand.append(1, 8)).0, Outcome::Appended);
}

#[test]
fn a_dropped_completion_takes_no_batch_back() {
    let stand = Stand::with_history();
    let end = stand.log.log_end_offset().0;
    drop(stand.log.submit(Issued::new(1, 0, 7, 1).raw(), Durability::Durable).unwrap());
    assert_eq!(outcome(stand.append(2, 7)), (Outcome::Appended, Some(end + 1)));
    assert_eq!(outcome(stand.retry(1, 7)), (Outcome::Duplicate, Some(end)));
}

#[test]
fn completions_are_answered_when_the_log_is_dropped_before_them() {
    let Stand { log, .. } = Stand::with_history();
    let end = log.log_end_offset().0;
    let pending = log.submit(Issued::new(1, 0, 7, 1).raw(), Durability::Durable).unwrap();
    drop(log);
    assert_eq!(outcome(pending.wait()), (Outcome::Appended, Some(end)));
}

/// Whoever holds the combiner is made to submit more in the middle of its write: nobody drains the queue then.
#[test]
fn try_submit_is_busy_when_the_queue_is_full_and_works_again_when_it_is_not() {
    let disk = MemoryStorage::new();
    let config = LogConfig { queue_bytes: 150, ..small_config() };
    let log = Arc::new(Log::open_with(DIR, config, environment(&disk)).unwrap().0);
    let (shared, answers) = (Arc::new(OnceLock::<Arc<Log>>::new()), Arc::new(Mutex::new(Vec::new())));
    assert!(shared.set(Arc::clone(&log)).is_ok());
    let (inside, seen) = (Arc::clone(&shared), Arc::clone(&answers));
    disk.on_operation(move |operation, disk| {
        if operation.kind == OperationKind::Write && operation.name().ends_with(".log") {
            disk.forget_observer();
            let log = inside.get().expect("set before");
            for sequence in 1..=2 {
                let answer = log.try_submit(Issued::new(1, 0, sequence, 1).raw(), Durability::Durable);
                seen.lock().expect("one thread").push(answer.expect("well formed"));
            }
        }
    });
    let first = log.append(Issued::new(1, 0, 0, 1).raw(), Durability::Durable);
    assert_eq!(outcome(first), (Outcome::Appended, Some(0)));
    let answers = std::mem::take(&mut *answers.lock().unwrap());
    let [taken, refused] = answers.try_into().unwrap_or_else(|answers| panic!("{answers:?}"));
    assert!(refused.is_none(), "a second batch does not fit");
    assert_eq!(outcome(taken.expect("an empty queue takes one").wait()), (Outcome::Appended, Some(1)));
    let again = log.try_submit(Issued::new(1, 0, 2, 1).raw(), Durability::Durable).unwrap();
    assert_eq!(outcome(again.expect("the queue is empty").wait()), (Outcome::Appended, Some(2)));
}
