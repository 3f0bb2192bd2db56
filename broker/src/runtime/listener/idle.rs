//! When a connection has had no request for too long.
//!
//! A peer that answers pings is there, and asks for nothing: without an end to that, it would keep its place for ever.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How many requests of a connection are at work.
#[derive(Clone, Debug)]
pub(super) struct Activity(watch::Sender<usize>);

/// A request at work, until it is answered or dropped.
#[derive(Debug)]
pub(super) struct Work(watch::Sender<usize>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// A request comes in.
    pub(super) fn begin(&self) -> Work {
        self.0.send_modify(|at_work| *at_work = at_work.saturating_add(1));
        Work(self.0.clone())
    }

    /// Resolves when there has been no request for `longest`.
    pub(super) async fn idle_for(&self, longest: Duration) {
        let mut requests = self.0.subscribe();
        loop {
            // Fails only once the sender is gone, and it is ours.
            let _ = requests.wait_for(|at_work| *at_work == 0).await;
            if timeout(longest, requests.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.send_modify(|at_work| *at_work = at_work.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn it_is_idle_when_nothing_came_for_so_long_since_the_last_was_answered() {
        let activity = Activity::new();
        let mut idle = std::pin::pin!(activity.idle_for(LONGEST));
        for _ in 0..3 {
            assert!(timeout(LONGEST / 2, &mut idle).await.is_err(), "a request came in time");
            let work = activity.begin();
            assert!(timeout(LONGEST * 10, &mut idle).await.is_err(), "what is at work is not idle");
            let second = activity.begin();
            drop(work);
            assert!(timeout(LONGEST * 10, &mut idle).await.is_err(), "nor is what is left of it");
            drop(second);
        }
        assert!(timeout(LONGEST - Duration::from_millis(1), &mut idle).await.is_err(), "not a moment too early");
        timeout(Duration::from_millis(1), idle).await.expect("and not too late");
    }
}
