//! Policies that say what they mean, and mean more than whoever wrote them thought.
//!
//! Each finding says why, and what to write instead. None keeps a bundle from being loaded: a team can have its reasons,
//! and then writes `@accepts("<code>")` on the policy. What is looked at is what the condition holds in every way in which
//! it can hold, so that a check in one branch of an `||` counts for that branch alone.

mod facts;
mod known;
mod permit;
#[cfg(test)]
mod tests;

use cedar_policy::{Effect, EntityUid, PrincipalConstraint, ResourceConstraint};
use hallpass_core::catalog::{Catalog, EnvironmentClass};
use hallpass_core::id::RoleName;
use hallpass_core::identity::PrincipalKind;
use serde_json::Value;

use self::facts::{Fact, Of, Says, all, holds, tags};
use self::known::{EVENTS, NAMES, SHARED_AUDIENCES, UNMERGED, says};
use self::permit::Looked;
use super::claims::Claims;
use super::lint::{bears_on, opening};
use super::remainder::condition;
use super::source::Rule;
use crate::config::Finding;
use crate::config::issuer::{Issuer, IssuerKind};

/// What a finding is about, as `@accepts` names it.
pub(crate) const CODES: &[&str] = &[
    "names",
    "subject",
    "audience",
    "wildcard",
    "pull-requests",
    "scope",
    "tenant",
    "types",
    "unprotected-ref",
    "head-ref",
    "self-hosted",
    "fork",
    "denylist",
    "delegate",
];
/// Everything to say of the policies of a bundle, and of the issuers that they trust.
pub(crate) fn advise(rules: &[Rule], catalog: &Catalog, issuers: &[Issuer]) -> Vec<Finding> {
    let exported: Vec<_> =
        rules.iter().filter_map(|rule| Some((rule, condition(&rule.policy.to_json().ok()?)))).collect();
    let bundle = Bundle { rules: &exported, catalog, issuers };
    let of_policies = exported.iter().flat_map(|(rule, condition)| bundle.advise(rule, condition));
    let mut findings: Vec<_> = issuers.iter().flat_map(shared_audiences).chain(of_policies).collect();
    findings.sort();
    findings
}

/// An audience that others use as well.
fn shared_audiences(issuer: &Issuer) -> Vec<Finding> {
    let is_shared = |audience: &&String| {
        SHARED_AUDIENCES.contains(&audience.as_str())
            || audience.contains("iam.googleapis.com")
            || (issuer.kind == IssuerKind::GithubActions && audience.starts_with("https://github.com/"))
    };
    let finding = |audience: &String| Finding {
        file: "issuers.toml".into(),
        line: None,
        reason: format!(
            "issuer {:?}: [audience] {audience:?} is what proofs for another service name, and whoever has one of those \
             could show it here; write the broker's own address, and have jobs ask for that",
            issuer.name.as_str()
        ),
    };
    issuer.rules.audiences.iter().filter(is_shared).map(finding).collect()
}

struct Bundle<'a> {
    rules: &'a [(&'a Rule, Value)],
    catalog: &'a Catalog,
    issuers: &'a [Issuer],
}

