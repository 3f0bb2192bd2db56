//! Policies that say what they mean, and mean more than whoever wrote them thought.
//!
//! Each finding says why, and what to write instead. None keeps a bundle from being loaded: a team can have its reasons,
//! and then writes `@accepts("<code>")` on the policy. What is looked at is what the condition holds in every way in which
//! it can hold, so that a check in one branch of an `||` counts for that branch alone.

mod facts;
#[cfg(test)]
mod tests;

use cedar_policy::{Effect, EntityUid, PrincipalConstraint, ResourceConstraint};
use hallpass_core::catalog::{Catalog, EnvironmentClass};
use hallpass_core::id::RoleName;
use hallpass_core::identity::PrincipalKind;
use serde_json::Value;

use self::facts::{Fact, Of, Says, WILDCARD, all, holds, tags};
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

/// Claims that are names, and what never changes in place of each.
const NAMES: &[(&str, &str)] = &[
    ("repository", "repository_id"),
    ("repository_owner", "repository_owner_id"),
    ("enterprise", "enterprise_id"),
    ("project_path", "project_id"),
    ("namespace_path", "namespace_id"),
    ("job_project_path", "project_id"),
    ("job_namespace_path", "namespace_id"),
    ("pipeline_slug", "pipeline_id"),
    ("organization_slug", "organization_id"),
    ("cluster_name", "cluster_id"),
    ("queue_key", "queue_id"),
    ("vcs_origin", "project_id"),
    ("workspace_name", "workspace_id"),
    ("terraform_workspace_name", "terraform_workspace_id"),
    ("organization_name", "organization_id"),
    ("terraform_organization_name", "terraform_organization_id"),
    ("project_name", "project_id"),
    ("full_workspace", "workspace_id"),
    ("service_account", "service_account_uid"),
    ("namespace", "service_account_uid"),
    ("node", "node_uid"),
    ("email", "azp"),
    ("instance_name", "instance_id"),
    ("actor", "actor_id"),
    ("user_login", "user_id"),
    ("user_email", "user_id"),
    ("workflow", "job_workflow_ref"),
];

/// Claims that tell one tenant of an issuer from another.
const TENANTS: &[&str] = &[
    "repository_id",
    "repository_owner_id",
    "enterprise_id",
    "project_id",
    "namespace_id",
    "pipeline_id",
    "organization_id",
    "workspace_id",
    "terraform_workspace_id",
    "terraform_project_id",
    "terraform_organization_id",
    "cluster_id",
    "queue_id",
    "service_account_uid",
    "azp",
    "instance_id",
    "project_number",
    "context_ids",
];

/// Claims whose parts are joined by `/`, `:` or `@`, or that others can choose: a pattern can take in more than it shows.
const STRUCTURED: &[&str] = &[
    "subject",
    "sub",
    "ref",
    "ref_path",
    "head_ref",
    "base_ref",
    "vcs_ref",
    "build_branch",
    "build_tag",
    "job_workflow_ref",
    "workflow_ref",
    "ci_config_ref_uri",
    "environment",
    "groups_direct",
];

const EVENTS: &[&str] = &["event", "event_name", "pipeline_source"];

/// Events that run code, or on behalf of code, that nobody has merged.
const UNMERGED: &[&str] = &[
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "pull_request_review_comment",
    "issue_comment",
    "workflow_run",
    "merge_request_event",
    "external_pull_request_event",
    "parent_pipeline",
];

/// Audiences that other services ask for by default: a proof that was meant for one of them would be accepted here.
const SHARED_AUDIENCES: &[&str] = &[
    "sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "sigstore",
    "vault",
    "https://kubernetes.default.svc",
    "https://kubernetes.default.svc.cluster.local",
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

/// One policy, with what is known of it.
struct Looked<'a> {
    rule: &'a Rule,
    condition: &'a Value,
    facts: Vec<Fact>,
    issuers: Vec<&'a Issuer>,
    production: bool,
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

impl Looked<'_> {
    fn advise(&self) -> Vec<(&'static str, String)> {
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
            issuer_url(open),
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

/// Whether a pattern fits what nobody would read in it. A `*` at the end, after a separator, is meant to stand for anything;
/// at the end of a ref it may stand for the rest of a name where only protected ones count.
fn takes_in_more(pattern: &str, protected: bool) -> bool {
    let Some((before, after)) = pattern.split_once(WILDCARD) else { return false };
    let at_end = after.is_empty();
    let after_separator = before.ends_with(['/', ':', '@']);
    !(at_end && !before.is_empty() && (after_separator || protected))
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

/// What an issuer is, also where its entry says no more than `oidc`.
fn effective(issuer: &Issuer) -> IssuerKind {
    let known = IssuerKind::ALL.iter().find(|kind| kind.standard().url == Some(issuer_url(issuer)));
    known.copied().filter(|_| issuer.kind == IssuerKind::Oidc).unwrap_or(issuer.kind)
}

/// Whether anybody can have an account at an issuer and proofs from it.
fn is_shared(issuer: &Issuer) -> bool {
    IssuerKind::ALL.iter().any(|kind| kind.standard().url == Some(issuer_url(issuer)))
}

fn issuer_url(issuer: &Issuer) -> &str {
    &issuer.url
}

/// Whether an issuer fills this field of the provenance, such that it tells something.
fn says(issuer: &Issuer, field: &str) -> bool {
    matches!(issuer.kind, IssuerKind::GithubActions | IssuerKind::Gitlab) || issuer.provenance.contains_key(field)
}

/// What never changes of an issuer's workloads.
fn ids(kind: IssuerKind) -> Option<&'static str> {
    match kind {
        IssuerKind::GithubActions => Some("repository_id and repository_owner_id"),
        IssuerKind::Gitlab => Some("project_id and namespace_id"),
        IssuerKind::Kubernetes => Some("service_account_uid"),
        IssuerKind::Buildkite => Some("pipeline_id and organization_id"),
        IssuerKind::Circleci => Some("project_id"),
        IssuerKind::TerraformCloud => Some("workspace_id and organization_id"),
        IssuerKind::Oidc | IssuerKind::Google => None,
    }
}
