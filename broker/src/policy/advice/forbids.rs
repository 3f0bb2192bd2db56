//! What the forbids of a bundle stop, of what one of its permits allows.
//!
//! A forbid that mentions an event may be about another class of environments, or let that very event through. So it is asked
//! whether it holds whenever the permit does and what is feared is the case, by all that is known of such a request.

use cedar_policy::{PrincipalConstraint, ResourceConstraint};
use hallpass_core::catalog::EnvironmentClass;
use serde_json::Value;

use super::facts::{Fact, Of, Says, holds, truth};
use super::known::effective;
use super::{Bundle, principal_type};
use crate::config::issuer::{Issuer, IssuerKind};
use crate::policy::claims::RECORDS;
use crate::policy::lint::{bears_on, opening};
use crate::policy::source::Rule;

/// A request that a permit would allow, as far as it is known.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// What allows it.
    pub(super) permit: &'a Rule,
    /// The condition of that.
    pub(super) condition: &'a Value,
    /// Who signed for whoever asks.
    pub(super) issuer: &'a Issuer,
    /// Whether it is about a role of production.
    pub(super) production: bool,
    /// What is feared of it.
    pub(super) feared: Feared<'a>,
}

/// What a request may be that nobody wants.
#[derive(Clone, Copy)]
pub(super) enum Feared<'a> {
    /// Of a job that this event started.
    Event(&'a str),
    /// By a proof that names other audiences as well.
    Shared,
    /// Of a ref that nothing protects.
    Unprotected,
}

impl Bundle<'_> {
    /// Whether some forbid certainly stops it.
    pub(super) fn forbids(&self, asked: Asked<'_>) -> bool {
        let stops = |(forbid, condition): &(&Rule, Value)| {
            opening(&asked.permit.policy).all(|action| bears_on(&forbid.policy, action))
                && covers(forbid, asked.permit, asked.issuer)
                && truth(condition, &|fact| self.knows(asked, fact)) == Some(true)
        };
        self.forbids.iter().any(stops)
    }

    /// Whether what `fact` compares is so, whatever it says of it.
    fn knows(&self, asked: Asked<'_>, fact: &Fact) -> Option<bool> {
        of_issuer(asked.issuer, fact)
            .or_else(|| self.of_production(fact).filter(|_| asked.production))
            .or_else(|| of_what_is_feared(asked, fact))
            .or_else(|| of_permit(asked.condition, fact))
    }

    fn of_production(&self, fact: &Fact) -> Option<bool> {
        if fact.of != Of::Resource {
            return None;
        }
        match (fact.name.as_str(), &fact.says) {
            ("environment" | "environment_class", Says::There) => Some(true),
            ("environment_class", Says::Is(values)) => {
                Some(values.iter().any(|value| value == EnvironmentClass::Production.as_str()))
            }
            ("environment", Says::Is(values)) => {
                let of_class = |class| move |(_, class_of): &(&str, EnvironmentClass)| *class_of == class;
                let environments = self.catalog.environments.iter();
                let environments = environments.map(|(name, environment)| (name.as_str(), environment.class));
                let mut production = environments.filter(of_class(EnvironmentClass::Production));
                production.all(|(name, _)| values.iter().any(|value| value == name)).then_some(true)
            }
            _ => None,
        }
    }
}

fn of_issuer(issuer: &Issuer, fact: &Fact) -> Option<bool> {
    if fact.of != Of::Principal {
        return None;
    }
    match (fact.name.as_str(), &fact.says) {
        ("issuer", Says::Is(values)) => Some(values.iter().any(|value| value == issuer.name.as_str())),
        ("kind", Says::Is(values)) => Some(values.iter().any(|value| value == issuer.kind.as_str())),
        ("", Says::Is(values)) => {
            let mut issuers = values.iter().map(|value| value.strip_prefix("Issuer::"));
            if issuers.clone().any(|named| named == Some(issuer.name.as_str())) {
                Some(true)
            } else {
                issuers.all(|named| named.is_some()).then_some(false)
            }
        }
        (record, Says::There) => {
            let (kind, ..) = RECORDS.iter().find(|(_, name, _)| *name == record)?;
            Some(*kind == issuer.kind.as_str())
        }
        _ => None,
    }
}

fn of_what_is_feared(asked: Asked<'_>, fact: &Fact) -> Option<bool> {
    match asked.feared {
        Feared::Event(event) if says_event(asked.issuer, fact) => match &fact.says {
            Says::Is(values) => Some(values.iter().any(|value| value == event)),
            Says::There => Some(true),
            Says::Like(_) | Says::True => None,
        },
        Feared::Event(event) => {
            let numbered = ["pull_request", "merge_request_event", "external_pull_request_event"].contains(&event);
            (numbered && fact.is_of_claim("pull_request") && fact.says == Says::There).then_some(true)
        }
        Feared::Shared => {
            let asks = fact.of == Of::Principal && fact.name == "multi_audience" && fact.says == Says::True;
            asks.then_some(true)
        }
        Feared::Unprotected if fact.is_of_claim("ref_protected") => match &fact.says {
            Says::There => Some(true),
            Says::True => Some(false),
            Says::Is(_) | Says::Like(_) => None,
        },
        Feared::Unprotected => None,
    }
}

/// What a permit says in every way in which it can hold.
fn of_permit(condition: &Value, fact: &Fact) -> Option<bool> {
    // Of lists, several texts can be any of them, or all.
    if matches!(&fact.says, Says::Is(values) if values.len() != 1) {
        return None;
    }
    let is_claim = |of: Of| matches!(of, Of::Claim | Of::Tag);
    let same = |other: &Fact| {
        let same_place = other.of == fact.of || (is_claim(other.of) && is_claim(fact.of));
        same_place && other.name == fact.name && other.says == fact.says
    };
    [true, false].into_iter().find(|is| holds(condition, &|other| same(other) && other.positive == *is))
}

/// Whether a fact is about what started a job of an issuer.
pub(super) fn says_event(issuer: &Issuer, fact: &Fact) -> bool {
    let claim = match effective(issuer) {
        IssuerKind::GithubActions => "event_name",
        IssuerKind::Gitlab => "pipeline_source",
        _ => issuer.provenance.get("event").map_or("", String::as_str),
    };
    (fact.of == Of::Claim && fact.name == "event") || (!claim.is_empty() && fact.is_of_claim(claim))
}

/// Whether a forbid is about everything that a permit allows to those of an issuer, as far as their scopes tell.
fn covers(forbid: &Rule, permit: &Rule, issuer: &Issuer) -> bool {
    let constraint = forbid.policy.principal_constraint();
    let of_issuer = |uid: &cedar_policy::EntityUid| {
        uid.type_name().to_string() == "Issuer" && uid.id().unescaped() == issuer.name.as_str()
    };
    let principals = match &constraint {
        PrincipalConstraint::Any => true,
        PrincipalConstraint::Is(kind) => kind.to_string() == principal_type(issuer.principal),
        PrincipalConstraint::In(uid) if of_issuer(uid) => true,
        PrincipalConstraint::IsIn(kind, uid) if of_issuer(uid) => kind.to_string() == principal_type(issuer.principal),
        named => *named == permit.policy.principal_constraint(),
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
