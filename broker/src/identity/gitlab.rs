//! `kind = "gitlab"`: the `id_tokens` of GitLab's jobs.
//!
//! Claims: <https://docs.gitlab.com/ci/secrets/id_token_authentication>. Truth is written in quotes. The audience is
//! chosen by the job. Of a merge request from a fork that runs in the target project, `project_…` name the fork and
//! `job_project_…` the target (<https://gitlab.com/gitlab-org/gitlab/-/work_items/563038>): bind to `project_id`.
//!
//! `ref` and `ref_path` of a merge request name its source branch as a push to that branch does (`Ci::Pipeline`,
//! `source_ref_path`), a fork's `main` included, and its number is not said. So what the provenance has of such a
//! pipeline is told by `pipeline_source`.

use hallpass_core::error::Refusal;
use hallpass_core::provenance::Provenance;

use super::profile::{Claim, Described, Profile, conflict, list, number, text, truth};
use crate::config::issuer::IssuerKind;

/// What GitLab says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::Gitlab,
    "gitlab",
    "https://docs.gitlab.com/ci/secrets/id_token_authentication",
    CLAIMS,
    RUNS,
    check,
);

/// What tells its runs apart.
const RUNS: &str = "`pipeline_id` tells runs apart.";

const CLAIMS: &[Claim] = &[
    text(&["project_id"], "project_id")
        .always()
        .immutable()
        .fills("repository_id")
        .says("bind to this; of a merge request from a fork it is the fork's"),
    text(&["namespace_id"], "namespace_id")
        .always()
        .immutable()
        .fills("repository_owner_id")
        .says("bind to this as well: a project that is transferred keeps its id and changes this"),
    text(&["project_path"], "project_path")
        .always()
        .reusable()
        .fills("repository")
        .says("for people; after a renaming or a deletion somebody else can have the path"),
    text(&["namespace_path"], "namespace_path").always().reusable().says("for people, as the project's path"),
    text(&["project_visibility"], "project_visibility").says("`public`, `internal` or `private`"),
    text(&["job_project_id"], "job_project_id")
        .immutable()
        .says("the project that the job runs in; never alone: a fork's merge request has the target's here"),
    text(&["job_project_path"], "job_project_path").reusable().says("for people"),
    text(&["job_namespace_id"], "job_namespace_id").immutable().says("with job_project_id"),
    text(&["job_namespace_path"], "job_namespace_path").reusable().says("for people"),
    text(&["ref"], "ref").always().chosen().says(
        "the name of the branch or tag alone; with ref_type and ref_protected; of a merge request its source branch, \
             also in a fork",
    ),
    text(&["ref_type"], "ref_type").always().says("`branch` or `tag`"),
    text(&["ref_path"], "ref_path").chosen().fills("ref").says(
        "the whole name, such as refs/heads/main; of a merge request its source branch: the provenance has no ref then",
    ),
    truth(&["ref_protected"], "ref_protected").always().fills("ref_protected").says(
        "whether the project protects the ref: who may push to it is decided there; in the provenance of a merge \
             request always false",
    ),
    text(&["sha"], "sha").fills("commit").says("the commit that runs"),
    text(&["ci_config_ref_uri"], "ci_config_ref_uri")
        .reusable()
        .fills("workflow_ref")
        .says("the file that defines the pipeline; with ci_config_sha"),
    text(&["ci_config_sha"], "ci_config_sha").immutable().says("pins the file that defines the pipeline"),
    text(&["pipeline_source"], "pipeline_source").always().chosen().fills("event").says(
        "list those that may; merge_request_event and external_pull_request_event are code that nobody has merged, and \
             parent_pipeline of an unprotected ref may be: the provenance then has pull_request, `unnumbered`",
    ),
    text(&["environment"], "environment")
        .reusable()
        .fills("environment")
        .says("with environment_protected and project_id: anybody who writes the file can name one"),
    truth(&["environment_protected"], "environment_protected")
        .says("whether the project protects the environment: who may deploy is decided there"),
    text(&["deployment_tier"], "deployment_tier").chosen().says("as the pipeline's file says"),
    text(&["environment_action"], "environment_action").chosen().says("as the pipeline's file says"),
    text(&["runner_environment"], "runner_environment")
        .fills("runner")
        .says("`gitlab-hosted` or `self-hosted`; what ran before may still be on a runner of your own"),
    number(&["runner_id"], "runner_id").immutable().says("one runner, where only that may"),
    text(&["pipeline_id"], "pipeline_id").always().fills("run").says("the pipeline, in the record"),
    text(&["job_id"], "job_id").always().fills("job").says("the job, in the record"),
    text(&["user_id"], "user_id")
        .immutable()
        .fills("actor_id")
        .says("who started the pipeline; not who wrote what runs, and not who agreed"),
    text(&["user_login"], "user_login").reusable().fills("actor").says("for people; bind to user_id"),
    text(&["user_email"], "user_email").reusable().says("for people"),
    text(&["user_access_level"], "user_access_level").says("what the user may in the project"),
    list(&["groups_direct"], "groups_direct")
        .reusable()
        .says("paths of groups that the user is a member of; left out when there are more than 200"),
];

fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let project = proof.text("project_path").unwrap_or_default();
    let namespace = proof.text("namespace_path").unwrap_or_default();
    if !project.rsplit_once('/').is_some_and(|(within, _)| within.eq_ignore_ascii_case(namespace)) {
        return Err(conflict("project_path", project, "namespace_path", namespace));
    }
    agrees_with_subject(proof)?;
    let (git_ref, ref_type) = (proof.text("ref").unwrap_or_default(), proof.text("ref_type").unwrap_or_default());
    let spelt = match ref_type {
        "branch" => Some(format!("refs/heads/{git_ref}")),
        "tag" => Some(format!("refs/tags/{git_ref}")),
        _ => None,
    };
    let path = proof.text("ref_path");
    let merge_request = [path, Some(git_ref)].into_iter().flatten().find_map(merge_request).map(str::to_owned);
    if let (Some(path), Some(spelt), None) = (path, &spelt, &merge_request)
        && path != spelt
    {
        return Err(conflict("ref_path", path, "ref", git_ref));
    }
    let unnumbered = || Provenance::UNNUMBERED.to_owned();
    if may_be_unmerged(proof) {
        proof.provenance.git_ref = None;
        proof.provenance.ref_protected = Some(false);
        proof.provenance.pull_request = Some(merge_request.unwrap_or_else(unnumbered));
    } else {
        if proof.provenance.git_ref.is_none() {
            proof.provenance.git_ref = spelt;
        }
        proof.provenance.pull_request = merge_request;
    }
    Ok(())
}

/// Whether what runs may be a merge request's. A child pipeline does not say what its parent was; of a merge request it is
/// none of a protected ref.
fn may_be_unmerged(proof: &Described<'_>) -> bool {
    match proof.text("pipeline_source") {
        Some("merge_request_event" | "external_pull_request_event") => true,
        Some("parent_pipeline") => proof.truth("ref_protected") != Some(true),
        _ => false,
    }
}

/// Holds a subject of the default form, `project_path:PATH:ref_type:TYPE:ref:REF`, against the claims. Projects can leave
/// out its later parts. Paths hold no colon, names of refs neither.
fn agrees_with_subject(proof: &Described<'_>) -> Result<(), Refusal> {
    let mut rest = Some(proof.subject);
    for claim in ["project_path", "ref_type", "ref"] {
        let Some(part) = rest.and_then(|rest| rest.strip_prefix(claim)?.strip_prefix(':')) else { return Ok(()) };
        let (said, after) = part.split_once(':').map_or((part, None), |(said, after)| (said, Some(after)));
        let says = proof.text(claim).unwrap_or_default();
        if !said.eq_ignore_ascii_case(says) {
            return Err(conflict("sub", proof.subject, claim, says));
        }
        rest = after;
    }
    Ok(())
}

/// The number in `refs/merge-requests/N/head`, `…/merge` and `…/train`.
fn merge_request(git_ref: &str) -> Option<&str> {
    let (number, _) = git_ref.strip_prefix("refs/merge-requests/")?.split_once('/')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::testing::KindIssuer;

    fn issuer() -> KindIssuer {
        KindIssuer::new(IssuerKind::Gitlab, include_str!("fixtures/kinds/gitlab.json"))
    }

    async fn provenance(changes: Value) -> Provenance {
        issuer().verified(changes).await.unwrap().provenance
    }

    #[tokio::test]
    async fn the_provenance_is_what_a_token_of_gitlab_says() {
        let provenance = provenance(json!({"ref_protected": "true"})).await;
        assert_eq!(provenance.git_ref.as_deref(), Some("refs/heads/feature-branch-1"));
        assert_eq!((provenance.ref_protected, provenance.pull_request), (Some(true), None));
        assert_eq!((provenance.run.as_deref(), provenance.job.as_deref()), (Some("574"), Some("302")));
    }

    #[tokio::test]
    async fn a_merge_request_is_no_push_to_the_branch_that_its_author_named() {
        let merge_request: Value =
            serde_json::from_str(include_str!("fixtures/kinds/gitlab-merge-request.json")).unwrap();
        // As a fork's branch `main` looks, whatever it says of protection.
        for protected in ["false", "true"] {
            for event in ["merge_request_event", "external_pull_request_event"] {
                let mut claims = merge_request.clone();
                claims["pipeline_source"] = json!(event);
                claims["ref_protected"] = json!(protected);
                let provenance = provenance(claims).await;
                assert_eq!(provenance.pull_request.as_deref(), Some("unnumbered"), "{event}");
                assert_eq!((provenance.git_ref, provenance.ref_protected), (None, Some(false)), "{event}");
                assert_eq!(provenance.event.as_deref(), Some(event));
                assert_eq!(provenance.repository_id.as_deref(), Some("77"), "the fork's");
            }
        }
        let mut pushed = merge_request.clone();
        pushed["pipeline_source"] = json!("push");
        let pushed = provenance(pushed).await;
        assert_eq!((pushed.git_ref.as_deref(), pushed.pull_request), (Some("refs/heads/main"), None), "the control");
    }

    #[tokio::test]
    async fn the_child_of_a_pipeline_may_be_a_merge_requests_unless_its_ref_is_protected() {
        let child = async |protected: &str| {
            let provenance =
                provenance(json!({"pipeline_source": "parent_pipeline", "ref_protected": protected})).await;
            (provenance.git_ref.is_some(), provenance.pull_request.is_some())
        };
        assert_eq!(child("false").await, (false, true));
        assert_eq!(child("true").await, (true, false));
    }

    #[tokio::test]
    async fn a_merge_request_that_says_its_number_has_it() {
        let said = json!({
            "sub": "project_path:my-group/my-project:ref_type:branch:ref:refs/merge-requests/7/head",
            "ref": "refs/merge-requests/7/head", "ref_path": "refs/merge-requests/7/head",
            "pipeline_source": "merge_request_event",
        });
        assert_eq!(provenance(said).await.pull_request.as_deref(), Some("7"));
    }
}
