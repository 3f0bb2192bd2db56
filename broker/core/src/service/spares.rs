//! The spares at hand: what backends prepared ahead, by the role that it is for.
//!
//! Memory says what to try and the store who gets it: a spare is taken in the transaction that opens its grant.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::credential::Handle;
use crate::id::{BackendName, SpareId};
use crate::port::Spare;
use crate::time::Timestamp;

/// Which spares are of use to whom: the backend, and the digest of the role.
type For = (BackendName, String);

/// The spares at hand.
#[derive(Debug, Default)]
pub struct SpareRoom {
    shelves: Mutex<HashMap<For, Vec<Spare>>>,
}

impl SpareRoom {
    /// Takes a spare that ends between the two instants: of those, the one that ends first. Given back when it is dropped
    /// unspent.
    #[must_use]
    pub fn take(
        self: &Arc<Self>,
        backend: &BackendName,
        role_digest: &str,
        earliest: Timestamp,
        latest: Timestamp,
    ) -> Option<TakenSpare> {
        let mut shelves = self.shelves();
        if shelves.is_empty() {
            return None;
        }
        let shelf = shelves.get_mut(&(backend.clone(), role_digest.to_owned()))?;
        let fits = |spare: &Spare| (earliest..=latest).contains(&spare.expires_at);
        let (place, _) =
            shelf.iter().enumerate().filter(|(_, spare)| fits(spare)).min_by_key(|(_, spare)| spare.expires_at)?;
        Some(TakenSpare { spare: Some(shelf.swap_remove(place)), room: Arc::clone(self) })
    }

    /// Puts a spare at hand.
    pub(crate) fn put(&self, spare: Spare) {
        let mut shelves = self.shelves();
        let shelf = shelves.entry((spare.backend.clone(), spare.role_digest.clone())).or_default();
        if shelf.iter().all(|other| other.id != spare.id) {
            shelf.push(spare);
        }
    }

    /// Takes away what is not wanted: everything of the backend for which `keep` says no.
    pub(crate) fn clear(&self, backend: &BackendName, keep: impl Fn(&Spare) -> bool) -> Vec<Spare> {
        let mut cleared = Vec::new();
        self.shelves().retain(|(of, _), shelf| {
            if of == backend {
                cleared.extend(shelf.extract_if(.., |spare| !keep(spare)));
            }
            !shelf.is_empty()
        });
        cleared
    }

    /// How many are at hand for a role.
    pub(crate) fn count(&self, backend: &BackendName, role_digest: &str) -> usize {
        self.shelves().get(&(backend.clone(), role_digest.to_owned())).map_or(0, Vec::len)
    }

    /// The ids of all of them.
    pub(crate) fn ids(&self) -> HashSet<SpareId> {
        self.shelves().values().flatten().map(|spare| spare.id).collect()
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<For, Vec<Spare>>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A spare that was taken from the room and is not spent yet.
#[derive(Debug)]
pub struct TakenSpare {
    spare: Option<Spare>,
    room: Arc<SpareRoom>,
}

impl TakenSpare {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> Option<SpareId> {
        self.spare.as_ref().map(|spare| spare.id)
    }

    /// When the backend ends it.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.spare.as_ref().map(|spare| spare.expires_at)
    }

    /// A copy of its handle.
    #[must_use]
    pub fn handle(&self) -> Option<Handle> {
        self.spare.as_ref().map(|spare| spare.handle.duplicate())
    }

    /// It was offered to the store, which knows what became of it: it does not come back from here.
    pub fn spend(mut self) {
        self.spare = None;
    }
}

impl Drop for TakenSpare {
    fn drop(&mut self) {
        if let Some(spare) = self.spare.take() {
            self.room.put(spare);
        }
    }
}
