//! `kind = "buildkite"` (<https://buildkite.com/docs/agent/v3/cli-oidc>).

use hallpass_core::time::Ttl;

use super::kind::Standard;

/// A step asks its agent for a token when it needs one; it lives five minutes unless it asks for more.
pub(super) const STANDARD: Standard = Standard {
    url: Some("https://agent.buildkite.com"),
    url_hint: "",
    jwks_origins: &[],
    single_use: true,
    max_age: Some(Ttl::from_mins(10)),
    max_lifetime: Ttl::from_hours(1),
};
