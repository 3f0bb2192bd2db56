//! What there is to say of one permit by itself.

use cedar_policy::{PrincipalConstraint, ResourceConstraint};
use serde_json::Value;

use super::facts::{Fact, Of, Says, WILDCARD, holds};
use super::known::{EVENTS, NAMES, STRUCTURED, TENANTS, effective, ids, is_shared, says};
use crate::config::issuer::Issuer;
use crate::policy::source::Rule;

/// One policy, with what is known of it.
pub(super) struct Looked<'a> {
    pub(super) rule: &'a Rule,
    pub(super) condition: &'a Value,
    pub(super) facts: Vec<Fact>,
    pub(super) issuers: Vec<&'a Issuer>,
    pub(super) production: bool,
}

impl Looked<'_> {
    /// Everything to say of it.
    pub(super) fn advise(&self) -> Vec<(&'static str, String)> {
        let of_claims = [self.names(), self.subject(), self.wildcards(), self.denylist()].into_iter().flatten();
        let of_whole = [
            self.scope(),
            self.action(),
            self.tenant(),
            self.unprotected_ref(),
            self.head_ref(),
            self.self_hosted(),
            self.fork(),
        ];
        of_claims.chain(of_whole.into_iter().flatten()).collect()
    }

    fn holds(&self, wanted: impl Fn(&Fact) -> bool) -> bool {
        holds(self.condition, &wanted)
    }

    /// Whether it holds that a claim is one of some texts.
    fn bound_to(&self, claim: &str) -> bool {
        self.holds(|fact| fact.is_of_claim(claim) && fact.binds())
    }

    fn is_true(&self, claim: &str) -> bool {
        self.holds(|fact| fact.is_of_claim(claim) && fact.says == Says::True && fact.positive)
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
        let structured = |fact: &&Fact| {
            let named = NAMES.iter().any(|(name, _)| *name == fact.name) || STRUCTURED.contains(&fact.name.as_str());
            fact.positive && named && matches!(fact.of, Of::Claim | Of::Tag | Of::Principal)
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
        self.facts.iter().filter(structured).filter(risky).map(finding).collect()
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

    fn scope(&self) -> Option<(&'static str, String)> {
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

    fn action(&self) -> Option<(&'static str, String)> {
        let any = matches!(self.rule.policy.action_constraint(), cedar_policy::ActionConstraint::Any);
        let why = "allows every action, those of later versions included; write action in [Action::\"mint\", \
                   Action::\"preview\"]";
        any.then(|| ("scope", why.to_owned()))
    }

    fn tenant(&self) -> Option<(&'static str, String)> {
        let narrowed = match self.rule.policy.principal_constraint() {
            PrincipalConstraint::Eq(_) => true,
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => uid.type_name().to_string() != "Issuer",
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => false,
        };
        let open = self.issuers.iter().find(|issuer| is_shared(issuer))?;
        let bound = self.holds(|fact| {
            let named = TENANTS.contains(&fact.name.as_str()) || NAMES.iter().any(|(name, _)| *name == fact.name);
            let personal = ["actor", "actor_id", "user_login", "user_id", "workflow"].contains(&fact.name.as_str());
            let claim = named && !personal && matches!(fact.of, Of::Claim | Of::Tag);
            let itself = fact.of == Of::Principal && ["subject", ""].contains(&fact.name.as_str());
            let of_issuer =
                matches!(&fact.says, Says::Is(values) if values.iter().any(|value| value.starts_with("Issuer::")));
            let by_team =
                fact.of == Of::Context && fact.name == "owner_member" && fact.positive && fact.says == Says::True;
            by_team || (fact.binds() && (claim || (itself && !of_issuer)))
        });
        let why = format!(
            "is open to everybody at {}, which signs for anybody who has an account there, and in whose tokens anybody \
             chooses branches, environments and events; bind it to {}",
            open.url,
            ids(effective(open)).unwrap_or("what tells your workloads from those of others"),
        );
        (!narrowed && !bound).then_some(("tenant", why))
    }

    fn unprotected_ref(&self) -> Option<(&'static str, String)> {
        let of_branch = |fact: &&Fact| {
            let values = match &fact.says {
                Says::Is(values) => values.clone(),
                Says::Like(pattern) => vec![pattern.clone()],
                Says::True | Says::There => return false,
            };
            let request = |value: &String| value.starts_with("refs/pull/") || value.starts_with("refs/merge-requests/");
            ["ref", "ref_path"].iter().any(|claim| fact.is_of_claim(claim))
                && fact.positive
                && !values.iter().all(request)
        };
        let says_it = self.issuers.iter().any(|issuer| says(issuer, "ref_protected"));
        let protected =
            self.is_true("ref_protected") || self.is_true("environment_protected") || self.bound_to("environment");
        let why = "is bound to a ref, and not to its protection: whoever may push to that branch, or make a tag of that name, \
                   has the role; add context.provenance has ref_protected && context.provenance.ref_protected";
        let found = says_it && !protected && self.facts.iter().any(|fact| of_branch(&fact));
        found.then(|| ("unprotected-ref", why.to_owned()))
    }

    fn head_ref(&self) -> Option<(&'static str, String)> {
        let reads = self.facts.iter().any(|fact| fact.is_of_claim("head_ref") && fact.says != Says::There);
        let why = "trusts `head_ref`, which whoever opens a pull request chooses, in a fork as well; use `ref` with \
                   ref_protected";
        reads.then(|| ("head-ref", why.to_owned()))
    }

    fn self_hosted(&self) -> Option<(&'static str, String)> {
        let runner = |fact: &Fact| ["runner", "runner_environment"].iter().any(|claim| fact.is_of_claim(claim));
        let named = self.facts.iter().any(|fact| match &fact.says {
            Says::Is(values) => runner(fact) && fact.positive == values.iter().any(|value| value == "self-hosted"),
            _ => false,
        });
        let why = "asks for a runner of one's own, which does not say whose, and on which what ran before may have stayed: \
                   the token is the job's, and any job of that runner can read it; ask for a hosted runner, or bind it to an \
                   environment whose rules say who may";
        (self.production && named && !self.bound_to("environment")).then(|| ("self-hosted", why.to_owned()))
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
fn takes_in_more(pattern: &str, protected: bool) -> bool {
    let Some((before, after)) = pattern.split_once(WILDCARD) else { return false };
    let at_end = after.is_empty();
    let after_separator = before.ends_with(['/', ':', '@']);
    !(at_end && !before.is_empty() && (after_separator || protected))
}
