//! The `azure` backend: access tokens of applications in Microsoft Entra, by no secret at all.
//!
//! The broker shows its own token as the application's client assertion, which a federated credential of the application
//! lets Entra trust. How long the token lives is Entra's to say: 60 to 90 minutes at random, unless the tenant has a policy.
//! So it is as if the shortest life were the longest: what a grant gets is one whole token, and who asks for less is
//! refused, since nothing takes such a token back (`expiry_only`).
//!
//! There is no inventory: Entra lists access tokens to nobody.
//!
//! Requests and answers as documented:
//! <https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential>,
//! <https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens#token-lifetime>.

mod failure;
mod parameters;

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::SecretBytes;
use hallpass_core::time::{Clock, Timestamp, Ttl};
use reqwest::Method;
use serde::Deserialize;

use self::parameters::Parameters;
use super::jws::unverified_expiry;
use super::own_identity::OwnIdentity;
use super::rest::{Api, Ask, Body, Text};
use crate::config::backend::azure::Azure;
use crate::outbound::Outbound;

/// How much later than it is asked for a token may be made: a grant must last so much longer than a token.
const ALLOWANCE: Ttl = Ttl::from_secs(10);
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Mints in one tenant.
pub struct AzureBackend {
    name: BackendName,
    settings: Azure,
    api: Api,
    identity: OwnIdentity,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
struct Given {
    access_token: Text,
    expires_in: u64,
}

impl AzureBackend {
    /// The backend `name` of the broker that has `identity` before the tenant.
    #[must_use]
    pub fn new(
        name: BackendName,
        settings: Azure,
        outbound: Outbound,
        identity: OwnIdentity,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let api = Api::new(outbound, settings.authority.clone(), settings.timeout.as_duration());
        Self { name, settings, api, identity, clock }
    }

    fn parameters<'a>(&self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    fn life(&self) -> Ttl {
        self.settings.token_life.plus(ALLOWANCE)
    }
}

#[async_trait]
impl CredentialBackend for AzureBackend {
    fn kind(&self) -> &'static str {
        "azure"
    }

    fn effect(&self) -> Effect {
        Effect::Remote
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        RevocationClass::ExpiryOnly
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        self.life()
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        Some(self.life())
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        true
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::read(role).map(drop)
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        if order.csr.is_some() {
            let detail = "a token is no certificate: leave out `csr`".to_owned();
            return Err(IssueError::unfit("csr", detail));
        }
        Ok(Handle(SecretBytes::new(format!("{{\"grant\":\"{}\"}}", order.grant).into_bytes())))
    }

    async fn issue(&self, order: &IssueOrder, _planned: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        if order.expires_at.since(self.clock.now()) < self.settings.token_life {
            let life = self.settings.token_life;
            let detail = format!("Entra's tokens live for up to {life}, and less is left");
            return Err(IssueError::refused(detail));
        }
        let own = self.identity.token(&self.settings.audience, None);
        let own = own.map_err(|error| IssueError::Unavailable { internal: error.to_string() })?;
        let form = Body::form(&[
            ("client_id", parameters.client_id),
            ("scope", parameters.scope),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", own.expose()),
            ("grant_type", "client_credentials"),
        ]);
        let path = [self.settings.tenant.as_str(), "oauth2", "v2.0", "token"];
        let ask = Ask { method: Method::POST, path: &path, query: &[], headers: &[], body: form };
        let answered = self.api.ask(ask).await?;
        if answered.status != 200 {
            return Err(failure::of(&answered));
        }
        let unreadable =
            || IssueError::OutcomeUnknown { internal: "it answered something else than a token".to_owned() };
        let Given { access_token, expires_in } = answered.read().ok_or_else(unreadable)?;
        // A little later than the truth, by as much as the answer took; where the token itself says more, that.
        let told = self.clock.now().plus(Ttl::from_secs(expires_in));
        let expires_at = unverified_expiry(access_token.expose()).map_or(told, |own| own.max(told));
        let material = CredentialMaterial::Azure { access_token: access_token.into_secret() };
        Ok(IssuedCredential { material, expires_at, handle: None, signed_by: None })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, _handle: &Handle) -> Result<Undone, RevokeError> {
        Ok(Undone::OnlyTime)
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        Ok(Vec::new())
    }

    fn inventory_scope(&self) -> InventoryScope {
        InventoryScope::None
    }
}

impl std::fmt::Debug for AzureBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureBackend").field("name", &self.name).finish_non_exhaustive()
    }
}
