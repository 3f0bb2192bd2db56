//! Whether a revision would widen the rights of whoever publishes it (promise 10: nobody approves themselves).
//!
//! Conservative, because the questions that somebody will ask are not known in advance: what *could* concern the
//! publisher counts, whatever the conditions of a policy say. It compares eight things:
//!
//! * **policies**: a permit that is new or says something else, a forbid or a bound that is gone or says something else,
//!   where its scope could hold for the publisher;
//! * **owners**: the publisher as a member of more teams, or its teams as owners of more roles;
//! * **accounts**: which accounts at code hosts are whose, for by them it is told whether somebody approves themselves;
//! * **issuers**: anything about the issuer that the publisher proves itself with; and whom any other issuer's proofs
//!   are trusted to be, for nobody but the publisher then says whose identities those are;
//! * **attestors**: one that is new or may vouch for something else, for a review may be what a policy asks for;
//! * **roles**: one that the publisher could mint and that is new, or would give more than it does;
//! * **answers**: any question about the publisher's rights that could be answered with yes where it was with no, or with
//!   a longer life, under any circumstances: at another hour, from another address, by a proof that says more;
//! * **grants that are there**: the same questions about every kind of grant on record, those of roles that are gone
//!   included. What a role is now makes no difference to them: they are decided over as they were opened.
//!
//! What it cannot see: rights that are given to somebody else who does the publisher a favour, or is the publisher
//! under another name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::binding::Binding;
use crate::catalog::Revision;
use crate::credential;
use crate::finding::Finding;
use crate::id::{IssuerName, OwnerName};
use crate::policy::{Action, PolicyQuery, Principal, Resource, RoleFacts};
use crate::port::{Effect, PolicyFacts, Remainder};
use crate::revocation::Likeness;
use crate::role::{Role, RoleState};
use crate::service::decide::{facts_of, role_facts, with_owner_membership};
use crate::time::Ttl;

/// Everything by which `after` would widen the rights of whoever asks `questions` under `before`: the same question by
/// each identity that the publisher acts as. `held` is every likeness of a grant on record. Empty when nothing does.
/// Takes time: call it where blocking is allowed.
#[must_use]
pub fn of_own_rights(
    before: &Revision,
    after: &Revision,
    questions: &[PolicyQuery],
    held: &[Likeness],
) -> Vec<Finding> {
    let mut findings = BTreeSet::new();
    for question in questions {
        let (before, after) = (Side::new(before, question), Side::new(after, question));
        let same_policies = before.policies() == after.policies();
        let comparison = Comparison { before, after, same_policies };
        comparison.policies(&mut findings);
        comparison.owners(&mut findings);
        comparison.accounts(&mut findings);
        comparison.issuers(&mut findings);
        comparison.attestors(&mut findings);
        comparison.backends(&mut findings);
        comparison.roles(&mut findings);
        comparison.answers(&mut findings);
        comparison.grants(held, &mut findings);
    }
    findings.into_iter().collect()
}

/// The publisher under both revisions.
struct Comparison<'a> {
    before: Side<'a>,
    after: Side<'a>,
    /// The same policies could hold for it.
    same_policies: bool,
}

/// The publisher under one revision.
struct Side<'a> {
    revision: &'a Revision,
    /// A question by it.
    question: PolicyQuery,
}

impl<'a> Side<'a> {
    fn new(revision: &'a Revision, question: &PolicyQuery) -> Self {
        let mut question = question.clone();
        let principal = &mut question.principal;
        principal.groups = revision.catalog.owners_of(&principal.issuer, &principal.subject).cloned().collect();
        Self { revision, question }
    }

    fn publisher(&self) -> &Principal {
        &self.question.principal
    }

    fn groups(&self) -> BTreeSet<&OwnerName> {
        self.publisher().groups.iter().collect()
    }

    /// The accounts of each identity that is a member of any owner.
    fn accounts(&self) -> BTreeMap<(&IssuerName, &str), BTreeSet<&str>> {
        let mut accounts = BTreeMap::<_, BTreeSet<_>>::new();
        for member in self.revision.catalog.owners.values().flat_map(|owner| &owner.members) {
            let own = accounts.entry((&member.issuer, member.subject.as_str())).or_default();
            own.extend(member.accounts.iter().map(String::as_str));
        }
        accounts
    }

    /// What those policies say that could hold for the publisher, in an order of their own. The others decide nothing.
    fn policies(&self) -> BTreeSet<(bool, String, Option<Ttl>, Option<Binding>)> {
        let policies = self.revision.policy.policies().into_iter();
        let policies = policies.filter(|policy| self.revision.policy.could_concern(&policy.id, self.publisher()));
        policies.map(|policy| (policy.effect == Effect::Permit, policy.text, policy.max_ttl, policy.binding)).collect()
    }

