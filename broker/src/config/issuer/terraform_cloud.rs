//! `kind = "terraform-cloud"`: HCP Terraform, or a Terraform Enterprise of one's own, whose `iss` is its address
//! (<https://developer.hashicorp.com/terraform/cloud-docs/dynamic-provider-credentials/workload-identity-tokens>).

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// Each phase of a run has its own token from its start, for as long as it may take.
pub(super) const STANDARD: Standard = Standard {
    url: Some("https://app.terraform.io"),
    url_hint: "",
    jwks_origins: &[],
    single_use: true,
    max_age: Some(Ttl::from_hours(1)),
    max_lifetime: Ttl::from_hours(2),
};
