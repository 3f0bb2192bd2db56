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
    check,
)
.without_proof_ids();

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
    let ("org", Some(_), "project", Some(said)) =
        (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default(), parts.next())
    else {
        return Ok(());
    };
    if said != project {
        return Err(conflict("sub", proof.subject, "project_id", project));
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
