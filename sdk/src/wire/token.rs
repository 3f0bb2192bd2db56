//! The OAuth side: token exchange (RFC 8693) and introspection (RFC 7662).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::audit::Receipt;
use super::secret::Secret;

/// Values of `grant_type`.
pub mod grant_type {
    /// RFC 8693 §2.1.
    pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
}

/// Token type identifiers (RFC 8693 §3).
pub mod token_type {
    /// A JWT of any meaning.
    pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
    /// An OpenID Connect id token.
    pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
    /// An OAuth access token.
    pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
    /// The client certificate of the connection: the token is a JSON array of certificates in base64 (as `x5c`, RFC 7515
    /// §4.1.6), that one first. RFC 8693 §3 leaves types to others; this one is what other token services take.
    pub const MTLS: &str = "urn:ietf:params:oauth:token-type:mtls";
}

/// `POST /oauth2/token` answered (RFC 8693 §2.2.1).
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenResponse {
    /// The credential, whatever its type: the name is OAuth's.
    #[serde(with = "super::secret::expose")]
    pub access_token: Secret,
    /// Its token type identifier.
    pub issued_token_type: String,
    /// How to present it: `Bearer`, `DPoP` or `N_A`.
    pub token_type: String,
    /// Seconds that it still works for.
    pub expires_in: u64,
    /// Scope, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Grant that records it.
    pub grant_id: String,
    /// What shows that its opening is in the audit log, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// How `/oauth2` says no (RFC 6749 §5.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenError {
    /// Stable code, such as `invalid_target`.
    pub error: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    /// A page about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_uri: Option<String>,
}

/// `POST /oauth2/introspect` answered (RFC 7662 §2.2). For a token that is not live, only `active` is said.
///
/// Times are seconds since the Unix epoch, as in JWTs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Introspection {
    /// Whether the token works now.
    pub active: bool,
    /// Who signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Whom it is for: a string or a list of strings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<Value>,
    /// Client that it was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Scope, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// How it is presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// When it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// When it begins to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// Grant that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<String>,
    /// Who acts for `sub`, and for whom that one does (RFC 8693 §4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub act: Option<Value>,
    /// The key that it is bound to (RFC 7800): `jkt` (RFC 9449 §6.1) or `x5t#S256` (RFC 8705 §3.1). It works for nobody who
    /// does not show that key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<BTreeMap<String, String>>,
    /// Other claims.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub claims: Map<String, Value>,
}
