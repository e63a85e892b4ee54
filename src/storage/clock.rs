//! Time as the engine sees it, so that a test can stop, move and turn it back.
//!
//! Invariant: [`Clock::monotonic`] never goes back. [`Clock::wall_ms`] may jump either way; it goes into files that
//! Kafka reads, and nothing is decided by it.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since some fixed moment of this process. Never goes back.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970-01-01 UTC, as the machine believes; may jump.
    fn wall_ms(&self) -> i64;
}

/// The clocks of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The clocks of the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

/// The moment from which every [`SystemClock`] of this process counts.
static START: OnceLock<Instant> = OnceLock::new();

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        START.get_or_init(Instant::now).elapsed()
    }

    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A machine whose clock stands before 1970.
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    monotonic: Duration,
    wall_ms: i64,
}

impl ManualClock {
    /// A clock whose monotonic time is zero and whose wall time is `wall_ms`.
    #[must_use]
    pub fn new(wall_ms: i64) -> Self {
        Self { now: Mutex::new(Now { monotonic: Duration::ZERO, wall_ms }) }
    }

    /// Lets time pass: both clocks move on, the wall clock by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        let before = now.monotonic;
        now.monotonic = before.saturating_add(by);
        // The difference of two roundings, so that many small steps add up.
        let passed = now.monotonic.as_millis().saturating_sub(before.as_millis());
        now.wall_ms = now.wall_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
    }

    /// Sets the wall clock, as an administrator or a time server would; monotonic time is not touched.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.now.lock().wall_ms = wall_ms;
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        self.now.lock().monotonic
    }

    fn wall_ms(&self) -> i64 {
        self.now.lock().wall_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_clock_stands_still_until_it_is_moved() {
        let clock = ManualClock::new(1_000);
        assert_eq!((clock.monotonic(), clock.wall_ms()), (Duration::ZERO, 1_000));
        clock.advance(Duration::from_millis(250));
        assert_eq!((clock.monotonic(), clock.wall_ms()), (Duration::from_millis(250), 1_250));
    }

    #[test]
    fn a_jump_of_the_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_secs(1));
        clock.set_wall_ms(-5);
        assert_eq!((clock.monotonic(), clock.wall_ms()), (Duration::from_secs(1), -5));
    }

    #[test]
    fn many_small_steps_add_up_on_the_wall_clock() {
        let clock = ManualClock::new(0);
        for _ in 0..10 {
            clock.advance(Duration::from_micros(300));
        }
        assert_eq!(clock.wall_ms(), 3);
    }

    #[test]
    fn the_system_clock_does_not_go_back_and_knows_the_year() {
        let clock = SystemClock::new();
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
        assert!(clock.wall_ms() > 1_700_000_000_000);
    }
}
