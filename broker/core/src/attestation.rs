//! What others signed about the change or the build behind a request (in-toto statements, SLSA): who built what from which
//! commit, who approved it, and which plan was approved.
//!
//! A statement proves nothing by being there: it is about a commit, and where the proof names another one it is refused.
//! What several statements say together is one [`Build`] and one [`ChangeReview`], or nothing at all.

mod relation;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use self::relation::{Relation, between, relation};
use crate::catalog::Catalog;
use crate::error::{Reason, Refusal};
use crate::id::{AttestorName, IssuerName};
use crate::identity::VerifiedIdentity;
use crate::time::Timestamp;

/// Most statements with one request. Each costs some signatures to check, and anybody with a proof may offer them.
pub const MAX_OFFERED: usize = 8;

/// Most approvers, and most artifacts of a build, that a request comes with: all of them are in the decision's record.
pub const MAX_TOLD: usize = 64;

/// A statement that a configured attestor signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// `sha256:` and the lower-case hexadecimal SHA-256 of what was signed: the statement, not its envelope, so that it is
    /// the same statement whoever else signs it too.
    pub digest: String,
    /// Who signed it, by configured name.
    pub attestor: AttestorName,
    /// When what it tells of happened, as it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What it says.
    pub said: Said,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Said {
    /// How artifacts were built (SLSA Build Provenance v1).
    SlsaProvenance {
        /// `runDetails.builder.id`.
        builder: String,
        /// Where the source came from, as a URL without `git+` and without the reference.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository: Option<String>,
        /// Commit that was built.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<String>,
        /// Digests of what came out, as `sha256:…`.
        subjects: BTreeSet<String>,
    },
    /// Who agreed to a change.
    Review(Reviewed),
    /// What is going to be done with a change.
    Plan(Reviewed),
}

/// What a review or a plan tells of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Who made the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Person>,
    /// Who agreed to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Person>,
    /// The plan, as `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<String>,
}

/// Somebody whom a statement names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Person {
    /// An account at a code host, `<host>:<immutable id>`, as owners' members list theirs: `github:1234567`.
    Account(String),
    /// An identity, `<configured issuer>:<subject>`.
    Identity(String),
}

impl Person {
    /// The name as policy reads it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Account(name) | Self::Identity(name) => name,
        }
    }
}

/// A statement with what its attestor's entry says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// What was signed.
    pub statement: Statement,
    /// Whose accounts this attestor names.
    pub accounts_of: AccountsOf,
}

/// Code hosts whose accounts an attestor may name, each with the issuers whose proofs name that host's accounts as `actor_id`.
pub type AccountsOf = BTreeMap<String, Vec<IssuerName>>;

/// Everything that was offered with a request, and what it comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attested {
    /// What was signed.
    pub statements: Vec<Statement>,
    /// What was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// What was agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeReview>,
}

/// What was built, in policy (`context.build`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Who vouches for it.
    pub attestor: AttestorName,
    /// Who built it.
    pub builder: String,
    /// Where the source came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Commit that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Digests of what came out.
    #[serde(default)]
    pub subjects: Vec<String>,
}

/// What was agreed to and by whom, in policy (`context.change`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeReview {
    /// Who vouches for a review.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reviewed_by: Vec<AttestorName>,
    /// Who vouches for a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_by: Option<AttestorName>,
    /// Who made the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Who agreed to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// The plan, as a plan statement names it, a review, or both alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<String>,
    /// Whether every review names the plan: it, too, was agreed to.
    pub plan_reviewed: bool,
    /// The commit, as a review or the plan names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether everybody who asks is known to be neither the author nor one of the approvers. Unknown is no, and so is
    /// whoever is no owner's member.
    pub independent: bool,
}

