//! What kind of thing an identity is, as far as its issuer tells.

use super::{AttributeValue, Attributes};

/// What kind of workload an issuer of this kind vouches for, in a word for policy; none where that is not known.
#[must_use]
pub fn workload_type(issuer_kind: &str, attributes: &Attributes) -> Option<&'static str> {
    let says = |attribute: &str| matches!(attributes.get(attribute), Some(AttributeValue::Text(_)));
    match issuer_kind {
        "github-actions" | "gitlab" | "buildkite" | "circleci" | "terraform-cloud" => Some("ci_job"),
        "kubernetes" if says("pod_uid") => Some("pod"),
        "google" if says("instance_id") => Some("virtual_machine"),
        "kubernetes" | "google" => Some("service_account"),
        "spiffe" => Some("service"),
        _ => None,
    }
}
