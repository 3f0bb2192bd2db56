//! The `x509` backend: certificates signed by the built-in authority.
//!
//! Names come from the role's templates and the verified identity (`template`), the public key from the caller's
//! request or from a fresh key pair, and the life from the order. Like a token, a certificate leaves nothing behind to
//! undo: it is *fenced* by the authority's revocation list until it expires.

mod authorities;
mod authority;
mod certificates;
#[cfg(fuzzing)]
pub mod fuzzing;
mod parameters;
mod public_key;
mod request;
mod revocations;
mod template;

use std::sync::Arc;

use async_trait::async_trait;
use hallpass_core::credential::{CredentialMaterial, Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use hallpass_core::id::BackendName;
use hallpass_core::port::{
    CredentialBackend, ExtendError, InvalidParameters, InventoryItem, InventoryScope, IssueError, RevokeError, Undone,
};
use hallpass_core::role::Role;
use hallpass_core::secret::{Secret, SecretBytes};
use hallpass_core::time::{Timestamp, Ttl};
use rcgen::KeyPair;

pub use self::authorities::Authorities;
pub use self::authority::{
    Authority, AuthorityError, Unreadable, certificate_request, certified_by_another, root_certificate,
};
use self::authority::{Leaf, Signed};
use self::parameters::{Names, Parameters};
pub use self::revocations::RevocationLists;

/// X.509 counts whole seconds, and verifiers differ on whether the last one belongs to the validity: of two, one is left.
const MIN_LIFE: Ttl = Ttl::from_secs(2);

/// Longest trust domain (SPIFFE-ID §2.1).
const MAX_TRUST_DOMAIN_LEN: usize = 255;

/// Mints certificates.
pub struct X509Backend {
    name: BackendName,
    trust_domain: String,
    authorities: Arc<Authorities>,
}

impl X509Backend {
    /// A backend that names workloads in `trust_domain` and has the one of `authorities` sign whose time it is.
    ///
    /// # Errors
    /// [`InvalidTrustDomain`].
    pub fn new(
        name: BackendName,
        trust_domain: &str,
        authorities: Arc<Authorities>,
    ) -> Result<Self, InvalidTrustDomain> {
        let permitted = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if trust_domain.is_empty() || trust_domain.len() > MAX_TRUST_DOMAIN_LEN || !trust_domain.bytes().all(permitted)
        {
            return Err(InvalidTrustDomain(trust_domain.chars().take(MAX_TRUST_DOMAIN_LEN).collect()));
        }
        Ok(Self { name, trust_domain: trust_domain.to_owned(), authorities })
    }

    fn parameters<'a>(&'a self, role: &'a Role) -> Result<Parameters<'a>, IssueError> {
        // Checked when the bundle was loaded: only a role that never was in a bundle can fail here.
        Parameters::read(role, &self.trust_domain).map_err(|error| IssueError::Unavailable {
            internal: format!("role {} has parameters that backend {} does not take: {error}", role.name, self.name),
        })
    }

    /// The certificate for the caller's own key.
    fn certify_request(
        &self,
        authority: &Authority,
        csr: &str,
        leaf: &Leaf<'_>,
    ) -> Result<(Signed, Option<Secret>), IssueError> {
        let refuse = |detail: String| IssueError::unfit("csr", detail);
        let key = request::public_key(csr).map_err(refuse)?;
        if self.authorities.have_key(key.bytes()) {
            return Err(refuse("the certificate request is for the authority's own key".to_owned()));
        }
        Ok((authority.sign(&key, leaf).map_err(issue_error)?, None))
    }

    /// The certificate for a fresh key pair, with its private key.
    fn certify_fresh(
        authority: &Authority,
        algorithm: &'static rcgen::SignatureAlgorithm,
        leaf: &Leaf<'_>,
    ) -> Result<(Signed, Option<Secret>), IssueError> {
        let key = KeyPair::generate_for(algorithm)
            .map_err(|error| IssueError::Unavailable { internal: format!("no key pair could be made: {error}") })?;
        let signed = authority.sign(&key, leaf).map_err(issue_error)?;
        Ok((signed, Some(Secret::new(key.serialize_pem()))))
    }
}

#[async_trait]
impl CredentialBackend for X509Backend {
    fn kind(&self) -> &'static str {
        "x509"
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
        None
    }

    fn yields_single_token(&self, _role: &Role) -> bool {
        false
    }

    fn validate(&self, role: &Role) -> Result<(), InvalidParameters> {
        Parameters::read(role, &self.trust_domain).map(drop)
    }

    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError> {
        names(&self.parameters(&order.role)?, order)?;
        if !order.scope.is_empty() {
            return Err(IssueError::unfit("scope", "a certificate has no scope: this role takes no `scope`"));
        }
        let handle = format!(r#"{{"kind":"x509","serial":"{}"}}"#, order.grant.as_uuid().simple());
        Ok(Handle(SecretBytes::new(handle.into_bytes())))
    }

    async fn issue(&self, order: &IssueOrder, _handle: &Handle) -> Result<IssuedCredential, IssueError> {
        let parameters = self.parameters(&order.role)?;
        let names = names(&parameters, order)?;
        let leaf = Leaf {
            grant: order.grant,
            names: &names,
            usages: &parameters.usages,
            issued_at: order.issued_at,
            expires_at: order.expires_at,
        };
        let authority = self.authorities.signing().ok_or_else(|| match self.authorities.trouble() {
            Some(trouble) => IssueError::suspended(trouble),
            None => {
                IssueError::Unavailable { internal: format!("backend {} has no authority that signs now", self.name) }
            }
        })?;
        let (signed, private_key) = match &order.csr {
            Some(csr) => self.certify_request(&authority, csr, &leaf)?,
            None => Self::certify_fresh(&authority, parameters.key_algorithm, &leaf)?,
        };
        let trust_bundle = self.authorities.trust_bundle();
        let material = CredentialMaterial::X509 { certificate_chain: signed.chain, private_key, trust_bundle };
        let signed_by = Some(authority.key_id().to_owned());
        Ok(IssuedCredential { material, expires_at: signed.expires_at, handle: None, signed_by })
    }

    async fn extend(&self, _handle: &Handle, _until: Timestamp) -> Result<Timestamp, ExtendError> {
        Err(ExtendError::Unsupported)
    }

    async fn revoke(&self, _handle: &Handle) -> Result<Undone, RevokeError> {
        // The record that asks for this is the fence: the revocation list is made from it.
        Ok(Undone::Fenced)
    }

    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError> {
        Ok(Vec::new())
    }

    fn inventory_scope(&self) -> InventoryScope {
        // Certificates exist with their holders only; the broker's own record is all there is to list.
        InventoryScope::None
    }
}

impl std::fmt::Debug for X509Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Backend").field("name", &self.name).finish_non_exhaustive()
    }
}

fn names(parameters: &Parameters<'_>, order: &IssueOrder) -> Result<Names, IssueError> {
    parameters.names(order).map_err(IssueError::refused)
}

fn issue_error(error: AuthorityError) -> IssueError {
    match error {
        AuthorityError::NoLifeLeft => IssueError::refused(error.to_string()),
        AuthorityError::File { .. }
        | AuthorityError::Certificates(_)
        | AuthorityError::OtherKey
        | AuthorityError::NotValidNow { .. }
        | AuthorityError::NoSuchDate(_)
        | AuthorityError::Signing(_) => IssueError::Unavailable { internal: error.to_string() },
    }
}

/// A trust domain that breaks the rules of SPIFFE-ID §2.1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trust domain {0:?}: use 1 to 255 lower-case letters, digits, '.', '-' and '_'")]
pub struct InvalidTrustDomain(String);

#[cfg(test)]
mod tests;
