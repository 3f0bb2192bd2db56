//! From signed claims to typed ones (RFC 7519 §4, RFC 8725 §3).
//!
//! The invariant: a claim has the type that its name demands, or the proof is refused; nothing is converted that an
//! issuer did not write. Amounts are bounded here because attributes travel into policy, the store and the audit log.

use std::collections::BTreeMap;

use hallpass_core::binding::{Binding, BindingKey};
use hallpass_core::delegation::MayAct;
use hallpass_core::error::{Reason, Refusal};
use hallpass_core::identity::{AttributeValue, Attributes, ProofForm, VerifiedProof};
use hallpass_core::provenance::Provenance;
use hallpass_core::time::Timestamp;

use crate::config::issuer::Issuer;
use crate::identity::jose::SignedClaims;
use crate::identity::jose::json::{Json, Object};
use crate::identity::profile::Profile;

/// Longest `sub`. OpenID Connect Core §2 says 255, but the customised subjects of CI issuers, which name repository,
/// workflow and environment, grow beyond. It is stored and indexed with every grant.
const MAX_SUBJECT_BYTES: usize = 1024;

/// Longest `jti`: it is the key of a replay record, which strangers with a valid proof make us keep.
const MAX_PROOF_ID_BYTES: usize = 255;

/// Most audiences in one proof. Each other audience could replay it.
const MAX_AUDIENCES: usize = 32;

/// Most claims in one proof. CI tokens have about 40. More would be cost in every policy evaluation and audit entry;
/// they are refused and not cut, because a policy that forbids could be about the one that was cut.
const MAX_CLAIMS: usize = 128;

/// Most texts in one claim, for the same reason: groups of a directory are the usual long lists.
const MAX_LIST_ITEMS: usize = 256;

/// Claims that are about the proof and not about the identity.
const NOT_ATTRIBUTES: [&str; 6] = ["exp", "iat", "nbf", "jti", "aud", "iss"];

/// Types signed claims.
pub(super) fn type_claims(
    signed: &SignedClaims,
    settings: &Issuer,
    profile: Option<&Profile>,
    provenance: &ProvenanceMap,
    key_id: &str,
) -> Result<VerifiedProof, Refusal> {
    let claims = signed.members();
    if claims.len() > MAX_CLAIMS {
        return Err(malformed("jwt", format!("the proof has more than {MAX_CLAIMS} claims")));
    }
    refuse_delegated(claims)?;
    let subject = subject(claims)?;
    let mut attributes = attributes(claims)?;
    let provenance = match profile {
        Some(profile) => profile.describe(&subject, claims, &mut attributes)?,
        None => provenance.read(claims, &subject)?,
    };
    Ok(VerifiedProof {
        form: ProofForm::Token,
        issuer: settings.name.clone(),
        issuer_kind: settings.kind.as_str().into(),
        principal: settings.principal,
        subject,
        audiences: audiences(claims)?,
        expires_at: numeric_date(claims, "exp", f64::floor)?,
        not_before: numeric_date(claims, "nbf", f64::ceil)?,
        issued_at: numeric_date(claims, "iat", f64::floor)?,
        proof_id: proof_id(claims)?,
        key_id: Some(key_id.to_owned()),
        binding_key: binding_key(claims)?,
        attributes,
        provenance,
        grant: None,
        may_act: may_act(claims)?,
        rules: settings.rules.clone(),
    })
}

/// The key that a proof is bound to (RFC 7800 `cnf`): it proves nothing without that key. One that is bound in another way
/// than the two that can be shown here is refused, as is one that is bound in two ways.
pub(in crate::identity) fn binding_key(claims: &Object) -> Result<Option<BindingKey>, Refusal> {
    let Some(cnf) = claims.get("cnf") else { return Ok(None) };
    let key = match cnf {
        Json::Object(members) if members.len() == 1 => members.iter().find_map(|(member, thumbprint)| {
            let binding = match member.as_str() {
                "jkt" => Binding::Dpop,
                "x5t#S256" => Binding::Mtls,
                _ => return None,
            };
            BindingKey::of_thumbprint(binding, thumbprint.as_text()?)
        }),
        _ => None,
    };
    key.map(Some).ok_or_else(|| {
        let detail = "the proof is bound to a key in a way that cannot be shown here; there are `jkt` (RFC 9449) and \
                      `x5t#S256` (RFC 8705), one of them";
        Refusal::proof(Reason::PopRequired, detail).about("cnf")
    })
}

/// A proof that says who acts for its subject already (`act`, RFC 8693 §4.1) speaks of a delegation that this broker has
/// not decided on.
pub(in crate::identity) fn refuse_delegated(claims: &Object) -> Result<(), Refusal> {
    if claims.contains_key("act") {
        let detail =
            "the proof has `act`: somebody acts for its subject already, which is decided here and not by its issuer";
        return Err(Refusal::proof(Reason::NotAllowedActor, detail).about("act"));
    }
    Ok(())
}

