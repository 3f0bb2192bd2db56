//! Commands over sets of grants: revocations and quarantines.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::grant::{Grant, GrantState, RevocationClass};
use super::time::Timestamp;

/// Which grants. All that is given must match; everything is `{"all": true}` or `"*"`, and nothing is refused.
///
/// `issuer`, `subject`, `repository`, `repository_id`, `commit` and `run` are of one party, whoever that is: the one that a grant
/// is for, or one that acts for it. What is given of them must be so of the same party.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct Selector {
    /// Every grant there is. Goes with nothing else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Where the grant stands: `pending` or `active`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<GrantState>,
    /// Name of the owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Name of the role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Name of the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Subject at the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Repository as `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Immutable id of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
    /// Commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Id of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Environment that the credential reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Name of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Id of a policy that determined the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Words of the purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// Ticket or change reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Created at or after this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Created before this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Id of the key that signed a proof that opened the grant (of whoever it is for, or who acts), or of the broker's key that signed its credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// `jti` of a proof that opened the grant, of whoever it is for or who acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_id: Option<String>,
    /// Id of the grant that it was delegated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Who acts with it for another, or is acted through: `<issuer>:<subject>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Digest of a build attestation that it was decided on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_digest: Option<String>,
}

impl Selector {
    /// Every grant there is.
    #[must_use]
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }
}

// What `remote` derives are functions of its own, not of the traits: so reading can look for `"*"` first.
impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Selector::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EverythingOrCriteria)
    }
}

struct EverythingOrCriteria;

impl<'de> Visitor<'de> for EverythingOrCriteria {
    type Value = Selector;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of criteria, or \"*\"")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Selector, E> {
        if word == "*" { Ok(Selector::everything()) } else { Err(E::invalid_value(de::Unexpected::Str(word), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Selector, A::Error> {
        Selector::deserialize(MapAccessDeserializer::new(members))
    }
}

/// `POST /v1/revocations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevocationRequest {
    /// Which grants to end.
    pub selector: Selector,
    /// Why, for the record.
    pub reason: String,
    /// Count and list what would end, and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Stop new ones too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<RevocationQuarantine>,
}

/// The quarantine that comes with a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RevocationQuarantine {
    /// Until when.
    pub until: Timestamp,
    /// Which grants to stop; those that the revocation selects when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Why; that of the revocation when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A revocation of a set of grants: from when it was created on, they are treated as ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetRevocation {
    /// Its id.
    pub id: String,
    /// Whether every grant says so itself by now.
    pub state: RevocationState,
    /// Which grants it ends, of those that its author may end.
    pub selector: Selector,
    /// Why.
    pub reason: String,
    /// Who asked for it, as `issuer:subject`.
    pub by: String,
    /// Since when it holds.
    pub created_at: Timestamp,
    /// When no grant was left that did not say so itself.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// How many grants it ends; while it runs, as far as that is known.
    pub matched: u64,
    /// Those whose credentials are dead, or refused by verifiers until they expire, or that were given up on.
    pub ended: u64,
    /// Those whose credentials may still work.
    pub remaining: u64,
    /// Those of the remaining whose undoing has failed so far.
    pub failing: u64,
    /// How many are in which state; `fenced` are revoking and refused by verifiers.
    #[serde(default)]
    pub by_state: BTreeMap<String, u64>,
    /// Id of the quarantine that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// When it is complete: a JWS of the broker's over all of this and the digest of the grants' ids, verified by the
    /// keys of `/.well-known/jwks.json`. Given with a single revocation, not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// Related resources: relation to URL.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}

/// Where a revocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RevocationState {
    /// It holds, and grants come to say so themselves.
    Running,
    /// Every grant says so itself. What is created now is not its concern.
    Completed,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

/// `200` of `POST /v1/revocations` with `dry_run`: what would end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RevocationPreview {
    /// How many grants would end.
    pub matched: u64,
    /// How many of the selected are ending already.
    pub ending_already: u64,
    /// How many of which kind.
    pub counts: Vec<SelectedCount>,
    /// The newest of them.
    pub grants: Vec<Grant>,
}

/// How many grants of a kind are selected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SelectedCount {
    /// Role.
    pub role: String,
    /// Owner.
    pub owner: String,
    /// Environment.
    #[serde(default)]
    pub environment: Option<String>,
    /// What revoking achieves.
    pub class: RevocationClass,
    /// Their state.
    pub state: GrantState,
    /// Whether they would end by this; else they are ending already.
    pub would_end: bool,
    /// How many.
    pub grants: u64,
}

/// `POST /v1/quarantines`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct QuarantineRequest {
    /// Which grants to stop. They are not there yet: they have no state and no time of creation.
    pub selector: Selector,
    /// Why, for the record.
    pub reason: String,
    /// Until when; thirty days from now at the latest.
    pub until: Timestamp,
}

/// A quarantine: grants like these are not opened and not renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quarantine {
    /// Its id.
    pub id: String,
    /// Which grants it stops.
    pub selector: Selector,
    /// Of which roles: those that its author may suspend; `null` means every role, those to come included.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// Why.
    pub reason: String,
    /// Who asked for it, as `issuer:subject`.
    pub by: String,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Whether it stops anything now.
    pub in_force: bool,
    /// When it was lifted, or came to its end.
    #[serde(default)]
    pub lifted_at: Option<Timestamp>,
    /// Who lifted it.
    #[serde(default)]
    pub lifted_by: Option<String>,
    /// Related resources: relation to URL.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
}
