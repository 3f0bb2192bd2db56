//! Credential backends: where credentials are minted and undone.

use std::sync::Arc;

use async_trait::async_trait;

use crate::credential::{Effect, Handle, IssueOrder, IssuedCredential, RevocationClass};
use crate::id::{GrantId, SpareId};
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

    /// Why it is that, where a caller would wonder.
    fn min_life_reason(&self) -> Option<&'static str> {
        None
    }

    /// The longest life that can be asked for, where there is a limit.
    fn max_life(&self, role: &Role) -> Option<Ttl>;

    /// Whether a credential of `role` is one token, so that `/oauth2/token` can answer it.
    fn yields_single_token(&self, role: &Role) -> bool;

    /// Checks a role's parameters when a bundle is loaded, or is only tried. Without effect.
    ///
    /// # Errors
    /// [`InvalidParameters`] names the key and what would be right.
    fn validate(&self, role: &Role) -> Result<(), InvalidParameters>;

    /// Told before each inventory which roles in force it mints for: other doors to what those reach are looked for.
    /// [`CredentialBackend::validate`] is asked of roles that may never be in force, and so has no effect.
    fn serve(&self, _roles: &[Arc<Role>]) {}

    /// The scope that a credential of `role` gets when `asked` is asked for: all that the role has, when that is nothing.
    ///
    /// # Errors
    /// [`IssueError::Refused`] for a scope that the role does not give, and for any where credentials have none.
    fn scope(&self, _role: &Role, asked: &[String]) -> Result<Vec<String>, IssueError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        Err(IssueError::unfit("scope", format!("a credential of kind {} has no scope", self.kind())))
    }

    /// What it will take to undo the credential, known before the call.
    ///
    /// # Errors
    /// [`IssueError::Refused`] when the order cannot be met; nothing has happened.
    fn plan(&self, order: &IssueOrder) -> Result<Handle, IssueError>;

    /// Makes what must be at the backend before the credential can, and answers with what undoes that and everything
    /// under it: core makes it durable, and then mints with it. Nothing is to be made first where `None` is answered.
    ///
    /// # Errors
    /// See [`IssueError`].
    async fn prepare(&self, _order: &IssueOrder, _planned: &Handle) -> Result<Option<Handle>, IssueError> {
        Ok(None)
    }

    /// The rule that holds credentials of `role` once they are over, where the backend has one with limited room.
    fn fence(&self, _role: &Role) -> Option<FenceRule> {
        None
    }

    /// Whether a handle is of the server that the backend is configured for: one of another is of no use here.
    fn recognises(&self, _handle: &Handle) -> bool {
        true
    }

    /// Whether undoing now also undoes what a call makes later whose answer was not heard. Where not, nothing is undone
    /// before no such call can be under way any more: what ends then is all there ever was.
    fn undoes_what_is_late(&self, _handle: &Handle) -> bool {
        true
    }

    /// How many spares of a role are to be kept, where the backend can prepare ahead of any grant.
    fn spares(&self, _role: &Role) -> Option<SpareRule> {
        None
    }

    /// Prepares ahead of any grant what [`CredentialBackend::prepare`] makes for one, to end at `expires_at` at the
    /// latest; answers what to mint with, and undo by, and when it ends. It carries `id`, so that the inventory tells it.
    ///
    /// # Errors
    /// See [`IssueError`].
    async fn make_spare(&self, _role: &Role, _id: SpareId, _expires_at: Timestamp) -> Result<Prepared, IssueError> {
        Err(IssueError::refused(format!("a backend of kind {} prepares nothing ahead", self.kind())))
    }

    /// Mints, with the handle that was planned, or with the one that was prepared.
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

    /// Called every few seconds: renews the broker's session with the backend ahead of its end, asserts again what must
    /// hold there.
    ///
    /// # Errors
    /// [`RevokeError`] when that could not be done; it is tried again.
    async fn tend(&self) -> Result<(), RevokeError> {
        Ok(())
    }
}

/// A rule at a backend that holds each credential that is over, by name, until it expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceRule {
    /// The backend's name for it. Roles may share one.
    pub name: String,
    /// How many credentials it can hold; `None` where there is always room.
    pub places: Option<u32>,
}

/// How many spares of a role are kept, and for how long one is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpareRule {
    /// How many.
    pub count: usize,
    /// How long each lives. A grant that takes one ends with it.
    pub life: Ttl,
}

