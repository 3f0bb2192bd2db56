//! Which refs come to a role by a permit, and on what.

use super::facts::{Fact, Of, Says};
use super::forbids::Feared;
use super::known::{effective, says};
use super::permit::Looked;
use crate::config::issuer::{Issuer, IssuerKind};

impl Looked<'_> {
    pub(super) fn unprotected_ref(&self) -> Option<(&'static str, String)> {
        let of_branch = |fact: &Fact| {
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
        let bound = self.facts.iter().any(of_branch);
        // Where the issuer is a code host, production wants more than a name that is left out as well.
        let code_host = |issuer: &Issuer| matches!(effective(issuer), IssuerKind::GithubActions | IssuerKind::Gitlab);
        let wanted = |issuer: &&&Issuer| {
            let open = bound || (self.production && code_host(issuer) && !self.is_of_a_team());
            open && says(issuer, "ref_protected") && !self.is_protected(issuer)
        };
        let issuer = self.issuers.iter().find(wanted)?;
        let environment = match effective(issuer) {
            IssuerKind::Gitlab => "an environment with environment_protected",
            _ => "an environment whose rules say who may",
        };
        let is = if bound {
            "is bound to a ref, and not to its protection: whoever may push to that branch, or make a tag of that name, has \
             the role"
        } else {
            "lets every branch reach production: whoever may push one, or make a tag, writes what runs there"
        };
        let why = format!(
            "{is}; add context.provenance has ref_protected && context.provenance.ref_protected, or bind it to {environment}"
        );
        Some(("unprotected-ref", why))
    }

    /// Whether what may be pushed to, or who agreed, is decided somewhere, by the permit or by the bundle.
    fn is_protected(&self, issuer: &Issuer) -> bool {
        let protects = |fact: &Fact| {
            let truth = ["ref_protected", "environment_protected"].iter().any(|claim| fact.is_of_claim(claim));
            let pinned = PINNED.iter().any(|claim| fact.is_of_claim(claim));
            let signed = fact.of == Of::Context && SIGNED.contains(&fact.name.as_str());
            let started = fact.is_of_claim("workflow_ref") && effective(issuer) != IssuerKind::Gitlab;
            let told = (truth && fact.is_true()) || ((pinned || started) && fact.is_exact());
            told || gates(fact, issuer) || (signed && (fact.is_true() || fact.is_exact()))
        };
        self.holds(protects) || self.bundle.forbids(self.asked(issuer, Feared::Unprotected))
    }

    /// Of an issuer that says nothing of protection, a branch's name.
    pub(super) fn branch_of_a_fork(&self) -> Option<(&'static str, String)> {
        let of_branch =
            |fact: &Fact| ["build_branch", "build_tag"].iter().any(|claim| fact.is_of_claim(claim)) && fact.binds();
        let concerned = self.issuers.iter().any(|issuer| effective(issuer) == IssuerKind::Buildkite);
        let served_apart = self.holds(|fact| {
            ["queue_id", "cluster_id", "agent_id"].iter().any(|claim| fact.is_of_claim(claim)) && fact.is_exact()
        });
        let why = "is bound to `build_branch` or `build_tag`, which whoever starts a build names, and a fork's branch can be \
                   called main; have the pipeline itself build that branch alone and nothing of forks, and bind to a \
                   principal.buildkite.queue_id or cluster_id whose agents serve nothing else";
        let found = self.production && concerned && !served_apart && self.facts.iter().any(of_branch);
        found.then(|| ("unprotected-ref", why.to_owned()))
    }

    pub(super) fn self_hosted(&self) -> Option<(&'static str, String)> {
        let runner = |fact: &Fact| ["runner", "runner_environment"].iter().any(|claim| fact.is_of_claim(claim));
        let named = self.facts.iter().any(|fact| match &fact.says {
            Says::Is(values) => runner(fact) && fact.positive == values.iter().any(|value| value == "self-hosted"),
            _ => false,
        });
        let gated = self.issuers.iter().all(|issuer| self.holds(|fact| gates(fact, issuer)));
        let why = "asks for a runner of one's own, which does not say whose, and on which what ran before may have stayed: \
                   the token is the job's, and any job of that runner can read it; ask for a hosted runner, or bind it to an \
                   environment whose rules say who may";
        (self.production && named && !gated).then(|| ("self-hosted", why.to_owned()))
    }
}

/// Claims that pin what runs, whatever the branch.
const PINNED: &[&str] = &["job_workflow_ref", "job_workflow_sha", "workflow_sha", "ci_config_sha", "commit", "sha"];

/// What others signed of a change or a build, or agreed to.
const SIGNED: &[&str] =
    &["independent", "plan_reviewed", "reviewed_by", "approvers", "approvals", "attestor", "builder"];

/// Whether a fact says that a job passed the rules of an environment. At GitLab whoever edits the file names one.
fn gates(fact: &Fact, issuer: &Issuer) -> bool {
    let named = fact.is_of_claim("environment") && fact.is_exact();
    let protected = fact.is_of_claim("environment_protected") && fact.is_true();
    protected || (named && effective(issuer) != IssuerKind::Gitlab)
}
