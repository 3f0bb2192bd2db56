//! Which mints are under way. The server registers a lease also under a token that was revoked while it made it: nothing
//! leads to that lease then, and it lives on. So no token is ended while a credential is being made under it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The mints under way, by the accessor of the token that they are under.
#[derive(Debug, Default)]
pub(super) struct Mints {
    tokens: Mutex<HashMap<String, Arc<RwLock<()>>>>,
}

impl Mints {
    /// Begins a mint, which is under way until this is dropped. Whoever ends the token is waited for.
    pub(super) async fn begin(&self, accessor: &str) -> OwnedRwLockReadGuard<()> {
        self.of(accessor).read_owned().await
    }

    /// Awaits that no mint is under way, and lets none begin until this is dropped.
    pub(super) async fn all_answered(&self, accessor: &str) -> OwnedRwLockWriteGuard<()> {
        self.of(accessor).write_owned().await
    }

    fn of(&self, accessor: &str) -> Arc<RwLock<()>> {
        let mut tokens = self.tokens();
        // Those that nobody holds, or waits for, say nothing any more.
        tokens.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(tokens.entry(accessor.to_owned()).or_default())
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, Arc<RwLock<()>>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
