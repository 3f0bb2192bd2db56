//! Policy tests: `[[test]]` of `tests/*.toml`, an identity, a request and the expected decision.

use std::net::IpAddr;
use std::path::PathBuf;

use hallpass_core::attestation::{Build, ChangeReview};
use hallpass_core::catalog::Catalog;
use hallpass_core::id::{GrantId, IssuerName, OwnerName, PolicyId, RoleName};
use hallpass_core::identity::{Attributes, PrincipalKind};
use hallpass_core::policy::{Action, Outcome, Party, PolicyQuery, Principal, QueryContext, Resource};
use hallpass_core::port::PolicyEngine;
use hallpass_core::provenance::Provenance;
use hallpass_core::time::{Timestamp, Ttl};
use serde::Deserialize;

use super::{Backend, Issuer, SpiffeIssuer, role_facts};
use crate::config::Finding;
use crate::config::document::{Document, Duration, Instant};
use crate::config::issuer::spiffe::KIND;

/// A question to policy with the answer that it must give.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// What it shows.
    pub name: String,
    /// The question.
    pub query: PolicyQuery,
    /// The answer.
    pub expect: Outcome,
    /// Exactly these policies must determine it.
    pub determining: Option<Vec<PolicyId>>,
    /// This must be the strictest `@max_ttl`.
    pub max_ttl: Option<Ttl>,
    file: PathBuf,
    line: usize,
}

/// What tests can name.
pub(super) struct Scene<'a> {
    pub(super) issuers: &'a [Issuer],
    pub(super) trust_domains: &'a [SpiffeIssuer],
    pub(super) backends: &'a [Backend],
    pub(super) catalog: &'a Catalog,
}