/// Who alone may act for the subject (RFC 8693 §4.4). In another form than that section's it could mean anybody.
pub(in crate::identity) fn may_act(claims: &Object) -> Result<Option<MayAct>, Refusal> {
    let Some(claim) = claims.get("may_act") else { return Ok(None) };
    let refuse = || malformed("may_act", "`may_act` is an object with `sub` and, at most, `iss`".to_owned());
    let Json::Object(named) = claim else { return Err(refuse()) };
    if named.keys().any(|name| !["iss", "sub"].contains(&name.as_str())) {
        return Err(refuse());
    }
    let text = |name: &str| match named.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) if !text.is_empty() && text.len() <= MAX_SUBJECT_BYTES => Ok(Some(text.clone())),
        Some(_) => Err(refuse()),
    };
    Ok(Some(MayAct { issuer: text("iss")?, subject: text("sub")?.ok_or_else(refuse)? }))
}

fn subject(claims: &Object) -> Result<String, Refusal> {
    short_text(claims, "sub", MAX_SUBJECT_BYTES)?.ok_or_else(|| missing("sub", "the proof has no `sub`"))
}

pub(in crate::identity) fn proof_id(claims: &Object) -> Result<Option<String>, Refusal> {
    short_text(claims, "jti", MAX_PROOF_ID_BYTES)
}

/// A claim that names something: text, not empty, not long. Anything else is as good as absent.
fn short_text(claims: &Object, claim: &'static str, longest: usize) -> Result<Option<String>, Refusal> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::Text(text)) if !text.is_empty() && text.len() <= longest => Ok(Some(text.clone())),
        Some(_) => Err(missing(claim, format!("`{claim}` is not a string of 1 to {longest} bytes"))),
    }
}

/// `aud` (RFC 7519 §4.1.3): one string or an array of strings.
pub(in crate::identity) fn audiences(claims: &Object) -> Result<Vec<String>, Refusal> {
    let not_strings = || malformed("aud", "`aud` is neither a string nor an array of strings");
    match claims.get("aud") {
        None => Err(missing("aud", "the proof has no `aud`")),
        Some(Json::Text(audience)) => Ok(vec![audience.clone()]),
        Some(Json::List(list)) if list.len() > MAX_AUDIENCES => {
            Err(malformed("aud", format!("`aud` names more than {MAX_AUDIENCES} audiences")))
        }
        Some(Json::List(list)) => texts(list).ok_or_else(not_strings),
        Some(_) => Err(not_strings()),
    }
}

/// A `NumericDate` (RFC 7519 §2): seconds since the epoch, fractions allowed and rounded against the holder. What is
/// too large saturates, so that it fails the checks on length and not the arithmetic.
pub(in crate::identity) fn numeric_date(
    claims: &Object,
    claim: &'static str,
    round: fn(f64) -> f64,
) -> Result<Option<Timestamp>, Refusal> {
    let seconds = match claims.get(claim) {
        None => return Ok(None),
        Some(Json::Unsigned(seconds)) => i64::try_from(*seconds).unwrap_or(i64::MAX),
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates from a double, which is what is wanted")]
        Some(Json::Float(seconds)) if seconds.is_sign_positive() => round(*seconds) as i64,
        Some(_) => return Err(malformed(claim, format!("`{claim}` is not a number of seconds since 1970"))),
    };
    Ok(Some(Timestamp::from_secs(seconds)))
}

/// Every other claim of a type that policy can use. Objects, fractions and null are left out.
pub(in crate::identity) fn attributes(claims: &Object) -> Result<Attributes, Refusal> {
    let mut attributes = Attributes::new();
    for (claim, value) in claims {
        if claim.is_empty() || NOT_ATTRIBUTES.contains(&claim.as_str()) {
            continue;
        }
        let value = match value {
            Json::Text(text) => AttributeValue::Text(text.clone()),
            Json::Bool(truth) => AttributeValue::Bool(*truth),
            Json::Negative(number) => AttributeValue::Long(*number),
            Json::Unsigned(number) => match i64::try_from(*number) {
                Ok(number) => AttributeValue::Long(number),
                Err(_) => continue,
            },
            Json::List(list) if list.len() > MAX_LIST_ITEMS => {
                return Err(malformed(claim.clone(), format!("a claim lists more than {MAX_LIST_ITEMS} items")));
            }
            Json::List(list) => match texts(list) {
                Some(list) => AttributeValue::List(list),
                None => continue,
            },
            Json::Null | Json::Float(_) | Json::Object(_) => continue,
        };
        attributes.insert(claim.clone(), value);
    }
    Ok(attributes)
}

pub(in crate::identity) fn texts(list: &[Json]) -> Option<Vec<String>> {
    list.iter().map(|item| item.as_text().map(str::to_owned)).collect()
}

