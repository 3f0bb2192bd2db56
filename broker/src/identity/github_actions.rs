//! `kind = "github-actions"`: the tokens of GitHub's jobs.
//!
//! Claims: <https://docs.github.com/en/actions/reference/security/oidc>. The subject has two forms by default,
//! `repo:OWNER/REPO:…` and, of repositories that were made, renamed or transferred since 15 July 2026,
//! `repo:OWNER@OWNER_ID/REPO@REPO_ID:…`; organisations and repositories can have any other. So it is never taken apart
//! to learn something: what it says in a default form must agree with the claims, and they decide.

use hallpass_core::error::Refusal;

use super::profile::{Claim, Described, Profile, conflict, text, truth};
use crate::config::issuer::IssuerKind;

/// What GitHub Actions says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::GithubActions,
    "github",
    "https://docs.github.com/en/actions/reference/security/oidc",
    CLAIMS,
    RUNS,
    check,
);

/// What tells its runs apart.
const RUNS: &str = "`run_id` and `run_attempt` tell runs apart.";

const CLAIMS: &[Claim] = &[
    text(&["repository_id"], "repository_id")
        .always()
        .immutable()
        .fills("repository_id")
        .says("bind to this: it stays through renaming and transfer, and a repository that is made anew has another"),
    text(&["repository_owner_id"], "repository_owner_id")
        .always()
        .immutable()
        .fills("repository_owner_id")
        .says("bind to this as well: a repository that is transferred keeps its id and changes this"),
    text(&["repository"], "repository")
        .always()
        .reusable()
        .fills("repository")
        .says("for people; after a renaming or a deletion somebody else can have the name"),
    text(&["repository_owner"], "repository_owner").always().reusable().says("for people, as the repository's name"),
    text(&["repository_visibility"], "repository_visibility")
        .says("`public`, `private` or `internal`; anybody can propose changes to what is public"),
    text(&["enterprise_id"], "enterprise_id").immutable().says("where everything of one enterprise may"),
    text(&["enterprise"], "enterprise").reusable().says("for people; bind to enterprise_id"),
    text(&["ref"], "ref")
        .always()
        .chosen()
        .fills("ref")
        .says("with ref_protected: who may push decides what runs; pull_request_target has the base branch here"),
    text(&["ref_type"], "ref_type").says("`branch` or `tag`"),
    truth(&["ref_protected"], "ref_protected")
        .fills("ref_protected")
        .says("whether a rule protects the ref; a name alone protects nothing"),
    text(&["base_ref"], "base_ref").says("where a pull request would be merged"),
    text(&["head_ref"], "head_ref").chosen().says("never trust it: whoever opens the pull request names that branch"),
    text(&["sha"], "sha").fills("commit").says("the commit that runs"),
    text(&["event_name"], "event_name")
        .always()
        .chosen()
        .fills("event")
        .says("list the events that may; pull_request_target and workflow_run run with rights of the base"),
    text(&["job_workflow_ref"], "job_workflow_ref")
        .reusable()
        .fills("workflow_ref")
        .says("the workflow that defines the job: with it, and with its sha, only reviewed workflows may"),
    text(&["workflow_ref"], "workflow_ref")
        .reusable()
        .fills("workflow_ref")
        .says("the workflow that was started; a job may come from another, see job_workflow_ref"),
    text(&["job_workflow_sha"], "job_workflow_sha").immutable().says("pins the workflow that defines the job"),
    text(&["workflow_sha"], "workflow_sha").immutable().says("pins the workflow that was started"),
    text(&["workflow"], "workflow").chosen().fills("workflow").says("for people: any branch can name a workflow so"),
    text(&["environment"], "environment")
        .reusable()
        .fills("environment")
        .says("the environment whose rules the job passed; of this repository, so bind to repository_id too"),
    text(&["runner_environment"], "runner_environment")
        .fills("runner")
        .says("`github-hosted` or `self-hosted`; what ran before may still be on a runner of your own"),
    text(&["run_id"], "run_id").always().fills("run").says("the run, in the record"),
    text(&["run_attempt"], "run_attempt").always().fills("run_attempt").says("the attempt, in the record"),
    text(&["run_number"], "run_number").says("for people"),
    text(&["check_run_id"], "check_run_id").fills("job").says("the job, in the record"),
    text(&["actor_id"], "actor_id")
        .immutable()
        .fills("actor_id")
        .says("who started the run; not who wrote what runs, and not who agreed"),
    text(&["actor"], "actor").reusable().fills("actor").says("for people; bind to actor_id"),
];

fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let repository = proof.text("repository").unwrap_or_default();
    let owner = proof.text("repository_owner").unwrap_or_default();
    if !repository.split_once('/').is_some_and(|(named, _)| named.eq_ignore_ascii_case(owner)) {
        return Err(conflict("repository", repository, "repository_owner", owner));
    }
    agrees_with_subject(proof)?;
    let pull_request = proof.text("ref").and_then(pull_request).map(str::to_owned);
    proof.provenance.pull_request = pull_request;
    Ok(())
}

/// Holds a subject of a default form against the claims. Names ignore case at GitHub.
fn agrees_with_subject(proof: &Described<'_>) -> Result<(), Refusal> {
    let Some(rest) = proof.subject.strip_prefix("repo:") else { return Ok(()) };
    let (named, context) = rest.split_once(':').unwrap_or((rest, ""));
    let Some((owner, name)) = named.split_once('/') else { return Ok(()) };
    let ((owner, owner_id), (name, id)) = (with_id(owner), with_id(name));
    let repository = proof.text("repository").unwrap_or_default();
    if !format!("{owner}/{name}").eq_ignore_ascii_case(repository) {
        return Err(conflict("sub", named, "repository", repository));
    }
    for (said, claim) in [(owner_id, "repository_owner_id"), (id, "repository_id")] {
        let says = proof.text(claim).unwrap_or_default();
        if said.is_some_and(|said| said != says) {
            return Err(conflict("sub", named, claim, says));
        }
    }
    for (prefix, claim) in [("environment:", "environment"), ("ref:", "ref")] {
        let says = proof.text(claim).unwrap_or_default();
        if context.strip_prefix(prefix).is_some_and(|said| !begins_with(said, says)) {
            return Err(conflict("sub", context, claim, says));
        }
    }
    Ok(())
}

/// `NAME@ID` in two. Neither an owner's name nor a repository's can hold an `@`.
fn with_id(name: &str) -> (&str, Option<&str>) {
    name.rsplit_once('@').map_or((name, None), |(name, id)| (name, Some(id)))
}

/// Whether a part of a subject begins with a value, and has nothing or another part after it. Colons of values are written
/// `%3A` there, and were not by older servers.
fn begins_with(part: &str, value: &str) -> bool {
    let ends = |rest: &str| rest.is_empty() || rest.starts_with(':');
    let begins = |value: &str| {
        part.get(..value.len()).is_some_and(|start| start.eq_ignore_ascii_case(value))
            && part.get(value.len()..).is_some_and(ends)
    };
    !value.is_empty() && (begins(&value.replace(':', "%3A")) || begins(value))
}

