//! What is minted, and what it takes to undo it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::binding::BindingKey;
use crate::delegation::ActorChain;
use crate::id::GrantId;
use crate::identity::Attributes;
use crate::owner::OwnerSnapshot;
use crate::provenance::Provenance;
use crate::role::Role;
use crate::secret::{Secret, SecretBytes, SecretObject};
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
    /// Who acts for the holder, where somebody does.
    pub actors: ActorChain,
    /// Typed attributes of the holder.
    pub attributes: Attributes,
    /// Change and run behind the request.
    pub provenance: Provenance,
    /// The plan that it is for, as the statements with the request name it: `sha256:…`.
    pub plan_digest: Option<String>,
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
    /// Key that whoever asked is bound to: the credential too, where it is of a kind that can be.
    pub binding_key: Option<BindingKey>,
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
    /// A token of Vault or OpenBao.
    VaultToken {
        /// The token.
        token: Secret,
    },
    /// What a dynamic path of Vault or OpenBao gave, as it gave it.
    VaultSecret {
        /// The values by their names.
        data: SecretObject,
    },
    /// A session of AWS STS.
    Aws {
        /// Access key id: no secret, it stands in CloudTrail.
        access_key_id: String,
        /// Secret access key.
        secret_access_key: Secret,
        /// Session token.
        session_token: Secret,
        /// Region to work in, where the role names one.
        region: Option<String>,
    },
    /// An access token of Google Cloud.
    Gcp {
        /// The token.
        access_token: Secret,
    },
    /// An access token of Azure.
    Azure {
        /// The token.
        access_token: Secret,
    },
    /// An installation token of a GitHub App.
    GitHub {
        /// The token.
        token: Secret,
    },
    /// A service account's token of a Kubernetes cluster.
    Kubernetes {
        /// The token.
        token: Secret,
        /// Origin of the cluster's API server, where callers may know it.
        server: Option<String>,
        /// Authorities that vouch for the server, PEM.
        ca: Option<String>,
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
    /// An SSH certificate over the caller's own key.
    Ssh {
        /// In the format of OpenSSH.
        certificate: String,
    },
}

impl CredentialMaterial {
    /// The part that identifies the credential to somebody who finds it: its keyed digest is stored with the grant, so
    /// that a leaked credential can be traced.
    #[must_use]
    pub fn fingerprint_input(&self) -> &[u8] {
        match self {
            Self::Jwt { token }
            | Self::VaultToken { token }
            | Self::Gcp { access_token: token }
            | Self::Azure { access_token: token }
            | Self::GitHub { token }
            | Self::Kubernetes { token, .. } => token.expose().as_bytes(),
            Self::X509 { certificate_chain, .. } => certificate_chain.as_bytes(),
            Self::VaultSecret { data } => data.expose().as_bytes(),
            Self::Aws { session_token, .. } => session_token.expose().as_bytes(),
            Self::Database { password, .. } => password.expose().as_bytes(),
            Self::Ssh { certificate } => certificate.as_bytes(),
        }
    }

    /// The token, where the credential is one token, as `/oauth2/token` answers it.
    #[must_use]
    pub const fn single_token(&self) -> Option<SingleToken<'_>> {
        match self {
            Self::Jwt { token }
            | Self::Gcp { access_token: token }
            | Self::Azure { access_token: token }
            | Self::GitHub { token }
            | Self::Kubernetes { token, .. } => Some(SingleToken { token, is_bearer: true }),
            Self::VaultToken { token } => Some(SingleToken { token, is_bearer: false }),
            Self::X509 { .. }
            | Self::VaultSecret { .. }
            | Self::Aws { .. }
            | Self::Database { .. }
            | Self::Ssh { .. } => None,
        }
    }

    /// Everything in it that is secret, for tests to look for where it must not be.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Jwt { token }
            | Self::VaultToken { token }
            | Self::Gcp { access_token: token }
            | Self::Azure { access_token: token }
            | Self::GitHub { token }
            | Self::Kubernetes { token, .. }
            | Self::Database { password: token, .. } => vec![token.expose()],
            Self::X509 { private_key, .. } => private_key.iter().map(Secret::expose).collect(),
            Self::VaultSecret { data } => vec![data.expose()],
            Self::Aws { secret_access_key, session_token, .. } => {
                vec![secret_access_key.expose(), session_token.expose()]
            }
            Self::Ssh { .. } => Vec::new(),
        }
    }
}

/// A credential that is one token.
#[derive(Clone, Copy, Debug)]
pub struct SingleToken<'a> {
    /// The token.
    pub token: &'a Secret,
    /// Whether it is used as RFC 6750 says. Otherwise its `token_type` is `N_A` (RFC 8693 §2.2.1).
    pub is_bearer: bool,
}
