//! What is known of the claims of CI systems, and of issuers that many share.

use crate::config::issuer::{Issuer, IssuerKind};

/// Claims that are names, and what never changes in place of each.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("repository", "repository_id"),
    ("repository_owner", "repository_owner_id"),
    ("enterprise", "enterprise_id"),
    ("project_path", "project_id"),
    ("namespace_path", "namespace_id"),
    ("job_project_path", "project_id"),
    ("job_namespace_path", "namespace_id"),
    ("pipeline_slug", "pipeline_id"),
    ("organization_slug", "organization_id"),
    ("cluster_name", "cluster_id"),
    ("queue_key", "queue_id"),
    ("vcs_origin", "project_id"),
    ("workspace_name", "workspace_id"),
    ("terraform_workspace_name", "terraform_workspace_id"),
    ("organization_name", "organization_id"),
    ("terraform_organization_name", "terraform_organization_id"),
    ("project_name", "project_id"),
    ("full_workspace", "workspace_id"),
    ("service_account", "service_account_uid"),
    ("namespace", "service_account_uid"),
    ("node", "node_uid"),
    ("email", "service_account_id"),
    ("azp", "service_account_id"),
    ("instance_name", "instance_id"),
    ("actor", "actor_id"),
    ("user_login", "user_id"),
    ("user_email", "user_id"),
    ("workflow", "job_workflow_ref"),
];

/// Claims that tell one tenant of an issuer from another.
pub(super) const TENANTS: &[&str] = &[
    "repository_id",
    "repository_owner_id",
    "enterprise_id",
    "project_id",
    "namespace_id",
    "pipeline_id",
    "organization_id",
    "workspace_id",
    "terraform_workspace_id",
    "terraform_project_id",
    "terraform_organization_id",
    "cluster_id",
    "queue_id",
    "service_account_uid",
    "service_account_id",
    "instance_id",
    "project_number",
    "context_ids",
];

/// Claims that tell one person's tenant from another's, of an issuer of people.
pub(super) const OF_PEOPLE: &[&str] = &["hd", "groups", "groups_direct", "roles"];

/// Claims that tell who started a job, and nothing of what runs in it.
pub(super) const PERSONAL: &[&str] = &["actor", "actor_id", "user_login", "user_email", "user_id", "workflow"];

/// Claims whose parts are joined by `/`, `:` or `@`, or that others can choose: a pattern can take in more than it shows.
pub(super) const STRUCTURED: &[&str] = &[
    "subject",
    "sub",
    "ref",
    "ref_path",
    "head_ref",
    "base_ref",
    "vcs_ref",
    "build_branch",
    "build_tag",
    "job_workflow_ref",
    "workflow_ref",
    "ci_config_ref_uri",
    "environment",
    "groups_direct",
];

/// Claims that say what started a job.
pub(super) const EVENTS: &[&str] = &["event", "event_name", "pipeline_source"];

/// Events that run code, or on behalf of code, that nobody has merged.
pub(super) const UNMERGED: &[&str] = &[
    "pull_request",
    "pull_request_target",
    "pull_request_review",
    "pull_request_review_comment",
    "issue_comment",
    "workflow_run",
    "merge_request_event",
    "external_pull_request_event",
    "parent_pipeline",
];

/// What of a code host's events a bundle has to keep from production: these run with the rights of the base, whoever asks.
pub(super) const fn dangerous(kind: IssuerKind) -> &'static [&'static str] {
    match kind {
        IssuerKind::Gitlab => &["merge_request_event"],
        _ => &["pull_request_target", "workflow_run"],
    }
}

/// Audiences that other services ask for by default: a proof that was meant for one of them would be accepted here.
pub(super) const SHARED_AUDIENCES: &[&str] = &[
    "sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "sigstore",
    "vault",
    "https://kubernetes.default.svc",
    "https://kubernetes.default.svc.cluster.local",
];

/// Whether a claim is what never changes of something: a pattern of it takes in whatever else begins so.
pub(super) fn is_id(claim: &str) -> bool {
    let known = TENANTS.contains(&claim) || NAMES.iter().any(|(_, id)| *id == claim);
    known && !STRUCTURED.contains(&claim)
}

/// What an issuer is, also where its entry says no more than `oidc`.
pub(super) fn effective(issuer: &Issuer) -> IssuerKind {
    let known = IssuerKind::ALL.iter().find(|kind| kind.standard().url == Some(issuer.url.as_str()));
    known.copied().filter(|_| issuer.kind == IssuerKind::Oidc).unwrap_or(issuer.kind)
}

/// Whether anybody can have an account at an issuer and proofs from it.
pub(super) fn is_shared(issuer: &Issuer) -> bool {
    IssuerKind::ALL.iter().any(|kind| kind.standard().url == Some(issuer.url.as_str()))
}

/// Whether an issuer fills this field of the provenance, such that it tells something.
pub(super) fn says(issuer: &Issuer, field: &str) -> bool {
    matches!(issuer.kind, IssuerKind::GithubActions | IssuerKind::Gitlab) || issuer.provenance.contains_key(field)
}

/// What never changes of an issuer's workloads.
pub(super) fn ids(kind: IssuerKind) -> Option<&'static str> {
    match kind {
        IssuerKind::GithubActions => Some("repository_id and repository_owner_id"),
        IssuerKind::Gitlab => Some("project_id and namespace_id"),
        IssuerKind::Kubernetes => Some("service_account_uid"),
        IssuerKind::Buildkite => Some("pipeline_id and organization_id"),
        IssuerKind::Circleci => Some("project_id"),
        IssuerKind::TerraformCloud => Some("workspace_id and organization_id"),
        IssuerKind::Oidc | IssuerKind::Google => None,
    }
}