/// The number in `refs/pull/N/merge`.
fn pull_request(git_ref: &str) -> Option<&str> {
    let (number, _) = git_ref.strip_prefix("refs/pull/")?.split_once('/')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::testing::KindIssuer;

    fn issuer() -> KindIssuer {
        KindIssuer::new(IssuerKind::GithubActions, include_str!("fixtures/kinds/github-actions.json"))
    }

    #[tokio::test]
    async fn the_provenance_is_what_a_token_of_github_says() {
        let proof = issuer().verified(json!({})).await.unwrap();
        let filled = serde_json::to_value(&proof.provenance).unwrap();
        let expected = json!({
            "repository": "octo-org/octo-repo", "repository_id": "456789", "repository_owner_id": "123456",
            "ref": "refs/heads/main", "ref_protected": true, "commit": "9d0a3f1c6b3b5d1f4b7e8c2a1d5e6f7081920a3b",
            "workflow": "release", "run": "6219810341", "run_attempt": "2", "job": "16890123456", "actor": "octocat",
            "workflow_ref": "octo-org/octo-automation/.github/workflows/deploy.yml@refs/tags/v3",
            "actor_id": "12", "event": "workflow_dispatch", "environment": "Production:V1", "runner": "github-hosted",
        });
        assert_eq!(filled, expected);
        let started = issuer().verified(json!({"job_workflow_ref": null})).await.unwrap().provenance.workflow_ref;
        assert_eq!(started.as_deref(), Some("octo-org/octo-repo/.github/workflows/release.yml@refs/heads/main"));
    }

    #[tokio::test]
    async fn a_pull_request_has_its_number() {
        for (git_ref, number) in [
            ("refs/pull/7/merge", Some("7")),
            ("refs/pull/7/head", Some("7")),
            ("refs/heads/main", None),
            ("refs/pull//merge", None),
            ("refs/pull/x7/merge", None),
            ("refs/heads/refs/pull/7/merge", None),
        ] {
            let claims = json!({"sub": "repo:octo-org/octo-repo:pull_request", "ref": git_ref, "environment": null});
            let provenance = issuer().verified(claims).await.unwrap().provenance;
            assert_eq!(provenance.pull_request.as_deref(), number, "{git_ref}");
        }
    }

    #[tokio::test]
    async fn a_subject_of_any_form_agrees_with_the_claims() {
        let issuer = issuer();
        let good = json!({"environment": "prod", "ref": "refs/heads/main"});
        for (subject, claim) in [
            ("repo:octo-org/octo-repo:environment:prod", None),
            ("repo:Octo-Org/Octo-Repo:environment:prod", None),
            ("repo:octo-org@123456/octo-repo@456789:environment:prod", None),
            ("repo:octo-org@123456/octo-repo@456789:ref:refs/heads/main", None),
            // Customised: the same claims in another order, or others.
            ("repo:octo-org/octo-repo:environment:prod:ref:refs/heads/main", None),
            ("repo:octo-org/octo-repo", None),
            ("environment:prod", None),
            ("repository_owner_id:123456:job_workflow_ref:a/b@c", None),
            ("octo-org/octo-repo", None),
            ("repo:evil/octo-repo:environment:prod", Some("repository")),
            ("repo:octo-org/evil:environment:prod", Some("repository")),
            ("repo:octo-org/octo-repo/deeper:environment:prod", Some("repository")),
            ("repo:octo-org@666/octo-repo@456789:environment:prod", Some("repository_owner_id")),
            ("repo:octo-org@123456/octo-repo@666:environment:prod", Some("repository_id")),
            ("repo:octo-org@/octo-repo@456789:environment:prod", Some("repository_owner_id")),
            ("repo:octo-org@123456/octo-repo@x:environment:prod", Some("repository_id")),
            ("repo:octo-org/octo-repo:environment:production", Some("environment")),
            ("repo:octo-org/octo-repo:environment:", Some("environment")),
            ("repo:octo-org/octo-repo:ref:refs/heads/main2", Some("ref")),
            ("repo:octo-org/octo-repo:ref:refs/heads/mai", Some("ref")),
        ] {
            let mut claims = good.clone();
            claims["sub"] = json!(subject);
            match (issuer.verified(claims).await, claim) {
                (Ok(proof), None) => assert_eq!(proof.subject, subject),
                (Err(refusal), Some(claim)) => {
                    assert_eq!(refusal.reason.as_str(), "claim_conflict", "{subject}");
                    assert!(refusal.detail.contains(&format!("`{claim}`")), "{subject}: {}", refusal.detail);
                    assert!(refusal.signature_verified);
                }
                (outcome, _) => panic!("{subject}: {outcome:?}"),
            }
        }
        let elsewhere = json!({"sub": "a", "repository": "octo-org/octo-repo", "repository_owner": "evil"});
        assert_eq!(issuer.refusal(elsewhere).await.0, "claim_conflict");
    }

    #[tokio::test]
    async fn a_token_is_fresh_and_has_an_id() {
        let issuer = issuer();
        assert_eq!(issuer.refusal(json!({"jti": Value::Null})).await, ("missing_claim", "jti".to_owned()));
        let now = crate::identity::testing::NOW;
        let kept = json!({"iat": now - 660, "nbf": now - 660});
        assert_eq!(issuer.refusal(kept).await, ("token_too_old", "iat".to_owned()));
        assert_eq!(issuer.refusal(json!({"exp": now + 7_200})).await, ("lifetime_too_long", "exp".to_owned()));
        assert!(issuer.verified(json!({"iat": now - 500, "nbf": now - 1_000, "exp": now + 300})).await.is_ok());
    }
}