impl Bundle<'_> {
    fn advise(&self, rule: &Rule, condition: &Value) -> Vec<Finding> {
        let facts = all(condition);
        let mut found = types(condition);
        let opens = opening(&rule.policy).next().is_some();
        if rule.policy.effect() == Effect::Permit && opens {
            let issuers = self.concerned(rule, condition);
            let production = self.reaches_production(rule, condition);
            let looked = Looked { rule, condition, facts, issuers, production };
            found.extend(looked.advise());
            found.extend(self.pull_requests(&looked));
            found.extend(self.audience(&looked));
        } else if rule.policy.effect() == Effect::Forbid && opens {
            found.extend(evaded(&facts));
            found.extend(self.does_not_bind_whoever_acts(rule, condition, &facts));
        }
        found.dedup();
        let accepted = |code: &str| rule.accepts.iter().any(|accepted| accepted == code);
        let found = found.into_iter().filter(|(code, _)| !accepted(code));
        found.map(|(code, reason)| rule.finding(format!("[{code}] {reason}"))).collect()
    }

    /// The issuers whose identities a permit can concern.
    fn concerned(&self, rule: &Rule, condition: &Value) -> Vec<&Issuer> {
        let named = match rule.policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                issuer_of(&uid)
            }
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        };
        let others = match rule.policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) => uid.type_name().to_string() != "Workload",
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => kind.to_string() != "Workload",
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => false,
        };
        let concerns = |issuer: &&Issuer| {
            let name = issuer.name.as_str();
            let another = |fact: &Fact| {
                fact.of == Of::Principal
                    && fact.positive
                    && match &fact.says {
                        Says::Is(values) if fact.name == "issuer" => !values.iter().any(|value| value == name),
                        Says::Is(values) if fact.name == "kind" => {
                            !values.iter().any(|value| value == issuer.kind.as_str())
                        }
                        Says::Is(values) if fact.name.is_empty() => {
                            values.iter().all(|value| value.strip_prefix("Issuer::").is_some_and(|named| named != name))
                        }
                        _ => false,
                    }
            };
            !others
                && issuer.principal == PrincipalKind::Workload
                && named.as_deref().is_none_or(|named| named == name)
                && !holds(condition, &another)
        };
        self.issuers.iter().filter(concerns).collect()
    }

    fn reaches_production(&self, rule: &Rule, condition: &Value) -> bool {
        let elsewhere = |fact: &Fact| {
            fact.of == Of::Resource
                && fact.name == "environment_class"
                && match &fact.says {
                    Says::Is(values) => fact.positive != values.iter().any(|value| value == "production"),
                    _ => false,
                }
        };
        let is_production = |role: &RoleName| {
            let role = self.catalog.roles.get(role);
            role.is_some_and(|role| self.catalog.environment_class(role) == Some(EnvironmentClass::Production))
        };
        let within = |uid: &EntityUid| {
            let id: &str = uid.id().unescaped();
            self.catalog.roles.keys().any(|role| {
                (role.as_str() == id || role.namespaces().any(|namespace| namespace == id)) && is_production(role)
            })
        };
        let reaches = match rule.policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => self.catalog.roles.keys().any(is_production),
            ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                within(&uid)
            }
        };
        reaches && !holds(condition, &elsewhere)
    }

    fn pull_requests(&self, looked: &Looked<'_>) -> Option<(&'static str, String)> {
        let names = |fact: &Fact| EVENTS.contains(&fact.name.as_str()) && matches!(fact.of, Of::Claim | Of::Tag);
        let unmerged = |fact: &Fact| match &fact.says {
            Says::Is(values) => values.iter().any(|value| UNMERGED.contains(&value.as_str())),
            _ => false,
        };
        let settled = |fact: &Fact| names(fact) && matches!(fact.says, Says::Is(_)) && fact.positive != unmerged(fact);
        let says_events = looked.issuers.iter().any(|issuer| says(issuer, "event"));
        if !looked.production || !says_events || holds(looked.condition, &settled) {
            return None;
        }
        let forbidden = self.forbids(looked.rule).any(|(forbid, condition)| {
            covers(forbid, looked.rule) && all(condition).iter().any(|fact| names(fact) && unmerged(fact))
        });
        let why = "lets the jobs of pull and merge requests reach production: pull_request_target and workflow_run come \
                   with the base branch's ref, and whoever can open a request starts them; compare `event` with those that \
                   may, such as context.provenance has event && context.provenance.event == \"push\", or forbid them for \
                   production as a whole";
        (!forbidden).then(|| ("pull-requests", why.to_owned()))
    }

    fn audience(&self, looked: &Looked<'_>) -> Option<(&'static str, String)> {
        let asks = |condition: &Value| {
            all(condition).iter().any(|fact| fact.of == Of::Principal && fact.name == "multi_audience")
        };
        if !looked.production || looked.issuers.is_empty() || asks(looked.condition) {
            return None;
        }
        let mut forbids = self.forbids(looked.rule);
        let forbidden = forbids.any(|(forbid, condition)| covers(forbid, looked.rule) && asks(condition));
        let why = "accepts proofs that also name other audiences, each of which could have sent it on; add \
                   !principal.multi_audience, or forbid it for every role: forbid (principal, action in [Action::\"mint\", \
                   Action::\"delegate\"], resource is Role) when { principal.multi_audience };";
        (!forbidden).then(|| ("audience", why.to_owned()))
    }

    /// The forbids of everything that a permit opens by.
    fn forbids(&self, permit: &Rule) -> impl Iterator<Item = (&Rule, &Value)> {
        let wanted: Vec<_> = opening(&permit.policy).collect();
        let forbids = self.rules.iter().filter(|(rule, _)| rule.policy.effect() == Effect::Forbid);
        forbids
            .filter(move |(rule, _)| wanted.iter().all(|action| bears_on(&rule.policy, action)))
            .map(|(rule, condition)| (*rule, condition))
    }

    /// A forbid of `mint` alone that looks at who asks: `mint` is asked of whoever a credential is for.
    fn does_not_bind_whoever_acts(
        &self,
        rule: &Rule,
        condition: &Value,
        facts: &[Fact],
    ) -> Option<(&'static str, String)> {
        let of_somebody = !matches!(rule.policy.principal_constraint(), PrincipalConstraint::Any)
            || facts.iter().any(|fact| matches!(fact.of, Of::Principal | Of::Claim | Of::Tag))
            || !tags(condition).is_empty();
        let somebody_acts = self
            .rules
            .iter()
            .any(|(permit, _)| permit.policy.effect() == Effect::Permit && bears_on(&permit.policy, "delegate"));
        let stands = of_somebody && somebody_acts && !bears_on(&rule.policy, "delegate");
        let why = "stops whoever a credential is for, and not whoever acts for them, of whom `delegate` is asked; write action \
                   in [Action::\"mint\", Action::\"delegate\"]";
        stands.then(|| ("delegate", why.to_owned()))
    }
}

