//! What there is to say of one permit by itself.

use cedar_policy::PrincipalConstraint;
use serde_json::Value;

use super::Bundle;
use super::facts::{Fact, Of, Says, WILDCARD, holds};
use super::forbids::{Asked, Feared};
use super::known::{EVENTS, NAMES, STRUCTURED, effective, ids, is_id};
use crate::config::issuer::Issuer;
use crate::policy::source::Rule;

/// One policy, with what is known of it.
pub(super) struct Looked<'a> {
    pub(super) bundle: &'a Bundle<'a>,
    pub(super) rule: &'a Rule,
    pub(super) condition: &'a Value,
    pub(super) facts: Vec<Fact>,
    pub(super) issuers: Vec<&'a Issuer>,
    /// Whether it is about getting credentials.
    pub(super) opens: bool,
    /// Whether it is about getting those of production.
    pub(super) production: bool,
}

impl Looked<'_> {
    /// Everything to say of it.
    pub(super) fn advise(&self) -> Vec<(&'static str, String)> {
        // A preview gives nothing, and shows a caller only its own decision.
        if !self.gives_something() {
            return Vec::new();
        }
        let of_claims = [self.names(), self.subject(), self.wildcards(), self.denylist()].into_iter().flatten();
        let of_whole = [
            self.scope(),
            self.action(),
            self.tenant(),
            self.unprotected_ref(),
            self.branch_of_a_fork(),
            self.head_ref(),
            self.self_hosted(),
            self.fork(),
        ];
        of_claims.chain(of_whole.into_iter().flatten()).collect()
    }

    /// Whether every way in which it can hold has such a fact.
    pub(super) fn holds(&self, wanted: impl Fn(&Fact) -> bool) -> bool {
        holds(self.condition, &wanted)
    }

    /// A request of an issuer's that it would allow, and that nobody wants.
    pub(super) fn asked<'b>(&'b self, issuer: &'b Issuer, feared: Feared<'b>) -> Asked<'b> {
        Asked { permit: self.rule, condition: self.condition, issuer, production: self.production, feared }
    }

    /// Whether it holds that a claim is one of some texts, each written out.
    fn bound_to(&self, claim: &str) -> bool {
        self.holds(|fact| fact.is_of_claim(claim) && fact.is_exact())
    }

    fn is_true(&self, claim: &str) -> bool {
        self.holds(|fact| fact.is_of_claim(claim) && fact.is_true())
    }

    fn names(&self) -> Vec<(&'static str, String)> {
        let bound = |name: &str| self.facts.iter().any(|fact| fact.is_of_claim(name) && fact.binds());
        let loose = NAMES.iter().filter(|(name, id)| bound(name) && !self.bound_to(id));
        let finding = |(name, id): &(&str, &str)| {
            let why = format!(
                "is bound to `{name}`, which can be changed, and after that be somebody else's; bind it to `{id}`, which is \
                 never given to another, and keep the name in @description"
            );
            ("names", why)
        };
        loose.map(finding).collect()
    }

    fn subject(&self) -> Vec<(&'static str, String)> {
        let of_scope = matches!(self.rule.policy.principal_constraint(), PrincipalConstraint::Eq(_));
        let of_condition = self.facts.iter().any(|fact| {
            let itself =
                matches!(&fact.says, Says::Is(values) if values.iter().any(|value| value.starts_with("Workload::")));
            let subject = (fact.of == Of::Principal && fact.name == "subject") || fact.is_of_claim("sub");
            fact.binds() && (subject || (fact.of == Of::Principal && fact.name.is_empty() && itself))
        });
        let instead = self.issuers.iter().find_map(|issuer| ids(effective(issuer)));
        let finding = |instead| {
            let why = format!(
                "is bound to the subject, which this issuer makes of names and which its users can have made of others; bind \
                 it to {instead}"
            );
            ("subject", why)
        };
        instead.filter(|_| of_scope || of_condition).map(finding).into_iter().collect()
    }

    fn wildcards(&self) -> Vec<(&'static str, String)> {
        let of_claim = |fact: &Fact| matches!(fact.of, Of::Claim | Of::Tag);
        let structured = |fact: &&Fact| {
            let named = NAMES.iter().any(|(name, _)| *name == fact.name) || STRUCTURED.contains(&fact.name.as_str());
            fact.positive && named && (of_claim(fact) || fact.of == Of::Principal)
        };
        let risky = |fact: &&Fact| match &fact.says {
            Says::Like(pattern) => takes_in_more(pattern, fact.name == "ref" && self.is_true("ref_protected")),
            _ => false,
        };
        let finding = |fact: &Fact| {
            let Says::Like(pattern) = &fact.says else { return ("wildcard", String::new()) };
            let shown = pattern.replace(WILDCARD, "*");
            let why = format!(
                "`{}` like {shown:?} takes in more than it shows: `*` also stands for `/`, `@`, `:` and for the rest of a \
                 name, so that {:?} fits; write the values that may as a set, or let the `*` stand alone after a separator \
                 at the end",
                fact.name,
                pattern.replace(WILDCARD, "-evil/x@y:z"),
            );
            ("wildcard", why)
        };
        let of_id =
            |fact: &&Fact| fact.positive && of_claim(fact) && is_id(&fact.name) && matches!(fact.says, Says::Like(_));
        let of_ids = self.facts.iter().filter(of_id).map(|fact| {
            let why = format!(
                "compares the id `{}` with a pattern, which also fits ids that others have by now or will be given: they \
                 are counted up, and say nothing of whose they are; write the ids that may out, with == or as a set",
                fact.name
            );
            ("wildcard", why)
        });
        let of_names = self.facts.iter().filter(structured).filter(|fact| !of_id(fact)).filter(risky).map(finding);
        of_names.chain(of_ids).collect()
    }

    fn denylist(&self) -> Vec<(&'static str, String)> {
        let identifies = |fact: &&Fact| {
            let known = NAMES.iter().any(|(name, id)| *name == fact.name || *id == fact.name)
                || STRUCTURED.contains(&fact.name.as_str())
                || EVENTS.contains(&fact.name.as_str());
            known && matches!(fact.of, Of::Claim | Of::Tag | Of::Principal)
        };
        let denied = |fact: &&Fact| match &fact.says {
            Says::Is(values) if EVENTS.contains(&fact.name.as_str()) => {
                !fact.positive
                    && !values.iter().any(|value| value == "pull_request_target" || value == "merge_request_event")
            }
            Says::Is(_) | Says::Like(_) => !fact.positive,
            Says::True | Says::There => false,
        };
        let loose = self
            .facts
            .iter()
            .filter(identifies)
            .filter(denied)
            .filter(|fact| !self.holds(|other| other.name == fact.name && other.binds()));
        let finding = |fact: &Fact| {
            let why = format!(
                "says which `{}` may not, and so everything that nobody thought of may; say which may",
                fact.name
            );
            ("denylist", why)
        };
        loose.map(finding).collect()
    }

    fn head_ref(&self) -> Option<(&'static str, String)> {
        let reads = self.facts.iter().any(|fact| fact.is_of_claim("head_ref") && fact.says != Says::There);
        let why = "trusts `head_ref`, which whoever opens a pull request chooses, in a fork as well; use `ref` with \
                   ref_protected";
        reads.then(|| ("head-ref", why.to_owned()))
    }

    fn fork(&self) -> Option<(&'static str, String)> {
        let bound = self.facts.iter().any(|fact| fact.is_of_claim("job_project_id") && fact.binds());
        let why = "is bound to `job_project_id`, which of a merge request from a fork is the target's; bind it to `project_id`, \
                   which is the fork's then";
        (bound && !self.bound_to("project_id")).then(|| ("fork", why.to_owned()))
    }
}

/// Whether a pattern fits what nobody would read in it. A `*` at the end, after a separator, is meant to stand for anything;
/// at the end of a ref it may stand for the rest of a name where only protected ones count.
pub(super) fn takes_in_more(pattern: &str, protected: bool) -> bool {
    let Some((before, after)) = pattern.split_once(WILDCARD) else { return false };
    let at_end = after.is_empty();
    let after_separator = before.ends_with(['/', ':', '@']);
    !(at_end && !before.is_empty() && (after_separator || protected))
}
