//! Backends of kind `aws`, put together.

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::id::BackendName;
use hallpass_core::port::{CredentialBackend, Ended, EndedGrants, EndedPage, FenceName, StoreError};
use hallpass_core::time::{Clock, Timestamp};

use crate::backend::aws::{self, Reservations, Surroundings};
use crate::backend::guarded::EndedAt;
use crate::backend::own_identity::OwnIdentity;
use crate::config::backend::AwsBackend;
use crate::config::bundle::Bundle;
use crate::outbound::Outbound;

/// What such backends share, over all revisions.
#[derive(Clone)]
pub(super) struct AwsMeans {
    http: Arc<Outbound>,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn EndedGrants>,
    reservations: Arc<Reservations>,
}

impl AwsMeans {
    /// They fence what is over in `ledger`.
    pub(super) fn new(http: Arc<Outbound>, clock: Arc<dyn Clock>, ledger: Arc<dyn EndedGrants>) -> Self {
        Self { http, clock, ledger, reservations: Arc::default() }
    }

    /// For a bundle that nothing is minted by.
    pub(super) fn throw_away(clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        Ok(Self::new(Arc::new(Outbound::new(None)?), clock, Arc::new(EmptyRecord)))
    }

    /// One backend, for the roles of the bundle that name it.
    pub(super) fn backend(
        &self,
        bundle: &Bundle,
        name: &BackendName,
        settings: &AwsBackend,
        server: &str,
        identity: OwnIdentity,
    ) -> Arc<dyn CredentialBackend> {
        let roles = bundle.catalog.roles.values().filter(|role| &role.backend == name).map(AsRef::as_ref);
        let surroundings = Surroundings {
            http: Arc::clone(&self.http),
            clock: Arc::clone(&self.clock),
            identity,
            environment: Arc::new(|name| std::env::var(name).ok()),
            ledger: Arc::new(EndedAt::new(Arc::clone(&self.ledger), server)),
            reservations: Arc::clone(&self.reservations),
        };
        Arc::new(aws::AwsBackend::new(name.clone(), settings, roles, surroundings))
    }
}

/// The record of a broker that is not there.
struct EmptyRecord;

#[async_trait]
impl EndedGrants for EmptyRecord {
    async fn ended_alive(&self, _: FenceName<'_>, _now: Timestamp, _page: EndedPage) -> Result<Ended, StoreError> {
        Ok(Ended { grants: Vec::new(), next: None })
    }

    async fn fences(&self, _backend_kind: &str, _now: Timestamp) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }
}