/// Refuses a subject of GitHub's form that names another repository than the claim: one issuer signed both, so that
/// one of them is not what it seems, and policies match on either. The forms are `repo:OWNER/NAME:…` and, for
/// repositories made or renamed since July 2026, `repo:OWNER@OWNER_ID/NAME@ID:…`. GitHub's names ignore case.
fn check_repository_in_subject(subject: &str, repository: &str) -> Result<(), Refusal> {
    let Some(rest) = subject.strip_prefix("repo:") else { return Ok(()) };
    let (named, _) = rest.split_once(':').unwrap_or((rest, ""));
    let Some((owner, name)) = named.split_once('/') else { return Ok(()) };
    let named = format!("{}/{}", without_id(owner), without_id(name));
    if named.eq_ignore_ascii_case(repository) {
        return Ok(());
    }
    let detail = format!("`sub` says repository {named:?}, another claim says {repository:?}");
    Err(Refusal::proof(Reason::ClaimConflict, detail).about("sub"))
}

fn without_id(name: &str) -> &str {
    match name.rsplit_once('@') {
        Some((name, id)) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    }
}

/// A configured provenance field that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a field of the provenance that a claim can fill")]
pub struct UnknownProvenanceField(pub String);

/// Whether a claim can fill the provenance field of this wire name.
#[must_use]
pub fn is_provenance_field(name: &str) -> bool {
    Field::of(name).is_some()
}

/// Which claim fills which field of the provenance.
#[derive(Clone, Debug)]
pub(super) struct ProvenanceMap(Vec<(Field, String)>);

#[derive(Clone, Copy, Debug)]
enum Field {
    RefProtected,
    Text(fn(&mut Provenance) -> &mut Option<String>),
}

impl Field {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ref_protected" => Self::RefProtected,
            "repository" => Self::Text(|p| &mut p.repository),
            "repository_id" => Self::Text(|p| &mut p.repository_id),
            "repository_owner_id" => Self::Text(|p| &mut p.repository_owner_id),
            "ref" => Self::Text(|p| &mut p.git_ref),
            "commit" => Self::Text(|p| &mut p.commit),
            "workflow" => Self::Text(|p| &mut p.workflow),
            "workflow_ref" => Self::Text(|p| &mut p.workflow_ref),
            "run" => Self::Text(|p| &mut p.run),
            "run_attempt" => Self::Text(|p| &mut p.run_attempt),
            "job" => Self::Text(|p| &mut p.job),
            "actor" => Self::Text(|p| &mut p.actor),
            "actor_id" => Self::Text(|p| &mut p.actor_id),
            "event" => Self::Text(|p| &mut p.event),
            "pull_request" => Self::Text(|p| &mut p.pull_request),
            "environment" => Self::Text(|p| &mut p.environment),
            "runner" => Self::Text(|p| &mut p.runner),
            _ => return None,
        })
    }
}

impl ProvenanceMap {
    pub(super) fn new(configured: &BTreeMap<String, String>) -> Result<Self, UnknownProvenanceField> {
        let field = |name: &str| Field::of(name).ok_or_else(|| UnknownProvenanceField(name.to_owned()));
        configured.iter().map(|(name, claim)| Ok((field(name)?, claim.clone()))).collect::<Result<_, _>>().map(Self)
    }

    /// Only strings count: a number is not turned into the text of an id, and an empty string says nothing. Truth may be
    /// written `true` or, as GitLab does, `"true"`.
    fn read(&self, claims: &Object, subject: &str) -> Result<Provenance, Refusal> {
        let mut provenance = Provenance::default();
        for (field, claim) in &self.0 {
            match (field, claims.get(claim)) {
                (Field::RefProtected, Some(Json::Bool(truth))) => provenance.ref_protected = Some(*truth),
                (Field::RefProtected, Some(Json::Text(text))) => provenance.ref_protected = text.parse().ok(),
                (Field::Text(place), Some(Json::Text(text))) if !text.is_empty() => {
                    *place(&mut provenance) = Some(text.clone());
                }
                _ => {}
            }
        }
        if let Some(repository) = &provenance.repository {
            check_repository_in_subject(subject, repository)?;
        }
        Ok(provenance)
    }
}

/// Fills the field of this wire name with `value`, unless it has one.
pub(in crate::identity) fn fill(provenance: &mut Provenance, field: &str, value: &AttributeValue) {
    match (Field::of(field), value) {
        (Some(Field::RefProtected), AttributeValue::Bool(truth)) => {
            provenance.ref_protected.get_or_insert(*truth);
        }
        (Some(Field::Text(place)), AttributeValue::Text(text)) => {
            place(provenance).get_or_insert_with(|| text.clone());
        }
        (Some(Field::Text(place)), AttributeValue::Long(number)) => {
            place(provenance).get_or_insert_with(|| number.to_string());
        }
        _ => {}
    }
}

fn malformed(claim: impl Into<String>, detail: impl Into<String>) -> Refusal {
    Refusal::proof(Reason::MalformedClaims, detail).about(claim)
}

fn missing(claim: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal::proof(Reason::MissingClaim, detail).about(claim)
}
