//! `kind = "gitlab"`: the `id_tokens` of GitLab's jobs.
//!
//! Claims: <https://docs.gitlab.com/ci/secrets/id_token_authentication>. Truth is written in quotes. The audience is
//! chosen by the job. Of a merge request from a fork that runs in the target project, `project_…` name the fork and
//! `job_project_…` the target (<https://gitlab.com/gitlab-org/gitlab/-/work_items/563038>): bind to `project_id`.

use hallpass_core::error::Refusal;

use super::profile::{Claim, Described, Profile, conflict, list, number, text, truth};
use crate::config::issuer::IssuerKind;

/// What GitLab says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::Gitlab,
    "gitlab",
    "https://docs.gitlab.com/ci/secrets/id_token_authentication",
    CLAIMS,
    check,
);

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
    text(&["ref"], "ref")
        .always()
        .chosen()
        .says("the name of the branch or tag alone; with ref_type and ref_protected"),
    text(&["ref_type"], "ref_type").always().says("`branch` or `tag`"),
    text(&["ref_path"], "ref_path").chosen().fills("ref").says("the whole name, such as refs/heads/main"),
    truth(&["ref_protected"], "ref_protected")
        .always()
        .fills("ref_protected")
        .says("whether the project protects the ref: who may push to it is decided there"),
    text(&["sha"], "sha").fills("commit").says("the commit that runs"),
    text(&["ci_config_ref_uri"], "ci_config_ref_uri")
        .reusable()
        .fills("workflow_ref")
        .says("the file that defines the pipeline; with ci_config_sha"),
    text(&["ci_config_sha"], "ci_config_sha").immutable().says("pins the file that defines the pipeline"),
    text(&["pipeline_source"], "pipeline_source")
        .always()
        .chosen()
        .fills("event")
        .says("list those that may; merge_request_event is code that nobody has merged"),
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
    text(&["pipeline_id"], "pipeline_id").fills("run").says("the pipeline, in the record"),
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
    if proof.provenance.git_ref.is_none() {
        proof.provenance.git_ref = spelt;
    }
    proof.provenance.pull_request = merge_request;
    Ok(())
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
