//! The `jwt` backend: access tokens signed by the broker itself (RFC 9068).
//!
//! Minting is a signature and leaves nothing behind, so there is no call to undo: a token is *fenced* by the broker's
//! record of its grant, which introspection (RFC 7662) and the status list answer from. A role fixes the audience and
//! bounds the scope; who the token speaks of comes from the verified identity and from nowhere else.

mod claims;
mod parameters;
mod status_list;

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError,
    SignatureAlgorithm, TokenSigners, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::SecretBytes;
use hallpass_core::time::{Timestamp, Ttl};

use self::claims::Claims;
use self::parameters::Parameters;
pub use self::status_list::StatusLists;
use super::jws::sign;

/// The type of an access token (RFC 9068 §2.1).
const TOKEN_TYPE: &str = "at+jwt";

/// A JWT counts whole seconds, and its last one is begun when it is minted: of two, one is left. Less, and its bearer could
/// be told that it expires in no time at all.
const MIN_LIFE: Ttl = Ttl::from_secs(2);

/// A retired signing key stays published for this long; a longer-lived token would stop to verify before it expires.
const MAX_LIFE: Ttl = Ttl::from_hours(24);

/// Mints access tokens.
pub struct JwtBackend {
    name: BackendName,
    public_url: String,
    algorithm: SignatureAlgorithm,
    reserved_audiences: Vec<String>,
    keys: Arc<dyn TokenSigners>,
}

impl JwtBackend {
    /// A backend that signs with `algorithm` unless a role says otherwise, by one of `keys`.
    ///
    /// Tokens carry `public_url` as their issuer. Roles may not use it as an audience, nor any of
    /// `reserved_audiences` (those of other backends, which trust this broker), unless they say that they mean it.
    #[must_use]
    pub fn new(
        name: BackendName,
        algorithm: SignatureAlgorithm,
        public_url: &str,
        reserved_audiences: Vec<String>,
        keys: Arc<dyn TokenSigners>,
    ) -> Self {
        Self { name, public_url: public_url.to_owned(), algorithm, reserved_audiences, keys }
    }

    fn parameters<'a>(&self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }
}

/// The algorithm that a role of such a backend asks for, where it asks for one.
#[must_use]
pub fn algorithm_of(role: &Role) -> Option<SignatureAlgorithm> {
    Parameters::read(role).ok().and_then(|parameters| parameters.algorithm)
}

#[async_trait]
impl CredentialBackend for JwtBackend {
    fn kind(&self) -> &'static str {
        "jwt"
    }

    fn effect(&self) -> Effect {
        Effect::Local
    }

    fn class(&self, _role: &Role) -> RevocationClass {
        RevocationClass::Fenced
    }

    fn min_life(&self, _role: &Role) -> Ttl {
        MIN_LIFE
    }

    fn max_life(&self, _role: &Role) -> Option<Ttl> {
        Some(MAX_LIFE)
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        true
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        let parameters = Parameters::read(role)?;
        let reserved = std::iter::once(&self.public_url).chain(&self.reserved_audiences);
        parameters.check_audience(reserved.map(String::as_str))?;
        let lacks = |asked: &SignatureAlgorithm| self.keys.signer(*asked).is_none() && !self.keys.awaits(*asked);
        match parameters.algorithm.filter(lacks) {
            Some(missing) => Err(parameters::invalid_algorithm(missing)),
            None => Ok(()),
        }
    }

    fn scope(&self, role: &Role, asked: &[String]) -> Result<Vec<String>, IssueError> {
        let granted = self.parameters(role)?.grant_scope(asked)?;
        Ok(granted.into_iter().flat_map(|scope| scope.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect())
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        self.parameters(&order.role)?.grant_scope(&order.scope)?;
        if order.csr.is_some() {
            return Err(IssueError::unfit("csr", "a token is no certificate: this role takes no `csr`"));
        }
        let handle = format!(r#"{{"kind":"jwt","jti":"{}"}}"#, order.grant);
        Ok(Handle(SecretBytes::new(handle.into_bytes())))
    }

    async fn issue(&self, order: &IssueOrder, _handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        // Rounded down: the token must not work after the order's end, not even for the rest of a second.
        let expires_at = order.expires_at.floor_to_second();
        if expires_at <= order.issued_at {
            return Err(IssueError::refused("less than a second of life is left, and a token counts whole seconds"));
        }
        let algorithm = parameters.algorithm.unwrap_or(self.algorithm);
        let signer = self.keys.signer(algorithm).ok_or_else(|| {
            IssueError::suspended(format!(
                "the broker has no {} key that signs, until whoever runs it brings one",
                algorithm.as_str()
            ))
        })?;
        let claims = Claims::new(order, &parameters, &self.public_url, expires_at)?;
        let token = sign(&*signer, TOKEN_TYPE, &claims).ok_or_else(|| IssueError::Unavailable {
            internal: format!("key {} of backend {} could not sign", signer.key_id(), self.name),
        })?;
        let signed_by = Some(signer.key_id().to_owned());
        Ok(IssuedCredential { material: CredentialMaterial::Jwt { token }, expires_at, handle: None, signed_by })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, _handle: &Handle) -> Result<Undone, RevokeError> {
        // The record that asks for this is the fence: introspection and the status list answer from it.
        Ok(Undone::Fenced)
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        Ok(Vec::new())
    }

    fn inventory_scope(&self) -> InventoryScope {
        // Tokens exist with their holders only; the broker's own record is all there is to list.
        InventoryScope::None
    }
}

impl std::fmt::Debug for JwtBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtBackend").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
