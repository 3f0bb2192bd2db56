//! What happened, in order, written down by whoever saw it: the ground truth that the broker's own records are held against.

use std::sync::{Arc, Mutex, PoisonError};

/// An append-only list that many tasks write to.
#[derive(Debug)]
pub struct Journal<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Journal<T> {
    /// Adds an entry.
    pub fn record(&self, entry: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    /// Everything so far, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many entries match.
    #[must_use]
    pub fn count(&self, matches: impl Fn(&T) -> bool) -> usize {
        self.entries().iter().filter(|entry| matches(entry)).count()
    }
}
