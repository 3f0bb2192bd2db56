//! The list of certificates that verifiers must refuse, kept while it says nothing new.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::port::{Fenced, Store};
use hallpass_core::time::{Clock, Timestamp};

use super::authority::Authority;
use crate::backend::published::{Published, Shelf, digest_of};

/// Makes the revocation list of the authority.
pub struct RevocationLists {
    store: Arc<dyn Store>,
    authority: Arc<ArcSwapOption<Authority>>,
    shelf: Shelf<()>,
}

impl RevocationLists {
    /// The list of the fenced certificates in `store`, signed by `authority`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, authority: Arc<ArcSwapOption<Authority>>, clock: Arc<dyn Clock>) -> Self {
        Self { store, authority, shelf: Shelf::new(clock) }
    }

    /// The list (RFC 5280 §5), DER.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when the store or the signing key does not answer: an old list would say that a
    /// revoked certificate is good.
    pub async fn list(&self, now: Timestamp) -> Result<Published, ServiceError> {
        let unavailable = |detail: String| ServiceError::unavailable(Reason::SigningUnavailable, detail);
        let none = || unavailable("there is no authority".to_owned());
        let authority = self.authority.load_full().ok_or_else(none)?;
        let look = async { Ok(Some(self.store.fenced("x509", now).await?)) };
        let digest = |fenced: &Vec<Fenced>| {
            let entries: Vec<_> = fenced
                .iter()
                .map(|grant| (*grant.id.as_uuid().as_bytes(), grant.fenced_at.as_millis().to_be_bytes()))
                .collect();
            let entries = entries.iter().flat_map(|(id, at)| [id.as_slice(), at.as_slice()]);
            digest_of(entries.chain([authority.key_id().as_bytes()]))
        };
        let sign = |fenced: Vec<Fenced>, now| {
            let fenced: Vec<_> = fenced.into_iter().map(|grant| (grant.id, grant.fenced_at)).collect();
            authority.crl(&fenced, now).map_err(|error| unavailable(error.to_string()))
        };
        self.shelf.get((), look, digest, sign).await?.ok_or_else(none)
    }
}

impl std::fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevocationLists").finish_non_exhaustive()
    }
}
