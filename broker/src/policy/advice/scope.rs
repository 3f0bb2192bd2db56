//! Whom a permit is about, and what: a permit of more than anybody thought of.

use cedar_policy::{ActionConstraint, PrincipalConstraint, ResourceConstraint};
use hallpass_core::identity::PrincipalKind;

use super::facts::{Fact, Of, Says, WILDCARD};
use super::known::{NAMES, OF_PEOPLE, PERSONAL, TENANTS, effective, ids, is_shared};
use super::permit::{Looked, takes_in_more};
use crate::config::issuer::{Issuer, IssuerKind};
use crate::policy::lint::bears_on;

/// What changes or ends what others have.
const GRAVE: &[&str] = &["renew", "revoke", "abandon", "suspend", "publish"];

/// What gives no credential and yet is not for everybody.
const GUARDED: &[&str] = &["renew", "revoke", "abandon", "suspend", "publish", "read", "introspect"];

impl Looked<'_> {
    /// Whether it gives something that is not for everybody.
    pub(super) fn gives_something(&self) -> bool {
        self.opens || GUARDED.iter().any(|action| bears_on(&self.rule.policy, action))
    }

    /// Whether it is about the members of a team alone, who do not ask as jobs of a branch.
    pub(super) fn is_of_a_team(&self) -> bool {
        let named = match self.rule.policy.principal_constraint() {
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => uid.type_name().to_string() == "Group",
            _ => false,
        };
        named || self.holds(is_by_team)
    }

    pub(super) fn scope(&self) -> Option<(&'static str, String)> {
        if self.opens { self.scope_of_roles() } else { self.scope_of_everybody() }
    }

    fn scope_of_roles(&self) -> Option<(&'static str, String)> {
        let anybody =
            matches!(self.rule.policy.principal_constraint(), PrincipalConstraint::Any | PrincipalConstraint::Is(_));
        let anything =
            matches!(self.rule.policy.resource_constraint(), ResourceConstraint::Any | ResourceConstraint::Is(_));
        let told =
            self.holds(|fact| fact.of == Of::Resource && fact.binds() && ["", "role"].contains(&fact.name.as_str()));
        let why = "has no scope: it is about every role, those to come included, and is evaluated for each request; write \
                   principal in Issuer::\"…\" and resource == Role::\"…\" or resource in Namespace::\"…\"";
        (anybody && anything && !told).then(|| ("scope", why.to_owned()))
    }

    /// Of what a team does with grants, roles and bundles. That all operators may is a decision; that every workload may,
    /// an oversight.
    fn scope_of_everybody(&self) -> Option<(&'static str, String)> {
        let anybody = match self.rule.policy.principal_constraint() {
            PrincipalConstraint::Any => true,
            PrincipalConstraint::Is(kind) => kind.to_string() != "Operator",
            _ => false,
        };
        let (anything, of_grants) = match self.rule.policy.resource_constraint() {
            ResourceConstraint::Any => (true, true),
            ResourceConstraint::Is(kind) => (true, ["Grant", "AuditLog"].contains(&kind.to_string().as_str())),
            ResourceConstraint::Eq(uid) => {
                let kind = uid.type_name().to_string();
                (["AuditLog", "Broker", "Bundle"].contains(&kind.as_str()), kind == "AuditLog")
            }
            ResourceConstraint::In(_) | ResourceConstraint::IsIn(..) => (false, false),
        };
        let does = |action: &&str| bears_on(&self.rule.policy, action);
        let matters = GRAVE.iter().any(does) || (of_grants && does(&"read"));
        let told = self.holds(|fact| {
            let who = matches!(fact.of, Of::Principal | Of::Claim | Of::Tag);
            is_by_team(fact) || (fact.binds() && (who || fact.of == Of::Resource))
        });
        let why = "has no scope: everybody whom any issuer signs for may do this, to what others have and to what is to \
                   come; write principal in Group::\"…\", or when { context.owner_member } or { context.holder }";
        (anybody && anything && matters && !told).then(|| ("scope", why.to_owned()))
    }

    pub(super) fn action(&self) -> Option<(&'static str, String)> {
        let any = matches!(self.rule.policy.action_constraint(), ActionConstraint::Any);
        let why = "allows every action, those of later versions included; write action in [Action::\"mint\", \
                   Action::\"preview\"]";
        any.then(|| ("scope", why.to_owned()))
    }

    pub(super) fn tenant(&self) -> Option<(&'static str, String)> {
        let narrowed = match self.rule.policy.principal_constraint() {
            PrincipalConstraint::Eq(_) => true,
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => uid.type_name().to_string() != "Issuer",
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => false,
        };
        let is_open = |issuer: &&&Issuer| is_shared(issuer) && !self.holds(|fact| tells_tenant(fact, issuer));
        let open = self.issuers.iter().filter(|_| !narrowed).find(is_open)?;
        let why = format!(
            "is open to everybody at {}, which signs for anybody who has an account there, and in whose tokens anybody \
             chooses branches, environments and events; bind it to {}",
            open.url,
            ids(effective(open)).unwrap_or("what tells your workloads from those of others"),
        );
        Some(("tenant", why))
    }
}

/// Whether a fact tells one tenant of an issuer from the others.
fn tells_tenant(fact: &Fact, issuer: &Issuer) -> bool {
    if is_by_team(fact) {
        return true;
    }
    let name = fact.name.as_str();
    let people =
        issuer.principal == PrincipalKind::Operator && matches!(issuer.kind, IssuerKind::Oidc | IssuerKind::Google);
    let of_people = people && (OF_PEOPLE.contains(&name) || PERSONAL.contains(&name));
    let is_name = NAMES.iter().any(|(known, _)| *known == name) && !PERSONAL.contains(&name);
    let claim = matches!(fact.of, Of::Claim | Of::Tag);
    let itself = fact.of == Of::Principal && ["subject", "via_role", ""].contains(&name);
    match &fact.says {
        Says::Is(values) if fact.positive => {
            let of_issuer = values.iter().any(|value| value.starts_with("Issuer::"));
            (claim && (of_people || is_name || TENANTS.contains(&name))) || (itself && !of_issuer)
        }
        Says::Like(pattern) if fact.positive => {
            // An owner's name, with anything after it: `acme/*`, `repo:acme/*`.
            let before = pattern.split(WILDCARD).next().unwrap_or_default();
            let parts = before.split(['/', ':']).filter(|part| !part.is_empty()).count();
            let enough = (claim && is_name && parts >= 1) || (itself && parts >= 2);
            enough && !takes_in_more(pattern, false)
        }
        _ => false,
    }
}

/// Whether a fact says that whoever asks belongs to the team, or has the grant.
fn is_by_team(fact: &Fact) -> bool {
    fact.of == Of::Context && ["owner_member", "holder"].contains(&fact.name.as_str()) && fact.is_true()
}