impl Attested {
    /// What `vouched` comes to in a request by `askers`: the one that it is for, and whoever acts.
    ///
    /// # Errors
    /// A [`Refusal`] where one contradicts another, is about another commit than a proof, names accounts of a host that
    /// whoever signed it may not speak of, or is a review of something that the request is not about.
    pub fn weigh(vouched: &[Vouched], askers: &[&VerifiedIdentity], catalog: &Catalog) -> Result<Self, Refusal> {
        let mut attested = Self::default();
        let (mut commits, mut people, mut subjects) = (Agreed::new("commit"), People::default(), BTreeSet::new());
        // Reviews that name a plan alone, by their places.
        let mut reviews_of_plans = Vec::new();
        let proven = askers.iter().filter_map(|asker| asker.proof().provenance.commit.as_deref());
        // Hexadecimal, which some write in upper case.
        let proven: BTreeSet<String> = proven.map(str::to_ascii_lowercase).collect();
        for (at, Vouched { statement, accounts_of }) in vouched.iter().enumerate() {
            if attested.statements.iter().any(|other| other.digest == statement.digest) {
                return Err(mismatch(at, "it is the same statement as one before it"));
            }
            if let Some(commit) = commit_of(&statement.said) {
                if let Some(other) = proven.iter().find(|proven| *proven != commit) {
                    let detail = format!("it is about commit {commit}, and the proof about {other}");
                    return Err(mismatch(at, &detail));
                }
                commits.take(at, commit)?;
            }
            match &statement.said {
                Said::SlsaProvenance { builder, repository, commit, subjects: made } => {
                    let build = Build {
                        attestor: statement.attestor.clone(),
                        builder: builder.clone(),
                        repository: repository.clone(),
                        commit: commit.clone(),
                        subjects: Vec::new(),
                    };
                    if attested.build.as_ref().is_some_and(|before| *before != build) {
                        return Err(mismatch(at, "it is about another build than one before it"));
                    }
                    attested.build = Some(build);
                    subjects.extend(made.iter().cloned());
                }
                Said::Review(told) => {
                    people.take(at, told, accounts_of)?;
                    people.all_have_author &= told.author.is_some();
                    people.all_name_plan &= told.plan_digest.is_some();
                    people.reviewed_by.insert(statement.attestor.clone());
                    if told.commit.is_none() {
                        reviews_of_plans.push(at);
                    }
                }
                Said::Plan(told) => {
                    people.take(at, told, accounts_of)?;
                    if people.planned_by.replace(statement.attestor.clone()).is_some() {
                        return Err(mismatch(at, "it is a second plan: one credential is for one plan"));
                    }
                }
            }
            attested.statements.push(statement.clone());
        }
        // Where the proof has no commit either, what ties the change to the request is for policy to ask.
        if let (Some(at), Some(commit), None) = (reviews_of_plans.first(), proven.first(), &people.planned_by) {
            let detail = format!(
                "it says nothing of this request: it names no commit, and no plan is offered. A review names the commit \
                 {commit}, or the plan of the plan statement that is offered with it"
            );
            return Err(mismatch(*at, &detail));
        }
        if subjects.len() > MAX_TOLD || people.approvers.len() > MAX_TOLD {
            let detail =
                format!("they name more than {MAX_TOLD} artifacts, or approvers: offer those that matter here");
            return Err(Refusal::request(Reason::BadAttestation, "attestations", detail));
        }
        if let Some(build) = &mut attested.build {
            build.subjects = subjects.into_iter().collect();
        }
        attested.change = people.change(askers, catalog);
        Ok(attested)
    }

    /// Whether everybody who signed any of it is an attestor still, by name. What the statements come to is their sum, and no
    /// part of it can be taken out again.
    #[must_use]
    pub fn is_vouched_for(&self, catalog: &Catalog) -> bool {
        self.statements.iter().all(|statement| catalog.attestors.contains_key(&statement.attestor))
    }

    /// Digests of what was signed, as the provenance names them.
    #[must_use]
    pub fn digests(&self) -> Vec<String> {
        self.statements.iter().map(|statement| statement.digest.clone()).collect()
    }
}

fn commit_of(said: &Said) -> Option<&String> {
    match said {
        Said::SlsaProvenance { commit, .. } => commit.as_ref(),
        Said::Review(told) | Said::Plan(told) => told.commit.as_ref(),
    }
}

/// What the one at `at` contradicts.
fn mismatch(at: usize, detail: &str) -> Refusal {
    refusal(Reason::AttestationMismatch, at, detail)
}

/// What is wrong with the one at `at` alone.
fn bad(at: usize, detail: &str) -> Refusal {
    refusal(Reason::BadAttestation, at, detail)
}

