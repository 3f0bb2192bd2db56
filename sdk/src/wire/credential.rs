//! What a workload receives, once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, SecretMap};
use super::time::Timestamp;

/// A credential as it is handed out, told apart by `type`. It is never stored by the broker and never shown again.
///
/// `expires_at` is the latest instant at which the credential can still work. It does not print: `Debug` shows the type
/// and the expiry alone.
#[derive(Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Credential {
    /// A JWT signed by the broker (RFC 9068 claims).
    Jwt {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The token, for `Authorization: Bearer`.
        #[serde(with = "super::secret::expose")]
        token: Secret,
    },
    /// An X.509 certificate of the broker's authority, or of one that it fronts.
    X509 {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// Leaf first, then intermediates, in PEM.
        certificate_chain: String,
        /// PKCS #8 in PEM. Absent when the request carried its own CSR.
        #[serde(default, with = "super::secret::expose_optional", skip_serializing_if = "Option::is_none")]
        private_key: Option<Secret>,
        /// Roots to trust for peers, in PEM.
        trust_bundle: String,
    },
    /// A token of Vault or OpenBao.
    VaultToken {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The token, for `X-Vault-Token`.
        #[serde(with = "super::secret::expose")]
        token: Secret,
    },
    /// A session of AWS STS.
    Aws {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// Access key id.
        access_key_id: String,
        /// Secret access key.
        #[serde(with = "super::secret::expose")]
        secret_access_key: Secret,
        /// Session token.
        #[serde(with = "super::secret::expose")]
        session_token: Secret,
        /// Region to work in, where the role names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
    },
    /// An access token of Google Cloud.
    Gcp {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The token.
        #[serde(with = "super::secret::expose")]
        access_token: Secret,
    },
    /// An access token of Azure.
    Azure {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The token.
        #[serde(with = "super::secret::expose")]
        access_token: Secret,
    },
    /// An installation token of a GitHub App.
    #[serde(rename = "github")]
    GitHub {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The token.
        #[serde(with = "super::secret::expose")]
        token: Secret,
    },
    /// A service-account token of a Kubernetes cluster.
    Kubernetes {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The token.
        #[serde(with = "super::secret::expose")]
        token: Secret,
        /// URL of the API server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// Certificate authority of the API server, in PEM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
    },
    /// A database user made for this grant.
    Database {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// User name.
        username: String,
        /// Password.
        #[serde(with = "super::secret::expose")]
        password: Secret,
        /// Host to connect to.
        host: String,
        /// Port to connect to.
        port: u16,
        /// Database to connect to.
        database: String,
        /// All of that as one connection URL, the password included.
        #[serde(with = "super::secret::expose")]
        url: Secret,
    },
    /// An SSH certificate over the caller's key.
    Ssh {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The certificate, in OpenSSH's one-line form.
        certificate: String,
    },
    /// What any other dynamic path of Vault answered.
    VaultSecret {
        /// Latest instant at which it works.
        expires_at: Timestamp,
        /// The values by name.
        #[serde(with = "super::secret::expose")]
        data: SecretMap,
    },
    /// A type that this version does not know. The grant is live all the same: end it.
    #[serde(other)]
    Unknown,
}

impl Credential {
    /// The word that stands in `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Jwt { .. } => "jwt",
            Self::X509 { .. } => "x509",
            Self::VaultToken { .. } => "vault_token",
            Self::Aws { .. } => "aws",
            Self::Gcp { .. } => "gcp",
            Self::Azure { .. } => "azure",
            Self::GitHub { .. } => "github",
            Self::Kubernetes { .. } => "kubernetes",
            Self::Database { .. } => "database",
            Self::Ssh { .. } => "ssh",
            Self::VaultSecret { .. } => "vault_secret",
            Self::Unknown => "unknown",
        }
    }

    /// Latest instant at which the credential can work; `None` for a type that this version does not know.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Jwt { expires_at, .. }
            | Self::X509 { expires_at, .. }
            | Self::VaultToken { expires_at, .. }
            | Self::Aws { expires_at, .. }
            | Self::Gcp { expires_at, .. }
            | Self::Azure { expires_at, .. }
            | Self::GitHub { expires_at, .. }
            | Self::Kubernetes { expires_at, .. }
            | Self::Database { expires_at, .. }
            | Self::Ssh { expires_at, .. }
            | Self::VaultSecret { expires_at, .. } => Some(*expires_at),
            Self::Unknown => None,
        }
    }

    /// The one token that the credential is, for types that are one token.
    #[must_use]
    pub fn token(&self) -> Option<&Secret> {
        match self {
            Self::Jwt { token, .. }
            | Self::VaultToken { token, .. }
            | Self::GitHub { token, .. }
            | Self::Gcp { access_token: token, .. }
            | Self::Azure { access_token: token, .. } => Some(token),
            Self::X509 { .. }
            | Self::Aws { .. }
            | Self::Kubernetes { .. }
            | Self::Database { .. }
            | Self::Ssh { .. }
            | Self::VaultSecret { .. }
            | Self::Unknown => None,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("type", &self.kind())
            .field("expires_at", &self.expires_at())
            .finish_non_exhaustive()
    }
}
