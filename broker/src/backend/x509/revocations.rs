//! The lists of certificates that verifiers must refuse, kept while they say nothing new.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hallpass_core::error::{Reason, ServiceError};
use hallpass_core::port::{Fenced, Store};
use hallpass_core::time::Clock;

use super::authorities::Authorities;
use crate::backend::published::{Published, Shelf, digest_of};

/// Makes the revocation lists of the authorities.
pub struct RevocationLists {
    store: Arc<dyn Store>,
    authorities: Arc<ArcSwapOption<Authorities>>,
    /// By the key that signs.
    shelf: Shelf<String>,
}

impl RevocationLists {
    /// Lists of the fenced certificates in `store`, signed by `authorities`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, authorities: Arc<ArcSwapOption<Authorities>>, clock: Arc<dyn Clock>) -> Self {
        Self { store, authorities, shelf: Shelf::new(clock) }
    }

    /// The list (RFC 5280 §5), DER, of the authority with this key, or of the one that signs now. `None` where no such
    /// key is to be trusted. Each lists all certificates that are to be refused, whoever signed them: their serial
    /// numbers are unique among all.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when the store or the signing key does not answer: an old list would say that a
    /// revoked certificate is good.
    pub async fn list(&self, key_id: Option<&str>) -> Result<Option<Published>, ServiceError> {
        let unavailable = |detail: String| ServiceError::unavailable(Reason::SigningUnavailable, detail);
        let none = || unavailable("there is no authority".to_owned());
        let authorities = self.authorities.load_full().ok_or_else(none)?;
        let authority = match key_id {
            None => authorities.signing().ok_or_else(none)?,
            Some(key_id) => match authorities.of_key(key_id) {
                Some(authority) => authority,
                None => return Ok(None),
            },
        };
        let look = async { Ok(Some(self.store.fenced("x509", self.shelf.now()).await?)) };
        let digest = |fenced: &Vec<Fenced>| {
            let entries: Vec<_> = fenced
                .iter()
                .map(|grant| (*grant.id.as_uuid().as_bytes(), grant.fenced_at.as_millis().to_be_bytes()))
                .collect();
            digest_of(entries.iter().flat_map(|(id, at)| [id.as_slice(), at.as_slice()]))
        };
        let sign = |fenced: Vec<Fenced>, now| {
            let fenced: Vec<_> = fenced.into_iter().map(|grant| (grant.id, grant.fenced_at)).collect();
            authority.crl(&fenced, now).map_err(|error| unavailable(error.to_string()))
        };
        self.shelf.get(authority.key_id().to_owned(), look, digest, sign).await
    }
}

impl std::fmt::Debug for RevocationLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RevocationLists").finish_non_exhaustive()
    }
}