/// What a backend prepared.
#[derive(Debug)]
pub struct Prepared {
    /// What to mint with, and undo by.
    pub handle: Handle,
    /// When the backend ends it.
    pub expires_at: Timestamp,
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

/// How minting fails. Two audiences: `detail` is for the caller, and has nothing of what is behind the backend, such as
/// names of accounts; `internal` is for the audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Refused before any effect: there is nothing to undo.
    #[error("refused: {detail}")]
    Refused {
        /// For the caller.
        detail: String,
        /// For the audit log: what the backend itself said, if it was asked; see [`IssueError::because`].
        internal: Option<String>,
        /// The request's parameter that was wrong, where it is the caller's fault.
        parameter: Option<&'static str>,
    },
    /// Nothing is minted until whoever runs the broker has done something. There is nothing to undo.
    #[error("suspended: {detail}")]
    Suspended {
        /// What, for the caller.
        detail: String,
        /// For the audit log, as that of a refusal.
        internal: Option<String>,
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

impl IssueError {
    /// Refused, whatever the caller asks with.
    #[must_use]
    pub fn refused(detail: impl Into<String>) -> Self {
        Self::Refused { detail: detail.into(), internal: None, parameter: None }
    }

    /// Refused for a parameter of the request.
    #[must_use]
    pub fn unfit(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused { detail: detail.into(), internal: None, parameter: Some(parameter) }
    }

    /// Nothing is minted for now.
    #[must_use]
    pub fn suspended(detail: impl Into<String>) -> Self {
        Self::Suspended { detail: detail.into(), internal: None }
    }

    /// The same, with what the backend itself said of it. It is kept as [`scrubbed`] has it.
    #[must_use]
    pub fn because(self, said: impl AsRef<str>) -> Self {
        let said = scrubbed(said.as_ref());
        match self {
            Self::Refused { detail, parameter, .. } => Self::Refused { detail, internal: Some(said), parameter },
            Self::Suspended { detail, .. } => Self::Suspended { detail, internal: Some(said) },
            Self::Unavailable { internal } => Self::Unavailable { internal: format!("{internal}: {said}") },
            Self::OutcomeUnknown { internal } => Self::OutcomeUnknown { internal: format!("{internal}: {said}") },
        }
    }
}

/// Longest part of somebody else's words that is kept, in characters.
const MAX_SAID: usize = 300;
/// A word that is longer may be a token or a key, and none of those that explain something is.
const MAX_WORD: usize = 64;

/// Somebody else's words, on one line, not too many of them, and without what may be a secret: a token, or an address
/// with a password in it.
#[must_use]
pub fn scrubbed(words: &str) -> String {
    let words = words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let words = words.map(|word| if may_be_secret(word) { "[…]" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(MAX_SAID).collect()
}

fn may_be_secret(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    // Of Vault and OpenBao; of JSON Web Tokens; of GitHub.
    let beginnings = ["hvs.", "hvb.", "hvr.", "s.", "b.", "r.", "eyJ", "ghs_", "ghp_", "github_pat_"];
    let is_token = beginnings.iter().any(|beginning| bare.starts_with(beginning));
    let names_a_password = word.contains("://") && word.contains('@');
    (is_token && bare.len() >= 20) || names_a_password || bare.len() > MAX_WORD || word.contains("password=")
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
    /// The rule that fences it stands, and has reached every verifier by this instant: it is fenced when that is asked
    /// again then, and not before.
    Fencing {
        /// When to ask again.
        until: Timestamp,
    },
    /// Nothing but time ends it. Also of a hard credential: one that only the backend's answer could have named, where
    /// that answer was lost. It is never said to be revoked.
    OnlyTime,
}

/// How undoing fails; it is repeated with backoff, for ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{internal}")]
pub struct RevokeError {
    /// For the audit log and for `last_error`, where it is kept as [`scrubbed`] has it.
    pub internal: String,
}

/// Something alive at a backend.
#[derive(Debug)]
pub struct InventoryItem {
    /// Whose it is.
    pub belongs: Belongs,
    /// What it is.
    pub kind: ItemKind,
    /// The backend's own name for it. No secret.
    pub name: String,
    /// What it takes to undo it, where the broker may.
    pub handle: Option<Handle>,
}

/// Whose something at a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belongs {
    /// This grant's.
    ToGrant(GrantId),
    /// It was prepared ahead, under this id.
    ToSpare(SpareId),
    /// Somebody else made it.
    ToOthers,
}

/// What something at a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A credential, or what credentials are made under.
    Credential,
    /// Another way to the same target: a trust policy, an auth role, a static key.
    Door,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_are_bounded_and_hold_no_secret() {
        let token = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";
        let said =
            scrubbed(&format!(" not\r\nallowed: '{token}', \u{1b}[31mtry\tagain at https://a:b@c ghs_{:0>20}", 7));
        assert_eq!(said, "not allowed: […] [31mtry again at […] […]");
        assert_eq!(scrubbed(&"word ".repeat(1000)).chars().count(), MAX_SAID);
        assert_eq!(scrubbed(&"w".repeat(65)), "[…]");
        let error = IssueError::unfit("csr", "not this one").because(token);
        let internal = Some("[…]".to_owned());
        assert_eq!(error, IssueError::Refused { detail: "not this one".to_owned(), internal, parameter: Some("csr") });
        assert_eq!(error.to_string(), "refused: not this one", "what is told to callers holds nothing of it");
    }
}