fn refusal(reason: Reason, at: usize, detail: &str) -> Refusal {
    Refusal::request(reason, format!("attestations.{at}"), format!("`attestations.{at}`: {detail}")).after_signature()
}

/// Something that all who name it must name alike.
struct Agreed {
    what: &'static str,
    value: Option<String>,
}

impl Agreed {
    const fn new(what: &'static str) -> Self {
        Self { what, value: None }
    }

    fn take(&mut self, at: usize, value: &str) -> Result<(), Refusal> {
        match &self.value {
            Some(before) if before != value => {
                let detail = format!("it names the {} {value}, and one before it {before}", self.what);
                Err(mismatch(at, &detail))
            }
            _ => {
                self.value = Some(value.to_owned());
                Ok(())
            }
        }
    }
}

/// What reviews and plans say together.
struct People {
    reviewed_by: BTreeSet<AttestorName>,
    planned_by: Option<AttestorName>,
    plan: Agreed,
    commit: Option<String>,
    /// Of the reviews: one that leaves it out is not filled up by another, whoever signed that.
    all_name_plan: bool,
    all_have_author: bool,
    author: Option<Person>,
    approvers: BTreeSet<Person>,
    /// Everybody named, with whose accounts whoever named them knows.
    named: Vec<(Person, AccountsOf)>,
}

impl Default for People {
    fn default() -> Self {
        Self {
            reviewed_by: BTreeSet::new(),
            planned_by: None,
            plan: Agreed::new("plan"),
            commit: None,
            all_name_plan: true,
            all_have_author: true,
            author: None,
            approvers: BTreeSet::new(),
            named: Vec::new(),
        }
    }
}

impl People {
    fn take(&mut self, at: usize, told: &Reviewed, accounts_of: &AccountsOf) -> Result<(), Refusal> {
        let named = told.author.iter().chain(&told.approvers);
        for account in
            named.filter_map(|person| if let Person::Account(account) = person { Some(account) } else { None })
        {
            // Each code host gives out the same numbers.
            if !account.split_once(':').is_some_and(|(host, _)| accounts_of.contains_key(host)) {
                let detail = format!("whoever signed it may not speak of accounts such as {account:?}");
                return Err(bad(at, &detail));
            }
        }
        if let Some(author) = &told.author {
            if self.author.as_ref().is_some_and(|before| before != author) {
                return Err(mismatch(at, "it names another author than one before it"));
            }
            self.author = Some(author.clone());
        }
        if let Some(plan) = &told.plan_digest {
            self.plan.take(at, plan)?;
        }
        // Which all agree on by now.
        self.commit = self.commit.take().or_else(|| told.commit.clone());
        self.approvers.extend(told.approvers.iter().cloned());
        let named = told.author.iter().chain(&told.approvers);
        self.named.extend(named.map(|person| (person.clone(), accounts_of.clone())));
        Ok(())
    }

    fn change(self, askers: &[&VerifiedIdentity], catalog: &Catalog) -> Option<ChangeReview> {
        if self.reviewed_by.is_empty() && self.planned_by.is_none() {
            return None;
        }
        let apart = |asker: &&VerifiedIdentity| {
            self.named.iter().all(|(person, of)| relation(asker, person, of, catalog) == Relation::Another)
        };
        // Somebody made it and somebody agreed, or there is nothing to be independent of.
        let is_another = |author: &Person| {
            self.approvers.iter().any(|approver| between(author, approver, catalog) == Relation::Another)
        };
        let complete = self.all_have_author && self.author.as_ref().is_some_and(is_another);
        let plan_reviewed = !self.reviewed_by.is_empty() && self.all_name_plan;
        let independent = complete && askers.iter().all(apart);
        Some(ChangeReview {
            independent,
            reviewed_by: self.reviewed_by.into_iter().collect(),
            planned_by: self.planned_by,
            author: self.author.map(|author| author.as_str().to_owned()),
            approvers: self.approvers.iter().map(|approver| approver.as_str().to_owned()).collect(),
            plan_digest: self.plan.value,
            plan_reviewed,
            commit: self.commit,
        })
    }
}

#[cfg(test)]
mod tests;
