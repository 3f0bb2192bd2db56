//! A grant as the world sees it.

use std::collections::BTreeMap;

use hallpass_core::credential::RevocationClass;
use hallpass_core::grant::{DecisionSummary, Ending, Grant, GrantState, StateName};
use hallpass_core::policy::{BoundKind, Obligations, Terms};
use hallpass_core::time::Timestamp;
use hallpass_sdk::wire;
use serde_json::Value;

use super::attestation::attestation;
use super::{at, identity, lasting};

/// Where links begin.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Origins<'a> {
    /// Of what everybody is answered.
    pub(in crate::http) public: &'a str,
    /// Of what operators are answered; empty where they have a listener whose origin is not known.
    pub(in crate::http) admin: &'a str,
}

/// Everything that a grant answers. Its links begin with `origins`.
pub(in crate::http) fn grant(grant: &Grant, origins: Origins<'_>) -> wire::Grant {
    let record = &grant.record;
    let progress = Progress::of(grant);
    wire::Grant {
        id: record.id.to_string(),
        state: state(grant.state_name()),
        role: record.role.to_string(),
        backend: record.backend.to_string(),
        environment: record.environment.as_ref().map(ToString::to_string),
        owner: record.owner.name.to_string(),
        owner_contacts: record.owner.contacts.clone(),
        purpose: record.purpose.clone(),
        ticket: record.ticket.clone(),
        task: record.task.clone(),
        target: record.target.clone(),
        identity: identity::of_holder(&record.holder),
        proof_id: record.holder.proof_id.clone(),
        proof_key_id: record.holder.proof_key_id.clone(),
        binding: record.holder.binding_key.map(identity::binding),
        provenance: identity::provenance(&record.provenance),
        decision: decision(&record.decision),
        approvals: Vec::new(),
        terms: terms(&record.terms),
        created_at: at(record.created_at),
        activated_at: progress.activated_at.map(at),
        end_at: at(grant.end_at),
        expires_at: at(grant.expires_at),
        max_expires_at: Some(at(record.terms.max_expires_at)),
        ended_at: progress.ended_at.map(at),
        cause: progress.ending.map(|ending| ending.cause.as_str().to_owned()),
        last_seen_at: grant.last_seen_at.map(at),
        revocation: wire::Revocation {
            class: class(record.class()),
            fenced_at: progress.fenced_at.map(at),
            confirmed_at: progress.confirmed_at.map(at),
            attempts: u64::from(progress.attempts),
            retry_at: progress.retry_at.map(at),
            last_error: progress.last_error.map(str::to_owned),
            exposure_seconds: exposure_seconds(grant, &progress),
        },
        attestations: record.attested.statements.iter().map(attestation).collect(),
        actors: record.actors.iter().map(identity::of_acting).collect(),
        parent: record.parent.map(|id| id.to_string()),
        replaces: record.replaces.map(|id| id.to_string()),
        links: links(grant, origins),
    }
}

/// What the states say differently, side by side.
#[derive(Default)]
struct Progress<'a> {
    activated_at: Option<Timestamp>,
    ending: Option<&'a Ending>,
    ended_at: Option<Timestamp>,
    fenced_at: Option<Timestamp>,
    confirmed_at: Option<Timestamp>,
    attempts: u32,
    retry_at: Option<Timestamp>,
    last_error: Option<&'a str>,
}

impl<'a> Progress<'a> {
    fn of(grant: &'a Grant) -> Self {
        match &grant.state {
            GrantState::Pending { .. } => Self::default(),
            GrantState::Active { activated_at } => Self { activated_at: Some(*activated_at), ..Self::default() },
            GrantState::Revoking { activated_at, ending, fenced_at, attempts, retry_at, last_error } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                fenced_at: *fenced_at,
                attempts: *attempts,
                retry_at: Some(*retry_at),
                last_error: last_error.as_deref(),
                ..Self::default()
            },
            GrantState::Revoked { activated_at, ending, attempts, confirmed_at } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                ended_at: Some(*confirmed_at),
                confirmed_at: Some(*confirmed_at),
                attempts: *attempts,
                ..Self::default()
            },
            GrantState::Expired { activated_at, ending, fenced_at, ended_at } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                ended_at: Some(*ended_at),
                fenced_at: *fenced_at,
                ..Self::default()
            },
            GrantState::Failed { ending, ended_at } => {
                Self { ending: Some(ending), ended_at: Some(*ended_at), ..Self::default() }
            }
            GrantState::Abandoned { activated_at, ending, fenced_at, attempts, ended_at } => Self {
                activated_at: *activated_at,
                ending: Some(ending),
                ended_at: Some(*ended_at),
                fenced_at: *fenced_at,
                attempts: *attempts,
                ..Self::default()
            },
        }
    }
}

/// Seconds from when the end was asked for (or due) until the credential stopped to work, or at the latest will:
/// confirmed by its backend, refused by its verifiers, or expired. `None` while no end has begun, and for a grant whose
/// credential never came to be.
fn exposure_seconds(grant: &Grant, progress: &Progress<'_>) -> Option<u64> {
    let ending = progress.ending?;
    if matches!(grant.state, GrantState::Failed { .. }) {
        return None;
    }
    let stops = progress.confirmed_at.or(progress.fenced_at).unwrap_or(grant.expires_at).min(grant.expires_at);
    Some(stops.since(ending.at).as_secs())
}

pub(super) const fn state(name: StateName) -> wire::GrantState {
    match name {
        StateName::Pending => wire::GrantState::Pending,
        StateName::Active => wire::GrantState::Active,
        StateName::Revoking => wire::GrantState::Revoking,
        StateName::Revoked => wire::GrantState::Revoked,
        StateName::Expired => wire::GrantState::Expired,
        StateName::Failed => wire::GrantState::Failed,
        StateName::Abandoned => wire::GrantState::Abandoned,
    }
}

