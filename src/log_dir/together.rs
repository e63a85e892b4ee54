//! Work on many partitions by a few threads, within a budget of bytes.
//!
//! Invariant: with one thread the work is done in order, on the calling thread: tests see every operation in one order.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::{Condvar, Mutex};

/// Calls `work` for each of `items`, by at most `threads` threads.
pub(super) fn for_each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) + Sync) {
    let threads = threads.min(items.len());
    if NonZeroUsize::new(threads).is_none_or(|threads| threads.get() == 1) {
        items.iter().for_each(work);
        return;
    }
    let next = AtomicUsize::new(0);
    let go_on = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that the system refuses is one fewer to help.
            let _spawned = thread::Builder::new().name("oncelog-open".to_owned()).spawn_scoped(scope, go_on);
        }
        go_on();
    });
}

/// Bytes that may be under way at a time.
pub(super) struct ByteBudget {
    most: u64,
    taken: Mutex<u64>,
    given_back: Condvar,
}

/// Bytes taken out of a budget until this is dropped.
pub(super) struct TakenBytes<'a> {
    budget: &'a ByteBudget,
    bytes: u64,
}

impl ByteBudget {
    pub(super) fn new(most: u64) -> Self {
        Self { most, taken: Mutex::new(0), given_back: Condvar::new() }
    }

    /// Waits until there is room for `bytes`, or nothing else is under way.
    pub(super) fn take(&self, bytes: u64) -> TakenBytes<'_> {
        let mut taken = self.taken.lock();
        while *taken > 0 && taken.saturating_add(bytes) > self.most {
            self.given_back.wait(&mut taken);
        }
        *taken = taken.saturating_add(bytes);
        TakenBytes { budget: self, bytes }
    }
}

impl Drop for TakenBytes<'_> {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock();
        *taken = taken.saturating_sub(self.bytes);
        drop(taken);
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_whatever_the_number_of_threads() {
        for threads in [0, 1, 3, 64] {
            let items: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
            for_each(&items, threads, |item| {
                item.fetch_add(1, Ordering::Relaxed);
            });
            assert!(items.iter().all(|item| item.load(Ordering::Relaxed) == 1), "{threads} threads");
        }
    }

    #[test]
    fn no_more_bytes_are_under_way_than_the_budget_has_except_for_one_alone() {
        let budget = ByteBudget::new(100);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items: Vec<usize> = (0..40).map(|at| if at == 20 { 500 } else { 40 }).collect();
        for_each(&items, 8, |bytes| {
            let _taken = budget.take(*bytes as u64);
            let under_way = now.fetch_add(*bytes, Ordering::SeqCst) + bytes;
            assert!(under_way <= 100 || *bytes == under_way, "{under_way} bytes at a time");
            most.fetch_max(under_way, Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(*bytes, Ordering::SeqCst);
        });
        assert_eq!(most.into_inner(), 500);
    }
}