    fn facts(&self, role: &Role) -> Option<RoleFacts> {
        let backend = self.revision.backends.get(&role.backend)?;
        Some(role_facts(self.revision, role, backend.as_ref()))
    }

    /// Whether some policy could let the publisher have `role`, for itself or acting for another.
    fn could_mint(&self, role: &Role) -> bool {
        self.facts(role).is_none_or(|facts| {
            let resource = Resource::Role(facts);
            let could = |action| self.revision.policy.could_permit(self.publisher(), action, &resource);
            could(Action::Mint) || could(Action::Delegate)
        })
    }

    /// What the policies leave to the circumstances of a question about the publisher; nothing is allowed where that
    /// cannot be told.
    fn left_open(&self, action: Action, resource: &Resource) -> Option<Remainder> {
        let query = PolicyQuery { action, resource: resource.clone(), ..self.question.clone() };
        self.revision.policy.left_open(&with_owner_membership(query)).ok()
    }
}

impl Comparison<'_> {
    fn policies(&self, findings: &mut BTreeSet<Finding>) {
        let (earlier, later) = (self.before.revision.policy.policies(), self.after.revision.policy.policies());
        let concerns_now =
            |policy: &PolicyFacts| self.after.revision.policy.could_concern(&policy.id, self.after.publisher());
        let concerned = |policy: &PolicyFacts| {
            let could = |side: &Side<'_>| self.before.revision.policy.could_concern(&policy.id, side.publisher());
            could(&self.before) || could(&self.after)
        };
        for policy in later.iter().filter(|policy| policy.effect == Effect::Permit && concerns_now(policy)) {
            if !earlier.iter().any(|earlier| gives_at_least(earlier, policy)) {
                findings.insert(of_policy(policy, "permits something new, perhaps to you"));
            }
        }
        for policy in earlier.iter().filter(|policy| concerned(policy)) {
            let stays = |later: &PolicyFacts| later.effect == policy.effect && later.text == policy.text;
            match policy.effect {
                Effect::Forbid if !later.iter().any(stays) => {
                    findings.insert(of_policy(policy, "no longer forbids what it did, perhaps to you"));
                }
                // The strictest of all permits holds: without this one, another permits the same for longer, or to whoever
                // has the token.
                Effect::Permit
                    if (policy.max_ttl.is_some() || policy.binding.is_some())
                        && !later.iter().any(|later| stays(later) && later.binding == policy.binding) =>
                {
                    let takes_over = |later: &PolicyFacts| {
                        later.effect == Effect::Permit
                            && !later.actions.is_disjoint(&policy.actions)
                            && concerns_now(later)
                    };
                    if later.iter().any(takes_over) {
                        let what = if policy.max_ttl.is_some() {
                            "no longer bounds a life, perhaps of what you have"
                        } else {
                            "no longer asks for a binding, perhaps of you"
                        };
                        findings.insert(of_policy(policy, what));
                    }
                }
                Effect::Forbid | Effect::Permit => {}
            }
        }
    }

    fn owners(&self, findings: &mut BTreeSet<Finding>) {
        let (earlier, later) = (self.before.groups(), self.after.groups());
        for owner in later {
            let file = || PathBuf::from("owners.toml");
            if !earlier.contains(owner) {
                findings.insert(found(file(), format!("makes you a member of {owner}")));
                continue;
            }
            let gained = self.after.revision.catalog.roles.values().filter(|role| &role.owner == owner);
            let gained = gained.filter(|role| {
                self.before.revision.catalog.roles.get(&role.name).is_none_or(|before| before.owner != role.owner)
            });
            for role in gained {
                findings.insert(of_role(role, &format!("has {owner} as owner, of which you are a member")));
            }
        }
    }

    /// Whoever can say that two accounts are different people's has one approve the other. Anybody's: the publisher may be
    /// whom they are said of, and two members are one person by an account that a third has as well.
    fn accounts(&self, findings: &mut BTreeSet<Finding>) {
        let (earlier, later) = (self.before.accounts(), self.after.accounts());
        let still_told: BTreeSet<_> = later.values().flatten().collect();
        let nothing = BTreeSet::new();
        for identity in earlier.keys().chain(later.keys()) {
            let before = earlier.get(identity).unwrap_or(&nothing);
            let is_gone = !later.contains_key(identity) && before.iter().all(|account| !still_told.contains(account));
            // Of somebody who is gone with every account nobody knows anything any more.
            if before != later.get(identity).unwrap_or(&nothing) && !is_gone {
                let (issuer, subject) = identity;
                let reason = format!("changes which accounts are those of {issuer}:{subject}; nobody else has agreed");
                findings.insert(found(PathBuf::from("owners.toml"), reason));
            }
        }
    }

    fn issuers(&self, findings: &mut BTreeSet<Finding>) {
        let own = &self.after.publisher().issuer;
        let (earlier, later) = (&self.before.revision.catalog.issuers, &self.after.revision.catalog.issuers);
        for (name, facts) in later {
            let file = PathBuf::from("issuers.toml");
            match earlier.get(name) {
                None => {
                    let reason = format!("trusts {name}, of whose identities nobody else has said whose they are");
                    findings.insert(found(file, reason));
                }
                Some(before) if name == own && before.whole != facts.whole => {
                    findings.insert(found(file, format!("changes {name}, by which you prove who you are")));
                }
                Some(before) if before.trust != facts.trust => {
                    let reason = format!(
                        "changes whom the proofs of {name} come from, or what is taken from them; nobody else has agreed"
                    );
                    findings.insert(found(file, reason));
                }
                Some(_) => {}
            }
        }
    }

    /// Whoever can sign that a change was reviewed has it reviewed.
    fn attestors(&self, findings: &mut BTreeSet<Finding>) {
        let (earlier, later) = (&self.before.revision.catalog.attestors, &self.after.revision.catalog.attestors);
        for (name, settings) in later {
            let reason = match earlier.get(name) {
                Some(before) if before == settings => continue,
                Some(_) => format!("changes what {name} may vouch for, or by which keys; nobody else has agreed"),
                None => format!("trusts {name} to vouch for changes or builds; nobody else has agreed"),
            };
            findings.insert(found(PathBuf::from("attestors.toml"), reason));
        }
    }

    /// Where the broker says who it is, by a token of its own or a secret: whoever is sent that can use it elsewhere.
    fn backends(&self, findings: &mut BTreeSet<Finding>) {
        let (earlier, later) = (&self.before.revision.catalog.backends, &self.after.revision.catalog.backends);
        let is_remote = |name| {
            let backend = self.after.revision.backends.get(name);
            backend.is_some_and(|backend| backend.effect() == credential::Effect::Remote)
        };
        for (name, settings) in later.iter().filter(|(name, _)| is_remote(*name)) {
            let reason = match earlier.get(name) {
                Some(before) if before == settings => continue,
                Some(_) => format!("changes where, or how, {name} makes credentials; nobody else has agreed"),
                None => format!("has {name} make credentials; nobody else has agreed"),
            };
            findings.insert(found(PathBuf::from("backends.toml"), reason));
        }
    }

    fn roles(&self, findings: &mut BTreeSet<Finding>) {
        let (earlier, later) = (&self.before.revision.catalog, &self.after.revision.catalog);
        for role in later.roles.values() {
            let Some(before) = earlier.roles.get(&role.name) else {
                if self.after.could_mint(role) {
                    findings.insert(of_role(role, "is new, and you may be allowed to mint it"));
                }
                continue;
            };
            let mut more: BTreeSet<_> = gives_more(before, role).into_iter().collect();
            let resolves = |revision: &Revision, role: &Role| {
                revision.catalog.owners.get(&role.owner).is_some_and(|owner| owner.resolves())
            };
            if earlier.backends.get(&before.backend) != later.backends.get(&role.backend) {
                more.insert("backend");
            }
            let environment = |side: &Side<'_>, role: &Role| {
                let name = role.environment.as_ref()?;
                side.revision.catalog.environments.get(name).cloned()
            };
            if environment(&self.before, before) != environment(&self.after, role) {
                more.insert("environment");
            }
            if !resolves(self.before.revision, before) && resolves(self.after.revision, role) {
                more.insert("owner");
            }
            if !more.is_empty() && self.after.could_mint(role) {
                let more: Vec<_> = more.into_iter().collect();
                let reason = format!("changes its {}, and you may be allowed to mint it", more.join(", "));
                findings.insert(of_role(role, &reason));
            }
        }
    }

    /// Whether a question has the same answer in both, as far as its resource is the same.
    fn same_questions(&self) -> bool {
        self.same_policies && self.before.groups() == self.after.groups()
    }

    fn grants(&self, held: &[Likeness], findings: &mut BTreeSet<Finding>) {
        if self.same_questions() {
            return;
        }
        for likeness in held {
            let role = facts_of(likeness, Ttl::ZERO);
            let resource = Resource::Grant { id: uuid::Uuid::nil().into(), role };
            self.compare(&resource, &resource, Path::new("policies"), findings);
        }
    }

    fn answers(&self, findings: &mut BTreeSet<Finding>) {
        let same_questions = self.same_questions();
        let singles = [Resource::AuditLog, Resource::Broker, Resource::Bundle];
        if !same_questions {
            for resource in &singles {
                self.compare(resource, resource, Path::new("policies"), findings);
            }
        }
        for name in self.after.revision.catalog.owners.keys().filter(|_| !same_questions) {
            if self.before.revision.catalog.owners.contains_key(name) {
                let resource = Resource::Owner { name: name.clone() };
                self.compare(&resource, &resource, Path::new("owners.toml"), findings);
            }
        }
        for role in self.after.revision.catalog.roles.values() {
            let Some(before) = self.before.revision.catalog.roles.get(&role.name) else { continue };
            let (Some(facts_before), Some(facts)) = (self.before.facts(before), self.after.facts(role)) else {
                continue;
            };
            if same_questions && facts_before == facts {
                continue;
            }
            let file = file_of(role);
            let grant = |role: RoleFacts| Resource::Grant { id: uuid::Uuid::nil().into(), role };
            self.compare(&grant(facts_before.clone()), &grant(facts.clone()), &file, findings);
            self.compare(&Resource::Role(facts_before), &Resource::Role(facts), &file, findings);
        }
    }

    /// Asks everything about one resource of both revisions.
    fn compare(&self, before: &Resource, after: &Resource, file: &Path, findings: &mut BTreeSet<Finding>) {
        let (policy, publisher) = (&self.after.revision.policy, self.after.publisher());
        let asked = Action::ALL.iter().filter(|action| action.is_asked_of(after));
        // What no permit could allow needs no closer look; of a large bundle that is nearly everything.
        for action in asked.filter(|action| policy.could_permit(publisher, **action, after)) {
            let Some(now) = self.after.left_open(*action, after) else { continue };
            if now.gives_more_than(&self.before.left_open(*action, before).unwrap_or_default()) {
                let what = match after {
                    Resource::Role(facts) => format!("the role {}", facts.name),
                    Resource::Grant { role, .. } => format!("grants of {}", role.name),
                    Resource::Owner { name } => format!("the owner {name}"),
                    Resource::AuditLog => "the audit log".to_owned(),
                    Resource::Broker => "the broker".to_owned(),
                    Resource::Bundle => "the configuration".to_owned(),
                };
                let reason = format!("you could {} {what} where you could not, or for longer", action.as_str());
                findings.insert(found(file.to_owned(), reason));
            }
        }
    }
}

