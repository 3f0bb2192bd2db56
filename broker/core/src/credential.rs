//! What is minted, and what it takes to undo it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::GrantId;
use crate::identity::Attributes;
use crate::owner::OwnerSnapshot;
use crate::provenance::Provenance;
use crate::role::Role;
use crate::secret::{Secret, SecretBytes};
use crate::time::Timestamp;

/// How a credential can be stopped before it expires. Ordered from weakest to strongest, so that a role's floor is a
/// comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationClass {
    /// Nothing but time ends it.
    ExpiryOnly,
    /// A rule that verifiers consult holds it until it expires.
    Fenced,
    /// The backend kills it at once.
    Hard,
}

impl RevocationClass {
    /// The word used on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExpiryOnly => "expiry_only",
            Self::Fenced => "fenced",
            Self::Hard => "hard",
        }
    }
}

/// Whether minting leaves something behind outside the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Minted here, by a signature: nothing exists until the credential leaves, and the broker's own records are the
    /// rule that verifiers consult. Intent and activation are one commit; to revoke is to record it.
    Local,
    /// Minted elsewhere: intent is durable first, and undoing is a call.
    Remote,
}

/// What a backend is asked to mint.
#[derive(Clone, Debug)]
pub struct IssueOrder {
    /// Grant that the credential belongs to; travels into claims, tags and metadata.
    pub grant: GrantId,
    /// Role that describes it.
    pub role: Arc<Role>,
    /// Who answers for it.
    pub owner: OwnerSnapshot,
    /// Configured issuer of the holder's proof.
    pub issuer: String,
    /// Subject of the holder at that issuer.
    pub subject: String,
    /// Typed attributes of the holder.
    pub attributes: Attributes,
    /// Change and run behind the request.
    pub provenance: Provenance,
    /// Why.
    pub purpose: String,
    /// Scope asked for; a subset of the role's.
    pub scope: Vec<String>,
    /// Certificate request in PEM, where the key stays with the caller.
    pub csr: Option<String>,
    /// Index into the status list, unique among the grants of this broker.
    pub status_index: u64,
    /// When the order was made.
    pub issued_at: Timestamp,
    /// The credential must not work after this.
    pub expires_at: Timestamp,
}

/// What it takes to undo a credential at its backend, planned before the backend is called. Opaque to core; sealed in
/// the store.
#[derive(Debug, PartialEq)]
pub struct Handle(pub SecretBytes);

impl Handle {
    /// A second copy, for where one goes to the store and one to the backend.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(SecretBytes::new(self.0.expose().to_vec()))
    }
}

/// A freshly minted credential, on its way to the caller. It is returned once and never stored.
#[derive(Debug)]
pub struct IssuedCredential {
    /// The credential itself.
    pub material: CredentialMaterial,
    /// When the backend will end it; never later than the order's `expires_at`.
    pub expires_at: Timestamp,
    /// A better handle than the planned one, where only the backend's answer could give it.
    pub handle: Option<Handle>,
    /// The key of the broker's own that signed it (`kid`), where one did. Should the key be distrusted, its grant ends.
    pub signed_by: Option<String>,
}

/// The secrets of each kind of credential.
#[derive(Debug)]
pub enum CredentialMaterial {
    /// A signed token.
    Jwt {
        /// Compact JWS.
        token: Secret,
    },
    /// A certificate.
    X509 {
        /// Leaf first, PEM.
        certificate_chain: String,
        /// PKCS #8 PEM, where the broker generated the key.
        private_key: Option<Secret>,
        /// Roots that verify the chain, PEM.
        trust_bundle: String,
    },
    /// A user of a database. Also what the testing kit's backend mints.
    Database {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
        /// Server.
        host: String,
        /// Port.
        port: u16,
        /// Database name.
        database: String,
    },
}

impl CredentialMaterial {
    /// The part that identifies the credential to somebody who finds it: its keyed digest is stored with the grant, so
    /// that a leaked credential can be traced.
    #[must_use]
    pub fn fingerprint_input(&self) -> &[u8] {
        match self {
            Self::Jwt { token } => token.expose().as_bytes(),
            Self::X509 { certificate_chain, .. } => certificate_chain.as_bytes(),
            Self::Database { password, .. } => password.expose().as_bytes(),
        }
    }
}
