//! `kind = "terraform-cloud"`: the workload identity tokens of runs in HCP Terraform and Terraform Enterprise.
//!
//! Claims: <https://developer.hashicorp.com/terraform/cloud-docs/dynamic-provider-credentials/workload-identity-tokens>.
//! The tokens of Stacks name no workspace, and are refused.

use hallpass_core::error::Refusal;

use super::profile::{Claim, Described, Profile, conflict, text};
use crate::config::issuer::IssuerKind;

/// What HCP Terraform says.
pub(super) static PROFILE: Profile = Profile::new(
    IssuerKind::TerraformCloud,
    "terraform",
    "https://developer.hashicorp.com/terraform/cloud-docs/dynamic-provider-credentials/workload-identity-tokens",
    CLAIMS,
    RUNS,
    check,
);

/// What tells its runs apart.
const RUNS: &str = "`terraform_run_id` tells runs apart.";

const CLAIMS: &[Claim] = &[
    text(&["terraform_workspace_id"], "workspace_id")
        .always()
        .immutable()
        .fills("repository_id")
        .says("bind to this: a workspace that is made anew has another"),
    text(&["terraform_organization_id"], "organization_id")
        .always()
        .immutable()
        .fills("repository_owner_id")
        .says("bind to this as well: everybody's organisations share the issuer"),
    text(&["terraform_project_id"], "project_id")
        .immutable()
        .says("where every workspace of a project may; a workspace can be moved into it"),
    text(&["terraform_run_phase"], "run_phase")
        .always()
        .fills("event")
        .says("`plan` or `apply`: what plans needs to read, and runs before anybody has agreed"),
    text(&["terraform_run_id"], "run_id").always().immutable().fills("run").says("the run, in the record"),
    text(&["terraform_workspace_name"], "workspace_name").always().reusable().fills("workflow").says("for people"),
    text(&["terraform_organization_name"], "organization_name").always().reusable().says("for people"),
    text(&["terraform_project_name"], "project_name").reusable().says("for people"),
    text(&["terraform_full_workspace"], "full_workspace").reusable().says("for people: the three names in one"),
];

/// The subject is `organization:ORG:project:PROJECT:workspace:WORKSPACE:run_phase:PHASE`. It is held against the claims
/// as a whole: names of projects can hold what separates them.
fn check(proof: &mut Described<'_>) -> Result<(), Refusal> {
    let said = |claim| proof.text(claim).unwrap_or_default();
    let (organization, workspace) = (said("organization_name"), said("workspace_name"));
    let (project, phase) = (proof.text("project_name"), said("run_phase"));
    if let (true, Some(project)) = (proof.subject.starts_with("organization:"), project) {
        let whole = format!("organization:{organization}:project:{project}:workspace:{workspace}:run_phase:{phase}");
        if proof.subject != whole {
            return Err(conflict("sub", proof.subject, "full_workspace", whole.as_str()));
        }
    }
    proof.provenance.repository = Some(format!("{organization}/{workspace}"));
    Ok(())
}
