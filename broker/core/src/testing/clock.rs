use std::sync::Mutex;
use std::time::Duration;

use crate::time::{Clock, Timestamp, Ttl};

/// A clock that moves only when a test says so.
#[derive(Debug)]
pub struct MockClock(Mutex<(Timestamp, Duration)>);

impl MockClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn starting_at(now: Timestamp) -> Self {
        Self(Mutex::new((now, Duration::from_secs(1_000))))
    }

    /// Time passes: both clocks move.
    pub fn advance(&self, by: Ttl) {
        let mut at = self.0.lock().unwrap();
        at.0 = at.0.plus(by);
        at.1 = at.1.saturating_add(by.as_duration());
    }

    /// Time passes, in milliseconds.
    pub fn advance_millis(&self, by: i64) {
        let mut at = self.0.lock().unwrap();
        at.0 = Timestamp::from_millis(at.0.as_millis().saturating_add(by));
        at.1 = at.1.saturating_add(Duration::from_millis(by.unsigned_abs()));
    }

    /// The wall clock steps forward, as when somebody sets it; no time passes.
    pub fn step_wall(&self, by: Ttl) {
        let mut at = self.0.lock().unwrap();
        at.0 = at.0.plus(by);
    }

    /// The wall clock steps back; no time passes.
    pub fn step_wall_back(&self, by: Ttl) {
        let mut at = self.0.lock().unwrap();
        at.0 = at.0.minus(by);
    }
}

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}
