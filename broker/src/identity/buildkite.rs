//! `kind = "buildkite"`: the tokens that a step asks its agent for.
//!
//! Claims: <https://buildkite.com/docs/agent/v3/cli-oidc>. The ids of organisation and pipeline are among the optional
//! ones; here they are wanted, since slugs can be given to others: ask with `--claim organization_id,pipeline_id`.

use hallpass_core::error::Refusal;

use super::profile::{Claim, Described, Profile, conflict, number, text};
use crate::config::issuer::IssuerKind;

/// What Buildkite says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::Buildkite,
    "buildkite",
    "https://buildkite.com/docs/agent/v3/cli-oidc",
    CLAIMS,
    RUNS,
    check,
);

/// What tells its runs apart.
const RUNS: &str = "`pipeline_id` and `build_number` tell runs apart. A job chooses what its subject is made of \
                    (`--subject-claim`): bind to ids, quarantine by `repository_id`; `max_continuous` counts for the pipeline.";

const CLAIMS: &[Claim] = &[
    text(&["pipeline_id"], "pipeline_id")
        .always()
        .immutable()
        .fills("repository_id")
        .says("bind to this; said when asked with `--claim pipeline_id`"),
    text(&["organization_id"], "organization_id").always().immutable().fills("repository_owner_id").says(
        "bind to this as well: all organisations share the issuer; said when asked with `--claim organization_id`",
    ),
    text(&["organization_slug"], "organization_slug").always().reusable().says("for people"),
    text(&["pipeline_slug"], "pipeline_slug")
        .always()
        .reusable()
        .fills("workflow")
        .says("for people; after a renaming somebody else can have the slug"),
    text(&["build_branch"], "build_branch").always().chosen().says(
        "whoever starts a build names the branch, and a fork's can be called main; who may is decided in the pipeline",
    ),
    text(&["build_tag"], "build_tag").chosen().says("as build_branch"),
    text(&["build_commit"], "build_commit").always().fills("commit").says("the commit that runs"),
    text(&["build_source"], "build_source")
        .chosen()
        .fills("event")
        .says("`webhook`, `ui`, `api`, `schedule`, …: list those that may"),
    text(&["step_key"], "step_key").chosen().says("as the pipeline's file says"),
    number(&["build_number"], "build_number").always().says("the run, in the record, together with pipeline_id"),
    text(&["job_id"], "job_id").always().immutable().fills("job").says("the job, in the record"),
    text(&["agent_id"], "agent_id").immutable().says("the agent that ran the job"),
    text(&["cluster_id"], "cluster_id").immutable().says("where only agents of one cluster may"),
    text(&["cluster_name"], "cluster_name").reusable().says("for people; bind to cluster_id"),
    text(&["queue_id"], "queue_id").immutable().says("where only agents of one queue may"),
    text(&["queue_key"], "queue_key").reusable().says("for people; bind to queue_id"),
    text(&["runner_environment"], "runner_environment")
        .fills("runner")
        .says("`buildkite-hosted` or `self-hosted`; what ran before may still be on a machine of your own"),
];

fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let said = |claim| proof.text(claim).unwrap_or_default();
    let (organization, pipeline) = (said("organization_slug"), said("pipeline_slug"));
    // The rest of the subject is joined by colons that its parts can hold as well, and is not looked at.
    if let Some(named) = proof.subject.strip_prefix("organization:") {
        let whole = format!("{organization}:pipeline:{pipeline}");
        if !named.strip_prefix(whole.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
            let claim =
                if named.starts_with(&format!("{organization}:")) { "pipeline_slug" } else { "organization_slug" };
            return Err(conflict("sub", proof.subject, claim, said(claim)));
        }
    }
    // Numbers begin anew with a pipeline that is made anew, under the slugs of another as well.
    let run = format!("{}/{}", said("pipeline_id"), proof.number("build_number").unwrap_or_default());
    let repository = format!("{organization}/{pipeline}");
    proof.provenance.run = Some(run);
    proof.provenance.repository = Some(repository);
    proof.provenance.git_ref = match (proof.text("build_tag"), proof.text("build_branch")) {
        (Some(tag), _) => Some(format!("refs/tags/{tag}")),
        (None, Some(branch)) => Some(format!("refs/heads/{branch}")),
        (None, None) => None,
    };
    Ok(())
}
