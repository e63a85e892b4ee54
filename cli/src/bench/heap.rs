//! Counts live heap bytes, so that memory growth needs no guess.
//!
//! Invariant: every call goes to the system's allocator unchanged. Bytes are counted only while a [`Count`] lives, so
//! that all other measurements pay no more than the look at one flag.
#![expect(
    unsafe_code,
    reason = "an allocator can only be wrapped by an unsafe trait; each method hands its call on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The heap's growth since this was begun. One at a time.
pub(super) struct Count;

impl Count {
    pub(super) fn begin() -> Self {
        LIVE.store(0, Ordering::SeqCst);
        PEAK.store(0, Ordering::SeqCst);
        COUNTING.store(true, Ordering::SeqCst);
        Self
    }

    /// Bytes that were taken and not given back: now, and when it was most.
    pub(super) fn end(self) -> Growth {
        COUNTING.store(false, Ordering::SeqCst);
        Growth { live: LIVE.load(Ordering::SeqCst), peak: PEAK.load(Ordering::SeqCst) }
    }
}

/// Growth of the heap, in bytes; negative if more was freed than taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) live: i64,
    pub(super) peak: i64,
}

struct Counting;

// SAFETY: each method fulfils the contract of its namesake because it hands the same arguments to `System` and returns
// what that returns; the counters beside it touch no memory that is handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave_back(layout.size());
        // SAFETY: `at` came from `System` by one of these methods with the same `layout`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        gave_back(layout.size());
        // SAFETY: `at` came from `System` by one of these methods with the same `layout`; `size` is the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

fn took(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let live = LIVE.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        PEAK.fetch_max(live, Ordering::Relaxed);
    }
}

fn gave_back(bytes: usize) {
    if COUNTING.load(Ordering::Relaxed) {
        LIVE.fetch_sub(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set for the process that runs this one test, because the counters are the process's.
    const ALONE: &str = "ONCELOG_HEAP_TEST_ALONE";

    #[test]
    fn what_is_kept_counts_as_live_and_what_is_freed_only_as_peak() {
        if std::env::var_os(ALONE).is_none() {
            let name = "bench::heap::tests::what_is_kept_counts_as_live_and_what_is_freed_only_as_peak";
            let alone = std::process::Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact"])
                .env(ALONE, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&alone.stdout);
            assert!(alone.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let count = Count::begin();
        let kept = vec![1_u8; 1 << 24];
        drop(vec![1_u8; 1 << 26]);
        let growth = count.end();
        assert!((1 << 24..1 << 25).contains(&growth.live), "{growth:?}");
        assert!(growth.peak >= (1 << 24) + (1 << 26), "{growth:?}");
        drop(kept);
    }
}
