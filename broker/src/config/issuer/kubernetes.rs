//! `kind = "kubernetes"`: a cluster. Its `iss` is what its API server has as `--service-account-issuer`, and its keys are
//! at `/openid/v1/jwks` there
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>).
//! Clusters that were set up alike say the same `iss`; they are told apart by their keys.

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// A pod reads one token from a file until the kubelet has renewed it, and shows it again after a crash. Projected tokens
/// live an hour unless the pod asks for less.
pub(super) const STANDARD: Standard = Standard {
    url: None,
    url_hint: "write the cluster's `--service-account-issuer`",
    jwks_origins: &[],
    single_use: false,
    max_age: None,
    max_lifetime: Ttl::from_hours(1),
};
