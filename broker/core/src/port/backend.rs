//! Credential backends: where credentials are minted and undone.

use async_trait::async_trait;

use crate::credential::{Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use crate::id::GrantId;
use crate::role::Role;
use crate::time::{Timestamp, Ttl};

/// Mints credentials and undoes them.
///
/// Deadlines and concurrency are the caller's; an implementation must be cancel-safe at every await.
#[async_trait]
pub trait CredentialBackend: Send + Sync {
    /// The kind, as in configuration: `jwt`, `x509`, …
    fn kind(&self) -> &'static str;

    /// Whether minting leaves something behind outside the broker.
    fn effect(&self) -> Effect;

    /// How a credential of `role` can be stopped.
    fn class(&self, role: &Role) -> RevocationClass;

    /// The shortest life that can be asked for.
    fn min_life(&self, role: &Role) -> Ttl;

    /// The longest life that can be asked for, where there is a limit.
    fn max_life(&self, role: &Role) -> Option<Ttl>;

    /// Whether the credential is one token, so that `/oauth2/token` can answer it.
    fn yields_single_token(&self) -> bool;

    /// Checks a role's parameters when a bundle is loaded.
    ///
    /// # Errors
    /// [`InvalidParameters`] names the key and what would be right.
    fn validate(&self, role: &Role) -> Result<(), InvalidParameters>;

    /// The scope that a credential of `role` gets when `asked` is asked for: all that the role has, when that is nothing.
    ///
    /// # Errors
    /// [`IssueError::Refused`] for a scope that the role does not give, and for any where credentials have none.
    fn scope(&self, _role: &Role, asked: &[String]) -> Result<Vec<String>, IssueError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let detail = format!("a credential of kind {} has no scope", self.kind());
        Err(IssueError::Refused { detail, parameter: Some("scope") })
    }

    /// What it will take to undo the credential, known before the call.
    ///
    /// # Errors
    /// [`IssueError::Refused`] when the order cannot be met; nothing has happened.
    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError>;

    /// Mints.
    ///
    /// # Errors
    /// See [`IssueError`]: the difference between its cases decides whether there is something to undo.
    async fn issue(&self, order: &IssueOrder, handle: &Handle) -> Result<IssuedCredential, IssueError>;

    /// Extends a live credential until `until` at the latest; answers its new expiry.
    ///
    /// # Errors
    /// [`ExtendError::Unsupported`] where a credential's life is fixed.
    async fn extend(&self, handle: &Handle, until: Timestamp) -> Result<Timestamp, ExtendError>;

    /// Ends a credential. Idempotent: "not there" is success.
    ///
    /// # Errors
    /// See [`RevokeError`]; every one of them is retried.
    async fn revoke(&self, handle: &Handle) -> Result<Undone, RevokeError>;

    /// What is alive at the backend.
    ///
    /// # Errors
    /// [`RevokeError`] when the backend does not answer.
    async fn inventory(&self) -> Result<Vec<InventoryItem>, RevokeError>;

    /// How much [`CredentialBackend::inventory`] can see.
    fn inventory_scope(&self) -> InventoryScope;
}

/// A role's parameter that the backend cannot honour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidParameters {
    /// Key within the table of the backend's kind.
    pub key: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// How minting fails. Two audiences: `detail` is for the caller, `internal` for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Refused before any effect: there is nothing to undo.
    #[error("refused: {detail}")]
    Refused {
        /// For the caller.
        detail: String,
        /// The request's parameter that was wrong, where it is the caller's fault.
        parameter: Option<&'static str>,
    },
    /// Nothing is minted until whoever runs the broker has done something. There is nothing to undo.
    #[error("suspended: {detail}")]
    Suspended {
        /// What, for the caller.
        detail: String,
    },
    /// The call was not sent, or surely had no effect.
    #[error("unavailable: {internal}")]
    Unavailable {
        /// For the audit log.
        internal: String,
    },
    /// The call was sent and its answer is not known: a credential may exist.
    #[error("outcome unknown: {internal}")]
    OutcomeUnknown {
        /// For the audit log.
        internal: String,
    },
}

/// How extending fails. The credential keeps the end that it had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// This kind of credential has a fixed life.
    #[error("this kind of credential cannot be extended")]
    Unsupported,
    /// The backend refused.
    #[error("refused: {0}")]
    Refused(String),
    /// The backend does not answer.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// What undoing achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The credential is gone, confirmed.
    Gone,
    /// Verifiers refuse it from now on; it is over when it expires.
    Fenced,
    /// Nothing but time ends it.
    OnlyTime,
}

/// How undoing fails; it is repeated with backoff, for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{internal}")]
pub struct RevokeError {
    /// For the audit log and for `last_error`, scrubbed of secrets.
    pub internal: String,
}

/// Something alive at a backend.
#[derive(Debug)]
pub struct InventoryItem {
    /// The grant that it belongs to, where it is ours.
    pub grant: Option<GrantId>,
    /// The backend's own name for it.
    pub name: String,
    /// What it takes to undo it.
    pub handle: Handle,
}

/// How much an inventory can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InventoryScope {
    /// Every credential.
    Full,
    /// Other doors to the same target: trust policies, auth roles, static keys.
    Doors,
    /// Nothing.
    None,
}
