//! What the HTTP interface needs besides the domain's ports. The composition root plugs it in.

use async_trait::async_trait;
use bytes::Bytes;
use hallpass_core::binding::BindingKey;
use hallpass_core::error::ServiceError;
use hallpass_core::id::GrantId;
use hallpass_core::time::Timestamp;

/// Reads tokens that this broker minted.
pub trait TokenDesk: Send + Sync {
    /// What `token` says, if this broker signed it; `None` for anything else, whatever is wrong with it. An expired
    /// token is read like any other.
    fn read(&self, token: &str) -> Option<OwnToken>;
}

/// What a token of the broker's own says (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnToken {
    /// The grant that it belongs to.
    pub grant: GrantId,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audiences: Vec<String>,
    /// `client_id`.
    pub client_id: Option<String>,
    /// `scope`, separated by spaces.
    pub scope: Option<String>,
    /// `jti`.
    pub token_id: Option<String>,
    /// `iat`.
    pub issued_at: Timestamp,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `kid` of the key that signed it.
    pub key_id: String,
    /// Who acts for the subject (`act`).
    pub act: Option<serde_json::Value>,
    /// Key that it is bound to (`cnf`).
    pub binding_key: Option<BindingKey>,
}

/// The keys that verify what the broker signs.
pub trait PublicKeys: Send + Sync {
    /// The JWK set (RFC 7517 §5) as JSON.
    fn jwks(&self) -> Bytes;

    /// JOSE names of the algorithms that tokens may be signed with.
    fn algorithms(&self) -> Vec<&'static str>;
}

/// The built-in certificate authority, as the public sees it.
#[async_trait]
pub trait Pki: Send + Sync {
    /// Its certificates in PEM: those of the key that signs, of those that did, and of those that will.
    fn ca_pem(&self) -> String;

    /// Its revocation list in DER (RFC 5280 §5), as of a second ago at the earliest: the one that the key of this id
    /// signs, or the key that signs certificates now. `None` where no such key is to be trusted.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when the store or the signing key does not answer: an old list would say that a
    /// revoked certificate is good.
    async fn crl(&self, key_id: Option<&str>) -> Result<Option<Published>, ServiceError>;
}

/// Lists of the tokens that were ended before they expired (draft-ietf-oauth-status-list).
#[async_trait]
pub trait StatusLists: Send + Sync {
    /// The list of this number, signed, as of a second ago at the earliest; `None` when no token can name it.
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when the store or the signing key does not answer: an old list would say that a
    /// revoked token is good.
    async fn list(&self, number: u64) -> Result<Option<Published>, ServiceError>;
}

/// Something signed that anybody may have, and keep for as long as it is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its signed form.
    pub bytes: Bytes,
    /// Entity tag (RFC 9110 §8.8.3), with its quotes.
    pub etag: String,
}

/// Says whether the broker can do its work.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Each part that a request needs, and how it is.
    async fn report(&self) -> Vec<Part>;
}

/// How one part of the broker is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Part {
    /// What it is, such as `store`.
    pub part: &'static str,
    /// Which of several it is: the name that the configuration gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it is.
    pub status: Condition,
    /// `false` where it keeps everything from being issued. What is there is ended, introspected and published all the
    /// same.
    #[serde(skip_serializing_if = "Clone::clone")]
    #[schema(required = false)]
    pub issuing: bool,
    /// What is wrong with it, or when it will be, for operators; nothing secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How well a part works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// As it should.
    Ok,
    /// Not as it should. Where it keeps everything from being issued, `issuing` says so; nothing else waits for it.
    Degraded,
    /// Not so that anything could be done: nothing issued, and nothing ended either.
    Unready,
}

impl Part {
    /// A part that works.
    #[must_use]
    pub const fn ok(part: &'static str) -> Self {
        Self { part, name: None, status: Condition::Ok, issuing: true, detail: None }
    }

    /// The same part in another condition, and why.
    #[must_use]
    pub fn in_condition(self, status: Condition, detail: impl Into<String>) -> Self {
        Self { status, detail: Some(detail.into()), ..self }
    }

    /// The same, which keeps everything from being issued.
    #[must_use]
    pub fn without_which_nothing_is_issued(self, detail: impl Into<String>) -> Self {
        Self { issuing: false, ..self.in_condition(Condition::Degraded, detail) }
    }

    /// Whether credentials can be issued with this part as it is.
    #[must_use]
    pub fn lets_issue(&self) -> bool {
        self.issuing && self.status != Condition::Unready
    }

    /// The same, one of several.
    #[must_use]
    pub fn named(self, name: impl ToString) -> Self {
        Self { name: Some(name.to_string()), ..self }
    }
}

/// Renders the metrics in Prometheus' text format.
#[async_trait]
pub trait MetricsPage: Send + Sync {
    /// The page as it is now.
    async fn render(&self) -> String;
}

#[async_trait]
impl<F: Fn() -> String + Send + Sync> MetricsPage for F {
    async fn render(&self) -> String {
        self()
    }
}
