//! Chains that were verified, so that whoever asks again over the same certificate costs no signature.
//!
//! The invariant: what is remembered is believed only where verifying it anew could say nothing else. It is of one chain,
//! byte for byte; of one bundle, the very one that is held; and of the time between its verification and the first end of
//! anything that it can rest on. A bundle that changes forgets all, and refusals are not remembered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hallpass_core::identity::ClientCertificate;
use hallpass_core::time::Timestamp;

use crate::identity::jwks::KeySet;

/// Most chains that are remembered of one trust domain, 64 bytes each. Beyond, all are forgotten: that costs some
/// signatures again. Only what the trust domain signed comes in here.
const MAX_CHAINS: usize = 4096;

/// What was verified by one trust domain's bundle.
#[derive(Debug, Default)]
pub(super) struct VerifiedChains(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// Held itself, so that no other can be at its place in memory.
    bundle: Option<Arc<KeySet>>,
    /// By the digest of the whole chain: from when, and until when.
    chains: BTreeMap<[u8; 32], (Timestamp, Timestamp)>,
}

impl VerifiedChains {
    /// Whether this chain was verified by this bundle, and nothing that it rests on has ended since.
    pub(super) fn have(&self, chain: &ClientCertificate, bundle: &Arc<KeySet>, now: Timestamp) -> bool {
        let held = self.held();
        held.bundle.as_ref().is_some_and(|known| Arc::ptr_eq(known, bundle))
            && held.chains.get(&chain.chain_sha256()).is_some_and(|(from, until)| *from <= now && now <= *until)
    }

    /// Remembers that it was verified at this moment, and holds until then.
    pub(super) fn remember(&self, chain: &ClientCertificate, bundle: &Arc<KeySet>, now: Timestamp, until: Timestamp) {
        let mut held = self.held();
        if held.bundle.as_ref().is_none_or(|known| !Arc::ptr_eq(known, bundle)) {
            *held = Held { bundle: Some(Arc::clone(bundle)), chains: BTreeMap::new() };
        }
        if held.chains.len() >= MAX_CHAINS {
            held.chains.clear();
        }
        held.chains.insert(chain.chain_sha256(), (now, until));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing that holds the lock can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