pub(super) const fn class(class: RevocationClass) -> wire::RevocationClass {
    match class {
        RevocationClass::Hard => wire::RevocationClass::Hard,
        RevocationClass::Fenced => wire::RevocationClass::Fenced,
        RevocationClass::ExpiryOnly => wire::RevocationClass::ExpiryOnly,
    }
}

fn decision(decision: &DecisionSummary) -> wire::DecisionSummary {
    wire::DecisionSummary {
        id: Some(decision.id.to_string()),
        policy_revision: decision.revision.to_string(),
        determining_policies: decision.determining.iter().map(ToString::to_string).collect(),
        obligations: obligations(&decision.obligations),
    }
}

/// Obligations by the names of their annotations.
pub(super) fn obligations(obligations: &Obligations) -> BTreeMap<String, Value> {
    let Obligations { max_ttl, binding } = obligations;
    let max_ttl = max_ttl.iter().map(|ttl| ("max_ttl".to_owned(), Value::from(lasting(*ttl).to_string())));
    let words: Vec<_> = binding.iter().map(|binding| binding.as_str()).collect();
    max_ttl.chain((!words.is_empty()).then(|| ("binding".to_owned(), Value::from(words.join(" "))))).collect()
}

pub(super) fn terms(terms: &Terms) -> wire::Terms {
    wire::Terms {
        ttl: Some(lasting(terms.ttl)),
        bound: Some(bound(terms.bounded_by).to_owned()),
        bounds: terms.bounds.iter().map(|limit| (bound(limit.kind).to_owned(), lasting(limit.ttl))).collect(),
        scope: terms.scope.clone(),
        heartbeat: terms.heartbeat.map(lasting),
        parameters: super::members(&terms.parameters),
    }
}

const fn bound(kind: BoundKind) -> &'static str {
    match kind {
        BoundKind::Request => "request",
        BoundKind::RoleDefault => "role_default",
        BoundKind::RoleMax => "role",
        BoundKind::Policy => "policy",
        BoundKind::Proof => "proof",
        BoundKind::Approval => "approval",
        BoundKind::Exception => "exception",
        BoundKind::Backend => "backend",
        BoundKind::Continuous => "continuous",
        BoundKind::Environment => "environment",
        BoundKind::Spare => "spare",
        BoundKind::Parent => "parent",
    }
}

fn links(grant: &Grant, origins: Origins<'_>) -> BTreeMap<String, String> {
    let record = &grant.record;
    let link = |relation: &str, path: String| (relation.to_owned(), format!("{}{path}", origins.public));
    let mut links = BTreeMap::from([
        link("self", format!("/v1/grants/{}", record.id)),
        link("role", format!("/v1/roles/{}", record.role)),
        link("owner", format!("/v1/owners/{}", record.owner.name)),
        ("audit".to_owned(), format!("{}/v1/audit?grant={}", origins.admin, record.id)),
    ]);
    links.extend(record.parent.map(|id| link("parent", format!("/v1/grants/{id}"))));
    links.extend(record.replaces.map(|id| link("replaces", format!("/v1/grants/{id}"))));
    links
}

#[cfg(test)]
mod tests {
    use hallpass_core::grant::Cause;
    use hallpass_core::testing::sample::{self, NOW};
    use hallpass_core::time::Ttl;

    use super::*;

    const URL: Origins<'static> = Origins { public: "https://hallpass.example", admin: "https://hallpass.example" };

    fn ending(after_mins: u64) -> Ending {
        Ending { cause: Cause::REQUESTED, actor: None, reason: None, at: NOW.plus(Ttl::from_mins(after_mins)) }
    }

    #[test]
    fn a_grant_answers_every_question_of_the_contract() {
        let active = sample::active(1, RevocationClass::Fenced, NOW);
        insta::assert_json_snapshot!("active_grant", grant(&active, URL));
        let revoking = active.begin_ending(ending(2), true).unwrap();
        insta::assert_json_snapshot!("fenced_grant", grant(&revoking, URL).revocation);
    }

    #[test]
    fn exposure_is_what_was_between_asking_and_ending() {
        let exposure = |seen: &Grant| grant(seen, URL).revocation.exposure_seconds;
        let fenced = sample::active(1, RevocationClass::Fenced, NOW);
        assert_eq!(exposure(&fenced), None, "nobody has asked yet");
        assert_eq!(exposure(&fenced.clone().begin_ending(ending(2), true).unwrap()), Some(0));
        let unfenced = fenced.begin_ending(ending(2), false).unwrap();
        assert_eq!(exposure(&unfenced), Some(8 * 60), "until it expires, as far as anybody knows");
        let later = NOW.plus(Ttl::from_mins(3));
        assert_eq!(exposure(&unfenced.fence(later).unwrap()), Some(60));

        let only_time = sample::active(2, RevocationClass::ExpiryOnly, NOW);
        assert_eq!(exposure(&only_time.clone().begin_ending(ending(4), false).unwrap()), Some(6 * 60));
        let over = only_time.expires_at.plus(Ttl::from_mins(1));
        assert_eq!(exposure(&only_time.expire(over).unwrap()), Some(0), "it ended when it was meant to");

        let hard = sample::active(3, RevocationClass::Hard, NOW).begin_ending(ending(2), false).unwrap();
        assert_eq!(exposure(&hard.confirm(NOW.plus(Ttl::from_secs(125))).unwrap()), Some(5));
    }
}