/// An attribute that is read where those of another type are: it is not there, and the condition never holds.
fn types(condition: &Value) -> Vec<(&'static str, String)> {
    let Ok(claims) = Claims::published() else { return Vec::new() };
    let misread = |(collection, name): (&str, &str)| {
        let is = claims.misread(collection, name)?;
        let read = if collection.is_empty() { "principal".to_owned() } else { format!("principal.{collection}") };
        let instead =
            if is.collection.is_empty() { "principal".to_owned() } else { format!("principal.{}", is.collection) };
        let why = format!(
            "reads `{name}` as a tag of {read}, and it is {}: of an issuer whose kind is known there is no such tag, and what is \
             asked of it never holds; write {instead}.getTag({name:?}), or the field of the kind's record, such as \
             principal.gitlab.ref_protected",
            is.what
        );
        Some(("types", why))
    };
    tags(condition).into_iter().filter_map(misread).collect()
}

/// A forbid that whoever it is about can get out of by another name.
fn evaded(facts: &[Fact]) -> Vec<(&'static str, String)> {
    let ids = |id: &str| facts.iter().any(|fact| fact.is_of_claim(id) && fact.binds());
    let names =
        NAMES.iter().filter(|(name, id)| !ids(id) && facts.iter().any(|fact| fact.is_of_claim(name) && fact.binds()));
    let finding = |(name, id): &(&str, &str)| {
        ("names", format!("stops whoever has this `{name}`, until they have another; name its `{id}`"))
    };
    names.map(finding).collect()
}

/// Whether a forbid stands in the way of everything that a permit allows, as far as their scopes tell.
fn covers(forbid: &Rule, permit: &Rule) -> bool {
    let principals = match forbid.policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
        named => named == permit.policy.principal_constraint(),
    };
    let resources = match forbid.policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
        ResourceConstraint::In(within) | ResourceConstraint::IsIn(_, within) => {
            match permit.policy.resource_constraint() {
                ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                    let (inner, outer): (&str, &str) = (uid.id().unescaped(), within.id().unescaped());
                    inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
                }
                _ => false,
            }
        }
        named @ ResourceConstraint::Eq(_) => named == permit.policy.resource_constraint(),
    };
    principals && resources
}

/// The issuer that a principal of a scope belongs to, or is.
fn issuer_of(uid: &EntityUid) -> Option<String> {
    let id: &str = uid.id().unescaped();
    match uid.type_name().to_string().as_str() {
        "Issuer" => Some(id.to_owned()),
        "Workload" | "Operator" | "Agent" => id.split_once(':').map(|(issuer, _)| issuer.to_owned()),
        _ => None,
    }
}