impl Scene<'_> {
    /// What the identities of an issuer are, and its kind.
    fn signer(&self, name: &IssuerName) -> Option<(PrincipalKind, &'static str)> {
        let issuer = self.issuers.iter().find(|issuer| issuer.name == *name);
        let domain = || self.trust_domains.iter().find(|domain| domain.name == *name);
        issuer
            .map(|issuer| (issuer.principal, issuer.kind.as_str()))
            .or_else(|| domain().map(|domain| (domain.principal, KIND)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    name: String,
    identity: RawIdentity,
    request: RawRequest,
    expect: Outcome,
    determining: Option<Vec<PolicyId>>,
    max_ttl: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIdentity {
    issuer: IssuerName,
    subject: String,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    provenance: Provenance,
    /// Instead of the owners that the subject is a member of.
    groups: Option<Vec<OwnerName>>,
    #[serde(default)]
    multi_audience: bool,
    via_role: Option<RoleName>,
    source_ip: Option<IpAddr>,
    binding: Option<String>,
    /// Who acts for it, the one who asks first; of `delegate`, it is one of them.
    #[serde(default)]
    actors: Vec<Party>,
    /// Whom it acts for.
    on_behalf_of: Option<Party>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequest {
    role: Option<RoleName>,
    #[serde(default = "mint")]
    action: Action,
    /// What is asked about, where the action can be about several things.
    on: Option<On>,
    owner: Option<OwnerName>,
    purpose: Option<String>,
    ticket: Option<String>,
    task: Option<String>,
    ttl: Option<Duration>,
    #[serde(default)]
    scope: Vec<String>,
    #[serde(default)]
    holder: bool,
    time: Option<Instant>,
    /// What signed statements with the request say.
    build: Option<Build>,
    change: Option<ChangeReview>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum On {
    Role,
    Grant,
    Owner,
    AuditLog,
    Broker,
    Bundle,
}

fn mint() -> Action {
    Action::Mint
}

/// When a test that names no time takes place: noon UTC of Thursday, 1 January 2026, on every machine and every day.
pub(in crate::config) const STANDARD_TIME: Timestamp = Timestamp::from_secs(1_767_268_800);

/// The tests of one file. Names are judged only when the rest of the bundle is `complete`.
pub(super) fn read(
    document: &Document<'_>,
    scene: &Scene<'_>,
    complete: bool,
    findings: &mut Vec<Finding>,
) -> Vec<PolicyTest> {
    let mut tests = Vec::new();
    for entry in document.entries("test", findings) {
        let Some(raw) = entry.read::<RawTest>(findings) else { continue };
        match test(&entry, raw, scene) {
            Ok(test) => tests.push(test),
            Err(finding) if complete => findings.push(finding),
            Err(_) => {}
        }
    }
    tests
}

fn test(entry: &Document<'_>, raw: RawTest, scene: &Scene<'_>) -> Result<PolicyTest, Finding> {
    let RawTest { name, identity, request, expect, determining, max_ttl } = raw;
    let (kind, issuer_kind) = scene.signer(&identity.issuer).ok_or_else(|| {
        entry.finding("identity.issuer", format!("{:?} is no issuer of issuers.toml", identity.issuer.as_str()))
    })?;
    let groups = identity
        .groups
        .unwrap_or_else(|| scene.catalog.owners_of(&identity.issuer, &identity.subject).cloned().collect::<Vec<_>>());
    let resource = resource(entry, &request, scene)?;
    let role = request.role.as_ref().and_then(|name| scene.catalog.roles.get(name));
    let query = PolicyQuery {
        context: QueryContext {
            time: request.time.map_or(STANDARD_TIME, |Instant(at)| at),
            purpose: request.purpose.or_else(|| role.and_then(|role| role.purpose.default.clone())),
            ticket: request.ticket,
            task: request.task,
            ttl: request.ttl.map(|Duration(ttl)| ttl).or_else(|| role.map(|role| role.ttl.default)),
            scope: request.scope,
            provenance: identity.provenance,
            source_ip: identity.source_ip,
            binding: identity.binding.unwrap_or_else(|| "bearer".to_owned()),
            exception: None,
            approvals: Vec::new(),
            holder: request.holder,
            owner_member: role.is_some_and(|role| groups.contains(&role.owner)),
            actor_chain: identity.actors,
            on_behalf_of: identity.on_behalf_of,
            build: request.build,
            change: request.change,
        },
        principal: Principal {
            kind,
            issuer: identity.issuer,
            issuer_kind: issuer_kind.to_owned(),
            subject: identity.subject,
            groups,
            attributes: identity.attributes,
            multi_audience: identity.multi_audience,
            via_role: identity.via_role,
        },
        action: request.action,
        resource,
    };
    let max_ttl = max_ttl.map(|Duration(ttl)| ttl);
    let (file, line) = (entry.file().to_owned(), entry.first_line());
    Ok(PolicyTest { name, query, expect, determining, max_ttl, file, line })
}

fn resource(entry: &Document<'_>, request: &RawRequest, scene: &Scene<'_>) -> Result<Resource, Finding> {
    let standard = match request.action {
        Action::Mint | Action::Delegate | Action::Preview | Action::Suspend => On::Role,
        Action::Renew | Action::Revoke | Action::Abandon | Action::Read | Action::Introspect => On::Grant,
        Action::Publish => On::Bundle,
    };
    let facts = || {
        let name = request.role.as_ref().ok_or_else(|| entry.finding("request.role", "is missing"))?;
        role_facts(scene.catalog, scene.backends, name)
            .ok_or_else(|| entry.finding("request.role", format!("there is no role {:?}", name.as_str())))
    };
    match request.on.unwrap_or(standard) {
        On::Role => facts().map(Resource::Role),
        On::Grant => facts().map(|role| Resource::Grant { id: GrantId::from(uuid::Uuid::nil()), role }),
        On::Owner => match &request.owner {
            Some(name) if scene.catalog.owners.contains_key(name) => Ok(Resource::Owner { name: name.clone() }),
            Some(name) => Err(entry.finding("request.owner", format!("there is no owner {:?}", name.as_str()))),
            None => Err(entry.finding("request.owner", "is missing")),
        },
        On::AuditLog => Ok(Resource::AuditLog),
        On::Broker => Ok(Resource::Broker),
        On::Bundle => Ok(Resource::Bundle),
    }
}

impl PolicyTest {
    /// Whether it asks to mint `role`.
    pub(super) fn mints(&self, role: &RoleName) -> bool {
        self.query.action == Action::Mint
            && matches!(&self.query.resource, Resource::Role(facts) if &facts.name == role)
    }

    /// Asks `engine`.
    ///
    /// # Errors
    /// How the answer differs, at the test's place.
    pub fn run(&self, engine: &dyn PolicyEngine) -> Result<(), Finding> {
        self.compare(engine).map_err(|difference| Finding {
            file: self.file.clone(),
            line: Some(self.line),
            reason: format!("policy test {:?}: {difference}", self.name),
        })
    }

    fn compare(&self, engine: &dyn PolicyEngine) -> Result<(), String> {
        let verdict = engine.decide(&self.query).map_err(|error| error.to_string())?;
        let ids = |ids: &[PolicyId]| match ids {
            [] => "no policy".to_owned(),
            ids => ids.iter().map(PolicyId::as_str).collect::<Vec<_>>().join(", "),
        };
        if verdict.outcome != self.expect {
            let word = |outcome| if outcome == Outcome::Allow { "allow" } else { "deny" };
            let by = ids(&verdict.determining);
            return Err(format!("expected {}, and it is {} by {by}", word(self.expect), word(verdict.outcome)));
        }
        let expected = self.determining.as_ref().map(|expected| {
            let mut expected = expected.clone();
            expected.sort();
            expected
        });
        if let Some(expected) = expected.filter(|expected| *expected != verdict.determining) {
            return Err(format!(
                "expected to be decided by {}, and it is by {}",
                ids(&expected),
                ids(&verdict.determining)
            ));
        }
        let max_ttl = verdict.obligations.max_ttl;
        if self.max_ttl.is_some() && self.max_ttl != max_ttl {
            let shown = |ttl: Option<Ttl>| ttl.map_or_else(|| "none".to_owned(), |ttl| ttl.to_string());
            return Err(format!("expected @max_ttl {}, and it is {}", shown(self.max_ttl), shown(max_ttl)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_time_is_noon_on_a_thursday() {
        assert_eq!(STANDARD_TIME.to_rfc3339(), "2026-01-01T12:00:00Z");
    }
}
