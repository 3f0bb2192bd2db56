//! `kind = "circleci"`: the tokens of CircleCI's jobs, `$CIRCLE_OIDC_TOKEN_V2` among them.
//!
//! Claims: <https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/>. They have no `jti`, and
//! so a proof is told from others by what was signed.

use hallpass_core::error::Refusal;

use super::profile::{Claim, Described, Profile, conflict, list, text, truth};
use crate::config::issuer::IssuerKind;

/// What CircleCI says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::Circleci,
    "circleci",
    "https://circleci.com/docs/guides/permissions-authentication/openid-connect-tokens/",
    CLAIMS,
    RUNS,
    check,
)
.without_proof_ids();

/// What tells its runs apart.
const RUNS: &str = "`workflow-id` tells runs apart, and `pipeline-id` where no workflow is named. A server that names \
                    neither does not say: whoever shows such a token holds what any other of the subject opened.";

const CLAIMS: &[Claim] = &[
    text(&["oidc.circleci.com/project-id"], "project_id")
        .always()
        .immutable()
        .fills("repository_id")
        .says("bind to this; the organisation is the issuer"),
    text(&["oidc.circleci.com/vcs-origin"], "vcs_origin")
        .reusable()
        .fills("repository")
        .says("the repository whose change runs, which of a fork is the fork: bind to it where forks have tokens"),
    text(&["oidc.circleci.com/vcs-ref"], "vcs_ref")
        .chosen()
        .fills("ref")
        .says("who may push decides what runs; whether it is protected is not said"),
    text(&["oidc.circleci.com/org-id"], "organization_id")
        .immutable()
        .fills("repository_owner_id")
        .says("the organisation"),
    text(&["oidc.circleci.com/workflow-id"], "workflow_id")
        .fills("run")
        .says("the run of a workflow, which is another when it is run again, in the record"),
    text(&["oidc.circleci.com/pipeline-id"], "pipeline_id")
        .fills("run")
        .says("what started the workflows, and stays when they are run again; the run of tokens that name no workflow"),
    text(&["oidc.circleci.com/pipeline-definition-id"], "pipeline_definition_id")
        .immutable()
        .says("with project_id, where only one of its pipelines may"),
    text(&["oidc.circleci.com/job-id"], "job_id").fills("job").says("the job, in the record"),
    list(&["oidc.circleci.com/context-ids"], "context_ids")
        .immutable()
        .says("the contexts of the job, whose own rules say who may use them"),
    truth(&["oidc.circleci.com/ssh-rerun"], "ssh_rerun")
        .says("whether somebody has a shell in this job: forbid where people are not to have the credential"),
];

/// The subject is `org/ORG/project/PROJECT/user/USER`, and `/vcs-origin/…/vcs-ref/…` behind.
fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let mut parts = proof.subject.split('/');
    let project = proof.text("project_id").unwrap_or_default();
    let ("org", Some(organization), "project", Some(said)) =
        (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default(), parts.next())
    else {
        return Ok(());
    };
    if said != project {
        return Err(conflict("sub", proof.subject, "project_id", project));
    }
    if let Some(says) = proof.text("organization_id").filter(|says| *says != organization) {
        return Err(conflict("sub", proof.subject, "organization_id", says));
    }
    let user = match (parts.next(), parts.next()) {
        (Some("user"), Some(user)) if !user.is_empty() => Some(user.to_owned()),
        _ => None,
    };
    if let Some((_, behind)) = proof.subject.split_once("/vcs-origin/")
        && let (Some(origin), Some(git_ref)) = (proof.text("vcs_origin"), proof.text("vcs_ref"))
        && behind != format!("{origin}/vcs-ref/{git_ref}")
    {
        return Err(conflict("sub", proof.subject, "vcs_origin", origin));
    }
    proof.provenance.actor_id = user;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::identity::testing::KindIssuer;

    fn issuer() -> KindIssuer {
        KindIssuer::new(IssuerKind::Circleci, include_str!("fixtures/kinds/circleci.json"))
    }

    #[tokio::test]
    async fn each_run_of_a_workflow_is_a_run_of_its_own() {
        let run = async |changes: Value| issuer().verified(changes).await.unwrap().provenance.run;
        let workflow = "oidc.circleci.com/workflow-id";
        assert_eq!(run(json!({})).await.as_deref(), Some("2b3c4d5e-6f7a-4b8c-9d0e-1f2a3b4c5d6e"));
        assert_ne!(run(json!({})).await, run(json!({ workflow: "3b3c4d5e-6f7a-4b8c-9d0e-1f2a3b4c5d6e" })).await);
        let pipeline = Some("9f8e7d6c-5b4a-4c3d-8e2f-1a0b9c8d7e6f");
        assert_eq!(run(json!({ workflow: null })).await.as_deref(), pipeline, "where no workflow is named");
        let job = issuer().verified(json!({})).await.unwrap().provenance.job;
        assert_eq!(job.as_deref(), Some("1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f9"));
    }

    #[tokio::test]
    async fn a_subject_of_another_organisation_or_project_is_refused() {
        for claim in ["oidc.circleci.com/org-id", "oidc.circleci.com/project-id"] {
            let other = json!({ claim: "66666666-6a0f-4d0f-8d2d-3c1f5f0e7a11" });
            assert_eq!(issuer().refusal(other).await, ("claim_conflict", "sub".to_owned()), "{claim}");
        }
    }
}