/// Whether `earlier` is the same permit, for as long or longer.
fn gives_at_least(earlier: &PolicyFacts, later: &PolicyFacts) -> bool {
    earlier.effect == later.effect
        && earlier.text == later.text
        && earlier.max_ttl.is_none_or(|bound| later.max_ttl.is_some_and(|later| later <= bound))
        && (earlier.binding.is_none() || earlier.binding == later.binding)
}

/// What of `after` could be worth more to somebody who mints it than `before`. A shorter life is not.
fn gives_more(before: &Role, after: &Role) -> Vec<&'static str> {
    let pattern = |role: &Role| role.purpose.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
    let continuous = |role: &Role| role.max_continuous.map_or(u64::MAX, Ttl::as_secs);
    let differs = [
        ("ttl", after.ttl.max > before.ttl.max || after.ttl.default > before.ttl.default),
        ("max_continuous", continuous(after) > continuous(before)),
        ("max_live", after.max_live.unwrap_or(u32::MAX) > before.max_live.unwrap_or(u32::MAX)),
        ("state", after.state == RoleState::Active && before.state != RoleState::Active),
        ("owner", after.owner != before.owner),
        ("backend", after.backend != before.backend),
        ("environment", after.environment != before.environment),
        ("target", after.target != before.target),
        ("stage", after.stage != before.stage),
        ("tier", after.tier != before.tier),
        ("parameters", after.parameters != before.parameters),
        ("revocation_floor", after.revocation_floor != before.revocation_floor),
        ("purpose", after.purpose.default != before.purpose.default || pattern(after) != pattern(before)),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

fn of_policy(policy: &PolicyFacts, what: &str) -> Finding {
    Finding { file: policy.file.clone(), line: policy.line, reason: format!("policy {:?} {what}", policy.id.as_str()) }
}

fn file_of(role: &Role) -> PathBuf {
    format!("roles/{}.toml", role.name).into()
}

fn of_role(role: &Role, what: &str) -> Finding {
    found(file_of(role), format!("the role {} {what}", role.name))
}

fn found(file: PathBuf, reason: String) -> Finding {
    Finding { file, line: None, reason }
}
