//! What a distrusted key signed: every grant whose credential it is of ends.

use std::sync::Arc;

use async_trait::async_trait;

use super::idempotency;
use crate::audit::{Actor, AuditAction, AuditEntry, AuditObject};
use crate::entropy::{Entropy, fresh_id};
use crate::grant::HolderKey;
use crate::id::{IssuerName, RevocationId};
use crate::port::{Beginning, Begun, EndsSigned, IdempotencyClaim, Store, StoreError};
use crate::revocation::{Reach, Revocation, Right, selector_in_words};
use crate::selector::{Criteria, Selector};
use crate::time::{Clock, Ttl};

/// How often a beginning is made again because the world moved meanwhile.
const MAX_BEGINNINGS: usize = 8;

/// Ends what a key signed by the revocation of a set, once for each key.
pub struct Distrust {
    /// The record.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl std::fmt::Debug for Distrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distrust").finish_non_exhaustive()
    }
}

#[async_trait]
impl EndsSigned for Distrust {
    async fn end_signed_by(&self, key_id: &str) -> Result<(), StoreError> {
        let unavailable = |error: String| StoreError::Unavailable(error);
        let criteria = Criteria { key_id: Some(key_id.to_owned()), ..Criteria::default() };
        let selector = Selector::of(criteria).map_err(|error| unavailable(error.to_string()))?;
        // The revocation that ended what there was then, where one is over and has not ended everything that there is.
        let mut earlier = None;
        for _ in 0..MAX_BEGINNINGS {
            let after = earlier.map(|id: RevocationId| id.to_string());
            let scope = idempotency::scope(["key.distrust", key_id].into_iter().chain(after.as_deref()));
            let (epoch, now) = (self.store.epoch(), self.clock.now());
            let id: RevocationId =
                fresh_id(self.clock.as_ref(), self.entropy.as_ref()).map_err(|error| unavailable(error.to_string()))?;
            let revocation = Revocation {
                id,
                selector: selector.clone(),
                reach: everything(self.store.as_ref()).await?,
                author: Actor::LocalAdministrator,
                reason: "the key that signed their credentials is distrusted".to_owned(),
                quarantine: None,
                created_at: now,
                completed: None,
            };
            let object = AuditObject::Revocation { id };
            let entry = AuditEntry::success(now, Actor::LocalAdministrator, AuditAction::RevocationBegin, object)
                .with("selector", &selector_in_words(&selector).to_string())
                .with("reason", &revocation.reason);
            let idempotency =
                IdempotencyClaim { scope, request_digest: scope, keep_until: now.plus(Ttl::from_hours(24)) };
            let beginning = Beginning {
                revocation,
                quarantine: None,
                decisions: Vec::new(),
                entries: vec![entry],
                idempotency: Some(idempotency),
                epoch,
            };
            match self.store.begin_revocation(beginning).await? {
                Begun::Begun => return Ok(()),
                Begun::Already(id) if self.ends_everything(id, &selector).await? => return Ok(()),
                Begun::Already(id) => earlier = Some(id),
                Begun::Moved => {}
                Begun::TooMany | Begun::TooManyQuarantines | Begun::RequestMismatch => {
                    return Err(unavailable("too many revocations are running".to_owned()));
                }
            }
        }
        Err(unavailable("revocations are changing too fast".to_owned()))
    }
}

impl Distrust {
    /// Whether nothing selected is left for another revocation to end: this one runs, or it has left nothing.
    async fn ends_everything(&self, id: RevocationId, selector: &Selector) -> Result<bool, StoreError> {
        let store = self.store.as_ref();
        if store.revocation(id).await?.is_some_and(|revocation| revocation.completed.is_none()) {
            return Ok(true);
        }
        Ok(store.first_selected(selector, &everything(store).await?, 1).await?.is_empty())
    }
}

/// The reach of whoever runs the broker: whatever has been opened, whoever holds it. What is opened later may be of another
/// kind, and is not in it.
pub(super) async fn everything(store: &(impl Store + ?Sized)) -> Result<Reach, StoreError> {
    let author = HolderKey {
        issuer: IssuerName::hallpass(),
        subject: "local-administrator".to_owned(),
        run: None,
        run_attempt: None,
        binding_key: None,
    };
    let all = |likeness| (likeness, Right { own: true, others: true });
    Ok(Reach::new(author, store.likenesses().await?.into_iter().map(all), None))
}
