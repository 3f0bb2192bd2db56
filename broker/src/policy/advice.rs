//! Policies that say what they mean, and mean more than whoever wrote them thought.
//!
//! Each finding says why, and what to write instead. None keeps a bundle from being loaded: a team can have its reasons,
//! and then writes `@accepts("<code>")` on the policy. What is looked at is what the condition holds in every way in which
//! it can hold, so that a check in one branch of an `||` counts for that branch alone.

mod facts;
mod forbids;
mod known;
mod permit;
mod refs;
mod scope;
#[cfg(test)]
mod tests;

use cedar_policy::{Effect, EntityUid, PrincipalConstraint, ResourceConstraint};
use hallpass_core::catalog::{Catalog, EnvironmentClass};
use hallpass_core::id::RoleName;
use hallpass_core::identity::PrincipalKind;
use serde_json::Value;

use self::facts::{Fact, Of, Says, all, holds, tags};
use self::forbids::{Feared, says_event};
use self::known::{NAMES, SHARED_AUDIENCES, UNMERGED, dangerous, effective, is_shared, says};
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
    let is_forbid = |(rule, _): &&(&Rule, Value)| rule.policy.effect() == Effect::Forbid;
    let forbids = exported.iter().filter(is_forbid).cloned().collect();
    let bundle = Bundle { rules: &exported, forbids, catalog, issuers };
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
    forbids: Vec<(&'a Rule, Value)>,
    catalog: &'a Catalog,
    issuers: &'a [Issuer],
}

impl Bundle<'_> {
    fn advise(&self, rule: &Rule, condition: &Value) -> Vec<Finding> {
        let facts = all(condition);
        let mut found = types(condition);
        let opens = opening(&rule.policy).next().is_some();
        if rule.policy.effect() == Effect::Permit {
            let issuers = self.concerned(rule, condition);
            let production = opens && self.reaches_production(rule, condition);
            let looked = Looked { bundle: self, rule, condition, facts, issuers, opens, production };
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
        let kind = match rule.policy.principal_constraint() {
            PrincipalConstraint::Eq(uid) => Some(uid.type_name().to_string()),
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => Some(kind.to_string()),
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => None,
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
            // Whoever signs for jobs, or for anybody, does so whatever they are called here.
            let looked_at = issuer.principal == PrincipalKind::Workload
                || is_shared(issuer)
                || matches!(issuer.kind, IssuerKind::GithubActions | IssuerKind::Gitlab);
            looked_at
                && kind.as_deref().is_none_or(|kind| kind == principal_type(issuer.principal))
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
        let reached = |issuer: &&&Issuer| {
            let named = looked.facts.iter().filter(|fact| says_event(issuer, fact) && fact.positive);
            let named = named.filter_map(|fact| match &fact.says {
                Says::Is(values) => Some(values.iter().map(String::as_str)),
                _ => None,
            });
            let mut feared: Vec<&str> = named.flatten().filter(|event| UNMERGED.contains(event)).collect();
            feared.extend(dangerous(effective(issuer)));
            // The ref of a pull request is none that a permit of a branch would name, and never protected.
            let of_branch = |fact: &Fact| {
                let is_branch = |value: &String| !value.starts_with("refs/pull/");
                let named = fact.is_of_claim("ref") && fact.is_exact();
                fact.is_of_claim("ref_protected") && fact.is_true()
                    || named && matches!(&fact.says, Says::Is(values) if values.iter().all(is_branch))
            };
            if effective(issuer) == IssuerKind::GithubActions && !looked.holds(of_branch) {
                feared.push("pull_request");
            }
            let ruled_out = |event: &str| {
                looked.holds(|fact| {
                    let others = matches!(&fact.says, Says::Is(values) if !values.iter().any(|value| value == event));
                    says_event(issuer, fact) && fact.positive && others
                })
            };
            let forbidden = |event| self.forbids(looked.asked(issuer, Feared::Event(event)));
            feared.into_iter().any(|event| !ruled_out(event) && !forbidden(event))
        };
        let mut tells = looked.issuers.iter().filter(|issuer| looked.production && says(issuer, "event"));
        let why = "lets the jobs of pull and merge requests reach production: pull_request_target and workflow_run come \
                   with the base branch's ref, and whoever can open a request starts them; compare `event` with those that \
                   may, such as context.provenance has event && context.provenance.event == \"push\", or forbid those \
                   events for production as a whole, each of them";
        tells.find(reached).map(|_| ("pull-requests", why.to_owned()))
    }

    fn audience(&self, looked: &Looked<'_>) -> Option<(&'static str, String)> {
        let asked = looked.holds(|fact| {
            fact.of == Of::Principal && fact.name == "multi_audience" && fact.says == Says::True && !fact.positive
        });
        let accepted = |issuer: &&Issuer| !self.forbids(looked.asked(issuer, Feared::Shared));
        let why = "accepts proofs that also name other audiences, each of which could have sent it on; add \
                   !principal.multi_audience, or forbid it for every role: forbid (principal, action in [Action::\"mint\", \
                   Action::\"delegate\"], resource is Role) when { principal.multi_audience };";
        let found = looked.production && !asked && looked.issuers.iter().any(accepted);
        found.then(|| ("audience", why.to_owned()))
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
    let ids = |id: &str| facts.iter().any(|fact| fact.is_of_claim(id) && fact.is_exact());
    let names =
        NAMES.iter().filter(|(name, id)| !ids(id) && facts.iter().any(|fact| fact.is_of_claim(name) && fact.binds()));
    let finding = |(name, id): &(&str, &str)| {
        ("names", format!("stops whoever has this `{name}`, until they have another; name its `{id}`"))
    };
    names.map(finding).collect()
}

/// The type of the principals of an issuer, in policy.
fn principal_type(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::Workload => "Workload",
        PrincipalKind::Operator => "Operator",
        PrincipalKind::Agent => "Agent",
    }
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
